"""Requests to merge, as far as they come without an orchestrator: everything is checked before a job is created."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from api.jobs import Job
from api.orchestrator import open_orchestrator
from api.routes.merge import _wait
from api.settings import Settings
from tasks.output import INDEX_FILE, OutputLock
from tests.api_server import BASE, NO_PREFECT, api, error_of
from tests.tables import merge_request, write_folder


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with api(tmp_path_factory.mktemp("home")) as client:
        yield client


def body(folder: Path, samples: Any, **changes: Any) -> dict[str, Any]:
    """The documented body, with fields changed, or left out where they are None."""
    asked = merge_request(folder, samples).model_dump(exclude={"parquet"}) | changes
    return {name: value for name, value in asked.items() if value is not None}


def merge(client: httpx.Client, asked: dict[str, Any]) -> httpx.Response:
    return client.post(f"{BASE}/processing/merge", json=asked)


def refusal(client: httpx.Client, folder: Path, samples: Any, **changes: Any) -> str:
    """What is wrong; nothing is written then."""
    before = sorted(folder.rglob("*"))
    asked = body(folder, samples, **changes)
    text = error_of(merge(client, asked), 400, "INVALID_PARAMETERS")
    assert sorted({*before, folder / "samples.yaml"}) == sorted(folder.rglob("*"))
    return text


def test_a_right_request_goes_to_the_orchestrator(client: httpx.Client, tmp_path: Path) -> None:
    write_folder(tmp_path / "results", range(2))
    (tmp_path / "results" / INDEX_FILE).write_text("output_dir: .\n")
    asked = body(tmp_path, {"a": "0-1"})
    older = body(tmp_path, {"a": "0-1"}, input_dir=None, processing_results_yaml=str(tmp_path / "results" / INDEX_FILE))
    for right in (asked, older):
        assert "orchestrator" in error_of(merge(client, right), 503, "SERVICE_UNAVAILABLE")
    assert not (tmp_path / "merged").exists()


def test_all_mistakes_are_told_at_once(client: httpx.Client, tmp_path: Path) -> None:
    write_folder(tmp_path / "results", range(3))
    samples = [{"name": "a", "fovs": "0-1"}, {"name": "../../pwned", "fovs": 2}, {"name": "b", "fovs": "1, 5-6"}]
    text = refusal(client, tmp_path, samples)
    assert "samples.1.name: a sample name begins with a letter or digit" in text
    assert "samples 'a' and 'b' overlap: FOV 1 in both" in text
    assert "sample 'b': there is no traces table of FOVs 5-6" in text


@pytest.mark.parametrize("samples", ["samples: [", "3", "samples: []", "samples: [{name: a}]"])
def test_a_wrong_samples_file_is_told(client: httpx.Client, tmp_path: Path, samples: str) -> None:
    write_folder(tmp_path / "results", [0])
    assert "samples.yaml" in refusal(client, tmp_path, samples)


def test_a_huge_range_is_refused_without_looking_for_it(client: httpx.Client, tmp_path: Path) -> None:
    write_folder(tmp_path / "results", [0])
    assert "name 1000000000 FOVs; at most 100000" in refusal(client, tmp_path, {"a": "0-999999999"})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sample_yaml": None}, "sample_yaml: is missing"),
        ({"output_dir": None}, "output_dir: is missing"),
        ({"input_dir": None}, "give input_dir, or processing_results_yaml in its place"),
        ({"processing_results_yaml": "/x.yaml"}, "give input_dir, or processing_results_yaml in its place"),
        ({"input_dir": "results"}, "input_dir: must be an absolute path"),
        ({"output_dir": 3}, "output_dir: "),
        ({"parquet": "yes"}, "parquet: "),
        ({"colour": "red"}, "colour: unknown field"),
    ],
)
def test_a_wrong_body_is_told(client: httpx.Client, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    write_folder(tmp_path / "results", [0])
    assert said in refusal(client, tmp_path, {"a": 0}, **changes)


def test_paths_that_lead_nowhere_are_told(client: httpx.Client, tmp_path: Path) -> None:
    write_folder(tmp_path / "results", [0])
    nowhere = str(tmp_path / "nothing.yaml")
    changes: list[dict[str, Any]] = [
        {"sample_yaml": nowhere},
        {"input_dir": nowhere},
        {"input_dir": None, "processing_results_yaml": nowhere},
    ]
    for change in changes:
        error_of(merge(client, body(tmp_path, {"a": 0}, **change)), 404, "FILE_NOT_FOUND")
    asked = body(tmp_path, {"a": 0}, input_dir=str(tmp_path / "samples.yaml"))
    assert "is a file, not a folder" in error_of(merge(client, asked), 400, "INVALID_PARAMETERS")


def test_a_folder_in_use_is_busy(client: httpx.Client, tmp_path: Path) -> None:
    write_folder(tmp_path / "results", [0])
    asked = body(tmp_path, {"a": 0}, output_dir=str(tmp_path / "results"))
    with OutputLock(tmp_path / "results", "run 7"):
        assert "in use by run run 7" in error_of(merge(client, asked), 409, "OUTPUT_DIR_BUSY")


def test_everything_that_is_read_or_written_has_to_be_allowed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    write_folder(data / "results", range(3))
    outside = write_folder(tmp_path / "outside", range(2, 4))
    (data / "results" / "fov_003").symlink_to(outside / "fov_003")
    table = data / "results" / "fov_001" / "film_fov_001_traces_inspected.csv"
    table.symlink_to("/etc/passwd")
    (tmp_path / "samples.yaml").write_text("samples: [{name: a, fovs: 0}]\n")
    with api(tmp_path, allowed_paths=(data,)) as client:
        changes: list[dict[str, Any]] = [
            {"sample_yaml": str(tmp_path / "samples.yaml")},
            {"input_dir": str(outside)},
            {"output_dir": str(tmp_path / "merged")},
            {"output_dir": f"{data}/../merged"},
        ]
        for change in changes:
            error_of(merge(client, body(data, {"a": 0}, **change)), 403, "FORBIDDEN")
        for fov in (1, 3):
            text = error_of(merge(client, body(data, {"a": fov})), 403, "FORBIDDEN")
            assert "root:" not in text
        error_of(merge(client, body(data, {"a": "0, 2"})), 503, "SERVICE_UNAVAILABLE")


def test_a_merge_that_goes_on_is_not_given_up_where_nobody_can_tell_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.routes.merge._PATIENCE_S", 0.3)
    started = Job(
        job_id=str(uuid4()), kind="merge", status="running", message="", error=None, done=0, total=1, percentage=0.0,
        created_at=None, started_at=None, ended_at=None, seconds_left=None, name="", parameters={},
        request_digest=None, input_fingerprint=None, url=None,
    )  # fmt: skip

    async def waited() -> Job:
        async with open_orchestrator(Settings(home=tmp_path)) as orchestrator:
            return await _wait(orchestrator, started)

    with temporary_settings({PREFECT_API_URL: NO_PREFECT}):
        assert asyncio.run(waited()) == started
