"""FOVs that fail: the others do not notice, what passes by is tried again, what is wrong is not."""

import errno
from pathlib import Path

import numpy as np
import pytest
import yaml

from tasks.errors import OutputError, PyamaError, RecordingError
from tasks.fov_job import is_transient
from tasks.output import verify
from tests.engines import wait_until
from tests.flow_runs import Elsewhere, EndedRun, film, request, run, run_that_holds, task_runs
from tests.namespaces import mount_namespace
from tests.output_worker import content
from tests.recordings import write_recording


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory, prefect_api: str) -> EndedRun:
    """A run on a recording of four FOVs, of which two lack a frame."""
    folder = tmp_path_factory.mktemp("broken")
    recording = write_recording(folder / "film.nd2", film(4, 4), missing={(1, 2), (3, 0)})
    return run(request(recording, folder / "out"))


def test_message_names_the_fovs_that_failed_and_the_first_reason(broken: EndedRun) -> None:
    assert broken.state.is_failed()
    assert broken.message.startswith("2 of 4 FOVs failed (1, 3); FOV 1: ")
    assert "frame 2" in broken.message
    assert "film.nd2" in broken.message


def test_other_fovs_are_finished(broken: EndedRun) -> None:
    directories = sorted(path for path in broken.output_dir.iterdir() if path.is_dir())
    assert [path.name for path in directories] == ["fov_000", "fov_002"]
    assert [verify(path) for path in directories] == [[], []]


def test_index_lists_what_is_finished(broken: EndedRun) -> None:
    index = yaml.safe_load((broken.output_dir / "processing_results.yaml").read_text())
    assert list(index["results"]) == ["0", "2"]


def test_table_of_fovs_tells_the_reason(broken: EndedRun) -> None:
    rows = broken.table()
    assert [row["cells"] for row in rows] == [1, None, 1, None]
    assert rows[0]["warnings"] == ""
    assert rows[1]["warnings"].startswith("failed: ")
    assert "frame 2" in rows[1]["warnings"]
    assert "frame 0" in rows[3]["warnings"]


def test_task_runs_of_broken_fovs_are_failed_and_not_retried(broken: EndedRun) -> None:
    task_runs = broken.task_runs()
    states = {name: task_run.state_name for name, task_run in task_runs.items()}
    assert states == {"FOV 0": "Completed", "FOV 1": "Failed", "FOV 2": "Completed", "FOV 3": "Failed"}
    assert {task_run.run_count for task_run in task_runs.values()} == {1}
    assert task_runs["FOV 1"].state is not None
    assert "frame 2" in (task_runs["FOV 1"].state.message or "")


def test_progress_of_a_failed_run_stays_below_its_end(broken: EndedRun) -> None:
    (artifact,) = (artifact for artifact in broken.artifacts("progress") if artifact.task_run_id is None)
    assert artifact.data == 50.0
    assert artifact.description == "film.nd2: 2 of 4 FOVs finished, 8 of 16 frames"


def test_log_tells_of_each_fov_that_failed(broken: EndedRun) -> None:
    assert broken.logged("FOV 1 failed: ")
    assert broken.logged("FOV 3 failed: ")


def test_a_pixel_that_is_not_a_number(tmp_path: Path, prefect_api: str) -> None:
    images = film(2, 3, np.float32)
    images[0, 1, 1, 5, 6] = np.nan
    ended = run(request(write_recording(tmp_path / "film.nd2", images), tmp_path / "out"))
    assert ended.state.is_failed()
    assert ended.message.startswith("1 of 2 FOVs failed (0); FOV 0: FOV 0, frame 1: channel 1: ")
    assert [path.name for path in (tmp_path / "out").glob("fov_*")] == ["fov_001"]
    assert ended.task_runs()["FOV 0"].run_count == 1


def test_every_fov_fails(tmp_path: Path, prefect_api: str) -> None:
    recording = write_recording(tmp_path / "film.nd2", film(2, 2), missing={(0, 0), (1, 1)})
    ended = run(request(recording, tmp_path / "out"))
    assert ended.message.startswith("2 of 2 FOVs failed (0, 1); FOV 0: ")
    assert yaml.safe_load((tmp_path / "out/processing_results.yaml").read_text())["results"] == {}


_IN_THE_WAY = """
mkdir -p "$1/fov_000" && mount -t tmpfs tmpfs "$1/fov_000" || exit
(until [ -e "$2" ]; do sleep 0.02; done; umount "$1/fov_000") &
shift 2
exec "$@"
"""
"""Something is mounted where a FOV belongs, so that its directory cannot be put in place, until a file appears."""


def test_what_passes_by_is_tried_again(tmp_path: Path, prefect_api: str) -> None:
    recording = write_recording(tmp_path / "film.nd2", film(2, 3))
    assert run(request(recording, tmp_path / "undisturbed")).state.is_completed()
    out, way_is_free = tmp_path / "out", tmp_path / "way is free"
    with Elsewhere(*mount_namespace(), "sh", "-c", _IN_THE_WAY, "sh", str(out), str(way_is_free)) as program:
        program.begin(request(recording, out))
        run_id = run_that_holds(out)
        wait_until(
            lambda: "AwaitingRetry" in {task_run.state_name for task_run in task_runs(run_id).values()},
            "a FOV waits to be tried again",
        )
        way_is_free.touch()
        assert program.end() == 0
    wait_until(
        lambda: {task_run.state_name for task_run in task_runs(run_id).values()} == {"Completed"},
        "Prefect knows how the task runs ended",
    )
    assert {name: task_run.run_count for name, task_run in task_runs(run_id).items()} == {"FOV 0": 2, "FOV 1": 1}
    assert content(out) == content(tmp_path / "undisturbed")


def caused(error: PyamaError, cause: BaseException) -> PyamaError:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (OSError(errno.EIO, "input/output error"), True),
        (OSError(errno.ESTALE, "stale file handle"), True),
        (ConnectionResetError(errno.ECONNRESET, "connection reset"), True),
        (caused(OutputError("cannot write"), OSError(errno.ETIMEDOUT, "timed out")), True),
        (caused(RecordingError("broken"), caused(RecordingError("broken"), OSError(errno.EMFILE, "too many"))), True),
        (OSError(errno.ENOENT, "no such file"), False),
        (PermissionError(errno.EACCES, "permission denied"), False),
        (caused(OutputError("disk full"), OSError(errno.ENOSPC, "no space left")), False),
        (OutputError("cannot write"), False),
        (RecordingError("broken"), False),
        (ValueError("a bug"), False),
    ],
)
def test_what_is_worth_another_attempt(error: BaseException, transient: bool) -> None:
    assert is_transient(error) is transient
