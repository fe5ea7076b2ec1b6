"""A model to fit: f(t) = amplitude exp(-rate t) + offset."""

import numpy as np

from tasks.fitting.catalog import FittingModel, Parameter

__version__ = "1.0"

MODEL = FittingModel(
    "exponential_decay",
    "f(t) = amplitude exp(-rate t) + offset",
    "Decay of what was there at the time 0, e.g. of a protein whose production has ended.",
    (
        Parameter("amplitude", 1.0, (0.0, 1e9), "counts", "linear", "Height above the offset at the time 0"),
        Parameter("rate", 0.1, (1e-4, 100.0), "1/h", "rate", "Rate of the decay"),
        Parameter("offset", 0.0, (-1e9, 1e9), "counts", "linear", "What remains in the end"),
    ),
)


def decay(times, searched, given, phi, slopes):
    """Fill in the functions that amplitude and offset are factors of, and their derivatives by the rate."""
    for i in range(len(times)):
        phi[0, i] = np.exp(min(-searched[0] * times[i], 700.0))
        slopes[0, 0, i] = -times[i] * phi[0, i]
        phi[1, i] = 1.0
        slopes[1, 0, i] = 0.0


def register(plugin):
    """Tell what this file adds."""
    plugin.fitting_model(MODEL, decay)
