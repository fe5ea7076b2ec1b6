"""The log of a run's tasks on workers elsewhere, brought to the run by way of the Dask scheduler.

A worker tells the scheduler of the lines that a task logs before it tells that the task has ended, over the same
connection. So a run has heard every line of a task by the time it hears of its end, and nothing is lost with a worker
that dies then. Lines need no way from the worker to the Prefect API, and a moment without a network delays them only.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from threading import Thread
from typing import Any

import distributed
from prefect.context import SettingsContext
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker, set_api_log_sink

from flows.topics import hearing

_FLUSH_PATIENCE_S = 10.0

_runs: set[str] = set()
"""Runs, by their ids, that hear what is logged in this worker process."""


def send_logs(run_id: str) -> None:
    """Have what tasks of a run log in this worker process sent to the run."""
    _runs.add(run_id)
    set_api_log_sink(_send)


@contextmanager
def hearing_logs(client: distributed.Client, run_id: str) -> Iterator[None]:
    """Hand on to Prefect, within the block, what tasks of a run log on workers."""
    context = copy_context()  # with the settings of the run, which Dask's threads do not have

    def handle(told: dict[str, Any]) -> None:
        context.run(_to_prefect, told["line"])

    with hearing(client, _topic(run_id), handle):
        yield


def flush_events(settings: dict[str, Any]) -> None:
    """Have Prefect told of the ends of this process's task runs before anybody else is; not for ever.

    Parameters
    ----------
    settings
        Prefect's, as the run has them: those of this process may know of no server.
    """

    def wait() -> None:
        with SettingsContext(**settings):
            EventsWorker.instance().wait_until_empty()  # for as long as Prefect does not answer

    waiting = Thread(target=wait, daemon=True)
    waiting.start()
    waiting.join(_FLUSH_PATIENCE_S)


def _topic(run_id: str) -> str:
    return f"pyama-log-{run_id}"


def _send(line: dict[str, Any]) -> None:
    run_id = str(line.get("flow_run_id"))
    worker = _this_worker() if run_id in _runs else None
    if worker is None:
        _to_prefect(line)
    else:
        worker.log_event(_topic(run_id), {"line": line})  # the scheduler adds to what it is told


def _to_prefect(line: dict[str, Any]) -> None:
    APILogWorker.instance().send(line)


def _this_worker() -> distributed.Worker | None:
    try:
        return distributed.get_worker()
    except ValueError:  # a line of this process itself
        return None
