"""How far a run is: frames done, told by the tasks as they go, shown in the Prefect UI and to whoever listens."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic
from typing import Any, cast
from uuid import UUID

import distributed
from prefect.artifacts import create_progress_artifact
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

from tasks.fov import FrameListener

_logger = logging.getLogger(__name__)

_ARTIFACT_INTERVAL_S = 0.5
_EVENT_INTERVAL_S = 0.2


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


Listener = Callable[[Progress], None]
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
    """Lets something happen at most once in an interval."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._last = -interval_s

    def passes(self) -> bool:
        """Whether it may happen now."""
        now = monotonic()
        if now - self._last < self._interval_s:
            return False
        self._last = now
        return True


class ProgressArtifact:
    """A progress bar in the Prefect UI, which never goes back.

    It appears when there is something to show and then moves at most twice a second. One with a key goes on where a
    previous attempt of the run left it. Beside the bar, `counts` are kept for programs: the artifact's metadata.
    """

    def __init__(self, title: str, key: str | None = None) -> None:
        self._title = title
        self._key = key
        self._id: UUID | None = None
        self._shown = 0.0
        self._throttle = Throttle(_ARTIFACT_INTERVAL_S)

    def show(
        self, percentage: float, text: str, counts: Mapping[str, int] | None = None, *, final: bool = False
    ) -> None:
        """Move the bar; the last position is always shown."""
        if not (final or self._throttle.passes()):
            return
        try:
            with get_client(sync_client=True) as client:
                self._id = self._id or self._find(client) or cast(UUID, create_progress_artifact(0.0, key=self._key))
                self._shown = max(self._shown, percentage)
                update = ArtifactUpdate(
                    data=self._shown,
                    description=f"{self._title}: {text}",
                    metadata_={name: str(count) for name, count in (counts or {}).items()},
                )
                client.update_artifact(self._id, update)
        except Exception as error:  # whatever ails the Prefect API: a bar that stands still is not worth a FOV
            _logger.warning("The progress of %s could not be shown: %s", self._title, error)

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


def tell_run(topic: str, fov: int) -> FrameListener:
    """Listener for one FOV that passes on its frames, from whatever Dask worker it is on."""
    throttle = Throttle(_EVENT_INTERVAL_S)
    worker = distributed.get_worker()

    def on_frame(n_done: int) -> None:
        if throttle.passes():
            worker.log_event(topic, {"fov": fov, "frames": n_done})

    return on_frame


@contextmanager
def hearing_tasks(client: distributed.Client, topic: str, progress: RunProgress) -> Iterator[None]:
    """Have the frames that tasks tell of counted within the block."""

    def handle(event: tuple[float, dict[str, Any]]) -> None:
        _, told = event
        progress.frames_done(told["fov"], told["frames"])

    client.subscribe_topic(topic, handle)
    try:
        yield
    finally:
        client.unsubscribe_topic(topic)
