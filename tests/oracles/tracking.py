"""Oracle of tracking: who is the same cell in consecutive frames."""

from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Pairs = list[tuple[int, int]]


def iou(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Pixels that two boxes share, over the pixels that are in either."""
    ax0, ay0, ax1, ay1 = (int(value) for value in a)
    bx0, by0, bx1, by1 = (int(value) for value in b)
    width = max(0, min(ax1, bx1) - max(ax0, bx0) + 1)
    height = max(0, min(ay1, by1) - max(ay0, by0) + 1)
    either = (ax1 - ax0 + 1) * (ay1 - ay0 + 1) + (bx1 - bx0 + 1) * (by1 - by0 + 1) - width * height
    return width * height / either


def box_iou(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """IoU of each box of one frame with each of the other, (n, m)."""
    return np.array([[iou(p, q) for q in b] for p in a], dtype=np.float64).reshape(len(a), len(b))


def costs(previous: NDArray[Any], boxes: NDArray[Any], min_iou: float) -> NDArray[np.float64]:
    """Cost of each pair: `1 - IoU`, and 1 for pairs that overlap too little."""
    overlap = box_iou(previous, boxes)
    return np.where(overlap >= min_iou, 1 - overlap, 1.0)


def match(previous: NDArray[Any], boxes: NDArray[Any], min_iou: float) -> Pairs:
    """Pairs of the one-to-one assignment of least cost, without those that overlap too little."""
    rows, columns = linear_sum_assignment(costs(previous, boxes, min_iou))
    overlap = box_iou(previous, boxes)
    return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if overlap[i, j] >= min_iou]


def least_cost(cost: NDArray[np.float64]) -> float:
    """Least sum of a one-to-one assignment of all rows or all columns, by trying all of them."""
    if cost.shape[0] > cost.shape[1]:
        cost = cost.T
    n, m = cost.shape
    return min(float(sum(cost[i, j] for i, j in enumerate(columns))) for columns in permutations(range(m), n))


def link(frames: list[NDArray[Any]], min_iou: float) -> list[NDArray[np.int64]]:
    """Cell number of each box of each frame; a box without a partner in the frame before starts a new cell."""
    numbers: list[NDArray[np.int64]] = []
    n_cells = 0
    previous = np.zeros((0, 4), dtype=np.int64)
    for boxes in frames:
        here = np.zeros(len(boxes), dtype=np.int64)
        for i, j in match(previous, boxes, min_iou):
            here[j] = numbers[-1][i]
        for j in range(len(boxes)):
            if here[j] == 0:
                n_cells += 1
                here[j] = n_cells
        numbers.append(here)
        previous = boxes
    return numbers
