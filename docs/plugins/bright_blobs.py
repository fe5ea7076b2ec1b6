"""A segmentation: whatever is brighter than the background by far, e.g. in a channel of stained nuclei."""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from tasks.methods import MethodParameters

__version__ = "1.0"


class BrightBlobParameters(MethodParameters):
    """What a user can set."""

    method: Literal["bright_blobs"] = "bright_blobs"
    threshold: Annotated[float, Field(gt=0, le=100)] = Field(
        6.0, description="Least distance from the median, in robust standard deviations"
    )


def segment(image, parameters, pixel_size_um):
    """Label connected pixels above the threshold."""
    from scipy.ndimage import label  # here, because the API lists methods and needs no SciPy for that

    median = np.median(image)
    spread = 1.4826 * np.median(np.abs(image - median))
    return label(image > median + parameters.threshold * spread)[0]


def register(plugin):
    """Tell what this file adds."""
    plugin.segmentation_method("What is brighter than the background by far", BrightBlobParameters, segment)
