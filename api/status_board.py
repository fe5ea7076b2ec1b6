"""What is known of the jobs that clients ask for again and again, shared by all API processes of a host.

Many pollers cost little: an answer may be a moment old, and one look at the orchestrator brings all jobs that are
being watched up to date. That look is taken before anybody asks, again and again while jobs are being watched, so that
no client waits for it, not even where all of them ask at the same moment. A client that meets one process after the
other must not see a job go back in time, so the moment is the same for all: it is in a file, and only the process that
holds the file's lock looks at the orchestrator and writes. Losing the file loses nothing.
"""

import asyncio
import json
import logging
import os
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from api.host_lock import host_lock
from api.jobs import Job

FRESH_S = 1.2
"""Age up to which what is known is good enough."""
_RENEW_S = 0.6
"""Age at which it is renewed for those who will ask."""
_WATCHED_S = 6.0
"""How long after the last question a job counts as being watched."""
_LOCK_PATIENCE_S = 3.0
_MOST_WATCHED = 500

Look = Callable[[Collection[str]], Awaitable[dict[str, Job]]]
"""Asks the orchestrator for jobs; those that it does not know are missing in the answer."""


logger = logging.getLogger("pyama.api")


@dataclass
class _Entry:
    looked_at_s: float
    """Moment at which the look at the orchestrator began, on the clock that all processes of the host share."""
    watched_at_s: float
    job: Job | None


class StatusBoard:
    """Latest known state of jobs.

    Parameters
    ----------
    path
        The shared file; its folder is created where it is not there.
    look
        Asks the orchestrator.
    """

    def __init__(self, path: Path, look: Look) -> None:
        self._path = path
        self._look = look
        self._entries: dict[str, _Entry] = {}
        self._version: tuple[int, int] | None = None
        self._watched: dict[str, float] = {}
        self._renewal: asyncio.Task[None] | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def job(self, job_id: str, *, not_before_s: float = 0.0) -> Job | None:
        """State of a job; None where there is no such job.

        Parameters
        ----------
        not_before_s
            Moment, by `time.monotonic`, before which what is known is too old.
        """
        try:
            return await self._shared(job_id, not_before_s)
        except OSError as error:
            logger.warning("cannot share what is known of jobs in %s: %s", self._path.parent, error)
            return (await self._look([job_id])).get(job_id)

    async def _shared(self, job_id: str, not_before_s: float) -> Job | None:
        now = time.monotonic()
        self._watched[job_id] = now
        entry = self._known().get(job_id)
        not_before_s = max(not_before_s, now - FRESH_S)
        if entry is None or entry.looked_at_s < not_before_s:
            entry = await self._renewed(job_id, not_before_s)
        if self._keeper is None or self._keeper.done():
            self._keeper = asyncio.create_task(self._keep_fresh())
        return entry.job

    async def _renewed(self, job_id: str, not_before_s: float) -> _Entry:
        while True:
            self._watched[job_id] = time.monotonic()
            await asyncio.shield(self._start_renewal(not_before_s))
            entry = self._known().get(job_id)
            if entry is not None and entry.looked_at_s >= not_before_s:
                return entry

    async def _keep_fresh(self) -> None:
        """Renew what is known in advance, as long as anybody asks."""
        while self._recently_watched(time.monotonic()):
            await asyncio.sleep(_RENEW_S)
            with suppress(Exception):  # whoever asks next is told what is wrong
                await self._start_renewal(time.monotonic() - _RENEW_S / 2)

    def _start_renewal(self, not_before_s: float) -> asyncio.Task[None]:
        """Renew, unless that is under way already."""
        if self._renewal is None or self._renewal.done():
            self._renewal = asyncio.create_task(self._renew(not_before_s))
            # Where nobody waits for it, nobody else takes note of its failure.
            self._renewal.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._renewal

    async def _renew(self, not_before_s: float) -> None:
        """Look at the orchestrator, unless another process of the host has done so since a moment."""
        async with host_lock(self._path.with_suffix(".lock"), _LOCK_PATIENCE_S):
            known = self._known()
            began_s = time.monotonic()
            recent = self._recently_watched(began_s)
            for job_id, entry in known.items():
                if began_s - entry.watched_at_s < _WATCHED_S:
                    recent.setdefault(job_id, entry.watched_at_s)
            if all(job_id in known and known[job_id].looked_at_s >= not_before_s for job_id in self._watched):
                return
            latest = sorted(recent, key=lambda job_id: recent[job_id])[-_MOST_WATCHED:]
            jobs = await self._look(latest)
            self._write({job_id: _Entry(began_s, recent[job_id], jobs.get(job_id)) for job_id in latest})

    def _recently_watched(self, now_s: float) -> dict[str, float]:
        """Jobs that somebody has asked for lately, with the moment; the others are forgotten."""
        self._watched = {job_id: at_s for job_id, at_s in self._watched.items() if now_s - at_s < _WATCHED_S}
        return self._watched

    def _known(self) -> dict[str, _Entry]:
        """What the file says; read only where it has changed."""
        try:
            status = self._path.stat()
            version = (status.st_ino, status.st_mtime_ns)
            if version != self._version:
                self._entries = _parse(self._path.read_bytes())
                self._version = version
        except (OSError, ValueError, KeyError, TypeError):
            self._entries, self._version = {}, None
        return self._entries

    def _write(self, entries: dict[str, _Entry]) -> None:
        content = [
            [job_id, entry.looked_at_s, entry.watched_at_s, entry.job and entry.job.as_json()]
            for job_id, entry in entries.items()
        ]
        temporary = self._path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps(content))
        temporary.replace(self._path)


def _parse(text: bytes) -> dict[str, _Entry]:
    entries: list[tuple[str, float, float, dict[str, Any] | None]] = json.loads(text)
    now = time.monotonic()
    return {
        job_id: _Entry(looked_at_s, watched_at_s, None if job is None else Job(**job))
        for job_id, looked_at_s, watched_at_s, job in entries
        if looked_at_s <= now  # the clock begins anew when the host does
    }
