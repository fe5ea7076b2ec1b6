"""Counts and latencies of requests, added up over all API processes of a host.

A scrape meets one process, whichever it is, so each of them keeps its numbers in a file of its own in PYAMA_HOME and
reads those of the others. What ended processes have counted is kept, so that no number ever goes back.
"""

import fcntl
import json
import os
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from api.middleware import Outcome

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper ends of the classes of latency, in seconds; above the last is one more."""

_WRITE_INTERVAL_S = 1.0
_ENDED = "ended.json"
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

RouteKey = tuple[str, str]
"""Method and route."""


@dataclass
class RouteNumbers:
    """What was counted at a route."""

    by_status: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    by_bucket: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))

    @property
    def count(self) -> int:
        """Number of requests."""
        return sum(self.by_bucket)

    def add(self, other: "RouteNumbers") -> None:
        """Add what another process has counted."""
        for status, count in other.by_status.items():
            self.by_status[status] = self.by_status.get(status, 0) + count
        self.seconds += other.seconds
        self.by_bucket = [a + b for a, b in zip(self.by_bucket, other.by_bucket, strict=True)]


Numbers = dict[RouteKey, RouteNumbers]


class RequestMetrics:
    """Numbers of this process, and the sum of all.

    Parameters
    ----------
    folder
        Where the API processes of the host keep their numbers.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._own: Numbers = defaultdict(RouteNumbers)
        self._written_s = 0.0
        # The system gives the number of an ended process to another one some day.
        self._path = folder / f"{os.getpid()}-{time.time_ns():x}.json"

    def observe(self, outcome: Outcome) -> None:
        """Count a request that was answered."""
        # Clients choose the method; only known ones become labels.
        method = outcome.method if outcome.method in _METHODS else "OTHER"
        numbers = self._own[method, outcome.route]
        status = str(outcome.status)
        numbers.by_status[status] = numbers.by_status.get(status, 0) + 1
        numbers.seconds += outcome.duration_s
        numbers.by_bucket[bisect_left(BUCKETS_S, outcome.duration_s)] += 1
        now = time.monotonic()
        if now - self._written_s > _WRITE_INTERVAL_S:
            self._written_s = now
            with suppress(OSError):  # what cannot be written is counted here all the same
                self._write()

    def total(self) -> Numbers:
        """Sum over all processes of the host, ended ones too."""
        total: Numbers = defaultdict(RouteNumbers)
        parts = [self._own]
        with suppress(OSError):
            self._write()
            with self._lock():
                self._keep_ended()
                others = [path for path in self._folder.glob("*.json") if path != self._path]
                parts += [_read(path) for path in others]
        for part in parts:
            for key, numbers in part.items():
                total[key].add(numbers)
        return total

    def _write(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._path.exists():
            with self._lock():
                self._keep_ended()
        _write(self._path, self._own)

    def _keep_ended(self) -> None:
        """Move the numbers of processes that have ended to where they are kept."""
        for path in self._folder.glob("[0-9]*.json"):
            if path != self._path and not _lives(int(path.stem.partition("-")[0])):
                kept = _read(self._folder / _ENDED)
                for key, numbers in _read(path).items():
                    kept.setdefault(key, RouteNumbers()).add(numbers)
                _write(self._folder / _ENDED, kept)
                path.unlink(missing_ok=True)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        descriptor = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _read(path: Path) -> Numbers:
    try:
        rows = json.loads(path.read_bytes())
        return {(method, route): RouteNumbers(*rest) for method, route, *rest in rows}
    except (OSError, ValueError, TypeError):
        return {}


def _write(path: Path, numbers: Numbers) -> None:
    rows = [[*key, one.by_status, one.seconds, one.by_bucket] for key, one in numbers.items()]
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(rows))
    temporary.replace(path)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
