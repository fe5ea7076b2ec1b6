"""The flow that processes an acquisition: one Prefect task run for each FOV, on Dask."""

from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from logging import Logger, LoggerAdapter
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any
from uuid import uuid4

import distributed
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from prefect_dask.task_runners import DaskTaskRunner

from flows.progress import ProgressArtifact, RunProgress, event_topic, hearing_tasks, tell_run
from flows.task_runner import connect, count_threads, make_task_runner
from tasks.acquisition import RecordingMetadata, open_recording
from tasks.configuration import Channels, Parameters, WorkflowRequest, check_channels
from tasks.errors import PyamaError
from tasks.fov_job import FovJob, FovReport, is_transient
from tasks.output import OutputLock, Provenance, ensure_folder, prepare_folder, write_index

RunLogger = Logger | LoggerAdapter[Any]

_LOOK_INTERVAL_S = 0.5
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


@flow(
    name="process-acquisition",
    description="Find, follow and measure the cells of a time-lapse recording.",
    flow_run_name=lambda: Path(str(flow_run.parameters["microscopy_path"])).name,
    persist_result=False,
    validate_parameters=False,  # the request is validated below, with one message that names what is allowed
)
def process_acquisition(
    microscopy_path: str, output_dir: str, channels: Channels, parameters: Parameters | None = None
) -> State[Any]:
    """Turn a recording into traces tables and image stacks, FOV by FOV.

    Safe to repeat: FOVs that are complete in the output folder are not computed again.

    Parameters
    ----------
    microscopy_path
        Absolute path of the recording.
    output_dir
        Absolute path of the output folder; created where it is not there.
    channels
        Phase channel and fluorescence channels, with the features to measure.
    parameters
        FOV range, execution and science parameters.

    Returns
    -------
    State
        Completed, or Failed with a message that names the FOVs that failed and the first reason. A request that
        cannot be met fails with a message that says why, before anything is computed.
    """
    logger = get_run_logger()
    try:
        request = WorkflowRequest.parse(
            microscopy_path=microscopy_path, output_dir=output_dir, channels=channels, parameters=parameters or {}
        )
        job, fovs, metadata = _plan(request)
        ensure_folder(job.output_dir)
        with OutputLock(job.output_dir, str(flow_run.id)):
            finished = prepare_folder(job.output_dir, job.provenance, request, fovs)
            try:
                outcomes = _compute(job, fovs, finished, metadata, request.parameters, logger)
            finally:
                write_index(job.output_dir, job.provenance)
    except PyamaError as error:
        return Failed(message=str(error))
    create_table_artifact(
        table=[outcome.as_row() for outcome in outcomes], key="fovs", description=f"FOVs of {metadata.path.name}"
    )
    return _final_state(outcomes)


@task(
    name="process-fov",
    task_run_name="FOV {fov}",
    retries=len(_RETRY_DELAYS_S),
    retry_delay_seconds=_RETRY_DELAYS_S,
    retry_condition_fn=lambda _task, _run, state: is_transient(state.result(raise_on_failure=False)),
    cache_policy=NO_CACHE,
    persist_result=False,
)
def compute_fov(job: FovJob, fov: int, n_frames: int, topic: str) -> FovReport:
    """Compute one FOV, telling the run and the Prefect UI of every frame."""
    artifact = ProgressArtifact(f"FOV {fov}")
    tell = tell_run(topic, fov)

    def on_frame(n_done: int) -> None:
        tell(n_done)
        artifact.show(100.0 * n_done / n_frames, f"{n_done} of {n_frames} frames", final=n_done == n_frames)

    return job.run(fov, on_frame)


def _plan(request: WorkflowRequest) -> tuple[FovJob, list[int], RecordingMetadata]:
    """Hold the request against the recording."""
    path = Path(request.microscopy_path)
    with open_recording(path, request.parameters.z_plane) as recording:
        metadata = recording.metadata
    check_channels(request.channels, list(metadata.channel_names))
    fovs = request.parameters.select_fovs(metadata.n_fovs)
    configuration = request.configuration()
    job = FovJob(
        recording=path,
        output_dir=Path(request.output_dir),
        configuration=configuration,
        provenance=Provenance.of(path, metadata.sizes, configuration),
        overwrite=request.parameters.overwrite,
    )
    return job, fovs, metadata


def _compute(
    job: FovJob,
    fovs: list[int],
    finished: Collection[int],
    metadata: RecordingMetadata,
    parameters: Parameters,
    logger: RunLogger,
) -> list[FovOutcome]:
    """Compute the FOVs that are not finished; a failing one does not stop the others."""
    run_id = flow_run.id or str(uuid4())
    artifact = ProgressArtifact(metadata.path.name, key=f"progress-{run_id}")
    progress = RunProgress(len(fovs), metadata.n_frames, artifact)
    outcomes = {}
    if found := [fov for fov in fovs if fov in finished]:
        logger.info("%d FOVs are finished already and are not computed again", len(found))
    for fov in found:
        progress.fov_finished(fov)
        outcomes[fov] = FovOutcome(fov, job.finished(fov), None)
    missing = [fov for fov in fovs if fov not in outcomes]
    if missing:
        with make_task_runner(parameters.n_workers, logger) as runner:
            client = connect(runner)
            topic = event_topic(run_id)
            with hearing_tasks(client, topic, progress):
                n_in_flight = parameters.batch_size or count_threads(client)
                for fov, future in _in_flight(runner, job, missing, metadata.n_frames, topic, n_in_flight, progress):
                    outcomes[fov] = _judge(job, fov, future)
                    if (error := outcomes[fov].error) is None:
                        progress.fov_finished(fov)
                    else:
                        logger.error("FOV %d failed: %s", fov, error)
    progress.show(final=True)
    return [outcomes[fov] for fov in fovs]


def _in_flight(
    runner: DaskTaskRunner,
    job: FovJob,
    fovs: list[int],
    n_frames: int,
    topic: str,
    most: int,
    progress: RunProgress,
) -> Iterator[tuple[int, distributed.Future[Any]]]:
    """Submit FOVs, never more than `most` at a time, and give back each as it ends."""
    waiting = iter(fovs)
    running: dict[distributed.Future[Any], int] = {}
    ended: SimpleQueue[distributed.Future[Any]] = SimpleQueue()
    while True:
        for fov in islice(waiting, most - len(running)):
            parameters = {"job": job, "fov": fov, "n_frames": n_frames, "topic": topic}
            future = runner.submit(compute_fov, parameters=parameters).wrapped_future
            running[future] = fov
            future.add_done_callback(ended.put)
        if not running:
            return
        with suppress(Empty):
            future = ended.get(timeout=_LOOK_INTERVAL_S)
            yield running.pop(future), future
        progress.show()


def _judge(job: FovJob, fov: int, future: distributed.Future[Any]) -> FovOutcome:
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


def _final_state(outcomes: list[FovOutcome]) -> State[Any]:
    """State of the run: failed where a FOV failed, naming all of them and the first reason."""
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    if failed:
        numbers = ", ".join(str(outcome.fov) for outcome in failed)
        return Failed(
            message=f"{len(failed)} of {len(outcomes)} FOVs failed ({numbers}); FOV {failed[0].fov}: {failed[0].error}"
        )
    n_cells = sum(outcome.report.n_cells for outcome in outcomes if outcome.report)
    return Completed(message=f"{len(outcomes)} FOVs finished, {n_cells} cells")
