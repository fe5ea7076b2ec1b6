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


def connected_runs(mask: NDArray[np.uint8]) -> tuple[Runs, Indices, int]:
    """Runs of ones, and the region each belongs to.

    Parameters
    ----------
    mask
        (H, W) uint8 of 0 and 1.

    Returns
    -------
    tuple
        The runs; for each run the index of its region, regions being numbered from 0 in raster order of their
        first pixel; the number of regions.
    """
    runs, n_of_row = _find_runs(mask, np.uint8(1))
    return runs, *_number_regions(_unite(runs, n_of_row), runs.row.size)


def enclosed_runs(mask: NDArray[np.uint8]) -> Runs:
    """Runs of zeros that have no 4-connected path of zeros to the edge of the image: the holes."""
    runs, n_of_row = _find_runs(mask, np.uint8(0))
    inside = _are_enclosed(runs, _unite(runs, n_of_row), *mask.shape)
    return Runs(runs.row[inside], runs.start[inside], runs.stop[inside])


@kernel
def runs_of_labels(labels: NDArray[np.uint16]) -> tuple[Runs, Indices]:
    """Runs of equal non-zero labels in an image (H, W), and the label of each run minus one."""
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
def _find_runs(mask: NDArray[np.uint8], value: Any) -> tuple[Runs, Indices]:  # noqa: ANN401 - a NumPy scalar
    """Runs of one value, and how many there are in each row."""
    height, width = mask.shape
    capacity = 4096
    row, start, stop = (
        np.empty(capacity, np.int32),
        np.empty(capacity, np.int32),
        np.empty(capacity, np.int32),
    )
    n_of_row = np.zeros(height, np.int32)
    n = 0
    for y in range(height):
        if n + width // 2 + 1 > capacity:
            capacity = 2 * capacity + width
            row, start, stop = _grown(row, capacity), _grown(start, capacity), _grown(stop, capacity)
        line = mask[y]
        before = n
        x = 0
        while x < width:
            while x < width and line[x] != value:
                x += 1
            if x == width:
                break
            row[n], start[n] = y, x
            while x < width and line[x] == value:
                x += 1
            stop[n] = x
            n += 1
        n_of_row[y] = n - before
    return Runs(row[:n].copy(), start[:n].copy(), stop[:n].copy()), n_of_row


@kernel
def _grown(values: Indices, capacity: int) -> Indices:
    larger = np.empty(capacity, np.int32)
    larger[: values.size] = values
    return larger


@kernel
def _unite(runs: Runs, n_of_row: Indices) -> Indices:
    """For each run a run of the same region at or before it; the region's first run points at itself."""
    parent = np.arange(runs.row.size).astype(np.int32)
    above, here = 0, 0
    for y in range(1, n_of_row.size):
        above_stop = here + n_of_row[y - 1]
        above, here = here, above_stop
        here_stop = here + n_of_row[y]
        i, j = above, here
        while i < above_stop and j < here_stop:
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
def _number_regions(parent: Indices, n_runs: int) -> tuple[Indices, int]:
    """Index of each run's region, in the order of the regions' first runs; how many there are."""
    region = np.empty(n_runs, np.int32)
    n = 0
    for run in range(n_runs):
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
    enclosed = np.ones(n, np.bool_)
    for run in range(n):
        row = runs.row[run]
        if row == 0 or row == height - 1 or runs.start[run] == 0 or runs.stop[run] == width:
            enclosed[_root(parent, run)] = False
    for run in range(n):
        enclosed[run] = enclosed[_root(parent, run)]
    return enclosed
