"""Splitting a landscape, or a mask, into its hills: a watershed in which low saddles divide and high ones do not.

Pixels are taken from the highest to the lowest. One without a labelled neighbour begins a hill; any other joins that
of its highest neighbour; and where two hills meet, they stay two if the saddle is low against the lower of their
summits, and become one otherwise. Of a mask, the landscape is the distance to its outline: a summit is the radius of
the largest disc in a cell, a saddle half the width of a neck (Beucher and Lantuéjoul 1979; the criterion is that of
Najman and Schmitt 1996, relative to the summit, so that it holds for cells of any size).
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.kernel import kernel

_SMOOTHING_PX = 1.0
_FAR = 1e9
"""Distance to what is nowhere in the image."""


def split_mask(mask: NDArray[np.bool_], ratio: float, min_area: float = 0.0) -> NDArray[np.int32]:
    """Label the cells of a mask, and split those that touch.

    Parameters
    ----------
    mask
        (H, W), True in cells.
    ratio
        A neck divides where its half width is below this share of the radius on its thinner side; 0 splits nothing
        that is 8-connected.
    min_area
        Smallest part that is split off, in pixels above the saddle.

    Returns
    -------
    NDArray
        (H, W) int32 labels, 0 outside the mask, numbered in raster order of the cells' first pixels.
    """
    depth = distance_inside(mask)
    smooth = cv2.GaussianBlur(depth, (0, 0), _SMOOTHING_PX)
    return split_landscape(np.where(mask, np.maximum(smooth, 1e-6), 0), ratio, min_area)


def split_landscape(heights: NDArray[Any], ratio: float, min_area: float = 0.0) -> NDArray[np.int32]:
    """Label the hills of a landscape.

    Parameters
    ----------
    heights
        (H, W), positive on land; 0 or less is water, which gets no label.
    ratio
        Two hills stay two where `saddle < ratio * lower summit`.
    min_area
        Pixels above the saddle that either of them must have.

    Returns
    -------
    NDArray
        (H, W) int32 labels in raster order of first pixels. Pixels of equal height are taken in raster order.
    """
    values = np.ascontiguousarray(heights, np.float64)
    land = np.flatnonzero(values.reshape(-1) > 0)
    order = land[np.argsort(-values.reshape(-1)[land], kind="stable")]
    return _split(values, order, ratio, min_area)


def distance_inside(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Distance of each pixel to the nearest one that is not set; what lies outside the image is not known to be so."""
    if mask.all():
        return np.full(mask.shape, _FAR, np.float32)
    return cv2.distanceTransform(mask.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)  # type: ignore[return-value]


@kernel
def _split(heights: NDArray[np.float64], order: NDArray[np.int64], ratio: float, min_area: float) -> NDArray[np.int32]:
    height, width = heights.shape
    labels = np.zeros((height, width), np.int32)
    # Hills are numbered from 1; there are no more of them than pixels.
    parent = np.zeros(order.size + 1, np.int32)
    summit = np.zeros(order.size + 1, np.float64)
    area = np.zeros(order.size + 1, np.int64)
    n = 0
    neighbours = np.zeros(8, np.int32)
    for index in order:
        y, x = index // width, index % width
        here = heights[y, x]
        joined, joined_height, n_neighbours = 0, -1.0, 0
        for yy in range(max(y - 1, 0), min(y + 2, height)):
            for xx in range(max(x - 1, 0), min(x + 2, width)):
                if labels[yy, xx] == 0:
                    continue
                root = _root(parent, int(labels[yy, xx]))
                if heights[yy, xx] > joined_height:
                    joined, joined_height = root, heights[yy, xx]
                neighbours[n_neighbours] = root
                n_neighbours += 1
        if n_neighbours == 0:
            n += 1
            joined = n
            parent[n], summit[n] = n, here
        labels[y, x] = joined
        for i in range(n_neighbours):
            a, b = _root(parent, joined), _root(parent, int(neighbours[i]))
            if a == b:
                continue
            lower = min(summit[a], summit[b])
            if here >= ratio * lower or min(area[a], area[b]) < min_area:
                if summit[a] < summit[b]:
                    a, b = b, a
                parent[b] = a
                area[a] += area[b]
        area[_root(parent, joined)] += 1
    number = np.zeros(n + 1, np.int32)
    n_numbers = 0
    for y in range(height):
        for x in range(width):
            if labels[y, x]:
                root = _root(parent, int(labels[y, x]))
                if number[root] == 0:
                    n_numbers += 1
                    number[root] = n_numbers
                labels[y, x] = number[root]
    return labels


@kernel
def _root(parent: NDArray[np.int32], hill: int) -> int:
    while parent[hill] != hill:
        parent[hill] = parent[parent[hill]]
        hill = parent[hill]
    return hill
