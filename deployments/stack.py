"""The whole stack on one machine, under one supervisor: `pyama up`.

Prefect server (SQLite), work pools and deployments, a worker for each pool, the caretaker, and the API. A program that
dies is started again, later each time; runs whose process died with it go on. Ctrl-C stops everything, and the next
`pyama up` goes on with the jobs that were running.
"""

import asyncio
import fcntl
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from api.orchestrator import CONTROL_POOL, POOL
from api.settings import Settings
from deployments.deploying import ensure_pools
from deployments.errors import RunFailedError
from deployments.parent import die_with_parent
from deployments.recovery import recover_runs
from tasks.errors import PyamaError

_LOCK_FILE = "stack.lock"
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0
_LONG_LIFE_S = 60.0
"""Who lived that long is started again at once."""
_STOP_PATIENCE_S = 10.0
_START_PATIENCE_S = 180.0
_LOOK_INTERVAL_S = 0.2
_COLOURS = {"prefect": "36", "deploy": "35", "worker": "32", "control": "33", "care": "36", "api": "34", "pyama": "1"}


class StackRunningError(PyamaError):
    """Another `pyama up` is running with the same PYAMA_HOME."""


@dataclass
class Program:
    """A program of the stack."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    stop_signal: int = signal.SIGTERM
    process: asyncio.subprocess.Process | None = None
    stopping: bool = False
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def start(self) -> None:
        """Start it, in a process group of its own, so that a Ctrl-C of the terminal is the supervisor's alone."""
        self.process = await asyncio.create_subprocess_exec(
            *self.command,
            cwd=self.folder,
            env=self.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent,  # else it would go on where nobody sees to it any more
        )
        self._tasks.append(asyncio.create_task(self._pass_on(self.process)))

    async def wait(self) -> int:
        """Wait for its end, and for its last words."""
        assert self.process is not None
        code = await self.process.wait()
        self.end_group()  # whatever it had started ends with it
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)
            self._tasks.clear()
        return code

    async def stop(self) -> None:
        """End it and everything that it has started."""
        self.stopping = True
        if self.process is None:
            return
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.send_signal(self.stop_signal)
            with suppress(TimeoutError):
                await asyncio.wait_for(self.process.wait(), _STOP_PATIENCE_S)
        self.end_group()
        await self.process.wait()

    def end_group(self) -> None:
        """Kill what is left of its process group."""
        if self.process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)

    async def _pass_on(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:  # a line longer than the buffer
                continue
            if not line:
                return
            tell(self.name, line.decode(errors="replace").rstrip())


class Stack:
    """All programs of the stack.

    Parameters
    ----------
    settings
        Those of the API; the others get them too, by the environment.
    prefect_port
        Port of the Prefect server and its UI.
    """

    def __init__(self, settings: Settings, prefect_port: int) -> None:
        self._settings = settings
        self.prefect_url = f"http://127.0.0.1:{prefect_port}"
        self.api_url = settings.local_url
        self.home = settings.home / "prefect"
        self._environment = {
            **os.environ,
            "PREFECT_HOME": str(self.home),
            "PREFECT_API_URL": f"{self.prefect_url}/api",
            "PREFECT_UI_URL": self.prefect_url,
            "PYAMA_PUBLIC_URL": settings.url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,orphans",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            # Dask tells at length of every cluster that it starts; only its warnings matter here.
            "DASK_LOGGING__DISTRIBUTED": "warning",
            "PYTHONUNBUFFERED": "1",
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        }
        python = (sys.executable, "-m")
        self._server = self._program(
            "prefect",
            *python,
            "deployments.prefect_server",
            "server",
            "start",
            "--host",
            "127.0.0.1",
            "--port",
            str(prefect_port),
        )
        self._deploy = self._program("deploy", *python, "deployments.deploying")
        self._workers = {
            pool: self._program(
                name, *python, "prefect", "worker", "start", "--pool", pool, "--name", worker_name(pool), "--type",
                "process", stop_signal=signal.SIGKILL,
            )
            for name, pool in (("worker", POOL), ("control", CONTROL_POOL))
        }  # fmt: skip
        self._caretaker = self._program("care", *python, "deployments.caretaker")
        # A client that asks now and then keeps its connection.
        address = ("--host", settings.host, "--port", str(settings.port))
        options = (*address, "--timeout-keep-alive", "75", "--no-access-log")
        self._api = self._program("api", *python, "uvicorn", "api.main:app", *options)

    def _program(self, name: str, *command: str, stop_signal: int = signal.SIGTERM) -> Program:
        return Program(name, command, self._environment, self._settings.home, stop_signal)

    async def run(self) -> None:
        """Start everything, tell when it is ready, and keep it running until cancelled.

        Raises
        ------
        RunFailedError
            Where a part of it cannot be started.
        """
        self.home.mkdir(parents=True, exist_ok=True)
        keepers: list[asyncio.Task[None]] = []
        try:
            await self._server.start()
            await self._api.start()  # it does not wait for the others
            keepers.append(asyncio.create_task(self._keep(self._api)))
            await self._until_answering(f"{self.prefect_url}/api/health", self._server)
            keepers.append(asyncio.create_task(self._keep(self._server)))
            async with self._client() as client:
                await ensure_pools(client, self._settings)
            await self._deploy.start()
            for pool, worker in self._workers.items():
                await self._recover(pool)
                await worker.start()
                keepers.append(asyncio.create_task(self._keep(worker, pool)))
            await self._caretaker.start()
            keepers.append(asyncio.create_task(self._keep(self._caretaker)))
            if await self._deploy.wait() != 0:
                raise RunFailedError("the flows could not be deployed; the log above tells why")
            await self._until_answering(f"{self.api_url}/health/ready", None)
            pages = f"{self.api_url}/ (page), {self.api_url}/docs (API), {self.prefect_url} (Prefect UI)"
            tell("pyama", f"ready: {pages}; Ctrl-C stops everything")
            await asyncio.gather(*keepers)
        finally:
            await asyncio.shield(self._stop(keepers))

    async def _keep(self, program: Program, pool: str | None = None) -> None:
        """Start a program again whenever it dies."""
        pause_s = _FIRST_PAUSE_S / 2
        while True:
            began_s = monotonic()
            code = await program.wait()
            if program.stopping:
                return
            pause_s = _FIRST_PAUSE_S if monotonic() - began_s > _LONG_LIFE_S else min(2 * pause_s, _LONGEST_PAUSE_S)
            tell("pyama", f"{program.name} ended with code {code}; it is started again in {pause_s:g} s")
            await asyncio.sleep(pause_s)
            if pool is not None:
                await self._recover(pool)
            await program.start()

    async def _recover(self, pool: str) -> None:
        """See to the runs of a worker that has ended."""
        try:
            async with self._client() as client:
                n_runs = await recover_runs(client, pool, [worker_name(pool)])
        except Exception as error:  # the stack has to go on, and tries again when it is started next
            tell("pyama", f"runs that were interrupted could not be recovered: {error}")
            return
        if n_runs:
            tell("pyama", f"{n_runs} interrupted runs of the pool {pool} go on, or are cancelled as was asked for")

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[PrefectClient]:
        settings = {PREFECT_API_URL: f"{self.prefect_url}/api", PREFECT_HOME: str(self.home)}
        with temporary_settings(settings):
            async with get_client() as client:
                yield client

    async def _until_answering(self, url: str, program: Program | None) -> None:
        """Wait until an address answers with success."""
        deadline = monotonic() + _START_PATIENCE_S
        async with httpx.AsyncClient(timeout=10.0) as client:
            while monotonic() < deadline:
                if program is not None and program.process is not None and program.process.returncode is not None:
                    break
                with suppress(httpx.TransportError):
                    if (await client.get(url)).status_code == 200:
                        return
                await asyncio.sleep(_LOOK_INTERVAL_S)
        raise RunFailedError(f"{url} does not answer; the log above tells why")

    async def _stop(self, keepers: Sequence[asyncio.Task[None]]) -> None:
        """Stop everything: first who asks for work, last who knows of it."""
        for program in (self._api, self._caretaker, *self._workers.values(), self._server, self._deploy):
            program.stopping = True
        for keeper in keepers:
            keeper.cancel()
        first = (self._api, self._caretaker, *self._workers.values())
        await asyncio.gather(*(program.stop() for program in first))
        if self._server.process is not None and self._server.process.returncode is None:
            for pool in self._workers:
                await self._recover(pool)
        await self._deploy.stop()
        await self._server.stop()


def up(settings: Settings, prefect_port: int) -> signal.Signals:
    """Run the stack until Ctrl-C or SIGTERM.

    Returns
    -------
    signal.Signals
        Which of them has ended it: SIGINT or SIGTERM.

    Raises
    ------
    InvalidParametersError
        Where notices are to be sent, and there is nothing to sign them with.
    StackRunningError
        Where it is running already.
    RunFailedError
        Where a part of it cannot be started.
    """
    settings.require_webhook_secret()
    with _only_once(settings):
        for port, variable in ((settings.port, "PYAMA_PORT"), (prefect_port, "--prefect-port")):
            _refuse_used(settings.host if variable == "PYAMA_PORT" else "127.0.0.1", port, variable)
        return asyncio.run(_until_signal(Stack(settings, prefect_port)))


def tell(name: str, line: str) -> None:
    """Print a line of the log, with the name of the program that it comes from."""
    label = f"{name:>7} |"
    if sys.stdout.isatty() and name in _COLOURS:
        label = f"\033[{_COLOURS[name]}m{label}\033[0m"
    print(f"{label} {line}", flush=True)


def worker_name(pool: str) -> str:
    """Name of this machine's worker at a pool."""
    return f"{pool}-of-{socket.gethostname()}"


async def _until_signal(stack: Stack) -> signal.Signals:
    running = asyncio.create_task(stack.run())
    loop = asyncio.get_running_loop()
    received: list[signal.Signals] = []

    def end(number: signal.Signals) -> None:
        received.append(number)
        if len(received) > 1:  # to cut the stopping short would leave programs behind
            tell("pyama", "stopping already; it takes some seconds")
            return
        tell("pyama", "stopping")
        running.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end, number)
    with suppress(asyncio.CancelledError):
        await running
    return received[0]


@contextmanager
def _only_once(settings: Settings) -> Iterator[None]:
    """Refuse a second stack with the same home; the kernel releases the lock when the first one dies."""
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(settings.home / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pid = json.loads(os.pread(descriptor, 1000, 0) or b"{}").get("pid", "unknown")
            raise StackRunningError(
                f"pyama up is running already (process {pid}, home {settings.home}); stop it first, or set PYAMA_HOME"
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": os.getpid()}).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _refuse_used(host: str, port: int, name: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise RunFailedError(f"port {port} of {host} is in use; choose another one by {name}") from error
