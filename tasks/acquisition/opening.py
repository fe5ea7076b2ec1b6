"""Opening a recording of whatever format: its ending picks the reader."""

from collections.abc import Callable
from pathlib import Path

from tasks.acquisition.checks import check_file, named
from tasks.acquisition.nd2_recording import Nd2Recording
from tasks.acquisition.protocol import Recording, ZPlane
from tasks.errors import RecordingError

_READERS: dict[str, Callable[[Path, ZPlane], Recording]] = {".nd2": Nd2Recording}


def open_recording(path: str | Path, z_plane: ZPlane = "middle") -> Recording:
    """Open a recording; close it by using it in a `with` block.

    Parameters
    ----------
    path
        File of one of the known formats.
    z_plane
        Plane of a Z stack that is read: an index from 0, the middle one, or the maximum projection.

    Raises
    ------
    RecordingNotFoundError
        Where the path leads nowhere.
    RecordingError
        Where there is no readable, complete file of a known format; says which file, and why not.
    InvalidParametersError
        Where the recording has no such plane; says which there are.
    """
    path = Path(path)
    check_file(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise RecordingError(
            f"{named(path)} cannot be read: {path.suffix or 'a file without an ending'} is not a known "
            f"format; known are {', '.join(known_suffixes())}"
        )
    return reader(path, z_plane)


def known_suffixes() -> list[str]:
    """Endings of the files that can be opened, e.g. `.nd2`."""
    return sorted(_READERS)
