"""The workers of a cluster that compute for a run, and handing tasks to them."""

from collections.abc import Mapping
from threading import Lock
from typing import Any
from uuid import UUID, uuid4

import distributed
from prefect import Task
from prefect.client.schemas.objects import State
from prefect.context import serialize_context
from prefect.task_engine import run_task_sync

from flows.remote_logs import flush_events
from flows.task_runner import count_threads
from tasks.errors import ClusterError

Workers = tuple[str, ...] | None
"""Addresses of workers that a task may be given to; None: any."""


class Crew:
    """Workers that compute for a run.

    Parameters
    ----------
    client
        Of the cluster.
    is_own
        Whether the cluster is threads of this process, which are there from the first moment to the last.
    grows
        Whether the cluster grows with the work that waits.
    """

    def __init__(self, client: distributed.Client, *, is_own: bool = False, grows: bool = False) -> None:
        self.client = client
        self._own_threads = count_threads(client) if is_own else None
        self._grows = grows
        self._lock = Lock()
        self._threads: dict[str, int] = {}
        self._refusal: ClusterError | None = None

    @property
    def n_threads(self) -> int:
        """Threads that compute for the run at this moment."""
        if self._own_threads is not None:
            return self._own_threads
        with self._lock:
            return sum(self._threads.values())

    @property
    def workers(self) -> Workers:
        """Workers that compute for the run at this moment."""
        if self._own_threads is not None:
            return None
        with self._lock:
            return tuple(sorted(self._threads))

    def room(self, batch_size: int | None) -> int:
        """Most tasks that may be in flight: as many as are asked for, or as keep all threads at work.

        A cluster that grows with the work that waits has to see some waiting.
        """
        n_threads = self.n_threads
        if batch_size is not None:
            return batch_size if n_threads else 0
        return 2 * n_threads if self._grows else n_threads

    def submit(
        self, task: Task[..., Any], key: str, parameters: Mapping[str, Any], workers: Workers
    ) -> distributed.Future[State[Any]]:
        """Have one of these workers run a Prefect task; the result is the last state of the task run."""
        # A function of this module goes by its name. Prefect's own client sends one by value, for the same purpose.
        arguments = (task, dict(parameters), uuid4(), serialize_context(), workers is not None)
        return self.client.submit(_run_task, *arguments, key=key, workers=None if workers is None else list(workers))

    def is_stranded(self, workers: Workers) -> bool:
        """Whether all of these workers have left, while there are others."""
        if workers is None:
            return False
        with self._lock:
            return bool(self._threads) and self._threads.keys().isdisjoint(workers)

    def check(self) -> None:
        """Do nothing as long as there is hope.

        Raises
        ------
        ClusterError
            Where the workers that have come are not fit for the run, or the scheduler is gone.
        """
        with self._lock:
            refusal = self._refusal
        if refusal is not None:
            raise refusal
        if self.client.status == "closed":
            raise ClusterError("the Dask scheduler is gone; start it again, and then the run, which goes on")

    def update(self, threads: Mapping[str, int]) -> None:
        """Note which workers compute for the run from now on, and how many threads each has."""
        with self._lock:
            self._threads = dict(threads)

    def refuse(self, error: ClusterError) -> None:
        """Note why the run has to end."""
        with self._lock:
            self._refusal = error


def _run_task(
    task: Task[..., Any], parameters: dict[str, Any], task_run_id: UUID, context: dict[str, Any], elsewhere: bool
) -> Any:  # noqa: ANN401 - a state
    """Run a Prefect task on a worker, as part of the run whose context is given."""
    state = run_task_sync(task, task_run_id=task_run_id, parameters=parameters, return_type="state", context=context)
    if elsewhere:
        flush_events(context["settings_context"])
        if state is not None and state.is_cancelled() and distributed.get_worker().status != distributed.Status.running:
            # It stopped because this worker leaves, which is no reason to give it up.
            raise distributed.Reschedule
    return state
