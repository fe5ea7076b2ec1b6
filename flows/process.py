"""The flow that processes an acquisition: one Prefect task run for each FOV, on Dask."""

from collections.abc import Collection
from contextlib import closing
from logging import Logger, LoggerAdapter
from pathlib import Path
from typing import Any
from uuid import uuid4

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows.fovs import FovOutcome, compute_fovs
from flows.gallery import show_pictures
from flows.progress import ProgressArtifact, RunProgress
from flows.recruiting import recruited
from flows.site import Site
from flows.stopping import Deadline, ends_cancelled
from flows.task_runner import make_task_runner
from tasks.configuration import Channels, Parameters, WorkflowRequest
from tasks.errors import PyamaError
from tasks.fov_job import FovJob
from tasks.output import OutputLock, ensure_folder, prepare_folder, remove_leftovers, write_index
from tasks.plan import Plan, make_plan

RunLogger = Logger | LoggerAdapter[Any]


@flow(
    name="process-acquisition",
    description="Find, follow and measure the cells of a time-lapse recording.",
    flow_run_name=lambda: Path(str(flow_run.parameters["microscopy_path"])).name,
    persist_result=False,
    validate_parameters=False,  # the request is validated below, with one message that names what is allowed
)
@ends_cancelled
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
        deadline = Deadline.of_this_run()
        request = WorkflowRequest.parse(
            microscopy_path=microscopy_path, output_dir=output_dir, channels=channels, parameters=parameters or {}
        )
        plan = make_plan(request)
        ensure_folder(plan.output_dir)
        with OutputLock(plan.output_dir, str(flow_run.id)):
            finished = prepare_folder(plan.output_dir, plan.provenance, request, plan.fovs)
            try:
                outcomes = _compute(plan, finished, deadline, logger)
            finally:
                remove_leftovers(plan.output_dir)  # of attempts whose worker died
                write_index(plan.output_dir, plan.provenance)
    except PyamaError as error:
        return Failed(message=str(error))
    create_table_artifact(
        table=[outcome.as_row() for outcome in outcomes], key="fovs", description=f"FOVs of {plan.metadata.path.name}"
    )
    show_pictures(plan.output_dir, plan.provenance, plan.fovs)
    return _final_state(outcomes)


def _compute(plan: Plan, finished: Collection[int], deadline: Deadline, logger: RunLogger) -> list[FovOutcome]:
    """Compute the FOVs that are not finished; a failing one does not stop the others."""
    run_id = flow_run.id or str(uuid4())
    job = FovJob.of(plan)
    parameters = plan.request.parameters
    artifact = ProgressArtifact(plan.metadata.path.name, key=f"progress-{run_id}")
    progress = RunProgress(len(plan.fovs), plan.metadata.n_frames, artifact)
    outcomes = {}
    if found := [fov for fov in plan.fovs if fov in finished]:
        logger.info("%d FOVs are finished already and are not computed again", len(found))
    for fov in found:
        progress.fov_finished(fov)
        outcomes[fov] = FovOutcome(fov, job.finished(fov), None)
    missing = [fov for fov in plan.fovs if fov not in outcomes]
    if missing:
        with (
            make_task_runner(parameters.n_workers, run_id, logger) as runner,
            recruited(runner, _site(job, run_id), logger) as crew,
            closing(compute_fovs(crew, job, missing, run_id, progress, parameters.batch_size, deadline)) as computed,
        ):
            for outcome in computed:
                outcomes[outcome.fov] = outcome
                if outcome.error is None:
                    progress.fov_finished(outcome.fov)
                else:
                    logger.error("FOV %d failed: %s", outcome.fov, outcome.error)
    progress.show(final=True)
    return [outcomes[fov] for fov in plan.fovs]


def _site(job: FovJob, run_id: str) -> Site:
    return Site(run_id, job.output_dir, job.recording, job.provenance.fingerprint.input)


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
