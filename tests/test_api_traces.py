"""Looking into trace files, through the API."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api_server import BASE, api, error_of
from tests.tables import COLUMNS, table_text, write_table

TIDY = "# Time units: h\ntime,fov,cell,value\n0,0,1,5\n0.5,0,1,\n1.5,0,1,-2\n0,0,2,7\n1,0,2,inf\n"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with api(tmp_path_factory.mktemp("home")) as client:
        yield client


def load(client: httpx.Client, path: Path | str, **more: Any) -> httpx.Response:
    return client.post(f"{BASE}/analysis/load-traces", json={"csv_path": str(path), **more})


def test_a_tidy_file_is_told(client: httpx.Client, tmp_path: Path) -> None:
    path = tmp_path / "traces.csv"
    path.write_text(TIDY)
    answer = load(client, path)
    assert answer.status_code == 200
    assert answer.json() == {
        "success": True,
        "error": None,
        "data": {
            "n_fovs": 1,
            "n_cells": 2,
            "n_timepoints": 4,
            "n_rows": 5,
            "n_left_out": 0,
            "time_units": "h",
            "time_range": [0.0, 1.5],
            "columns": ["time", "fov", "cell", "value"],
            "column": "value",
            "value_range": [-2.0, 7.0],
            "n_non_finite": 2,
            "n_gaps": 2,
            "n_cells_with_gaps": 2,
        },
        "traces": [],
    }


def test_traces_of_cells_are_told(client: httpx.Client, tmp_path: Path) -> None:
    path = tmp_path / "traces.csv"
    path.write_text(TIDY)
    answer = load(client, path, cells=[{"fov": 0, "cell": 2}, {"fov": 0, "cell": 1}])
    assert answer.json()["traces"] == [
        {"fov": 0, "cell": 2, "times": [0.0, 1.0], "values": [7.0, None]},
        {"fov": 0, "cell": 1, "times": [0.0, 0.5, 1.5], "values": [5.0, None, -2.0]},
    ]
    unknown = load(client, path, cells=[{"fov": 1, "cell": 2}])
    assert "no good rows of cell 2 in FOV 1" in error_of(unknown, 400, "INVALID_PARAMETERS")
    error_of(load(client, path, cells=[{"fov": 0, "cell": "2"}]), 400, "INVALID_PARAMETERS")
    error_of(load(client, path, cells=[{"fov": 0, "cell": 2}] * 101), 400, "INVALID_PARAMETERS")


def test_a_table_of_a_fov_is_told(client: httpx.Client, tmp_path: Path) -> None:
    path = write_table(
        tmp_path, 3, table_text(3, cells=[1, 4]).replace("3,4,2,20.000000,True", "3,4,2,20.000000,False")
    )
    data = load(client, path).json()["data"]
    assert (data["n_cells"], data["n_timepoints"], data["time_units"]) == (2, 3, "min")
    assert (data["n_rows"], data["n_left_out"]) == (5, 1)
    assert (data["columns"], data["column"]) == (list(COLUMNS), "intensity_total_ch_1")
    assert load(client, path, column="area_ch_0").json()["data"]["column"] == "area_ch_0"


def test_a_file_without_a_finite_value_is_told(client: httpx.Client, tmp_path: Path) -> None:
    path = tmp_path / "traces.csv"
    path.write_text("time,fov,cell,value\n0,0,1,nan\n")
    data = load(client, path).json()["data"]
    assert data["value_range"] is None
    assert data["n_non_finite"] == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "expected the columns time, fov, cell, value (a tidy file), or fov, cell, frame, time, good"),
        ("a,b\n", "found 'a,b'"),
        ("time,fov,cell,value\n", "found no row below its header"),
        ("time,fov,cell,value\n0,0,1,x\n", "line 2, column value: expected a number; found 'x'"),
        ("time,fov,cell,value\n0,0,1,1\n0,0,1,2\n", "expected one row for each cell and time"),
    ],
)
def test_a_wrong_file_is_told_what_was_expected_and_found(
    client: httpx.Client, tmp_path: Path, content: str, said: str
) -> None:
    path = tmp_path / "traces.csv"
    path.write_text(content)
    assert said in error_of(load(client, path), 400, "INVALID_PARAMETERS")


def test_paths_are_checked(client: httpx.Client, tmp_path: Path) -> None:
    assert "does not exist" in error_of(load(client, tmp_path / "nothing.csv"), 404, "FILE_NOT_FOUND")
    assert "absolute path" in error_of(load(client, "traces.csv"), 400, "INVALID_PARAMETERS")
    error_of(load(client, tmp_path), 400, "INVALID_PARAMETERS")
    os.mkfifo(tmp_path / "fifo")
    assert "a FIFO" in error_of(load(client, tmp_path / "fifo"), 400, "INVALID_PARAMETERS")
    assert "unknown field" in error_of(load(client, tmp_path, colour=1), 400, "INVALID_PARAMETERS")


def test_a_file_outside_the_allowed_folders_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    outside = tmp_path / "traces.csv"
    outside.write_text(TIDY)
    (tmp_path / "data" / "link.csv").symlink_to(outside)
    with api(tmp_path, allowed_paths=(tmp_path / "data",)) as client:
        error_of(load(client, outside), 403, "FORBIDDEN")
        error_of(load(client, tmp_path / "data" / "link.csv"), 403, "FORBIDDEN")
