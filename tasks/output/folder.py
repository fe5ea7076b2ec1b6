"""An output folder from the point of view of a run: may it be used, what is done, what is left over."""

import os
from collections.abc import Collection, Iterable
from pathlib import Path

from tasks.configuration import WorkflowRequest
from tasks.errors import OutputBusyError, OutputError
from tasks.output.atomic import discard, settle_moved_aside
from tasks.output.config import write_config
from tasks.output.conflicts import check_conflicts, fov_directories
from tasks.output.fingerprint import Fingerprint
from tasks.output.layout import is_temporary, parse_moved_aside
from tasks.output.lock import OutputLock, busy_message, lock_holder
from tasks.output.manifest import finished_manifest
from tasks.output.os_errors import told
from tasks.output.provenance import Provenance


def check_folder(output_dir: Path, provenance: Provenance, fovs: Collection[int], *, overwrite: bool = False) -> None:
    """Say whether a run would be refused, without creating or changing anything.

    Parameters
    ----------
    output_dir
        The output folder; it need not exist.
    provenance
        What the run would make its results from.
    fovs
        The FOVs it would write.
    overwrite
        Whether it may replace results of another provenance.

    Raises
    ------
    OutputBusyError
        Where another run holds the folder.
    OutputConflictError
        Where the folder belongs to another input or to other parameters.
    OutputError
        Where it cannot be a folder, or cannot be written.
    """
    check_free(output_dir)
    check_conflicts(output_dir, provenance, fovs, overwrite=overwrite)


def check_free(output_dir: Path) -> None:
    """Say whether the folder can be written and nobody else works in it, without creating or changing anything.

    Raises
    ------
    OutputBusyError
        Where another run holds the folder.
    OutputError
        Where it cannot be a folder, or cannot be written.
    """
    check_usable(output_dir)
    holder = lock_holder(output_dir)
    if holder is not None:
        raise OutputBusyError(busy_message(output_dir, holder))


def ensure_folder(output_dir: Path) -> None:
    """Create the output folder, with its parents, where it is not there; take its lock next.

    Raises
    ------
    OutputError
        Where a file is in the way, or the folder cannot be created or written.
    """
    check_usable(output_dir)
    with told("create", output_dir):
        output_dir.mkdir(parents=True, exist_ok=True)


def prepare_folder(
    output_dir: Path, provenance: Provenance, request: WorkflowRequest, fovs: Collection[int]
) -> set[int]:
    """Make a folder ready for a run that holds its lock.

    Clears away what earlier runs left unfinished, refuses a folder that belongs to something else, and writes
    the configuration.

    Returns
    -------
    set of int
        FOVs that are done and need not be computed again.

    Raises
    ------
    OutputConflictError
        Where the folder belongs to another input or to other parameters.
    OutputError
        Where it cannot be written.
    """
    remove_leftovers(output_dir)
    check_conflicts(output_dir, provenance, fovs, overwrite=request.parameters.overwrite)
    write_config(output_dir, provenance, request)
    return finished_fovs(output_dir, provenance.fingerprint)


def finished_fovs(output_dir: Path, fingerprint: Fingerprint) -> set[int]:
    """FOVs that are there with this fingerprint and with all their files."""
    return {fov for fov in fov_directories(output_dir) if finished_manifest(output_dir, fov, fingerprint)}


def remove_leftovers(output_dir: Path) -> None:
    """Clear away what killed runs left: unfinished attempts go, what was moved aside gets its name back.

    For the holder of the folder's lock only.
    """
    for path in _settled(_leftovers(output_dir)):
        _remove(path)


def clear_leftovers(output_dir: Path) -> int:
    """Clear away what killed runs left in a folder that no run holds.

    The lock is held for a moment only, so that no run is refused because of this: what was left before it was taken
    belongs to nobody, and removing it may take long.

    Returns
    -------
    int
        Number of directories and files that were left.

    Raises
    ------
    OutputBusyError
        Where a run holds the folder.
    OutputError
        Where the folder cannot be read or written.
    """
    if not _leftovers(output_dir):
        return 0
    with OutputLock(output_dir, "housekeeping"):
        paths = _leftovers(output_dir)
        doomed = _settled(paths)
    for path in doomed:
        _remove(path)
    return len(paths)


def _leftovers(output_dir: Path) -> list[Path]:
    with told("read", output_dir):
        return sorted(
            path for path in output_dir.iterdir() if is_temporary(path.name) or parse_moved_aside(path.name) is not None
        )


def _settled(paths: Iterable[Path]) -> list[Path]:
    """Settle what was moved aside, and tell what is left to be removed."""
    settled = (path if is_temporary(path.name) else settle_moved_aside(path) for path in paths)
    return [path for path in settled if path is not None]


def _remove(path: Path) -> None:
    """Remove something that was never finished."""
    if path.is_dir():
        discard(path)
    else:
        with told("remove", path):
            path.unlink(missing_ok=True)


def check_usable(output_dir: Path) -> None:
    """Say whether files can be written into the folder, which may not be there yet, without creating anything.

    Raises
    ------
    OutputError
        Where it, or the nearest of its parents that is there, is no folder or cannot be written.
    """
    with told("use", output_dir):
        existing = next(path for path in (output_dir, *output_dir.parents) if _is_there(path))
        if not existing.is_dir():
            raise OutputError(
                f"cannot use {output_dir} as output folder: {existing} is a file, not a folder; "
                "choose another output folder"
            )
        if not os.access(existing, os.W_OK | os.X_OK):
            raise OutputError(
                f"cannot use {output_dir} as output folder: {existing} cannot be written "
                "(no permission, or a read-only file system); choose another output folder, or change its permissions"
            )


def _is_there(path: Path) -> bool:
    # Unlike `Path.exists`, this tells "not there" from "cannot be seen" and from "name too long".
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
