"""The events of a job, and taking it up again, on the real stack."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.security import new_api_key
from tests.api_server import error_of
from tests.engines import wait_until
from tests.flow_runs import film
from tests.recordings import write_recording
from tests.stack import Client, RunningStack, asked, has_ended, is_computing

pytestmark = pytest.mark.stack

N_FOVS, N_FRAMES = 10, 600


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recording(tmp_path_factory.mktemp("recording") / "film.nd2", film(N_FOVS, N_FRAMES))


def events(client: Client, job_id: str, **headers: str) -> Iterator[dict[str, Any]]:
    """All that the stream of a job tells, until it ends."""
    with client.http.stream("GET", f"/jobs/{job_id}/events", headers=headers, timeout=60) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        kind = ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: "):
                assert kind == "status"
                yield json.loads(line.removeprefix("data: "))
            else:
                assert not line or line.startswith(":")


def test_every_change_is_an_event_until_the_job_ends(stack: RunningStack, recording: Path, tmp_path: Path) -> None:
    job_id = stack.client.start(asked(recording, tmp_path / "out"))
    told = list(events(stack.client, job_id))
    assert all(one != other for one, other in pairwise(told))
    statuses = list(dict.fromkeys(one["status"] for one in told))
    assert statuses in (["pending", "running", "completed"], ["running", "completed"])
    percentages = [one["progress"]["percentage"] for one in told]
    assert percentages == sorted(percentages)
    assert any(0 < percentage < 100 for percentage in percentages)
    assert told[-1] == stack.client.http.get(f"/jobs/{job_id}").json()
    assert (told[-1]["input_path"], told[-1]["output_dir"]) == (str(recording), str(tmp_path / "out"))
    assert list(events(stack.client, job_id)) == told[-1:]


def test_streams_of_several_api_processes_tell_the_same_end(
    stack: RunningStack, recording: Path, tmp_path: Path
) -> None:
    with stack.another_api(n_processes=2) as client, ThreadPoolExecutor(6) as pool:
        job_id = client.start(asked(recording, tmp_path / "out"))
        told = list(pool.map(lambda _: list(events(client, job_id)), range(6)))
    assert {one[-1]["status"] for one in told} == {"completed"}
    assert all(one[-1] == told[0][-1] for one in told)


def test_a_client_that_leaves_is_let_go(stack: RunningStack, recording: Path, tmp_path: Path) -> None:
    job_id = stack.client.start(asked(recording, tmp_path / "out", n_workers=1))
    next(events(stack.client, job_id))  # the stream is closed with the generator
    answered = f"GET '/api/v1/jobs/{job_id}/events' 200"
    wait_until(lambda: answered in stack.log.read_text(), "the request is over")
    assert not has_ended(stack.client.status(job_id))
    stack.client.http.post(f"/jobs/{job_id}/cancel")


def test_open_streams_do_not_keep_a_server_from_stopping(stack: RunningStack, recording: Path, tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    with stack.another_api() as client:
        job_id = client.start(asked(recording, tmp_path / "out", n_workers=1))
        reading = threading.Thread(target=lambda: told.extend(events(client, job_id)))
        reading.start()
        wait_until(lambda: stack.flow_process(job_id) is not None, "the job is under way")
    # Leaving the block has told the server to stop, and has waited for that.
    reading.join(10)
    assert not reading.is_alive()
    stack.client.http.post(f"/jobs/{job_id}/cancel")


def test_events_ask_for_a_key_where_all_does(stack: RunningStack, recording: Path, tmp_path: Path) -> None:
    key, entry = new_api_key("page", "read-only")
    job_id = stack.client.start(asked(recording, tmp_path / "out"))
    with stack.another_api(PYAMA_API_KEYS=entry) as client:
        error_of(client.http.get(f"/jobs/{job_id}/events"), 401, "UNAUTHORIZED")
        assert list(events(client, job_id, **{"X-API-Key": key}))[-1]["status"] == "completed"
        refused = client.http.post(f"/jobs/{job_id}/retry", headers={"X-API-Key": key})
        error_of(refused, 403, "FORBIDDEN")


def test_no_events_of_no_job(stack: RunningStack) -> None:
    for job_id in ("nothing", "5f0c2b1e-0000-4000-8000-000000000000"):
        error_of(stack.client.http.get(f"/jobs/{job_id}/events"), 404, "JOB_NOT_FOUND")
        error_of(retry(stack, job_id), 404, "JOB_NOT_FOUND")


def retry(stack: RunningStack, job_id: str) -> httpx.Response:
    return stack.client.http.post(f"/jobs/{job_id}/retry")


def test_a_cancelled_job_is_taken_up_where_it_was(stack: RunningStack, recording: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    job_id = stack.client.start(asked(recording, out, n_workers=1))
    stack.client.watch(job_id, lambda status: status["progress"]["current_fov"] > 0 and is_computing(status))
    error_of(retry(stack, job_id), 409, "JOB_NOT_FINISHED")
    stack.client.http.post(f"/jobs/{job_id}/cancel").raise_for_status()
    assert stack.client.finish(job_id)[-1]["status"] == "cancelled"
    finished = {path: path.stat().st_mtime_ns for path in out.glob("fov_*/manifest.json")}
    assert 0 < len(finished) < N_FOVS
    answer = retry(stack, job_id)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["job_id"], answer.json()["status"]) == (job_id, "running")
    told = stack.client.finish(job_id)
    assert told[-1]["status"] == "completed"
    assert len(list(out.glob("fov_*/manifest.json"))) == N_FOVS
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    error_of(retry(stack, job_id), 409, "JOB_ALREADY_COMPLETED")


def test_a_job_that_never_began_is_taken_up(stack: RunningStack, recording: Path, tmp_path: Path) -> None:
    job_id = stack.client.start(asked(recording, tmp_path / "out", fovs="0"))
    stack.client.cancel(job_id)
    assert stack.client.finish(job_id)[-1]["status"] == "cancelled"
    assert retry(stack, job_id).status_code == 200
    assert stack.client.finish(job_id)[-1]["status"] == "completed"


def test_a_failed_job_is_taken_up(stack: RunningStack, tmp_path: Path) -> None:
    broken = write_recording(tmp_path / "film.nd2", film(2, 3), missing={(1, 2)})
    job_id = stack.client.start(asked(broken, tmp_path / "out"))
    assert stack.client.finish(job_id)[-1]["status"] == "failed"
    finished = (tmp_path / "out/fov_000/manifest.json").stat().st_mtime_ns
    assert retry(stack, job_id).status_code == 200
    assert "1 of 2 FOVs failed (1)" in stack.client.finish(job_id)[-1]["error"]
    assert (tmp_path / "out/fov_000/manifest.json").stat().st_mtime_ns == finished


@pytest.mark.parametrize("victim", ["engine", "flow process"])
def test_a_job_whose_process_was_killed_is_taken_up_at_once(
    stack: RunningStack, recording: Path, tmp_path: Path, victim: str
) -> None:
    job_id = stack.client.start(asked(recording, tmp_path / "out", n_workers=1))
    stack.client.watch(job_id, is_computing)
    pid = stack.engine(job_id) if victim == "engine" else stack.flow_process(job_id)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert stack.client.finish(job_id)[-1]["status"] == "failed"
    assert retry(stack, job_id).status_code == 200
    told = stack.client.finish(job_id)  # it holds that nothing goes back
    assert told[-1]["status"] == "completed"


def test_a_job_whose_folder_another_one_uses_is_not_taken_up(
    stack: RunningStack, recording: Path, tmp_path: Path
) -> None:
    first = stack.client.start(asked(recording, tmp_path / "out"))
    stack.client.cancel(first)
    assert stack.client.finish(first)[-1]["status"] == "cancelled"
    second = stack.client.start(asked(recording, tmp_path / "out", n_workers=1))
    refused = retry(stack, first)
    assert f"in use by job {second}" in error_of(refused, 409, "OUTPUT_DIR_BUSY")
    stack.client.cancel(second)
