"""Log-STD segmentation of one phase-contrast frame.

A cell is where the local standard deviation is high: the logarithm of the deviation in a 3 x 3 window is compared
with the mode of its histogram, the mode being background. The method and its float32 rounding are PyAMA's
(LMU Munich), so that masks agree pixel by pixel.

The logarithm is monotonic and every variance is a floating-point number, so no image of logarithms is made: each
limit on the logarithm is translated, exactly, into the smallest variance that reaches it, and pixels are compared
with that.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.bitmask import Bitmask
from tasks.configuration import LogStdArithmetic
from tasks.images import check_finite
from tasks.kernel import kernel
from tasks.runs import enclosed_runs
from tasks.scratch import scratch

N_BINS = 200
"""Bins of the histogram of log-STD."""
N_SIGMAS = 3.0
"""Foreground lies more than this many standard deviations above the mode."""
MORPHOLOGY_RADIUS = 9
"""The square of opening and closing is 19 x 19: a 7 x 7 square, iterated three times."""

_MOST_COUNTS = 1e18
"""Squares of larger values overflow float32."""
_CELL_BITS = 12
"""Leading bits of a variance by which its bin is looked up: cells far narrower than bins, in a small table."""
_LOG_BITS = 10
_STEP = 2.0**-23
"""Distance of neighbouring float32 numbers in [1, 2)."""
_LOG_CENTRES = 1.0 + (np.arange(1 << _LOG_BITS) + 0.5) / (1 << _LOG_BITS)
_LOG_TABLE = np.stack([1.0 / _LOG_CENTRES, np.log(_LOG_CENTRES)], axis=1)
"""Reciprocals and logarithms of numbers spread over [1, 2), from which those between are expanded in a series."""


def segment(image: NDArray[Any], arithmetic: LogStdArithmetic = "float32") -> Bitmask:
    """Find the cells of a phase-contrast image.

    Parameters
    ----------
    image
        (H, W), any real dtype.
    arithmetic
        `float32` rounds as PyAMA does; `exact` keeps the variance of bright, flat images free of cancellation.

    Returns
    -------
    Bitmask
        (H, W), set in cells.

    Raises
    ------
    ProcessingError
        For a pixel that is not finite, or beyond 1e18.
    """
    return clean(foreground(image, arithmetic))


def foreground(image: NDArray[Any], arithmetic: LogStdArithmetic = "float32") -> Bitmask:
    """Mark the pixels whose log-STD is above the mode of the image by more than three standard deviations."""
    dtype = np.float32 if arithmetic == "float32" else np.float64
    variance = local_variance(image, arithmetic, out=scratch("variance", image.shape, dtype))
    return Bitmask.at_least(variance, foreground_variance(variance))


def local_variance(
    image: NDArray[Any], arithmetic: LogStdArithmetic = "float32", out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Variance in the 3 x 3 window around each pixel, the image's edges replicated.

    Where rounding makes it 0 or negative it is set to 1, whose logarithm is the 0 that the method prescribes.

    Returns
    -------
    NDArray
        (H, W) float32, or float64 for `exact` arithmetic; in squared counts.
    """
    check_finite(image, most=_MOST_COUNTS)
    single = arithmetic == "float32"
    if out is None:
        out = np.empty(image.shape, np.float32 if single else np.float64)
    if single:
        _variance_float32(image, out)
    else:
        _variance_exact(image, out)
    return out


def foreground_variance(variance: NDArray[Any]) -> float:
    """Smallest variance that counts as foreground; infinite for a constant image, which has none.

    Parameters
    ----------
    variance
        (H, W) float32 or float64, positive.
    """
    bits = _bits(variance)
    extremes = np.array(_extremes(bits), bits.dtype)
    first, last = _log_std(extremes.view(variance.dtype))
    if first == last:
        return np.inf
    dtype = variance.dtype
    edges = np.linspace(first, last, N_BINS + 1)
    bounds = _smallest_above(edges[1:-1], dtype, inclusive=True)
    fullest = _fullest_bin(bits, int(extremes[0]), int(extremes[1]), _bits(bounds))
    mode = (edges[fullest] + edges[fullest + 1]) / 2
    below_mode = _smallest_above(np.array([mode]), dtype)
    if dtype == np.float32:
        sigma = _deviation_below_float32(bits, _bits(below_mode)[0], mode, _LOG_TABLE)
    else:
        sigma = _deviation_below(variance, below_mode[0], mode)
    return float(_smallest_above(np.array([mode + N_SIGMAS * sigma]), dtype)[0])


def clean(mask: Bitmask) -> Bitmask:
    """Fill holes, remove specks and bays smaller than the 19 x 19 square (opening, then closing)."""
    # The dilation that ends the opening and the one that begins the closing are one.
    return fill_holes(mask).eroded(MORPHOLOGY_RADIUS).dilated(2 * MORPHOLOGY_RADIUS).eroded(MORPHOLOGY_RADIUS)


def fill_holes(mask: Bitmask) -> Bitmask:
    """Fill every patch of background that has no 4-connected path to the edge of the image."""
    return mask.with_runs(enclosed_runs(*mask.gaps(), mask.width))


def _log_std(variance: float | NDArray[Any]) -> Any:  # noqa: ANN401 - a number for a number, an array for an array
    """Logarithm of the standard deviation, from the variance."""
    return 0.5 * np.log(np.asarray(variance, np.float64))


def _smallest_above(limits: NDArray[np.float64], dtype: np.dtype[Any], *, inclusive: bool = False) -> NDArray[Any]:
    """For each limit, the smallest variance of the dtype whose log-STD is above it (or equal, if inclusive)."""

    def reaches(variance: NDArray[Any]) -> NDArray[np.bool_]:
        return _log_std(variance) >= limits if inclusive else _log_std(variance) > limits  # type: ignore[no-any-return]

    # The exponential is off by a few units in the last place at most; walk from there.
    variance = np.exp(2.0 * limits).astype(dtype)
    while (short := ~reaches(variance)).any():
        variance[short] = np.nextafter(variance[short], dtype.type(np.inf))
    while (spare := reaches(lower := np.nextafter(variance, dtype.type(0)))).any():
        variance[spare] = lower[spare]
    return variance


def _bits(variance: NDArray[Any]) -> NDArray[Any]:
    """The same memory as whole numbers, which are ordered as the positive floating-point numbers are."""
    return variance.view(np.int32 if variance.dtype == np.float32 else np.int64)


def _fullest_bin(bits: NDArray[Any], low: int, high: int, bounds: NDArray[Any]) -> int:
    """Index of the histogram's fullest bin, the lowest of equally full ones.

    Parameters
    ----------
    bits
        (H, W) variances by their bits; `low` and `high` are the smallest and the largest.
    bounds
        (N_BINS - 1) bits of the smallest variance of each bin but the first.
    """
    # The leading bits of a variance give its bin, or one of the bins before it where a bound cuts that cell.
    shift = max((high - low).bit_length() - _CELL_BITS, 0)
    cells = low + (np.arange(((high - low) >> shift) + 1) << shift)
    first_bin = np.searchsorted(bounds, cells, side="right").astype(np.uint8)
    return int(np.argmax(_count_bins(bits, low, shift, first_bin, np.append(bounds, high + 1))))


@kernel
def _variance_float32(image: NDArray[Any], variance: NDArray[np.float32]) -> None:
    """Mean of squares minus square of the mean; rows first, then columns, each rounded to float32."""
    height, width = image.shape
    # One value of padding on each side replicates the edge.
    means = np.empty(width + 2, np.float32)
    squares = np.empty(width + 2, np.float32)
    for y in range(height):
        above, here, below = image[max(y - 1, 0)], image[y], image[min(y + 1, height - 1)]
        for x in range(width):
            a, b, c = np.float32(above[x]), np.float32(here[x]), np.float32(below[x])
            means[x + 1] = np.float32((np.float64(a) + np.float64(b) + np.float64(c)) / 3.0)
            squares[x + 1] = np.float32((np.float64(a * a) + np.float64(b * b) + np.float64(c * c)) / 3.0)
        means[0], means[width + 1] = means[1], means[width]
        squares[0], squares[width + 1] = squares[1], squares[width]
        row = variance[y]
        for x in range(width):
            m = np.float32((np.float64(means[x]) + np.float64(means[x + 1]) + np.float64(means[x + 2])) / 3.0)
            q = np.float32((np.float64(squares[x]) + np.float64(squares[x + 1]) + np.float64(squares[x + 2])) / 3.0)
            v = q - m * m
            row[x] = v if v > np.float32(0.0) else np.float32(1.0)


@kernel
def _variance_exact(image: NDArray[Any], variance: NDArray[np.float64]) -> None:
    """Mean squared deviation from the window's mean, in double precision: exact sums for images of integers."""
    height, width = image.shape
    window = np.empty(9, np.float64)
    for y in range(height):
        for x in range(width):
            centre = np.float64(image[y, x])
            total = squares = 0.0
            i = 0
            for dy in range(-1, 2):
                row = image[min(max(y + dy, 0), height - 1)]
                for dx in range(-1, 2):
                    window[i] = np.float64(row[min(max(x + dx, 0), width - 1)]) - centre
                    total += window[i]
                    squares += window[i] * window[i]
                    i += 1
            v = (9.0 * squares - total * total) / 81.0
            variance[y, x] = v if v > 0.0 else 1.0


@kernel
def _extremes(values: NDArray[Any]) -> tuple[Any, Any]:
    low = high = values[0, 0]
    for row in values:
        for value in row:
            low = min(low, value)
            high = max(high, value)
    return low, high


@kernel
def _count_bins(
    bits: NDArray[Any], low: int, shift: int, first_bin: NDArray[np.uint8], bounds: NDArray[Any]
) -> NDArray[np.int64]:
    counts = np.zeros(bounds.size, np.int64)
    for row in bits:
        for b in row:
            i = first_bin[(b - low) >> shift]
            while b >= bounds[i]:
                i += 1
            counts[i] += 1
    return counts


@kernel
def _deviation_below(variance: NDArray[np.float64], bound: float, mode: float) -> float:
    """Population standard deviation of log-STD over the pixels whose variance is below the bound."""
    n = 0
    total = squares = 0.0
    for row in variance:
        for v in row:
            if v < bound:
                deviation = 0.5 * np.log(v) - mode
                n += 1
                total += deviation
                squares += deviation * deviation
    mean = total / n
    return np.sqrt(max(squares / n - mean * mean, 0.0))  # type: ignore[no-any-return]


@kernel
def _deviation_below_float32(bits: NDArray[np.int32], bound: int, mode: float, table: NDArray[np.float64]) -> float:
    """The same for float32 variances, given by their bits; logarithms to full double precision from a table."""
    log_2 = np.log(2.0)
    chosen = np.empty(bits.shape[1] + 1, np.int32)
    n = 0
    total = squares = 0.0
    for row in bits:
        # Choosing first, without a branch, spares the processor from guessing wrong at every other pixel.
        n_chosen = 0
        for b in row:
            chosen[n_chosen] = b
            n_chosen += b < bound
        n += n_chosen
        for i in range(n_chosen):
            b = chosen[i]
            fraction = b & 0x7FFFFF
            cell = fraction >> (23 - _LOG_BITS)
            # Relative distance to the centre of the cell, at most 2^-11: four terms of the series suffice.
            r = (1.0 + fraction * _STEP) * table[cell, 0] - 1.0
            log = ((b >> 23) - 127) * log_2 + table[cell, 1] + r * (1.0 - r * (1 / 2 - r * (1 / 3 - r * (1 / 4))))
            deviation = 0.5 * log - mode
            total += deviation
            squares += deviation * deviation
    mean = total / n
    return np.sqrt(max(squares / n - mean * mean, 0.0))  # type: ignore[no-any-return]
