"""How far a run is: counted from what the tasks tell, and shown in the Prefect UI while it runs."""

import contextvars
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.progress import Progress, ProgressArtifact, RunProgress, Throttle, listening
from tests.engines import wait_until
from tests.flow_runs import Run, film, request, run, run_that_holds, task_runs
from tests.recordings import write_recording


def test_percentage_counts_frames() -> None:
    progress = Progress(fovs_done=1, n_fovs=4, frames_done=15, n_frames=40)
    assert progress.percentage == 37.5
    assert str(progress) == "1 of 4 FOVs finished, 15 of 40 frames"


def test_nothing_to_do_is_done() -> None:
    assert Progress(0, 0, 0, 0).percentage == 100.0


def test_throttle_lets_pass_once_in_an_interval() -> None:
    throttle = Throttle(1e6)
    assert [throttle.passes() for _ in range(3)] == [True, False, False]


def test_throttle_may_wait_for_the_first_interval() -> None:
    assert not Throttle(1e6, at_once=False).passes()


def test_throttle_of_no_interval_lets_everything_pass() -> None:
    throttle = Throttle(0)
    assert [throttle.passes() for _ in range(3)] == [True, True, True]


N_FOVS, N_FRAMES = 3, 10
told = st.lists(st.tuples(st.integers(0, N_FOVS - 1), st.integers(0, N_FRAMES), st.booleans()), max_size=30)


@given(told)
def test_progress_of_a_run_never_goes_back(events: list[tuple[int, int, bool]]) -> None:
    heard: list[Progress] = []
    progress = RunProgress(N_FOVS, N_FRAMES, ProgressArtifact("film"), listener=heard.append)
    for fov, n_frames, finished in events:
        if finished:
            progress.fov_finished(fov)
        else:
            progress.frames_done(fov, n_frames)
    assert len(heard) == len(events)
    for before, after in pairwise(heard):
        assert before.frames_done <= after.frames_done <= N_FOVS * N_FRAMES
        assert before.fovs_done <= after.fovs_done <= N_FOVS


def test_another_attempt_at_a_fov_is_not_counted_again() -> None:
    progress = RunProgress(N_FOVS, N_FRAMES, ProgressArtifact("film"))
    for n_frames in (1, 2, 3, 1, 2):
        progress.frames_done(0, n_frames)
    assert progress.now() == Progress(0, N_FOVS, 3, N_FOVS * N_FRAMES)


def test_a_finished_fov_counts_in_full() -> None:
    progress = RunProgress(N_FOVS, N_FRAMES, ProgressArtifact("film"))
    progress.frames_done(1, 4)
    progress.fov_finished(1)
    progress.fov_finished(1)
    progress.frames_done(1, 7)
    assert progress.now() == Progress(1, N_FOVS, N_FRAMES, N_FOVS * N_FRAMES)


@flow(name="move-bar")
def move_bar(key: str, *marks: float) -> None:
    artifact = ProgressArtifact("film", key=key)
    for mark in marks:
        artifact.show(mark, f"at {mark:g}", final=True)


def bars(key: str) -> list[tuple[object, str | None]]:
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])))
    return [(bar.data, bar.description) for bar in found]


def test_bar_moves_only_ahead(prefect_api: str) -> None:
    key = f"progress-{uuid4()}"
    move_bar(key, 40.0, 30.0)
    assert bars(key) == [(40.0, "film: at 30")]


@pytest.mark.filterwarnings("ignore:Artifact creation outside of a flow")
def test_bar_that_cannot_be_shown_does_not_stop_the_work(caplog: pytest.LogCaptureFixture) -> None:
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):
        ProgressArtifact("film").show(40.0, "halfway", final=True)
    assert "The progress of film could not be shown" in caplog.text


@pytest.mark.filterwarnings("ignore:Artifact creation outside of a flow")
def test_work_does_not_wait_for_a_server_that_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        api = f"http://127.0.0.1:{silent.getsockname()[1]}/api"
        began_s = time.monotonic()
        with temporary_settings({PREFECT_API_URL: api}):
            bar = ProgressArtifact("film", key="silent")
            for mark in range(100):
                bar.show(float(mark), f"at {mark}")
                time.sleep(0.02)
        assert time.monotonic() - began_s < 10.0


def test_listener_is_told_of_frames_while_they_are_computed(prefect_api: str, tmp_path: Path) -> None:
    recording = write_recording(tmp_path / "film.nd2", film(2, 150))
    heard: list[Progress] = []
    with listening(heard.append):
        run(request(recording, tmp_path / "out", n_workers=1, keep="none"))
    assert all(one.frames_done <= other.frames_done for one, other in pairwise(heard))
    assert heard[-1] == Progress(2, 2, 300, 300)
    assert [progress.fovs_done for progress in heard if 0 < progress.frames_done < 150] != []


def test_listener_is_told_of_what_was_finished_before(prefect_api: str, tmp_path: Path) -> None:
    recording = write_recording(tmp_path / "film.nd2", film(2, 3))
    run(request(recording, tmp_path / "out"))
    heard: list[Progress] = []
    with listening(heard.append):
        run(request(recording, tmp_path / "out"))
    assert heard[-1] == Progress(2, 2, 6, 6)


def test_nobody_is_told_after_listening_has_ended(prefect_api: str, tmp_path: Path) -> None:
    heard: list[Progress] = []
    with listening(heard.append):
        pass
    run(request(write_recording(tmp_path / "film.nd2", film(1, 1)), tmp_path / "out"))
    assert heard == []


def test_bars_of_the_run_and_of_its_fovs_move_while_it_runs(prefect_api: str, tmp_path: Path) -> None:
    recording = write_recording(tmp_path / "film.nd2", film(1, 5000))
    seen: dict[str, set[float]] = {}

    def look() -> bool:
        """Note where the bars are; true where those of a FOV and of the run have been seen on their way."""
        names = {task_run.id: name for name, task_run in task_runs(running.id).items()}
        for artifact in running.artifacts("progress"):
            name = names.get(artifact.task_run_id, "FOV") if artifact.task_run_id else "run"
            seen.setdefault(name, set()).add(float(str(artifact.data)))
        kinds = {name.split()[0] for name, marks in seen.items() if any(0 < mark < 100 for mark in marks)}
        return kinds == {"run", "FOV"}

    with ThreadPoolExecutor() as threads:
        asked = request(recording, tmp_path / "out", n_workers=1, keep="none")
        ended = threads.submit(contextvars.copy_context().run, run, asked)
        running = Run(run_that_holds(tmp_path / "out"))
        wait_until(lambda: look() or ended.done(), "both kinds of bars move")
        assert not ended.done()
        assert ended.result().state.is_completed()
    assert [artifact.data for artifact in running.artifacts("progress")] == [100.0] * 2
