"""The files of a TIFF series: found by a pattern, each at its place in the grid of FOVs, frames, channels and planes.

A pattern is a path with placeholders in braces: `/data/img_{fov}_{time}_{channel}.tif`, or, with a folder for each
FOV, `/data/pos{fov}/t{time}_{channel}.tif`. `{time}` and `{z}` stand for digits; `{fov}` and `{channel}` for any text
without a slash, as short as can be. What has no placeholder is there once; without `{time}`, though, the pages of each
file are its frames.
"""

import errno
import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tasks.acquisition.containment import inside
from tasks.acquisition.damage import RefusedError
from tasks.acquisition.names import PLACEHOLDERS

_DIGITS = ("time", "z")


class NoFileError(RefusedError):
    """No file matches a pattern."""


class Place(NamedTuple):
    """Indices of an image."""

    fov: int
    time: int
    channel: int
    z: int


@dataclass(frozen=True)
class Series:
    """Files that match a pattern."""

    folder: Path
    """The folder that holds them all, its links followed."""
    values: Mapping[str, tuple[str, ...]]
    """By placeholder, what stands in its place in the files' names, in order; empty where there is no such."""
    files: Mapping[Place, Path]
    frames_are_pages: bool

    def length(self, placeholder: str) -> int:
        """Length of an axis, as far as the files' names tell."""
        return max(1, len(self.values[placeholder]))


def find_series(pattern: Path) -> Series:
    """Find the files of a series.

    Raises
    ------
    NoFileError
        Where no file matches.
    RefusedError
        Where two files are for one image, a file is empty or leads out of the folder, or time points or planes are
        missing as a whole.
    """
    parts = _Pattern(pattern)
    found = list(parts.matches())
    if not found:
        raise NoFileError(f"no file matches the pattern {parts.text!r} in {str(parts.folder)!r}")
    values = {name: _ordered(name, {match[name] for match, _ in found}) for name in parts.placeholders}
    for name in _DIGITS:
        _check_step(name, values.get(name, ()))
    index = {name: {_key(name, text): i for i, text in enumerate(texts)} for name, texts in values.items()}
    files: dict[Place, Path] = {}
    for match, path in found:
        place = Place(*(index[name][_key(name, match[name])] if name in match else 0 for name in PLACEHOLDERS))
        if place in files:
            raise RefusedError(f"two files are for one image: {files[place].name!r} and {path.name!r}")
        if path.stat().st_size == 0:
            raise RefusedError(f"its file {path.name!r} is empty")
        files[place] = path
    return Series(
        folder=parts.folder,
        values={name: values.get(name, ()) for name in PLACEHOLDERS},
        files=files,
        frames_are_pages="time" not in values,
    )


def series_files(pattern: Path) -> Sequence[Path]:
    """Files that match a pattern, in order, whether or not they make a series."""
    return sorted(path for _, path in _Pattern(pattern).matches())


class _Pattern:
    """A pattern, part by part."""

    def __init__(self, pattern: Path) -> None:
        parts = pattern.parts
        first = next(i for i, part in enumerate(parts) if _names_in(part))
        if "\0" in str(pattern):
            raise NoFileError("a path has no NUL character")
        self.folder = Path(*parts[:first]).resolve()
        self.text = "/".join(parts[first:])
        self.placeholders = _names_in(self.text)
        self._parts = [_expression(part) for part in parts[first:]]
        twice = sorted({name for name in self.placeholders if self.placeholders.count(name) > 1})
        if twice:
            raise RefusedError(f"the pattern {self.text!r} has {{{twice[0]}}} twice")
        if "}{" in self.text:
            raise RefusedError(f"the pattern {self.text!r} has placeholders side by side; files cannot be told apart")

    def matches(self) -> Iterator[tuple[dict[str, str], Path]]:
        """Files that match, each with what stands in place of the placeholders."""
        yield from self._matches(self.folder, 0, {})

    def _matches(self, folder: Path, depth: int, values: dict[str, str]) -> Iterator[tuple[dict[str, str], Path]]:
        try:
            with os.scandir(folder) as entries:
                found = [(entry.name, entry.is_symlink()) for entry in entries]
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG}:
                return
            raise
        is_last = depth == len(self._parts) - 1
        for name, is_link in found:
            match = self._parts[depth].fullmatch(name)
            if match is None:
                continue
            path = inside(folder / name, self.folder) if is_link else folder / name
            if path.is_dir() == is_last:
                continue
            here = values | match.groupdict()
            if is_last:
                yield here, path
            else:
                yield from self._matches(path, depth + 1, here)


def _names_in(text: str) -> list[str]:
    return re.findall("{(" + "|".join(PLACEHOLDERS) + ")}", text)


def _expression(part: str) -> re.Pattern[str]:
    text = re.escape(part)
    for name in PLACEHOLDERS:
        value = r"[0-9]+" if name in _DIGITS else r".+?"
        text = text.replace(re.escape(f"{{{name}}}"), f"(?P<{name}>{value})", 1)
    return re.compile(text)


def _ordered(name: str, texts: set[str]) -> tuple[str, ...]:
    """Values of a placeholder, each once: numbers by their size, else texts as they are sorted."""
    by_key = {_key(name, text): text for text in sorted(texts)}
    return tuple(by_key[key] for key in sorted(by_key))


def _key(name: str, text: str) -> tuple[int, int, str]:
    """What a value is known by and sorted by, numbers first; `1` and `001` are one, but for channels."""
    if not text.isdecimal():
        return 1, 0, text
    return 0, int(text), text if name == "channel" else ""


def _check_step(name: str, texts: Sequence[str]) -> None:
    """Make sure that numbers go on in equal steps: else frames would be taken for their neighbours."""
    numbers = [int(text) for text in texts]
    steps = [after - before for before, after in itertools.pairwise(numbers)]
    for before, step in zip(numbers, steps, strict=False):
        if step != min(steps):
            raise RefusedError(
                f"there is no file for {name} {before + min(steps)}, between {before} and {before + step}"
            )
