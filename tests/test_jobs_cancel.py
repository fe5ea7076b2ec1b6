"""Stopping jobs: the work really ends, finished FOVs stay, and the next run ends as if nothing had happened."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tasks.configuration import WorkflowRequest
from tasks.fov_job import FovJob
from tasks.output import verify
from tasks.plan import make_plan
from tests.engines import DaskProcesses, wait_until, writes_fov
from tests.flow_runs import film
from tests.output_worker import content
from tests.recordings import write_recording
from tests.stack import Client, RunningStack, asked, children, is_alive, is_computing

pytestmark = pytest.mark.stack

N_FOVS, N_FRAMES = 10, 600
CANCEL_S = 10.0
"""Time within which a job has to be cancelled."""


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recording(tmp_path_factory.mktemp("recording") / "film.nd2", film(N_FOVS, N_FRAMES))


@pytest.fixture(scope="module")
def undisturbed(recording: Path) -> dict[str, bytes]:
    """Files of all FOVs, computed here, without any orchestrator."""
    output_dir = recording.parent / "undisturbed"
    output_dir.mkdir()
    plan = make_plan(WorkflowRequest.parse(**asked(recording, output_dir)))
    for fov in plan.fovs:
        FovJob.of(plan).run(fov)
    return fov_files(output_dir)


def fov_files(output_dir: Path) -> dict[str, bytes]:
    return {name: data for name, data in content(output_dir).items() if name.startswith("fov_")}


def unfinished(output_dir: Path) -> list[str]:
    return [path.name for path in output_dir.iterdir() if path.name.endswith((".tmp", ".old"))]


def test_cancelled_in_the_midst_of_a_fov_and_started_again(
    stack: RunningStack, recording: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    request = asked(recording, out, n_workers=1)
    job_id = stack.client.start(request)
    stack.client.watch(job_id, lambda status: status["progress"]["current_fov"] > 0 and is_computing(status))
    pid = stack.engine(job_id)
    began_s = time.monotonic()
    stack.client.cancel(job_id)
    wait_until(lambda: not is_alive(pid) or not writes_fov(pid), "the work stops", 3.0)
    told = stack.client.finish(job_id)
    assert time.monotonic() - began_s < CANCEL_S
    assert told[-1]["status"] == "cancelled"
    assert unfinished(out) == []
    wait_until(lambda: not is_alive(pid), "its process ends", 3.0)
    finished = sorted(out.glob("fov_*"))
    assert 0 < len(finished) < N_FOVS
    assert all(verify(directory) == [] for directory in finished)
    results = stack.client.results(job_id)
    assert [fov["status"] for fov in results["fovs"]].count("completed") == len(finished)
    assert stack.client.finish(stack.client.start(request))[-1]["status"] == "completed"
    assert fov_files(out) == undisturbed


def test_cancelled_while_the_worker_does_not_hear(stack: RunningStack, recording: Path, tmp_path: Path) -> None:
    job_id = stack.client.start(asked(recording, tmp_path / "out", n_workers=1))
    stack.client.watch(job_id, is_computing)
    worker = stack.program("worker", "pyama")
    os.kill(worker, signal.SIGSTOP)
    try:
        stack.client.cancel(job_id)
        assert stack.client.finish(job_id)[-1]["status"] == "cancelled"
    finally:
        os.kill(worker, signal.SIGCONT)
    history = httpx.get(f"{stack.prefect_url}/api/flow_run_states/", params={"flow_run_id": job_id}).json()
    assert {state["type"] for state in history} == {"SCHEDULED", "PENDING", "RUNNING", "CANCELLING", "CANCELLED"}
    assert unfinished(tmp_path / "out") == []


def test_cancelled_before_it_begins(stack: RunningStack, recording: Path, tmp_path: Path) -> None:
    job_id = stack.client.start(asked(recording, tmp_path / "out"))
    stack.client.cancel(job_id)
    began_s = time.monotonic()
    assert stack.client.finish(job_id)[-1]["status"] == "cancelled"
    assert time.monotonic() - began_s < CANCEL_S
    assert not (tmp_path / "out").exists()
    results = stack.client.results(job_id)
    assert [fov["status"] for fov in results["failed_fovs"]] == ["missing"] * N_FOVS


@pytest.mark.parametrize("after_s", [1.2, 1.7])
def test_cancelled_about_when_a_worker_takes_it(
    stack: RunningStack, recording: Path, tmp_path: Path, after_s: float
) -> None:
    job_id = stack.client.start(asked(recording, tmp_path / "out"))
    threading.Event().wait(after_s)
    began_s = time.monotonic()
    stack.client.cancel(job_id)
    assert stack.client.finish(job_id)[-1]["status"] == "cancelled"
    assert time.monotonic() - began_s < CANCEL_S
    assert not list((tmp_path / "out").glob("fov_*"))


def test_cancelled_while_its_process_starts(stack: RunningStack, recording: Path, tmp_path: Path) -> None:
    job_id = stack.client.start(asked(recording, tmp_path / "out"))
    wait_until(lambda: stack.flow_process(job_id) is not None, "the worker has started a process")
    pid = stack.flow_process(job_id)
    began_s = time.monotonic()
    stack.client.cancel(job_id)
    assert stack.client.finish(job_id)[-1]["status"] == "cancelled"
    assert time.monotonic() - began_s < CANCEL_S
    assert children(pid) == []
    assert not list((tmp_path / "out").glob("fov_*"))


@dataclass(frozen=True)
class RemoteWork:
    """A Dask cluster, and a client of an API whose jobs are computed there."""

    client: Client
    worker: int
    """Process of the only Dask worker."""


@pytest.fixture(scope="module")
def remote(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RemoteWork]:
    with pytest.MonkeyPatch.context() as environment:
        for name in ("PREFECT_API_URL", "PREFECT_HOME"):
            environment.setenv(name, stack.environment[name])
        with (
            DaskProcesses(tmp_path_factory.mktemp("dask")) as cluster,
            stack.another_api(PYAMA_DASK_ADDRESS=cluster.address) as client,
        ):
            cluster.start_workers("remote", n_threads=2)
            yield RemoteWork(client, cluster.pid("remote"))


def test_cancelled_on_a_dask_cluster(stack: RunningStack, remote: RemoteWork, recording: Path, tmp_path: Path) -> None:
    job_id = remote.client.start(asked(recording, tmp_path / "out"))
    remote.client.watch(job_id, is_computing)
    assert writes_fov(remote.worker)
    engine = stack.engine(job_id)
    began_s = time.monotonic()
    remote.client.cancel(job_id)
    wait_until(lambda: not writes_fov(remote.worker), "the work stops", 3.0)
    assert remote.client.finish(job_id)[-1]["status"] == "cancelled"
    assert time.monotonic() - began_s < CANCEL_S
    assert unfinished(tmp_path / "out") == []
    wait_until(lambda: not is_alive(engine), "its process ends", 3.0)


def test_work_on_a_dask_cluster_ends_when_the_process_of_its_run_is_killed(
    stack: RunningStack, remote: RemoteWork, recording: Path, tmp_path: Path
) -> None:
    job_id = remote.client.start(asked(recording, tmp_path / "out"))
    remote.client.watch(job_id, is_computing)
    os.kill(stack.engine(job_id), signal.SIGKILL)
    wait_until(lambda: not writes_fov(remote.worker), "the work stops", 3.0)
    last = remote.client.finish(job_id)[-1]
    assert last["status"] == "failed"
    assert last["error"].startswith("the process that computed was killed by SIGKILL")


def test_job_that_takes_too_long_fails_and_says_so(stack: RunningStack, recording: Path, tmp_path: Path) -> None:
    with stack.another_api(PYAMA_JOB_TIMEOUT="1.5") as client:
        job_id = client.start(asked(recording, tmp_path / "out", n_workers=1))
        client.watch(job_id, lambda status: status["status"] == "running")
        pid = stack.engine(job_id)
        last = client.finish(job_id)[-1]
    assert last["status"] == "failed"
    assert last["error"].startswith("the job took longer than 1.5 s from its first start")
    wait_until(lambda: not is_alive(pid), "its process ends", CANCEL_S)
    assert unfinished(tmp_path / "out") == []
