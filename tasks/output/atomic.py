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
    content = text.encode()
    with told("write", path, needs=len(content)), replacing(path) as temporary:
        write_durably(temporary, content)


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
    """Remove a hidden directory, or leave what resists: under its name it counts for nothing.

    It is renamed first, so that a writer that was left over fails at once instead of putting a half-emptied
    directory in place.
    """
    # `.fov_000.<unique>.tmp` and `.fov_000.<unique>.old` alike become a fresh `.fov_000.<unique>.tmp`.
    doomed = directory.with_name(temporary_name(directory.name.split(".")[1]))
    with suppress(OSError):
        directory.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def settle_moved_aside(aside: Path) -> None:
    """Give a moved-aside directory its name back, or remove it where a successor has taken the name.

    Nothing happens where there is no such directory.
    """
    name = parse_moved_aside(aside.name)
    if name is None or not aside.exists():
        return
    try:
        # A directory cannot be renamed onto one that holds files: this decides even among several processes.
        aside.rename(aside.with_name(name))
    except OSError:
        discard(aside)
