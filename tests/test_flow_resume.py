"""Runs that are killed: the next one ends as if nothing had happened, and does nothing twice."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.output import verify
from tests.engines import wait_until, writes_fov
from tests.flow_runs import Elsewhere, EndedRun, film, request, run, run_that_holds
from tests.output_worker import content
from tests.recordings import write_recording

N_FOVS, N_FRAMES = 4, 60


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recording(tmp_path_factory.mktemp("recording") / "film.nd2", film(N_FOVS, N_FRAMES))


@pytest.fixture(scope="module")
def undisturbed(recording: Path, prefect_api: str) -> EndedRun:
    return run(request(recording, recording.parent / "undisturbed"))


@pytest.fixture(scope="module")
def elsewhere(prefect_api: str) -> Iterator[Elsewhere]:
    with Elsewhere() as program:
        yield program


def n_finished(output_dir: Path) -> int:
    return len(list(output_dir.glob("fov_*")))


def identities(output_dir: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in output_dir.glob("fov_*/*")}


@pytest.mark.parametrize("finished_before", [0, 1, N_FOVS - 1])
def test_killed_in_the_midst_of_a_fov_and_run_again(
    recording: Path, undisturbed: EndedRun, tmp_path: Path, elsewhere: Elsewhere, finished_before: int
) -> None:
    asked = request(recording, tmp_path / "out", n_workers=1)
    process = elsewhere.begin(asked)
    wait_until(
        lambda: n_finished(tmp_path / "out") >= finished_before and writes_fov(process),
        f"{finished_before} FOVs are finished and another is being computed",
    )
    os.kill(process, signal.SIGKILL)
    assert elsewhere.end() == -signal.SIGKILL
    kept = identities(tmp_path / "out")
    done = n_finished(tmp_path / "out")
    assert finished_before <= done < N_FOVS
    assert all(verify(directory) == [] for directory in (tmp_path / "out").glob("fov_*"))
    again = run(asked)
    assert again.state.is_completed()
    assert len(again.task_runs()) == N_FOVS - done
    assert content(tmp_path / "out") == content(undisturbed.output_dir)
    assert kept == {path: identity for path, identity in identities(tmp_path / "out").items() if path in kept}


def test_a_second_run_is_refused_and_a_terminated_one_leaves_nothing_half_written(
    recording: Path, undisturbed: EndedRun, tmp_path: Path, elsewhere: Elsewhere
) -> None:
    asked = request(recording, tmp_path / "out", n_workers=1)
    process = elsewhere.begin(asked)
    wait_until(lambda: writes_fov(process), "a FOV is being computed")
    os.kill(process, signal.SIGSTOP)  # so that it cannot end before the second run has begun
    holder = run_that_holds(tmp_path / "out")
    second = run(asked)
    os.kill(process, signal.SIGTERM)
    os.kill(process, signal.SIGCONT)
    assert elsewhere.end() == -signal.SIGTERM
    assert second.state.is_failed()
    assert second.message.startswith(f"{tmp_path}/out: folder in use by run {holder}")
    assert second.task_runs() == {}
    assert all(verify(directory) == [] for directory in (tmp_path / "out").glob("fov_*"))
    assert run(asked).state.is_completed()
    assert content(tmp_path / "out") == content(undisturbed.output_dir)
