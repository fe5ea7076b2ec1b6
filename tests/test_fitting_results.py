"""What a fit leaves, read again: damage is told, and results of another request are not taken for one's own."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from deployments.demo_kinetics import compare_kinetics
from tasks.fitting.files import FitFiles
from tasks.fitting.fit import fit_traces
from tasks.fitting.request import FittingRequest
from tasks.fitting.results import read_rows, read_summary
from tasks.fitting.writing import write_results
from tasks.simulation import Optics, Scene, SimulationSettings, Truth
from tasks.trace_files import read_traces
from tests.trace_tables import write_maturation


def asked(path: Path, **changes: Any) -> FittingRequest:
    return FittingRequest.parse(csv_path=str(path), model_type="maturation", **changes)


@pytest.fixture
def files(tmp_path: Path) -> FitFiles:
    """Results of three cells."""
    request = asked(write_maturation(tmp_path / "traces.csv", 3), parquet=True)
    return write(request)


def write(request: FittingRequest) -> FitFiles:
    traces = read_traces(Path(request.csv_path))
    table = fit_traces(traces.times_h, traces.values, traces.offsets, request.specification())
    files = FitFiles.of(request)
    write_results(files, table, traces.fovs, traces.cells, request)
    return files


def test_results_are_read_as_they_were_written(files: FitFiles, tmp_path: Path) -> None:
    assert [row["cell"] for row in read_rows(files.table, 0, 10)] == [1, 2, 3]
    assert read_summary(files.summary)["request"] == asked(tmp_path / "traces.csv").digest
    assert files.parquet.exists()


def test_what_an_earlier_fit_has_left_goes(files: FitFiles, tmp_path: Path) -> None:
    for picture in files.plots():
        picture.write_text("old")
    write(asked(tmp_path / "traces.csv"))
    assert not files.parquet.exists()
    assert not any(picture.exists() for picture in files.plots())
    assert read_summary(files.summary)["total_cells"] == 3


@pytest.mark.parametrize(
    "changes",
    [{"model_params": {"rate": 0.2}}, {"model_bounds": {"rate": [0.1, 0.5]}}, {"loss": "huber"}, {"column": "v"}],
)
def test_digest_changes_with_all_that_changes_the_numbers(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = tmp_path / "traces.csv"
    assert asked(path, **changes).digest != asked(path).digest
    assert asked(path, parquet=True, plots=True, output_dir=str(tmp_path)).digest == asked(path).digest


def test_a_table_that_was_cut_off_is_told(files: FitFiles) -> None:
    content = files.table.read_text()
    files.table.write_text(content[: len(content) - 60])
    with pytest.raises(ValueError, match=r"damaged|invalid literal|could not convert"):
        list(read_rows(files.table, 0, 10))


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", '{"total_cells": "many"}'])
def test_a_summary_that_is_none_is_told(files: FitFiles, content: str) -> None:
    files.summary.write_text(content)
    with pytest.raises(ValueError, match="validation error"):
        read_summary(files.summary)


def test_a_summary_of_another_version_with_more_in_it_is_read(files: FitFiles) -> None:
    files.summary.write_text(json.dumps(json.loads(files.summary.read_text()) | {"new": 1}))
    assert read_summary(files.summary)["total_cells"] == 3


def test_a_cell_that_somebody_has_struck_out_is_passed_over_by_the_demo() -> None:
    settings = SimulationSettings(n_fovs=1, n_frames=30)
    cell = next(cell for cell in Scene(settings, 0, Optics.of(settings)).cells if cell.countable)
    kinetics = cell.kinetics[0]
    fit = {"success": True, "fitted_params": {"t0": kinetics.t0, "ktl": kinetics.ktl, "delta": kinetics.delta}}
    found = [(cell, pd.DataFrame({"cell": [number]})) for number in (1, 2)]
    report = compare_kinetics({(0, 1): fit}, {0: found}, Truth(settings, ()))
    assert (report.n_cells, report.n_fitted) == (1, 1)
