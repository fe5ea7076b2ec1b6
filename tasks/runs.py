"""Runs: the horizontal stretches of equal pixels that connected regions are made of.

Labelling, hole filling, painting and summing all work on runs, of which a frame has a few thousand, rather than on
its millions of pixels. Two runs are connected where they lie in adjacent rows and share a column (4-connectivity).
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.kernel import kernel

Indices = NDArray[np.int32]


class Runs(NamedTuple):
    """Stretches of pixels in raster order; run i covers `row[i], start[i] <= x < stop[i]`."""

    row: Indices
    start: Indices
    stop: Indices


def connected_runs(runs: Runs, first_of_row: Indices) -> tuple[Indices, int]:
    """Group runs into regions.

    Parameters
    ----------
    runs
        Runs of one mask, in raster order.
    first_of_row
        (H + 1) where the runs of each row begin among them.

    Returns
    -------
    tuple
        For each run the index of its region, regions being numbered from 0 in raster order of their first pixel;
        and the number of regions.
    """
    return _number_regions(_unite(runs, first_of_row))


def enclosed_runs(runs: Runs, first_of_row: Indices, width: int) -> Runs:
    """Those runs whose region does not touch the edge of the image."""
    inside = _are_enclosed(runs, _unite(runs, first_of_row), len(first_of_row) - 1, width)
    return Runs(runs.row[inside], runs.start[inside], runs.stop[inside])


@kernel
def runs_of_labels(labels: NDArray[Any]) -> tuple[Runs, Indices]:
    """Runs of equal non-zero labels in an image (H, W) of whole numbers, and the label of each run minus one."""
    height, width = labels.shape
    n = 0
    for y in range(height):
        for x in range(width):
            n += labels[y, x] != 0 and (x == 0 or labels[y, x - 1] != labels[y, x])
    row, start, stop = np.empty(n, np.int32), np.empty(n, np.int32), np.empty(n, np.int32)
    region = np.empty(n, np.int32)
    n = 0
    for y in range(height):
        x = 0
        while x < width:
            label = labels[y, x]
            first = x
            while x < width and labels[y, x] == label:
                x += 1
            if label != 0:
                row[n], start[n], stop[n], region[n] = y, first, x, label - 1
                n += 1
    return Runs(row, start, stop), region


@kernel
def paint(runs: Runs, values: NDArray[np.uint16], image: NDArray[np.uint16]) -> None:
    """Give each run its value in an image (H, W); the rest stays as it is."""
    for run in range(runs.row.size):
        line = image[runs.row[run]]
        for x in range(runs.start[run], runs.stop[run]):
            line[x] = values[run]


@kernel
def _unite(runs: Runs, first_of_row: Indices) -> Indices:
    """For each run a run of the same region at or before it; the region's first run points at itself."""
    parent = np.empty(runs.row.size, np.int32)
    for run in range(parent.size):
        parent[run] = run
    for y in range(1, first_of_row.size - 1):
        i, j = first_of_row[y - 1], first_of_row[y]
        while i < first_of_row[y] and j < first_of_row[y + 1]:
            if runs.start[i] < runs.stop[j] and runs.start[j] < runs.stop[i]:
                a, b = _root(parent, i), _root(parent, j)
                # The smaller index is the earlier run: the root stays the region's first run.
                if a < b:
                    parent[b] = a
                else:
                    parent[a] = b
            if runs.stop[i] < runs.stop[j]:
                i += 1
            else:
                j += 1
    return parent


@kernel
def _root(parent: Indices, run: int) -> int:
    while parent[run] != run:
        parent[run] = parent[parent[run]]
        run = parent[run]
    return run


@kernel
def _number_regions(parent: Indices) -> tuple[Indices, int]:
    """Index of each run's region, in the order of the regions' first runs; how many there are."""
    region = np.empty(parent.size, np.int32)
    n = 0
    for run in range(parent.size):
        root = _root(parent, run)
        if root == run:
            region[run] = n
            n += 1
        else:
            region[run] = region[root]
    return region, n


@kernel
def _are_enclosed(runs: Runs, parent: Indices, height: int, width: int) -> NDArray[np.bool_]:
    """Tell for each run whether its region stays away from the edge of the image."""
    n = runs.row.size
    enclosed = np.empty(n, np.bool_)
    for run in range(n):
        enclosed[run] = True
    for run in range(n):
        row = runs.row[run]
        if row == 0 or row == height - 1 or runs.start[run] == 0 or runs.stop[run] == width:
            enclosed[_root(parent, run)] = False
    for run in range(n):
        enclosed[run] = enclosed[_root(parent, run)]
    return enclosed
