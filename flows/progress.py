"""How far a run is: frames done, told by the tasks as they go, shown in the Prefect UI and to whoever listens."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from functools import lru_cache
from queue import SimpleQueue
from threading import Event, Lock, Thread
from time import monotonic
from typing import Any, NamedTuple
from uuid import UUID

import distributed
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.context import FlowRunContext, TaskRunContext
from prefect.settings import PREFECT_API_URL

from flows.topics import hearing

_logger = logging.getLogger(__name__)

_ARTIFACT_INTERVAL_S = 0.5
_EVENT_INTERVAL_S = 0.2
_END_PATIENCE_S = 3.0
"""Time that the end of something waits for Prefect to be told of its progress."""


@dataclass(frozen=True)
class Progress:
    """State of a run."""

    fovs_done: int
    n_fovs: int
    frames_done: int
    n_frames: int
    """Frames of all FOVs together."""

    @property
    def percentage(self) -> float:
        """Share of all frames that is done."""
        return 100.0 * self.frames_done / self.n_frames if self.n_frames else 100.0

    def as_counts(self) -> dict[str, int]:
        """What the API tells of a job's progress, beside the percentage."""
        return {"done": self.fovs_done, "total": self.n_fovs}

    def __str__(self) -> str:
        return f"{self.fovs_done} of {self.n_fovs} FOVs finished, {self.frames_done} of {self.n_frames} frames"


Listener = Callable[[Any], None]
"""Is told how far a run is, in the terms of its flow: `Progress`, `flows.merge.MergeProgress` or
`flows.fit.FitProgress`."""
_listener: ContextVar[Listener | None] = ContextVar("_listener", default=None)


def current_listener() -> Listener | None:
    """Whoever is listening to the flow that runs in this context."""
    return _listener.get()


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Have a function told of the progress of the flows that are run in the block."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


class Throttle:
    """Lets something happen at most once in an interval; the first time at once, or when one is over."""

    def __init__(self, interval_s: float, *, at_once: bool = True) -> None:
        self._interval_s = interval_s
        self._last = monotonic() - (interval_s if at_once else 0)

    def passes(self) -> bool:
        """Whether it may happen now."""
        now = monotonic()
        if now - self._last < self._interval_s:
            return False
        self._last = now
        return True


@lru_cache(maxsize=4)
def _client(api_url: str | None, process_id: int) -> SyncPrefectClient:  # noqa: ARG001 - tell clients apart
    """Client of this process that stays open: making one takes longer than what is asked of it."""
    client = get_client(sync_client=True)
    client.__enter__()
    return client


class _Teller:
    """A thread of this process that tells Prefect what others are not to wait for: it asks for minutes where it has to.

    It ends with the process, whatever is still to be told.
    """

    def __init__(self) -> None:
        self._tasks: SimpleQueue[Callable[[], None]] = SimpleQueue()
        Thread(target=self._run, name="progress", daemon=True).start()

    def have_told(self, task: Callable[[], None]) -> None:
        """Have it call a function, in the context of now, when its turn comes."""
        context = copy_context()
        self._tasks.put(lambda: context.run(task))

    def _run(self) -> None:
        while True:
            self._tasks.get()()


@lru_cache(maxsize=4)
def _teller(api_url: str | None, process_id: int) -> _Teller:  # noqa: ARG001 - as above; forked processes have no threads
    return _Teller()


class _Position(NamedTuple):
    """Where a bar is to be."""

    percentage: float
    description: str
    counts: dict[str, str]


class ProgressArtifact:
    """A progress bar in the Prefect UI, which never goes back.

    It appears when it has had something to show for half a second, or at its end, and moves at most twice a second.
    One with a key belongs to a run: it appears at once, and goes on where a previous attempt of the run left it.
    Beside the bar, `counts` are kept for programs: the artifact's metadata.

    Whoever moves it does not wait for Prefect, which may be away, but for a moment at the end: of positions that could
    not be shown yet, the newest counts.
    """

    def __init__(self, title: str, key: str | None = None) -> None:
        self._title = title
        self._key = key
        self._id: UUID | None = None
        self._shown = 0.0
        self._throttle = Throttle(_ARTIFACT_INTERVAL_S, at_once=key is not None)
        self._lock = Lock()
        self._newest: _Position | None = None
        self._nothing_to_tell = Event()

    def show(
        self, percentage: float, text: str, counts: Mapping[str, int] | None = None, *, final: bool = False
    ) -> None:
        """Move the bar; the last position is always shown, where Prefect answers."""
        if not (final or self._throttle.passes()):
            return
        newest = _Position(
            percentage, f"{self._title}: {text}", {name: str(count) for name, count in (counts or {}).items()}
        )
        with self._lock:
            is_waiting, self._newest = self._newest is not None, newest
            self._nothing_to_tell.clear()
        if not is_waiting:
            _teller(PREFECT_API_URL.value(), os.getpid()).have_told(self._tell)
        if final:
            self._nothing_to_tell.wait(_END_PATIENCE_S)

    def _tell(self) -> None:
        with self._lock:
            newest, self._newest = self._newest, None
        assert newest is not None
        try:
            client = _client(PREFECT_API_URL.value(), os.getpid())
            self._id = self._id or self._find(client)
            self._shown = max(self._shown, newest.percentage)
            if self._id is None:
                self._id = self._create(client, newest.description, newest.counts)
            else:
                update = ArtifactUpdate(data=self._shown, description=newest.description, metadata_=newest.counts)
                client.update_artifact(self._id, update)
        except Exception as error:  # whatever ails the Prefect API: a bar that stands still is not worth a FOV
            _logger.warning("The progress of %s could not be shown: %s", self._title, error)
        with self._lock:
            if self._newest is None:
                self._nothing_to_tell.set()

    def _create(self, client: SyncPrefectClient, description: str, counts: dict[str, str]) -> UUID:
        flow_run_context, task_run_context = FlowRunContext.get(), TaskRunContext.get()
        task_run = task_run_context.task_run if task_run_context else None
        flow_run = flow_run_context.flow_run if flow_run_context else None
        artifact = ArtifactCreate(
            type="progress",
            key=self._key,
            data=self._shown,
            description=description,
            metadata_=counts,
            task_run_id=task_run.id if task_run else None,
            flow_run_id=task_run.flow_run_id if task_run else flow_run.id if flow_run else None,
        )
        return client.create_artifact(artifact).id

    def _find(self, client: SyncPrefectClient) -> UUID | None:
        """Look for the bar of a previous attempt, to go on from its mark."""
        if self._key is None:
            return None
        found = client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[self._key])), limit=1)
        for artifact in found:
            self._shown = float(artifact.data) if isinstance(artifact.data, int | float) else 0.0
        return found[0].id if found else None


@dataclass
class RunProgress:
    """Collects what the tasks tell, for the run as a whole."""

    n_fovs: int
    frames_per_fov: int
    artifact: ProgressArtifact
    listener: Listener | None = field(default_factory=current_listener)
    _frames: dict[int, int] = field(default_factory=dict)
    _finished: set[int] = field(default_factory=set)
    _lock: Lock = field(default_factory=Lock)

    def frames_done(self, fov: int, n_frames: int) -> None:
        """Note that a FOV has got so far; a repeated attempt does not take anything back."""
        with self._lock:
            self._frames[fov] = max(self._frames.get(fov, 0), n_frames)
        self._tell()

    def fov_finished(self, fov: int) -> None:
        """Note that a FOV is complete."""
        with self._lock:
            self._finished.add(fov)
            self._frames[fov] = self.frames_per_fov
        self._tell()

    def now(self) -> Progress:
        """State of the run."""
        with self._lock:
            return Progress(
                len(self._finished), self.n_fovs, sum(self._frames.values()), self.n_fovs * self.frames_per_fov
            )

    def show(self, *, final: bool = False) -> None:
        """Bring the progress bar of the Prefect UI up to date."""
        progress = self.now()
        self.artifact.show(progress.percentage, str(progress), progress.as_counts(), final=final)

    def _tell(self) -> None:
        if self.listener is not None:
            self.listener(self.now())


def event_topic(run_id: str) -> str:
    """Name of the Dask events by which the tasks of a run tell how far they are."""
    return f"pyama-progress-{run_id}"


def tell_run(topic: str, part: int) -> Callable[[int], None]:
    """Listener for one part of a run, such as a FOV, that tells how far it is, from whatever Dask worker it is on."""
    throttle = Throttle(_EVENT_INTERVAL_S)
    worker = distributed.get_worker()

    def on_step(n_done: int) -> None:
        if throttle.passes():
            worker.log_event(topic, {"part": part, "done": n_done})

    return on_step


@contextmanager
def hearing_tasks(client: distributed.Client, topic: str, note: Callable[[int, int], None]) -> Iterator[None]:
    """Have what tasks tell of their parts noted within the block: which part, and how many steps of it are done."""

    def handle(told: dict[str, int]) -> None:
        note(told["part"], told["done"])

    with hearing(client, topic, handle):
        yield
