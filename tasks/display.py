"""How images are made visible: counts as shades of grey, outlines of cells, and smaller images.

NumPy only, so that the API can use it without the kernels.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[Any]
Mask = NDArray[np.bool_]

MOST_SAMPLED = 1 << 18
"""Pixels that percentiles are taken of; more are not told apart by the eye, and cost time."""


def contrast_limits(image: Image, low: float, high: float, most_sampled: int = MOST_SAMPLED) -> tuple[float, float]:
    """Percentiles of an image, of evenly spaced rows and columns where it is large.

    Parameters
    ----------
    image
        (H, W) of any real dtype, in counts.
    low, high
        Percentiles, 0 to 100.
    most_sampled
        Pixels that are looked at, about.

    Returns
    -------
    tuple of float
        The counts that are to be black and white; (0, 0) where no pixel is finite.
    """
    step = int(np.ceil(np.sqrt(max(1.0, image.size / most_sampled))))
    sample = image[::step, ::step].ravel()
    if not np.issubdtype(sample.dtype, np.integer):
        sample = sample[np.isfinite(sample)]
    if not sample.size:
        return 0.0, 0.0
    black, white = np.percentile(sample, (low, high))
    return float(black), float(white)


def to_grey(image: Image, black: float, white: float) -> NDArray[np.uint8]:
    """Shades of grey: 0 for counts up to `black`, 255 from `white` on, evenly in between; 0 for NaN.

    Where `white` is not above `black`, counts above it are white and all others black.
    """
    lowest, span = np.float32(black), np.float32(white - black)
    if not span > 0:
        return np.where(image > lowest, np.uint8(255), np.uint8(0))
    shades = image.astype(np.float32)
    # In place: fresh memory for every step would cost more than the step.
    shades -= lowest
    np.clip(shades, 0, span, out=shades)
    shades /= span
    shades *= 255
    np.rint(shades, out=shades)
    if not np.issubdtype(image.dtype, np.integer):
        shades[np.isnan(shades)] = 0
    return shades.astype(np.uint8)


def reduction(height: int, width: int, max_size: int) -> int:
    """Least whole number by which an image must be reduced so that neither side is longer than `max_size`."""
    return max(1, -(-max(height, width) // max_size))


def reduced(image: Image, factor: int) -> Image:
    """Mean of each square of `factor` x `factor` pixels, and of what there is of one at the right and lower edge.

    Returns
    -------
    ndarray
        (ceil(H / factor), ceil(W / factor)) float32; the image itself for a factor of 1.
    """
    if factor == 1:
        return image
    height, width = image.shape
    total = np.zeros((-(-height // factor), -(-width // factor)), np.float32)
    for part in _parts(image, factor):
        total[: part.shape[0], : part.shape[1]] += part
    rows, columns = (np.minimum(factor, n - factor * np.arange(-(-n // factor))) for n in (height, width))
    mean: NDArray[np.float32] = total / np.multiply.outer(rows, columns).astype(np.float32)
    return mean


def reduced_mask(mask: Mask, factor: int) -> Mask:
    """Whether any pixel is set in each square of `factor` x `factor` pixels, as `reduced` divides an image."""
    if factor == 1:
        return mask
    height, width = mask.shape
    seen = np.zeros((-(-height // factor), -(-width // factor)), np.bool_)
    for part in _parts(mask, factor):
        seen[: part.shape[0], : part.shape[1]] |= part
    return seen


def outline(labels: NDArray[np.integer[Any]]) -> Mask:
    """Pixels (H, W) of a cell that have a neighbour (above, below, left or right) of another label or of none.

    The edge of the image is no outline.
    """
    differs = np.zeros(labels.shape, np.bool_)
    vertical, horizontal = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    differs[1:] |= vertical
    differs[:-1] |= vertical
    differs[:, 1:] |= horizontal
    differs[:, :-1] |= horizontal
    return differs & (labels > 0)


def label_centres(labels: NDArray[np.integer[Any]]) -> dict[int, tuple[float, float]]:
    """Centroid x, y of each label of an image (H, W), in pixels."""
    rows, columns = np.nonzero(labels)
    numbers, index = np.unique(labels[rows, columns], return_inverse=True)
    count = np.bincount(index)
    x, y = np.bincount(index, columns) / count, np.bincount(index, rows) / count
    return dict(zip(numbers.tolist(), zip(x.tolist(), y.tolist(), strict=True), strict=True))


def _parts(image: Image, factor: int) -> list[Image]:
    """Every pixel of each square, one after the other."""
    return [image[row::factor, column::factor] for row in range(factor) for column in range(factor)]
