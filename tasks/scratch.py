"""Memory for the large images of a frame, used again for the next frame.

Memory that is fresh from the kernel costs a page fault for every 4 KiB, and the C library hands back what is freed:
always in the worker processes of Dask, which sets its trim threshold low. Without this, a frame there takes 1.6 times
the processor time.
"""

import threading
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_memory = threading.local()


def scratch(use: str, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Array of this thread with any content.

    Parameters
    ----------
    use
        What it is for. Whoever asks for the same use next, in this thread, gets the same memory: nothing that is to
        outlive the frame may refer to it.
    """
    arrays: dict[str, NDArray[Any]] = vars(_memory)
    array = arrays.get(use)
    if array is None or array.shape != shape or array.dtype != dtype:
        array = arrays[use] = np.empty(shape, dtype)
    return array
