"""`pyama up` as a user runs it: it becomes ready, runs once, and leaves nothing behind."""

import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import httpx
import pytest

from tests.engines import wait_until
from tests.program import run_pyama, start_pyama
from tests.stack import START_DEADLINE_S, answers, descendants, free_port, is_alive

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

STOP_DEADLINE_S = 60.0


class Up:
    """A `pyama up`, with a home of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.prefect_port, api_port = free_port(), free_port()
        self.api_url = f"http://127.0.0.1:{api_port}"
        self.environment: dict[str, str | None] = {
            **{name: None for name in os.environ if name.startswith(("PYAMA_", "PREFECT_"))},
            "PYAMA_HOME": str(home),
            "PYAMA_PORT": str(api_port),
        }
        self.log: list[str] = []
        self.process = start_pyama("up", "--prefect-port", str(self.prefect_port), environment=self.environment)
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.log.extend(iter(self.process.stdout.readline, ""))

    def is_ready(self) -> bool:
        """Whether it says so."""
        assert self.process.poll() is None, "".join(self.log[-40:])
        return any("ready: " in line for line in self.log)

    def stop(self, number: signal.Signals) -> int:
        """End it by a signal, and return its exit code."""
        self.process.send_signal(number)
        code = self.process.wait(STOP_DEADLINE_S)
        self._reader.join(STOP_DEADLINE_S)
        return code


@contextmanager
def running_up(home: Path) -> Iterator[Up]:
    """Have a `pyama up` that is ready."""
    running = Up(home)
    try:
        wait_until(running.is_ready, "pyama up is ready", START_DEADLINE_S)
        yield running
    finally:
        if running.process.poll() is None:
            running.stop(signal.SIGTERM)
        running.process.communicate()


def test_up_is_ready_runs_once_and_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    with running_up(tmp_path) as running:
        assert httpx.get(f"{running.api_url}/health/ready").json()["status"] == "ready"
        assert answers(f"http://127.0.0.1:{running.prefect_port}/api/health")
        (ready,) = (line for line in running.log if "ready: " in line)
        assert f"{running.api_url}/ " in ready
        assert f"{running.api_url}/docs" in ready
        assert f"http://127.0.0.1:{running.prefect_port} " in ready

        second = run_pyama("up", environment=running.environment)
        assert (second.returncode, second.stdout) == (2, "")
        assert second.stderr == (
            f"pyama: pyama up is running already (process {running.process.pid}, home {tmp_path}); stop it first, "
            "or set PYAMA_HOME\n"
        )
        assert json.loads((tmp_path / "stack.lock").read_text()) == {"pid": running.process.pid}

        started = descendants(running.process.pid)
        assert len(started) >= 4  # Prefect server, two workers, API
        assert running.stop(signal.SIGINT) == 130
        assert not any(is_alive(pid) for pid in started)
        assert not answers(f"{running.api_url}/health")


def test_impatient_ctrl_c_and_sigterm_still_stop_everything(tmp_path: Path) -> None:
    with running_up(tmp_path) as running:
        started = descendants(running.process.pid)
        running.process.send_signal(signal.SIGTERM)
        wait_until(lambda: any("stopping" in line for line in running.log), "it begins to stop")
        assert running.stop(signal.SIGINT) == 0  # what ended it was the first signal
        assert not any(is_alive(pid) for pid in started)
        assert any("stopping already" in line for line in running.log)


def test_port_in_use_is_told_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        environment = {"PYAMA_HOME": str(tmp_path), "PYAMA_PORT": str(free_port())}
        result = run_pyama("up", "--prefect-port", str(port), environment=environment)
    assert result.returncode == 1
    assert result.stderr == f"pyama: port {port} of 127.0.0.1 is in use; choose another one by --prefect-port\n"
