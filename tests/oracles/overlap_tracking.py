"""Oracle of tracking by overlap, for one step without divisions: every pair looked at, every assignment allowed."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment


def scores(before: NDArray[Any], after: NDArray[Any], reach: float) -> NDArray[np.float64]:
    """Score of each region of one label image with each of another, 0 where they cannot be the same."""
    first, second = (
        [labels == number for number in range(1, int(labels.max(initial=0)) + 1)] for labels in (before, after)
    )
    table = np.zeros((len(first), len(second)))
    for i, one in enumerate(first):
        for j, other in enumerate(second):
            shared = (one & other).sum()
            radius = np.sqrt(max(one.sum(), other.sum()) / np.pi)
            way = np.linalg.norm(np.argwhere(one).mean(axis=0) - np.argwhere(other).mean(axis=0))
            if shared:
                table[i, j] = 0.5 * (1 + shared / (one | other).sum())
            elif way < reach * radius:
                table[i, j] = 0.5 * (1 - way / (reach * radius))
    return table


def best_sum(table: NDArray[np.float64]) -> float:
    """Largest sum of scores of a one-to-one assignment."""
    return float(table[linear_sum_assignment(table, maximize=True)].sum())


def moved(image: NDArray[Any], dy: int, dx: int) -> NDArray[Any]:
    """Move an image, pixel by pixel."""
    result = np.zeros_like(image)
    for y, x in np.ndindex(image.shape):
        if 0 <= y + dy < image.shape[0] and 0 <= x + dx < image.shape[1]:
            result[y + dy, x + dx] = image[y, x]
    return result
