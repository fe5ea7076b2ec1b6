"""Workers of a Dask cluster: which of them are given work, those that come and go, and what they log."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import distributed
import psutil  # type: ignore[import-untyped]  # distributed has it
import pytest
from prefect.context import SettingsContext
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.progress import Progress, listening
from flows.site import Site, join_run
from flows.versions import NUMBERS, SENDING, conflicts, installation
from tasks.output import OutputLock
from tests.engines import DaskProcesses, claiming_version, wait_until, writes_fov
from tests.flow_runs import EndedRun, Run, film, request, run, run_that_holds
from tests.namespaces import mount_namespace
from tests.output_worker import content
from tests.program import run_pyama
from tests.recordings import write_recording

N_FOVS, N_FRAMES = 4, 40


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recording(tmp_path_factory.mktemp("recording") / "film.nd2", film(N_FOVS, N_FRAMES))


@pytest.fixture(scope="module")
def undisturbed(recording: Path, prefect_api: str) -> EndedRun:
    return run(request(recording, recording.parent / "undisturbed", keep="labels"))


@pytest.fixture(scope="module")
def processes(prefect_api: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskProcesses]:
    with DaskProcesses(tmp_path_factory.mktemp("dask")) as processes:
        yield processes


@pytest.fixture
def scheduler(processes: DaskProcesses, monkeypatch: pytest.MonkeyPatch) -> DaskProcesses:
    """A scheduler without workers, to which the settings point; tests bring workers of their own."""
    monkeypatch.setenv("PYAMA_DASK_ADDRESS", processes.address)
    return processes


@contextmanager
def workers(
    scheduler: DaskProcesses,
    *names: str,
    environment: Mapping[str, str | None] | None = None,
    launcher: Sequence[str] = (),
) -> Iterator[None]:
    """Have workers within the block."""
    scheduler.start_workers(*names, environment=environment, launcher=launcher)
    try:
        yield
    finally:
        for name in names:
            scheduler.kill_worker(name)


@contextmanager
def meanwhile(act: Callable[[], object]) -> Iterator[None]:
    """Do something while the block goes on, and see that it was done."""
    with ThreadPoolExecutor() as threads:
        acting = threads.submit(act)
        yield
        acting.result()


def refusal(recording: Path, output_dir: Path) -> str:
    ended = run(request(recording, output_dir))
    assert ended.state.is_failed()
    assert not list(output_dir.glob("fov_*"))
    return ended.message


def computed_by(ended: EndedRun) -> set[str]:
    """Names of the workers that have computed its FOVs."""
    ended.logged("Finished in state Completed('")  # the last line
    marker = " is computed by the Dask worker "
    return {line.message.split(marker)[1].split()[0] for line in ended.log() if marker in line.message}


def test_a_worker_with_another_version_is_refused_at_start(
    recording: Path, scheduler: DaskProcesses, tmp_path: Path
) -> None:
    other = claiming_version(tmp_path / "other", "numpy", "1.26.4")
    with workers(scheduler, "right"), workers(scheduler, "old", environment=other):
        address = scheduler.worker_address("old")
        message = refusal(recording, tmp_path / "out")
    assert message == (
        f"The Dask worker old at {address} has other versions: numpy 1.26.4 there, {installation()['numpy']} here; "
        "install the same versions there, from the same constraints.txt, and start it again"
    )


def test_a_scheduler_with_another_version_is_refused(
    recording: Path, prefect_api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dask").mkdir()
    with DaskProcesses(tmp_path / "dask", environment=claiming_version(tmp_path, "cloudpickle", "2.0.0")) as processes:
        monkeypatch.setenv("PYAMA_DASK_ADDRESS", processes.address)
        message = refusal(recording, tmp_path / "out")
    assert message.startswith("The Dask scheduler has other versions: cloudpickle 2.0.0 there, ")


def test_a_worker_without_the_program_is_refused(recording: Path, scheduler: DaskProcesses, tmp_path: Path) -> None:
    # Wherever the program is installed, and in the folder that the worker starts in, it has `flows` otherwise.
    (tmp_path / "empty/flows").mkdir(parents=True)
    (tmp_path / "empty/flows/__init__.py").touch()
    missing = "raise ModuleNotFoundError(\"No module named 'flows.versions'\")\n"
    (tmp_path / "empty/flows/versions.py").write_text(missing)
    elsewhere = ("env", "--chdir", str(tmp_path / "empty"))
    with workers(scheduler, "bare", environment={"PYTHONPATH": str(tmp_path / "empty")}, launcher=elsewhere):
        message = refusal(recording, tmp_path / "out")
    assert message.startswith("The Dask worker bare at ")
    assert "cannot say what is installed there (ModuleNotFoundError(\"No module named 'flows.versions'\"))" in message


def test_what_differs_without_harm_is_told(recording: Path, scheduler: DaskProcesses, tmp_path: Path) -> None:
    with workers(scheduler, "near", environment=claiming_version(tmp_path, "pydantic", "2.0.1")):
        ended = run(request(recording, tmp_path / "out", fovs="0"))
    assert ended.state.is_completed()
    assert ended.logged("differs without harm: pydantic 2.0.1 there, ")


def run_in_two_parts(asked: Mapping[str, Any], between: Callable[[], object], until: str) -> EndedRun:
    """Run the flow, which stops after its first FOV, until something was done and its log holds a text."""
    stopped = False

    def listener(progress: Progress) -> None:
        nonlocal stopped
        if progress.fovs_done == 1 and not stopped:
            stopped = True
            between()
            Run(run_that_holds(Path(asked["output_dir"]))).logged(until)

    with listening(listener):
        ended = run(asked)
    assert stopped
    return ended


def test_a_worker_with_another_version_that_joins_later_computes_nothing(
    recording: Path, scheduler: DaskProcesses, tmp_path: Path
) -> None:
    other = claiming_version(tmp_path / "other", "scipy", "1.0.0")
    with workers(scheduler, "right"):
        ended = run_in_two_parts(
            request(recording, tmp_path / "out"),
            lambda: scheduler.start_workers("late", environment=other),
            until="It is given no work of this run",
        )
        scheduler.kill_worker("late")
    assert ended.state.is_completed()
    assert ended.logged("has other versions: scipy 1.0.0 there, ")
    assert computed_by(ended) == {"right"}


def test_a_worker_that_joins_later_is_given_work(recording: Path, scheduler: DaskProcesses, tmp_path: Path) -> None:
    with workers(scheduler, "early"):
        ended = run_in_two_parts(
            request(recording, tmp_path / "out"), lambda: scheduler.start_workers("late"), until=" has joined the run"
        )
        scheduler.kill_worker("late")
    assert ended.state.is_completed()
    assert computed_by(ended) == {"early", "late"}


def test_a_run_waits_for_the_first_worker(
    recording: Path, undisturbed: EndedRun, scheduler: DaskProcesses, tmp_path: Path
) -> None:
    def join() -> None:
        wait_until(lambda: (tmp_path / "out/.pyama.lock").exists(), "the run has begun")
        scheduler.start_workers("first")

    with meanwhile(join):
        ended = run(request(recording, tmp_path / "out", keep="labels"))
    scheduler.kill_worker("first")
    assert ended.state.is_completed()
    assert content(tmp_path / "out") == content(undisturbed.output_dir)


@pytest.mark.stack
def test_a_fov_goes_on_with_others_where_all_workers_have_gone(
    recording: Path, undisturbed: EndedRun, scheduler: DaskProcesses, tmp_path: Path
) -> None:
    scheduler.start_workers("only")

    def change() -> None:
        wait_until(lambda: writes_fov(scheduler.pid("only")), "the worker is at work")
        scheduler.kill_worker("only")
        scheduler.start_workers("next")

    with meanwhile(change):
        ended = run(request(recording, tmp_path / "out", keep="labels"))
    scheduler.kill_worker("next")
    assert ended.state.is_completed()
    assert content(tmp_path / "out") == content(undisturbed.output_dir)


async def _leave(dask_worker: distributed.Worker) -> None:
    await dask_worker.close_gracefully()


def test_a_worker_retires_in_the_midst_of_a_fov(
    recording: Path, undisturbed: EndedRun, scheduler: DaskProcesses, tmp_path: Path
) -> None:
    """As a batch system's workers do before their time is over."""

    def retire() -> None:
        wait_until(lambda: writes_fov(scheduler.pid("tired")), "the worker is at work")
        scheduler.client.run(_leave, workers=[scheduler.worker_address("tired")], wait=False)

    with workers(scheduler, "tired", "tireless"), meanwhile(retire):
        ended = run(request(recording, tmp_path / "out", keep="labels"))
    assert ended.state.is_completed()
    assert content(tmp_path / "out") == content(undisturbed.output_dir)
    assert {task_run.state_name for task_run in ended.task_runs().values()} == {"Completed"}


_HIDDEN = 'mount -t tmpfs tmpfs "$1" || exit; shift; exec "$@"'
_READ_ONLY = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" || exit; shift; exec "$@"'


def on_other_storage(script: str, folder: Path) -> list[str]:
    """Launcher of a process for which something else is mounted at a folder."""
    return [*mount_namespace(), "sh", "-c", script, "sh", str(folder)]


@pytest.mark.parametrize(
    ("script", "where", "told"),
    [
        pytest.param(
            _HIDDEN,
            "storage",
            "does not see the output folder {out}; mount the storage there under the same path",
            marks=pytest.mark.stack,
        ),
        pytest.param(
            _HIDDEN,
            "storage/out",
            "sees another folder as {out}: the run's .pyama.lock is not in it; mount the same",
            marks=pytest.mark.stack,
        ),
        (_HIDDEN, "recordings", "does not see the recording: {recording}: there is no such file; mount the storage"),
        pytest.param(
            _READ_ONLY,
            "storage",
            "cannot write to the output folder {out}: Read-only file system; run the worker as",
            marks=pytest.mark.stack,
        ),
    ],
)
def test_a_worker_that_does_not_see_the_storage_is_refused_at_start(
    scheduler: DaskProcesses, tmp_path: Path, script: str, where: str, told: str
) -> None:
    out = tmp_path / "storage/out"
    out.mkdir(parents=True)
    (tmp_path / "recordings").mkdir()
    recording = write_recording(tmp_path / "recordings/film.nd2", film(1, 2))
    with workers(scheduler, "blind", launcher=on_other_storage(script, tmp_path / where)):
        message = refusal(recording, out)
    assert message.startswith("The Dask worker blind at tcp://127.0.0.1:")
    assert told.format(out=out, recording=recording) in message


@pytest.mark.stack
def test_a_worker_that_reads_another_recording_is_refused_at_start(scheduler: DaskProcesses, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    recording = write_recording(tmp_path / "here/film.nd2", film(1, 2))
    write_recording(tmp_path / "there/film.nd2", film(1, 3))
    script = f'mount --bind "{tmp_path / "there"}" "$1" || exit; shift; exec "$@"'
    with workers(scheduler, "astray", launcher=on_other_storage(script, tmp_path / "here")):
        message = refusal(recording, tmp_path / "out")
    assert f"sees another file as {recording}; mount the same storage there" in message


def test_a_worker_that_does_not_reach_prefect_says_so(prefect_api: str, tmp_path: Path) -> None:
    with OutputLock(tmp_path, "this-run"), temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        context = SettingsContext.get()
        assert context is not None
        (problem,) = asyncio.run(join_run(Site("this-run", tmp_path), context.serialize()))
    assert problem.startswith("does not reach the Prefect API at http://127.0.0.1:9/api: ConnectError")
    assert "set PREFECT_API_URL of the run to an address that workers reach" in problem


@pytest.mark.stack
def test_workers_on_this_machine_reach_the_server_that_a_run_brings_itself(
    recording: Path, undisturbed: EndedRun, scheduler: DaskProcesses, tmp_path: Path
) -> None:
    bare = without_prefect(tmp_path) | {"PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    with workers(scheduler, "near", environment=without_prefect(tmp_path / "another")):
        ended = run_pyama(
            "process", recording, "-o", tmp_path / "out", "--phase", "0:area", "--fluorescence", "1:intensity_total",
            "--set", "border_margin=2", "--set", "min_frames=1", "--set", "keep=labels",
            environment=bare | {"PYAMA_DASK_ADDRESS": scheduler.address},
        )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert content(tmp_path / "out") == content(undisturbed.output_dir)


def test_no_line_is_lost_with_a_worker_that_is_killed_right_after_a_fov(
    recording: Path, scheduler: DaskProcesses, tmp_path: Path
) -> None:
    def kill(progress: Progress) -> None:
        if progress.fovs_done == 1:
            process.send_signal(signal.SIGKILL)

    scheduler.start_workers("doomed", environment=without_prefect(tmp_path))
    address = scheduler.worker_address("doomed")
    process = psutil.Process(scheduler.pid("doomed"))
    with listening(kill):
        ended = run(request(recording, tmp_path / "out", fovs="2"))
    scheduler.kill_worker("doomed")
    assert ended.state.is_completed()
    (task_run,) = ended.task_runs().values()
    assert task_run.state_name == "Completed"
    ended.logged("Finished in state Completed('1 FOVs finished")
    lines = {line.message for line in ended.log() if line.task_run_id == task_run.id}
    assert lines == {
        f"FOV 2 is computed by the Dask worker doomed at {address}",
        "Finished in state Completed()",
    }


def without_prefect(home: Path) -> dict[str, str | None]:
    """Environment of a process that knows nothing of Prefect's server; its home is empty."""
    return {name: None for name in os.environ if name.startswith("PREFECT_")} | {"HOME": str(home)}


def test_what_has_to_agree() -> None:
    here: dict[str, Any] = dict(installation())
    assert conflicts(here, dict(here), (*SENDING, *NUMBERS)) == []
    there = {**here, "python": "3.9", "sources of pyama-backend": "0", "science version": "0"}
    del there["nd2"]
    assert conflicts(here, there, (*SENDING, *NUMBERS)) == [
        f"python 3.9 there, {here['python']} here",
        f"sources of pyama-backend 0 there, {here['sources of pyama-backend']} here",
        f"science version 0 there, {here['science version']} here",
        f"nd2 unknown there, {here['nd2']} here",
    ]
    assert "missing" not in here.values()
