"""The one-machine stack, as `pyama up` runs it, for tests; and clients of its API.

Run as a program, it is the stack: `python -m tests.stack PREFECT_PORT`.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from api.settings import Settings
from deployments.parent import end_with_parent
from deployments.stack import up
from tasks.errors import PyamaError
from tests.engines import ROOT, wait_until

START_DEADLINE_S = 240.0
JOB_DEADLINE_S = 120.0
CHANNELS: dict[str, Any] = {
    "phase": {"channel": 0, "features": ["area"]},
    "fluorescence": [{"channel": 1, "features": ["intensity_total"]}],
}
SCIENCE: dict[str, Any] = {"border_margin": 2, "min_frames": 1}


class Client:
    """A client of the API that keeps the documented rules, and notes whether the server does.

    It asks for the jobs of one kind, those that process recordings.

    Parameters
    ----------
    url
        Where the API is, without the base.
    """

    address = "/processing/workflow"

    def __init__(self, url: str) -> None:
        self.url = url
        # A connection of its own for each request, so that it meets all of several API processes.
        self.http = httpx.Client(
            base_url=f"{url}/api/v1", timeout=30.0, limits=httpx.Limits(max_keepalive_connections=0)
        )

    def start(self, asked: Mapping[str, Any], **headers: str) -> str:
        """Start a job and return its id."""
        answer = self.http.post(f"{self.address}/start", json=asked, headers=headers)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert body["success"] is True
        return str(body["job_id"])

    def status(self, job_id: str) -> dict[str, Any]:
        """Status of a job."""
        answer = self.http.get(f"{self.address}/status/{job_id}")
        assert answer.status_code == 200, answer.text
        status: dict[str, Any] = answer.json()
        return status

    def results(self, job_id: str) -> dict[str, Any]:
        """Results of a job that has ended."""
        answer = self.http.get(f"{self.address}/results/{job_id}")
        assert answer.status_code == 200, answer.text
        results: dict[str, Any] = answer.json()
        return results

    def cancel(self, job_id: str) -> dict[str, Any]:
        """Cancel a job."""
        answer = self.http.post(f"{self.address}/cancel/{job_id}")
        assert answer.status_code == 200, answer.text
        cancelled: dict[str, Any] = answer.json()
        return cancelled

    def watch(
        self, job_id: str, until: Callable[[dict[str, Any]], bool], deadline_s: float = JOB_DEADLINE_S
    ) -> list[dict[str, Any]]:
        """Ask for the status until a condition holds; whatever is told meanwhile never goes backwards."""
        told: list[dict[str, Any]] = []
        deadline = time.monotonic() + deadline_s
        while True:
            with suppress(httpx.TransportError):  # a process that is being started again
                told.append(self.status(job_id))
                assert len(told) < 2 or _goes_forward(told[-2], told[-1]), told[-2:]
                if until(told[-1]):
                    return told
                assert told[-1]["status"] in {"pending", "running"}, told[-1]
            assert time.monotonic() < deadline, told[-1:]
            time.sleep(0.05)

    def finish(self, job_id: str) -> list[dict[str, Any]]:
        """Watch a job until it has ended."""
        return self.watch(job_id, has_ended)


class FittingClient(Client):
    """The same for jobs that fit traces."""

    address = "/analysis/fitting"


def has_ended(status: Mapping[str, Any]) -> bool:
    """Whether a job has ended."""
    return status["status"] in {"completed", "failed", "cancelled"}


def is_computing(status: Mapping[str, Any]) -> bool:
    """Whether some frames of a job are done, and not all."""
    percentage: float = status["progress"]["percentage"]
    return status["status"] == "running" and 0 < percentage < 90


def _goes_forward(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    order = ["pending", "running", "completed", "failed", "cancelled"]
    if order.index(before["status"]) > order.index(after["status"]):
        return False
    return all(earlier <= after["progress"][name] for name, earlier in before["progress"].items())


def asked(recording: Path, output_dir: Path, **parameters: Any) -> dict[str, Any]:
    """Request to process one of the films of `tests.flow_runs`."""
    return {
        "microscopy_path": str(recording),
        "output_dir": str(output_dir),
        "channels": CHANNELS,
        "parameters": {**SCIENCE, **parameters},
    }


@dataclass
class RunningStack:
    """A stack that is up."""

    home: Path
    api_url: str
    prefect_url: str
    process: subprocess.Popen[bytes]
    log: Path
    environment: dict[str, str]
    client: Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = Client(self.api_url)

    def restart(self, between: Callable[[], None]) -> None:
        """End the stack by Ctrl-C, do something, and start it again."""
        self.stop()
        between()
        self.log.unlink()
        self.process = start_stack(int(self.prefect_url.rpartition(":")[2]), self.environment, self.log)
        wait_until(lambda: is_ready(self), "the stack is up again", START_DEADLINE_S)

    def stop(self) -> None:
        """End the stack by Ctrl-C."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(timeout=60)
        finally:
            self.process.kill()
            self.process.wait()

    def flow_process(self, job_id: str) -> int | None:
        """Process that the worker has started for a job; None where it has not."""
        run = httpx.get(f"{self.prefect_url}/api/flow_runs/{job_id}").json()
        return int(run["infrastructure_pid"]) if run["infrastructure_pid"] else None

    def engine(self, job_id: str) -> int:
        """Process that computes a job."""
        (engine,) = children(self.flow_process(job_id))
        return engine

    def program(self, *words: str) -> int:
        """Process of a program of the stack, by words of its command."""
        (found,) = (
            pid
            for pid in children(self.process.pid)
            if set(words) <= set((Path("/proc") / str(pid) / "cmdline").read_text().split("\0"))
        )
        return found

    @contextmanager
    def another_api(self, n_processes: int = 1, **settings: str) -> Iterator[Client]:
        """Have another API at the same orchestrator, by its documented name and with settings of its own."""
        port = free_port()
        command = ["-m", "uvicorn", "pyama_backend.main:app", "--port", str(port), "--workers", str(n_processes)]
        environment = {**self.environment, "PYAMA_PORT": str(port), **settings}
        with (self.home / f"api-{port}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *command], cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: answers(f"{url}/health"), "another API is up", START_DEADLINE_S)
            yield Client(url)
        finally:
            process.terminate()
            process.wait(timeout=30)


def children(pid: int | None) -> list[int]:
    """Processes that a process has started."""
    found = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            if int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1]) == pid:
                found.append(int(folder.name))
    return found


def descendants(pid: int) -> list[int]:
    """Processes that a process has started, and those that these have."""
    return [found for child in children(pid) for found in (child, *descendants(child))]


def is_alive(pid: int) -> bool:
    """Whether a process is there and no mere corpse."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@contextmanager
def running_stack(home: Path, **settings: str) -> Iterator[RunningStack]:
    """Have a stack of its own, with an empty database, on free ports."""
    api_port, prefect_port = free_port(), free_port()
    prefect_url = f"http://127.0.0.1:{prefect_port}"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PYAMA_", "PREFECT_"))},
        "PYAMA_HOME": str(home),
        "PYAMA_PORT": str(api_port),
        "PREFECT_API_URL": f"{prefect_url}/api",
        "PREFECT_HOME": str(home / "prefect"),
        **settings,
    }
    log = home / "stack.log"
    process = start_stack(prefect_port, environment, log)
    stack = RunningStack(home, f"http://127.0.0.1:{api_port}", prefect_url, process, log, environment)
    try:
        wait_until(lambda: is_ready(stack), "the stack is up", START_DEADLINE_S)
        yield stack
    finally:
        stack.stop()


def start_stack(prefect_port: int, environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start the program below."""
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.stack", str(prefect_port)],
            cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
            preexec_fn=end_with_parent,
        )  # fmt: skip


def is_ready(stack: RunningStack) -> bool:
    """Whether the stack has said so."""
    assert stack.process.poll() is None, stack.log.read_text()[-4000:]
    return b"ready: " in stack.log.read_bytes()


def answers(url: str) -> bool:
    """Whether an address answers with success."""
    try:
        return httpx.get(url, timeout=10.0).status_code == 200
    except httpx.TransportError:
        return False


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def main() -> int:
    """Run the stack; a mistake is told in one line."""
    try:
        up(Settings.from_environment(), int(sys.argv[1]))
    except PyamaError as error:
        print(f"pyama: {error}", flush=True)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
