"""Finding the cells of a frame by whichever method is asked for."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.bitmask import Bitmask
from tasks.configuration import ScienceParameters
from tasks.errors import ProcessingError
from tasks.methods import SEGMENTATION_METHODS, LogStdParameters
from tasks.regions import LabelledFrame, find_regions, labelled_regions
from tasks.segmentation import segment

_MOST_LABEL = int(np.iinfo(np.int32).max)


def find_cells(
    image: NDArray[Any], parameters: ScienceParameters, pixel_size_um: float | None = None, *, with_perimeter: bool
) -> tuple[Bitmask, LabelledFrame]:
    """Find the cells of a phase image.

    Parameters
    ----------
    image
        (H, W), any real dtype.
    pixel_size_um
        What the recording tells.
    with_perimeter
        Whether the perimeters are measured; they are NaN otherwise.

    Returns
    -------
    tuple
        All that was found (H, W), set in cells of any size; and the cells of the size that is asked for.

    Raises
    ------
    ProcessingError
        As the method does, or where what it gives are no labels.
    """
    found = _found(image, parameters, pixel_size_um)
    areas = parameters.min_area, parameters.max_area
    if isinstance(found, Bitmask):
        return found, find_regions(found, *areas, with_perimeter=with_perimeter)
    return Bitmask.of(found != 0), labelled_regions(found, *areas, with_perimeter=with_perimeter)


def _found(
    image: NDArray[Any], parameters: ScienceParameters, pixel_size_um: float | None
) -> Bitmask | NDArray[np.integer[Any]]:
    chosen = parameters.segmentation
    if isinstance(chosen, LogStdParameters):
        return segment(image, parameters.logstd_arithmetic)
    found: object = SEGMENTATION_METHODS[chosen.method].load()(image, chosen, pixel_size_um)
    if isinstance(found, Bitmask):
        return found
    what = f"the segmentation method {chosen.method!r} gave"
    if not isinstance(found, np.ndarray) or found.shape != image.shape or not np.issubdtype(found.dtype, np.integer):
        given = f"{found.dtype} {found.shape}" if isinstance(found, np.ndarray) else type(found).__name__
        raise ProcessingError(f"{what} {given}; expected whole numbers of shape {image.shape}")
    if found.size and not 0 <= found.min() <= found.max() <= _MOST_LABEL:
        raise ProcessingError(f"{what} labels from {found.min()} to {found.max()}; allowed are 0 to {_MOST_LABEL}")
    return found
