"""What a recording is to the rest of the program, whatever its file format."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tasks.acquisition.names import base_name

ZPlane: TypeAlias = int | Literal["middle", "max"]
"""Plane of a Z stack: an index from 0, the middle one, or the maximum projection."""


@dataclass(frozen=True)
class RecordingMetadata:
    """Shape, channels, scale and times of a recording."""

    path: Path
    file_type: str
    """Name of the format, e.g. `nd2`."""
    n_fovs: int
    n_frames: int
    n_planes: int
    """Planes of each Z stack; 1 where there is no stack."""
    channel_names: tuple[str, ...]
    channel_modalities: tuple[frozenset[str], ...]
    """What the file says of each channel's contrast, e.g. `{"brightfield", "camera"}`; may be empty."""
    height: int
    width: int
    dtype: np.dtype[Any]
    pixel_size_um: float | None
    """None where the file does not tell."""
    times_min: NDArray[np.float64]
    """(n_fovs, n_frames) time stamps in minutes since the recording's own zero."""
    warnings: tuple[str, ...] = ()
    """What the user should know of these data, e.g. that time stamps were not recorded."""

    @property
    def base_name(self) -> str:
        """Name without its ending and placeholders; names of results begin with it."""
        return base_name(self.path)

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return len(self.channel_names)

    @property
    def sizes(self) -> dict[str, int]:
        """Length of each axis, by its letter."""
        return {
            "P": self.n_fovs, "T": self.n_frames, "Z": self.n_planes, "C": self.n_channels,
            "Y": self.height, "X": self.width,
        }  # fmt: skip


class Recording(Protocol, AbstractContextManager["Recording"]):
    """An open recording; closed at the end of its `with` block."""

    metadata: RecordingMetadata

    def read_frame(self, fov: int, frame: int, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """All channels of one time point: (C, H, W), C-contiguous, in the recording's dtype; into `out` if given.

        Raises
        ------
        MissingFrameError
            Where the file does not hold the frame.
        RecordingError
            Where the frame cannot be decoded.
        """
        ...

    def check_frames(self, fov: int) -> None:
        """Make sure that the file holds every frame of a FOV, without reading the pixels.

        Raises
        ------
        MissingFrameError
            Naming the first frame that is not there.
        """
        ...
