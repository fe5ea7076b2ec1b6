"""How recordings are named: by a known ending, or by a pattern with placeholders.

Light, because whoever lists folders or names results has to know it.
"""

import re
from pathlib import PurePath

FILE_ENDINGS = (".nd2", ".czi", ".ome.tif", ".ome.tiff", ".ome.btf", ".companion.ome", ".tif", ".tiff", ".series.yaml")
"""Endings of files that are recordings, or belong to one."""
COMPANION_ENDING = ".companion.ome"
"""Ending of the file that has the OME-XML of a set of OME-TIFF files."""
OME_TIFF_ENDINGS = (".ome.tif", ".ome.tiff", ".ome.btf", COMPANION_ENDING)
TIFF_ENDINGS = (".tif", ".tiff")
SERIES_ENDING = ".series.yaml"
FOLDER_ENDINGS = (".ome.zarr", ".zarr")
"""Endings of folders that are recordings."""

PLACEHOLDERS = ("fov", "time", "channel", "z")
"""What the braces of a pattern may hold."""
_PLACEHOLDER = re.compile("{(?:" + "|".join(PLACEHOLDERS) + ")}")


def ending_of(name: str) -> str | None:
    """Longest known ending of a file's or folder's name, in small letters; None where it has none."""
    lower = name.lower()
    found = [ending for ending in (*FILE_ENDINGS, *FOLDER_ENDINGS) if lower.endswith(ending)]
    return max(found, key=len, default=None)


def is_recording_folder(name: str) -> bool:
    """Whether a folder of this name is a recording, and not one that holds some."""
    return name.lower().endswith(FOLDER_ENDINGS)


def is_pattern(path: PurePath) -> bool:
    """Whether a path stands for the files of a TIFF series, as `img_{fov}_{time}_{channel}.tif` does."""
    return path.name.lower().endswith(TIFF_ENDINGS) and _PLACEHOLDER.search(str(path)) is not None


def recording_name(path: PurePath) -> str:
    """Name of a recording: that of its file or folder, or the part of a pattern that has the placeholders."""
    if not is_pattern(path):
        return path.name
    first = next(i for i, part in enumerate(path.parts) if _PLACEHOLDER.search(part))
    return "/".join(path.parts[first:])


def base_name(path: PurePath) -> str:
    """Name of a recording without its ending and placeholders; names of results begin with it."""
    ending = ending_of(path.name)
    if not is_pattern(path):
        return (path.name[: -len(ending)] if ending else "") or path.stem
    name = recording_name(path)[: -len(ending or "")]
    without = re.sub(r"[-_. ]*" + _PLACEHOLDER.pattern, "", name.replace("/", "_"))
    return without.strip("-_. ") or "series"
