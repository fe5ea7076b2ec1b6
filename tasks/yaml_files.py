"""Reading small YAML files that people write: what is wrong is told with its line, and nothing can grow out of hand."""

from pathlib import Path
from typing import Any

import yaml

from tasks.errors import InvalidParametersError

LARGEST_FILE = 1 << 18
"""Bytes; the largest of these files has a line or two for each of many samples."""

_DEEPEST = 8


class _Bounded(yaml.composer.Composer):
    """Refuses aliases, because a small file with them can stand for a gigantic content, and values nested deeply."""

    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:  # noqa: ANN401 - as the base class has it
        where = parent and parent.start_mark
        if self.check_event(yaml.events.AliasEvent):  # type: ignore[attr-defined]
            raise yaml.composer.ComposerError(None, None, "aliases (*) are not allowed", where)
        if self._depth == _DEEPEST:
            raise yaml.composer.ComposerError(None, None, "it is nested too deeply", where)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


class TextLoader(_Bounded, yaml.BaseLoader):
    """Reads values as they are written: YAML would take the name `no` for false, and the range `1:30` for 90."""


class ValueLoader(_Bounded, yaml.SafeLoader):
    """Reads numbers, truth values and text."""


def read_yaml(path: Path, what: str, loader: type[TextLoader | ValueLoader]) -> object:
    """Read a YAML file.

    Parameters
    ----------
    what
        What the file should be, for the error message, e.g. `samples file`.
    loader
        How its values are understood.

    Raises
    ------
    OSError
        As the operating system refuses it.
    InvalidParametersError
        Where it is too large or no YAML; names the line.
    """
    with path.open("rb") as file:
        content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise InvalidParametersError(f"{path.name} is no {what}: it has more than {LARGEST_FILE} bytes")
    try:
        return yaml.load(content, loader)  # noqa: S506 - neither loader makes anything but plain values
    except (yaml.YAMLError, UnicodeError, ValueError) as error:
        raise InvalidParametersError(f"{path.name} is no {what}: {_place(error)}") from error


def _place(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return " ".join(str(error).split())
