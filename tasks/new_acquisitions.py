"""Recordings that are new in a folder: complete, with what to do with them, and not processed yet.

A recording `DAY/NAME.nd2` is processed into `DAY/NAME` of the output folder; so is an OME-Zarr, which is a folder, the
files of an OME-TIFF that name each other, under the name of the first, and a TIFF series, whose pattern stands in a
file `NAME.series.yaml`. What is measured in a recording stands in a file
`NAME.pyama.yaml` beside it, else in `pyama.yaml` of the scanned folder; what neither says is suggested::

    channels:
      phase: {channel: 0, features: [area]}
      fluorescence: [{channel: 1, features: [intensity_total]}]
    parameters: {min_frames: 20}
"""

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from pydantic import Field, ValidationError

from tasks.acquisition import (
    base_name,
    ending_of,
    is_recording_file,
    is_recording_folder,
    open_recording,
    recording_files,
    suggest_channels,
)
from tasks.acquisition.damage import errors_as
from tasks.acquisition.formats import COMPANION_ENDING, OME_TIFF_ENDINGS, SERIES_ENDING, TIFF_ENDINGS
from tasks.configuration import AbsolutePath, Channels, Model, Parameters, RequestModel, WorkflowRequest
from tasks.errors import InvalidParametersError, OutputError, PyamaError, RecordingError
from tasks.output import check_folder, is_fov_directory
from tasks.plan import Plan, make_plan
from tasks.problems import describe
from tasks.yaml_files import ValueLoader, read_yaml

SIDECAR_ENDING = ".pyama.yaml"
DEFAULT_FILE = "pyama.yaml"

_LONGEST_PAUSE_S = 10.0
"""Between the two looks at a file; who writes without changing its time at all is found out by the size."""


class ScanRequest(RequestModel):
    """A folder to look for recordings in."""

    folder: AbsolutePath = Field(description="Folder that recordings come into")
    output_root: AbsolutePath = Field(description="Folder of the results, in which each recording gets its own")
    settle_s: float = Field(600.0, ge=0, description="Seconds that a complete recording has not changed for")
    max_depth: int = Field(8, ge=0, le=64, description="Levels of folders below the first one that are looked into")
    wait: bool = Field(False, description="Whether to wait for the end of what was started")


class RecordingConfiguration(Model):
    """What a person has written down for a recording, or for all recordings of a folder."""

    channels: Channels | None = None
    parameters: Parameters | None = None


@dataclass(frozen=True)
class NewRecording:
    """A recording that is to be processed."""

    recording: str
    """Its path below the scanned folder."""
    plan: Plan

    @property
    def identity(self) -> str:
        """Digest of the file's content and of what is to be done with it; the same by whatever name it is found."""
        fingerprint = self.plan.provenance.fingerprint
        content = [fingerprint.input, fingerprint.parameters, self.plan.fovs]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@dataclass(frozen=True)
class LeftOut:
    """A recording that is not to be processed."""

    recording: str
    outcome: Literal["skipped", "broken"]
    why: str


Finding: TypeAlias = NewRecording | LeftOut


def attempt_key(identity: str, attempt: int) -> str:
    """Key under which an attempt is started once at most; attempts count from 1."""
    return f"pyama-new-{hashlib.sha256(f'{identity}:{attempt}'.encode()).hexdigest()}"


def scan(
    request: ScanRequest,
    *,
    clock: Callable[[], float] = time.time,
    pause: Callable[[float], None] = time.sleep,
) -> list[Finding]:
    """Look at all recordings of a folder, in order of their paths; nothing is created or changed.

    Hidden files and folders, links to folders, and the output folder are passed over.

    Parameters
    ----------
    clock
        Seconds since 1970, as files tell their times.
    pause
        Waits for so many seconds.

    Returns
    -------
    list
        One finding for each recording, and one for each folder that cannot be read: whatever is wrong with one is
        told there, and never stops the rest.

    Raises
    ------
    InvalidParametersError
        Where the folder is none.
    """
    folder = Path(request.folder)
    if not folder.is_dir():
        raise InvalidParametersError(f"folder: {folder} is no folder; name the one that recordings come into")
    unreadable: list[OSError] = []
    candidates = _candidates(folder, Path(request.output_root), request.max_depth, unreadable)
    paths, strays = _recordings(candidates)
    before = {path: _Look.at(path) for path in paths}
    if paths:
        pause(min(request.settle_s, _LONGEST_PAUSE_S))
    found: list[Finding] = [
        LeftOut(_shown(Path(str(error.filename)), folder), "broken", f"cannot be read: {error.strerror}")
        for error in unreadable
    ]
    found += [LeftOut(_shown(where / "*.tif", folder), "skipped", _told(count)) for where, count in strays.items()]
    for path in paths:
        name = _shown(path, folder)
        if (reason := _unfit(path, folder) or _unsettled(before[path], path, clock(), request.settle_s)) is not None:
            found.append(LeftOut(name, "skipped", reason))
        else:
            found.append(_examine(path, name, request))
    return found


class _Look(NamedTuple):
    """What tells whether the files of a recording are still being written."""

    n_files: int
    size: int
    mtime_ns: int
    """Of the file that was written last."""

    @classmethod
    def at(cls, path: Path) -> "_Look | None":
        """Look at a recording; None where a file is gone or must not be looked at, which opening it will tell."""
        try:
            found = [file.stat() for file in recording_files(path)]
        except (RecordingError, OSError):
            return None
        if not found:
            return None
        return cls(len(found), sum(one.st_size for one in found), max(one.st_mtime_ns for one in found))


def _candidates(folder: Path, output_root: Path, max_depth: int, unreadable: list[OSError]) -> Iterator[Path]:
    """Files and folders with the ending of a recording; folders that cannot be read are put on the list."""
    results = output_root.resolve()
    for where, folders, files in os.walk(folder, onerror=unreadable.append):
        here = Path(where)
        at_the_bottom = len(here.relative_to(folder).parts) >= max_depth
        folders[:] = [
            name
            for name in folders
            if not (name.startswith(".") or (here / name).resolve() == results or is_fov_directory(here / name))
        ]
        yield from (here / name for name in folders if is_recording_folder(name))
        folders[:] = [name for name in folders if not (at_the_bottom or is_recording_folder(name))]
        yield from (here / name for name in files if not name.startswith(".") and is_recording_file(name))


def _recordings(candidates: Iterable[Path]) -> tuple[list[Path], dict[Path, int]]:
    """Recordings in order of their paths, each once, and in which folders are TIFF files that belong to none."""
    found: list[Path] = []
    plain: list[Path] = []
    claimed: set[Path] = set()
    # Where a companion file has the metadata of a set, it stands for it.
    for path in sorted(candidates, key=lambda path: (not path.name.lower().endswith(COMPANION_ENDING), path)):
        ending = ending_of(path.name)
        if ending in TIFF_ENDINGS:
            plain.append(path)
        elif ending not in (*OME_TIFF_ENDINGS, SERIES_ENDING):
            found.append(path)
        elif _resolved(path) not in claimed:
            found.append(path)
            with suppress(RecordingError):  # which opening it will tell
                claimed.update(recording_files(path))
    return sorted(found), Counter(path.parent for path in sorted(plain) if _resolved(path) not in claimed)


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # Python 3.11 and 3.12 raise RuntimeError for a circle of links
        return path


def _told(n_strays: int) -> str:
    files = "a TIFF file" if n_strays == 1 else f"{n_strays} TIFF files"
    return (
        f"{files} without .ome.tif at the end of the name; tell what they are in a file NAME{SERIES_ENDING}, such as "
        "`pattern: img_{fov}_{time}_{channel}.tif`"
    )


def _unfit(path: Path, folder: Path) -> str | None:
    """Why a file is not looked into at all; None where it is."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return "its path is no Unicode text; rename it"
    if not _resolved(path).is_relative_to(folder.resolve()):
        return "it is a link that leads out of the folder"
    return None


def _unsettled(before: _Look | None, path: Path, now_s: float, settle_s: float) -> str | None:
    """Why a recording may not be complete; None where it is, or where opening it will tell more."""
    look = _Look.at(path)
    if look is None:
        return None
    if look != before:
        return "it is being written: its size or time has just changed"
    if now_s - look.mtime_ns / 1e9 < settle_s:
        changed = datetime.fromtimestamp(look.mtime_ns / 1e9, UTC).isoformat(timespec="seconds")
        return f"it may still be written: it changed at {changed}, less than {settle_s:g} s ago"
    return None


def _examine(path: Path, name: str, request: ScanRequest) -> Finding:
    """Open a recording that is complete, and hold it against what is in its output folder."""
    try:
        # Whatever happens to one recording, e.g. in a plugin that reads it, stops none of the others.
        with errors_as(f"{path.name} cannot be processed"):
            return _held_against_results(path, name, request)
    except (InvalidParametersError, OutputError) as error:
        return LeftOut(name, "skipped", str(error))
    except PyamaError as error:
        return LeftOut(name, "broken", str(error))


def _held_against_results(path: Path, name: str, request: ScanRequest) -> Finding:
    folder = Path(request.folder)
    plan = _plan(path, folder, Path(request.output_root) / path.relative_to(folder).with_name(base_name(path)))
    if len(plan.finished()) == len(plan.fovs):
        return LeftOut(name, "skipped", f"finished: {plan.output_dir} has its {len(plan.fovs)} FOVs")
    check_folder(plan.output_dir, plan.provenance, plan.fovs, overwrite=plan.request.parameters.overwrite)
    return NewRecording(name, plan)


def _plan(path: Path, folder: Path, output_dir: Path) -> Plan:
    """What is to be done with a recording: channels and parameters each come from the first place that has them."""
    files = [path.with_name(base_name(path) + SIDECAR_ENDING), folder / DEFAULT_FILE]
    written = {file.name: found for file in files if (found := _read_configuration(file)) is not None}
    channels = next((one.channels for one in written.values() if one.channels is not None), None)
    parameters = next((one.parameters for one in written.values() if one.parameters is not None), Parameters())
    if channels is None:
        with open_recording(path, parameters.z_plane) as recording:
            channels = suggest_channels(recording.metadata).channels()
    try:
        return make_plan(
            WorkflowRequest(
                microscopy_path=str(path), output_dir=str(output_dir), channels=channels, parameters=parameters
            )
        )
    except InvalidParametersError as error:
        raise InvalidParametersError(": ".join([*filter(None, [", ".join(written)]), str(error)])) from error


def _read_configuration(path: Path) -> RecordingConfiguration | None:
    """Read a configuration; None where there is no file.

    Raises
    ------
    InvalidParametersError
        Naming the file, and the field or the line that is wrong.
    """
    try:
        content = read_yaml(path, "configuration", ValueLoader)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InvalidParametersError(f"{path.name} cannot be read: {error.strerror}") from error
    try:
        return RecordingConfiguration.model_validate({} if content is None else content)
    except ValidationError as error:
        raise InvalidParametersError(f"{path.name}: {describe(error)}") from error


def _shown(path: Path, folder: Path) -> str:
    """Path below the scanned folder; what is no Unicode text in it is replaced."""
    return str(path.relative_to(folder)).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
