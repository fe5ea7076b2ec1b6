"""Dask clusters: how many FOVs are sent there, what settings may be wrong, and workers that die."""

import json
import logging
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import dask
import psutil  # type: ignore[import-untyped]  # distributed has it
import pytest

from flows.task_runner import connect, make_task_runner
from tests.engines import ROOT, DaskProcesses, wait_until, writes_fov
from tests.flow_runs import EndedRun, film, request, run
from tests.output_worker import content
from tests.recordings import write_recording

N_FOVS, N_FRAMES = 6, 60


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recording(tmp_path_factory.mktemp("recording") / "film.nd2", film(N_FOVS, N_FRAMES))


@pytest.fixture(scope="module")
def undisturbed(recording: Path, prefect_api: str) -> EndedRun:
    return run(request(recording, recording.parent / "undisturbed", keep="labels"))


@pytest.fixture
def cluster(dask_processes: DaskProcesses, monkeypatch: pytest.MonkeyPatch) -> DaskProcesses:
    """The cluster to which the settings point."""
    monkeypatch.setenv("PYAMA_DASK_ADDRESS", dask_processes.address)
    return dask_processes


@pytest.mark.parametrize(("batch_size", "outstanding"), [(1, 1), (3, 3), (None, 4)])
def test_at_most_batch_size_fovs_are_at_the_scheduler(
    tmp_path: Path, cluster: DaskProcesses, batch_size: int | None, outstanding: int
) -> None:
    recording = write_recording(tmp_path / "film.nd2", film(5, 2))
    since = cluster.n_transitions()
    assert run(request(recording, tmp_path / "out", batch_size=batch_size)).state.is_completed()
    assert cluster.most_outstanding("compute_fov", since) == outstanding


@pytest.mark.parametrize("first", ["flows.site", "flows.stopping"])
def test_whatever_a_worker_imports_first_it_knows_classes_by_the_same_names(first: str) -> None:
    told = "import typing, prefect.client.schemas.objects as objects; print(objects.State[typing.Any].__module__)"
    names = {
        subprocess.run(
            [sys.executable, "-c", f"import {module}, flows.process; {told}"],
            cwd=ROOT, capture_output=True, text=True, timeout=120, check=True,
        ).stdout
        for module in (first, "prefect.engine")
    }  # fmt: skip
    assert len(names) == 1


def test_number_of_workers_is_ignored_at_a_cluster_and_the_log_says_so(tmp_path: Path, cluster: DaskProcesses) -> None:
    ended = run(request(write_recording(tmp_path / "film.nd2", film(1, 1)), tmp_path / "out", n_workers=3))
    assert ended.state.is_completed()
    assert ended.logged("n_workers = 3 is ignored")


@contextmanager
def a_worker_that_dies(cluster: DaskProcesses, moment: Callable[[], object]) -> Iterator[None]:
    """Have one more worker, which is killed when its moment has come."""
    cluster.start_workers("doomed")

    def kill() -> None:
        wait_until(moment, "the worker has work")
        cluster.kill_worker("doomed")

    with ThreadPoolExecutor() as threads:
        killing = threads.submit(kill)
        yield
        killing.result()


def test_a_worker_dies_in_the_midst_of_a_fov(
    recording: Path, undisturbed: EndedRun, tmp_path: Path, cluster: DaskProcesses
) -> None:
    with a_worker_that_dies(cluster, lambda: writes_fov(cluster.pid("doomed"))):
        ended = run(request(recording, tmp_path / "out", keep="labels"))
    assert ended.state.is_completed()
    assert content(tmp_path / "out") == content(undisturbed.output_dir)


def test_a_worker_dies_that_took_frames_of_a_fov(
    recording: Path, undisturbed: EndedRun, tmp_path: Path, cluster: DaskProcesses
) -> None:
    with a_worker_that_dies(cluster, lambda: cluster.has("doomed", "do_chunk")):
        ended = run(request(recording, tmp_path / "out", keep="labels", batch_size=1))
    assert ended.state.is_completed()
    assert content(tmp_path / "out") == content(undisturbed.output_dir)


def test_a_fov_whose_workers_die_again_and_again_is_reported(
    recording: Path, tmp_path: Path, cluster: DaskProcesses
) -> None:
    with cluster.allowing_failures(0), a_worker_that_dies(cluster, lambda: writes_fov(cluster.pid("doomed"))):
        ended = run(request(recording, tmp_path / "out", keep="labels"))
    assert ended.state.is_failed()
    assert ended.message.startswith(f"1 of {N_FOVS} FOVs failed (")
    assert "KilledWorker" in ended.message
    assert len(list((tmp_path / "out").glob("fov_*"))) == N_FOVS - 1


def refusal(recording: Path, output_dir: Path) -> str:
    ended = run(request(recording, output_dir))
    assert ended.state.is_failed()
    return ended.message


def test_a_scheduler_that_does_not_answer(
    recording: Path, prefect_api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as silent, dask.config.set({"distributed.comm.timeouts.connect": "0.5s"}):
        silent.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("PYAMA_DASK_ADDRESS", address)
        message = refusal(recording, tmp_path / "out")
    assert f"cannot reach or start the Dask scheduler at {address}: " in message
    assert message.endswith("; check the PYAMA_DASK_ settings")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"ADDRESS": "tcp://127.0.0.1:1", "CLUSTER_CLASS": "distributed.LocalCluster"},
            "PYAMA_DASK_ADDRESS and PYAMA_DASK_CLUSTER_CLASS exclude each other; unset one",
        ),
        ({"CLUSTER_CLASS": "no_such_package.Cluster"}, "cannot find the cluster class no_such_package.Cluster: "),
        ({"CLUSTER_CLASS": "distributed.NoSuchCluster"}, "cannot find the cluster class distributed.NoSuchCluster: "),
        (
            {"CLUSTER_CLASS": "distributed.LocalCluster", "CLUSTER_KWARGS": json.dumps({"protocol": "pigeon"})},
            "cannot reach or start a distributed.LocalCluster cluster: ",
        ),
        (
            {"CLUSTER_CLASS": "distributed.LocalCluster", "CLUSTER_KWARGS": "n_workers=2"},
            "PYAMA_DASK_CLUSTER_KWARGS must be a JSON object, e.g. ",
        ),
        ({"MAXIMUM": "4"}, "PYAMA_DASK_MAXIMUM needs PYAMA_DASK_CLUSTER_CLASS"),
        (
            {"CLUSTER_CLASS": "distributed.LocalCluster", "MINIMUM": "3", "MAXIMUM": "2"},
            "PYAMA_DASK_MINIMUM must be at most PYAMA_DASK_MAXIMUM (got 3 and 2)",
        ),
        ({"CLUSTER_CLASS": "distributed.LocalCluster", "MAXIMUM": "0"}, "PYAMA_DASK_MAXIMUM: "),
    ],
)
def test_wrong_settings(
    recording: Path,
    prefect_api: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, str],
    message: str,
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(f"PYAMA_DASK_{name}", value)
    assert message in refusal(recording, tmp_path / "out")


def test_threads_of_a_run_open_no_port_to_the_network(prefect_api: str) -> None:
    def ports() -> set[tuple[str, int]]:
        return {tuple(c.laddr) for c in psutil.Process().net_connections("inet") if c.status == psutil.CONN_LISTEN}

    before = ports()
    with make_task_runner(1, "run", logging.getLogger(__name__)) as runner:
        connect(runner)
        assert {address for address, _ in ports() - before} <= {"127.0.0.1", "::1"}
