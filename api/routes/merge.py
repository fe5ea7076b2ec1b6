"""Merging the tables of samples: a job of seconds, which a request waits for."""

import time
from contextlib import suppress
from pathlib import Path
from typing import Self

import anyio
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import Field, model_validator
from starlette.concurrency import run_in_threadpool

from api.errors import ProcessingFailedError, ServiceUnavailableError
from api.file_items import printable
from api.jobs import MERGE, Job, JobStatus
from api.orchestrator import NewJob, Orchestrator
from api.paths import allowed_path, existing_folder, existing_path
from api.responses import Answer, documented_errors
from api.routes.workflow import request_digest
from api.webhooks import WEBHOOK_FIELD, Webhook, refuse_unlisted
from tasks.configuration import AbsolutePath, Model
from tasks.job_marks import folder_tag
from tasks.merge_plan import MergePlan, MergeRequest, make_merge_plan

_PATIENCE_S = 30.0
"""Time that a request waits for its files."""
_LOOK_INTERVAL_S = 0.2

router = APIRouter(prefix="/processing", tags=["processing"])


class MergeBody(Model):
    """What to merge into which folder."""

    sample_yaml: AbsolutePath = Field(description="Samples file", examples=["/data/samples.yaml"])
    input_dir: AbsolutePath | None = Field(
        None, description="Output folder of a processing job", examples=["/data/output"]
    )
    processing_results_yaml: AbsolutePath | None = Field(
        None, description="In place of input_dir: the index in that folder, as older clients send it"
    )
    output_dir: AbsolutePath = Field(
        description="Folder of the merged files; created where it is not there", examples=["/data/merged"]
    )
    parquet: bool = Field(False, description="Write every table as Parquet too")
    webhook_url: Webhook | None = WEBHOOK_FIELD

    @model_validator(mode="after")
    def _one_input(self) -> Self:
        if (self.input_dir is None) == (self.processing_results_yaml is None):
            raise ValueError("give input_dir, or processing_results_yaml in its place")
        return self


class MergeAnswer(Answer):
    """The files that were written."""

    message: str = Field(examples=["2 samples merged, 400 cells"])
    output_dir: str
    merged_files: list[str] = Field(description="Absolute paths, sample by sample")
    job_id: str


class MergeStartedAnswer(Answer):
    """A merge that takes longer than a request should."""

    message: str
    output_dir: str
    job_id: str = Field(description="What to ask for at /jobs/{job_id}")
    status: JobStatus
    expected_files: list[str] = Field(description="Absolute paths that it writes, all at once at its end")


@router.post(
    "/merge",
    response_model=MergeAnswer,
    responses={
        **documented_errors("FILE_NOT_FOUND", "OUTPUT_DIR_BUSY", "PROCESSING_ERROR", "SERVICE_UNAVAILABLE"),
        202: {"model": MergeStartedAnswer, "description": "The merge goes on; ask for its job"},
    },
)
async def merge_samples(body: MergeBody, request: Request) -> MergeAnswer | JSONResponse:
    """Put the traces of all FOVs of each sample together, and wait for the files for up to 30 s.

    Everything that can be checked is checked before: all mistakes are told at once, and nothing is written then. Files
    of an earlier merge are replaced.
    """
    orchestrator: Orchestrator = request.app.state.orchestrator
    asked, plan = await run_in_threadpool(_check, body, request)
    new = NewJob(
        kind=MERGE,
        parameters=asked.model_dump(mode="json"),
        name=printable(Path(asked.sample_yaml).name),
        total=len(plan.samples),
        folder=asked.output_dir,
        folder_tag=await run_in_threadpool(folder_tag, plan.output_dir),
        digest=request_digest(body),
        idempotency_key=None,
        webhook=body.webhook_url,
    )
    job = await _wait(orchestrator, await orchestrator.start(new))
    output_dir = printable(asked.output_dir)
    if not job.ended:
        started = MergeStartedAnswer(
            message=f"The merge goes on: GET /jobs/{job.job_id} tells how far it is",
            output_dir=output_dir,
            job_id=job.job_id,
            status=job.status,
            expected_files=_files(plan),
        )
        return JSONResponse(started.model_dump(), 202)
    if job.status != "completed":
        raise ProcessingFailedError(job.error or "the merge was cancelled", {"job_id": job.job_id})
    return MergeAnswer(
        message=job.message,
        output_dir=output_dir,
        merged_files=_files(plan),
        job_id=job.job_id,
    )


def _files(plan: MergePlan) -> list[str]:
    """Absolute paths of the files of a merge, sample by sample."""
    return [printable(str(plan.output_dir / name)) for name in plan.files]


def _check(body: MergeBody, request: Request) -> tuple[MergeRequest, MergePlan]:
    """Hold a request against the allowed addresses and folders, the samples, and the tables that they need."""
    refuse_unlisted(body.webhook_url, request.app.state.settings.allowed_webhooks)
    samples = existing_path(request, body.sample_yaml, "sample_yaml")
    if body.processing_results_yaml is not None:
        index = existing_path(request, body.processing_results_yaml, "processing_results_yaml")
        input_dir, field = index.parent, "processing_results_yaml"
    else:
        input_dir, field = existing_folder(request, str(body.input_dir), "input_dir"), "input_dir"
    output_dir = allowed_path(request, body.output_dir, "output_dir")
    asked = MergeRequest(
        sample_yaml=str(samples), input_dir=str(input_dir), output_dir=str(output_dir), parquet=body.parquet
    )
    # Symbolic links in the folder may lead out of what this server may read.
    return asked, make_merge_plan(asked, lambda path: allowed_path(request, str(path), field))


async def _wait(orchestrator: Orchestrator, job: Job) -> Job:
    """Wait for the end of a job, but not for ever; it goes on also where nobody can tell of it for a moment."""
    deadline = time.monotonic() + _PATIENCE_S
    while not job.ended and time.monotonic() < deadline:
        await anyio.sleep(_LOOK_INTERVAL_S)
        with suppress(ServiceUnavailableError):
            job = await orchestrator.job(job.job_id, MERGE)
    return job
