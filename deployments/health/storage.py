"""Whether the folders of the settings can be used, and whether there is space left on their disks."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from api.settings import Settings
from deployments.health.finding import Finding

_LEAST_FREE_BYTES = 2 << 30
_LEAST_FREE_SHARE = 0.02
_LEAST_FREE_FILES = 1000


def storage_findings(settings: Settings) -> Iterator[Finding]:
    """Look at PYAMA_HOME, the allowed folders, and those of the nightly scan."""
    yield folder_finding("PYAMA_HOME", settings.home, os.R_OK | os.W_OK, created=True)
    for folder in settings.allowed_paths or ():
        yield folder_finding("PYAMA_ALLOWED_PATHS", folder, os.R_OK)
    if settings.nightly_folder is not None:
        yield folder_finding("PYAMA_NIGHTLY_FOLDER", settings.nightly_folder, os.R_OK)
    if settings.nightly_output is not None:
        yield folder_finding("PYAMA_NIGHTLY_OUTPUT", settings.nightly_output, os.R_OK | os.W_OK, created=True)
    named = [settings.home, *(settings.allowed_paths or ()), settings.nightly_folder, settings.nightly_output]
    seen: set[int] = set()
    for one in filter(None, named):
        existing = _existing(one)
        if existing is not None and existing.stat().st_dev not in seen:
            seen.add(existing.stat().st_dev)
            yield disk_finding(existing)


def folder_finding(setting: str, folder: Path, access: int, *, created: bool = False) -> Finding:
    """Whether a folder is there and may be used.

    Parameters
    ----------
    access
        What is needed, as `os.access` has it.
    created
        Whether it is created where it is not there.
    """
    needed = "written" if access & os.W_OK else "read"
    existing = _existing(folder) if created else folder
    if existing is None or not existing.is_dir():
        return Finding(False, f"paths: {folder} of {setting} is no folder", "mount or create it, or set another")
    if not os.access(existing, access | os.X_OK):
        return Finding(
            False,
            f"paths: {existing} of {setting} cannot be {needed} by user {os.getuid()}",
            "change its permissions, or run as another user",
        )
    return Finding(True, f"paths: {folder} of {setting} can be {needed}")


def disk_finding(
    folder: Path, least_free_bytes: int = _LEAST_FREE_BYTES, least_free_share: float = _LEAST_FREE_SHARE
) -> Finding:
    """Whether there is space on the disk that a folder is on, and room for more files."""
    disk, files = shutil.disk_usage(folder), os.statvfs(folder)
    said = f"disk of {folder}: {disk.free / 1e9:.1f} of {disk.total / 1e9:.1f} GB are free"
    if files.f_files and files.f_favail < _LEAST_FREE_FILES:
        return Finding(False, f"{said}, but only {files.f_favail} more files can be made", "delete what is not needed")
    if disk.free < max(least_free_bytes, least_free_share * disk.total):
        return Finding(False, said, "delete or move results that are not needed; jobs fail when it is full")
    return Finding(True, said)


def _existing(folder: Path) -> Path | None:
    """The folder, or the nearest of its parents that is there."""
    return next((path for path in (folder, *folder.parents) if path.exists()), None)
