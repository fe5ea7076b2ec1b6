"""The parts of a CZI file that pylibCZIrw does not show: where each image lies, and when it was taken.

Source: the ZISRAW (CZI) file format, as libCZI reads it: segments of a header of 32 bytes and their data.
"""

import os
import re
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from tasks.acquisition.damage import RefusedError

_SEGMENT = struct.Struct("<16sqq")  # id, allocated bytes, used bytes
_FILE = struct.Struct("<iiii16s16siqqiq")
_ENTRY = struct.Struct("<2siqiiB5si")  # schema, pixels, position, part, compression, pyramid, reserved, dimensions
_DIMENSION = struct.Struct("<4siifi")  # name, start, size, coordinate, stored size
_SUBBLOCK = struct.Struct("<iiq")  # bytes of metadata, of attachments, of pixels
_DIRECTORY_HEADER_BYTES = 128
_ATTACHMENTS_HEADER_BYTES = 256
_ATTACHMENT = struct.Struct("<2s10sqi16s8s80s")
_LEAST_SUBBLOCK_HEADER_BYTES = 256
_MOST_BYTES_OF_A_DIRECTORY = 1 << 31
_MOST_BYTES_OF_METADATA = 1 << 20
_ACQUIRED = re.compile(rb"<AcquisitionTime>\s*([^<]+?)\s*</AcquisitionTime>")
_PIXELS: dict[int, np.dtype[Any]] = {0: np.dtype(np.uint8), 1: np.dtype(np.uint16), 2: np.dtype(np.float32)}
_COLOURS = {3, 4, 8, 9}
PLANE_AXES = frozenset("CTZS")
"""Axes of a recording; along any other there must be one image only."""


@dataclass(frozen=True)
class StoredImage:
    """One image in the file, at full resolution."""

    at: dict[str, int]
    """Where along each axis but X and Y, by its letter."""
    x: int
    y: int
    width: int
    height: int
    pixels: int
    """Number of the kind of pixels."""
    position: int
    """First byte of its segment."""


class CziDirectory:
    """What a CZI file holds.

    Parameters
    ----------
    stream
        The file, open for reading.

    Raises
    ------
    RefusedError
        Where it is no CZI file, is truncated, or still being written.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._descriptor = stream.fileno()
        if self._read(0, 10) != b"ZISRAWFILE":
            raise RefusedError("it is not a CZI file")
        head = _FILE.unpack(self._read(_SEGMENT.size, _FILE.size))
        part, directory, being_written, attachments = head[6], head[7], head[9], head[10]
        if part:
            raise RefusedError("it is one part of a recording in several CZI files, which is not supported")
        if being_written or not directory:
            raise RefusedError("it is still being written: it says so itself, or lacks the directory of its images")
        self._attachments = attachments
        self.images = [image for image in self._entries(directory) if image is not None]
        last = max(self.images, key=lambda image: image.position, default=None)
        if last is not None and (why := self.what_is_wrong_with(last)):
            raise RefusedError(f"it is truncated: of its last image, {why}")

    def what_is_wrong_with(self, image: StoredImage) -> str | None:
        """Why the file does not hold an image that its directory has; None where it does."""
        size = os.fstat(self._descriptor).st_size
        beyond_the_end = f"it lies beyond the end of the file at {size} bytes"
        if image.position + _SEGMENT.size > size:
            return beyond_the_end
        name, _, used = _SEGMENT.unpack(self._read(image.position, _SEGMENT.size))
        if name.rstrip(b"\0") != b"ZISRAWSUBBLOCK":
            return f"the file holds something else in its place at byte {image.position}"
        return beyond_the_end if image.position + _SEGMENT.size + used > size else None

    def acquired_us(self, image: StoredImage) -> int | None:
        """When an image was taken, in microseconds since 1970; None where the file does not tell."""
        start = image.position + _SEGMENT.size
        length, _, _ = _SUBBLOCK.unpack(self._read(start, _SUBBLOCK.size))
        if not 0 < length <= _MOST_BYTES_OF_METADATA:
            return None
        n_dimensions = _ENTRY.unpack(self._read(start + _SUBBLOCK.size, _ENTRY.size))[-1]
        header = _SUBBLOCK.size + _ENTRY.size + n_dimensions * _DIMENSION.size
        metadata = self._read(start + max(header, _LEAST_SUBBLOCK_HEADER_BYTES), length)
        found = _ACQUIRED.search(metadata)
        try:
            return None if found is None else _microseconds(found[1].decode())
        except ValueError:
            return None

    def time_stamps_s(self) -> NDArray[np.float64]:
        """(T,) times of the time points in seconds since the start; none where the file does not tell."""
        if not self._attachments:
            return np.empty(0)
        data = self._segment(self._attachments, b"ZISRAWATTDIR")
        (count,) = struct.unpack_from("<i", data)
        for number in range(count):
            *_, kind, _ = entry = _ATTACHMENT.unpack_from(data, _ATTACHMENTS_HEADER_BYTES + number * _ATTACHMENT.size)
            if kind.rstrip(b"\0") == b"CZTIMS":
                attached = self._segment(entry[2], b"ZISRAWATTACH")
                _, n_stamps = struct.unpack_from("<ii", attached, 256)
                return np.frombuffer(attached, "<f8", count=n_stamps, offset=264).astype(np.float64)
        return np.empty(0)

    def _entries(self, directory: int) -> list[StoredImage | None]:
        data = self._segment(directory, b"ZISRAWDIRECTORY")
        (count,) = struct.unpack_from("<i", data)
        offset, images = _DIRECTORY_HEADER_BYTES, []
        for _ in range(count):
            schema, pixels, position, _, _, pyramid, _, n_dimensions = _ENTRY.unpack_from(data, offset)
            if schema != b"DV":
                raise RefusedError(f"the directory of its images is damaged or of an unknown kind ({schema!r})")
            offset += _ENTRY.size
            sizes: dict[str, tuple[int, int, int]] = {}
            for _ in range(n_dimensions):
                name, start, size, _, stored = _DIMENSION.unpack_from(data, offset)
                sizes[name.rstrip(b"\0").decode("ascii")] = (start, size, stored)
                offset += _DIMENSION.size
            (x, width, stored_width), (y, height, stored_height) = sizes.pop("X"), sizes.pop("Y")
            at = {axis: start for axis, (start, _, _) in sizes.items()}
            is_reduced = pyramid or (stored_width, stored_height) != (width, height)
            images.append(None if is_reduced else StoredImage(at, x, y, width, height, pixels, position))
        return images

    def _segment(self, position: int, name: bytes) -> bytes:
        found, _, used = _SEGMENT.unpack(self._read(position, _SEGMENT.size))
        if found.rstrip(b"\0") != name or not 0 <= used <= _MOST_BYTES_OF_A_DIRECTORY:
            raise RefusedError(f"it is truncated or damaged: {name.decode()} is not where it should be")
        return self._read(position + _SEGMENT.size, used)

    def _read(self, offset: int, length: int) -> bytes:
        data = os.pread(self._descriptor, length, offset) if offset >= 0 else b""
        if len(data) < length:
            raise RefusedError("it is truncated or still being written: it ends before the directory of its images")
        return data


def dtype_of(image: StoredImage) -> np.dtype[Any]:
    """Kind of pixels of an image.

    Raises
    ------
    RefusedError
        Where it cannot be processed, e.g. an RGB image.
    """
    if image.pixels not in _PIXELS:
        kind = "in colour" if image.pixels in _COLOURS else f"of the kind {image.pixels}"
        raise RefusedError(f"its pixels are {kind}; only grey ones of uint8, uint16 and float32 can be processed")
    return _PIXELS[image.pixels]


def _microseconds(text: str) -> int:
    """Microseconds since 1970 of a time in ISO 8601, whose fraction may have more digits than Python takes."""
    time = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))
    since = (time if time.tzinfo else time.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
    return since // timedelta(microseconds=1)
