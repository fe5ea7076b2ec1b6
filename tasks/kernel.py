"""How the project compiles its numerical kernels, and where it keeps them.

numba keeps compiled kernels on disk and compiles one again when its own file has changed, but not when a kernel that it
calls from another file has. So each state of all files with kernels has a folder of its own: after an upgrade, nothing
that is out of date can be run.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., object])

_PACKAGE = Path(__file__).parent
_MARK = b"from tasks.kernel import"


def sources_digest(package: Path) -> str:
    """Digest of all files of a package that hold kernels."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        content = path.read_bytes()
        if _MARK in content:
            digest.update(f"{path.relative_to(package)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def _cache_folder() -> Path:
    """Folder of compiled kernels: where NUMBA_CACHE_DIR says, beside the sources, or in the user's cache."""
    name = f"kernels-{sources_digest(_PACKAGE)}"
    if wanted := os.environ.get("NUMBA_CACHE_DIR"):
        return Path(wanted) / name
    beside = _PACKAGE / "__pycache__" / name
    try:
        beside.mkdir(parents=True, exist_ok=True)
    except OSError:
        writable = False
    else:
        writable = os.access(beside, os.W_OK)
    if writable:
        return beside
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pyama-backend" / name


numba.config.CACHE_DIR = str(_cache_folder())  # type: ignore[attr-defined]  # made at run time


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
