"""Building blocks of the ND2 3.0 file format: page-aligned chunks, and typed trees of metadata inside them.

A file is a sequence of chunks and ends with a map of where each of them lies. A chunk is a header, a name
area padded with zeros, and its data; chunks start on pages of 4096 bytes, and so do the pixels of a frame.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

PAGE = 4096
FILE_SIGNATURE = b"ND2 FILE SIGNATURE CHUNK NAME01!"
MAP_NAME = b"ND2 FILEMAP SIGNATURE NAME 0001!"
MAP_SIGNATURE = b"ND2 CHUNK MAP SIGNATURE 0000001!"
FRAME_NAME_AREA = 4072
"""Name area of a frame: with header and time stamp it fills a page, so that the pixels start on the next."""

Variant: TypeAlias = (
    bool | int | float | str | bytes | np.uint32 | np.uint64 | Mapping[str, "Variant"] | Sequence["Variant"]
)
"""A value of a metadata tree. Plain integers are stored as int32; unsigned ones have a NumPy type."""

_MAGIC = 0x0ABECEDA
_CHUNK_HEADER = struct.Struct("<IIQ")
_BOOL, _INT32, _UINT32, _UINT64, _DOUBLE, _STRING, _BYTES, _LEVEL = 1, 2, 3, 5, 6, 8, 9, 11


def chunk_header(name: bytes, data_length: int, name_area: int) -> bytes:
    """Header and name area that stand before the data of a chunk."""
    return _CHUNK_HEADER.pack(_MAGIC, name_area, data_length) + name.ljust(name_area, b"\0")


def paged_chunk(name: bytes, data: bytes) -> bytes:
    """Make a whole chunk whose name area is padded so that it ends with a page."""
    least = _CHUNK_HEADER.size + len(name) + 1 + len(data)
    return chunk_header(name, len(data), len(name) + 1 + padding(least)) + data


def file_header() -> bytes:
    """First page of a file: its signature and the version of the format."""
    version = b"Ver3.0".ljust(64, b"\0")
    return (chunk_header(FILE_SIGNATURE, len(version), len(FILE_SIGNATURE)) + version).ljust(PAGE, b"\0")


def file_map(chunks: Mapping[bytes, tuple[int, int]], location: int) -> bytes:
    """Last chunk of a file: offset and data length of each chunk by name.

    Parameters
    ----------
    chunks
        Offset and data length in bytes, by the name of the chunk.
    location
        Offset at which this map is written; the last bytes of the file tell it.
    """
    trailer = MAP_SIGNATURE + struct.pack("<Q", location)
    entries = b"".join(name + struct.pack("<QQ", *where) for name, where in chunks.items()) + trailer
    start = _CHUNK_HEADER.size + len(MAP_NAME)
    data = entries + bytes(padding(start + len(entries) + len(trailer))) + trailer
    return chunk_header(MAP_NAME, len(data), len(MAP_NAME)) + data


def padding(length: int) -> int:
    """Bytes that are missing to a full page."""
    return -length % PAGE


def encode_tree(name: str, value: Variant) -> bytes:
    """Encode a metadata tree: each item is its type, its name in UTF-16, and its value.

    A mapping or a sequence becomes a level; the items of a sequence have empty names. After its items, a
    level holds the offset of each from the level's start, in alphabetical order of the names.

    Raises
    ------
    TypeError
        Where the format has no type for a value.
    """
    if isinstance(value, bool):
        return _item(_BOOL, name, struct.pack("<?", value))
    if isinstance(value, np.uint32):
        return _item(_UINT32, name, struct.pack("<I", value))
    if isinstance(value, np.uint64):
        return _item(_UINT64, name, struct.pack("<Q", value))
    if isinstance(value, int):
        return _item(_INT32, name, struct.pack("<i", value))
    if isinstance(value, float):
        return _item(_DOUBLE, name, struct.pack("<d", value))
    if isinstance(value, str):
        return _item(_STRING, name, _text(value))
    if isinstance(value, bytes):
        return _item(_BYTES, name, struct.pack("<Q", len(value)) + value)
    if isinstance(value, Mapping):
        return _level(name, list(value.items()))
    if isinstance(value, Sequence):
        return _level(name, [("", item) for item in value])
    raise TypeError(f"{name}: the format has no type for {value!r}")


def _level(name: str, items: list[tuple[str, Variant]]) -> bytes:
    encoded = [encode_tree(item_name, value) for item_name, value in items]
    start = len(_item(_LEVEL, name, b"")) + struct.calcsize("<IQ")
    offsets = np.cumsum([start, *map(len, encoded)], dtype=np.uint64)
    by_name = sorted(range(len(items)), key=lambda index: items[index][0])
    header = _item(_LEVEL, name, struct.pack("<IQ", len(items), offsets[-1]))
    return header + b"".join(encoded) + offsets[by_name].astype("<u8").tobytes()


def _item(kind: int, name: str, value: bytes) -> bytes:
    return bytes([kind, len(name) + 1]) + _text(name) + value


def _text(text: str) -> bytes:
    return text.encode("utf-16-le") + b"\0\0"
