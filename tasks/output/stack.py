"""An image stack on its way into an `.npy` file, frame by frame, in any order, from any thread or process."""

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

from tasks.errors import OutputError
from tasks.output.manifest import FileRecord
from tasks.output.os_errors import told


@dataclass(frozen=True)
class FrameSink:
    """Where the frames of a stack go; small, and fit to be sent to another process that shares the storage."""

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

    def write(self, t: int, frame: NDArray[Any]) -> int:
        """Write frame `t`, an (H, W) array of the stack's dtype, and return its CRC-32.

        Raises
        ------
        OutputError
            Where the disk refuses, e.g. because it is full.
        ValueError
            Where the frame does not fit into the stack.
        """
        content = self._checked(t, frame)
        with told("write", self.path, self.n_bytes):
            # Opened anew each time, at the price of microseconds: nothing is shared, nothing is left open.
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                _put(descriptor, content, self.header_bytes + t * self.frame_bytes)
            finally:
                os.close(descriptor)
        return zlib_ng.crc32(content)

    def _checked(self, t: int, frame: NDArray[Any]) -> NDArray[np.uint8]:
        """The bytes of a frame that fits."""
        if frame.shape != self.shape[1:] or frame.dtype != self.dtype:
            raise ValueError(
                f"{self.path.name} holds frames of shape {self.shape[1:]} and type {self.dtype}, "
                f"not of shape {frame.shape} and type {frame.dtype}"
            )
        if not 0 <= t < self.shape[0]:
            raise ValueError(f"{self.path.name} has frames 0 to {self.shape[0] - 1}, not {t}")
        return np.ascontiguousarray(frame).reshape(-1).view(np.uint8)


class StackWriter:
    """Owner of an `.npy` file while it is written: keeps the checksums of its frames and finishes it.

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

    def __init__(self, path: Path, shape: tuple[int, int, int], dtype: DTypeLike) -> None:
        header = _npy_header(shape, np.dtype(dtype))
        self.sink = FrameSink(path, shape, np.dtype(dtype), len(header))
        self._header_crc = zlib_ng.crc32(header)
        self._frame_crcs: list[int | None] = [None] * shape[0]
        with told("create", path):
            # Kept open until the end: the fsync of this descriptor learns of every error since the beginning.
            self._file = path.open("xb", buffering=0)
            self._file.write(header)

    def write(self, t: int, frame: NDArray[Any]) -> None:
        """Write frame `t`; see `FrameSink.write`."""
        self.record(t, self.sink.write(t, frame))

    def record(self, t: int, crc: int) -> None:
        """Note that frame `t` was written by way of the sink, and its CRC-32."""
        self._frame_crcs[t] = crc

    def close(self) -> FileRecord:
        """Wait until the file is on the disk.

        Raises
        ------
        OutputError
            Where a frame was never written, or the disk refuses.
        """
        frame_crcs = [crc for crc in self._frame_crcs if crc is not None]
        if len(frame_crcs) < len(self._frame_crcs):
            self.abandon()
            missing = self._frame_crcs.index(None)
            raise OutputError(f"{self.sink.path} is not complete: frame {missing} was never written")
        with told("write", self.sink.path, self.sink.n_bytes), self._file:
            os.fsync(self._file.fileno())
        return FileRecord(self.sink.n_bytes, reduce(self._append_crc, frame_crcs, self._header_crc))

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
