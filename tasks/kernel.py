"""How the project compiles its numerical kernels."""

from collections.abc import Callable
from typing import TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., object])


def kernel(function: Function) -> Function:
    """Compile with numba: cached on disk, free of the GIL, single-threaded, IEEE arithmetic as written."""
    return cast(Function, numba.njit(cache=True, nogil=True, error_model="numpy")(function))
