"""Jobs of all kinds: a list, one of them, and forgetting those that have ended."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import Field

from api.jobs import Job, JobStatus, KindName
from api.orchestrator import Orchestrator
from api.responses import Answer, documented_errors
from api.routes.workflow import JobStatusAnswer, status_fields

router = APIRouter(prefix="/jobs", tags=["jobs"])


class JobAnswer(JobStatusAnswer):
    """A job of any kind."""

    kind: KindName
    name: str
    progress: dict[str, int | float] = Field(
        description="As its kind has it, e.g. current_fov, total_fovs and percentage",
        examples=[{"current_fov": 45, "total_fovs": 100, "percentage": 45.0}],
    )

    @classmethod
    def of(cls, job: Job) -> "JobAnswer":
        """Tell of a job."""
        return cls(**status_fields(job), kind=job.kind, name=job.name, progress=job.progress)


class JobsAnswer(Answer):
    """A page of the list of jobs."""

    jobs: list[JobAnswer]
    total: int = Field(description="Jobs on all pages")
    limit: int
    offset: int


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
