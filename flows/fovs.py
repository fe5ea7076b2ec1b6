"""The FOVs of a run: one Prefect task run for each, a bounded number at a time, on a Dask cluster."""

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import distributed
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Cancelled

from flows.crew import Crew, Workers
from flows.idle_workers import idle_workers
from flows.in_flight import in_flight
from flows.progress import ProgressArtifact, RunProgress, event_topic, hearing_tasks, tell_run
from flows.stopping import AbandonedError, Deadline, refuse_if_abandoned
from tasks.errors import PyamaError
from tasks.fov_job import FovJob, FovReport, is_transient

_RETRY_DELAYS_S = [2.0, 10.0, 60.0]


@dataclass(frozen=True)
class FovOutcome:
    """A FOV that is finished, or why it is not."""

    fov: int
    report: FovReport | None
    error: str | None

    def as_row(self) -> dict[str, Any]:
        """Row of the table artifact."""
        report = self.report
        return {
            "FOV": self.fov,
            "cells": report.n_cells if report else None,
            "seconds": round(report.seconds, 2) if report else None,
            "warnings": "; ".join(report.warnings) if report else f"failed: {self.error}",
        }


@task(
    name="process-fov",
    task_run_name="FOV {fov}",
    retries=len(_RETRY_DELAYS_S),
    retry_delay_seconds=_RETRY_DELAYS_S,
    retry_condition_fn=lambda _task, _run, state: is_transient(state.result(raise_on_failure=False)),
    cache_policy=NO_CACHE,
    persist_result=False,
)
def compute_fov(
    job: FovJob, fov: int, n_frames: int, topic: str, n_helpers: int, workers: Workers
) -> FovReport | State[Any]:
    """Compute one FOV, telling the run and the Prefect UI of its frames; stop as soon as nobody wants it."""
    logger = get_run_logger()
    if workers is not None:
        worker = distributed.get_worker()
        logger.info("FOV %d is computed by the Dask worker %s at %s", fov, worker.name, worker.address)
    artifact = ProgressArtifact(f"FOV {fov}")
    tell = tell_run(topic, fov)

    def on_frame(n_done: int) -> None:
        refuse_if_abandoned()
        tell(n_done)
        artifact.show(100.0 * n_done / n_frames, f"{n_done} of {n_frames} frames", final=n_done == n_frames)

    try:
        refuse_if_abandoned()
        with idle_workers(n_helpers, workers) as helpers:
            report = job.run(fov, on_frame, helpers)
    except AbandonedError as error:
        return Cancelled(message=str(error))
    for warning in report.warnings:
        logger.warning("FOV %d: %s", fov, warning)
    return report


def compute_fovs(
    crew: Crew,
    job: FovJob,
    fovs: list[int],
    run_id: str,
    progress: RunProgress,
    batch_size: int | None,
    deadline: Deadline,
) -> Generator[FovOutcome, None, None]:
    """Compute FOVs and give back each as it ends; a failing one does not stop the others.

    Closing the generator, or an exception in it, stops those that are being computed.

    Parameters
    ----------
    crew
        Workers that compute.
    batch_size
        Most FOVs in flight; by default as many as they have threads.

    Raises
    ------
    JobTimeoutError
        Where the deadline passes.
    ClusterError
        Where no worker can compute for the run.
    """
    topic = event_topic(run_id)

    def begin(fov: int, workers: Workers) -> distributed.Future[Any]:
        n_threads = crew.n_threads
        parameters = {
            "job": job,
            "fov": fov,
            "n_frames": progress.frames_per_fov,
            "topic": topic,
            # With fewer FOVs than threads, the idle ones take frames.
            "n_helpers": n_threads if min(crew.room(batch_size), len(fovs)) < n_threads else 0,
            "workers": workers,
        }
        # A key of its own: without one, Dask would take a hash of all that goes with the task.
        return crew.submit(compute_fov, f"compute_fov-{fov}-{uuid4()}", parameters, workers)

    with (
        hearing_tasks(crew.client, topic, progress.frames_done),
        closing(in_flight(crew, fovs, begin, batch_size, deadline, progress.show)) as ended,
    ):
        for fov, future in ended:
            yield judge(job, fov, future)


def judge(job: FovJob, fov: int, future: distributed.Future[Any]) -> FovOutcome:
    """Tell whether a FOV is finished: by what is in the output folder, not by what its task says.

    A task whose worker died says nothing, and one that wrote everything may still have failed to say so.
    """
    try:
        state: State[FovReport] = future.result()
        result = state.result(raise_on_failure=False)
    except Exception as error:  # whatever became of the worker is the reason to report
        result = error
    if (found := job.finished(fov)) is not None:
        return FovOutcome(fov, result if isinstance(result, FovReport) else found, None)
    reason = str(result) if isinstance(result, PyamaError) else f"{type(result).__name__}: {result}"
    return FovOutcome(fov, None, reason)
