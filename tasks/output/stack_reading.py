"""Looking at the image stacks that a FOV has left; light, for those who show them."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tasks.output.layout import ZARR_ENDING


class StackOnDisk(Protocol):
    """An image stack of which single frames are read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, H, W)."""
        ...

    def __getitem__(self, frame: int, /) -> Any:  # noqa: ANN401 - an array, or a part of a map of one
        """Pixels (H, W) of a frame."""
        ...


@dataclass(frozen=True)
class _NpyStack:
    """Frames of an `.npy` file, each read when it is asked for.

    A map of the file into memory would end the process, where the file is cut short or its disk fails meanwhile.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int

    def __getitem__(self, frame: int, /) -> NDArray[Any]:
        n_pixels = math.prod(self.shape[1:])
        start = self.offset + frame * n_pixels * self.dtype.itemsize
        return np.fromfile(self.path, self.dtype, n_pixels, offset=start).reshape(self.shape[1:])


def open_stack(path: Path) -> StackOnDisk:
    """Open an `.npy` file or an OME-Zarr image; frames are read when they are asked for.

    Both raise `OSError`, `ValueError`, `EOFError` or `RuntimeError` where it is damaged, as the libraries have it.
    """
    if path.name.endswith(ZARR_ENDING):
        import zarr  # here, because most folders have none

        return zarr.open_array(path / "0", mode="r")
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran_order, dtype = read_header(file)
        if fortran_order or dtype.hasobject:
            raise ValueError("it is no stack of images")
        return _NpyStack(path, shape, dtype, file.tell())
