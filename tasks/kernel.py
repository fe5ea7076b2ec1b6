"""How the project compiles its numerical kernels."""

from collections.abc import Callable
from typing import TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., object])


def kernel(function: Function) -> Function:
    """Compile with numba: cached on disk, free of the GIL, single-threaded, IEEE arithmetic as written."""
    return cast(Function, numba.njit(cache=True, nogil=True, error_model="numpy")(function))


def inner_kernel(function: Function) -> Function:
    """Compile as `kernel` does, but let sums be taken in any order and quotients as products with the reciprocal.

    For the inner loops of iterations, several times as fast; the last digits are the compiler's choice, the same in
    every call.
    """
    options = {"reassoc", "contract", "arcp"}
    return cast(Function, numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=options)(function))
