"""The chunks of a fit: one Prefect task run for each, on a Dask cluster."""

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field
from threading import Lock
from typing import Any
from uuid import uuid4

import distributed
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Cancelled

from flows.crew import Crew, Workers
from flows.in_flight import in_flight
from flows.progress import Listener, ProgressArtifact, current_listener, event_topic, hearing_tasks, tell_run
from flows.stopping import AbandonedError, Deadline, refuse_if_abandoned
from tasks.errors import ProcessingError, PyamaError
from tasks.fitting.chunks import Chunk, FitWork

_RETRY_DELAYS_S = [2.0, 10.0]


@dataclass(frozen=True)
class FitProgress:
    """How far a fit is."""

    cells_done: int
    n_cells: int

    @property
    def percentage(self) -> float:
        """Share of all cells that is done."""
        return 100.0 * self.cells_done / self.n_cells if self.n_cells else 100.0

    def as_counts(self) -> dict[str, int]:
        """What the API tells of a job's progress, beside the percentage."""
        return {"done": self.cells_done, "total": self.n_cells}

    def __str__(self) -> str:
        return f"{self.cells_done} of {self.n_cells} cells"


@dataclass
class CellCounts:
    """Collects what the chunks tell, for the run as a whole; nothing is taken back by a repeated attempt."""

    n_cells: int
    artifact: ProgressArtifact
    listener: Listener | None = field(default_factory=current_listener)
    _done: dict[int, int] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def note(self, chunk: int, n_done: int) -> None:
        """Note that a chunk has got so far."""
        with self._lock:
            self._done[chunk] = max(self._done.get(chunk, 0), n_done)
        if self.listener is not None:
            self.listener(self.now())

    def now(self) -> FitProgress:
        """State of the run."""
        with self._lock:
            return FitProgress(sum(self._done.values()), self.n_cells)

    def show(self, *, final: bool = False) -> None:
        """Bring the progress bar of the Prefect UI up to date."""
        progress = self.now()
        self.artifact.show(progress.percentage, str(progress), progress.as_counts(), final=final)


@task(
    name="fit-chunk",
    task_run_name="cells {chunk.first} to {chunk.stop}",
    retries=len(_RETRY_DELAYS_S),
    retry_delay_seconds=_RETRY_DELAYS_S,
    retry_condition_fn=lambda _task, _run, state: (
        not isinstance(state.result(raise_on_failure=False), (PyamaError, AbandonedError))
    ),
    cache_policy=NO_CACHE,
    persist_result=False,
)
def compute_chunk(work: FitWork, chunk: Chunk, topic: str) -> int | State[Any]:
    """Fit the cells of one chunk, telling the run how many are done; stop as soon as nobody wants it."""
    tell = tell_run(topic, chunk.number)

    def on_cells(n_done: int) -> None:
        refuse_if_abandoned()
        tell(n_done)

    try:
        refuse_if_abandoned()
        work.fit(chunk, on_cells)
    except AbandonedError as error:
        return Cancelled(message=str(error))
    return chunk.n_cells


def compute_chunks(
    crew: Crew, work: FitWork, chunks: list[Chunk], run_id: str, counts: CellCounts, deadline: Deadline
) -> Generator[Chunk, None, None]:
    """Compute chunks and give back each as it is finished.

    Closing the generator, or an exception in it, stops those that are being computed.

    Raises
    ------
    ProcessingError
        Where a chunk failed; those that are finished stay.
    JobTimeoutError
        Where the deadline passes.
    ClusterError
        Where no worker can compute for the run.
    """
    topic = event_topic(run_id)

    def begin(chunk: Chunk, workers: Workers) -> distributed.Future[Any]:
        parameters = {"work": work, "chunk": chunk, "topic": topic}
        return crew.submit(compute_chunk, f"compute_chunk-{chunk.number}-{uuid4()}", parameters, workers)

    with (
        hearing_tasks(crew.client, topic, counts.note),
        closing(in_flight(crew, chunks, begin, None, deadline, counts.show)) as ended,
    ):
        for chunk, future in ended:
            # Judged by what is there: a task whose worker died says nothing.
            if not work.is_finished(chunk):
                raise ProcessingError(f"cells {chunk.first} to {chunk.stop} could not be fitted: {_reason(future)}")
            yield chunk


def _reason(future: distributed.Future[Any]) -> str:
    try:
        result: object = future.result().result(raise_on_failure=False)
    except Exception as error:  # whatever became of the worker is the reason to report
        result = error
    return str(result) if isinstance(result, PyamaError) else f"{type(result).__name__}: {result}"
