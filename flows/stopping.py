"""How a run stops that is cancelled or takes too long: each frame looks whether its FOV is still wanted.

A thread cannot be ended from outside, and one on another machine does not hear that the run's process is gone. But the
Dask scheduler takes a task back when the run calls it off or dies, whatever it dies of, and tells the worker at once.
So the frames ask the worker they are on: that is as good as being told, and costs no message.
"""

import os
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import wraps
from time import monotonic, sleep
from typing import Any, ParamSpec, Self

import distributed
import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.exceptions import TerminationSignal
from prefect.runtime import flow_run
from prefect.states import Cancelled

from tasks.errors import InvalidParametersError, JobTimeoutError, PyamaError
from tasks.job_marks import TAKEN_UP_LABEL

TIMEOUT_VARIABLE = "PYAMA_JOB_TIMEOUT"

P = ParamSpec("P")

_ANSWER_TIMEOUT_S = 3.0
_WANTED = {"executing", "long-running"}
_PATIENCE_S = 4.0
"""Time that tasks are given to notice that they have been called off."""
_LOOK_INTERVAL_S = 0.05


class AbandonedError(PyamaError):
    """Nobody waits for this work any more."""


def refuse_if_abandoned() -> None:
    """Do nothing, unless the Dask task that calls this has been called off.

    Raises
    ------
    AbandonedError
        Where the scheduler has taken the task back, or the worker is closing.
    """
    watch_this_task()()


def watch_this_task() -> Callable[[], None]:
    """Make a function that does the same for the Dask task that calls this, from any thread of its worker."""
    worker = distributed.get_worker()
    key = worker.get_current_task()

    def refuse_if_abandoned() -> None:
        task = worker.state.tasks.get(key)
        if task is None or task.state not in _WANTED or worker.status is not distributed.Status.running:
            raise AbandonedError("called off, because the run was cancelled or its process is gone")

    return refuse_if_abandoned


def call_off(client: distributed.Client, futures: Sequence[distributed.Future[Any]]) -> None:
    """Take tasks back from a cluster, and wait until no worker works on them; not for ever."""
    if not futures or client.status == "closed":  # its scheduler is gone, and has taken them back
        return
    client.cancel(futures, force=True)
    keys = {future.key for future in futures}
    deadline = monotonic() + _PATIENCE_S
    while any(client.run(_at_work, keys, on_error="ignore").values()) and monotonic() < deadline:
        sleep(_LOOK_INTERVAL_S)


def _at_work(keys: Collection[Any], dask_worker: distributed.Worker) -> bool:
    return any(key in keys for key in list(dask_worker.active_threads.values()))


# In quotes, because pydantic files a class State[Any] under the module that names it first: it has to be one that all
# processes import in the same order, or what refers to it cannot be read by another one.
def ends_cancelled(flow: Callable[P, "State[Any]"]) -> Callable[P, "State[Any]"]:
    """Have a flow that is told to end while its run is being cancelled say that it is cancelled.

    Prefect knows by itself where its worker tells it to end. Where anybody else does, as `deployments.flow_process`
    for a worker that has not heard, it would say that the run has crashed.
    """

    @wraps(flow)
    def run(*args: P.args, **kwargs: P.kwargs) -> "State[Any]":
        try:
            return flow(*args, **kwargs)
        except TerminationSignal:
            if not _is_being_cancelled():
                raise
            return Cancelled(message="Cancelled; its work has ended")

    return run


def _is_being_cancelled() -> bool:
    with suppress(httpx.HTTPError):
        with get_client(sync_client=True, httpx_settings={"timeout": _ANSWER_TIMEOUT_S}) as client:
            state = client.read_flow_run(flow_run.id).state
        return state is not None and state.is_cancelling()
    return False


@dataclass(frozen=True)
class Deadline:
    """When the run has to be over, counted from its first start, or from when somebody had it taken up again."""

    at: datetime | None
    timeout_s: float | None

    @classmethod
    def of_this_run(cls) -> Self:
        """Read `PYAMA_JOB_TIMEOUT`; without it there is no deadline.

        Raises
        ------
        InvalidParametersError
            Where the variable is no positive number.
        """
        text = os.environ.get(TIMEOUT_VARIABLE, "").strip()
        if not text:
            return cls(None, None)
        timeout_s = -1.0
        with suppress(ValueError):
            timeout_s = float(text)
        if not 0 < timeout_s < float("inf"):
            raise InvalidParametersError(f"{TIMEOUT_VARIABLE} must be a positive number of seconds (got {text!r})")
        context = FlowRunContext.get()
        run = context.flow_run if context is not None else None
        started = run.start_time if run is not None else None
        taken_up = run.labels.get(TAKEN_UP_LABEL) if run is not None else None
        begins = [started or datetime.now(UTC), *([datetime.fromisoformat(str(taken_up))] if taken_up else [])]
        return cls(max(begins) + timedelta(seconds=timeout_s), timeout_s)

    def check(self) -> None:
        """Do nothing before the deadline.

        Raises
        ------
        JobTimeoutError
            Where it has passed.
        """
        if self.at is not None and datetime.now(UTC) > self.at:
            raise JobTimeoutError(
                f"the job took longer than {self.timeout_s:g} s from its first start, which is what "
                f"{TIMEOUT_VARIABLE} allows; what is finished stays: start it again to go on, or raise the limit"
            )
