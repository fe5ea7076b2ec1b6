"""Searching a tree of folders by a glob pattern, bounded in depth, finds, entries and time.

A pattern is written as in a shell: `*`, `?` and `[a-z]` within a name, `**` for any number of folders, and braces
for alternatives, `**/*.{nd2,czi}`. Capitals do not matter. Links to folders are not followed. A folder that is a
recording, such as an OME-Zarr, is found as a file is, and not looked into.
"""

import fnmatch
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Literal

from api.errors import InvalidRequestError
from api.file_items import FileItem, file_item, has_extension, visible_status
from tasks.acquisition import is_recording_folder

MOST_FILES = 1000
"""Files that a search finds at most."""
MOST_ENTRIES = 200_000
"""Files and folders that it looks at at most."""
LONGEST_S = 10.0
"""Seconds that it takes at most."""
LONGEST_PATTERN = 256
MOST_ALTERNATIVES = 100

Limit = Literal["files", "entries", "time"]
"""What ended a search before it was through."""

_Parts = tuple[re.Pattern[str] | None, ...]  # None stands for **
_States = frozenset[tuple[int, int]]  # which alternative, and how many of its parts are matched


@dataclass
class Found:
    """What a search has come to."""

    files: list[FileItem] = field(default_factory=list)
    limit: Limit | None = None
    n_unreadable: int = 0
    """Folders that could not be read."""


class GlobPattern:
    """A pattern, matched name by name on the way down, so that folders that cannot hold a match are not entered.

    Parameters
    ----------
    text
        The pattern, relative to where the search begins.

    Raises
    ------
    InvalidRequestError
        Where it leads upwards or away, or is too long or has too many alternatives.
    """

    def __init__(self, text: str) -> None:
        if len(text) > LONGEST_PATTERN or "\0" in text:
            raise InvalidRequestError(f"pattern: must be text of at most {LONGEST_PATTERN} characters without NUL")
        self._alternatives = [_parts(alternative) for alternative in _expand(text)]
        self.start = self._closed({(i, 0) for i in range(len(self._alternatives))})

    def step(self, states: _States, name: str) -> _States:
        """Go one name further down."""
        states_after: set[tuple[int, int]] = set()
        for alternative, n_matched in states:
            parts = self._alternatives[alternative]
            if n_matched == len(parts):
                continue
            part = parts[n_matched]
            if part is None:
                states_after.add((alternative, n_matched))
            elif part.fullmatch(name):
                states_after.add((alternative, n_matched + 1))
        return self._closed(states_after)

    def is_match(self, states: _States) -> bool:
        """Whether the names gone so far match."""
        return any(n_matched == len(self._alternatives[alternative]) for alternative, n_matched in states)

    def _closed(self, states: set[tuple[int, int]]) -> _States:
        """Add what is reached by taking `**` for no folder at all."""
        closed = set(states)
        for alternative, n_matched in states:
            parts = self._alternatives[alternative]
            while n_matched < len(parts) and parts[n_matched] is None:
                n_matched += 1
                closed.add((alternative, n_matched))
        return frozenset(closed)


def search_files(
    folder: Path,
    pattern: GlobPattern,
    *,
    extensions: frozenset[str] | None,
    max_depth: int,
    include_hidden: bool,
    roots: Sequence[Path] | None,
) -> Found:
    """Find files, folder by folder, by name within each.

    Parameters
    ----------
    folder
        Where to begin.
    pattern
        What the path below the folder has to match.
    extensions
        Endings of files that are wanted, as `normalized_extensions` gives them.
    max_depth
        Levels of folders that are looked into; 1: only the folder itself.
    include_hidden
        Whether to look at what begins with a dot.
    roots
        Folders that links may lead into; None: anywhere.
    """
    found = Found()
    deadline_s = monotonic() + LONGEST_S
    n_entries = 0
    waiting: list[tuple[Path, _States, int]] = [(folder, pattern.start, 1)]
    while waiting:
        current, states, depth = waiting.pop()
        below: list[tuple[Path, _States, int]] = []
        for entry in _entries(current, found, MOST_ENTRIES - n_entries + 1):
            n_entries += 1
            found.limit = _limit(n_entries, deadline_s)
            if found.limit:
                return found
            if entry.name.startswith(".") and not include_hidden:
                continue
            after = pattern.step(states, entry.name)
            if not after:
                continue
            if _is_folder(entry) and not is_recording_folder(entry.name):
                if depth < max_depth:
                    below.append((current / entry.name, after, depth + 1))
                continue
            path = current / entry.name
            if not pattern.is_match(after) or not has_extension(entry.name, extensions):
                continue
            status = visible_status(path, roots, is_link=entry.is_symlink())
            if status is None or (item := file_item(path, status)).extension is None:
                continue
            if len(found.files) == MOST_FILES:
                found.limit = "files"
                return found
            found.files.append(item)
        waiting += reversed(below)
    return found


def _limit(n_entries: int, deadline_s: float) -> Limit | None:
    if n_entries > MOST_ENTRIES:
        return "entries"
    return "time" if n_entries % 64 == 0 and monotonic() > deadline_s else None


def _entries(folder: Path, found: Found, most: int) -> list[os.DirEntry[str]]:
    """Entries of a folder by name, never more than are allowed to be looked at."""
    entries: list[os.DirEntry[str]] = []
    try:
        with os.scandir(folder) as scan:
            for entry in scan:
                entries.append(entry)
                if len(entries) == most:
                    break
    except OSError:
        found.n_unreadable += 1
    return sorted(entries, key=lambda entry: entry.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    with suppress(OSError):
        return entry.is_dir(follow_symlinks=False)
    return False


def _parts(pattern: str) -> _Parts:
    names = [name for name in pattern.split("/") if name not in {"", "."}]
    if pattern.startswith("/") or ".." in names:
        raise InvalidRequestError(
            f"pattern: {pattern[:80]!r} leads out of search_path; write it relative to it, without .."
        )
    if not names:
        raise InvalidRequestError("pattern: is empty; **/* finds all files")
    if names[-1] == "**":  # what is in a folder, not a file in its place
        names.append("*")
    return tuple(None if name == "**" else re.compile(fnmatch.translate(name), re.IGNORECASE) for name in names)


def _expand(pattern: str) -> list[str]:
    """Write out the alternatives in braces; a brace without its partner stands for itself."""
    done: list[str] = []
    waiting = [pattern]
    while waiting:
        text = waiting.pop()
        choice = _first_choice(text)
        if choice is None:
            done.append(text)
        else:
            before, options, after = choice
            waiting += [f"{before}{option}{after}" for option in reversed(options)]
        if len(done) + len(waiting) > MOST_ALTERNATIVES:
            raise InvalidRequestError(f"pattern: has more than {MOST_ALTERNATIVES} alternatives")
    return list(dict.fromkeys(done))


def _first_choice(text: str) -> tuple[str, list[str], str] | None:
    """Text before the first braces that hold alternatives, these, and the text after."""
    for match in re.finditer(r"\{", text):
        options = list(_options(text, match.start()))
        if len(options) > 1:
            end = match.start() + sum(map(len, options)) + len(options)
            return text[: match.start()], options, text[end + 1 :]
    return None


def _options(text: str, start: int) -> Iterator[str]:
    """Alternatives between a brace and its partner, separated by commas outside further braces; none without one."""
    depth, begin = 0, start + 1
    options: list[str] = []
    for i in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[i], 0)
        if depth == 0:
            yield from [*options, text[begin:i]]
            return
        if depth == 1 and text[i] == ",":
            options.append(text[begin:i])
            begin = i + 1
