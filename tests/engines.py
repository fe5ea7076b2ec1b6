"""Real engines for tests: a Prefect server, and a Dask cluster of processes of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self
from urllib.request import urlopen

import distributed
import pytest
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, PREFECT_HOME, temporary_settings

ROOT = Path(__file__).parents[1]
DEADLINE_S = 60.0
_LOOK_INTERVAL_S = 0.005


def wait_until(condition: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Return as soon as a condition holds; fail where it does not within the deadline."""
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {deadline_s:g} s: {what}"
        time.sleep(_LOOK_INTERVAL_S)


@contextmanager
def prefect_server(folder: Path, host: str = "127.0.0.1") -> Iterator[str]:
    """Have a Prefect server of its own, with an empty database, used by this process and those it starts."""
    port = _free_port()
    url = f"http://{host}:{port}/api"
    home = {"PREFECT_HOME": str(folder), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_SERVER_UI_ENABLED": "0"}
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", host, "--port", str(port)]
    with pytest.MonkeyPatch.context() as environment, (folder / "server.log").open("wb") as log:
        for name, value in home.items():
            environment.setenv(name, value)
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
        try:
            wait_until(lambda: server.poll() is not None or _answers(f"{url}/health"), "Prefect server is up", 120)
            assert server.poll() is None, (folder / "server.log").read_text()
            environment.setenv("PREFECT_API_URL", url)
            settings = {PREFECT_API_URL: url, PREFECT_HOME: str(folder), PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
            with temporary_settings(settings):  # without heartbeats, because their end takes most of a second
                yield url
                APILogWorker.drain_all(timeout=5)
                EventsWorker.drain_all(timeout=5)
        finally:
            _end(server)


def writes_fov(pid: int) -> bool:
    """Whether a process is in the midst of a FOV: it has a file open in a directory that is not yet in place."""
    open_files = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            open_files.append(str(descriptor.readlink()))
    return any(".fov_" in name and ".tmp/" in name for name in open_files)


def claiming_version(folder: Path, package: str, version: str) -> dict[str, str]:
    """Environment of processes that hold a package to be of another version than it is."""
    metadata = folder / f"{package.replace('-', '_')}-{version}.dist-info/METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    return {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}


class DaskProcesses:
    """A Dask scheduler and its workers, each a process of its own that may be killed; logs go to a folder.

    Parameters
    ----------
    environment
        Variables of the scheduler, beside those of this process; one that is None is not set.
    host
        Where it listens.
    launcher
        Beginning of a command that starts it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        environment: Mapping[str, str | None] | None = None,
        host: str = "127.0.0.1",
        launcher: Sequence[str] = (),
    ) -> None:
        self._folder = folder
        self._contact = folder / "scheduler.json"
        command: list[str | Path] = [
            "scheduler",
            "--host",
            host,
            "--port",
            "0",
            "--scheduler-file",
            self._contact,
        ]
        self._scheduler = self._start("scheduler", launcher, environment, *command, "--no-dashboard")
        wait_until(self._written, "Dask scheduler is up")
        self.address: str = json.loads(self._contact.read_text())["address"]
        self.client = distributed.Client(self.address, set_as_default=False)
        self._workers: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        for process in (*self._workers.values(), self._scheduler):
            _end(process)

    def start_workers(
        self,
        *names: str,
        n_threads: int = 1,
        environment: Mapping[str, str | None] | None = None,
        launcher: Sequence[str] = (),
    ) -> None:
        """Start workers and wait until the scheduler knows them; see the class for the environment and the launcher."""
        for name in names:
            command: list[str | Path] = [
                "worker",
                "--scheduler-file",
                self._contact,
                "--name",
                name,
                "--nthreads",
                str(n_threads),
            ]
            options: list[str | Path] = [
                "--no-nanny",
                "--no-dashboard",
                "--memory-limit",
                "0",
                "--local-directory",
                self._folder,
            ]
            self._workers[name] = self._start(name, launcher, environment, *command, *options)
        wait_until(lambda: set(names) <= self._addresses().keys(), f"Dask workers {names} are up")

    def has(self, name: str, task: str) -> bool:
        """Whether a worker has been given a task."""
        given: dict[str, list[Any]] = self.client.processing([self._addresses()[name]])
        return any(task in key for keys in given.values() for key in keys)

    def worker_address(self, name: str) -> str:
        """Where a worker listens."""
        return self._addresses()[name]

    def pid(self, name: str) -> int:
        """Process of a worker."""
        return self._workers[name].pid

    def kill_worker(self, name: str) -> None:
        """Let a worker die as for want of memory."""
        process = self._workers.pop(name)
        process.kill()
        process.wait()

    def n_transitions(self) -> int:
        """Number of changes of state that the scheduler has noted so far."""
        return len(self.client.run_on_scheduler(_transitions))

    def most_outstanding(self, task: str, since: int) -> int:
        """Most runs of a task that the scheduler had at a time, after that many changes of state."""
        outstanding: set[Any] = set()
        most = 0
        for key, _, to, *_ in self.client.run_on_scheduler(_transitions)[since:]:
            if task in key:
                outstanding = outstanding | {key} if to in _OUTSTANDING else outstanding - {key}
            most = max(most, len(outstanding))
        return most

    @contextmanager
    def allowing_failures(self, n_failures: int) -> Iterator[None]:
        """Have the scheduler give up a task when so many and one more workers have died with it."""
        usual = self.client.run_on_scheduler(_allow_failures, n_failures=n_failures)
        try:
            yield
        finally:
            self.client.run_on_scheduler(_allow_failures, n_failures=usual)

    def _addresses(self) -> dict[str, str]:
        """Address of each worker that the scheduler knows, by its name."""
        addresses: dict[str, str] = self.client.run_on_scheduler(_workers)
        return addresses

    def _written(self) -> bool:
        assert self._scheduler.poll() is None, (self._folder / "scheduler.log").read_text()
        return self._contact.exists() and self._contact.stat().st_size > 0

    def _start(
        self, name: str, launcher: Sequence[str], environment: Mapping[str, str | None] | None, *command: str | Path
    ) -> subprocess.Popen[bytes]:
        variables = {**os.environ, **(environment or {})}
        with (self._folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                [*launcher, sys.executable, "-m", "dask", *command],
                env={key: value for key, value in variables.items() if value is not None},
                cwd=ROOT, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip


_OUTSTANDING = {"waiting", "no-worker", "queued", "processing"}


def _workers(dask_scheduler: distributed.Scheduler) -> dict[str, str]:
    return {str(worker.name): address for address, worker in dask_scheduler.workers.items()}


def _transitions(dask_scheduler: distributed.Scheduler) -> list[tuple[Any, ...]]:
    return [tuple(transition) for transition in dask_scheduler.transition_log]


def _allow_failures(dask_scheduler: distributed.Scheduler, n_failures: int) -> int:
    usual: int = dask_scheduler.allowed_failures
    dask_scheduler.allowed_failures = n_failures
    return usual


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=1) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
