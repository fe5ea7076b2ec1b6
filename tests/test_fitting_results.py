"""What a fit leaves, read again: damage is told, and results of another request are not taken for one's own."""

import json
import resource
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from deployments.demo_kinetics import compare_kinetics
from tasks.errors import OutputError
from tasks.fitting.chunks import FitWork
from tasks.fitting.files import FitFiles
from tasks.fitting.fit import fit_traces
from tasks.fitting.plan import make_fit_plan
from tasks.fitting.request import FittingRequest
from tasks.fitting.results import is_fit_table, read_rows, read_summary
from tasks.fitting.writing import write_results
from tasks.simulation import Optics, Scene, SimulationSettings, Truth
from tests.trace_tables import write_maturation


def asked(path: Path, **changes: Any) -> FittingRequest:
    return FittingRequest.parse(csv_path=str(path), model_type="maturation", **changes)


@pytest.fixture
def files(tmp_path: Path) -> FitFiles:
    """Results of three cells."""
    request = asked(write_maturation(tmp_path / "traces.csv", 3), parquet=True)
    return write(request)


def write(request: FittingRequest, run_id: str = "one", largest_file: int | None = None) -> FitFiles:
    plan = make_fit_plan(request)
    traces = plan.traces
    plan.files.work_folder.mkdir(parents=True, exist_ok=True)
    work = FitWork.prepare(plan.files.work_folder, traces, request)
    table = fit_traces(traces.times_h, traces.values, traces.offsets, request.specification())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file or limits[0], limits[1]))
    try:
        write_results(plan, table, work.fingerprint, run_id)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    return plan.files


def test_results_are_read_as_they_were_written(files: FitFiles) -> None:
    assert [row["cell"] for row in read_rows(files.table, 0, 10)] == [1, 2, 3]
    assert read_summary(files.summary)["runs"] == ["one"]
    assert files.parquet.exists()


def test_what_an_earlier_fit_has_left_goes(files: FitFiles, tmp_path: Path) -> None:
    for picture in files.plots():
        picture.write_text("old")
    write(asked(tmp_path / "traces.csv"))
    assert not files.parquet.exists()
    assert not any(picture.exists() for picture in files.plots())
    assert read_summary(files.summary)["total_cells"] == 3


def test_what_an_earlier_fit_has_left_stays_where_there_is_no_room_for_the_new(files: FitFiles, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in (files.table, files.parquet, files.summary)}
    request = asked(write_maturation(tmp_path / "traces.csv", 100), parquet=True)
    with pytest.raises(OutputError, match="file too large"):
        write(request, "two", largest_file=5000)
    assert {path: path.read_bytes() for path in before} == before
    assert not list(tmp_path.glob(".*.tmp"))


@pytest.mark.parametrize(
    "changes",
    [{"model_params": {"rate": 0.2}}, {"model_bounds": {"rate": [0.1, 0.5]}}, {"loss": "huber"}, {"column": "other"}],
)
def test_results_belong_to_the_runs_that_have_asked_for_the_same(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = with_two_columns(write_maturation(tmp_path / "traces.csv", 3))
    write(asked(path), "one")
    files = write(asked(path, parquet=True), "two")
    assert read_summary(files.summary)["runs"] == ["one", "two"]
    write(asked(path), "one")
    assert read_summary(files.summary)["runs"] == ["two", "one"]
    write(asked(path, **changes), "three")
    assert read_summary(files.summary)["runs"] == ["three"]


def test_results_do_not_belong_to_a_run_that_has_fitted_another_file(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    first = asked(write_maturation(tmp_path / "a" / "control.csv", 3), output_dir=out)
    second = asked(write_maturation(tmp_path / "b" / "control.csv", 4), output_dir=out)
    assert write(first, "one") == write(second, "two")
    assert read_summary(FitFiles.of(first).summary)["runs"] == ["two"]
    write_maturation(tmp_path / "b" / "control.csv", 5)
    write(second, "three")
    assert read_summary(FitFiles.of(first).summary)["runs"] == ["three"]


def with_two_columns(traces: Path) -> Path:
    """Have each value of a tidy file twice."""
    unit, header, *rows = traces.read_text().splitlines()
    lines = [unit, f"{header},other", *(f"{row},{row.rpartition(',')[2]}" for row in rows)]
    traces.write_text("\n".join(lines) + "\n")
    return traces


def test_a_table_that_a_spreadsheet_has_written_is_read(files: FitFiles) -> None:
    content = files.table.read_text().replace(",True,", ",TRUE,")
    files.table.write_text(content, encoding="utf-8-sig")
    assert is_fit_table(files.table)
    assert [row["success"] for row in read_rows(files.table)] == [True, True, True]
    files.table.write_text(content.replace(",TRUE,", ",WAHR,"))
    with pytest.raises(ValueError, match="success: expected true or false; found 'WAHR'"):
        list(read_rows(files.table))


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
