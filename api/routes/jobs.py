"""Jobs of all kinds: a list, one of them, and forgetting those that have ended."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import Field

from api.file_items import printable
from api.jobs import Job, JobStatus, KindName
from api.orchestrator import Orchestrator
from api.responses import Answer, documented_errors
from api.routes.workflow import CancelAnswer, JobStatusAnswer, status_fields

router = APIRouter(prefix="/jobs", tags=["jobs"])


class JobAnswer(JobStatusAnswer):
    """A job of any kind."""

    kind: KindName
    name: str
    input_path: str | None = Field(description="What it reads: a recording, a trace file, or a samples file")
    output_dir: str | None = Field(description="Folder of its results")
    progress: dict[str, int | float] = Field(
        description="As its kind has it, e.g. current_fov, total_fovs and percentage",
        examples=[{"current_fov": 45, "total_fovs": 100, "percentage": 45.0}],
    )

    @classmethod
    def of(cls, job: Job) -> "JobAnswer":
        """Tell of a job."""
        return cls(
            **status_fields(job),
            kind=job.kind,
            name=job.name,
            input_path=_shown(job.input_path),
            output_dir=_shown(job.output_dir),
            progress=job.progress,
        )


class JobsAnswer(Answer):
    """A page of the list of jobs."""

    jobs: list[JobAnswer]
    total: int = Field(description="Jobs on all pages")
    limit: int
    offset: int


class RetryAnswer(Answer):
    """A job that is taken up again."""

    message: str = "Job taken up again; what is finished is not computed again"
    job_id: str
    status: JobStatus = Field(description="`pending` or `running`, until it ends anew")


class DeletedAnswer(Answer):
    """A job that is forgotten."""

    job_id: str
    message: str = "Job deleted; its files stay"


@router.get("", responses=documented_errors("SERVICE_UNAVAILABLE"))
async def list_jobs(
    request: Request,
    status: Annotated[list[JobStatus], Query(description="Only jobs of this status; may be repeated")] = [],  # noqa: B006
    kind: Annotated[KindName | None, Query(description="Only jobs of this kind")] = None,
    limit: Annotated[int, Query(ge=1, le=200, description="Most jobs on a page")] = 50,
    offset: Annotated[int, Query(ge=0, le=1_000_000, description="Jobs to pass over")] = 0,
) -> JobsAnswer:
    """List jobs, newest first."""
    orchestrator: Orchestrator = request.app.state.orchestrator
    page = await orchestrator.jobs(status, kind, limit, offset)
    return JobsAnswer(jobs=[JobAnswer.of(job) for job in page.jobs], total=page.total, limit=limit, offset=offset)


@router.get("/{job_id}", responses=documented_errors("JOB_NOT_FOUND", "SERVICE_UNAVAILABLE"))
async def get_job(job_id: str, request: Request) -> JobAnswer:
    """Tell of a job of any kind."""
    orchestrator: Orchestrator = request.app.state.orchestrator
    return JobAnswer.of(await orchestrator.job(job_id))


@router.delete("/{job_id}", responses=documented_errors("JOB_NOT_FOUND", "JOB_NOT_FINISHED", "SERVICE_UNAVAILABLE"))
async def delete_job(job_id: str, request: Request) -> DeletedAnswer:
    """Forget a job that has ended; its files stay."""
    orchestrator: Orchestrator = request.app.state.orchestrator
    await orchestrator.delete(job_id)
    return DeletedAnswer(job_id=job_id)


@router.post(
    "/{job_id}/cancel", responses=documented_errors("JOB_NOT_FOUND", "JOB_ALREADY_COMPLETED", "SERVICE_UNAVAILABLE")
)
async def cancel_job(job_id: str, request: Request) -> CancelAnswer:
    """Stop a job of any kind; what is finished stays."""
    orchestrator: Orchestrator = request.app.state.orchestrator
    job = await orchestrator.cancel(job_id)
    return CancelAnswer(message="Job cancelled successfully", job_id=job.job_id, status=job.status)


@router.post(
    "/{job_id}/retry",
    responses=documented_errors(
        "JOB_NOT_FOUND", "JOB_NOT_FINISHED", "JOB_ALREADY_COMPLETED", "OUTPUT_DIR_BUSY", "SERVICE_UNAVAILABLE"
    ),
)
async def retry_job(job_id: str, request: Request) -> RetryAnswer:
    """Take up a job that failed or was cancelled where it was: under the same id, and with what is finished kept."""
    orchestrator: Orchestrator = request.app.state.orchestrator
    job = await orchestrator.retry(job_id)
    return RetryAnswer(job_id=job.job_id, status=job.status)


def _shown(path: str | None) -> str | None:
    return None if path is None else printable(path)
