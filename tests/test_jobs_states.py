"""Jobs as the API tells them: states, progress, and what processes of a host share."""

import asyncio
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from prefect.client.schemas.objects import Artifact, FlowRun, State, StateType

from api.jobs import PROCESSING, REQUEST_LABEL, Job, job_status
from api.metrics import RequestMetrics
from api.middleware import Outcome
from api.orchestrator import CONTROL_POOL, POOL, state_filter
from api.status_board import StatusBoard
from api.workflow_results import collect_results
from deployments.deploying import DEPLOYMENTS
from tasks.job_marks import INPUT_LABEL, TOTAL_LABEL
from tests.engines import ROOT
from tests.output_worker import make_provenance, make_request, write_fov


def run(state: State[Any], run_count: int = 0) -> FlowRun:
    return FlowRun(
        flow_id=uuid4(),
        state=state,
        tags=["pyama", PROCESSING.tag],
        run_count=run_count,
        name="film.nd2",
        labels={TOTAL_LABEL: 4, REQUEST_LABEL: "digest"},
    )


def told(state: State[Any], artifact: Artifact | None = None, run_count: int = 0) -> Job:
    job = Job.of(run(state, run_count), artifact, "http://127.0.0.1:4200")
    assert job is not None
    return job


def progress(percentage: float, done: int, total: int) -> Artifact:
    return Artifact(data=percentage, metadata_={"done": str(done), "total": str(total)})


@pytest.mark.parametrize(
    ("kind", "name", "run_count", "status"),
    [
        (StateType.SCHEDULED, "Scheduled", 0, "pending"),
        (StateType.SCHEDULED, "Late", 0, "pending"),
        (StateType.SCHEDULED, "AwaitingRetry", 0, "pending"),
        (StateType.SCHEDULED, "AwaitingRetry", 1, "running"),
        (StateType.SCHEDULED, "Resuming", 1, "running"),
        (StateType.SCHEDULED, "AwaitingConcurrencySlot", 0, "pending"),
        (StateType.PENDING, "Pending", 0, "pending"),
        (StateType.PENDING, "Submitting", 1, "running"),
        (StateType.PAUSED, "Paused", 0, "pending"),
        (StateType.PAUSED, "AwaitingRetry", 1, "running"),
        (StateType.RUNNING, "Running", 1, "running"),
        (StateType.RUNNING, "Retrying", 2, "running"),
        (StateType.CANCELLING, "Cancelling", 1, "running"),
        (StateType.COMPLETED, "Completed", 1, "completed"),
        (StateType.FAILED, "Failed", 1, "failed"),
        (StateType.FAILED, "TimedOut", 1, "failed"),
        (StateType.CRASHED, "Crashed", 1, "failed"),
        (StateType.CANCELLED, "Cancelled", 0, "cancelled"),
    ],
)
def test_status_of_every_state(kind: StateType, name: str, run_count: int, status: str) -> None:
    assert job_status(State(type=kind, name=name), run_count) == status


@pytest.mark.parametrize("kind", list(StateType))
def test_filters_find_every_state_under_its_status(kind: StateType) -> None:
    status = job_status(State(type=kind, name=kind.value.title()), 0)
    selection = state_filter([status])
    assert selection is not None
    assert selection.type is not None
    assert kind in (selection.type.any_ or [])


def test_a_running_job_is_never_at_100_percent() -> None:
    job = told(State(type=StateType.RUNNING), progress(100.0, 4, 4), run_count=1)
    assert job.progress == {"current_fov": 4, "total_fovs": 4, "percentage": 99.9}


def test_a_completed_job_is_at_100_percent_whatever_its_artifact_says() -> None:
    job = told(State(type=StateType.COMPLETED, message="done"), progress(93.0, 3, 4), run_count=1)
    assert job.progress == {"current_fov": 4, "total_fovs": 4, "percentage": 100.0}


def test_documented_message_of_a_running_job() -> None:
    assert told(State(type=StateType.RUNNING), progress(45.0, 45, 100), run_count=1).message == "Processing FOV 45/100"


def test_a_job_without_progress_has_one_all_the_same() -> None:
    assert told(State(type=StateType.SCHEDULED)).progress == {"current_fov": 0, "total_fovs": 4, "percentage": 0.0}


def test_run_without_the_tag_of_a_kind_is_no_job() -> None:
    foreign = run(State(type=StateType.RUNNING)).model_copy(update={"tags": ["pyama"]})
    assert Job.of(foreign, None, None) is None


class Orchestrator:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.looks = 0

    async def look(self, job_ids: Collection[str]) -> dict[str, Job]:
        self.looks += 1
        job = told(State(type=StateType.RUNNING), progress(float(self.looks), 0, 4), run_count=1)
        await asyncio.sleep(0.01)
        return {job_id: job for job_id in job_ids if job_id != "unknown"}


def test_many_questions_at_once_are_one_look(tmp_path: Path) -> None:
    orchestrator = Orchestrator()
    board = StatusBoard(tmp_path / "status.json", orchestrator.look)

    async def ask() -> list[Job | None]:
        return await asyncio.gather(*(board.job(str(number % 7)) for number in range(100)))

    jobs = asyncio.run(ask())
    assert all(job is not None for job in jobs)
    assert orchestrator.looks <= 2


def test_processes_share_what_they_know(tmp_path: Path) -> None:
    one, other = Orchestrator(), Orchestrator()

    async def ask() -> tuple[Job | None, Job | None]:
        first = await StatusBoard(tmp_path / "status.json", one.look).job("a")
        return first, await StatusBoard(tmp_path / "status.json", other.look).job("a")

    first, second = asyncio.run(ask())
    assert first == second
    assert (one.looks, other.looks) == (1, 0)


def test_what_is_watched_is_renewed_before_anybody_asks(tmp_path: Path) -> None:
    orchestrator = Orchestrator()
    board = StatusBoard(tmp_path / "status.json", orchestrator.look)

    async def watch() -> Job | None:
        await board.job("a")
        async with asyncio.timeout(30):
            while orchestrator.looks < 3:
                await asyncio.sleep(0.01)
        return await board.job("a")

    told = asyncio.run(watch())
    assert told is not None
    assert told.percentage >= 2  # of a look that no question has waited for


def test_unknown_job_is_remembered_as_unknown(tmp_path: Path) -> None:
    orchestrator = Orchestrator()
    board = StatusBoard(tmp_path / "status.json", orchestrator.look)
    assert asyncio.run(board.job("unknown")) is None
    assert asyncio.run(board.job("unknown")) is None
    assert orchestrator.looks == 1


@pytest.mark.parametrize("content", [b"", b"{", b"[[1, 2]]", b"null"])
def test_a_damaged_file_costs_a_look(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "status.json").write_bytes(content)
    orchestrator = Orchestrator()
    assert asyncio.run(StatusBoard(tmp_path / "status.json", orchestrator.look).job("a")) is not None
    assert orchestrator.looks == 1


def test_a_home_that_cannot_be_written_costs_a_look_each_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    orchestrator = Orchestrator()
    board = StatusBoard(tmp_path / "file/status.json", orchestrator.look)
    assert asyncio.run(board.job("a")) is not None


def outcome(status: int, duration_s: float) -> Outcome:
    return Outcome("id", "GET", "/jobs", "127.0.0.1", status=status, route="/jobs", duration_s=duration_s)


def test_requests_are_added_up_over_processes_and_those_of_ended_ones_are_kept(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        metrics = RequestMetrics(tmp_path)
        metrics.observe(outcome(200, 0.02))
        metrics.total()
        os._exit(0)
    os.waitpid(child, 0)
    for _ in range(2):  # the numbers of the ended process are moved once, and counted once
        metrics = RequestMetrics(tmp_path)
        metrics.observe(outcome(404, 3.0))
        numbers = metrics.total()["GET", "/jobs"]
    assert numbers.by_status == {"200": 1, "404": 2}
    assert numbers.count == 3
    assert numbers.seconds == pytest.approx(6.02)


def test_prefect_yaml_tells_of_the_same_deployments() -> None:
    told = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    pools = {POOL, CONTROL_POOL}
    assert [
        (one["entrypoint"].replace(".py:", ".").replace("/", "."), one["name"], one["work_pool"]["name"], one["tags"])
        for one in told
    ] == [(one.entrypoint, "pyama", one.pool, ["pyama", one.tag]) for one in DEPLOYMENTS]
    assert {one.pool for one in DEPLOYMENTS} <= pools


@pytest.mark.parametrize(
    ("labels", "there", "status"),
    [
        ({INPUT_LABEL: "a" * 64}, {}, "completed"),
        ({INPUT_LABEL: "a" * 64}, {"content": "b"}, "missing"),
        ({INPUT_LABEL: "a" * 64}, {"min_frames": 3}, "missing"),
        ({}, {"content": "b"}, "completed"),  # started elsewhere, it tells no more than the name
        ({}, {"recording": "other.nd2"}, "missing"),
    ],
)
def test_results_are_those_of_the_recording_that_the_job_has_read(
    labels: dict[str, str], there: dict[str, Any], status: str, tmp_path: Path
) -> None:
    write_fov(tmp_path, 0, make_provenance(**there))
    ended = run(State(type=StateType.COMPLETED)).model_copy(
        update={"parameters": make_request(tmp_path).model_dump(mode="json"), "labels": {TOTAL_LABEL: 1} | labels}
    )
    job = Job.of(ended, None, None)
    assert job is not None
    assert [fov.status for fov in collect_results(job, None).fovs] == [status]
