"""Oracle of labelling and of everything that is measured on a region."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import regionprops

from tests.oracles.squares import Mask, eroded

Labels = NDArray[np.uint16]
Row = dict[str, float]


def label(mask: NDArray[Any], min_area: int | None = None, max_area: int | None = None) -> Labels:
    """Number the 4-connected regions within the area limits from 1, in raster order of their first pixel."""
    anyhow, n = ndimage.label(mask)
    regions = [anyhow == number for number in range(1, n + 1)]
    allowed = [r for r in regions if (min_area or 1) <= r.sum() <= (max_area or r.size)]
    labels = np.zeros(mask.shape, dtype=np.uint16)
    for number, region in enumerate(sorted(allowed, key=lambda r: int(r.argmax())), start=1):
        labels[region] = number
    return labels


def masks(labels: Labels) -> list[Mask]:
    """One mask for each region, in the order of the labels."""
    return [labels == number for number in range(1, int(labels.max(initial=0)) + 1)]


def box(region: Mask) -> tuple[int, int, int, int]:
    """First and last pixel index, inclusive: x0, y0, x1, y1."""
    rows, columns = np.nonzero(region)
    return int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())


def boxes(labels: Labels) -> NDArray[np.int64]:
    """Boxes of all regions, (n, 4)."""
    return np.array([box(region) for region in masks(labels)], dtype=np.int64).reshape(-1, 4)


def geometry(region: Mask) -> Row:
    """Position and phase features of one region; NaN where a ratio is undefined."""
    (properties,) = regionprops(region.astype(np.uint8))  # type: ignore[no-untyped-call]
    y, x = properties.centroid
    # What is 4-connected and collinear is a row or a column of pixels; its minor axis is 0, a point's both axes are.
    x0, y0, x1, y1 = box(region)
    is_line, is_point = x0 == x1 or y0 == y1, x0 == x1 and y0 == y1
    major, minor = properties.axis_major_length, properties.axis_minor_length
    perimeter = properties.perimeter
    return {
        "position_x": x,
        "position_y": y,
        "area": float(region.sum()),
        "aspect_ratio": np.nan if is_line else major / minor,
        "eccentricity": np.nan if is_point else properties.eccentricity,
        "perimeter": perimeter,
        "circularity": 4 * np.pi * region.sum() / perimeter**2 if perimeter > 0 else np.nan,
    }


def intensities(region: Mask, image: NDArray[Any], background: NDArray[np.float64], weight: float, erosion: int) -> Row:
    """Fluorescence features of one region; NaN where nothing is left of it."""
    values = (image.astype(np.float64) - weight * background)[eroded(region, 2 * erosion + 1)]
    if values.size == 0:
        return dict.fromkeys(("intensity_total", "intensity_mean", "intensity_std", "intensity_max"), np.nan)
    return {
        "intensity_total": values.sum(),
        "intensity_mean": values.mean(),
        "intensity_std": values.std(),
        "intensity_max": values.max(),
    }
