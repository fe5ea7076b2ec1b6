"""Secrets from files, and the small programs of the image."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.with_secrets import read_secrets
from tests.engines import ROOT

PASSWORD = "PREFECT_SERVER_DATABASE_PASSWORD"


def test_prefect_takes_its_password_from_a_file(tmp_path: Path) -> None:
    """Run a program that tells where Prefect would connect to."""
    file = tmp_path / "password"
    file.write_text("s/p:e@c cial\n")
    show = "from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL as url; print(url.value())"
    database = {"DRIVER": "postgresql+asyncpg", "HOST": "db", "USER": "pyama", "NAME": "prefect"}
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
        "PREFECT_HOME": str(tmp_path),
        f"{PASSWORD}_FILE": str(file),
        **{f"PREFECT_SERVER_DATABASE_{name}": value for name, value in database.items()},
    }
    ended = subprocess.run(
        [sys.executable, "-m", "deployments.with_secrets", sys.executable, "-c", show],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.stdout.strip() == "postgresql+asyncpg://pyama:s%2Fp%3Ae%40c cial@db:5432/prefect", ended.stderr


def test_only_known_secrets_are_read(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("hush\r\n")
    environment = {f"{PASSWORD}_FILE": str(file), "SSL_CERT_FILE": str(file), "PREFECT_API_AUTH_STRING_FILE": ""}
    assert read_secrets(environment) == {PASSWORD: "hush"}


@pytest.mark.parametrize(
    ("content", "told"),
    [(None, "cannot read"), (b"", "one line"), (b"\n", "one line"), (b"a\nb\n", "one line"), (b"\xff", "cannot read")],
)
def test_a_wrong_file_is_told_without_what_is_in_it(tmp_path: Path, content: bytes | None, told: str) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    ended = run_with_secrets("true", **{f"{PASSWORD}_FILE": str(file)})
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"pyama: {PASSWORD}_FILE: ")
    assert told in line
    assert str(file) in line


def test_a_secret_beside_its_file_is_refused(tmp_path: Path) -> None:
    ended = run_with_secrets("true", **{PASSWORD: "a", f"{PASSWORD}_FILE": str(tmp_path / "none")})
    assert (ended.returncode, ended.stderr) == (
        2,
        f"pyama: {PASSWORD} and {PASSWORD}_FILE exclude each other; unset one\n",
    )


def test_its_program_takes_its_place() -> None:
    ended = run_with_secrets("sh", "-c", 'echo $0 "$@"; exit 7', "zero", "one two")
    assert (ended.returncode, ended.stdout) == (7, "zero one two\n")


@pytest.mark.parametrize(("command", "code"), [((), 2), (("no-such-program",), 127)])
def test_without_a_program_it_says_so(command: tuple[str, ...], code: int) -> None:
    ended = run_with_secrets(*command)
    assert ended.returncode == code
    assert len(ended.stderr.splitlines()) == 1


def run_with_secrets(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deployments.with_secrets", *command],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("module", ["deployments.answers", "deployments.with_secrets"])
def test_what_runs_before_everything_loads_the_standard_library_alone(module: str) -> None:
    program = f"import json, sys, {module}; print(json.dumps(sorted({{n.partition('.')[0] for n in sys.modules}})))"
    ended = subprocess.run([sys.executable, "-S", "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(json.loads(ended.stdout)) <= {*sys.stdlib_module_names, "deployments", "__main__"}


def test_a_health_check_of_what_is_not_there_fails() -> None:
    with socket.socket() as taken:  # bound, and not listening
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/health"
        ended = subprocess.run([sys.executable, "-m", "deployments.answers", url], cwd=ROOT, check=False)
    assert ended.returncode == 1
