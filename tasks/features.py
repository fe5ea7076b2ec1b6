"""What is measured on a region: two small tables filled by the kernels, and the features computed from them.

A feature is one small function in a registry, with its unit and a line of description. This module is light
(NumPy only), so that whoever lists or validates feature names needs no kernels.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from tasks.registry import Registry

Column = NDArray[np.float64]

_COLUMN_NAME = re.compile(r"(\w+)_ch_([0-9]{1,9})")


class Regions(NamedTuple):
    """Geometry of the regions of one frame, one entry per region in raster order of their first pixel.

    Positions are in pixels, x along columns and y along rows; pixel centres are at whole numbers.
    """

    area: NDArray[np.int64]
    """(n,) number of pixels."""
    boxes: NDArray[np.int32]
    """(n, 4) first and last pixel index, inclusive: x0, y0, x1, y1."""
    centroids: Column
    """(n, 2) centroid: x, y."""
    second_moments: Column
    """(n, 3) central second moments divided by the area, in square pixels: xx, yy, xy; exactly 0 where degenerate."""
    perimeter: Column
    """(n,) length of the outline in pixels; NaN where it was not asked for."""


class Intensities(NamedTuple):
    """Background-corrected intensities of the regions in one frame of one channel, one entry per region.

    The pixels are those left of a region after the erosion; corrected means `raw - weight * background`.
    """

    area: NDArray[np.int64]
    """(n,) number of pixels that were measured."""
    total: Column
    """(n,) sum of the corrected values."""
    squared_deviation: Column
    """(n,) sum of squared deviations of the corrected values from their mean; NaN where it was not asked for."""
    maximum: Column
    """(n,) largest corrected value; NaN where it was not asked for."""


Table = TypeVar("Table", Regions, Intensities)


@dataclass(frozen=True)
class Feature(Generic[Table]):
    """A named measurement: a function from the table of one frame to one value per region."""

    name: str
    unit: str
    description: str
    compute: Callable[[Table], Column]
    needs: frozenset[str] = frozenset()
    """Optional columns of the table that have to be filled for it."""


def _ratio(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> Column:
    """Divide elementwise; NaN where the denominator is 0."""
    ratio = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=ratio, where=denominator != 0)
    return ratio


def _principal_moments(regions: Regions) -> tuple[Column, Column]:
    """Eigenvalues, larger first, of each region's matrix of second moments."""
    xx, yy, xy = regions.second_moments.T
    mean, spread = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    # The smaller one as a quotient of the determinant: no cancellation, and exactly 0 for a line of pixels.
    larger = mean + spread
    smaller = np.divide(xx * yy - xy * xy, larger, out=np.zeros_like(larger), where=larger > 0)
    return larger, np.maximum(smaller, 0.0)


def _area(regions: Regions) -> Column:
    return regions.area.astype(np.float64)


def _aspect_ratio(regions: Regions) -> Column:
    larger, smaller = _principal_moments(regions)
    return np.sqrt(_ratio(larger, smaller))


def _eccentricity(regions: Regions) -> Column:
    larger, smaller = _principal_moments(regions)
    # For a round region rounding can put the smaller above the larger, by one unit in the last place.
    return np.sqrt(np.maximum(1.0 - _ratio(smaller, larger), 0.0))


def _perimeter(regions: Regions) -> Column:
    return regions.perimeter


def _circularity(regions: Regions) -> Column:
    return _ratio(4.0 * np.pi * _area(regions), regions.perimeter**2)


def _where_measured(values: Column, intensities: Intensities) -> Column:
    return np.where(intensities.area > 0, values, np.nan)


def _intensity_total(intensities: Intensities) -> Column:
    return _where_measured(intensities.total, intensities)


def _intensity_mean(intensities: Intensities) -> Column:
    return _ratio(intensities.total, intensities.area.astype(np.float64))


def _intensity_std(intensities: Intensities) -> Column:
    return np.sqrt(_ratio(intensities.squared_deviation, intensities.area.astype(np.float64)))


def _intensity_max(intensities: Intensities) -> Column:
    return _where_measured(intensities.maximum, intensities)


PHASE_FEATURES: Registry[Feature[Regions]] = Registry(
    "phase feature",
    (
        Feature("area", "px", "Number of pixels of the cell", _area),
        Feature(
            "aspect_ratio",
            "1",
            "Major over minor axis of the ellipse with the same second moments",
            _aspect_ratio,
        ),
        Feature(
            "eccentricity",
            "1",
            "Eccentricity of the ellipse with the same second moments: 0 for a disc, near 1 for a rod",
            _eccentricity,
        ),
        Feature(
            "perimeter",
            "px",
            "Length of the outline, through the centres of its pixels (4-connected)",
            _perimeter,
            frozenset({"perimeter"}),
        ),
        Feature(
            "circularity",
            "1",
            "4 pi area / perimeter^2: about 1 for a disc, smaller for ragged shapes",
            _circularity,
            frozenset({"perimeter"}),
        ),
    ),
)

FLUORESCENCE_FEATURES: Registry[Feature[Intensities]] = Registry(
    "fluorescence feature",
    (
        Feature(
            "intensity_total",
            "counts",
            "Sum of the background-corrected intensity over the cell",
            _intensity_total,
        ),
        Feature(
            "intensity_mean",
            "counts/px",
            "Mean of the background-corrected intensity over the cell",
            _intensity_mean,
        ),
        Feature(
            "intensity_std",
            "counts/px",
            "Population standard deviation of the background-corrected intensity over the cell",
            _intensity_std,
            frozenset({"squared_deviation"}),
        ),
        Feature(
            "intensity_max",
            "counts/px",
            "Largest background-corrected intensity in the cell",
            _intensity_max,
            frozenset({"maximum"}),
        ),
    ),
)


def column_name(feature: str, channel: int) -> str:
    """Name of a feature's column in the traces table, e.g. `area_ch_0`."""
    return f"{feature}_ch_{channel}"


def parse_column_name(column: str) -> tuple[str, int] | None:
    """Feature and channel of a column of the traces table; None where it is no feature's."""
    match = _COLUMN_NAME.fullmatch(column)
    return (match[1], int(match[2])) if match else None


def feature_columns(columns: Iterable[str]) -> dict[str, tuple[str, int]]:
    """Those columns of a table that hold a feature, each with the feature and the channel."""
    parsed = {column: parse_column_name(column) for column in columns}
    return {column: feature for column, feature in parsed.items() if feature is not None}
