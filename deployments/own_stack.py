"""A stack for a program that needs one for a while, such as the demo: beside any other one, and gone afterwards."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from types import FrameType

import httpx

from deployments.errors import RunFailedError
from deployments.parent import end_with_parent

_START_PATIENCE_S = 180.0
_STOP_PATIENCE_S = 60.0
_LOOK_INTERVAL_S = 0.5


@dataclass(frozen=True)
class OwnStack:
    """A `pyama up` that was started here."""

    api_url: str
    prefect_url: str
    process: subprocess.Popen[bytes]
    log: Path

    def wait_until_ready(self) -> None:
        """Wait until jobs can be computed.

        Raises
        ------
        RunFailedError
            Where it has ended instead, or takes too long; with the last that its log tells.
        """
        deadline_s = monotonic() + _START_PATIENCE_S
        while self.process.poll() is None and monotonic() < deadline_s:
            if _is_ready(self.api_url):
                return
            sleep(_LOOK_INTERVAL_S)
        lines = self.log.read_text(errors="replace").splitlines() or ["it said nothing"]
        raise RunFailedError(f"the REST API and its engines could not be started: {lines[-1]}")


@contextmanager
def own_stack(*, verbose: bool) -> Iterator[OwnStack]:
    """Have a stack within the block, on free ports and with an empty database of its own.

    It is stopped at the end of the block, by Ctrl-C and SIGTERM too, and even where this process is killed.

    Parameters
    ----------
    verbose
        Whether its log is shown, on stderr.
    """
    with tempfile.TemporaryDirectory(prefix="pyama-", ignore_cleanup_errors=True) as name, _ending_by_sigterm():
        home = Path(name)
        api_port, prefect_port = _free_port(), _free_port()
        # What is set for another stack, or another Prefect, is not meant for this one.
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYAMA_", "PREFECT_"))}
        environment |= {"PYAMA_HOME": str(home), "PYAMA_PORT": str(api_port)}
        log = home / "stack.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "deployments.cli", "up", "--prefect-port", str(prefect_port)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr if verbose else file,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C of the terminal is this program's alone
                preexec_fn=end_with_parent,
            )
        try:
            yield OwnStack(f"http://127.0.0.1:{api_port}", f"http://127.0.0.1:{prefect_port}", process, log)
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End it in an orderly way, however impatient the user is: to cut it short would leave programs behind."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        process.terminate()
        process.wait(_STOP_PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _ending_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the block in an orderly way."""

    def end(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/ready", timeout=10.0).is_success
    except httpx.TransportError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
