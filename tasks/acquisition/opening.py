"""Opening a recording of whatever format: its name picks the reader."""

from collections.abc import Sequence
from pathlib import Path

from tasks.acquisition.checks import check_file, check_folder, named
from tasks.acquisition.damage import errors_as
from tasks.acquisition.formats import FORMATS
from tasks.acquisition.names import format_of, is_pattern
from tasks.acquisition.protocol import Recording, ZPlane
from tasks.errors import RecordingError


def open_recording(path: str | Path, z_plane: ZPlane = "middle") -> Recording:
    """Open a recording; close it by using it in a `with` block.

    Parameters
    ----------
    path
        File or folder of one of the known formats, or the pattern of a TIFF series.
    z_plane
        Plane of a Z stack that is read: an index from 0, the middle one, or the maximum projection.

    Raises
    ------
    RecordingNotFoundError
        Where the path leads nowhere.
    RecordingError
        Where there is no readable, complete recording of a known format; says which file, and why not.
    InvalidParametersError
        Where the recording has no such plane; says which there are.
    """
    path = Path(path)
    known = format_of(path)
    if known is not None and known.is_folder:
        check_folder(path)
    elif not is_pattern(path):
        check_file(path)
    if known is None:
        raise RecordingError(
            f"{named(path)} cannot be read: {path.suffix or 'a file without an ending'} is not a known "
            f"format; known are {', '.join(known_suffixes())}"
        )
    with errors_as(f"{named(path)} cannot be read"):
        recording: Recording = known.load()(path, z_plane)
    return recording


def recording_files(path: str | Path) -> Sequence[Path]:
    """Files that a recording consists of, in order; also of a recording that is broken, as far as can be told.

    The path of a recording in one file is given as it is; in all others, links are followed.

    Raises
    ------
    RecordingError
        Where the files cannot be listed.
    """
    path = Path(path)
    known = format_of(path)
    if known is None:
        return [path]
    with errors_as(f"the files of {named(path)} cannot be listed"):
        return known.files_of(path)


def known_suffixes() -> list[str]:
    """Endings of the files and folders that can be opened, e.g. `.nd2`."""
    return sorted(ending for known in FORMATS.values() for ending in known.endings)
