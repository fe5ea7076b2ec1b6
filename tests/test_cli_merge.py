"""`pyama merge`: what it leaves and says, and what it says to mistakes."""

import subprocess
import sys
from pathlib import Path

import pytest

from deployments.local_merge import merge_request
from tests.oracles import merge as oracle
from tests.program import mistake, run_pyama
from tests.tables import table_text, write_folder, write_samples_file, write_table


def arguments(folder: Path, *more: str) -> list[str]:
    return ["merge", f"{folder}/samples.yaml", "-i", f"{folder}/results", "-o", f"{folder}/merged", *more]


def test_a_merge_names_its_files_and_ends_with_0(tmp_path: Path, prefect_api: str) -> None:
    write_folder(tmp_path / "results", range(3))
    write_samples_file(tmp_path / "samples.yaml", {"control": "0, 2", "drug": 1})
    ended = run_pyama(*arguments(tmp_path, "--parquet"), environment={"PREFECT_API_URL": prefect_api})
    assert ended.returncode == 0, ended.stderr
    first, *files = ended.stdout.splitlines()
    assert first.startswith("2 samples merged, 6 cells, ")
    assert len(files) == 12
    assert all(Path(file).is_file() for file in files)
    tables = [tmp_path / "results" / f"fov_00{fov}" / f"film_fov_00{fov}_traces.csv" for fov in (0, 2)]
    for name, text in oracle.merge("control", tables).items():
        assert (tmp_path / "merged" / name).read_text() == text
    said = ended.stderr.splitlines()
    assert all(line.startswith("pyama: ") for line in said)
    assert "pyama: 3 of 3 FOVs (100%), 2 of 2 samples" in said


def test_a_table_that_cannot_be_understood_ends_with_1(tmp_path: Path, prefect_api: str) -> None:
    write_table(tmp_path / "results", 0, table_text(0) + "0,x\n")
    write_samples_file(tmp_path / "samples.yaml", {"all": 0})
    ended = run_pyama(*arguments(tmp_path), environment={"PREFECT_API_URL": prefect_api})
    assert (ended.returncode, ended.stdout) == (1, "")
    last = ended.stderr.splitlines()[-1]
    assert "film_fov_000_traces.csv, row 7: expected 13 fields" in last
    assert last.endswith(f"nothing was written to {tmp_path / 'merged'}")


def test_all_mistakes_are_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(tmp_path / "results", range(2))
    write_samples_file(tmp_path / "samples.yaml", {"a": "0-1", "b": "1, 4", "../c": 0})
    said = mistake(capsys, *arguments(tmp_path))
    assert "samples.2.name: a sample name begins with a letter or digit" in said
    assert "overlap: FOV 1 in both" in said
    assert "there is no traces table of FOV 4" in said
    assert not (tmp_path / "merged").exists()


def test_a_missing_option_and_a_missing_file_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--output-dir" in mistake(capsys, "merge", "samples.yaml", "-i", tmp_path)
    assert "No such file or directory" in mistake(capsys, *arguments(tmp_path))


def test_mistakes_are_answered_before_any_engine_is_loaded(tmp_path: Path) -> None:
    program = (
        "import sys; from deployments.cli import main; code = main(sys.argv[1:]);"
        "print(code, *{'prefect', 'distributed', 'numba', 'pandas', 'pyarrow'} & sys.modules.keys())"
    )
    command = [sys.executable, "-c", program, *arguments(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.stdout.split() == ["2"]


def test_relative_paths_are_taken_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    request = merge_request(Path("samples.yaml"), Path("results"), Path("merged"), parquet=False)
    assert request.sample_yaml == f"{tmp_path}/samples.yaml"
    assert (request.input_dir, request.output_dir) == (f"{tmp_path}/results", f"{tmp_path}/merged")
