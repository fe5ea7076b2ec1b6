"""An image stack on its way into an `.npy` file, frame by frame, in any order, from any thread."""

import ctypes
import errno
import io
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from zlib_ng import zlib_ng

from tasks.errors import OutputError
from tasks.output.manifest import FileRecord
from tasks.output.os_errors import output_error, told

_WRITE_BACK_EVERY = 32 << 20
_SYNC_FILE_RANGE_WRITE = 2


class StackWriter:
    """Writes an `.npy` file of a stack; a frame costs one system call and its checksum.

    Frames may come in any order and from several threads at once, each frame once. The checksum of the file is
    put together from those of the frames, and the disk is set to work while the next frames are computed.

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
        self.path = path
        self.shape = shape
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self._header = _npy_header(shape, self.dtype)
        self._frame_bytes = shape[1] * shape[2] * self.dtype.itemsize
        self._frame_crcs: list[int | None] = [None] * shape[0]
        self._state = threading.Condition()
        self._n_writing = 0
        self._unflushed = 0
        self._closed = False
        with told("create", path):
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)

    @property
    def n_bytes(self) -> int:
        """Size of the finished file."""
        return len(self._header) + self.shape[0] * self._frame_bytes

    def write(self, t: int, frame: NDArray[Any]) -> None:
        """Write frame `t`, an (H, W) array of the stack's dtype.

        Raises
        ------
        OutputError
            Where the disk refuses, e.g. because it is full.
        ValueError
            Where the frame does not fit into the stack, or was written before.
        """
        content = self._checked(t, frame)
        with self._open_descriptor() as descriptor:
            self._put(descriptor, content, len(self._header) + t * self._frame_bytes)
            self._frame_crcs[t] = zlib_ng.crc32(content)
            if self._flush_is_due(len(content)):
                _start_write_back(descriptor)

    def start_write_back(self) -> None:
        """Let the disk begin with what it has not got yet, without waiting for it."""
        with self._open_descriptor() as descriptor:
            _start_write_back(descriptor)

    def close(self) -> FileRecord:
        """Finish the file and wait until it is on the disk.

        Raises
        ------
        OutputError
            Where a frame was never written, or the disk refuses.
        """
        frame_crcs = [crc for crc in self._frame_crcs if crc is not None]
        if len(frame_crcs) < self.shape[0]:
            self.abandon()
            missing = self._frame_crcs.index(None)
            raise OutputError(f"{self.path} is not complete: frame {missing} was never written")
        try:
            with self._open_descriptor() as descriptor:
                self._put(descriptor, np.frombuffer(self._header, np.uint8), 0)
                with told("write", self.path, self.n_bytes):
                    os.fsync(descriptor)
        finally:
            self.abandon()
        return FileRecord(self.n_bytes, self._combined_crc(frame_crcs))

    def abandon(self) -> None:
        """Close the file as it is, once no thread writes to it any more; harmless where it is closed."""
        with self._state:
            if self._closed:
                return
            self._closed = True
            self._state.wait_for(lambda: self._n_writing == 0)
            # What could still fail here has failed in the fsync of `close`, or nobody wants the file any more.
            with suppress(OSError):
                os.close(self._descriptor)

    def _checked(self, t: int, frame: NDArray[Any]) -> NDArray[np.uint8]:
        """The bytes of a frame that fits."""
        if frame.shape != self.shape[1:] or frame.dtype != self.dtype:
            raise ValueError(
                f"{self.path.name} holds frames of shape {self.shape[1:]} and type {self.dtype}, "
                f"not of shape {frame.shape} and type {frame.dtype}"
            )
        if not 0 <= t < self.shape[0]:
            raise ValueError(f"{self.path.name} has frames 0 to {self.shape[0] - 1}, not {t}")
        if self._frame_crcs[t] is not None:
            raise ValueError(f"frame {t} of {self.path.name} was written before")
        return np.ascontiguousarray(frame).reshape(-1).view(np.uint8)

    @contextmanager
    def _open_descriptor(self) -> Iterator[int]:
        """Keep the file open within the block.

        A number of a closed file is given to the next one that is opened: a thread that still wrote to it would
        write into somebody else's file.
        """
        with self._state:
            if self._closed:
                raise OutputError(f"{self.path} is closed; nothing more can be written to it")
            self._n_writing += 1
        try:
            yield self._descriptor
        finally:
            with self._state:
                self._n_writing -= 1
                self._state.notify_all()

    def _put(self, descriptor: int, content: NDArray[np.uint8], offset: int) -> None:
        written = 0
        try:
            while written < len(content):
                count = os.pwrite(descriptor, content[written:].data, offset + written)
                if count == 0:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                written += count
        except OSError as error:
            raise output_error(error, "write", self.path, self.n_bytes) from error

    def _flush_is_due(self, n_bytes: int) -> bool:
        with self._state:
            self._unflushed += n_bytes
            if self._unflushed < _WRITE_BACK_EVERY:
                return False
            self._unflushed = 0
            return True

    def _combined_crc(self, frame_crcs: list[int]) -> int:
        def append(crc: int, frame_crc: int) -> int:
            return zlib_ng.crc32_combine(crc, frame_crc, self._frame_bytes)

        return reduce(append, frame_crcs, zlib_ng.crc32(self._header))


def _npy_header(shape: tuple[int, int, int], dtype: np.dtype[Any]) -> bytes:
    buffer = io.BytesIO()
    description = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, description)
    return buffer.getvalue()


def _find_sync_file_range() -> Any:  # noqa: ANN401 - a function of the C library, or None
    """Linux alone can be told to begin writing without being waited for."""
    if not sys.platform.startswith("linux"):
        return None
    function = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if function is not None:
        function.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return function


_sync_file_range = _find_sync_file_range()


def _start_write_back(descriptor: int) -> None:
    # Only a hint: whether it was taken, and any error, shows in the fsync at the end.
    if _sync_file_range is not None:
        _sync_file_range(descriptor, 0, 0, _SYNC_FILE_RANGE_WRITE)
