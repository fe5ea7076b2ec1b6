"""The demo finds what it has simulated, can be repeated, and touches nothing that is not its own."""

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from deployments.demo import FILES, Comparison, compare
from deployments.demo_kinetics import LEAST_FRAMES, MODEL, KineticsReport, Recovered
from deployments.picture import read_traces
from tasks.simulation import Truth
from tests.engines import wait_until
from tests.output_worker import content
from tests.program import mistake, run_pyama, start_pyama
from tests.stack import descendants, is_alive

STOP_DEADLINE_S = 60.0
SIZE = ("--fovs", "2", "--frames", "12", "--size", "400")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "output"


@pytest.fixture(scope="module")
def demo(folder: Path) -> CompletedProcess[str]:
    return run_pyama("demo", "--output-dir", folder, *SIZE)


@pytest.fixture(scope="module")
def truth(demo: CompletedProcess[str], folder: Path) -> Truth:
    return Truth.from_json(folder / "truth.json")


@pytest.fixture(scope="module")
def traces(demo: CompletedProcess[str], folder: Path) -> list[pd.DataFrame]:
    return [read_traces(folder / "results" / f"fov_{fov:03d}") for fov in range(2)]


def test_truth_is_found(demo: CompletedProcess[str], truth: Truth) -> None:
    assert demo.returncode == 0, demo.stderr
    n_cells = sum(cell.countable for fov in truth.fovs for cell in fov.cells)
    assert f"{n_cells} of {n_cells}" in demo.stdout
    assert "The truth was found." in demo.stdout


def test_nothing_is_left_but_the_files_of_the_demo(demo: CompletedProcess[str], folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == set(FILES)
    assert {path.name for path in (folder / "results").glob("fov_*")} == {"fov_000", "fov_001"}


@pytest.mark.parametrize("name", ["demo.png", "kinetics.png"])
def test_pictures_are_landscapes_with_color(name: str, demo: CompletedProcess[str], folder: Path) -> None:
    picture = imread(folder / name)
    height, width, _ = picture.shape
    assert width > height >= 600
    assert picture[..., :3].std(axis=2).max() > 0.1


def test_kinetics_are_recovered(demo: CompletedProcess[str], folder: Path, truth: Truth) -> None:
    fits = pd.read_csv(folder / "merged" / "all_intensity_total_ch_1_fitted_translation_maturation.csv")
    countable = [cell for fov in truth.fovs for cell in fov.cells if cell.countable]
    assert fits["success"].all()
    assert len(fits) == len(countable)
    assert fits["delta"].median() == pytest.approx(np.median([cell.kinetics[0].delta for cell in countable]), rel=0.1)
    assert f"recovered from {len(countable)} of {len(countable)} cells" in demo.stdout


def kinetics_report(**changes: float) -> KineticsReport:
    """Two cells that were fitted as they were simulated, but for some changes."""
    truth = {"t0": 0.5, "ktl": 900.0, "delta": 0.08} | changes
    simulated = {"t0": 0.5, "ktl": 900.0, "delta": 0.08}
    parameters = {one.name: one for one in MODEL.parameters}
    return KineticsReport(
        n_cells=2,
        n_fitted=2,
        recovered=tuple(
            Recovered(parameters[name], np.full(2, simulated[name]), np.full(2, truth[name])) for name in simulated
        ),
        n_frames=30,
    )


def test_kinetics_pass_only_where_every_parameter_is_near_and_every_cell_is_fitted() -> None:
    assert kinetics_report().passed
    assert kinetics_report(delta=0.083).passed
    assert not kinetics_report(delta=0.085).passed
    assert not kinetics_report(t0=0.6).passed
    assert not replace(kinetics_report(), n_fitted=1).passed
    assert replace(kinetics_report(t0=0.6), n_frames=LEAST_FRAMES - 1).passed


@pytest.mark.stack
def test_demo_can_be_repeated_and_then_replaced(
    demo: CompletedProcess[str], folder: Path, traces: list[pd.DataFrame], truth: Truth
) -> None:
    (folder / "notes.txt").write_text("mine")
    kept = [folder / "demo.nd2", folder / "truth.json", *(folder / "results").glob("fov_*")]
    before = [(path.stat().st_ino, path.stat().st_mtime_ns) for path in kept]
    second = run_pyama("demo", "--output-dir", folder, *SIZE)
    assert second.returncode == 0, second.stderr
    assert [(path.stat().st_ino, path.stat().st_mtime_ns) for path in kept] == before
    assert "there already" in second.stdout

    third = run_pyama("demo", "--output-dir", folder, "--fovs", "1", "--frames", "3", "--size", "400")
    assert third.returncode == 0, third.stderr
    assert [path.name for path in (folder / "results").glob("fov_*")] == ["fov_000"]
    assert json.loads((folder / "truth.json").read_text())["settings"]["n_frames"] == 3
    assert (folder / "notes.txt").read_text() == "mine"


@pytest.mark.stack
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_interrupted_demo_leaves_no_process_behind(number: signal.Signals, code: int, tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    environment = {"TMPDIR": str(tmp_path / "scratch")}
    with start_pyama("demo", "-o", tmp_path / "out", *SIZE, environment=environment) as demo:
        assert demo.stderr is not None
        assert any("Processing…" in line for line in iter(demo.stderr.readline, ""))
        started = descendants(demo.pid)
        assert len(started) >= 5  # pyama up, Prefect server, two workers, API
        demo.send_signal(number)
        assert demo.wait(STOP_DEADLINE_S) == code
        wait_until(lambda: not any(is_alive(pid) for pid in started), "all programs are gone", STOP_DEADLINE_S)
    if number != signal.SIGKILL:
        assert list((tmp_path / "scratch").glob("pyama-*")) == []


def rows_of_first_cell(table: pd.DataFrame) -> pd.Index:
    index: pd.Index = table.index[table["cell"] == table["cell"].iloc[0]]
    return index


def without_a_cell(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop(rows_of_first_cell(table))


def with_a_cell_too_many(table: pd.DataFrame) -> pd.DataFrame:
    extra = table.loc[rows_of_first_cell(table)].assign(cell=999, position_x=1.0)
    return pd.concat([table, extra])


def with_a_gap(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop(rows_of_first_cell(table)[2:3])


def too_bright(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(intensity_total_ch_1=1.5 * table["intensity_total_ch_1"], intensity_total_ch_2=0.0)


def compared(change: Callable[[pd.DataFrame], pd.DataFrame], traces: list[pd.DataFrame], truth: Truth) -> Comparison:
    return compare([change(traces[0]), *traces[1:]], truth)


def test_comparison_passes_where_all_is_found(traces: list[pd.DataFrame], truth: Truth) -> None:
    comparison = compare(traces, truth)
    assert comparison.passed
    assert comparison.n_found == comparison.n_cells > 4
    assert comparison.median_error < 0.01
    assert comparison.median_error < comparison.max_error < 0.05


@pytest.mark.parametrize(
    ("change", "n_missing", "n_spurious"), [(without_a_cell, 1, 0), (with_a_cell_too_many, 0, 1), (with_a_gap, 1, 1)]
)
def test_comparison_fails_where_cells_differ(
    change: Callable[[pd.DataFrame], pd.DataFrame],
    n_missing: int,
    n_spurious: int,
    traces: list[pd.DataFrame],
    truth: Truth,
) -> None:
    comparison = compared(change, traces, truth)
    assert (comparison.n_cells - comparison.n_found, comparison.n_spurious) == (n_missing, n_spurious)
    assert not comparison.passed


def test_comparison_fails_where_intensities_differ(traces: list[pd.DataFrame], truth: Truth) -> None:
    comparison = compare([too_bright(table) for table in traces], truth)
    assert comparison.n_found == comparison.n_cells
    assert comparison.median_error > 0.05
    assert not comparison.passed


def test_comparison_fails_where_nothing_is_found(traces: list[pd.DataFrame], truth: Truth) -> None:
    comparison = compare([table.iloc[:0] for table in traces], truth)
    assert comparison.n_found == 0
    assert not comparison.passed


@pytest.mark.parametrize("name", ["demo.nd2", "results", "demo.png"])
def test_folder_with_files_of_others_is_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "precious").write_text("mine")
    said = mistake(capsys, "demo", "-o", tmp_path, *SIZE)
    assert f"holds {name}, but no truth.json of a demo" in said
    assert content(tmp_path / name) == {"precious": b"mine"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--fovs", "0"], "n_fovs must be a whole number from 1 up, not 0"),
        (["--frames", "1"], "--frames 1: at least 2 are needed"),
        (["--frames", "few"], "Invalid value for '--frames': 'few' is not a whole number"),
        (["--size", "200"], "--size 200: no cell lies clear of the edges; 400 is enough"),
        (["--workers", "999"], "parameters.n_workers: allowed are 1 to 256 (got 999)"),
        (["--fovs", "90", "--frames", "10000000"], "choose another folder with --output-dir, or fewer --fovs"),
    ],
)
def test_mistake_is_told_in_one_line(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in mistake(capsys, "demo", "-o", tmp_path / "demo", *options)
    assert not list(tmp_path.glob("demo/*.nd2"))
