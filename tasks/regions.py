"""The connected regions of one frame: their geometry, their label image, and sums over them."""

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.background import Surface
from tasks.bitmask import Bitmask
from tasks.errors import ProcessingError
from tasks.features import Intensities, Regions
from tasks.kernel import kernel
from tasks.runs import Indices, Runs, connected_runs, paint, runs_of_labels

MOST_LABELS = int(np.iinfo(np.uint16).max)
"""Label images are uint16."""

_SQRT2 = np.sqrt(2.0)


@dataclass(frozen=True)
class LabelledFrame:
    """The regions of one frame, and the runs of pixels they are made of."""

    height: int
    width: int
    regions: Regions
    runs: Runs
    region_of_run: Indices

    def __len__(self) -> int:
        return len(self.regions.area)

    def paint(self, values: NDArray[np.integer[Any]], out: NDArray[np.uint16] | None = None) -> NDArray[np.uint16]:
        """Image (H, W) uint16 in which each region has its value and the background is 0."""
        image = np.empty((self.height, self.width), np.uint16) if out is None else out
        image.fill(0)
        paint(self.runs, values.astype(np.uint16)[self.region_of_run], image)
        return image

    def paint_labels(self, out: NDArray[np.uint16] | None = None) -> NDArray[np.uint16]:
        """Image (H, W) uint16 of the labels 1, 2, ... in raster order of the regions' first pixels."""
        return self.paint(np.arange(1, len(self) + 1), out)

    def eroded(self, size: int) -> "LabelledFrame":
        """The same regions, of which only those pixels are left around which a square of `2 size + 1` is inside.

        Their geometry stays that of the whole regions.
        """
        if size == 0:
            return self
        square = np.ones((2 * size + 1, 2 * size + 1), np.uint8)
        labels = self.paint_labels()
        smallest = cv2.erode(labels, square, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        largest = cv2.dilate(labels, square, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        runs, region_of_run = runs_of_labels(np.where(smallest == largest, labels, np.uint16(0)))
        return replace(self, runs=runs, region_of_run=region_of_run)


def find_regions(
    mask: Bitmask,
    min_area: int | None = None,
    max_area: int | None = None,
    *,
    with_perimeter: bool = False,
) -> LabelledFrame:
    """Label a mask with 4-connectivity and measure the geometry of its regions.

    Parameters
    ----------
    mask
        (H, W), set in cells.
    min_area, max_area
        Smallest and largest region that counts, inclusive, in pixels.
    with_perimeter
        Whether the perimeters are measured; they are NaN otherwise.

    Raises
    ------
    ProcessingError
        For more regions than a uint16 label image can tell apart.
    """
    runs, first_of_row = mask.runs()
    region_of_run, n = connected_runs(runs, first_of_row)
    return _measured(mask.shape, runs, region_of_run, n, min_area, max_area, with_perimeter)


def labelled_regions(
    labels: NDArray[np.integer[Any]],
    min_area: int | None = None,
    max_area: int | None = None,
    *,
    with_perimeter: bool = False,
) -> LabelledFrame:
    """Measure the geometry of regions that are labelled already, touching or not.

    Parameters
    ----------
    labels
        (H, W) whole numbers, 0 for background; any others, in any order. Pixels of one label are one region, connected
        or not.

    Other parameters and errors are as of `find_regions`; regions are in raster order of their first pixels.
    """
    runs, label_of_run = runs_of_labels(labels)
    # Numbers in the order in which labels first occur, which is raster order.
    _, first, label = np.unique(label_of_run, return_index=True, return_inverse=True)
    number = np.empty(len(first), np.int32)
    number[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    shape = (labels.shape[0], labels.shape[1])
    return _measured(shape, runs, number[label], len(first), min_area, max_area, with_perimeter)


def _measured(
    shape: tuple[int, int],
    runs: Runs,
    region_of_run: Indices,
    n: int,
    min_area: int | None,
    max_area: int | None,
    with_perimeter: bool,
) -> LabelledFrame:
    """Leave out regions that are too small or too large, and measure the others."""
    area = _areas(runs, region_of_run, n)
    counts = np.ones(n, np.bool_)
    if min_area is not None:
        counts &= area >= min_area
    if max_area is not None:
        counts &= area <= max_area
    if not counts.all():
        runs, region_of_run, n = _select(runs, region_of_run, counts)
    if n > MOST_LABELS:
        raise ProcessingError(
            f"{n} regions in one frame, but label images can hold {MOST_LABELS}; set min_area to leave out specks"
        )
    frame = LabelledFrame(*shape, _geometry(runs, region_of_run, n), runs, region_of_run)
    if with_perimeter:
        _perimeters(frame.paint_labels(), runs, region_of_run, frame.regions.perimeter)
    return frame


def measure(
    frame: LabelledFrame,
    image: NDArray[Any],
    background: Surface,
    *,
    weight: float = 1.0,
    pixelwise: bool = False,
) -> Intensities:
    """Sum the background-corrected intensity `image - weight * background` over each region.

    The background's sum over a region needs only the surface's tile values and the place of the region, so it is
    computed from those in double precision, whether the surface is kept or not.

    Parameters
    ----------
    image
        (H, W) of any real dtype, in counts.
    background
        The image's background surface.
    weight
        Share of the background that is subtracted, 0 to 1.
    pixelwise
        Whether deviation and maximum are measured, which look at every pixel's own background.

    Raises
    ------
    ProcessingError
        For a non-finite pixel.
    """
    runs, region_of_run, n = frame.runs, frame.region_of_run, len(frame)
    area = _areas(runs, region_of_run, n)
    raw = np.zeros(n, np.float64)
    behind = np.zeros(n, np.float64)
    rows, columns = background.row_weights, background.grid.column_matrix
    _sum_runs(image, runs, region_of_run, rows, background.grid.column_sums, raw, behind)
    total = raw - weight * behind
    deviation, maximum = np.full(n, np.nan), np.full(n, np.nan)
    if pixelwise:
        mean = total / np.maximum(area, 1)
        deviation[area > 0], maximum[area > 0] = 0.0, -np.inf
        _compare_pixels(image, runs, region_of_run, rows, columns, weight, mean, deviation, maximum)
    return Intensities(area, total, deviation, maximum)


def _select(runs: Runs, region_of_run: Indices, counts: NDArray[np.bool_]) -> tuple[Runs, Indices, int]:
    """Leave out regions and number the others anew."""
    number = (np.cumsum(counts) - 1).astype(np.int32)
    there = counts[region_of_run]
    left = Runs(runs.row[there], runs.start[there], runs.stop[there])
    return left, number[region_of_run[there]], int(counts.sum())


@kernel
def _areas(runs: Runs, region_of_run: Indices, n: int) -> NDArray[np.int64]:
    area = np.zeros(n, np.int64)
    for run in range(region_of_run.size):
        area[region_of_run[run]] += runs.stop[run] - runs.start[run]
    return area


@kernel
def _geometry(runs: Runs, region_of_run: Indices, n: int) -> Regions:
    """Areas, boxes, centroids and second moments in closed form from the runs."""
    area = np.zeros(n, np.int64)
    boxes = np.empty((n, 4), np.int32)
    # Whole-number sums relative to each region's first pixel: exact, and small enough for any image.
    x_origin, y_origin = np.zeros(n, np.int64), np.zeros(n, np.int64)
    sums = np.zeros((n, 5), np.int64)
    for i in range(region_of_run.size):
        r, y, start, stop = region_of_run[i], runs.row[i], runs.start[i], runs.stop[i]
        if area[r] == 0:
            x_origin[r], y_origin[r] = start, y
            boxes[r, 0], boxes[r, 1], boxes[r, 2], boxes[r, 3] = start, y, stop - 1, y
        boxes[r, 0] = min(boxes[r, 0], start)
        boxes[r, 2] = max(boxes[r, 2], stop - 1)
        boxes[r, 3] = y
        length = np.int64(stop - start)
        first, last = np.int64(start) - x_origin[r], np.int64(stop) - 1 - x_origin[r]
        dy = np.int64(y) - y_origin[r]
        sum_x = (first + last) * length // 2
        # Sum of squares of whole numbers from first to last: around the middle, then shifted.
        sum_xx = (length * (length * length - 1) + 3 * length * (first + last) * (first + last)) // 12
        area[r] += length
        sums[r, 0] += sum_x
        sums[r, 1] += dy * length
        sums[r, 2] += sum_xx
        sums[r, 3] += dy * dy * length
        sums[r, 4] += dy * sum_x
    centroids = np.empty((n, 2), np.float64)
    moments = np.empty((n, 3), np.float64)
    for r in range(n):
        # Shifting by the rounded centroid leaves corrections below one pixel, so nothing cancels.
        cx, cy = sums[r, 0] // area[r], sums[r, 1] // area[r]
        dx = (sums[r, 0] - cx * area[r]) / area[r]
        dy_ = (sums[r, 1] - cy * area[r]) / area[r]
        centroids[r, 0], centroids[r, 1] = x_origin[r] + cx + dx, y_origin[r] + cy + dy_
        xx = sums[r, 2] - 2 * cx * sums[r, 0] + cx * cx * area[r]
        yy = sums[r, 3] - 2 * cy * sums[r, 1] + cy * cy * area[r]
        xy = sums[r, 4] - cx * sums[r, 1] - cy * sums[r, 0] + cx * cy * area[r]
        moments[r, 0] = xx / area[r] - dx * dx
        moments[r, 1] = yy / area[r] - dy_ * dy_
        moments[r, 2] = xy / area[r] - dx * dy_
    perimeter = np.empty(n, np.float64)
    for r in range(n):
        perimeter[r] = np.nan
    return Regions(area, boxes, centroids, moments, perimeter)


@kernel
def _perimeters(labels: NDArray[np.uint16], runs: Runs, region_of_run: Indices, perimeter: NDArray[np.float64]) -> None:
    """Length of each region's outline: its border pixels, weighed by how they touch each other.

    Weights after Benkrid and Crookes (2000), as in scikit-image with a 4-connected neighbourhood: a border pixel
    counts 1 on a straight piece, sqrt 2 on a diagonal one, and their mean where a straight piece meets a diagonal.
    """
    height, width = labels.shape
    border = np.zeros((height + 2, width + 2), np.uint16)
    for i in range(region_of_run.size):
        y = runs.row[i]
        for x in range(runs.start[i], runs.stop[i]):
            label = labels[y, x]
            inside = (
                0 < y < height - 1
                and 0 < x < width - 1
                and labels[y - 1, x] == label
                and labels[y + 1, x] == label
                and labels[y, x - 1] == label
                and labels[y, x + 1] == label
            )
            if not inside:
                border[y + 1, x + 1] = label
    for r in range(perimeter.size):
        perimeter[r] = 0.0
    for i in range(region_of_run.size):
        y = runs.row[i] + 1
        for x in range(runs.start[i] + 1, runs.stop[i] + 1):
            label = border[y, x]
            if label == 0:
                continue
            straight = (
                int(border[y - 1, x] == label)
                + int(border[y + 1, x] == label)
                + int(border[y, x - 1] == label)
                + int(border[y, x + 1] == label)
            )
            diagonal = (
                int(border[y - 1, x - 1] == label)
                + int(border[y - 1, x + 1] == label)
                + int(border[y + 1, x - 1] == label)
                + int(border[y + 1, x + 1] == label)
            )
            code = 1 + 2 * straight + 10 * diagonal
            if code in (5, 7, 15, 17, 25, 27):
                perimeter[region_of_run[i]] += 1.0
            elif code in (21, 33):
                perimeter[region_of_run[i]] += _SQRT2
            elif code in (13, 23):
                perimeter[region_of_run[i]] += (1.0 + _SQRT2) / 2.0


@kernel
def _sum_runs(
    image: NDArray[Any],
    runs: Runs,
    region_of_run: Indices,
    row_weights: NDArray[np.float64],
    column_sums: NDArray[np.float64],
    raw: NDArray[np.float64],
    background: NDArray[np.float64],
) -> None:
    n_tiles = row_weights.shape[1]
    for i in range(region_of_run.size):
        y, start, stop, r = runs.row[i], runs.start[i], runs.stop[i], region_of_run[i]
        total = 0.0
        for x in range(start, stop):
            total += image[y, x]
        raw[r] += total
        behind = 0.0
        for j in range(n_tiles):
            behind += row_weights[y, j] * (column_sums[stop, j] - column_sums[start, j])
        background[r] += behind


@kernel
def _compare_pixels(
    image: NDArray[Any],
    runs: Runs,
    region_of_run: Indices,
    row_weights: NDArray[np.float64],
    column_matrix: NDArray[np.float64],
    weight: float,
    mean: NDArray[np.float64],
    squared_deviation: NDArray[np.float64],
    maximum: NDArray[np.float64],
) -> None:
    n_tiles = row_weights.shape[1]
    for i in range(region_of_run.size):
        y, r = runs.row[i], region_of_run[i]
        for x in range(runs.start[i], runs.stop[i]):
            behind = 0.0
            for j in range(n_tiles):
                behind += row_weights[y, j] * column_matrix[x, j]
            value = image[y, x] - weight * behind
            squared_deviation[r] += (value - mean[r]) ** 2
            maximum[r] = max(maximum[r], value)
