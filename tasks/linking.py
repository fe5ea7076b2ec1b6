"""What follows the cells of a film: regions of one frame after the other go in, cell numbers come out.

A linker may keep frames back until it has seen more of the film; what it gives out is final.
"""

from collections.abc import Iterable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tasks.configuration import ScienceParameters
from tasks.errors import ProcessingError
from tasks.methods import TRACKING_METHODS, IouParameters
from tasks.regions import LabelledFrame
from tasks.tracking import MOST_CELLS, Tracker

Cells = NDArray[np.int32]
"""(n,) cell number of each region of a frame, from 1; no number is there twice in a frame."""

Shift = tuple[int, int]
"""How far the picture has moved since the frame before: y and x, in pixels."""


class Linker(Protocol):
    """Numbers the cells of a film from 1."""

    parents: dict[int, int]
    """Mother of each cell that came from a division, as far as is known."""

    def link(self, frame: LabelledFrame, shift: Shift) -> Iterable[Cells]:
        """Take the next frame, and give the numbers of all frames that are settled by it, in their order.

        Raises
        ------
        ProcessingError
            Where the film has more cells than uint16 numbers.
        """
        ...

    def finish(self) -> Iterable[Cells]:
        """Give the numbers of all frames that were kept back; the film is over."""
        ...


class IouLinker:
    """PyAMA's tracking, see `tasks.tracking`."""

    def __init__(self, min_iou: float) -> None:
        self.parents: dict[int, int] = {}
        self._tracker = Tracker(min_iou)

    def link(self, frame: LabelledFrame, shift: Shift) -> list[Cells]:  # noqa: ARG002 - it holds still
        """Link a frame to the one before."""
        return [self._tracker.link(frame.regions.boxes)]

    def finish(self) -> list[Cells]:
        """Nothing is kept back."""
        return []


def checked_cells(cells: object, n_regions: int) -> Cells:
    """Make sure that a tracking method has numbered the regions of a frame.

    Returns
    -------
    ndarray
        A copy of the numbers, which the method cannot change any more, as int32 whatever kind of integers it gave.

    Raises
    ------
    ProcessingError
        Where it gave something else than one whole number from 1 for each region, no two of them the same.
    """
    what = "the tracking method gave"
    if not isinstance(cells, np.ndarray) or cells.shape != (n_regions,) or not np.issubdtype(cells.dtype, np.integer):
        given = f"{cells.dtype} {cells.shape}" if isinstance(cells, np.ndarray) else type(cells).__name__
        raise ProcessingError(f"{what} {given}; expected {n_regions} whole numbers, one for each region")
    if n_regions and (cells.min() < 1 or len(np.unique(cells)) < n_regions):
        raise ProcessingError(f"{what} a number below 1, or one of them twice in a frame")
    check_number_of_cells(int(cells.max(initial=0)))
    return cells.astype(np.int32)


def check_number_of_cells(n: int) -> None:
    """Make sure that cell numbers fit into the label images; raises `ProcessingError` where they do not."""
    if n > MOST_CELLS:
        raise ProcessingError(
            f"more than {MOST_CELLS} cells; set min_area to leave out specks, or check the phase channel"
        )


def make_linker(parameters: ScienceParameters) -> Linker:
    """What follows the cells by whichever method is asked for."""
    chosen = parameters.tracking
    if isinstance(chosen, IouParameters):
        return IouLinker(parameters.min_iou)
    linker: Linker = TRACKING_METHODS[chosen.method].load()(chosen)
    return linker
