"""A phase feature: how close a cell's outline is to a circle, from its perimeter."""

import numpy as np

__version__ = "1.0"


def roundness(regions):
    """4 pi area / perimeter^2, cut off at 1; NaN for a single pixel, which has no outline."""
    quotient = np.divide(
        4 * np.pi * regions.area,
        regions.perimeter**2,
        out=np.full(regions.area.shape, np.nan),
        where=regions.perimeter > 0,
    )
    return np.minimum(quotient, 1.0)


def register(plugin):
    """Tell what this file adds."""
    plugin.phase_feature("roundness", "1", "1 for a disc, smaller for ragged shapes", roundness, needs=["perimeter"])
