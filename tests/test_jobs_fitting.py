"""A fitting job from start to results, through the API of the real stack."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.api_server import error_of
from tests.stack import FittingClient, RunningStack
from tests.test_api_fitting import body
from tests.trace_tables import MATURATION, write_maturation

pytestmark = pytest.mark.stack

N_CELLS = 60
MANY_CELLS = 30_000
"""Fitted robustly, they take some ten seconds."""


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def client(stack: RunningStack) -> FittingClient:
    return FittingClient(stack.client.url)


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_maturation(tmp_path_factory.mktemp("fitting") / "traces.csv", N_CELLS)


@pytest.fixture(scope="module")
def told(client: FittingClient, traces: Path) -> list[dict[str, Any]]:
    """All that was told of the documented job until it ended."""
    return client.finish(client.start(body(traces)))


def test_the_documented_job_is_completed(told: list[dict[str, Any]], client: FittingClient) -> None:
    last = told[-1]
    assert last["status"] == "completed"
    assert last["progress"] == {"current_cell": N_CELLS, "total_cells": N_CELLS, "percentage": 100.0}
    assert told[0]["progress"]["total_cells"] == N_CELLS
    assert last["message"].startswith(f"{N_CELLS} of {N_CELLS} cells fitted")
    job = client.http.get(f"/jobs/{last['job_id']}").json()
    assert (job["kind"], job["name"]) == ("fitting", "traces.csv")


def test_results_are_summed_up_and_paged(client: FittingClient, told: list[dict[str, Any]], traces: Path) -> None:
    job_id = told[-1]["job_id"]
    results = client.results(job_id)
    assert results["results_file"] == str(traces.with_name("traces_fitted_maturation.csv"))
    summary = results["summary"]
    assert (summary["total_cells"], summary["successful_fits"], summary["failed_fits"]) == (N_CELLS, N_CELLS, 0)
    assert summary["mean_r_squared"] > 0.9
    assert (results["total"], len(results["results"])) == (N_CELLS, N_CELLS)
    for name, true in MATURATION.items():
        assert summary["parameters"][name]["median"] == pytest.approx(true, rel=0.1)
    page = client.http.get(f"/analysis/fitting/results/{job_id}", params={"limit": 7, "offset": 56}).json()
    assert page["results"] == results["results"][56:]
    cell = page["results"][0]
    assert (cell["fov"], cell["cell"], cell["success"], cell["at_bound"]) == (0, 57, True, [])
    assert set(cell["fitted_params"]) == set(cell["std_errors"]) == set(MATURATION)


def test_results_that_a_later_fit_has_replaced_are_told(client: FittingClient, traces: Path, tmp_path: Path) -> None:
    first = client.start(body(traces, output_dir=str(tmp_path)))
    client.finish(first)
    second = client.start(body(traces, output_dir=str(tmp_path), model_bounds={"amplitude": [0.0, 2.0]}))
    client.finish(second)
    assert client.results(second)["summary"]["parameters"]["amplitude"]["max"] <= 2.0
    replaced = client.http.get(f"/analysis/fitting/results/{first}")
    assert "replaced by those of a later fit" in error_of(replaced, 404, "FILE_NOT_FOUND")


def test_results_of_another_file_of_the_same_name_are_not_taken_for_those_of_a_job(
    client: FittingClient, tmp_path: Path
) -> None:
    files = [write_maturation(tmp_path / name / "control.csv", n) for name, n in (("exp1", 3), ("exp2", 4))]
    first = client.start(body(files[0], output_dir=str(tmp_path / "out")))
    client.finish(first)
    second = client.start(body(files[1], output_dir=str(tmp_path / "out")))
    client.finish(second)
    assert client.results(second)["total"] == 4
    replaced = client.http.get(f"/analysis/fitting/results/{first}")
    assert "replaced by those of a later fit" in error_of(replaced, 404, "FILE_NOT_FOUND")


def test_results_that_are_gone_are_told(client: FittingClient, traces: Path, tmp_path: Path) -> None:
    job_id = client.start(body(traces, output_dir=str(tmp_path / "out")))
    early = client.http.get(f"/analysis/fitting/results/{job_id}")
    error_of(early, 409, "JOB_NOT_FINISHED")
    assert client.finish(job_id)[-1]["status"] == "completed"
    (tmp_path / "out" / "traces_fitted_maturation.csv").unlink()
    gone = client.http.get(f"/analysis/fitting/results/{job_id}")
    assert "no longer in" in error_of(gone, 404, "FILE_NOT_FOUND")


def test_repeated_request_with_an_idempotency_key(client: FittingClient, traces: Path, tmp_path: Path) -> None:
    key = {"Idempotency-Key": "one fit, please"}
    asked = body(traces, output_dir=str(tmp_path / "out"))
    job_id = client.start(asked, **key)
    assert client.start(asked, **key) == job_id
    other = client.http.post("/analysis/fitting/start", json=body(traces), headers=key)
    error_of(other, 409, "IDEMPOTENCY_KEY_REUSED")
    client.finish(job_id)


def test_of_many_starts_of_one_result_one_is_accepted(client: FittingClient, traces: Path, tmp_path: Path) -> None:
    asked = body(traces, output_dir=str(tmp_path / "out"))
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: client.http.post("/analysis/fitting/start", json=asked), range(4)))
    accepted = [answer.json()["job_id"] for answer in answers if answer.status_code == 200]
    assert len(accepted) == 1
    for answer in answers:
        if answer.status_code != 200:
            error_of(answer, 409, "OUTPUT_DIR_BUSY")
    client.finish(accepted[0])


def test_a_cancelled_job_stops_and_the_next_goes_on(client: FittingClient, tmp_path: Path) -> None:
    traces = write_maturation(tmp_path / "many.csv", MANY_CELLS, n_points=50)
    asked = body(traces, loss="cauchy")
    job_id = client.start(asked)
    client.watch(job_id, lambda one: one["status"] == "running" and 0 < one["progress"]["percentage"] < 80)
    client.cancel(job_id)
    assert client.finish(job_id)[-1]["status"] == "cancelled"
    results = client.results(job_id)
    assert (results["results_file"], results["summary"], results["results"]) == (None, None, [])
    assert results["message"].startswith("Cancelled")
    assert names_in(tmp_path) == [".many_fitted_maturation.parts", "many.csv"]
    again = client.finish(client.start(asked))
    assert again[-1]["status"] == "completed"
    assert again[-1]["progress"]["current_cell"] == MANY_CELLS
    assert names_in(tmp_path) == [
        "many.csv", "many_fitted_maturation.csv", "many_fitted_maturation_summary.json",
    ]  # fmt: skip


def test_a_job_of_another_kind_is_not_found(stack: RunningStack, told: list[dict[str, Any]]) -> None:
    answer = stack.client.http.get(f"/processing/workflow/status/{told[-1]['job_id']}")
    error_of(answer, 404, "JOB_NOT_FOUND")
