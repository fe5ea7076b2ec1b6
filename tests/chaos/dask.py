"""A Dask cluster whose scheduler and workers may be killed and come back at the same address."""

import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import distributed

from deployments.parent import end_with_parent
from tests.chaos.processes import send
from tests.engines import ROOT, wait_until
from tests.stack import free_port

N_WORKERS = 2


class DaskCluster:
    """A scheduler and workers of one thread each, as a cluster's own supervision keeps them.

    Parameters
    ----------
    folder
        For their logs and files.
    environment
        With the address of the Prefect server, to which tasks tell how they are.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.address = f"tcp://127.0.0.1:{free_port()}"
        self._folder = folder
        # What runs here is none of the stack's programs, and outlives them.
        self._environment = {name: value for name, value in environment.items() if not name.startswith("PYAMA_")}
        self._scheduler: subprocess.Popen[bytes] | None = None
        self._workers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self.keep()
        return self

    def __exit__(self, *_: object) -> None:
        for process in (*self._workers, self._scheduler):
            if process is not None:
                process.kill()
                process.wait()

    @property
    def scheduler(self) -> int:
        """Process of the scheduler."""
        assert self._scheduler is not None
        return self._scheduler.pid

    @property
    def workers(self) -> list[int]:
        """Processes of the workers."""
        return [process.pid for process in self._workers]

    def keep(self) -> None:
        """Start again whatever has died, and wait until all of it is there."""
        if self._scheduler is None or self._scheduler.poll() is not None:
            send(signal.SIGKILL, [process.pid for process in self._workers if process.poll() is None])
            for process in self._workers:
                process.wait()
            port = self.address.rpartition(":")[2]
            self._scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", port)
        self._workers = [process for process in self._workers if process.poll() is None]
        options = ("--nthreads", "1", "--no-nanny", "--memory-limit", "0", "--local-directory", str(self._folder))
        while len(self._workers) < N_WORKERS:
            self._workers.append(self._start("worker", self.address, *options))
        with distributed.Client(self.address, timeout=60, set_as_default=False) as client:
            wait_until(lambda: len(client.scheduler_info()["workers"]) >= N_WORKERS, "the Dask workers are there")

    def _start(self, *command: str) -> subprocess.Popen[bytes]:
        with (self._folder / "dask.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "dask", *command, "--no-dashboard"],
                cwd=ROOT, env=self._environment, stdout=log, stderr=subprocess.STDOUT, preexec_fn=end_with_parent,
            )  # fmt: skip
