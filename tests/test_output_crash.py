"""What stays when processes are killed: locks are released, and the next run ends as if nothing had happened."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from tasks.errors import OutputBusyError, OutputError
from tasks.output import (
    FovDirectory,
    OutputLock,
    check_folder,
    finished_manifest,
    read_manifest,
    remove_leftovers,
    verify,
)
from tasks.output.lock import lock_holder
from tests.output_worker import content, make_provenance, run, write_fov

ROOT = Path(__file__).parents[1]
DEADLINE_S = 30.0


class Worker:
    """A program of one thread that does each job in a child of its own."""

    def __init__(self, stdin: IO[str], stdout: IO[str]) -> None:
        self._stdin, self._stdout = stdin, stdout

    def begin(self, kind: str, output_dir: Path, **job: Any) -> int:
        """Number of the process that does the job."""
        self._stdin.write(json.dumps({"kind": kind, "output_dir": str(output_dir), **job}) + "\n")
        self._stdin.flush()
        return int(self._stdout.readline())

    def end(self) -> int:
        """Signal that ended the process; 0 where it ended by itself, and well."""
        status = int(self._stdout.readline())
        if os.WIFSIGNALED(status):
            return os.WTERMSIG(status)
        assert os.WEXITSTATUS(status) == 0
        return 0


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.output_worker"],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        yield Worker(process.stdin, process.stdout)
        process.stdin.close()


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"


def assert_nothing_half_written_counts(output_dir: Path) -> None:
    for directory in output_dir.glob("fov_*"):
        assert verify(directory) == []


@pytest.mark.parametrize("seed", range(12))
def test_killed_at_a_random_moment_and_run_again(tmp_path: Path, worker: Worker, seed: int) -> None:
    run(tmp_path / "undisturbed", [0, 1])
    out = tmp_path / "out"
    child = worker.begin("run", out, fovs=[0, 1], pause=0.002)
    wait_for(out)
    moment = time.monotonic() + np.random.default_rng(seed).uniform(0, 0.06)
    while time.monotonic() < moment:
        pass
    with suppress(ProcessLookupError):  # a fast machine has ended the run by then
        os.kill(child, signal.SIGKILL)
    assert worker.end() in (0, signal.SIGKILL)
    assert_nothing_half_written_counts(out)
    done = {path: path.stat().st_ino for path in out.glob("fov_*/*")}
    run(out, [0, 1])
    assert content(out) == content(tmp_path / "undisturbed")
    assert {path: path.stat().st_ino for path in done} == done


def test_killed_before_each_change_of_a_run_and_run_again(tmp_path: Path, worker: Worker) -> None:
    run(tmp_path / "undisturbed", [0])
    n_killed = 0
    while True:
        out = tmp_path / "out"
        worker.begin("run", out, fovs=[0], kill_at=n_killed + 1)
        if worker.end() == 0:
            break
        n_killed += 1
        if out.exists():
            assert_nothing_half_written_counts(out)
        run(out, [0])
        assert content(out) == content(tmp_path / "undisturbed")
        shutil.rmtree(out)
    assert n_killed > 15


def test_killed_before_each_change_of_a_replacement(tmp_path: Path, worker: Worker) -> None:
    old, new = make_provenance(), make_provenance(min_frames=10)
    (tmp_path / "new").mkdir()
    write_fov(tmp_path / "new", 0, new)
    n_killed, ended_with = 0, set()
    while True:
        out = tmp_path / "out"
        out.mkdir()
        write_fov(out, 0, old)
        worker.begin("replace", out, fov=0, parameters={"min_frames": 10}, kill_at=n_killed + 1)
        if worker.end() == 0:
            break
        n_killed += 1
        remove_leftovers(out)
        assert [path.name for path in out.iterdir()] == ["fov_000"]
        assert_nothing_half_written_counts(out)
        manifest = read_manifest(out / "fov_000")
        assert manifest is not None
        ended_with.add(manifest.fingerprint)
        write_fov(out, 0, new, replace=True)
        assert content(out) == content(tmp_path / "new")
        shutil.rmtree(out)
    assert ended_with == {old.fingerprint, new.fingerprint}


def test_a_second_process_is_told_who_holds_the_folder(tmp_path: Path, worker: Worker) -> None:
    child = worker.begin("hold", tmp_path, run_id="run-7")
    wait_for(tmp_path / "held")
    try:
        assert lock_holder(tmp_path) == "run-7"
        with pytest.raises(OutputBusyError, match="folder in use by run run-7"), OutputLock(tmp_path, "run-8"):
            pass
        with pytest.raises(OutputBusyError, match="folder in use by run run-7"):
            check_folder(tmp_path, make_provenance(), [0])
        assert json.loads((tmp_path / ".pyama.lock").read_text()) == {"pid": child, "run": "run-7"}
    finally:
        os.kill(child, signal.SIGKILL)
        assert worker.end() == signal.SIGKILL


def test_death_releases_the_folder(tmp_path: Path, worker: Worker) -> None:
    child = worker.begin("hold", tmp_path, run_id="run-7")
    wait_for(tmp_path / "held")
    os.kill(child, signal.SIGKILL)
    worker.end()
    assert lock_holder(tmp_path) is None
    with OutputLock(tmp_path, "run-8"):
        assert lock_holder(tmp_path) == "run-8"


def test_a_lock_on_a_file_that_was_removed_meanwhile_is_not_taken_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / ".pyama.lock"
    really_open = os.open
    removed: list[Path] = []

    def open_and_lose(name: str | Path, *arguments: Any) -> int:
        descriptor = really_open(name, *arguments)
        if not removed:  # the holder before removes the file between our opening and our locking
            removed.append(path)
            path.unlink()
        return descriptor

    monkeypatch.setattr(os, "open", open_and_lose)
    with OutputLock(tmp_path, "run-9"):
        monkeypatch.undo()
        assert removed
        assert lock_holder(tmp_path) == "run-9"


def test_the_lock_file_stays_and_is_empty_when_nobody_holds_it(tmp_path: Path) -> None:
    with OutputLock(tmp_path, "run-1"):
        inode = (tmp_path / ".pyama.lock").stat().st_ino
    assert (tmp_path / ".pyama.lock").read_text() == ""
    with OutputLock(tmp_path, "run-2"):
        assert (tmp_path / ".pyama.lock").stat().st_ino == inode


def test_the_end_of_a_run_releases_the_folder_although_a_program_it_started_goes_on(tmp_path: Path) -> None:
    with OutputLock(tmp_path, "run-1"):
        program = subprocess.Popen(
            [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, close_fds=False
        )
    with program:
        assert lock_holder(tmp_path) is None
        program.kill()


def test_one_process_cannot_hold_the_folder_twice(tmp_path: Path) -> None:
    with (
        OutputLock(tmp_path, "run-1"),
        pytest.raises(OutputBusyError, match="run-1"),
        OutputLock(tmp_path, "run-2"),
    ):
        pass


def test_a_writer_whose_run_is_dead_cannot_put_a_half_emptied_directory_in_place(tmp_path: Path) -> None:
    provenance = make_provenance()
    with FovDirectory(tmp_path, 0, provenance) as directory:
        directory.write_text(directory.layout.traces, ["fov\n"])
        remove_leftovers(tmp_path)
        with pytest.raises(OutputError, match="disappeared"):
            directory.commit(n_cells=0)
    assert finished_manifest(tmp_path, 0, provenance.fingerprint) is None
    assert list(tmp_path.iterdir()) == []


def test_a_later_attempt_of_a_run_waits_for_the_end_of_an_earlier_one(tmp_path: Path, worker: Worker) -> None:
    child = worker.begin("hold", tmp_path, run_id="run-7")
    wait_for(tmp_path / "held")
    killing = threading.Timer(0.5, os.kill, (child, signal.SIGKILL))
    killing.start()
    with OutputLock(tmp_path, "run-7"):
        assert json.loads((tmp_path / ".pyama.lock").read_text())["pid"] == os.getpid()
    killing.join()
    assert worker.end() == signal.SIGKILL
