"""The FOVs of an output folder as they can be looked at: each as soon as it is done, also while a job still runs."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from fastapi import Request
from numpy.typing import NDArray
from pydantic import ValidationError

from api.errors import InvalidRequestError, PathNotFoundError
from api.paths import existing_folder, existing_path, shown
from tasks.configuration import Channels
from tasks.fov_table import FovTable
from tasks.inspection import table_in_use
from tasks.output import FovLayout, Manifest, fov_directories, read_manifest
from tasks.output.layout import fov_directory
from tasks.output.manifest import is_complete
from tasks.output.stack_reading import open_stack

StackKind = Literal["phase", "fluorescence", "background", "labeled", "tracked"]
"""What an image stack holds."""
STACK_KINDS: tuple[StackKind, ...] = ("phase", "fluorescence", "background", "labeled", "tracked")
PICTURE_ENDINGS = (".png", ".webp", ".jpg")
_KEPT_BY: Mapping[StackKind, str] = {
    "phase": "all",
    "fluorescence": "all",
    "background": "all",
    "labeled": "all or labels",
    "tracked": "all or labels",
}
"""Values of the parameter `keep` with which each is written."""


@dataclass(frozen=True)
class Stack:
    """An image stack (T, H, W) of a FOV."""

    path: Path
    """An `.npy` file, or the folder of an OME-Zarr image."""
    fov: int
    shape: tuple[int, int, int]
    identity: tuple[str, int, int, int]
    """Changes whenever its content does: name, CRC-32, size and time of change."""

    def frame(self, frame: int) -> NDArray[Any]:
        """Pixels (H, W) of a frame.

        Raises
        ------
        PathNotFoundError
            Where the stack has no such frame.
        InvalidRequestError
            Where the file is damaged.
        """
        check_index("frame", frame, self.shape[0], f"the stacks of FOV {self.fov}", "frames")
        try:
            images = open_stack(self.path)
            if images.shape == self.shape:
                return np.asanyarray(images[frame])
        except (OSError, ValueError, EOFError, RuntimeError) as error:
            raise InvalidRequestError(f"{self.path} cannot be read: {error}; process FOV {self.fov} again") from error
        raise InvalidRequestError(
            f"{self.path} has the shape {images.shape} instead of {self.shape}; process FOV {self.fov} again"
        )


@dataclass(frozen=True)
class ProcessedFov:
    """A FOV that is done."""

    request: Request
    directory: Path
    manifest: Manifest

    @property
    def fov(self) -> int:
        """Its number."""
        return self.manifest.fov

    @property
    def layout(self) -> FovLayout:
        """Names of its files."""
        return self.manifest.layout

    @property
    def n_frames(self) -> int:
        """Length of the film."""
        return self.manifest.input.sizes["T"]

    @property
    def height(self) -> int:
        """Rows of an image."""
        return self.manifest.input.sizes["Y"]

    @property
    def width(self) -> int:
        """Columns of an image."""
        return self.manifest.input.sizes["X"]

    @cached_property
    def channels(self) -> Channels:
        """What was measured in which channel."""
        return Channels.model_validate(self.manifest.parameters["channels"])

    def channel_name(self, channel: int) -> str:
        """Name of a channel in the recording."""
        names = self.manifest.input.channel_names
        return names[channel] if channel < len(names) else f"channel {channel}"

    @property
    def stacks(self) -> list[StackKind]:
        """Kinds of stacks that were kept."""
        return [kind for kind in STACK_KINDS if any(map(self.manifest.stack_files, self._names(kind).values()))]

    @property
    def pictures(self) -> list[str]:
        """Names of its pictures."""
        return sorted(name for name in self.manifest.files if _is_picture(name))

    @property
    def is_inspected(self) -> bool:
        """Whether a person has corrected its table."""
        return (self.directory / self.layout.inspected).exists()

    def table_path(self) -> Path:
        """Its table, as a person has corrected it where somebody has."""
        path = table_in_use(self.directory, self.layout)
        existing_path(self.request, str(path), "output_dir")
        return path

    def table(self) -> FovTable:
        """Read its table."""
        path = self.table_path()
        try:
            return FovTable(path)
        except OSError as error:
            raise InvalidRequestError(f"{path} cannot be read: {error.strerror}") from error

    def stack(self, kind: StackKind, channel: int | None = None) -> Stack:
        """Find a stack.

        Parameters
        ----------
        channel
            Number of the channel; by default the only one, or the first.

        Raises
        ------
        PathNotFoundError
            Where there is no such channel, or its stack was not kept.
        """
        names = self._names(kind)
        if channel is None:
            channel = next(iter(names), None)
        if channel not in names:
            there_are = ", ".join(map(str, names)) or "none"
            asked = "" if channel is None else f" {channel}"
            raise PathNotFoundError(f"channel: FOV {self.fov} has no {kind} channel{asked}; it has {there_are}")
        records = self.manifest.stack_files(names[channel])
        if not records:
            raise PathNotFoundError(
                f"kind: the {kind} stack of FOV {self.fov} was not kept; process it with the parameter keep set to "
                f"{_KEPT_BY[kind]} (it was {self.manifest.parameters.get('keep')})"
            )
        for name in records:  # a link among them may lead out of what this server may read
            existing_path(self.request, str(self.directory / name), "output_dir")
        path = self.directory / next(iter(records)).partition("/")[0]
        crc = zlib.crc32(repr(sorted(records.items())).encode())
        n_bytes = sum(record.bytes for record in records.values())
        return Stack(
            path=path,
            fov=self.fov,
            shape=(self.n_frames, self.height, self.width),
            identity=(path.name, crc, n_bytes, path.stat().st_mtime_ns),
        )

    def picture(self, name: str) -> tuple[Path, int]:
        """Path of a picture, and its CRC-32.

        Raises
        ------
        PathNotFoundError
            Where there is none of that name.
        """
        if name not in self.pictures:
            there_are = ", ".join(self.pictures) or "none: they are made where the parameter pictures is true"
            raise PathNotFoundError(f"name: FOV {self.fov} has no picture {shown(name)}; it has {there_are}")
        path = existing_path(self.request, str(self.directory / name), "output_dir")
        return path, self.manifest.files[name].crc32

    def _names(self, kind: StackKind) -> dict[int, str]:
        """Names of the stacks of a kind, by channel."""
        phase = self.channels.phase.channel
        if kind == "phase":
            return {phase: self.layout.phase(phase)}
        if kind == "labeled":
            return {phase: self.layout.labeled(phase)}
        if kind == "tracked":
            return {phase: self.layout.tracked(phase)}
        name = self.layout.fluorescence if kind == "fluorescence" else self.layout.background
        return {channel.channel: name(channel.channel) for channel in self.channels.fluorescence}


def processed_fovs(request: Request, output_dir: str) -> tuple[Path, list[ProcessedFov]]:
    """All FOVs of an output folder that are done, in order; the folder may be empty still.

    Looks at the disk: call it in a thread, never on the event loop.

    Raises
    ------
    ApiError
        Where the folder is none, or may not be used.
    """
    folder = existing_folder(request, output_dir, "output_dir")
    found = (_processed(request, directory) for directory in fov_directories(folder).values())
    return folder, [fov for fov in found if fov is not None]


def processed_fov(request: Request, output_dir: str, fov: int) -> ProcessedFov:
    """One FOV of an output folder.

    Looks at the disk: call it in a thread, never on the event loop.

    Raises
    ------
    PathNotFoundError
        Where it is not done (yet).
    ApiError
        Where the folder is none, or may not be used.
    """
    folder = existing_folder(request, output_dir, "output_dir")
    found = _processed(request, folder / fov_directory(fov))
    if found is None or found.fov != fov:
        raise PathNotFoundError(
            f"fov: FOV {fov} is not done in {shown(output_dir)}; GET /visualization/folder lists those that are"
        )
    return found


def check_index(field: str, value: int, n: int, of_what: str, what: str) -> None:
    """Make sure that something is there.

    Raises
    ------
    PathNotFoundError
        Naming the field, its value, and the range.
    """
    if not 0 <= value < n:
        raise PathNotFoundError(f"{field}: {of_what} have {n} {what}, 0 to {n - 1} (got {value})")


def _processed(request: Request, directory: Path) -> ProcessedFov | None:
    if not directory.is_dir():
        return None
    existing_folder(request, str(directory), "output_dir")
    manifest = read_manifest(directory)
    if manifest is None or not is_complete(directory, manifest) or not {"T", "Y", "X"} <= manifest.input.sizes.keys():
        return None
    try:
        Channels.model_validate(manifest.parameters.get("channels"))
    except ValidationError:  # from a version that knows other features, or changed by hand
        return None
    return ProcessedFov(request, directory, manifest)


def _is_picture(name: str) -> bool:
    return name.endswith(PICTURE_ENDINGS) and "/" not in name
