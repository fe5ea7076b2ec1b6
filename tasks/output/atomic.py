"""Changes of a folder that survive a crash: each is there whole or not at all."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from tasks.output.layout import parse_moved_aside, temporary_name
from tasks.output.os_errors import told

_CANNOT_SYNC_FOLDERS = {errno.EINVAL, errno.ENOTSUP}


def write_text_atomically(path: Path, text: str) -> None:
    """Write a file so that at any moment either the old or the new content is there.

    Raises
    ------
    OutputError
        Where it cannot be written; the old content stays.
    """
    with placing_text(path, text):
        pass


@contextmanager
def placing_text(path: Path, text: str) -> Iterator[None]:
    """Have a file that is on the disk within the block, and takes the place of the old one at the end of it.

    So several files are replaced only once there is room for all of them.

    Raises
    ------
    OutputError
        Where it cannot be written; the old content stays, also where the block fails.
    """
    content = text.encode()
    with told("write", path, needs=len(content)), replacing(path) as temporary:
        write_durably(temporary, content)
        yield


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Have a file written under another name, which takes the place of the old one at the end of the block.

    After an error the old one stays, and the new one is gone. Raises `OSError` as it comes.
    """
    temporary = path.with_name(temporary_name(path.name))
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_durably(path: Path, content: bytes) -> None:
    """Write a new file and wait until it is on the disk; raises `OSError` as it comes."""
    with durable(path) as file:
        file.write(content)


@contextmanager
def durable(path: Path) -> Iterator[BinaryIO]:
    """Have a new file written that is on the disk at the end of the block; raises `OSError` as it comes."""
    with path.open("xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def sync_file(path: Path) -> None:
    """Wait until a file that a library has written is on the disk; raises `OSError` as it comes."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk; raises `OSError` as it comes."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC_FOLDERS:
            raise
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Wait until a folder with all that is in it is on the disk; raises `OSError` as it comes."""
    for path in folder.rglob("*"):
        if path.is_dir():
            sync_folder(path)
        else:
            sync_file(path)
    sync_folder(folder)


def discard(directory: Path) -> None:
    """Remove a hidden directory, or leave what resists: under its name it counts for nothing."""
    with suppress(OSError):
        shutil.rmtree(_doomed(directory), ignore_errors=True)


def settle_moved_aside(aside: Path) -> Path | None:
    """Give a moved-aside directory its name back, or a temporary one where a successor has taken its name.

    Nothing happens where there is no such directory.

    Returns
    -------
    Path or None
        The directory by its temporary name, which is to be discarded.
    """
    name = parse_moved_aside(aside.name)
    if name is None or not aside.exists():
        return None
    try:
        # A directory cannot be renamed onto one that holds files: this decides even among several processes.
        aside.rename(aside.with_name(name))
    except OSError:
        with suppress(OSError):
            return _doomed(aside)
    return None


def _doomed(directory: Path) -> Path:
    """Rename a directory that is to be removed; raises `OSError` as it comes.

    A writer that was left over fails at once then, instead of putting a half-emptied directory in place.
    """
    # `.fov_000.<unique>.tmp` and `.fov_000.<unique>.old` alike become a fresh `.fov_000.<unique>.tmp`.
    return directory.rename(directory.with_name(temporary_name(directory.name.split(".")[1])))
