"""Recordings that were used last: a file of JSON lines in PYAMA_HOME, shared by all API processes of a host.

Whoever reads or writes it holds a lock that the kernel releases with the process. A line that a crash has torn
counts for nothing.
"""

import fcntl
import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

FILE_NAME = "recent_files.jsonl"
MOST_FILES = 200
"""How many recordings are remembered."""
_MOST_BYTES = 1 << 18
"""Size from which on the file is rewritten with what is remembered alone."""

logger = logging.getLogger("pyama.api")


@dataclass(frozen=True)
class RecentFile:
    """A recording that was used."""

    path: str
    used_at_s: float
    """Seconds since 1970."""


def remember(home: Path, path: Path) -> None:
    """Note that a recording is being used.

    Nothing that the user asked for hangs on it: where it fails, the log says so.
    """
    entry = {"path": str(path), "used_at_s": round(time.time(), 3)}
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(home, os.O_RDWR | os.O_CREAT, fcntl.LOCK_EX) as descriptor:
            size = os.lseek(descriptor, 0, os.SEEK_END)
            # The line break comes first, so that a line torn by a crash spoils no other.
            size += os.write(descriptor, b"\n" + json.dumps(entry).encode() + b"\n")
            if size > _MOST_BYTES:
                _rewrite(descriptor)
    except OSError as error:
        logger.warning("cannot note %s among the recent files in %s: %s", path, home, error)


def recent_files(home: Path) -> list[RecentFile]:
    """Recordings that were used, each once, newest first; none where the notes cannot be read."""
    try:
        with _locked(home, os.O_RDONLY, fcntl.LOCK_SH) as descriptor:
            return _read(descriptor)
    except FileNotFoundError:
        return []
    except OSError as error:
        logger.warning("cannot read the recent files in %s: %s", home, error)
        return []


@contextmanager
def _locked(home: Path, flags: int, kind: int) -> Iterator[int]:
    descriptor = os.open(home / FILE_NAME, flags | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, kind)
        yield descriptor
    finally:
        os.close(descriptor)


def _read(descriptor: int) -> list[RecentFile]:
    os.lseek(descriptor, 0, os.SEEK_SET)
    with os.fdopen(os.dup(descriptor), "rb") as file:
        lines = file.read(2 * _MOST_BYTES).splitlines()
    newest: dict[str, RecentFile] = {}
    for line in reversed(lines):
        try:
            entry = json.loads(line)
            found = RecentFile(str(entry["path"]), float(entry["used_at_s"]))
        except (ValueError, KeyError, TypeError):
            continue
        newest.setdefault(found.path, found)
    return list(newest.values())[:MOST_FILES]


def _rewrite(descriptor: int) -> None:
    """Keep what is remembered, the newest of it where paths are so long that it would not take half of the space."""
    kept: list[bytes] = []
    space = _MOST_BYTES // 2
    for file in _read(descriptor):
        line = json.dumps({"path": file.path, "used_at_s": file.used_at_s}).encode() + b"\n"
        space -= len(line)
        if space < 0:
            break
        kept.append(line)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, b"".join(reversed(kept)), 0)
