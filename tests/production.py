"""The programs of production, as the compose file has them: read from it, and run as plain processes.

What containers would see at addresses and paths of their own is put at free ports of this machine and in a folder;
every other word of a command, an environment or a health check is that of the file.
"""

import asyncio
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import asyncpg
import pytest
import yaml

from api.security import new_api_key
from deployments.parent import end_with_parent
from tests.engines import ROOT, wait_until
from tests.stack import descendants, free_port, is_alive

COMPOSE = ROOT / "deployments" / "compose" / "compose.yaml"
CONTAINERFILE = ROOT / "deployments" / "container" / "Containerfile"
IMAGE = "pyama-backend"
START_DEADLINE_S = 240.0
STOP_DEADLINE_S = 60.0


@dataclass(frozen=True)
class Service:
    """A service of the compose file that runs our image."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    """What the file says; what all share comes before what is its own."""
    health_check: tuple[str, ...]
    """Empty where there is none."""
    needs: Mapping[str, str]
    """Services that have to be there before, and in what condition."""
    replicas: int


def read_env_file(path: Path) -> dict[str, str]:
    """Read a file of settings, in the form that Docker, Kubernetes and systemd all take: NAME=VALUE, and comments."""
    settings = {}
    for line in path.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, value = line.partition("=")
            assert re.fullmatch(r"[A-Z_]+", name), line
            settings[name] = value
    return settings


def read_compose() -> dict[str, Any]:
    """Read the compose file."""
    content: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return content


def services() -> dict[str, Service]:
    """Services of the compose file that run our image."""
    return {
        name: _service(name, described)
        for name, described in read_compose()["services"].items()
        if described["image"].startswith(f"{IMAGE}:")
    }


def _service(name: str, described: Mapping[str, Any]) -> Service:
    environment: dict[str, str] = {}
    for file in described["env_file"]:
        environment |= read_env_file(COMPOSE.parent / file)
    check: Sequence[str] = described["healthcheck"].get("test", ())
    assert not check or check[0] == "CMD"
    return Service(
        name,
        tuple(described["command"]),
        environment | described["environment"],
        tuple(check[1:]),
        {other: terms["condition"] for other, terms in described.get("depends_on", {}).items()},
        described["deploy"].get("replicas", 1),
    )


class Production:
    """All services of the compose file that run our image, each replica a process as its container would be.

    Parameters
    ----------
    folder
        Stands for the volume of data, the secrets, and what is private to a container.
    database
        Settings of Prefect's database, in place of those of the file.
    """

    def __init__(self, folder: Path, database: Mapping[str, str]) -> None:
        self._folder = folder
        self._database = database
        self._entrypoint = image_entrypoint()
        self._services = services()
        self._ports = {port: free_port() for port in (4200, 8786, 8787, 8000)}
        self._own_ports: dict[str, dict[int, int]] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.data = folder / "data"
        self.data.mkdir()
        self.api_url = f"http://127.0.0.1:{self._ports[8000]}"
        self.prefect_url = f"http://127.0.0.1:{self._ports[4200]}"
        self.dask_metrics_url = f"http://127.0.0.1:{self._ports[8787]}/metrics"
        self.password = secrets.token_hex(16)
        self.api_key, entry = new_api_key("tests", "operator")
        self._write_secrets(
            database_password=database["password"], prefect_auth=f"pyama:{self.password}", api_keys=entry
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, *names: str) -> None:
        """Start services, each as soon as what it needs is there, and wait until all are well."""
        waiting = [self._services[name] for name in names]
        deadline = time.monotonic() + START_DEADLINE_S
        while waiting:
            for service in [one for one in waiting if all(self._is_met(*need) for need in one.needs.items())]:
                waiting.remove(service)
                for number in range(service.replicas):
                    self._run(service, f"{service.name}-{number}")
            assert time.monotonic() < deadline, f"these wait in vain: {[service.name for service in waiting]}"
            time.sleep(0.1)
        while not all(self.is_well(name) for name in names):
            assert time.monotonic() < deadline, self._logs()
            time.sleep(0.1)

    def is_well(self, name: str) -> bool:
        """Whether all replicas of a service are healthy, or have ended well where they are meant to end."""
        service = self._services[name]
        return all(self._is_well(service, f"{name}-{number}") for number in range(service.replicas))

    def stop(self) -> dict[str, int]:
        """End all as Docker does, those first that need others, and return the exit codes by replica.

        Nothing is left behind.
        """
        started = [pid for process in self._processes.values() for pid in (process.pid, *descendants(process.pid))]
        codes: dict[str, int] = {}
        while self._processes:
            running = {replica.rpartition("-")[0] for replica in self._processes}
            needed = {other for name in running for other in self._services[name].needs}
            last = [replica for replica in self._processes if replica.rpartition("-")[0] not in needed]
            codes |= self._end({replica: self._processes.pop(replica) for replica in last})
        wait_until(lambda: not any(map(is_alive, started)), "nothing that they had started is left", STOP_DEADLINE_S)
        return codes

    def _end(self, processes: Mapping[str, subprocess.Popen[bytes]]) -> dict[str, int]:
        for process in processes.values():
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_DEADLINE_S
        for process in processes.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(deadline - time.monotonic(), 0.1))
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return {replica: process.returncode for replica, process in processes.items()}

    def command_lines(self) -> str:
        """What the process list shows of all of them."""
        lines = []
        for process in self._processes.values():
            for pid in (process.pid, *descendants(process.pid)):
                with suppress(OSError):
                    lines.append(Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " "))
        return "\n".join(lines)

    def process(self, replica: str) -> subprocess.Popen[bytes]:
        """Process of a replica, e.g. `dask-worker-1`."""
        return self._processes[replica]

    def log(self, replica: str) -> str:
        """What a replica has said."""
        return (self._folder / f"{replica}.log").read_text(errors="replace")

    def _is_met(self, name: str, condition: str) -> bool:
        if name not in self._services:  # the database is here before
            return True
        if f"{name}-0" not in self._processes:
            return False
        assert condition in {"service_healthy", "service_completed_successfully"}
        return self.is_well(name)

    def _is_well(self, service: Service, replica: str) -> bool:
        code = self._processes[replica].poll()
        if not service.health_check and service.name == "deploy":
            assert code in {None, 0}, f"{replica} ended with {code}\n{self._logs()}"
            return code == 0
        assert code is None, f"{replica} ended with {code}\n{self._logs()}"
        if not service.health_check:
            return True
        command = [self._here(word, replica) for word in service.health_check]
        return subprocess.run(command, cwd=ROOT, env=self._environment(service, replica), check=False).returncode == 0

    def _run(self, service: Service, replica: str) -> None:
        self._own_ports[replica] = {8080: free_port(), 8788: free_port()}
        (self._folder / replica).mkdir()
        with (self._folder / f"{replica}.log").open("wb") as log:
            self._processes[replica] = subprocess.Popen(
                [*self._entrypoint, *(self._here(word, replica) for word in service.command)],
                cwd=ROOT, env=self._environment(service, replica), stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=end_with_parent,
            )  # fmt: skip

    def _environment(self, service: Service, replica: str) -> dict[str, str]:
        home = self._folder / replica
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYAMA_", "PREFECT_"))}
        described = {name: self._here(value, replica) for name, value in service.environment.items()}
        if "PREFECT_SERVER_DATABASE_HOST" in described:
            described |= {
                f"PREFECT_SERVER_DATABASE_{name.upper()}": value
                for name, value in self._database.items()
                if name != "password"
            }
        return {
            **inherited,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), inherited["PATH"]]),
            "PYTHONUNBUFFERED": "1",
            "PYAMA_HOME": str(home),
            "PREFECT_HOME": str(home / "prefect"),
            **described,
        }

    def _here(self, text: str, replica: str) -> str:
        """Put what containers have of their own at its place on this machine."""
        ports = self._ports | self._own_ports[replica]
        text = re.sub(r"0\.0\.0\.0|\b(prefect|dask-scheduler)(?=:\d)", "127.0.0.1", text)
        text = re.sub(r"^/(data|tmp)\b", rf"{self._folder}/\1", text)
        text = re.sub(r"^/run/secrets/", f"{self._folder}/secrets/", text)
        return re.sub(rf"\b({'|'.join(map(str, ports))})\b", lambda found: str(ports[int(found[0])]), text)

    def _write_secrets(self, **contents: str) -> None:
        (self._folder / "secrets").mkdir(mode=0o700)
        (self._folder / "tmp").mkdir()
        assert contents.keys() == read_compose()["secrets"].keys()
        for name, content in contents.items():
            (self._folder / "secrets" / name).write_text(f"{content}\n")

    def _logs(self) -> str:
        return "\n".join(f"== {name}\n{self.log(name)[-3000:]}" for name in self._processes)


def image_entrypoint() -> list[str]:
    """What the image puts before every command."""
    text = CONTAINERFILE.read_text()
    (words,) = re.findall(r"^ENTRYPOINT (\[.*\])$", text, re.MULTILINE)
    entrypoint: list[str] = json.loads(words)
    return entrypoint


@contextmanager
def postgresql_database() -> Iterator[dict[str, str]]:
    """Have a database of its own, with an owner of its own, at the PostgreSQL server of this machine.

    Skips the test where there is none.
    """
    name = f"pyama_test_{secrets.token_hex(6)}"
    password = secrets.token_hex(16)
    try:
        at_postgresql(f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")  # both are made above
    except (OSError, asyncpg.PostgresError) as error:
        pytest.skip(f"no PostgreSQL server that lets {_POSTGRESQL['user']} in at {_POSTGRESQL['host']}: {error}")
    try:
        at_postgresql(f"CREATE DATABASE {name} OWNER {name}")
        yield {"host": _POSTGRESQL["host"], "user": name, "name": name, "password": password}
    finally:
        at_postgresql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        at_postgresql(f"DROP ROLE {name}")


_POSTGRESQL = {"host": "127.0.0.1", "user": "postgres"}


def at_postgresql(statement: str, database: str = "postgres") -> list[Mapping[str, Any]]:
    """Run a statement at the PostgreSQL server of this machine, and return its rows."""

    async def rows() -> list[Mapping[str, Any]]:
        connection = await asyncpg.connect(**_POSTGRESQL, database=database, timeout=10)
        try:
            return [dict(row) for row in await connection.fetch(statement)]
        finally:
            await connection.close()

    return asyncio.run(rows())
