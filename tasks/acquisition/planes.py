"""Recordings whose files hold each channel of a frame, and each plane of a stack, as an image of its own."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tasks.acquisition.checks import check_fov, check_frame, named
from tasks.acquisition.damage import RefusedError, errors_as
from tasks.acquisition.protocol import Recording, RecordingMetadata
from tasks.errors import MissingFrameError
from tasks.scratch import scratch

DTYPES = (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.float32))
"""Kinds of pixels that can be processed."""


class PlanewiseRecording(Recording, ABC):
    """An open recording whose images are read one by one; a format tells how.

    Parameters
    ----------
    metadata
        What the recording is.
    planes
        Planes of each stack that are read.
    """

    def __init__(self, metadata: RecordingMetadata, planes: range) -> None:
        self.metadata = metadata
        self._planes = planes

    @abstractmethod
    def _read_image(self, fov: int, frame: int, channel: int, plane: int, out: NDArray[Any]) -> None:
        """Read an image that is there into `out` (H, W)."""

    @abstractmethod
    def _what_is_wrong_with(self, fov: int, frame: int, channel: int, plane: int) -> str | None:
        """Why the recording does not hold an image, told without decoding it; None where it does."""

    def read_frame(self, fov: int, frame: int, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """All channels of one time point: (C, H, W), C-contiguous, in the recording's dtype; into `out` if given.

        Raises
        ------
        InvalidParametersError
            Where the recording has no such FOV or frame.
        MissingFrameError
            Where the recording does not hold the frame.
        RecordingError
            Where the frame cannot be decoded.
        """
        check_frame(self.metadata, fov, frame)
        shape = (self.metadata.height, self.metadata.width)
        if out is None:
            out = np.empty((self.metadata.n_channels, *shape), self.metadata.dtype)
        for channel in range(self.metadata.n_channels):
            self._read_checked(fov, frame, channel, self._planes[0], out[channel])
            for plane in self._planes[1:]:
                projected = scratch("projected", shape, self.metadata.dtype)
                self._read_checked(fov, frame, channel, plane, projected)
                np.maximum(out[channel], projected, out=out[channel])
        return out

    def check_frames(self, fov: int) -> None:
        """Make sure that the recording holds every frame of a FOV, without decoding the pixels.

        Raises
        ------
        InvalidParametersError
            Where the recording has no such FOV.
        MissingFrameError
            Naming the first image that is not there.
        """
        check_fov(self.metadata, fov)
        for frame in range(self.metadata.n_frames):
            for channel in range(self.metadata.n_channels):
                for plane in self._planes:
                    self._check_image(fov, frame, channel, plane)

    def close(self) -> None:
        """Close what is open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _read_checked(self, fov: int, frame: int, channel: int, plane: int, out: NDArray[Any]) -> None:
        self._check_image(fov, frame, channel, plane)
        with errors_as(f"{self._where(fov, frame, channel, plane)} cannot be decoded"):
            self._read_image(fov, frame, channel, plane, out)

    def _check_image(self, fov: int, frame: int, channel: int, plane: int) -> None:
        where = self._where(fov, frame, channel, plane)
        with errors_as(f"{where} cannot be read"):
            why = self._what_is_wrong_with(fov, frame, channel, plane)
        if why:
            raise MissingFrameError(f"{where} is missing: {why}; copy the recording anew, or leave this FOV out")

    def _where(self, fov: int, frame: int, channel: int, plane: int) -> str:
        where = f"{named(self.metadata.path)}: FOV {fov}, frame {frame}"
        if self.metadata.n_channels > 1:
            where += f", channel {channel}"
        return where if self.metadata.n_planes == 1 else f"{where}, plane {plane}"


def check_images(dtype: np.dtype[Any], height: int, width: int) -> None:
    """Tell what is wrong with images that cannot be processed.

    Raises
    ------
    RefusedError
        Naming the kind of pixels, or the size.
    """
    if dtype.newbyteorder("=") not in DTYPES:
        known = ", ".join(known.name for known in DTYPES)
        raise RefusedError(f"its pixels are {dtype.name}; only {known} can be processed")
    if height < 1 or width < 1:
        raise RefusedError(f"its images have {height} x {width} pixels")
