"""A processing job from start to results, through the API of the real stack."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.flow_runs import film
from tests.recordings import write_recording
from tests.stack import RunningStack, asked, has_ended

pytestmark = pytest.mark.stack

N_FOVS, N_FRAMES = 3, 40


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recording(tmp_path_factory.mktemp("recording") / "film.nd2", film(N_FOVS, N_FRAMES))


@pytest.fixture(scope="module")
def broken_recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("broken")
    return write_recording(folder / "broken.nd2", film(2, 3), missing={(1, 2)})


@pytest.fixture(scope="module")
def jobs(stack: RunningStack, recording: Path, broken_recording: Path) -> dict[str, str]:
    """Ids of a job that will be completed and of one that will fail, both started at once."""
    return {
        "good": stack.client.start(asked(recording, recording.parent / "out", n_workers=1)),
        "bad": stack.client.start(asked(broken_recording, broken_recording.parent / "out")),
    }


@pytest.fixture(scope="module")
def told(stack: RunningStack, jobs: dict[str, str]) -> list[dict[str, Any]]:
    """All that was told of the good job until it ended."""
    return stack.client.finish(jobs["good"])


@pytest.fixture(scope="module")
def failed(stack: RunningStack, jobs: dict[str, str]) -> dict[str, Any]:
    """Last status of the bad job."""
    return stack.client.finish(jobs["bad"])[-1]


def test_job_goes_from_pending_by_running_to_completed(told: list[dict[str, Any]]) -> None:
    assert [status for status in ("pending", "running", "completed") if status in {one["status"] for one in told}] == [
        "pending",
        "running",
        "completed",
    ]
    assert told[-1]["status"] == "completed"


def test_progress_knows_the_number_of_fovs_from_the_start(told: list[dict[str, Any]]) -> None:
    assert told[0]["progress"] == {"current_fov": 0, "total_fovs": N_FOVS, "percentage": 0.0}


def test_percentage_is_100_only_at_the_end(told: list[dict[str, Any]]) -> None:
    assert all(one["progress"]["percentage"] < 100 for one in told if one["status"] != "completed")
    assert told[-1]["progress"] == {"current_fov": N_FOVS, "total_fovs": N_FOVS, "percentage": 100.0}


def test_status_tells_times_and_the_page_in_the_prefect_ui(
    stack: RunningStack, told: list[dict[str, Any]], jobs: dict[str, str]
) -> None:
    last = told[-1]
    assert last["created_at"] <= last["started_at"] <= last["ended_at"]
    assert last["error"] is None
    assert last["message"] == f"{N_FOVS} FOVs finished, {N_FOVS} cells"
    assert last["prefect_url"] == f"{stack.prefect_url}/runs/flow-run/{jobs['good']}"


def test_results_of_a_completed_job(stack: RunningStack, told: list[dict[str, Any]], recording: Path) -> None:
    results = stack.client.results(told[-1]["job_id"])
    output_dir = recording.parent / "out"
    assert results["output_dir"] == str(output_dir)
    assert results["results_file"] == str(output_dir / "processing_results.yaml")
    assert results["traces"] == [
        str(output_dir / f"fov_{fov:03d}/film_fov_{fov:03d}_traces.csv") for fov in range(N_FOVS)
    ]
    assert [(fov["fov"], fov["status"], fov["n_cells"]) for fov in results["fovs"]] == [
        (fov, "completed", 1) for fov in range(N_FOVS)
    ]
    assert results["failed_fovs"] == []
    assert results["error"] is None


def test_failed_job_tells_why(failed: dict[str, Any]) -> None:
    assert failed["status"] == "failed"
    assert failed["error"].startswith("1 of 2 FOVs failed (1); FOV 1: ")
    assert failed["progress"]["percentage"] < 100


def test_results_of_a_failed_job_tell_what_there_is(stack: RunningStack, failed: dict[str, Any]) -> None:
    results = stack.client.results(failed["job_id"])
    assert [fov["status"] for fov in results["fovs"]] == ["completed", "failed"]
    assert len(results["traces"]) == 1
    (missing,) = results["failed_fovs"]
    assert missing["fov"] == 1
    assert "frame 2" in missing["reason"]


def test_a_job_that_has_ended_cannot_be_cancelled(stack: RunningStack, told: list[dict[str, Any]]) -> None:
    answer = stack.client.http.post(f"/processing/workflow/cancel/{told[-1]['job_id']}")
    assert answer.status_code == 409
    assert answer.json()["error_code"] == "JOB_ALREADY_COMPLETED"


def test_same_request_again_is_done_at_once_and_other_parameters_are_refused(
    stack: RunningStack, told: list[dict[str, Any]], recording: Path
) -> None:
    answer = stack.client.http.post(
        "/processing/workflow/start", json=asked(recording, recording.parent / "out", min_iou=0.3)
    )
    assert answer.status_code == 409
    assert answer.json()["error_code"] == "OUTPUT_DIR_CONFLICT"
    assert "min_iou is 0.1 there, 0.3 was asked for" in answer.json()["error"]


@pytest.mark.parametrize(
    "address", ["/processing/workflow/status/{}", "/processing/workflow/results/{}", "/jobs/{}"], ids=str
)
@pytest.mark.parametrize("job_id", ["job_123456", "00000000-0000-0000-0000-000000000000", "%00"])
def test_a_job_that_is_not_there(stack: RunningStack, address: str, job_id: str) -> None:
    answer = stack.client.http.get(address.format(job_id))
    assert answer.status_code == 404
    assert answer.json()["error_code"] == "JOB_NOT_FOUND"


def test_cancelling_a_job_that_is_not_there(stack: RunningStack) -> None:
    answer = stack.client.http.post("/processing/workflow/cancel/job_123456")
    assert answer.json()["error_code"] == "JOB_NOT_FOUND"


def test_a_flow_run_of_somebody_else_is_no_job(stack: RunningStack) -> None:
    flow = httpx.post(f"{stack.prefect_url}/api/flows/", json={"name": "foreign"}).json()
    state = {"type": "COMPLETED", "name": "Completed"}
    run = httpx.post(f"{stack.prefect_url}/api/flow_runs/", json={"flow_id": flow["id"], "state": state}).json()
    assert stack.client.http.get(f"/jobs/{run['id']}").status_code == 404
    assert stack.client.http.delete(f"/jobs/{run['id']}").status_code == 404
    assert httpx.get(f"{stack.prefect_url}/api/flow_runs/{run['id']}").status_code == 200


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"channels": {"phase": {"channel": 7}}}, "INVALID_PARAMETERS", "channels.phase.channel: the recording has no"),
        ({"parameters": {"fov_end": 99}}, "INVALID_PARAMETERS", "parameters.fov_end: 99 is outside the file"),
        ({"parameters": {"colour": 1}}, "INVALID_PARAMETERS", "parameters.colour: unknown field"),
        ({"microscopy_path": "/nowhere/film.nd2"}, "FILE_NOT_FOUND", "/nowhere/film.nd2"),
        ({"output_dir": "relative"}, "INVALID_PARAMETERS", "output_dir: must be an absolute path"),
    ],
)
def test_a_wrong_request_creates_no_job(
    stack: RunningStack, recording: Path, tmp_path: Path, changes: dict[str, Any], code: str, words: str
) -> None:
    before = stack.client.http.get("/jobs").json()["total"]
    answer = stack.client.http.post(
        "/processing/workflow/start", json={**asked(recording, tmp_path / "out"), **changes}
    )
    assert answer.json()["error_code"] == code
    assert words in answer.json()["error"]
    assert stack.client.http.get("/jobs").json()["total"] == before
    assert not (tmp_path / "out").exists()


def test_repeated_request_with_an_idempotency_key(stack: RunningStack, recording: Path, tmp_path: Path) -> None:
    key = {"Idempotency-Key": "once, please"}
    job_id = stack.client.start(asked(recording, tmp_path / "out"), **key)
    assert stack.client.start(asked(recording, tmp_path / "out"), **key) == job_id
    other = stack.client.http.post("/processing/workflow/start", json=asked(recording, tmp_path / "other"), headers=key)
    assert other.status_code == 409
    assert other.json()["error_code"] == "IDEMPOTENCY_KEY_REUSED"
    stack.client.cancel(job_id)
    assert stack.client.finish(job_id)[-1]["status"] == "cancelled"
    assert stack.client.start(asked(recording, tmp_path / "out"), **key) == job_id


def test_of_many_starts_into_one_folder_at_once_one_is_accepted(
    stack: RunningStack, recording: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "out")

    def start(name: str) -> httpx.Response:
        return stack.client.http.post("/processing/workflow/start", json=asked(recording, tmp_path / name))

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(start, ["out", "link"] * 4))
    accepted = [answer.json()["job_id"] for answer in answers if answer.status_code == 200]
    refused = [answer.json() for answer in answers if answer.status_code != 200]
    assert len(accepted) == 1
    assert {body["error_code"] for body in refused} == {"OUTPUT_DIR_BUSY"}
    assert {body["details"]["job_id"] for body in refused} == set(accepted)
    stack.client.cancel(accepted[0])
    assert stack.client.finish(accepted[0])[-1]["status"] == "cancelled"


def test_list_of_jobs(stack: RunningStack, told: list[dict[str, Any]], failed: dict[str, Any]) -> None:
    everything = stack.client.http.get("/jobs", params={"limit": 200}).json()
    ids = [job["job_id"] for job in everything["jobs"]]
    assert everything["total"] == len(ids) == len(set(ids))
    times = [job["created_at"] for job in everything["jobs"]]
    assert times == sorted(times, reverse=True)
    only = stack.client.http.get("/jobs", params={"status": "failed", "kind": "processing"}).json()
    assert failed["job_id"] in [job["job_id"] for job in only["jobs"]]
    assert {job["status"] for job in only["jobs"]} == {"failed"}
    page = stack.client.http.get("/jobs", params={"limit": 1, "offset": 1}).json()
    assert [job["job_id"] for job in page["jobs"]] == ids[1:2]
    assert httpx.get(f"{stack.api_url}/jobs").json()["total"] == everything["total"]


def test_deleted_job_is_forgotten_and_its_files_stay(stack: RunningStack, recording: Path, tmp_path: Path) -> None:
    job_id = stack.client.start(asked(recording, tmp_path / "out", fovs=[0], keep="none"))
    busy = stack.client.http.delete(f"/jobs/{job_id}")
    assert busy.json()["error_code"] == "JOB_NOT_FINISHED"
    early = stack.client.http.get(f"/processing/workflow/results/{job_id}")
    assert early.json()["error_code"] == "JOB_NOT_FINISHED"
    stack.client.watch(job_id, has_ended)
    assert stack.client.http.delete(f"/jobs/{job_id}").status_code == 200
    assert stack.client.http.get(f"/jobs/{job_id}").status_code == 404
    assert stack.client.http.get(f"/processing/workflow/status/{job_id}").status_code == 404
    assert (tmp_path / "out/fov_000/manifest.json").exists()
