"""Taking turns among the API processes of a host, without ever blocking the event loop."""

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

_LOOK_INTERVAL_S = 0.005


@asynccontextmanager
async def host_lock(path: Path, patience_s: float) -> AsyncIterator[bool]:
    """Be the only one of the host's processes and requests within the block; told whether that is so.

    The kernel releases the lock of a process that dies. One that hangs with it does not stop the others: after a
    while they go on without it.

    Parameters
    ----------
    path
        The file that is locked; it is created, with its folder, where it is not there.
    patience_s
        How long to wait.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + patience_s
        locked = False
        while not locked and time.monotonic() < deadline:
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                locked = True
            if not locked:
                await asyncio.sleep(_LOOK_INTERVAL_S)
        yield locked
    finally:
        os.close(descriptor)
