"""The state of a job as it changes, as server-sent events: for pages that show it live."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from api.errors import JobNotFoundError, ServiceUnavailableError
from api.jobs import Job
from api.orchestrator import Orchestrator
from api.responses import documented_errors
from api.routes.jobs import JobAnswer

_LOOK_INTERVAL_S = 0.5
"""How often each stream asks what is known of its job; of the orchestrator, all of them ask together."""

router = APIRouter(prefix="/jobs", tags=["jobs"])


async def _watched_job(job_id: str, request: Request) -> Job:
    """Find the job before the answer begins, so that an error still has its status."""
    orchestrator: Orchestrator = request.app.state.orchestrator
    return await orchestrator.job(job_id)


@router.get(
    "/{job_id}/events",
    response_class=EventSourceResponse,
    responses=documented_errors("JOB_NOT_FOUND", "SERVICE_UNAVAILABLE"),
)
async def job_events(job: Annotated[Job, Depends(_watched_job)], request: Request) -> AsyncIterator[ServerSentEvent]:
    """Send an event `status` with the job, as `GET /jobs/{job_id}` tells it, now and whenever it changes.

    The stream ends after the state in which the job ends, or when the server stops; while nothing changes, a comment
    every 15 s keeps it open. It asks for a key like every other route. A browser's EventSource cannot send one: read
    the stream by fetch there.
    """
    orchestrator: Orchestrator = request.app.state.orchestrator
    stopping: asyncio.Event = request.app.state.stopping
    told: JobAnswer | None = None
    while not stopping.is_set():
        current = JobAnswer.of(job)
        if current != told:
            yield ServerSentEvent(event="status", data=current)
            told = current
        if job.ended:
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), _LOOK_INTERVAL_S)
        try:
            job = await orchestrator.job(job.job_id)
        except JobNotFoundError:
            return
        except ServiceUnavailableError:
            continue  # the job goes on while nobody can tell of it
