"""The API while its orchestrator is away: it lives, says what is missing, and does all that needs no orchestrator."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api_server import BASE, api, error_of
from tests.flow_runs import film
from tests.recordings import write_recording
from tests.stack import asked

JOB_ID = "5f0c2b1e-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with api(tmp_path_factory.mktemp("home")) as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"/processing/workflow/status/{JOB_ID}"),
        ("GET", f"/processing/workflow/results/{JOB_ID}"),
        ("POST", f"/processing/workflow/cancel/{JOB_ID}"),
        ("GET", "/jobs"),
        ("GET", f"/jobs/{JOB_ID}"),
        ("GET", f"/jobs/{JOB_ID}/events"),
        ("POST", f"/jobs/{JOB_ID}/cancel"),
        ("POST", f"/jobs/{JOB_ID}/retry"),
        ("DELETE", f"/jobs/{JOB_ID}"),
    ],
)
def test_jobs_cannot_be_told_of(client: httpx.Client, method: str, path: str) -> None:
    text = error_of(client.request(method, f"{BASE}{path}"), 503, "SERVICE_UNAVAILABLE")
    assert "the orchestrator does not answer" in text


def test_no_job_is_started_and_nothing_is_written(client: httpx.Client, tmp_path: Path) -> None:
    recording = write_recording(tmp_path / "film.nd2", film(1, 2))
    response = client.post(f"{BASE}/processing/workflow/start", json=asked(recording, tmp_path / "out"))
    error_of(response, 503, "SERVICE_UNAVAILABLE")
    assert not (tmp_path / "out").exists()


def test_a_wrong_request_is_told_as_such_all_the_same(client: httpx.Client, tmp_path: Path) -> None:
    response = client.post(f"{BASE}/processing/workflow/start", json=asked(tmp_path / "none.nd2", tmp_path / "out"))
    error_of(response, 404, "FILE_NOT_FOUND")


def test_a_number_that_the_orchestrator_could_not_keep_does_not_reach_it(client: httpx.Client, tmp_path: Path) -> None:
    recording = write_recording(tmp_path / "film.nd2", film(1, 2))
    body = asked(recording, tmp_path / "out", border_margin=10**20)
    text = error_of(client.post(f"{BASE}/processing/workflow/start", json=body), 400, "INVALID_PARAMETERS")
    assert text == "parameters.border_margin: allowed are at most 2147483647 (got 100000000000000000000)"


def test_a_name_that_leaves_no_room_for_those_of_the_results_is_refused(client: httpx.Client, tmp_path: Path) -> None:
    longest = "a" * (255 - 18 - len("_fov_000_traces_inspected.json"))
    answers = [
        client.post(f"{BASE}/processing/workflow/start", json=asked(recording, tmp_path / "out"))
        for name in (longest, f"{longest}a")
        for recording in [write_recording(tmp_path / f"{name}.nd2", film(1, 2))]
    ]
    error_of(answers[0], 503, "SERVICE_UNAVAILABLE")
    assert "microscopy_path: the name of" in error_of(answers[1], 400, "INVALID_PARAMETERS")


@pytest.mark.parametrize("base", ["", BASE])
def test_the_api_lives_but_is_not_ready_and_says_why(client: httpx.Client, base: str) -> None:
    assert client.get(f"{base}/health").json()["status"] == "healthy"
    response = client.get(f"{base}/health/ready")
    error_of(response, 503, "SERVICE_UNAVAILABLE")
    (reason,) = response.json()["details"]["reasons"]
    assert "the orchestrator does not answer" in reason


def test_numbers_of_the_api_are_still_told(client: httpx.Client) -> None:
    text = client.get("/metrics").text
    assert "pyama_orchestrator_up 0" in text.splitlines()
    assert "pyama_http_requests_total" in text
    numbers: dict[str, Any] = client.get("/metrics", headers={"Accept": "application/json"}).json()
    assert numbers["orchestrator_up"] is False
    assert numbers["requests"]


def test_the_space_of_allowed_folders_is_told(tmp_path: Path) -> None:
    there, gone = tmp_path / "data", tmp_path / "gone"
    there.mkdir()
    with api(tmp_path, allowed_paths=(there, gone)) as client:
        text = client.get("/metrics").text
        numbers = client.get("/metrics", headers={"Accept": "application/json"}).json()["storage"]
    total, _, free = shutil.disk_usage(there)
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("pyama_storage"))
    names = [f'pyama_storage_{what}_bytes{{folder="{there}"}}' for what in ("free", "size")]
    assert list(samples) == names
    assert int(samples[names[1]]) == numbers[str(there)]["size_bytes"] == total
    assert int(samples[names[0]]) == pytest.approx(free, rel=0.2)
    assert numbers.keys() == {str(there)}


def test_what_needs_no_orchestrator_answers(client: httpx.Client, tmp_path: Path) -> None:
    recording = write_recording(tmp_path / "film.nd2", film(1, 2))
    for path, body in {"load-metadata": recording, "file-info": recording}.items():
        assert client.post(f"{BASE}/processing/{path}", json={"file_path": str(body)}).status_code == 200
    assert client.get(f"{BASE}/processing/features").status_code == 200
