"""What is installed in a process, and whether two processes may have a part in the same run.

FOVs of one run are to be the same numbers wherever they are computed, and what the run sends to other processes has to
mean the same there.
"""

import hashlib
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tasks.output.fingerprint import SCIENCE_VERSION
from tasks.plugins import load_plugins

Installation = Mapping[str, str]
"""Version of each thing that is installed, by its name."""

_OURS = ("tasks", "flows")
_SOURCES = "sources of pyama-backend"
_ROOT = Path(__file__).parents[1]

SENDING = ("python", "pyama-backend", _SOURCES, "dask", "distributed", "cloudpickle", "prefect", "prefect-dask")
"""What has to agree for tasks to be understood: where they are sent from, at the scheduler, and at workers."""

NUMBERS = ("science version", "plugins", "numpy", "numba", "llvmlite", "scipy", "opencv-python-headless", "nd2")
"""What has to agree besides, between a run and workers, for the same numbers."""

_TOLD = ("full python", "processor", "msgpack", "pydantic", "tornado", "zlib-ng")
"""What is told where it differs, and does no harm."""


@cache
def installation() -> dict[str, str]:
    """What is installed here."""
    known = {
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "full python": platform.python_version(),
        "processor": platform.machine(),
        "science version": str(SCIENCE_VERSION),
        "plugins": _plugins(),
        _SOURCES: _sources_digest(),
    }
    return {name: known.get(name) or _version(name) for name in (*SENDING, *NUMBERS, *_TOLD)}


def conflicts(here: Installation, there: Installation, names: Sequence[str]) -> list[str]:
    """Say of each thing that has to agree, and does not, what is there and what is here."""
    return list(_differences(here, there, names))


def remarks(here: Installation, there: Installation) -> list[str]:
    """Say of each thing that differs without harm what is there and what is here."""
    return list(_differences(here, there, _TOLD))


def _differences(here: Installation, there: Installation, names: Sequence[str]) -> Iterator[str]:
    for name in names:
        if here.get(name) != there.get(name):
            yield f"{name} {there.get(name, 'unknown')} there, {here.get(name, 'unknown')} here"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _plugins() -> str:
    return ", ".join(f"{one.plugin.name} {one.plugin.version}" for one in load_plugins().loaded) or "none"


def _sources_digest() -> str:
    """Digest of the program itself: the same version may be an edited one."""
    digest = hashlib.sha256()
    for path in sorted(path for room in _OURS for path in (_ROOT / room).rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(_ROOT)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:12]
