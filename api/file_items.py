"""Files and folders as the file explorer shows them."""

import os
import stat
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from api.containment import is_inside, resolve
from tasks.acquisition import is_recording_folder, known_suffixes, recording_files

Extension = Annotated[str, StringConstraints(min_length=1, max_length=32)]
"""Ending of a file name, with or without its dot, in capitals or not: `.nd2`."""


class FileItem(BaseModel):
    """A file or a folder."""

    name: str
    path: str
    is_directory: bool
    is_file: bool
    size_bytes: int | None = Field(description="Size of a file, or of all files of a TIFF series; null for folders")
    modified_time: str | None = Field(description="Time of the last change in seconds since 1970, as text")
    extension: str | None = Field(
        description="Ending of the name in small letters, e.g. .nd2; null for folders that are no recordings, as those "
        "are whose name ends with .zarr"
    )


def file_item(path: Path, status: os.stat_result) -> FileItem:
    """Describe what is at a path."""
    is_file = stat.S_ISREG(status.st_mode)
    has_extension = is_file or is_recording_folder(path.name)
    return FileItem(
        name=printable(path.name),
        path=printable(str(path)),
        is_directory=stat.S_ISDIR(status.st_mode),
        is_file=is_file,
        size_bytes=status.st_size if is_file else None,
        modified_time=f"{status.st_mtime:.6f}",
        extension=printable(path.suffix.lower()) if has_extension else None,
    )


def series_item(pattern: Path) -> FileItem | None:
    """Describe the files of a TIFF series as if they were one; None where there is none."""
    looked_at = (visible_status(file, None, is_link=False) for file in recording_files(pattern))
    found = [status for status in looked_at if status is not None]
    if not found:
        return None
    return FileItem(
        name=printable(pattern.name),
        path=printable(str(pattern)),
        is_directory=False,
        is_file=False,
        size_bytes=sum(one.st_size for one in found),
        modified_time=f"{max(one.st_mtime for one in found):.6f}",
        extension=printable(pattern.suffix.lower()),
    )


def is_recording(item: FileItem) -> bool:
    """Whether an item is named like a recording that can be opened."""
    return item.extension is not None and item.name.lower().endswith(tuple(known_suffixes()))


def visible_status(path: Path, roots: Sequence[Path] | None, *, is_link: bool) -> os.stat_result | None:
    """Look at an entry of a folder that may be looked at.

    Returns
    -------
    os.stat_result or None
        None for what is neither a file nor a folder, and for links that are broken or lead out of the folders.
    """
    if is_link and roots is not None:
        target = resolve(path)
        if target is None or not is_inside(target, roots):
            return None
    try:
        status = path.stat()
    except OSError:
        return None
    return status if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode) else None


def normalized_extensions(extensions: Collection[str] | None) -> frozenset[str] | None:
    """Endings in small letters with their dot; None where all are wanted."""
    if not extensions:
        return None
    return frozenset("." + extension.strip().lower().removeprefix(".") for extension in extensions)


def has_extension(name: str, extensions: Collection[str] | None) -> bool:
    """Whether a name has one of the endings, as `normalized_extensions` gives them, and more than that."""
    lower = name.lower()
    return extensions is None or any(lower.endswith(ending) and lower != ending for ending in extensions)


def printable(name: str) -> str:
    """Replace what is no Unicode text in a name, which a file system allows and JSON does not."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
