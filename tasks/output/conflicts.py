"""What in an output folder must not be written over."""

from collections.abc import Collection
from pathlib import Path
from typing import NoReturn

from tasks.errors import OutputConflictError
from tasks.output.config import read_config
from tasks.output.layout import CONFIG_FILE, INSPECTED_ENDING, MANIFEST_FILE, fov_directory, parse_fov_directory
from tasks.output.manifest import is_complete, read_manifest
from tasks.output.os_errors import told
from tasks.output.provenance import Provenance

_REMEDY = "choose another output folder, or set overwrite to replace what is there"
_NOT_OURS = "without a manifest that can be read, so they are damaged or come from another program"


def check_conflicts(
    output_dir: Path, provenance: Provenance, fovs: Collection[int], *, overwrite: bool = False
) -> None:
    """Refuse a folder that belongs to another input or to other parameters.

    Parameters
    ----------
    output_dir
        The output folder; it need not exist.
    provenance
        What the run would make its results from.
    fovs
        The FOVs it would write.
    overwrite
        Whether it may replace results of another provenance. A table that a person has inspected is never
        replaced.

    Raises
    ------
    OutputConflictError
        Saying what differs, with old and new value, and what helps.
    OutputError
        Where the folder cannot be read.
    """
    for fov in sorted(fovs):
        refuse_fov_conflict(output_dir / fov_directory(fov), provenance, replace=overwrite)
    if overwrite:
        return
    for directory in fov_directories(output_dir).values():
        _refuse_foreign(directory, provenance)
    _refuse_foreign_config(output_dir, provenance)


def refuse_fov_conflict(directory: Path, provenance: Provenance, *, replace: bool) -> None:
    """Refuse to write a FOV where what is in its place has to stay.

    A finished directory of the same provenance, a damaged one, and an empty one are not in the way.

    Raises
    ------
    OutputConflictError
        Naming what is there and what helps.
    OutputError
        Where the directory cannot be read.
    """
    with told("read", directory):
        # One look for each question: another attempt may move the directory aside, or put one in place, in between.
        try:
            inspected = inspected_tables(directory)
        except FileNotFoundError:
            return
        except NotADirectoryError as error:
            raise OutputConflictError(
                f"{directory} is a file where a folder is needed; move it away, or choose another output folder"
            ) from error
    manifest = read_manifest(directory)
    same = manifest is not None and manifest.fingerprint == provenance.fingerprint
    if manifest is not None and same and is_complete(directory, manifest):
        return
    if inspected:
        refuse_inspected(directory, inspected)
    if not replace:
        _refuse_foreign(directory, provenance)


def inspected_tables(directory: Path) -> list[str]:
    """Names of the tables of a FOV's directory that a person has corrected; raises `OSError` as it comes."""
    return sorted(path.name for path in directory.iterdir() if path.name.endswith(INSPECTED_ENDING))


def refuse_inspected(directory: Path, inspected: list[str]) -> NoReturn:
    """Tell that the work of a person is never overwritten."""
    raise OutputConflictError(
        f"{directory} holds {inspected[0]}, the work of a person, and is never overwritten; "
        "choose another output folder, or move that file away"
    )


def is_fov_directory(path: Path) -> bool:
    """Whether a folder is the result of a FOV, by its name and what is in it."""
    return parse_fov_directory(path.name) is not None and (path / MANIFEST_FILE).is_file()


def fov_directories(output_dir: Path) -> dict[int, Path]:
    """Whatever bears the name of a FOV's directory, by number, in order; empty where there is no folder.

    Raises
    ------
    OutputError
        Where the folder cannot be read.
    """
    with told("read", output_dir):
        paths = list(output_dir.iterdir()) if output_dir.is_dir() else []
    numbered = ((parse_fov_directory(path.name), path) for path in paths)
    return dict(sorted((fov, path) for fov, path in numbered if fov is not None))


def _refuse_foreign(directory: Path, provenance: Provenance) -> None:
    manifest = read_manifest(directory)
    if manifest is not None:
        _refuse_difference(directory, manifest.provenance, provenance)
        return
    with told("read", directory):
        if directory.is_dir() and any(directory.iterdir()):
            raise OutputConflictError(f"{directory} holds files {_NOT_OURS}; {_REMEDY}")


def _refuse_foreign_config(output_dir: Path, provenance: Provenance) -> None:
    path = output_dir / CONFIG_FILE
    with told("read", path):
        if not path.exists():
            return
    present = read_config(output_dir)
    if present is None:
        raise OutputConflictError(f"{path} cannot be understood; {_REMEDY}")
    _refuse_difference(path, present, provenance)


def _refuse_difference(where: Path, present: Provenance, wanted: Provenance) -> None:
    if difference := wanted.difference_from(present):
        raise OutputConflictError(f"{where} comes from {difference}; {_REMEDY}")
