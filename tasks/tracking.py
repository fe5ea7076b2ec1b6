"""Following cells from frame to frame by the overlap of their boxes.

Regions of consecutive frames are assigned to each other one to one so that the sum of `1 - IoU` over all pairs is
least; pairs that overlap less than `min_iou` are no better than none.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tasks.errors import ProcessingError
from tasks.kernel import kernel

Boxes = NDArray[np.int32]
"""(n, 4) first and last pixel index, inclusive: x0, y0, x1, y1."""

MOST_CELLS = int(np.iinfo(np.uint16).max)
"""Cell numbers are stored as uint16."""


class Tracker:
    """Numbers the cells of a film, frame by frame, from 1 in order of appearance.

    A cell that is not found again ends; a region that continues none starts a new one.
    """

    def __init__(self, min_iou: float) -> None:
        self._min_iou = min_iou
        self._boxes: Boxes = np.empty((0, 4), np.int32)
        self._cells: NDArray[np.int32] = np.empty(0, np.int32)
        self._n_cells = 0

    def link(self, boxes: Boxes) -> NDArray[np.int32]:
        """Cell number of each region of the next frame.

        Parameters
        ----------
        boxes
            (n, 4) int32, see `Boxes`.

        Raises
        ------
        ProcessingError
            Where the film has more cells than uint16 numbers.
        """
        cells = np.zeros(len(boxes), np.int32)
        before, after = match(self._boxes, boxes, self._min_iou).T
        cells[after] = self._cells[before]
        new = cells == 0
        cells[new] = np.arange(self._n_cells + 1, self._n_cells + 1 + new.sum())
        self._n_cells += int(new.sum())
        if self._n_cells > MOST_CELLS:
            raise ProcessingError(
                f"more than {MOST_CELLS} cells; set min_area to leave out specks, or check the phase channel"
            )
        self._boxes, self._cells = boxes, cells
        return cells


def match(before: Boxes, after: Boxes, min_iou: float) -> NDArray[np.intp]:
    """Pairs (n, 2) of indices into two sets of boxes that are the same cell, sorted by the first.

    The cheapest one-to-one assignment at a cost of `1 - IoU`, where a pair under `min_iou` costs 1 and is rejected.
    Leaving two boxes alone costs the same as such a pair, so the boxes fall apart into groups that overlap among
    themselves, and each group is solved by itself.
    """
    first, second, iou = _overlapping_pairs(before, after, min_iou)
    chosen = best_pairs(first, second, iou)
    return np.stack([first[chosen], second[chosen]], axis=1)


def best_pairs(first: NDArray[np.intp], second: NDArray[np.intp], score: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of some pairs belong to the one-to-one assignment with the largest sum of scores.

    Parameters
    ----------
    first, second
        (n,) members of each pair.
    score
        (n,) above 0, at most 1.
    """
    chosen = np.ones(len(first), np.bool_)
    for members in _contested(first, second):
        chosen[members] = _cheapest(first[members], second[members], score[members])
    return chosen


def _contested(first: NDArray[np.intp], second: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Groups of pairs among which boxes occur more than once, as indices of the pairs."""
    if len(first) == 0:
        return []
    n_first, n = int(first.max()) + 1, int(first.max()) + int(second.max()) + 2
    if np.bincount(first).max() == np.bincount(second).max() == 1:
        return []
    graph = coo_array((np.ones(len(first), np.int8), (first, second + n_first)), shape=(n, n))
    _, group_of_box = connected_components(graph, directed=False)
    group = group_of_box[first]
    order = np.argsort(group, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
    return [members for members in groups if len(members) > 1]


def _cheapest(first: NDArray[np.intp], second: NDArray[np.intp], iou: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which pairs of a group belong to its cheapest assignment."""
    rows, row = np.unique(first, return_inverse=True)
    columns, column = np.unique(second, return_inverse=True)
    cost = np.ones((len(rows), len(columns)))
    cost[row, column] = 1.0 - iou
    assigned = np.full(len(rows), -1)
    assigned_rows, assigned_columns = linear_sum_assignment(cost)
    assigned[assigned_rows] = assigned_columns
    return np.asarray(assigned[row] == column)


def _overlapping_pairs(
    before: Boxes, after: Boxes, min_iou: float
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """All pairs whose intersection over union, counted in pixels, is at least `min_iou`; sorted by the first."""
    n_pairs = _find_pairs(before, after, min_iou, *_no_pairs(0))
    pairs = _no_pairs(n_pairs)
    _find_pairs(before, after, min_iou, *pairs)
    return pairs


def _no_pairs(n: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    return np.empty(n, np.intp), np.empty(n, np.intp), np.empty(n)


@kernel
def _find_pairs(
    before: Boxes,
    after: Boxes,
    min_iou: float,
    first: NDArray[np.intp],
    second: NDArray[np.intp],
    overlap: NDArray[np.float64],
) -> int:
    """Write down the pairs as far as there is room, and count them all."""
    n = 0
    for i in range(len(before)):
        for j in range(len(after)):
            width = min(before[i, 2], after[j, 2]) - max(before[i, 0], after[j, 0]) + 1
            height = min(before[i, 3], after[j, 3]) - max(before[i, 1], after[j, 1]) + 1
            if width <= 0 or height <= 0:
                continue
            intersection = width * height
            iou = intersection / (_size(before[i]) + _size(after[j]) - intersection)
            if iou >= min_iou:
                if n < first.size:
                    first[n], second[n], overlap[n] = i, j, iou
                n += 1
    return n


@kernel
def _size(box: NDArray[np.int32]) -> Any:  # noqa: ANN401 - a NumPy integer
    return np.int64(box[2] - box[0] + 1) * np.int64(box[3] - box[1] + 1)
