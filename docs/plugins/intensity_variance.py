"""A fluorescence feature: how unevenly the intensity is spread over a cell."""

import numpy as np

__version__ = "1.0"


def intensity_variance(intensities):
    """Population variance of the background-corrected intensity; NaN where nothing was measured."""
    return np.divide(
        intensities.squared_deviation,
        intensities.area,
        out=np.full(intensities.area.shape, np.nan),
        where=intensities.area > 0,
    )


def register(plugin):
    """Tell what this file adds."""
    plugin.fluorescence_feature(
        "intensity_variance",
        "counts^2/px^2",
        "Variance of the background-corrected intensity over the cell",
        intensity_variance,
        needs=["squared_deviation"],
    )
