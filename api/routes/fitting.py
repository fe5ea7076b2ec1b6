"""Fitting traces: start a job, watch it, cancel it, and page through what came out."""

from pathlib import Path
from typing import Annotated

import anyio
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from api.errors import JobNotFinishedError, PathNotFoundError
from api.file_items import printable
from api.jobs import FITTING, Job, JobStatus
from api.orchestrator import NewJob, Orchestrator
from api.paths import allowed_path, existing_path
from api.responses import Answer, documented_errors
from api.routes.workflow import (
    CancelAnswer,
    IdempotencyKey,
    JobStatusAnswer,
    StartAnswer,
    part,
    request_digest,
    status_fields,
)
from api.webhooks import WEBHOOK_FIELD, Webhook, refuse_unlisted
from tasks.fitting.files import FitFiles
from tasks.fitting.plan import FitPlan, make_fit_plan
from tasks.fitting.request import FittingRequest
from tasks.fitting.results import FitRow, FitSummary, read_rows, read_summary
from tasks.job_marks import folder_tag

router = APIRouter(prefix="/analysis/fitting", tags=["analysis"])

_MOST_AT_A_TIME = 2
"""Trace files that are read at once: a large one takes seconds, and memory."""
_reading = anyio.CapacityLimiter(_MOST_AT_A_TIME)


class FittingBody(FittingRequest):
    """The documented request to fit traces, and who is to be told of its end."""

    webhook_url: Webhook | None = WEBHOOK_FIELD


class CellProgress(BaseModel):
    """How far a job is."""

    current_cell: int = Field(description="Cells that are fitted")
    total_cells: int
    percentage: float = Field(description="Never goes backwards")


class FittingStatusAnswer(JobStatusAnswer):
    """State of a fitting job."""

    progress: CellProgress


class FittingResultsAnswer(Answer):
    """What a job that has ended has left: nothing, where it was not completed."""

    job_id: str
    status: JobStatus
    message: str
    csv_path: str | None = Field(description="The trace file that was fitted")
    column: str | None = Field(description="Its column, where one was asked for")
    results_file: str | None = Field(description="The table of all cells, as CSV")
    summary_file: str | None
    summary: FitSummary | None
    results: list[FitRow] = Field(description="A page of the table")
    total: int = Field(description="Cells on all pages")
    limit: int
    offset: int


@router.post(
    "/start",
    responses=documented_errors("FILE_NOT_FOUND", "OUTPUT_DIR_BUSY", "IDEMPOTENCY_KEY_REUSED", "SERVICE_UNAVAILABLE"),
)
async def start_fitting(body: FittingBody, request: Request, idempotency_key: IdempotencyKey = None) -> StartAnswer:
    """Start fitting a model to the traces of a file.

    Everything that can be checked is checked before a job is created: the file is read, and names, start values and
    bounds are held against the model. Results of the same name are replaced once the new ones are complete.
    """
    orchestrator: Orchestrator = request.app.state.orchestrator
    digest = request_digest(body)
    if idempotency_key is not None:
        earlier = await orchestrator.find_repeated(FITTING, idempotency_key, digest)
        if earlier is not None:
            return _started(earlier)
    plan = await anyio.to_thread.run_sync(_check, body, request, limiter=_reading)
    new = NewJob(
        kind=FITTING,
        parameters=plan.request.model_dump(mode="json", exclude_unset=True),
        name=printable(Path(plan.request.csv_path).name),
        total=plan.traces.n_cells,
        folder=str(plan.files.table),
        folder_tag=await run_in_threadpool(folder_tag, plan.files.table),
        digest=digest,
        idempotency_key=idempotency_key,
        webhook=body.webhook_url,
    )
    return _started(await orchestrator.start(new))


@router.get("/status/{job_id}", responses=documented_errors("JOB_NOT_FOUND", "SERVICE_UNAVAILABLE"))
async def fitting_status(job_id: str, request: Request) -> FittingStatusAnswer:
    """Tell how far a job is; at most a second old."""
    orchestrator: Orchestrator = request.app.state.orchestrator
    job = await orchestrator.job(job_id, FITTING)
    return FittingStatusAnswer(**status_fields(job), progress=CellProgress.model_validate(job.progress))


@router.post(
    "/cancel/{job_id}", responses=documented_errors("JOB_NOT_FOUND", "JOB_ALREADY_COMPLETED", "SERVICE_UNAVAILABLE")
)
async def cancel_fitting(job_id: str, request: Request) -> CancelAnswer:
    """Stop a job; the results that were there before stay as they are."""
    orchestrator: Orchestrator = request.app.state.orchestrator
    job = await orchestrator.cancel(job_id, FITTING)
    return CancelAnswer(message="Fitting cancelled successfully", job_id=job.job_id, status=job.status)


@router.get(
    "/results/{job_id}",
    responses=documented_errors("JOB_NOT_FOUND", "JOB_NOT_FINISHED", "FILE_NOT_FOUND", "SERVICE_UNAVAILABLE"),
)
async def fitting_results(
    job_id: str,
    request: Request,
    limit: Annotated[int, Query(ge=1, le=1000, description="Most cells on a page")] = 100,
    offset: Annotated[int, Query(ge=0, le=1_000_000_000, description="Cells to pass over")] = 0,
) -> FittingResultsAnswer:
    """Tell what a job that has ended left: a summary, and a page of the table of cells.

    A job that failed or was cancelled has left no results; its message says why.
    """
    orchestrator: Orchestrator = request.app.state.orchestrator
    job = await orchestrator.job(job_id, FITTING)
    if not job.ended:
        raise JobNotFinishedError(f"job {job.job_id} is {job.status}; wait for its end, or cancel it")
    return await run_in_threadpool(_read_results, job, request, limit, offset)


def _started(job: Job) -> StartAnswer:
    return StartAnswer(job_id=job.job_id, message="Fitting started successfully")


def _check(body: FittingBody, request: Request) -> FitPlan:
    """Hold a request against the allowed addresses and folders, the model, and the trace file."""
    refuse_unlisted(body.webhook_url, request.app.state.settings.allowed_webhooks)
    paths = {"csv_path": str(existing_path(request, body.csv_path, "csv_path"))}
    if body.output_dir is not None:
        paths["output_dir"] = str(allowed_path(request, body.output_dir, "output_dir"))
    asked = part(body, FittingRequest).model_copy(update=paths)
    for path in (FitFiles.of(asked).table, FitFiles.of(asked).work_folder):
        allowed_path(request, str(path), "output_dir" if asked.output_dir is not None else "csv_path")
    return make_fit_plan(asked)


def _read_results(job: Job, request: Request, limit: int, offset: int) -> FittingResultsAnswer:
    answer = FittingResultsAnswer(
        job_id=job.job_id, status=job.status, message=job.error or job.message, csv_path=None, column=None,
        results_file=None, summary_file=None, summary=None, results=[], total=0, limit=limit, offset=offset,
    )  # fmt: skip
    if job.status != "completed":
        return answer
    # The flow takes null for what is not given, as those who start it elsewhere may do.
    asked = FittingRequest.parse(**{name: value for name, value in job.parameters.items() if value is not None})
    files = FitFiles.of(asked)
    for path in (files.table, files.summary):
        allowed_path(request, str(path), "output_dir" if asked.output_dir is not None else "csv_path")
    table = printable(str(files.table))
    try:
        summary = read_summary(files.summary)
        results = list(read_rows(files.table, offset, limit))
    except (OSError, ValueError) as error:
        raise PathNotFoundError(
            f"the results of job {job.job_id} are no longer in {table}, or not complete: start it again"
        ) from error
    if job.job_id not in summary["runs"]:
        raise PathNotFoundError(
            f"the results of job {job.job_id} in {table} were replaced by those of a later fit; start it again, with "
            "another output_dir"
        )
    found = {
        "csv_path": printable(asked.csv_path),
        "column": asked.column,
        "results_file": table,
        "summary_file": printable(str(files.summary)),
        "summary": summary,
    }
    return answer.model_copy(update={**found, "results": results, "total": summary["total_cells"]})
