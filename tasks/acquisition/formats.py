"""The formats of recordings: the endings by which each is known, and who reads it.

A format is one entry in a registry. This module is light: a reader and its libraries are loaded with the first
recording of its format.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.registry import Registry, resolve

COMPANION_ENDING = ".companion.ome"
"""Ending of the file that has the OME-XML of a set of OME-TIFF files."""
OME_TIFF_ENDINGS = (".ome.tif", ".ome.tiff", ".ome.btf", COMPANION_ENDING)
TIFF_ENDINGS = (".tif", ".tiff")
SERIES_ENDING = ".series.yaml"
"""Ending of the file that tells the pattern of a TIFF series."""

_HERE = "tasks.acquisition"


@dataclass(frozen=True)
class Format:
    """A format of recordings."""

    name: str
    endings: tuple[str, ...]
    """Of files or folders of it, in small letters; where several fit, the longest one decides."""
    reader: str | Callable[..., Any]
    """`reader(path, z_plane)`, to a `Recording`; or its address as `package.module:function`."""
    files: str | Callable[[Path], list[Path]] | None = None
    """Lists the files of a recording, in order; or its address. None where a recording is one file."""
    is_folder: bool = False
    """Whether a recording is a folder."""

    def load(self) -> Callable[..., Any]:
        """What opens a recording."""
        return resolve(self.reader)

    def files_of(self, path: Path) -> list[Path]:
        """Files that a recording consists of, in order."""
        return [path] if self.files is None else list(resolve(self.files)(path))


TIFF_SERIES = Format(
    "tiff-series",
    (SERIES_ENDING,),
    f"{_HERE}.tiff_series_recording:TiffSeriesRecording",
    f"{_HERE}.tiff_series_recording:tiff_series_files",
)
"""Known by its pattern too."""

FORMATS: Registry[Format] = Registry(
    "format",
    (
        Format("nd2", (".nd2",), f"{_HERE}.nd2_recording:Nd2Recording"),
        Format("czi", (".czi",), f"{_HERE}.czi_recording:CziRecording"),
        Format(
            "ome-tiff",
            (*OME_TIFF_ENDINGS, *TIFF_ENDINGS),
            f"{_HERE}.ome_tiff_recording:OmeTiffRecording",
            f"{_HERE}.ome_tiff_recording:ome_tiff_files",
        ),
        TIFF_SERIES,
        Format(
            "ome-zarr",
            (".ome.zarr", ".zarr"),
            f"{_HERE}.ome_zarr_recording:OmeZarrRecording",
            f"{_HERE}.zarr_files:zarr_files",
            is_folder=True,
        ),
    ),
)
