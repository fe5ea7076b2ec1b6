"""The flow that starts processing of new recordings, at a real Prefect server, and its schedule."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.flow_engine import run_flow
from prefect.states import Cancelled, Completed, Crashed, Failed, Running

from api.jobs import PROCESSING, Job
from api.orchestrator import CONTROL_POOL
from api.settings import Settings
from deployments.deploying import NIGHTLY, deploy
from flows.nightly import MOST_ATTEMPTS, process_new_acquisitions
from tasks.job_marks import FOUND_LABEL, PROCESSING_DEPLOYMENT, folder_tag
from tests.engines import ROOT, wait_until
from tests.flow_runs import CHANNELS, SCIENCE, EndedRun, film, run
from tests.recordings import DATA, random_images, write_recording

_BRIGHTNESS = count(1)

pytestmark = pytest.mark.usefixtures("deployed")


@pytest.fixture(scope="module")
def deployed(prefect_api: str) -> None:
    """Deployments without workers, so that runs stay as they are put."""
    asyncio.run(deploy(Settings()))


@pytest.fixture
def client() -> Iterator[SyncPrefectClient]:
    """A client of the server."""
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a recording of its own kind, and how it is to be processed."""
    incoming = tmp_path / "incoming"
    incoming.mkdir()
    images = film(n_fovs=2, n_frames=2) + np.uint16(next(_BRIGHTNESS))  # so that no test knows another one's recording
    write_recording(incoming / "film.nd2", images)
    (incoming / "pyama.yaml").write_text(json.dumps({"channels": CHANNELS, "parameters": SCIENCE}))
    return incoming


def scan(folder: Path, **fields: Any) -> EndedRun:
    """Run the flow here and now."""
    results = folder.parent / "results"
    state: State[Any] = process_new_acquisitions(
        str(folder), str(results), **{"settle_s": 0.0, **fields}, return_state=True
    )
    run_id = state.state_details.flow_run_id
    assert run_id is not None
    return EndedRun(run_id, state, results)


def started_runs(client: SyncPrefectClient, output_dir: Path) -> list[FlowRun]:
    """All runs that write into a folder."""
    return client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[folder_tag(output_dir)])))


def put(client: SyncPrefectClient, row: dict[str, Any], state: State[Any]) -> None:
    """Let a started run come to a state, as its process would."""
    client.set_flow_run_state(UUID(row["job_id"]), state, force=True)


def test_a_recording_is_started_once_and_the_api_knows_the_job(folder: Path, client: SyncPrefectClient) -> None:
    first = scan(folder)
    assert first.state.is_completed()
    assert first.message == "1 recordings found: 1 started, 0 skipped, 0 broken"
    (row,) = first.table()
    assert (row["recording"], row["outcome"], row["why"]) == ("film.nd2", "started", "attempt 1 of 3")
    again = scan(folder)
    assert again.message == "1 recordings found: 0 started, 1 skipped, 0 broken"
    assert (again.table()[0]["outcome"], again.table()[0]["job_id"]) == ("skipped", row["job_id"])
    (found,) = started_runs(client, folder.parent / "results" / "film")
    job = Job.of(found, None, None)
    assert job is not None
    assert (job.job_id, job.kind, job.status, job.name, job.total) == (
        row["job_id"], PROCESSING.name, "pending", "film.nd2", 2,
    )  # fmt: skip
    ended = run(found.parameters)
    assert ended.state.is_completed()
    put(client, row, Failed())
    assert "finished: " in scan(folder).table()[0]["why"]
    assert len(started_runs(client, ended.output_dir)) == 1


def test_two_scans_at_the_same_time_start_one_run(folder: Path, client: SyncPrefectClient) -> None:
    with ThreadPoolExecutor(2) as threads:
        scans = [threads.submit(copy_context().run, scan, folder) for _ in range(2)]
        ended = [one.result() for one in scans]
    assert all(one.state.is_completed() for one in ended)
    assert sorted(one.table()[0]["outcome"] for one in ended) == ["skipped", "started"]
    assert len(started_runs(client, folder.parent / "results" / "film")) == 1


def test_there_is_another_attempt_only_after_a_failed_or_crashed_one_and_three_at_most(
    folder: Path, client: SyncPrefectClient
) -> None:
    ends: list[State[Any]] = [Failed(), Crashed(), Failed(message="no space left")]
    for attempt, state in enumerate(ends, start=1):
        (row,) = scan(folder).table()
        assert (row["outcome"], row["why"]) == ("started", f"attempt {attempt} of {MOST_ATTEMPTS}")
        put(client, row, Running())
        assert scan(folder).table()[0]["outcome"] == "skipped"
        put(client, row, state)
    (row,) = scan(folder).table()
    assert row["outcome"] == "skipped"
    assert row["why"] == "given up after 3 attempts, of which this was the last: no space left"
    assert len(started_runs(client, folder.parent / "results" / "film")) == MOST_ATTEMPTS
    (folder / "film.pyama.yaml").write_text(json.dumps({"parameters": {**SCIENCE, "keep": "none"}}))
    assert scan(folder).table()[0]["why"] == "attempt 1 of 3"


@pytest.mark.parametrize("state", [Completed(), Cancelled()])
def test_what_was_completed_or_cancelled_is_left_to_people(
    folder: Path, client: SyncPrefectClient, state: State[Any]
) -> None:
    (row,) = scan(folder).table()
    put(client, row, state)
    (folder / "film.nd2").rename(folder / "renamed.nd2")
    (again,) = scan(folder).table()
    assert (again["outcome"], again["job_id"]) == ("skipped", row["job_id"])
    assert f"it was {state.type.value.lower()} as this job, into {folder.parent}/results/film" in again["why"]
    labels = client.read_flow_run(UUID(row["job_id"])).labels
    assert labels[FOUND_LABEL] == str(folder / "renamed.nd2")  # so that it is remembered as long as that is there


def test_a_copy_of_a_recording_is_not_processed_beside_it(folder: Path, client: SyncPrefectClient) -> None:
    (folder / "copy.nd2").write_bytes((folder / "film.nd2").read_bytes())
    ended = scan(folder)
    assert ended.message == "2 recordings found: 1 started, 1 skipped, 0 broken"
    first, second = ended.table()
    assert (first["outcome"], second["outcome"], second["why"]) == ("started", "skipped", "this job is processing it")
    assert first["job_id"] == second["job_id"]
    (folder / "copy.nd2").unlink()
    scan(folder)  # what was processed is elsewhere now
    assert client.read_flow_run(UUID(first["job_id"])).labels[FOUND_LABEL] == str(folder / "film.nd2")


@pytest.mark.parametrize("state", [Running(), Failed()])
def test_a_scan_that_was_interrupted_goes_on_with_what_it_has_started(
    folder: Path, client: SyncPrefectClient, state: State[Any]
) -> None:
    ended = scan(folder)
    (row,) = ended.table()
    put(client, row, state)
    interrupted = client.read_flow_run(ended.id)
    again: State[Any] = run_flow(  # type: ignore[assignment]
        process_new_acquisitions, flow_run=interrupted, parameters=interrupted.parameters, return_type="state"
    )
    assert again.message == "1 recordings found: 1 started, 0 skipped, 0 broken"
    assert [json.loads(str(one.data)) for one in ended.artifacts("table")] == [[row], [row]]
    assert len(started_runs(client, folder.parent / "results" / "film")) == 1
    put(client, row, Cancelled())


def test_what_prefect_refuses_does_not_stop_the_rest(folder: Path, client: SyncPrefectClient) -> None:
    write_recording(folder / "a.nd2", film(n_fovs=2, n_frames=2) + np.uint16(next(_BRIGHTNESS)))
    (folder / "film.pyama.yaml").write_text(json.dumps({"parameters": {**SCIENCE, "keep": "none"}}))
    processing = client.read_deployment_by_name(PROCESSING_DEPLOYMENT)
    strict = {"properties": {"parameters": {"type": "object", "required": ["keep"]}}}
    change = {"enforce_parameter_schema": True, "parameter_openapi_schema": strict}
    client.request("PATCH", "/deployments/{id}", path_params={"id": processing.id}, json=change)
    try:
        first, second = scan(folder).table()
    finally:
        asyncio.run(deploy(Settings()))
    assert (first["recording"], first["outcome"]) == ("a.nd2", "skipped")
    assert first["why"].startswith("Prefect refuses to start it: 409 ")
    assert "'keep' is a required property" in first["why"]
    assert (second["recording"], second["outcome"]) == ("film.nd2", "started")


def test_a_broken_recording_does_not_stop_the_rest(folder: Path, client: SyncPrefectClient) -> None:
    (folder / "a_broken.nd2").write_bytes((DATA / "nd2_variants" / "truncated.nd2").read_bytes())
    write_recording(folder / "b_wrong.nd2", random_images())
    (folder / "b_wrong.pyama.yaml").write_text("parameters: {min_frame: 3}")
    ended = scan(folder)
    assert ended.state.is_completed()
    assert ended.message == "3 recordings found: 1 started, 1 skipped, 1 broken (a_broken.nd2)"
    rows = ended.table()
    assert [(row["recording"], row["outcome"]) for row in rows] == [
        ("a_broken.nd2", "broken"),
        ("b_wrong.nd2", "skipped"),
        ("film.nd2", "started"),
    ]
    assert "b_wrong.pyama.yaml: parameters.min_frame: unknown field" in rows[1]["why"]
    assert ended.logged("a_broken.nd2: broken; ")


def test_a_recording_may_have_any_name(folder: Path, client: SyncPrefectClient) -> None:
    name = "50 % <µ & \"1/2\">\n'a'.nd2".replace("/", "\N{FRACTION SLASH}")
    (folder / "film.nd2").rename(folder / name)
    (row,) = scan(folder).table()
    assert (row["recording"], row["outcome"]) == (name, "started")
    (found,) = started_runs(client, folder.parent / "results" / name.removesuffix(".nd2"))
    assert found.parameters["microscopy_path"] == str(folder / name)


def test_a_scan_can_wait_for_the_end_of_what_it_has_started(folder: Path, client: SyncPrefectClient) -> None:
    output_dir = folder.parent / "results" / "film"
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(copy_context().run, scan, folder, wait=True)
        wait_until(lambda: started_runs(client, output_dir), "a run is started")
        (found,) = started_runs(client, output_dir)
        assert not waiting.done()
        client.set_flow_run_state(found.id, Failed(message="disk full"), force=True)
        ended = waiting.result(timeout=60)
    assert ended.state.is_completed()
    assert ended.message.endswith("1 started, 0 skipped, 0 broken; of those started 1 failed")


def test_a_folder_that_is_none_fails_the_scan(folder: Path) -> None:
    ended = scan(folder / "nowhere")
    assert ended.state.is_failed()
    assert "is no folder" in ended.message


def nightly(client: SyncPrefectClient) -> DeploymentResponse:
    return client.read_deployment_by_name(NIGHTLY.full_name)


def test_the_schedule_is_there_once_where_a_folder_is_set(client: SyncPrefectClient, tmp_path: Path) -> None:
    assert nightly(client).schedules == []
    assert nightly(client).work_pool_name == CONTROL_POOL
    settings = Settings(nightly_folder=tmp_path, nightly_output=tmp_path / "results", nightly_timezone="Europe/Berlin")
    parameters = {"folder": str(tmp_path), "output_root": str(tmp_path / "results"), "wait": False}
    for _ in range(2):
        asyncio.run(deploy(settings))
        (found,) = nightly(client).schedules
        assert isinstance(found.schedule, CronSchedule)
        assert (found.active, found.schedule.cron, found.schedule.timezone) == (True, "0 2 * * *", "Europe/Berlin")
        assert nightly(client).parameters == parameters
    asyncio.run(deploy(settings.model_copy(update={"nightly_cron": "30 1 * * *"})))
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60)
    (found,) = nightly(client).schedules
    assert isinstance(found.schedule, CronSchedule)
    assert (found.schedule.cron, found.parameters) == ("30 1 * * *", parameters)
    asyncio.run(deploy(Settings()))
    assert nightly(client).schedules == []
    assert nightly(client).parameters == {}
