"""One and the same run on every engine: threads of this process, a local cluster, and an existing cluster."""

import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.engines import DaskProcesses
from tests.flow_runs import EndedRun, film, request, run
from tests.output_worker import content
from tests.recordings import write_recording

N_FOVS, N_FRAMES = 4, 6
LOCAL_CLUSTER = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recording(tmp_path_factory.mktemp("recording") / "film.nd2", film(N_FOVS, N_FRAMES))


@pytest.fixture(scope="module")
def undisturbed(recording: Path, prefect_api: str) -> EndedRun:
    """One FOV after the other, in a thread of this process."""
    return run(request(recording, recording.parent / "undisturbed", n_workers=1, batch_size=1))


@pytest.fixture(scope="module", params=["threads", "local cluster", "existing cluster"])
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """Settings that name an engine."""
    with pytest.MonkeyPatch.context() as environment:
        if request.param == "local cluster":
            environment.setenv("PYAMA_DASK_CLUSTER_CLASS", "distributed.LocalCluster")
            environment.setenv("PYAMA_DASK_CLUSTER_KWARGS", json.dumps(LOCAL_CLUSTER))
        if request.param == "existing cluster":
            dask_processes: DaskProcesses = request.getfixturevalue("dask_processes")
            environment.setenv("PYAMA_DASK_ADDRESS", dask_processes.address)
        yield request.param


@pytest.fixture(scope="module")
def finished(engine: str, recording: Path, prefect_api: str) -> EndedRun:
    """A run on that engine."""
    return run(request(recording, recording.parent / engine, n_workers=2, batch_size=3))


def test_run_is_completed_with_a_message(finished: EndedRun) -> None:
    assert finished.state.is_completed()
    assert finished.message == f"{N_FOVS} FOVs finished, {N_FOVS} cells"
    assert finished.flow_run().state_name == "Completed"


def test_run_bears_the_name_of_the_recording(finished: EndedRun) -> None:
    assert finished.flow_run().name == "film.nd2"


def test_parameters_of_the_run_are_on_record(finished: EndedRun, recording: Path) -> None:
    assert finished.flow_run().parameters == request(recording, finished.output_dir, n_workers=2, batch_size=3)


def test_one_task_run_for_each_fov(finished: EndedRun) -> None:
    task_runs = finished.task_runs()
    assert sorted(task_runs) == [f"FOV {fov}" for fov in range(N_FOVS)]
    assert {task_run.state_name for task_run in task_runs.values()} == {"Completed"}
    assert {task_run.run_count for task_run in task_runs.values()} == {1}


def test_at_most_batch_size_task_runs_at_a_time(finished: EndedRun) -> None:
    task_runs = list(finished.task_runs().values())
    for one in task_runs:
        assert one.start_time is not None
        at_the_time = [
            other
            for other in task_runs
            if other.start_time and other.end_time and other.start_time <= one.start_time < other.end_time
        ]
        assert len(at_the_time) <= 3


def test_table_of_fovs(finished: EndedRun) -> None:
    rows = finished.table()
    assert [row["FOV"] for row in rows] == list(range(N_FOVS))
    assert [row["cells"] for row in rows] == [1] * N_FOVS
    assert all(row["seconds"] >= 0 and row["warnings"] == "" for row in rows)


def test_progress_of_each_fov_has_come_to_its_end(finished: EndedRun) -> None:
    ids = {task_run.id: name for name, task_run in finished.task_runs().items()}
    shown = {
        ids[artifact.task_run_id]: artifact
        for artifact in finished.artifacts("progress")
        if artifact.task_run_id is not None
    }
    assert sorted(shown) == sorted(ids.values())
    for name, artifact in shown.items():
        assert artifact.data == 100.0
        assert artifact.description == f"{name}: {N_FRAMES} of {N_FRAMES} frames"


def test_progress_of_the_run_has_come_to_its_end(finished: EndedRun) -> None:
    (artifact,) = (artifact for artifact in finished.artifacts("progress") if artifact.task_run_id is None)
    assert artifact.key == f"progress-{finished.id}"
    assert artifact.data == 100.0
    frames = N_FOVS * N_FRAMES
    assert artifact.description == (f"film.nd2: {N_FOVS} of {N_FOVS} FOVs finished, {frames} of {frames} frames")


def test_files_are_the_same_bytes_on_every_engine(finished: EndedRun, undisturbed: EndedRun) -> None:
    assert content(finished.output_dir) == content(undisturbed.output_dir)


def test_files_are_the_same_bytes_where_idle_workers_take_frames(
    recording: Path,
    undisturbed: EndedRun,
    tmp_path: Path,
    dask_processes: DaskProcesses,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYAMA_DASK_ADDRESS", dask_processes.address)
    assert run(request(recording, tmp_path / "out", batch_size=1)).state.is_completed()
    assert content(tmp_path / "out") == content(undisturbed.output_dir)


def test_files_are_the_same_bytes_where_idle_threads_take_frames(
    recording: Path, undisturbed: EndedRun, tmp_path: Path
) -> None:
    assert run(request(recording, tmp_path / "out", n_workers=2, batch_size=1)).state.is_completed()
    assert content(tmp_path / "out") == content(undisturbed.output_dir)


def test_output_folder_holds_every_fov_and_nothing_unfinished(undisturbed: EndedRun) -> None:
    assert sorted(path.name for path in undisturbed.output_dir.iterdir()) == [
        ".pyama.lock",
        *(f"fov_{fov:03d}" for fov in range(N_FOVS)),
        "processing_config.yaml",
        "processing_results.yaml",
    ]
    index = yaml.safe_load((undisturbed.output_dir / "processing_results.yaml").read_text())
    assert list(index["results"]) == [str(fov) for fov in range(N_FOVS)]


def test_table_of_traces_holds_the_cell_in_every_frame(undisturbed: EndedRun) -> None:
    for fov in range(N_FOVS):
        traces = pd.read_csv(undisturbed.output_dir / f"fov_{fov:03d}/film_fov_{fov:03d}_traces.csv")
        assert traces["fov"].tolist() == [fov] * N_FRAMES
        assert traces["frame"].tolist() == list(range(N_FRAMES))
        assert traces["intensity_total_ch_1"].is_monotonic_increasing


@pytest.mark.parametrize("keep", ["labels", "none"])
def test_traces_are_the_same_bytes_whatever_is_kept(
    recording: Path, undisturbed: EndedRun, tmp_path: Path, keep: str
) -> None:
    assert run(request(recording, tmp_path / "out", keep=keep)).state.is_completed()

    def tables(folder: Path) -> dict[str, bytes]:
        return {name: data for name, data in content(folder).items() if name.endswith("_traces.csv")}

    assert tables(tmp_path / "out") == tables(undisturbed.output_dir)
    assert len(tables(tmp_path / "out")) == N_FOVS


def test_only_the_fovs_that_are_asked_for(recording: Path, undisturbed: EndedRun, tmp_path: Path) -> None:
    selected = run(request(recording, tmp_path / "out", fovs="1, 3"))
    assert selected.message == "2 FOVs finished, 2 cells"
    assert sorted(selected.task_runs()) == ["FOV 1", "FOV 3"]
    whole = content(undisturbed.output_dir)
    part = {name: data for name, data in content(tmp_path / "out").items() if name.startswith("fov_")}
    assert part == {name: data for name, data in whole.items() if name.startswith(("fov_001", "fov_003"))}


def test_repeated_run_computes_nothing(recording: Path, undisturbed: EndedRun) -> None:
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in undisturbed.output_dir.glob("fov_*/*")}
    again = run(request(recording, undisturbed.output_dir))
    assert again.message == f"{N_FOVS} FOVs finished, {N_FOVS} cells"
    assert again.task_runs() == {}
    assert [row["cells"] for row in again.table()] == [1] * N_FOVS
    assert before == {
        path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in undisturbed.output_dir.glob("fov_*/*")
    }
