"""Opening a recording of whatever format: its ending picks the reader.

A reader and its libraries are loaded with the first recording of its format, for the API process has to stay light.
"""

from collections.abc import Sequence
from pathlib import Path

from tasks.acquisition.checks import check_file, check_folder, named
from tasks.acquisition.names import (
    FILE_ENDINGS,
    FOLDER_ENDINGS,
    OME_TIFF_ENDINGS,
    SERIES_ENDING,
    TIFF_ENDINGS,
    ending_of,
    is_pattern,
)
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
    ending = ending_of(path.name)
    if is_pattern(path) or ending == SERIES_ENDING:
        from tasks.acquisition.tiff_series_recording import TiffSeriesRecording

        if ending == SERIES_ENDING:
            check_file(path)
        return TiffSeriesRecording(path, z_plane)
    if ending in FOLDER_ENDINGS:
        from tasks.acquisition.ome_zarr_recording import OmeZarrRecording

        check_folder(path)
        return OmeZarrRecording(path, z_plane)
    check_file(path)
    if ending == ".nd2":
        from tasks.acquisition.nd2_recording import Nd2Recording

        return Nd2Recording(path, z_plane)
    if ending == ".czi":
        from tasks.acquisition.czi_recording import CziRecording

        return CziRecording(path, z_plane)
    if ending in (*OME_TIFF_ENDINGS, *TIFF_ENDINGS):
        from tasks.acquisition.ome_tiff_recording import OmeTiffRecording

        return OmeTiffRecording(path, z_plane)
    raise RecordingError(
        f"{named(path)} cannot be read: {path.suffix or 'a file without an ending'} is not a known "
        f"format; known are {', '.join(known_suffixes())}"
    )


def recording_files(path: str | Path) -> Sequence[Path]:
    """Files that a recording consists of, in order; also of a recording that is broken, as far as can be told.

    The path of a recording in one file is given as it is; in all others, links are followed.
    """
    path = Path(path)
    ending = ending_of(path.name)
    if is_pattern(path) or ending == SERIES_ENDING:
        from tasks.acquisition.tiff_series_recording import tiff_series_files

        return tiff_series_files(path)
    if ending in FOLDER_ENDINGS:
        from tasks.acquisition.zarr_files import zarr_files

        return zarr_files(path)
    if ending in (*OME_TIFF_ENDINGS, *TIFF_ENDINGS):
        from tasks.acquisition.ome_tiff_recording import ome_tiff_files

        return ome_tiff_files(path)
    return [path]


def known_suffixes() -> list[str]:
    """Endings of the files and folders that can be opened, e.g. `.nd2`."""
    return [*FILE_ENDINGS, *FOLDER_ENDINGS]
