"""The flow that merges samples: what it leaves, what it tells, and what it refuses."""

from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.objects import State

from flows.merge import MergeProgress, merge_samples
from flows.progress import listening
from flows.stopping import TIMEOUT_VARIABLE
from tasks.output import LOCK_FILE, OutputLock
from tasks.output.layout import MERGE_ATTEMPT, temporary_name
from tests.flow_runs import EndedRun
from tests.oracles import merge as oracle
from tests.tables import merge_request, write_folder

pytestmark = pytest.mark.usefixtures("prefect_api")


def run(folder: Path, samples: Any, **fields: Any) -> EndedRun:
    """Run the flow here and now."""
    asked = merge_request(folder, samples, **fields).model_dump()
    state: State[Any] = merge_samples(**asked, return_state=True)
    run_id = state.state_details.flow_run_id
    assert run_id is not None
    return EndedRun(run_id, state, Path(asked["output_dir"]))


def test_a_merge_leaves_its_files_and_tells_of_them(tmp_path: Path) -> None:
    write_folder(tmp_path / "results", range(4))
    heard: list[MergeProgress] = []
    with listening(heard.append):
        ended = run(tmp_path, {"control": "0-1, 3", "drug": 2})
    assert ended.state.is_completed()
    assert ended.message == "2 samples merged, 8 cells"
    tables = [tmp_path / "results" / f"fov_00{fov}" / f"film_fov_00{fov}_traces.csv" for fov in (0, 1, 3)]
    for name, text in oracle.merge("control", tables).items():
        assert (ended.output_dir / name).read_text() == text
    names = {path.name for path in ended.output_dir.iterdir()} - {LOCK_FILE}
    assert ended.table() == [
        {"sample": "control", "FOVs": 3, "cells": 6, "rows": 18, "files": _files(names, "control")},
        {"sample": "drug", "FOVs": 1, "cells": 2, "rows": 6, "files": _files(names, "drug")},
    ]
    assert [(told.samples_done, told.fovs_done) for told in heard] == [(0, 1), (0, 2), (1, 3), (2, 4)]
    (progress,) = ended.artifacts("progress")
    assert progress.data == 100.0
    assert progress.metadata_ == {"done": "2", "total": "2"}
    assert ended.logged("control: 3 FOVs, 6 cells, 18 rows")


def _files(names: set[str], sample: str) -> str:
    ours = {name for name in names if name.startswith(f"{sample}_")}
    assert len(ours) == 3
    merged = f"{sample}_merged.csv"
    return ", ".join([merged, *sorted(ours - {merged})])


def test_what_is_wrong_is_told_and_nothing_is_written(tmp_path: Path) -> None:
    write_folder(tmp_path / "results", range(2))
    ended = run(tmp_path, {"a": "0-1", "b": "1, 7"})
    assert ended.state.is_failed()
    assert "samples 'a' and 'b' overlap: FOV 1 in both" in ended.message
    assert "sample 'b': there is no traces table of FOV 7" in ended.message
    assert not ended.output_dir.exists()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"sample_yaml": "samples.yaml"}, "sample_yaml: must be an absolute path"),
        ({"parquet": "yes"}, "parquet: Input should be a valid boolean"),
    ],
)
def test_a_wrong_request_is_told(tmp_path: Path, fields: dict[str, Any], said: str) -> None:
    asked = {**merge_request(tmp_path, {"a": 0}).model_dump(), **fields}
    state: State[Any] = merge_samples(**asked, return_state=True)
    assert state.is_failed()
    assert said in (state.message or "")


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "results", range(1))
    (tmp_path / "merged").mkdir()
    with OutputLock(tmp_path / "merged", "another run"):
        ended = run(tmp_path, {"a": 0})
    assert ended.state.is_failed()
    assert "folder in use by run another run" in ended.message


def test_what_a_killed_merge_left_is_cleared_away(tmp_path: Path) -> None:
    write_folder(tmp_path / "results", range(1))
    left = tmp_path / "merged" / temporary_name(MERGE_ATTEMPT)
    left.mkdir(parents=True)
    (left / "a_merged.csv").write_text("half")
    ended = run(tmp_path, {"a": 0})
    assert ended.state.is_completed()
    assert not left.exists()


def test_a_merge_that_takes_too_long_fails_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "results", range(1))
    monkeypatch.setenv(TIMEOUT_VARIABLE, "1e-9")
    ended = run(tmp_path, {"a": 0})
    assert ended.state.is_failed()
    assert TIMEOUT_VARIABLE in ended.message
    assert [path.name for path in ended.output_dir.iterdir()] == [LOCK_FILE]
