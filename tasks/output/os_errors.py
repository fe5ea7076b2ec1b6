"""What the operating system refuses, told so that a user knows what to do."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tasks.errors import OutputError

_REASONS = {
    errno.ENOSPC: ("disk full", "free some space or choose an output folder on another disk"),
    errno.EDQUOT: ("disk quota exceeded", "free some space or choose an output folder on another disk"),
    errno.EFBIG: (
        "file too large for its file system or for the limit of this process",
        "choose an output folder on another file system, raise the limit (ulimit -f), or keep fewer stacks",
    ),
    errno.EIO: ("input/output error of the disk", "check the disk, or choose an output folder on another one"),
    errno.EACCES: ("no permission", "choose an output folder that you may write to"),
    errno.EPERM: ("not permitted", "choose an output folder that you may write to"),
    errno.EROFS: ("read-only file system", "choose an output folder that can be written to"),
    errno.ENAMETOOLONG: ("name too long", "give the recording or the output folder a shorter name"),
    errno.ENOTDIR: ("a part of the path is a file, not a folder", "choose another output folder"),
    errno.EISDIR: ("it is a folder, not a file", "move it away or choose another output folder"),
    errno.ELOOP: ("its symbolic links lead in a circle", "choose another output folder"),
    errno.ENOENT: (
        "it disappeared while it was in use",
        "see whether something else cleans up the folder, then start again",
    ),
}
_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def output_error(error: OSError, action: str, path: Path, needs: int | None = None) -> OutputError:
    """Tell what failed, where, why, and what helps.

    Parameters
    ----------
    error
        What the operating system said; chain it: `raise output_error(error, ...) from error`.
    action
        What was tried, e.g. `"write"`.
    path
        What it was tried on.
    needs
        Bytes that the whole file takes, told where space is what is missing.
    """
    reason, remedy = _REASONS.get(error.errno or 0, (error.strerror or str(error), "see the system's log"))
    if needs is not None and error.errno in _SPACE:
        reason = f"{reason} (the file needs {readable_size(needs)}{_free_space(path)})"
    return OutputError(f"cannot {action} {path}: {reason}; {remedy}")


@contextmanager
def told(action: str, path: Path, needs: int | None = None) -> Iterator[None]:
    """Turn any refusal of the operating system within the block into an `OutputError`."""
    try:
        yield
    except OSError as error:
        raise output_error(error, action, path, needs) from error


def readable_size(n_bytes: int) -> str:
    """Size in the unit in which it is easiest to read, e.g. `1.6 GB`."""
    for factor, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if n_bytes >= factor:
            return f"{n_bytes / factor:.1f} {unit}"
    return f"{n_bytes} bytes"


def _free_space(path: Path) -> str:
    with suppress(OSError):
        disk = os.statvfs(path.parent)
        return f", {readable_size(disk.f_bavail * disk.f_frsize)} are free"
    return ""
