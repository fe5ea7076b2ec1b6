"""Merging through the API of the real stack: processed, merged, and looked into."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prefect.settings import PREFECT_API_URL, temporary_settings

from api.main import create_app
from api.settings import Settings
from tasks.output import INDEX_FILE, LOCK_FILE, OutputLock
from tests.api_server import BASE, error_of
from tests.engines import wait_until
from tests.flow_runs import film
from tests.oracles import merge as oracle
from tests.recordings import write_recording
from tests.stack import RunningStack, asked, has_ended
from tests.tables import merge_request, table_text, write_folder, write_table

pytestmark = pytest.mark.stack

N_FOVS, N_FRAMES = 3, 4


@pytest.fixture(scope="module")
def folder(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the results of a processing job."""
    folder = tmp_path_factory.mktemp("merging")
    recording = write_recording(folder / "film.nd2", film(N_FOVS, N_FRAMES))
    job_id = stack.client.start(asked(recording, folder / "results"))
    assert stack.client.finish(job_id)[-1]["status"] == "completed"
    return folder


@pytest.fixture(scope="module")
def merged(stack: RunningStack, folder: Path) -> dict[str, Any]:
    """Answer to the documented request."""
    request = merge_request(folder, {"control": "0, 2", "drug": [1]}).model_dump(exclude={"parquet"})
    answer = merge(stack, request)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def merge(stack: RunningStack, request: dict[str, Any]) -> httpx.Response:
    """Ask for a merge; again, where the machine was too busy to end it while the request waited."""
    while True:
        answer = stack.client.http.post("/processing/merge", json=request, timeout=90)
        if answer.status_code != 202:
            return answer
        wait_for_end(stack, answer.json()["job_id"])


def wait_for_end(stack: RunningStack, job_id: str) -> None:
    wait_until(lambda: has_ended(stack.client.http.get(f"/jobs/{job_id}").json()), "the merge has ended", 120)


def test_the_documented_request_gives_the_documented_answer(merged: dict[str, Any], folder: Path) -> None:
    assert merged["success"] is True
    assert merged["error"] is None
    assert merged["message"] == "2 samples merged, 3 cells"
    assert merged["output_dir"] == str(folder / "merged")
    names = [
        f"{sample}_{what}.csv"
        for sample in ("control", "drug")
        for what in ("merged", "area_ch_0", "intensity_total_ch_1")
    ]
    assert merged["merged_files"] == [str(folder / "merged" / name) for name in names]


def test_the_files_are_those_of_the_oracle(merged: dict[str, Any], folder: Path) -> None:
    tables = [folder / "results" / f"fov_00{fov}" / f"film_fov_00{fov}_traces.csv" for fov in (0, 2)]
    for name, text in oracle.merge("control", tables).items():
        assert (folder / "merged" / name).read_text() == text
        assert len(text.splitlines()) >= 2 * N_FRAMES


def test_merged_files_can_be_loaded(stack: RunningStack, merged: dict[str, Any]) -> None:
    for path in merged["merged_files"][:3]:
        answer = stack.client.http.post("/analysis/load-traces", json={"csv_path": path}).json()
        assert answer["success"] is True
        assert answer["data"]["n_cells"] == 2
        assert answer["data"]["n_timepoints"] == N_FRAMES
        assert answer["data"]["time_units"] == "min"


def test_the_job_is_told_like_any_other(stack: RunningStack, merged: dict[str, Any]) -> None:
    job = stack.client.http.get(f"/jobs/{merged['job_id']}").json()
    assert (job["kind"], job["status"], job["name"]) == ("merge", "completed", "samples.yaml")
    assert job["progress"] == {"current_sample": 2, "total_samples": 2, "percentage": 100.0}
    assert job["message"] == "2 samples merged, 3 cells"
    listed = stack.client.http.get("/jobs", params={"kind": "merge"}).json()["jobs"]
    assert merged["job_id"] in [one["job_id"] for one in listed]
    wrong = stack.client.http.get(f"/processing/workflow/status/{merged['job_id']}")
    error_of(wrong, 404, "JOB_NOT_FOUND")


def test_older_clients_name_the_index(stack: RunningStack, merged: dict[str, Any], folder: Path) -> None:
    body = {
        "sample_yaml": str(folder / "samples.yaml"),
        "processing_results_yaml": str(folder / "results" / INDEX_FILE),
        "output_dir": str(folder / "again"),
    }
    answer = merge(stack, body).json()
    assert [Path(path).name for path in answer["merged_files"]] == [Path(path).name for path in merged["merged_files"]]
    for path in answer["merged_files"]:
        assert Path(path).read_bytes() == (folder / "merged" / Path(path).name).read_bytes()


def test_a_table_that_cannot_be_understood_fails_with_the_reason(stack: RunningStack, tmp_path: Path) -> None:
    write_table(tmp_path / "results", 0, table_text(0) + "0,x\n")
    request = merge_request(tmp_path, {"all": 0}).model_dump()
    answer = merge(stack, request)
    assert "film_fov_000_traces.csv, row 7: expected 13 fields" in error_of(answer, 500, "PROCESSING_ERROR")
    job = stack.client.http.get(f"/jobs/{answer.json()['details']['job_id']}").json()
    assert job["status"] == "failed"
    assert [path.name for path in (tmp_path / "merged").iterdir()] == [LOCK_FILE]


def test_of_two_merges_into_one_folder_the_second_is_refused(stack: RunningStack, tmp_path: Path) -> None:
    write_folder(tmp_path / "results", range(2))
    request = merge_request(tmp_path, {"all": "0-1"}).model_dump()
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: stack.client.http.post("/processing/merge", json=request, timeout=60), range(2)))
    first, second = sorted(both, key=lambda answer: answer.status_code)
    assert first.status_code == 200, first.text
    assert "in use by" in error_of(second, 409, "OUTPUT_DIR_BUSY")


def test_a_folder_that_another_program_works_in_is_busy(stack: RunningStack, tmp_path: Path) -> None:
    write_folder(tmp_path / "results", [0])
    request = merge_request(tmp_path, {"all": 0}, output_dir=str(tmp_path / "results")).model_dump()
    with OutputLock(tmp_path / "results", "run 7"):
        answer = merge(stack, request)
        error_of(answer, 409, "OUTPUT_DIR_BUSY")


def test_a_merge_that_takes_longer_is_told_as_a_job(
    stack: RunningStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.routes.merge._PATIENCE_S", 0.0)
    write_folder(tmp_path / "results", range(2))
    request = merge_request(tmp_path, {"all": "0-1"}).model_dump()
    with temporary_settings({PREFECT_API_URL: f"{stack.prefect_url}/api"}):
        answer = asyncio.run(_post(create_app(Settings(home=tmp_path / "home")), request))
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert (body["success"], body["error"], body["output_dir"]) == (True, None, str(tmp_path / "merged"))
    assert body["status"] in {"pending", "running"}
    wait_for_end(stack, body["job_id"])
    assert (tmp_path / "merged" / "all_merged.csv").exists()


async def _post(app: FastAPI, request: dict[str, Any]) -> httpx.Response:
    """Ask an application of this process, which has a client of Prefect only while it runs."""
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 50000))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
    ):
        return await client.post(f"{BASE}/processing/merge", json=request)
