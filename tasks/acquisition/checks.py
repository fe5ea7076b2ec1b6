"""Checks that hold for recordings of every format: the file itself, its planes, its frames."""

import errno
import os
import stat
from pathlib import Path

from tasks.acquisition.protocol import RecordingMetadata, ZPlane
from tasks.errors import InvalidParametersError, RecordingError, RecordingNotFoundError

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_LEADS_NOWHERE = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP}


def named(path: Path) -> str:
    """Name a recording in an error message, safe to print and of bounded length."""
    text = str(path)
    # repr, because a path may hold line breaks, or bytes that are no text and could not be sent on.
    return f"Recording {text if len(text) <= 400 else f'{text[:200]}…{text[-200:]}'!r}"


def check_file(path: Path) -> None:
    """Make sure that a path leads to a readable file with something in it; never waits for a FIFO.

    Raises
    ------
    RecordingNotFoundError
        Where the path leads nowhere.
    RecordingError
        Where it leads to something else than a file, or the file is empty or must not be read.
    """
    status = _status(path)
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise RecordingError(f"{named(path)} cannot be read: it is not a file but {kind}")
    try:
        path.open("rb").close()
    except OSError as error:
        raise RecordingError(f"{named(path)} cannot be read: {error.strerror}") from error
    if status.st_size == 0:
        raise RecordingError(f"{named(path)} cannot be read: the file is empty")


def check_folder(path: Path) -> None:
    """Make sure that a path leads to a folder that may be read.

    Raises
    ------
    RecordingNotFoundError
        Where the path leads nowhere.
    RecordingError
        Where it leads to something else than a folder, or the folder must not be read.
    """
    if not stat.S_ISDIR(_status(path).st_mode):
        raise RecordingError(f"{named(path)} cannot be read: it is not a folder, as a recording of its format is")
    try:
        os.scandir(path).close()
    except OSError as error:
        raise RecordingError(f"{named(path)} cannot be read: {error.strerror}") from error


def chosen_planes(z_plane: ZPlane, n_planes: int) -> range:
    """Planes of a Z stack that are read: one, or all for the maximum projection.

    Raises
    ------
    InvalidParametersError
        Where there is no such plane.
    """
    if z_plane == "max":
        return range(n_planes)
    plane = n_planes // 2 if z_plane == "middle" else z_plane
    if isinstance(plane, bool) or not isinstance(plane, int) or not 0 <= plane < n_planes:
        planes = "1 plane: 0" if n_planes == 1 else f"{n_planes} planes: 0 to {n_planes - 1}"
        raise InvalidParametersError(
            f"parameters.z_plane: there is no plane {z_plane!r}; the recording has {planes}, middle and max are allowed"
        )
    return range(plane, plane + 1)


def check_fov(metadata: RecordingMetadata, fov: int) -> None:
    """Make sure that a recording has a FOV.

    Raises
    ------
    InvalidParametersError
        Naming the FOVs there are.
    """
    _check_number("FOV", fov, metadata.n_fovs, metadata)


def check_frame(metadata: RecordingMetadata, fov: int, frame: int) -> None:
    """Make sure that a recording has a FOV and a frame.

    Raises
    ------
    InvalidParametersError
        Naming the FOVs or frames there are.
    """
    check_fov(metadata, fov)
    _check_number("frame", frame, metadata.n_frames, metadata)


def _status(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except ValueError as error:  # a NUL character, or text that no file name can hold
        raise RecordingNotFoundError(f"{named(path)} does not exist: that is no valid path") from error
    except OSError as error:
        if error.errno in _LEADS_NOWHERE:
            raise RecordingNotFoundError(f"{named(path)} does not exist") from error
        raise RecordingError(f"{named(path)} cannot be reached: {error.strerror}") from error


def _check_number(what: str, number: int, count: int, metadata: RecordingMetadata) -> None:
    if not 0 <= number < count:
        raise InvalidParametersError(f"{named(metadata.path)} has no {what} {number}: 0 to {count - 1} are allowed")
