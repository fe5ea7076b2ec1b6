"""What the JSON files of a Zarr hierarchy say of its groups and arrays, in the formats 2 and 3.

They are read here rather than by zarr, because a recording has hundreds of groups, and looking at all of them should
take milliseconds.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tasks.acquisition.containment import inside
from tasks.acquisition.damage import RefusedError

_LARGEST_FILE = 1 << 28
_LABELS = "labels"
"""Group of label images, which others add to a recording later."""
_DOT_FILES = frozenset({".zarray", ".zattrs", ".zgroup", ".zmetadata"})
"""Those that are part of a recording; others are left by file managers and network file systems."""


@dataclass(frozen=True)
class Node:
    """A group or an array."""

    folder: Path
    attributes: Mapping[str, Any]
    array: Mapping[str, Any] | None
    """What the file says of an array; None for a group."""
    zarr_format: int

    @property
    def ome(self) -> Mapping[str, Any]:
        """The attributes of OME-Zarr, which stand by themselves from version 0.5 on."""
        inner = self.attributes.get("ome")
        return inner if isinstance(inner, dict) else self.attributes

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an array."""
        shape = (self.array or {}).get("shape")
        if not isinstance(shape, list) or not all(isinstance(length, int) and length >= 0 for length in shape):
            raise RefusedError(f"its array {self.folder.name!r} has no shape")
        return tuple(shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Kind of pixels of an array."""
        array = self.array or {}
        name = array.get("dtype" if self.zarr_format == 2 else "data_type")
        try:
            return np.dtype(name if isinstance(name, str) else "V").newbyteorder("=")
        except TypeError as error:
            raise RefusedError(f"its array {self.folder.name!r} has pixels of the unknown kind {name!r}") from error


def read_node(folder: Path, root: Path) -> Node:
    """Look at a group or an array.

    Parameters
    ----------
    folder
        Where it is.
    root
        Folder of the recording, its links followed; nothing may lead out of it.

    Raises
    ------
    RefusedError
        Where there is none, or its description is no JSON object.
    """
    here = inside(folder, root)
    told = _read_json(here / "zarr.json", root)
    if told is not None:
        if told.get("zarr_format") != 3:
            raise RefusedError(f"{_shown(here, root)} is of the unknown Zarr format {told.get('zarr_format')!r}")
        is_array = told.get("node_type") == "array"
        return Node(here, _mapping(told.get("attributes")), told if is_array else None, 3)
    array, group = _read_json(here / ".zarray", root), _read_json(here / ".zgroup", root)
    if array is None and group is None:
        raise RefusedError(f"{_shown(here, root)} is no Zarr group or array: it lacks zarr.json, .zgroup and .zarray")
    return Node(here, _read_json(here / ".zattrs", root) or {}, array, 2)


def zarr_files(path: Path) -> Sequence[Path]:
    """Files of a recording, sorted; those of label images, which are added later, and stray ones are left out."""
    return sorted(_walk(path.resolve()))


def _walk(root: Path) -> Iterator[Path]:
    for where, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name != _LABELS and not (Path(where) / name).is_symlink()]
        yield from (Path(where) / name for name in files if not name.startswith(".") or name in _DOT_FILES)


def _read_json(path: Path, root: Path) -> Mapping[str, Any] | None:
    """Content of a file with one JSON object; None where there is no file."""
    try:
        with inside(path, root).open("rb") as file:
            content = file.read(_LARGEST_FILE)
    except FileNotFoundError:
        return None
    try:
        told = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"{_shown(path, root)} is no JSON: {' '.join(str(error).split())[:120]}") from error
    if not isinstance(told, dict):
        raise RefusedError(f"{_shown(path, root)} is no JSON object")
    return told


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _shown(path: Path, root: Path) -> str:
    return repr(str(path.relative_to(root.parent)))
