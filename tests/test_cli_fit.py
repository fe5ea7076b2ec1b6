"""`pyama fit`: what it leaves and says, and what it says to mistakes."""

from pathlib import Path

import pytest

from deployments.local_fit import fit_request
from tests.program import mistake, run_pyama
from tests.trace_tables import write_maturation


def test_a_fit_tells_the_parameters_and_ends_with_0(tmp_path: Path, prefect_api: str) -> None:
    traces = write_maturation(tmp_path / "a.csv", 30)
    ended = run_pyama(
        "fit", traces, "--model", "maturation", "--output-dir", tmp_path / "out", "--param", "rate=0.2",
        "--bounds", "amplitude=0,100", "--plots", environment={"PREFECT_API_URL": prefect_api},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert lines[0].startswith("30 of 30 cells fitted, ")
    assert lines[1].startswith("R²: mean 0.99")
    assert any(line.startswith("rate (1/h): median 0.") for line in lines)
    assert lines[-1] == f"Results: {tmp_path}/out/a_fitted_maturation.csv"
    assert len(list((tmp_path / "out").glob("*.png"))) == len(list((tmp_path / "out").glob("*.svg"))) == 3
    assert "pyama: 30 of 30 cells (100%)" in ended.stderr.splitlines()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-m", "sigmoid"], "model_type: there is no such model; available: trivial"),
        (["-m", "maturation", "--param", "rate"], "--param rate: expected NAME=VALUE"),
        (["-m", "maturation", "--param", "rate=fast"], "expected a number (got 'fast')"),
        (["-m", "maturation", "--param", "rate=0.1", "--param", "rate=0.2"], "--param rate is given twice"),
        (["-m", "maturation", "--bounds", "rate=1"], "expected two numbers, LOW,HIGH (got '1')"),
        (["-m", "maturation", "--bounds", "rate=1,0.5"], "the lower bound must be below the upper one"),
        (["-m", "maturation", "--param", "speed=1"], "maturation has no parameter 'speed'; it has amplitude"),
        (["-m", "maturation", "--param", "rate=nan"], "model_params.rate"),
        (["-m", "maturation"], "there is no such file"),
        ([], "--model"),
    ],
)
def test_mistakes_are_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert words in mistake(capsys, "fit", tmp_path / "a.csv", *arguments)


def test_relative_paths_are_taken_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    request = fit_request(
        Path("a.csv"), "trivial", Path("out"), [], [], column=None, loss="linear", plots=False, parquet=False
    )
    assert (request.csv_path, request.output_dir) == (f"{tmp_path}/a.csv", f"{tmp_path}/out")
