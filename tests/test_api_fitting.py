"""Requests to fit, as far as they come without an orchestrator: everything is checked before a job is created."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api_server import BASE, api, error_of
from tests.trace_tables import write_maturation


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with api(tmp_path_factory.mktemp("home")) as client:
        yield client


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    return write_maturation(tmp_path / "traces.csv", 2)


def body(traces: Path, **changes: Any) -> dict[str, Any]:
    """The documented body."""
    return {
        "csv_path": str(traces),
        "model_type": "maturation",
        "model_params": {"amplitude": 1.0, "rate": 0.1, "offset": 0.0},
        "model_bounds": {"amplitude": [0.0, 10.0], "rate": [0.01, 1.0], "offset": [-1.0, 5.0]},
    } | changes


def start(client: httpx.Client, asked: dict[str, Any]) -> httpx.Response:
    return client.post(f"{BASE}/analysis/fitting/start", json=asked)


def test_the_documented_request_goes_to_the_orchestrator(client: httpx.Client, traces: Path) -> None:
    assert "orchestrator" in error_of(start(client, body(traces)), 503, "SERVICE_UNAVAILABLE")
    minimal = {"csv_path": str(traces), "model_type": "translation_maturation"}
    assert "orchestrator" in error_of(start(client, minimal), 503, "SERVICE_UNAVAILABLE")
    assert [one.name for one in traces.parent.iterdir()] == ["traces.csv"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "x"}, "model_type: there is no such model; available: trivial"),
        ({"model_params": {"speed": 1}}, "model_params: maturation has no parameter 'speed'"),
        ({"model_bounds": {"rate": [1, 0.5]}}, "model_bounds.rate: the lower bound must be below the upper one"),
        ({"model_params": {"rate": 3}}, "model_params.rate: the start value 3 is outside the bounds"),
        ({"model_params": {"rate": None}}, "model_params.rate"),
        ({"column": "area_ch_0"}, "area_ch_0"),
        ({"output_dir": "relative"}, "output_dir: must be an absolute path"),
        ({"extra": 1}, "extra: unknown field"),
    ],
)
def test_a_wrong_request_is_refused(client: httpx.Client, traces: Path, changes: dict[str, Any], words: str) -> None:
    assert words in error_of(start(client, body(traces, **changes)), 400, "INVALID_PARAMETERS")


@pytest.mark.parametrize(("field", "value"), [("model_params", 1), ("model_bounds", [0, 1])])
def test_a_name_that_is_no_text_is_refused(client: httpx.Client, traces: Path, field: str, value: object) -> None:
    content = json.dumps({"csv_path": str(traces), "model_type": "maturation", field: {"\ud800": value}})
    answer = client.post(
        f"{BASE}/analysis/fitting/start", content=content, headers={"Content-Type": "application/json"}
    )
    assert f"{field}: maturation has no parameter '\\ud800'" in error_of(answer, 400, "INVALID_PARAMETERS")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_not_finite_are_refused(client: httpx.Client, traces: Path, number: str) -> None:
    content = f'{{"csv_path": "{traces}", "model_type": "maturation", "model_params": {{"rate": {number}}}}}'
    answer = client.post(
        f"{BASE}/analysis/fitting/start", content=content, headers={"Content-Type": "application/json"}
    )
    error_of(answer, 400, "INVALID_PARAMETERS")


def test_a_missing_file_and_one_that_is_no_trace_file(client: httpx.Client, tmp_path: Path) -> None:
    error_of(start(client, body(tmp_path / "nowhere.csv")), 404, "FILE_NOT_FOUND")
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    assert "is no trace file" in error_of(start(client, body(tmp_path / "a.csv")), 400, "INVALID_PARAMETERS")


def test_all_paths_have_to_be_allowed(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    outside.mkdir()
    own, foreign = write_maturation(inside / "a.csv", 2), write_maturation(outside / "b.csv", 2)
    (inside / "link.csv").symlink_to(foreign)
    (inside / "away").symlink_to(outside)
    with api(tmp_path / "home", allowed_paths=[inside]) as client:
        error_of(start(client, body(own)), 503, "SERVICE_UNAVAILABLE")
        error_of(start(client, body(foreign)), 403, "FORBIDDEN")
        error_of(start(client, body(inside / "link.csv")), 403, "FORBIDDEN")
        error_of(start(client, body(own, output_dir=str(outside))), 403, "FORBIDDEN")
        error_of(start(client, body(own, output_dir=str(inside / "away" / "x"))), 403, "FORBIDDEN")


@pytest.mark.parametrize("address", ["status", "results"])
def test_an_id_that_cannot_be_one(client: httpx.Client, address: str) -> None:
    error_of(client.get(f"{BASE}/analysis/fitting/{address}/job_123456"), 404, "JOB_NOT_FOUND")


def test_a_page_is_limited(client: httpx.Client) -> None:
    answer = client.get(f"{BASE}/analysis/fitting/results/job_1", params={"limit": 0})
    error_of(answer, 400, "INVALID_PARAMETERS")
