"""What the command-line program shows: messages, and how far a long piece of work is."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

INTERRUPTED = "interrupted; run the same command again to go on from what is finished"

_LINE_INTERVAL_S = 30.0
_LINE_STEP = 0.25
"""Where nobody watches, a line is printed after each quarter of the work, or half a minute without one."""


def say(message: str) -> None:
    """Tell the user something beside the results."""
    # One line, whatever is in the names of files.
    print("pyama: " + " ".join(message.splitlines()), file=sys.stderr, flush=True)


class Meter(Protocol):
    """Shows what is being done, and how much of it is done."""

    def begin(self, title: str, unit: str = "") -> None:
        """Name the work that begins; its amount is told by `update`."""
        ...

    def update(self, done: int, total: int, note: str = "") -> None:
        """Tell how much is done; may be called from any thread."""
        ...


@contextmanager
def metering() -> Iterator[Meter]:
    """Show progress on stderr: as a bar in a terminal, else as a few plain lines."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[amount]}"),
        TimeElapsedColumn(),
        TextColumn("[dim]remaining"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as progress:
        yield _Bar(progress)


class _Bar:
    """A bar for each piece of work, in a terminal."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._unit = ""

    def begin(self, title: str, unit: str = "") -> None:
        for task in self._progress.task_ids:
            self._progress.remove_task(task)
        self._unit = unit
        self._progress.add_task(title, total=None, amount="")

    def update(self, done: int, total: int, note: str = "") -> None:
        (task,) = self._progress.task_ids
        amount = f"{done}/{total} {self._unit}" + (f", {note}" if note else "")
        self._progress.update(task, completed=done, total=total, amount=amount)


class _Lines:
    """A line now and then, for a log file."""

    def __init__(self) -> None:
        self._unit = ""
        self._next = 0.0
        self._last = 0.0

    def begin(self, title: str, unit: str = "") -> None:
        say(f"{title}…")
        self._unit = unit
        self._next, self._last = _LINE_STEP, monotonic()

    def update(self, done: int, total: int, note: str = "") -> None:
        share = done / total if total else 1.0
        if share < self._next and monotonic() - self._last < _LINE_INTERVAL_S:
            return
        say(f"{done} of {total} {self._unit} ({share:.0%})" + (f", {note}" if note else ""))
        self._next, self._last = (share // _LINE_STEP + 1) * _LINE_STEP, monotonic()
