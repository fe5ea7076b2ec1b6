"""What an image must fulfil before it is computed with."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.errors import ProcessingError


def check_finite(image: NDArray[Any], *, most: float = np.inf) -> None:
    """Make sure that every pixel is a finite number; integers are.

    Parameters
    ----------
    image
        (H, W), any real dtype.
    most
        Largest absolute value that can be computed with.

    Raises
    ------
    ProcessingError
        Naming the first pixel that is not.
    """
    if np.issubdtype(image.dtype, np.integer):
        return
    usable = np.isfinite(image) & (np.abs(image) <= most)
    if not usable.all():
        row, column = np.argwhere(~usable)[0]
        limit = "" if most == np.inf else f" of at most {most:g}"
        raise ProcessingError(
            f"pixel (row {row}, column {column}) is {image[row, column]}; every pixel must be a finite number{limit}"
        )
