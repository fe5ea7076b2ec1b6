"""Samples files, through the API."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tasks.fov_range import parse_fovs
from tasks.samples import format_fovs
from tests.api_server import BASE, api, error_of

SAMPLES: list[dict[str, Any]] = [{"name": "control", "fovs": "0-4, 7"}, {"name": "drug 10 µM", "fovs": [6, 5]}]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with api(tmp_path_factory.mktemp("home")) as client:
        yield client


def save(client: httpx.Client, path: Path, samples: Any = SAMPLES, **more: Any) -> httpx.Response:
    return client.post(f"{BASE}/processing/samples/save", json={"file_path": str(path), "samples": samples, **more})


def load(client: httpx.Client, path: Path) -> httpx.Response:
    return client.post(f"{BASE}/processing/samples/load", json={"file_path": str(path)})


def test_saved_samples_have_the_documented_shape(client: httpx.Client, tmp_path: Path) -> None:
    assert save(client, tmp_path / "samples.yaml").json()["success"] is True
    assert yaml.safe_load((tmp_path / "samples.yaml").read_text(encoding="utf-8")) == {
        "samples": [{"name": "control", "fovs": "0-4, 7"}, {"name": "drug 10 µM", "fovs": "5-6"}]
    }


def test_saved_samples_are_loaded_again(client: httpx.Client, tmp_path: Path) -> None:
    save(client, tmp_path / "samples.yaml")
    assert load(client, tmp_path / "samples.yaml").json()["samples"] == [
        {"name": "control", "fovs": "0-4, 7", "fov_numbers": [0, 1, 2, 3, 4, 7]},
        {"name": "drug 10 µM", "fovs": "5-6", "fov_numbers": [5, 6]},
    ]


def test_samples_take_the_place_of_older_ones(client: httpx.Client, tmp_path: Path) -> None:
    save(client, tmp_path / "samples.yaml")
    assert save(client, tmp_path / "samples.yaml", [{"name": "new", "fovs": 3}]).status_code == 200
    assert [s["name"] for s in load(client, tmp_path / "samples.yaml").json()["samples"]] == ["new"]


def test_nothing_else_is_overwritten(client: httpx.Client, tmp_path: Path) -> None:
    (tmp_path / "processing_config.yaml").write_text("schema: 1\n")
    text = error_of(save(client, tmp_path / "processing_config.yaml"), 400, "INVALID_PARAMETERS")
    assert "something else" in text
    assert (tmp_path / "processing_config.yaml").read_text() == "schema: 1\n"


def test_a_file_of_another_ending_is_not_written(client: httpx.Client, tmp_path: Path) -> None:
    assert ".yaml" in error_of(save(client, tmp_path / "authorized_keys"), 400, "INVALID_PARAMETERS")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there(client: httpx.Client, tmp_path: Path) -> None:
    error_of(save(client, tmp_path / "none" / "samples.yaml"), 404, "FILE_NOT_FOUND")


@pytest.mark.parametrize(
    "name",
    [
        "../../pwned",
        "a/b",
        "/etc/x",
        "..",
        ".",
        ".hidden",
        "",
        " a",
        "a ",
        "a\0",
        "a\nb",
        "a\\b",
        "x" * 101,
        5,
    ],
)
def test_a_name_that_is_no_part_of_a_file_name(client: httpx.Client, tmp_path: Path, name: object) -> None:
    text = error_of(save(client, tmp_path / "s.yaml", [{"name": name, "fovs": "0"}]), 400, "INVALID_PARAMETERS")
    assert "samples.0.name" in text
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "fovs", ["", "x", "3-1", "-1", [-1], [1.5], [], None, True, "0-99999999", 100_000, [100_000], {"a": 1}]
)
def test_fovs_that_are_none(client: httpx.Client, tmp_path: Path, fovs: object) -> None:
    text = error_of(save(client, tmp_path / "s.yaml", [{"name": "a", "fovs": fovs}]), 400, "INVALID_PARAMETERS")
    assert "FOV" in text or "fovs" in text


def test_all_problems_are_told_at_once(client: httpx.Client, tmp_path: Path) -> None:
    response = save(client, tmp_path / "s.yaml", [{"name": "../a", "fovs": "0"}, {"name": "b", "fovs": "x"}])
    assert [problem["field"] for problem in response.json()["details"]] == ["samples.0.name", "samples.1.fovs"]


def test_a_name_twice(client: httpx.Client, tmp_path: Path) -> None:
    text = error_of(
        save(client, tmp_path / "s.yaml", [{"name": "a", "fovs": 0}, {"name": "A", "fovs": 1}]),
        400, "INVALID_PARAMETERS",
    )  # fmt: skip
    assert "twice" in text


def test_billions_of_fovs_are_refused_before_they_are_written_out(client: httpx.Client, tmp_path: Path) -> None:
    samples = [{"name": f"s{i}", "fovs": "0-99999"} for i in range(1000)]
    assert "at most" in error_of(save(client, tmp_path / "s.yaml", samples), 400, "INVALID_PARAMETERS")


@pytest.mark.parametrize(
    ("samples", "told"),
    [
        ([{"name": f"s{i}", "fovs": list(range(60_000))} for i in range(2)], "name 120000 FOVs; at most 100000"),
        ([{"name": "s", "fovs": list(range(0, 100_000, 2))}], "at most 262144 are read"),
    ],
)
def test_nothing_is_saved_that_could_not_be_loaded(
    client: httpx.Client, tmp_path: Path, samples: object, told: str
) -> None:
    assert told in error_of(save(client, tmp_path / "s.yaml", samples), 400, "INVALID_PARAMETERS")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content",
    [
        b"", b"- a", b"samples: []", b"samples:", b"samples: [{name: a}]", b"samples: [{name: a, fovs: 1:30}]",
        b"samples: [{name: a, fovs: 0, more: 1}]", b"samples: [{name: ../a, fovs: 0}]", b"[" * 50_000, b"\xff\xfe\xff",
        b"samples: &x [{name: a, fovs: 0}, *x]", b"samples: !!python/object/apply:os.system ['true']", b"a: b: c",
        b"samples: [{name: a, fovs: 0}]\n" + b"#" * (1 << 20),
    ],
)  # fmt: skip
def test_a_file_that_holds_no_samples(client: httpx.Client, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s.yaml").write_bytes(content)
    assert "no samples file" in error_of(load(client, tmp_path / "s.yaml"), 400, "INVALID_PARAMETERS")


def test_values_are_read_as_they_are_written(client: httpx.Client, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("samples: [{name: no, fovs: [0-2, 7]}, {name: 12, fovs: 9}]")
    samples = load(client, tmp_path / "s.yaml").json()["samples"]
    assert [(s["name"], s["fovs"]) for s in samples] == [("no", "0-2, 7"), ("12", "9")]


def test_loading_what_is_not_there(client: httpx.Client, tmp_path: Path) -> None:
    error_of(load(client, tmp_path / "none.yaml"), 404, "FILE_NOT_FOUND")


def test_loading_a_folder(client: httpx.Client, tmp_path: Path) -> None:
    error_of(load(client, tmp_path), 400, "INVALID_PARAMETERS")


@given(st.sets(st.integers(0, 200), min_size=1))
def test_fovs_as_text_mean_the_same(fovs: set[int]) -> None:
    assert parse_fovs(format_fovs(sorted(fovs))) == sorted(fovs)
