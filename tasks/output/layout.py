"""The one place that names the files of an output folder."""

import os
import re
import uuid
from dataclasses import dataclass

CONFIG_FILE = "processing_config.yaml"
"""What the folder was made from and with."""
INDEX_FILE = "processing_results.yaml"
"""What there is in the folder, in PyAMA's own shape."""
LOCK_FILE = ".pyama.lock"
"""Held by the run that works in the folder."""
MANIFEST_FILE = "manifest.json"
"""What is in a FOV's directory and how it came about."""
INSPECTED_ENDING = "_inspected.csv"
"""Ending of a table in which a person has marked bad cells."""

ZARR_ENDING = ".ome.zarr"
"""Ending of the folder of an OME-Zarr image."""

MERGE_ATTEMPT = "merge"
"""Name of the hidden directory in which merged files are written, see `temporary_name`."""

LONGEST_NAME = 255
"""Bytes that file systems let a name have."""

_FOV_DIRECTORY = re.compile(r"fov_([0-9]{3,})")
_UNIQUE = r"\.[0-9a-f]{12}"
_TEMPORARY = re.compile(rf"\.(.+){_UNIQUE}\.tmp")
_MOVED_ASIDE = re.compile(rf"\.(fov_[0-9]{{3,}}){_UNIQUE}\.old")
_WRITTEN_BY_RUNS = {MERGE_ATTEMPT, CONFIG_FILE, INDEX_FILE}
"""What runs write under a temporary name, beside the directories of FOVs."""


@dataclass(frozen=True)
class FovLayout:
    """Names of the directory and of the files of one FOV."""

    base_name: str
    """Name of the recording without its ending."""
    fov: int

    @property
    def directory(self) -> str:
        """Name of the FOV's directory, e.g. `fov_000`."""
        return fov_directory(self.fov)

    @property
    def traces(self) -> str:
        """The table of all cells."""
        return self._name("traces.csv")

    @property
    def traces_parquet(self) -> str:
        """The same as Parquet."""
        return self._name("traces.parquet")

    @property
    def inspected(self) -> str:
        """The table as a person has corrected it; takes the place of `traces` in a merge."""
        return self._name(f"traces{INSPECTED_ENDING}")

    @property
    def inspection_history(self) -> str:
        """Who has marked which cells, and when."""
        return self._name("traces_inspected.json")

    def overview(self, channel: int) -> str:
        """Picture of the first, middle and last frame of a channel."""
        return self._name(f"qc_overview_ch_{channel}.jpg")

    @property
    def filmstrip(self) -> str:
        """Picture of a few cells over time."""
        return self._name("qc_filmstrip.jpg")

    @property
    def plots(self) -> str:
        """Picture of the traces of each feature."""
        return self._name("qc_traces.png")

    def phase(self, channel: int) -> str:
        """(T, H, W) raw phase, in the recording's dtype."""
        return self._name(f"pc_ch_{channel}.npy")

    def fluorescence(self, channel: int) -> str:
        """(T, H, W) raw fluorescence, in the recording's dtype."""
        return self._name(f"fl_ch_{channel}.npy")

    def background(self, channel: int) -> str:
        """(T, H, W) float32 background of a fluorescence channel."""
        return self._name(f"fl_background_ch_{channel}.npy")

    def labeled(self, channel: int) -> str:
        """(T, H, W) uint16 labels of each frame by itself; `channel` is the phase channel."""
        return self._name(f"seg_labeled_ch_{channel}.npy")

    def tracked(self, channel: int) -> str:
        """(T, H, W) uint16 cell numbers; `channel` is the phase channel."""
        return self._name(f"seg_tracked_ch_{channel}.npy")

    def _name(self, ending: str) -> str:
        return f"{self.base_name}_{self.directory}_{ending}"


def zarr_name(name: str) -> str:
    """Name of the OME-Zarr image that is kept in place of an `.npy` file."""
    return name.removesuffix(".npy") + ZARR_ENDING


def fov_directory(fov: int) -> str:
    """Name of a FOV's directory: three digits, more where the number needs them."""
    return f"fov_{fov:03d}"


def parse_fov_directory(name: str) -> int | None:
    """FOV number of a directory name; None where it is not the name of a FOV's directory."""
    match = _FOV_DIRECTORY.fullmatch(name)
    if match is None or fov_directory(int(match[1])) != name:
        return None
    return int(match[1])


def temporary_name(name: str) -> str:
    """Fresh hidden name for a file or directory while it is written, or while it is being removed."""
    return f".{name}.{uuid.uuid4().hex[:12]}.tmp"


def has_room(name: str) -> bool:
    """Whether a file can have a name, and also the longer one while it is written."""
    return len(os.fsencode(temporary_name(name))) <= LONGEST_NAME


def parse_temporary(name: str) -> str | None:
    """Name that something was to have once it was written; None where it is no temporary name."""
    match = _TEMPORARY.fullmatch(name)
    return match[1] if match else None


def moved_aside_name(directory: str) -> str:
    """Fresh hidden name for a FOV's directory while another takes its place."""
    return f".{directory}.{uuid.uuid4().hex[:12]}.old"


def is_temporary(name: str) -> bool:
    """Whether a name in an output folder is that of something unfinished, unless a run holds the folder."""
    target = parse_temporary(name)
    return target is not None and (target in _WRITTEN_BY_RUNS or _FOV_DIRECTORY.fullmatch(target) is not None)


def parse_moved_aside(name: str) -> str | None:
    """Name that a moved-aside directory had before; None where it is not such a name."""
    match = _MOVED_ASIDE.fullmatch(name)
    return match[1] if match else None
