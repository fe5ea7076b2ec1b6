"""Looking at the image stacks that a FOV has left; light, for those who show them."""

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


def open_stack(path: Path) -> StackOnDisk:
    """Open an `.npy` file as a memory map, or an OME-Zarr image, which is decompressed frame by frame.

    Raises `OSError`, `ValueError`, `EOFError` or `RuntimeError` where it is damaged, as the libraries have it.
    """
    if path.name.endswith(ZARR_ENDING):
        import zarr  # here, because most folders have none

        return zarr.open_array(path / "0", mode="r")
    images: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return images
