"""The flow that fits traces: what it leaves, what it tells, how it goes on, and what it refuses."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from prefect.client.schemas.objects import State

from flows.chunks import FitProgress
from flows.fit import fit_traces
from flows.progress import listening
from flows.stopping import TIMEOUT_VARIABLE
from tasks.fitting.chunks import FitWork
from tasks.fitting.files import FitFiles
from tasks.fitting.plan import make_fit_plan
from tasks.fitting.request import FittingRequest
from tasks.fitting.results import columns_of, read_rows
from tasks.output import OutputLock
from tests.flow_runs import EndedRun
from tests.trace_tables import MATURATION, write_maturation

pytestmark = pytest.mark.usefixtures("prefect_api")

N_CELLS = 4100
"""Two chunks."""


def run(traces: Path, **fields: Any) -> EndedRun:
    """Run the flow here and now."""
    asked = {"csv_path": str(traces), "model_type": "maturation"} | fields
    state: State[Any] = fit_traces(**asked, return_state=True)
    run_id = state.state_details.flow_run_id
    assert run_id is not None
    return EndedRun(run_id, state, traces.parent)


def work_of(traces: Path, **fields: Any) -> FitWork:
    """What a run of the flow would have arranged."""
    request = FittingRequest.parse(csv_path=str(traces), model_type="maturation", **fields)
    plan = make_fit_plan(request)
    plan.files.work_folder.mkdir(parents=True, exist_ok=True)
    return FitWork.prepare(plan.files.work_folder, plan.traces, request)


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_maturation(tmp_path_factory.mktemp("fit") / "control.csv", N_CELLS, n_fovs=3, n_points=20)


@pytest.fixture(scope="module")
def heard() -> list[FitProgress]:
    return []


@pytest.fixture(scope="module")
def ended(prefect_api: str, traces: Path, heard: list[FitProgress]) -> EndedRun:
    with listening(heard.append):
        return run(traces, parquet=True, plots=True)


def test_a_fit_leaves_its_files_and_nothing_else(ended: EndedRun, traces: Path) -> None:
    assert ended.state.is_completed()
    assert ended.message.startswith(f"{N_CELLS} of {N_CELLS} cells fitted, mean R² 0.9")
    pictures = {f"_{kind}.{ending}" for kind in ("curves", "histograms", "pairs") for ending in ("png", "svg")}
    endings = {".csv", ".parquet", "_summary.json", *pictures}
    names = {path.name for path in traces.parent.iterdir()}
    assert names == {"control.csv", *(f"control_fitted_maturation{ending}" for ending in endings)}


def test_table_has_a_row_for_each_cell(ended: EndedRun, traces: Path) -> None:
    table = pd.read_csv(traces.with_name("control_fitted_maturation.csv"))
    assert list(table.columns) == [
        "fov", "cell", "model_type", "success", "r_squared", "amplitude", "rate", "offset",
        "amplitude_std_error", "rate_std_error", "offset_std_error", "n_points", "at_bound", "reason",
    ]  # fmt: skip
    assert len(table) == N_CELLS
    assert table[["fov", "cell"]].apply(tuple, axis=1).is_monotonic_increasing
    assert table["success"].all()
    assert (table["n_points"] == 20).all()
    for name, true in MATURATION.items():
        assert table[name].median() == pytest.approx(true, rel=0.1)
    stored = pd.read_parquet(traces.with_name("control_fitted_maturation.parquet"))
    np.testing.assert_allclose(stored["rate"], table["rate"], rtol=1e-9)


def test_summary_is_that_of_the_table(ended: EndedRun, traces: Path) -> None:
    table = pd.read_csv(traces.with_name("control_fitted_maturation.csv"))
    summary = json.loads(traces.with_name("control_fitted_maturation_summary.json").read_text())
    assert (summary["total_cells"], summary["successful_fits"], summary["failed_fits"]) == (N_CELLS, N_CELLS, 0)
    assert summary["mean_r_squared"] == pytest.approx(table["r_squared"].mean())
    good, medium = (table["r_squared"] >= 0.9).sum(), (table["r_squared"] >= 0.7).sum()
    assert summary["quality"] == {"good": good, "medium": medium - good, "poor": N_CELLS - medium}
    for name in MATURATION:
        assert summary["parameters"][name]["median"] == pytest.approx(table[name].median(), rel=1e-6)
        assert summary["parameters"][name]["std"] == pytest.approx(table[name].std(), rel=1e-6)
    assert summary["parameters"]["rate"]["unit"] == "1/h"


def test_rows_are_read_page_by_page(ended: EndedRun, traces: Path) -> None:
    path = traces.with_name("control_fitted_maturation.csv")
    page = list(read_rows(path, 2000, 3))
    table = pd.read_csv(path)
    assert [row["cell"] for row in page] == table["cell"][2000:2003].tolist()
    assert page[0]["fitted_params"]["rate"] == pytest.approx(table["rate"][2000])
    assert list(read_rows(path, N_CELLS, 5)) == []


def test_progress_is_told_by_cell(ended: EndedRun, heard: list[FitProgress]) -> None:
    counts = [told.cells_done for told in heard]
    assert counts == sorted(counts)
    assert heard[-1] == FitProgress(N_CELLS, N_CELLS)
    (progress,) = [one for one in ended.artifacts("progress") if one.key]
    assert progress.data == 100.0
    assert progress.metadata_ == {"done": str(N_CELLS), "total": str(N_CELLS)}


def test_what_came_out_is_shown_in_the_prefect_ui(ended: EndedRun) -> None:
    assert [row["parameter"] for row in ended.table()] == list(MATURATION)
    assert {one.key for one in ended.artifacts("image")} == {"curves", "histograms", "pairs"}
    (text,) = ended.artifacts("markdown")
    assert f"total cells: {N_CELLS}" in str(text.data)
    assert set(ended.task_runs()) == {"cells 0 to 4000", "cells 4000 to 4100"}


def test_a_fit_goes_on_with_the_chunks_that_are_missing(tmp_path: Path, traces: Path, ended: EndedRun) -> None:
    copy = tmp_path / "control.csv"
    copy.write_bytes(traces.read_bytes())
    work = work_of(copy)
    work.fit(work.chunks[0])
    again = run(copy)
    assert again.state.is_completed()
    assert set(again.task_runs()) == {"cells 4000 to 4100"}
    assert again.logged("4000 cells are fitted already")
    name = "control_fitted_maturation.csv"
    assert (tmp_path / name).read_bytes() == traces.with_name(name).read_bytes()


@pytest.mark.parametrize("change", ["traces", "request"])
def test_what_belongs_to_another_request_is_not_used(tmp_path: Path, change: str) -> None:
    path = write_maturation(tmp_path / "a.csv", 3)
    work = work_of(path)
    work.fit(work.chunks[0])
    fields: dict[str, Any] = {}
    if change == "traces":
        write_maturation(path, 3, noise=0.2)
    else:
        fields["model_bounds"] = {"rate": [0.01, 0.2]}
    fresh = work_of(path, **fields)
    assert not fresh.is_finished(fresh.chunks[0])


def test_a_fit_that_was_killed_while_it_cleaned_up_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    path = write_maturation(tmp_path / "a.csv", 3)
    work = work_of(path)
    with monkeypatch.context() as patches:
        patches.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            work.remove()
    (work.folder / "times.npy").unlink()
    again = work_of(path)
    again.fit(again.chunks[0])
    assert again.is_finished(again.chunks[0])


def test_a_second_fit_of_the_same_name_is_refused(tmp_path: Path) -> None:
    path = write_maturation(tmp_path / "a.csv", 2)
    folder = FitFiles.of(FittingRequest.parse(csv_path=str(path), model_type="maturation")).work_folder
    folder.mkdir()
    with OutputLock(folder, "another"):
        refused = run(path)
    assert refused.state.is_failed()
    assert "is being written by run another" in refused.message


def test_output_dir_is_made(tmp_path: Path) -> None:
    path = write_maturation(tmp_path / "in" / "a.csv", 2)
    ended = run(path, output_dir=str(tmp_path / "out" / "fits"))
    assert ended.state.is_completed()
    assert (tmp_path / "out" / "fits" / "a_fitted_maturation.csv").exists()
    assert [one.name for one in path.parent.iterdir()] == ["a.csv"]


def test_cells_that_cannot_be_fitted_do_not_fail_the_run(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = [f"{t},0,1,{t}" for t in range(3)] + [f"{t},0,2,5" for t in range(30)]
    path.write_text("\n".join(["time,fov,cell,value", *rows]) + "\n")
    ended = run(path)
    assert ended.message == "1 of 2 cells fitted"
    few, constant = read_rows(tmp_path / "a_fitted_maturation.csv", 0, 10)
    assert (few["success"], few["n_points"], few["r_squared"]) == (False, 3, None)
    assert few["fitted_params"] == {"amplitude": None, "rate": None, "offset": None}
    assert "too few points" in str(few["reason"])
    assert constant["success"]
    assert constant["r_squared"] is None


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model_type": "nonsense"}, "model_type: there is no such model; available: trivial"),
        ({"model_params": {"speed": 1.0}}, "model_params: maturation has no parameter 'speed'"),
        ({"csv_path": "/nowhere/a.csv"}, "there is no such file"),
        ({"column": "intensity_total_ch_9"}, "intensity_total_ch_9"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_written(tmp_path: Path, fields: dict[str, Any], words: str) -> None:
    path = write_maturation(tmp_path / "a.csv", 2)
    ended = run(path, **fields)
    assert ended.state.is_failed()
    assert words in ended.message
    assert [one.name for one in tmp_path.iterdir()] == ["a.csv"]


def test_a_fit_that_takes_too_long_fails_and_keeps_what_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_maturation(tmp_path / "a.csv", 2)
    monkeypatch.setenv(TIMEOUT_VARIABLE, "0.001")
    ended = run(path)
    assert ended.state.is_failed()
    assert "the job took longer than" in ended.message
    assert not (tmp_path / "a_fitted_maturation.csv").exists()


def test_columns_are_those_of_the_model() -> None:
    from tasks.fitting.catalog import FITTING_MODELS

    for model in FITTING_MODELS.values():
        columns = columns_of(model)
        assert columns[:5] == ["fov", "cell", "model_type", "success", "r_squared"]
        assert columns[5 : 5 + len(model.parameters)] == [one.name for one in model.parameters]
