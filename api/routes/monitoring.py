"""Whether the API lives, whether jobs can be computed, and numbers for monitoring."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, PlainTextResponse

from api.errors import ServiceUnavailableError
from api.metrics import BUCKETS_S, Numbers, RequestMetrics
from api.orchestrator import Orchestrator
from api.responses import Answer, documented_errors
from api.settings import Settings

router = APIRouter(tags=["monitoring"])

_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


class HealthAnswer(Answer):
    """The API lives."""

    status: Literal["healthy"] = "healthy"


class ReadyAnswer(Answer):
    """Jobs can be computed."""

    status: Literal["ready"] = "ready"


class OrchestratorNumbers(BaseModel):
    """What the orchestrator knows; empty where it does not answer."""

    up: bool
    jobs: dict[str, dict[str, int]] = {}
    workers: dict[str, int] = {}


class StorageNumbers(BaseModel):
    """Space of the file system that holds a folder, in bytes."""

    free_bytes: int
    """What is left for programs without privileges."""
    size_bytes: int


@router.get("/health")
async def health() -> HealthAnswer:
    """Answer as long as the API lives, whatever else does."""
    return HealthAnswer()


@router.get("/health/ready", responses=documented_errors("SERVICE_UNAVAILABLE"))
async def ready(request: Request) -> ReadyAnswer:
    """Tell whether new jobs would be computed, and if not, why."""
    orchestrator: Orchestrator = request.app.state.orchestrator
    problems = await orchestrator.problems()
    if problems:
        raise ServiceUnavailableError("; ".join(problems), {"reasons": problems})
    return ReadyAnswer()


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {
            "description": "Prometheus text; JSON where the header Accept asks for it",
            "content": {
                "text/plain": {"schema": {"type": "string"}},
                "application/json": {"schema": {"type": "object"}},
            },
        }
    },
)
async def metrics(request: Request) -> Response:
    """Tell requests and latencies, jobs by state, the queue, workers, and the space in PYAMA_ALLOWED_PATHS."""
    counted: RequestMetrics = request.app.state.metrics
    settings: Settings = request.app.state.settings
    requests = await run_in_threadpool(counted.total)
    storage = await run_in_threadpool(_measure_storage, settings.allowed_paths or ())
    orchestrator = await _ask(request.app.state.orchestrator)
    if _wants_json(request.headers.get("accept", "")):
        return JSONResponse(_as_json(requests, orchestrator, storage))
    return PlainTextResponse("\n".join(_as_text(requests, orchestrator, storage)) + "\n", media_type=_PROMETHEUS)


def _measure_storage(folders: Sequence[Path]) -> dict[str, StorageNumbers]:
    """Space by folder; without those that are not there."""
    storage = {}
    for folder in folders:
        with suppress(OSError):
            found = os.statvfs(folder)
            storage[str(folder)] = StorageNumbers(
                free_bytes=found.f_bavail * found.f_frsize, size_bytes=found.f_blocks * found.f_frsize
            )
    return storage


async def _ask(orchestrator: Orchestrator) -> OrchestratorNumbers:
    try:
        workers = await orchestrator.count_workers()
        jobs: dict[str, dict[str, int]] = {}
        for (kind, status), count in (await orchestrator.count_jobs()).items():
            jobs.setdefault(kind, {})[status] = count
    except ServiceUnavailableError:
        return OrchestratorNumbers(up=False)
    return OrchestratorNumbers(up=True, jobs=jobs, workers=workers)


def _wants_json(accept: str) -> bool:
    """Whether the header prefers JSON; Prometheus asks for its own formats, and for anything else as well."""
    kinds = [part.split(";")[0].strip().lower() for part in accept.split(",")]
    return "application/json" in kinds and not any(
        kind.startswith(("text/plain", "application/openm")) for kind in kinds
    )


def _queue_length(orchestrator: OrchestratorNumbers) -> int:
    return sum(counts.get("pending", 0) for counts in orchestrator.jobs.values())


def _as_json(
    requests: Numbers, orchestrator: OrchestratorNumbers, storage: Mapping[str, StorageNumbers]
) -> dict[str, Any]:
    return {
        "success": True,
        "requests": [
            {
                "method": method,
                "route": route,
                "by_status": numbers.by_status,
                "count": numbers.count,
                "mean_seconds": numbers.seconds / max(numbers.count, 1),
            }
            for (method, route), numbers in sorted(requests.items())
        ],
        "jobs": orchestrator.jobs,
        "queue_length": _queue_length(orchestrator),
        "workers": orchestrator.workers,
        "orchestrator_up": orchestrator.up,
        "storage": {folder: numbers.model_dump() for folder, numbers in storage.items()},
    }


def _as_text(
    requests: Numbers, orchestrator: OrchestratorNumbers, storage: Mapping[str, StorageNumbers]
) -> Iterator[str]:
    """Lines of the Prometheus text format."""
    yield from _head("pyama_http_requests_total", "counter", "Requests that were answered")
    for (method, route), numbers in sorted(requests.items()):
        for status, count in sorted(numbers.by_status.items()):
            labels = {"method": method, "route": route, "status": status}
            yield _sample("pyama_http_requests_total", labels, count)
    name = "pyama_http_request_duration_seconds"
    yield from _head(name, "histogram", "Time until the answer was sent")
    for (method, route), numbers in sorted(requests.items()):
        labels = {"method": method, "route": route}
        at_most = 0
        for end_s, count in zip([*map(str, BUCKETS_S), "+Inf"], numbers.by_bucket, strict=True):
            at_most += count
            yield _sample(f"{name}_bucket", {**labels, "le": end_s}, at_most)
        yield _sample(f"{name}_sum", labels, numbers.seconds)
        yield _sample(f"{name}_count", labels, numbers.count)
    yield from _head("pyama_storage_free_bytes", "gauge", "Space that is left where an allowed folder is")
    for folder, space in storage.items():
        yield _sample("pyama_storage_free_bytes", {"folder": folder}, space.free_bytes)
    yield from _head("pyama_storage_size_bytes", "gauge", "Size of the file system where an allowed folder is")
    for folder, space in storage.items():
        yield _sample("pyama_storage_size_bytes", {"folder": folder}, space.size_bytes)
    yield from _head("pyama_orchestrator_up", "gauge", "Whether the orchestrator answers")
    yield _sample("pyama_orchestrator_up", {}, int(orchestrator.up))
    if not orchestrator.up:
        return
    yield from _head("pyama_jobs", "gauge", "Jobs that the orchestrator remembers")
    for kind, counts in orchestrator.jobs.items():
        for status, count in counts.items():
            yield _sample("pyama_jobs", {"kind": kind, "status": status}, count)
    yield from _head("pyama_queue_length", "gauge", "Jobs that wait")
    yield _sample("pyama_queue_length", {}, _queue_length(orchestrator))
    yield from _head("pyama_workers", "gauge", "Workers that are online")
    for pool, count in orchestrator.workers.items():
        yield _sample("pyama_workers", {"pool": pool}, count)


def _head(name: str, kind: str, what: str) -> Iterator[str]:
    yield f"# HELP {name} {what}"
    yield f"# TYPE {name} {kind}"


def _sample(name: str, labels: Mapping[str, str], value: float) -> str:
    listed = ",".join(f'{label}="{_escape(text)}"' for label, text in labels.items())
    return f"{name}{{{listed}}} {value}" if listed else f"{name} {value}"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
