"""How a reader tells what is wrong with a recording, whatever its decoder made of it."""

from collections.abc import Iterator
from contextlib import contextmanager

from tasks.errors import PyamaError, RecordingError


class RefusedError(ValueError):
    """What is wrong with a recording, in words for the user."""


@contextmanager
def errors_as(what: str) -> Iterator[None]:
    """Turn whatever a broken file makes its decoder raise into an error that says what happened to what."""
    try:
        yield
    except PyamaError:
        raise
    except (RefusedError, OSError) as error:
        raise RecordingError(f"{what}: {error}") from error
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        shortened = reason if len(reason) <= 200 else f"{reason[:199]}…"
        raise RecordingError(f"{what}: the file is damaged, or unlike any known one ({shortened})") from error
