"""Processing a recording: start a job, watch it, cancel it, and see what came out."""

import hashlib
import json
from pathlib import PurePath
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Header, Request
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from api.errors import JobNotFinishedError
from api.file_items import printable
from api.jobs import PROCESSING, Job, JobStatus
from api.orchestrator import NewJob, Orchestrator
from api.paths import allowed_path
from api.recent_files import remember
from api.responses import Answer, documented_errors
from api.webhooks import WEBHOOK_FIELD, Webhook, refuse_unlisted
from api.workflow_results import FovSummary, collect_results
from tasks.configuration import WorkflowRequest
from tasks.job_marks import folder_tag
from tasks.output import check_folder
from tasks.plan import Plan, make_plan

router = APIRouter(prefix="/processing/workflow", tags=["processing"])

ModelT = TypeVar("ModelT", bound=BaseModel)

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="Any text of the client's own; a request that is repeated with it starts no second job",
    ),
]


class WorkflowBody(WorkflowRequest):
    """The documented request to process a recording, and who is to be told of its end."""

    webhook_url: Webhook | None = WEBHOOK_FIELD


class StartAnswer(Answer):
    """The job that was started."""

    job_id: str
    message: str = "Workflow started successfully"


class FovProgress(BaseModel):
    """How far a job is."""

    current_fov: int = Field(description="FOVs that are finished")
    total_fovs: int
    percentage: float = Field(description="Frames that are done of all frames; never goes backwards")


class JobStatusAnswer(BaseModel):
    """State of a job, whatever its kind."""

    success: Literal[True] = True
    job_id: str
    status: JobStatus
    message: str
    error: str | None = Field(description="Why the job failed")
    created_at: str | None
    started_at: str | None
    ended_at: str | None
    estimated_seconds_left: float | None
    prefect_url: str | None = Field(description="The job in the Prefect UI")


class WorkflowStatusAnswer(JobStatusAnswer):
    """State of a processing job."""

    progress: FovProgress


class CancelAnswer(Answer):
    """What cancelling has come to."""

    message: str = "Workflow cancelled successfully"
    job_id: str
    status: JobStatus = Field(description="Is `cancelled` once all work has stopped; ask for the status until then")


class ResultsAnswer(Answer):
    """What a job has left in its output folder; also after it failed or was cancelled."""

    job_id: str
    status: JobStatus
    message: str
    output_dir: str
    results_file: str | None = Field(description="The index of the folder, in the shape that PyAMA reads")
    traces: list[str] = Field(description="The tables of cells, by FOV")
    fovs: list[FovSummary]
    failed_fovs: list[FovSummary] = Field(description="FOVs that are not finished, with the reason")


@router.post(
    "/start",
    responses=documented_errors(
        "FILE_NOT_FOUND", "OUTPUT_DIR_BUSY", "OUTPUT_DIR_CONFLICT", "IDEMPOTENCY_KEY_REUSED", "SERVICE_UNAVAILABLE"
    ),
)
async def start_workflow(body: WorkflowBody, request: Request, idempotency_key: IdempotencyKey = None) -> StartAnswer:
    """Start processing a recording.

    Everything that can be checked is checked before a job is created. What is finished in the output folder is not
    computed again.
    """
    orchestrator: Orchestrator = request.app.state.orchestrator
    digest = request_digest(body)
    if idempotency_key is not None:
        earlier = await orchestrator.find_repeated(PROCESSING, idempotency_key, digest)
        if earlier is not None:
            return StartAnswer(job_id=earlier.job_id)
    plan = await run_in_threadpool(_check, body, request)
    new = NewJob(
        kind=PROCESSING,
        parameters=plan.request.model_dump(mode="json", exclude_unset=True),
        name=printable(plan.metadata.path.name),
        total=len(plan.fovs),
        folder=plan.request.output_dir,
        folder_tag=await run_in_threadpool(folder_tag, plan.output_dir),
        digest=digest,
        idempotency_key=idempotency_key,
        webhook=body.webhook_url,
        input_fingerprint=plan.provenance.fingerprint.input,
    )
    job = await orchestrator.start(new)
    return StartAnswer(job_id=job.job_id)


@router.get("/status/{job_id}", responses=documented_errors("JOB_NOT_FOUND", "SERVICE_UNAVAILABLE"))
async def workflow_status(job_id: str, request: Request) -> WorkflowStatusAnswer:
    """Tell how far a job is; at most a second old."""
    orchestrator: Orchestrator = request.app.state.orchestrator
    job = await orchestrator.job(job_id, PROCESSING)
    return WorkflowStatusAnswer(**status_fields(job), progress=FovProgress.model_validate(job.progress))


@router.post(
    "/cancel/{job_id}", responses=documented_errors("JOB_NOT_FOUND", "JOB_ALREADY_COMPLETED", "SERVICE_UNAVAILABLE")
)
async def cancel_workflow(job_id: str, request: Request) -> CancelAnswer:
    """Stop a job; FOVs that are finished stay, those that are half done leave nothing."""
    orchestrator: Orchestrator = request.app.state.orchestrator
    job = await orchestrator.cancel(job_id, PROCESSING)
    return CancelAnswer(job_id=job.job_id, status=job.status)


@router.get(
    "/results/{job_id}", responses=documented_errors("JOB_NOT_FOUND", "JOB_NOT_FINISHED", "SERVICE_UNAVAILABLE")
)
async def workflow_results(job_id: str, request: Request) -> ResultsAnswer:
    """Tell what a job that has ended left in its output folder."""
    orchestrator: Orchestrator = request.app.state.orchestrator
    job = await orchestrator.job(job_id, PROCESSING)
    if not job.ended:
        raise JobNotFinishedError(f"job {job.job_id} is {job.status}; wait for its end, or cancel it")
    table = await orchestrator.table(job.job_id, "fovs")
    found = await run_in_threadpool(collect_results, job, table)
    return ResultsAnswer(
        job_id=job.job_id,
        status=job.status,
        message=job.message,
        output_dir=printable(str(found.output_dir)),
        results_file=printable(str(found.index)) if found.index is not None else None,
        traces=[fov.traces for fov in found.fovs if fov.traces is not None],
        fovs=list(found.fovs),
        failed_fovs=[fov for fov in found.fovs if fov.status != "completed"],
    )


def status_fields(job: Job) -> dict[str, Any]:
    """What the status of every kind of job has in common."""
    return {
        "job_id": job.job_id,
        "status": job.status,
        "message": job.message,
        "error": job.error,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "ended_at": job.ended_at,
        "estimated_seconds_left": job.seconds_left,
        "prefect_url": job.url,
    }


def _check(body: WorkflowBody, request: Request) -> Plan:
    """Hold a request against the allowed addresses and folders, the recording, and what is in the output folder."""
    refuse_unlisted(body.webhook_url, request.app.state.settings.allowed_webhooks)
    paths = {
        field: str(allowed_path(request, getattr(body, field), field)) for field in ("microscopy_path", "output_dir")
    }
    weights = getattr(body.parameters.segmentation, "model", None)
    if isinstance(weights, str) and PurePath(weights).name != weights:  # a file, not a name in Cellpose's own folder
        allowed_path(request, weights, "parameters.segmentation.model")
    plan = make_plan(part(body, WorkflowRequest).model_copy(update=paths))
    check_folder(plan.output_dir, plan.provenance, plan.fovs, overwrite=body.parameters.overwrite)
    remember(request.app.state.settings.home, plan.metadata.path)
    return plan


def part(body: BaseModel, model: type[ModelT]) -> ModelT:
    """The part of a body that is another model, already checked, and given where the body was."""
    values = {name: getattr(body, name) for name in model.model_fields}
    return model.model_construct(body.model_fields_set & model.model_fields.keys(), **values)


def request_digest(body: BaseModel) -> str:
    """Digest of a request, by which a repeated one is recognised."""
    content = json.dumps(body.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()
