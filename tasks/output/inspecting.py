"""Turns of those who mark the cells of a FOV, and of a run that replaces its directory."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tasks.errors import OutputError
from tasks.output.os_errors import told

_LOCK_FILE = ".inspection.lock"


@contextmanager
def inspecting(directory: Path) -> Iterator[None]:
    """Wait until nobody else, in this process or another, marks cells of a FOV; keep others waiting in the block.

    Raises
    ------
    OutputError
        Where the directory cannot be written, or was replaced by another while waiting.
    """
    path = directory / _LOCK_FILE
    with told("lock", path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        with told("lock", path):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if not _is_in_place(descriptor, path):
            raise OutputError(f"{directory} was replaced by a new result a moment ago; look at it again")
        yield
    finally:
        # Closing alone would not release it while a child that was forked meanwhile has the file open too.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _is_in_place(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
