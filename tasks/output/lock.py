"""The lock of a run on its output folder; the kernel releases it when the run dies."""

import errno
import fcntl
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tasks.errors import OutputBusyError, OutputError
from tasks.output.layout import LOCK_FILE
from tasks.output.os_errors import told

_BUSY = {errno.EWOULDBLOCK, errno.EACCES}
_UNSUPPORTED = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS}
_LOOKER_PATIENCE_S = 0.1
_PAUSE_S = 0.02
_EARLIER_ATTEMPT_PATIENCE_S = 60.0
"""Time that an earlier attempt of the same run has to end, once it has lost the run to this one."""


class OutputLock:
    """Exclusive use of an output folder, within a `with` block.

    The lock file stays when the lock is gone: were it removed, two runs could hold locks on two files of the
    same name. Its text, `{"pid": ..., "run": ...}`, means something only while it is locked.

    Parameters
    ----------
    output_dir
        The folder; it exists.
    run_id
        Told to whoever finds the folder in use.

    Raises
    ------
    OutputBusyError
        On entering, where another run holds the lock.
    OutputError
        On entering, where the folder cannot be written or its file system knows no locks.
    """

    def __init__(self, output_dir: Path, run_id: str) -> None:
        self._path = output_dir / LOCK_FILE
        self._run_id = run_id
        self._descriptor = -1

    def __enter__(self) -> Self:
        with told("lock", self._path):
            # Whoever had the lock before may have removed the file with its folder: a lock on that is worth nothing.
            while not self._take():
                pass
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            # Closing alone would not release it while a child that was forked meanwhile has the file open too.
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        os.close(self._descriptor)

    def _take(self) -> bool:
        """Lock and sign the file; False where it is no longer the one in the folder."""
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            self._acquire()
            if not self._is_in_place():
                os.close(self._descriptor)
                return False
            self._sign()
        except BaseException:
            os.close(self._descriptor)
            raise
        return True

    def _is_in_place(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._descriptor), self._path.stat())
        except FileNotFoundError:
            return False

    def _acquire(self) -> None:
        began_s = time.monotonic()
        # `lock_holder` holds the lock for an instant when it looks, hence more than one attempt.
        end_s = began_s + _LOOKER_PATIENCE_S
        while not _try_lock(self._descriptor, fcntl.LOCK_EX, self._path):
            now_s = time.monotonic()
            if now_s > end_s:
                break
            if _owner(self._descriptor) == self._run_id and now_s < began_s + _EARLIER_ATTEMPT_PATIENCE_S:
                end_s = now_s + _LOOKER_PATIENCE_S
            time.sleep(_PAUSE_S)
        else:
            return
        raise OutputBusyError(busy_message(self._path.parent, _owner(self._descriptor)))

    def _sign(self) -> None:
        owner = json.dumps({"pid": os.getpid(), "run": self._run_id}, sort_keys=True)
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, owner.encode(), 0)
        os.fsync(self._descriptor)  # workers on other machines look whether they see the folder of this run


def lock_holder(output_dir: Path) -> str | None:
    """Id of the run that holds the folder; None where nobody does. Creates nothing.

    Raises
    ------
    OutputError
        Where the system does not let it be seen.
    """
    path = output_dir / LOCK_FILE
    with told("read", path):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            free = _try_lock(descriptor, fcntl.LOCK_SH, path)
            return None if free else _owner(descriptor)
        finally:
            os.close(descriptor)


def signed_by(output_dir: Path) -> str | None:
    """Id of the run that has signed the lock file; None where there is none, or none that can be read."""
    try:
        return str(json.loads((output_dir / LOCK_FILE).read_bytes())["run"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def busy_message(output_dir: Path, run_id: str) -> str:
    """What a second run is told."""
    return f"{output_dir}: folder in use by run {run_id}; wait for its end, cancel it, or choose another folder"


def _try_lock(descriptor: int, kind: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        if error.errno in _UNSUPPORTED:
            raise OutputError(
                f"cannot lock {path}: its file system knows no locks; choose an output folder on another one"
            ) from error
        raise
    return True


def _owner(descriptor: int) -> str:
    try:
        return str(json.loads(os.pread(descriptor, 4096, 0))["run"])
    except (OSError, ValueError, KeyError, TypeError):
        return "(unknown)"
