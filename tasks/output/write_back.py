"""Setting the disk to work early, so that it writes while the next frames are computed."""

import ctypes
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

_INTERVAL_S = 0.05
_SYNC_FILE_RANGE_WRITE = 2


class WriteBack:
    """Lets the disk begin with what some files have in memory, again and again, from a thread of its own.

    Asking may take as long as the disk is busy, and nobody waits for it here. It is only a hint: whether it was
    taken, and any error, shows in the fsync that ends a file. Only Linux can be asked; elsewhere nothing happens.
    """

    def __init__(self) -> None:
        self._paths: list[Path] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="write-back", daemon=True)

    def add(self, path: Path) -> None:
        """Look after a file too."""
        self._paths.append(path)
        if _sync_file_range is not None and self._thread.ident is None:
            self._thread.start()

    def stop(self) -> None:
        """End; the files may be gone when this returns."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _work(self) -> None:
        while not self._stop.wait(_INTERVAL_S):
            for path in tuple(self._paths):
                with suppress(OSError), path.open("rb") as file:
                    _sync_file_range(file.fileno(), 0, 0, _SYNC_FILE_RANGE_WRITE)


def _find_sync_file_range() -> Any:  # noqa: ANN401 - a function of the C library, or None
    """Linux alone can be told to begin writing without being waited for."""
    if not sys.platform.startswith("linux"):
        return None
    function = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if function is not None:
        function.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return function


_sync_file_range = _find_sync_file_range()
