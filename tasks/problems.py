"""What is wrong with the fields of a request or of settings, as a user reads it: field, reason, and the value given."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

_LONGEST_VALUE = 80
_TYPE_NAMES = {"int", "float", "str", "bool"}


def describe(error: ValidationError) -> str:
    """One line for all that is wrong: field, what is allowed, and the value given."""
    return "; ".join(f"{field_name(one['loc'])}: {reason(one)}" for one in error.errors(include_url=False))


def field_name(location: Iterable[int | str]) -> str:
    """Name a field as the user wrote it, without the names of the alternative types that did not fit."""
    name = ".".join(str(part) for part in location if not _is_type_name(part))
    # What is no Unicode text cannot be part of a message.
    return name.encode("utf-8", "backslashreplace").decode() or "request"


def reason(problem: Mapping[str, Any]) -> str:
    """Tell what is wrong with a field, of which the value is told as well, unless `problem` comes without `input`."""
    kind = problem["type"]
    if kind == "missing":
        return "is missing"
    what = "unknown field" if kind == "extra_forbidden" else str(problem["msg"]).removeprefix("Value error, ")
    return f"{what} (got {shorten(problem['input'])})" if "input" in problem else what


def shorten(value: object) -> str:
    """Show a value in a message, without its end where it is long."""
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"


def _is_type_name(part: int | str) -> bool:
    return isinstance(part, str) and (part.endswith("]") or part in _TYPE_NAMES)
