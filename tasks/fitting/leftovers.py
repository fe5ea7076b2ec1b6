"""What fits that died have left in a folder; who fits the same again goes on with it, others never come back."""

import shutil
from contextlib import suppress
from pathlib import Path

from tasks.errors import OutputError
from tasks.fitting.files import is_unfinished, is_work_folder
from tasks.output.layout import temporary_name
from tasks.output.lock import OutputLock
from tasks.output.os_errors import told


def clear_fits(folder: Path, before_s: float) -> int:
    """Clear away what fits have left unfinished, where nobody has touched it since a moment and no run holds it.

    Parameters
    ----------
    folder
        Where their results were to go.
    before_s
        The moment, in seconds since 1970.

    Returns
    -------
    int
        Number of files and folders that were left.

    Raises
    ------
    OutputError
        Where the folder cannot be read.
    """
    n_cleared = 0
    with told("read", folder):
        paths = sorted(path for path in folder.iterdir() if is_unfinished(path.name) or is_work_folder(path.name))
    for path in paths:
        with suppress(OSError, OutputError):  # in use, or not ours to remove
            if _touched_s(path) < before_s:
                _remove(path)
                n_cleared += 1
    return n_cleared


def _touched_s(path: Path) -> float:
    """When something was last written into a file, or into a folder or one of its files."""
    return max(one.lstat().st_mtime for one in ([path, *path.iterdir()] if path.is_dir() else [path]))


def _remove(path: Path) -> None:
    if is_work_folder(path.name):
        with OutputLock(path, "housekeeping"):
            # Under the other name it is nobody's, and can be removed without holding anybody up.
            path = path.rename(path.with_name(temporary_name(path.stem.removeprefix("."))))
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink()
