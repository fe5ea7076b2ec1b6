"""Stacks as `.npy` files, of which whoever looks at them reads single frames, see `tasks.output.stack_reading`."""

import errno
import io
import os
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from zlib_ng import zlib_ng

from tasks.output.manifest import FileRecord
from tasks.output.os_errors import told
from tasks.output.stack import StackWriter, frame_bytes


@dataclass(frozen=True)
class NpySink:
    """Where the frames of an `.npy` file go, see `FrameSink`."""

    path: Path
    shape: tuple[int, int, int]
    """(T, H, W)."""
    dtype: np.dtype[Any]
    header_bytes: int

    @property
    def frame_bytes(self) -> int:
        """Size of a frame."""
        return self.shape[1] * self.shape[2] * self.dtype.itemsize

    @property
    def n_bytes(self) -> int:
        """Size of the finished file."""
        return self.header_bytes + self.shape[0] * self.frame_bytes

    def write(self, t: int, frame: NDArray[Any]) -> FileRecord:
        """Write frame `t` in its place; see `FrameSink.write`."""
        content = frame_bytes(self, t, frame)
        with told("write", self.path, self.n_bytes):
            # Opened anew each time, at the price of microseconds: nothing is shared, nothing is left open.
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                _put(descriptor, content, self.header_bytes + t * self.frame_bytes)
            finally:
                os.close(descriptor)
        return FileRecord(len(content), zlib_ng.crc32(content))


class NpyStackWriter(StackWriter):
    """Owner of an `.npy` file while it is written.

    The checksum of the file is put together from those of the frames, so it costs no second look at them.

    Parameters
    ----------
    path
        A file that does not exist yet.
    shape
        (T, H, W).
    dtype
        Type of the pixels.

    Raises
    ------
    OutputError
        Where the file cannot be created.
    """

    sink: NpySink

    def __init__(self, path: Path, shape: tuple[int, int, int], dtype: DTypeLike) -> None:
        header = _npy_header(shape, np.dtype(dtype))
        super().__init__(NpySink(path, shape, np.dtype(dtype), len(header)))
        self._header_crc = zlib_ng.crc32(header)
        with told("create", path):
            # Kept open until the end: the fsync of this descriptor learns of every error since the beginning.
            self._file = path.open("xb", buffering=0)
            self._file.write(header)

    def close(self) -> dict[str, FileRecord]:
        """Wait until the file is on the disk; see `StackWriter.close`."""
        crcs = [frame.crc32 for frame in self._complete()]
        with told("write", self.sink.path, self.sink.n_bytes), self._file:
            os.fsync(self._file.fileno())
        return {self.sink.path.name: FileRecord(self.sink.n_bytes, reduce(self._append_crc, crcs, self._header_crc))}

    def abandon(self) -> None:
        """Close the file as it is; harmless where it is closed."""
        self._file.close()

    def _append_crc(self, crc: int, frame_crc: int) -> int:
        return zlib_ng.crc32_combine(crc, frame_crc, self.sink.frame_bytes)


def _put(descriptor: int, content: NDArray[np.uint8], offset: int) -> None:
    written = 0
    while written < len(content):
        count = os.pwrite(descriptor, content[written:].data, offset + written)
        if count == 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        written += count


def _npy_header(shape: tuple[int, int, int], dtype: np.dtype[Any]) -> bytes:
    buffer = io.BytesIO()
    description = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, description)
    return buffer.getvalue()
