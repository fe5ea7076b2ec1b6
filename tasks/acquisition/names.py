"""How recordings are named: by a known ending, or by a pattern with placeholders.

Light, because whoever lists folders or names results has to know it.
"""

import re
from pathlib import PurePath

from tasks.acquisition.formats import FORMATS, TIFF_ENDINGS, TIFF_SERIES, Format

PLACEHOLDERS = ("fov", "time", "channel", "z")
"""What the braces of a pattern may hold."""
_PLACEHOLDER = re.compile("{(?:" + "|".join(PLACEHOLDERS) + ")}")


def ending_of(name: str) -> str | None:
    """Longest known ending of a file's or folder's name, in small letters; None where it has none."""
    lower = name.lower()
    endings = (ending for known in FORMATS.values() for ending in known.endings)
    return max((ending for ending in endings if lower.endswith(ending)), key=len, default=None)


def format_of(path: PurePath) -> Format | None:
    """Format of a recording, by its name alone; None where no format has such names."""
    if is_pattern(path):
        return TIFF_SERIES
    ending = ending_of(path.name)
    return next((known for known in FORMATS.values() if ending in known.endings), None)


def is_recording_file(name: str) -> bool:
    """Whether a file of this name is a recording, or belongs to one."""
    known = format_of(PurePath(name))
    return known is not None and not known.is_folder


def is_recording_folder(name: str) -> bool:
    """Whether a folder of this name is a recording, and not one that holds some."""
    known = format_of(PurePath(name))
    return known is not None and known.is_folder


def has_placeholder(part: str) -> bool:
    """Whether a part of a path holds one of the placeholders of a pattern."""
    return _PLACEHOLDER.search(part) is not None


def is_pattern(path: PurePath) -> bool:
    """Whether a path stands for the files of a TIFF series, as `img_{fov}_{time}_{channel}.tif` does."""
    return path.name.lower().endswith(TIFF_ENDINGS) and has_placeholder(str(path))


def recording_name(path: PurePath) -> str:
    """Name of a recording: that of its file or folder, or the part of a pattern that has the placeholders."""
    if not is_pattern(path):
        return path.name
    first = next(i for i, part in enumerate(path.parts) if has_placeholder(part))
    return "/".join(path.parts[first:])


def base_name(path: PurePath) -> str:
    """Name of a recording without its ending and placeholders; names of results begin with it."""
    ending = ending_of(path.name)
    if not is_pattern(path):
        return (path.name[: -len(ending)] if ending else "") or path.stem
    name = recording_name(path)[: -len(ending or "")]
    without = re.sub(r"[-_. ]*" + _PLACEHOLDER.pattern, "", name.replace("/", "_"))
    return without.strip("-_. ") or "series"
