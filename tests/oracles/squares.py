"""Erosion and dilation of masks by a square; outside the image is background.

SciPy's morphology is left alone here: iterated on images smaller than its structuring element, it writes beyond its
buffers.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


def neighbourhoods(mask: NDArray[Any], side: int, axis: int) -> Mask:
    """Each pixel's neighbourhood along an axis, as a last axis of the given odd length."""
    width = [(0, 0), (0, 0)]
    width[axis] = (side // 2, side // 2)
    return np.lib.stride_tricks.sliding_window_view(np.pad(mask.astype(bool), width), side, axis=axis)


def eroded(mask: NDArray[Any], side: int) -> Mask:
    """Pixels around which the whole square is foreground."""
    columns = np.all(neighbourhoods(mask, side, axis=0), axis=-1)
    return np.asarray(np.all(neighbourhoods(columns, side, axis=1), axis=-1))


def dilated(mask: NDArray[Any], side: int) -> Mask:
    """Pixels around which any of the square is foreground."""
    columns = np.any(neighbourhoods(mask, side, axis=0), axis=-1)
    return np.asarray(np.any(neighbourhoods(columns, side, axis=1), axis=-1))
