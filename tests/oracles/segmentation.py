"""Oracle of log-STD segmentation: one phase image to the mask of its cells."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tasks.errors import ProcessingError
from tests.oracles.squares import Mask, dilated, eroded

Image = NDArray[Any]
Arithmetic = Literal["float32", "exact"]

N_BINS = 200
SQUARE = 19
"""Side of a 7 x 7 square that is applied three times."""


def mean_of_three(values: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Mean of each value and its two neighbours along an axis: summed in double, rounded to float32."""
    width = [(0, 0), (0, 0)]
    width[axis] = (1, 1)
    padded = np.pad(values.astype(np.float64), width, mode="edge")
    n = values.shape[axis]
    before, here, after = (padded.take(range(start, start + n), axis) for start in range(3))
    return ((before + here + after) / 3).astype(np.float32)


def window_mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean over 3 x 3 pixels in two passes: over rows, then over columns."""
    return mean_of_three(mean_of_three(values, axis=0), axis=1)


def float32_variance(image: Image) -> NDArray[np.float32]:
    """Local variance with the rounding that is part of the method."""
    x = image.astype(np.float32)
    mean, mean_of_squares = window_mean(x), window_mean(x * x)
    return mean_of_squares - mean * mean


def exact_variance(image: Image) -> NDArray[np.float64]:
    """Local variance from sums that are exact for whole numbers: `(9 sum(x^2) - sum(x)^2) / 81`."""
    wide = image.astype(np.int64 if np.issubdtype(image.dtype, np.integer) else np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(wide, 1, mode="edge"), (3, 3))
    return np.asarray((9 * (windows**2).sum(axis=(2, 3)) - windows.sum(axis=(2, 3)) ** 2) / 81, dtype=np.float64)


def local_variance(image: Image, arithmetic: Arithmetic = "float32") -> NDArray[np.floating]:
    """Variance in a 3 x 3 window whose outside repeats the edge."""
    if not np.isfinite(image).all():
        raise ProcessingError("a pixel is not finite")
    return float32_variance(image) if arithmetic == "float32" else exact_variance(image)


def log_std(variance: NDArray[np.floating]) -> NDArray[np.float64]:
    """Natural logarithm of the standard deviation; 0 where the variance is not positive."""
    values = np.zeros(variance.shape)
    positive = variance > 0
    values[positive] = 0.5 * np.log(variance[positive].astype(np.float64))
    return values


def threshold(values: NDArray[np.float64]) -> float:
    """Mode of the histogram plus three standard deviations of the values up to the mode; infinite if all are equal."""
    if values.min() == values.max():
        return np.inf
    counts, edges = np.histogram(values, bins=N_BINS)
    fullest = int(np.argmax(counts))
    mode = (edges[fullest] + edges[fullest + 1]) / 2
    sigma = values[values <= mode].std()
    return float(mode + 3 * sigma)


def foreground(image: Image, arithmetic: Arithmetic = "float32") -> Mask:
    """Pixels whose surroundings vary more than the background does."""
    values = log_std(local_variance(image, arithmetic))
    return values > threshold(values)


def fill_holes(mask: NDArray[Any]) -> Mask:
    """Fill the background that is not 4-connected to the outside of the image."""
    outside_and_holes, _ = ndimage.label(~np.pad(mask.astype(bool), 1))
    return np.asarray(outside_and_holes != outside_and_holes[0, 0])[1:-1, 1:-1]


def clean(mask: NDArray[Any]) -> Mask:
    """Fill holes, then open, then close."""
    opened = dilated(eroded(fill_holes(mask), SQUARE), SQUARE)
    return eroded(dilated(opened, SQUARE), SQUARE)


def segment(image: Image, arithmetic: Arithmetic = "float32") -> Mask:
    """Mask of the cells in a phase image."""
    return clean(foreground(image, arithmetic))
