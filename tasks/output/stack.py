"""An image stack on its way to the disk, frame by frame, in any order, from any thread or process."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tasks.errors import OutputError
from tasks.output.manifest import FileRecord


class FrameSink(Protocol):
    """Where the frames of a stack go; small, and fit to be sent to another process that shares the storage."""

    @property
    def path(self) -> Path:
        """The stack's file or folder."""
        ...

    @property
    def shape(self) -> tuple[int, int, int]:
        """(T, H, W)."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels."""
        ...

    def write(self, t: int, frame: NDArray[Any]) -> FileRecord:
        """Write frame `t`, an (H, W) array of the stack's dtype, and tell how many bytes it takes, and their CRC-32.

        Raises
        ------
        OutputError
            Where the disk refuses, e.g. because it is full.
        ValueError
            Where the frame does not fit into the stack.
        """
        ...


class StackWriter(ABC):
    """Owner of a stack while it is written: keeps the checksums of its frames and finishes it.

    Parameters
    ----------
    sink
        Where the frames go.
    """

    def __init__(self, sink: FrameSink) -> None:
        self.sink = sink
        self._frames: list[FileRecord | None] = [None] * sink.shape[0]

    def write(self, t: int, frame: NDArray[Any]) -> None:
        """Write frame `t`; see `FrameSink.write`."""
        self.record(t, self.sink.write(t, frame))

    def record(self, t: int, record: FileRecord) -> None:
        """Note that frame `t` was written by way of the sink, and what it told."""
        self._frames[t] = record

    @abstractmethod
    def close(self) -> dict[str, FileRecord]:
        """Wait until the stack is on the disk, and tell its files, by their names beside the stack.

        Raises
        ------
        OutputError
            Where a frame was never written, or the disk refuses.
        """

    @abstractmethod
    def abandon(self) -> None:
        """Leave the stack as it is; harmless where it is closed."""

    def _complete(self) -> list[FileRecord]:
        """What is known of all frames."""
        frames = [frame for frame in self._frames if frame is not None]
        if len(frames) < len(self._frames):
            self.abandon()
            missing = self._frames.index(None)
            raise OutputError(f"{self.sink.path} is not complete: frame {missing} was never written")
        return frames


def frame_bytes(sink: FrameSink, t: int, frame: NDArray[Any]) -> NDArray[np.uint8]:
    """The bytes of a frame that fits into a stack; raises `ValueError` where it does not."""
    if frame.shape != sink.shape[1:] or frame.dtype != sink.dtype:
        raise ValueError(
            f"{sink.path.name} holds frames of shape {sink.shape[1:]} and type {sink.dtype}, "
            f"not of shape {frame.shape} and type {frame.dtype}"
        )
    if not 0 <= t < sink.shape[0]:
        raise ValueError(f"{sink.path.name} has frames 0 to {sink.shape[0] - 1}, not {t}")
    return np.ascontiguousarray(frame).reshape(-1).view(np.uint8)
