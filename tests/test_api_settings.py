"""Settings of the API from the environment, and how it starts."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from pydantic_settings import BaseSettings

from api.security import new_api_key
from api.settings import Settings
from tasks.errors import InvalidParametersError
from tests.api_server import NO_PREFECT
from tests.engines import ROOT, wait_until

HEAVY = ("numba", "cv2", "scipy", "skimage")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without any settings."""
    for name in list(os.environ):
        if name.startswith("PYAMA_"):
            monkeypatch.delenv(name)
    return monkeypatch


def test_defaults(environment: pytest.MonkeyPatch) -> None:
    settings = Settings.from_environment()
    assert (settings.host, settings.port, settings.debug) == ("127.0.0.1", 8000, False)
    assert (settings.max_jobs, settings.job_timeout, settings.allowed_paths) == (10, None, None)
    assert (settings.cors_origins, settings.rate_limit, settings.api_keys) == ((), None, ())
    assert settings.home == Path.home() / ".pyama"


def test_the_documented_variables(environment: pytest.MonkeyPatch) -> None:
    documented = {
        "PYAMA_HOST": "0.0.0.0", "PYAMA_PORT": "8000", "PYAMA_DEBUG": "false", "PYAMA_MAX_JOBS": "10",
        "PYAMA_JOB_TIMEOUT": "3600", "PYAMA_ALLOWED_PATHS": "/data,/experiment",
    }  # fmt: skip
    for name, value in documented.items():
        environment.setenv(name, value)
    settings = Settings.from_environment()
    assert settings.host == "0.0.0.0"
    assert settings.job_timeout == 3600
    assert settings.allowed_paths == (Path("/data"), Path("/experiment"))


def test_an_empty_variable_is_none(environment: pytest.MonkeyPatch) -> None:
    for name in ("PYAMA_ALLOWED_PATHS", "PYAMA_JOB_TIMEOUT", "PYAMA_API_KEYS", "PYAMA_PORT"):
        environment.setenv(name, "")
    assert Settings.from_environment() == Settings()


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("PYAMA_PORT", "abc", "'abc'"),
        ("PYAMA_PORT", "65536", "65535"),
        ("PYAMA_DEBUG", "maybe", "'maybe'"),
        ("PYAMA_MAX_JOBS", "0", "'0'"),
        ("PYAMA_MAX_JOBS", "1.5", "'1.5'"),
        ("PYAMA_JOB_TIMEOUT", "-1", "'-1'"),
        ("PYAMA_JOB_TIMEOUT", "nan", "'nan'"),
        ("PYAMA_ALLOWED_PATHS", "/data,data", "'data'"),
        ("PYAMA_ALLOWED_PATHS", " , ", "names nothing"),
        ("PYAMA_API_KEYS", ",", "names nothing"),
        ("PYAMA_CORS_ORIGINS", "lab.example", "https://"),
        ("PYAMA_PUBLIC_URL", "lab.example", "https://"),
        ("PYAMA_RATE_LIMIT", "0", "'0'"),
        ("PYAMA_MAX_BODY_BYTES", "10", "'10'"),
        ("PYAMA_HOME", "here", "absolute"),
        ("PYAMA_NIGHTLY_FOLDER", "incoming", "absolute"),
        ("PYAMA_NIGHTLY_CRON", "at two", "'at two'"),
        ("PYAMA_NIGHTLY_TIMEZONE", "Munich", "'Munich'"),
        ("PYAMA_NIGHTLY_WAIT", "perhaps", "'perhaps'"),
        ("PYAMA_PUBLIC_URL", "lab.example.org", "'lab.example.org'"),
        ("PYAMA_WEBHOOKS", "hooks.example.org", "begins with https://"),
        ("PYAMA_ALLOWED_WEBHOOKS", "https://hooks.example.org/?a=1", "no query"),
        ("PYAMA_WEBHOOK_SECRET", "short", "at least 16"),
        ("PYAMA_KEEP_RUNS_DAYS", "0", "'0'"),
    ],
)
def test_a_wrong_value_is_told_in_one_line(environment: pytest.MonkeyPatch, name: str, value: str, told: str) -> None:
    environment.setenv(name, value)
    with pytest.raises(InvalidParametersError) as error:
        Settings.from_environment()
    text = str(error.value)
    assert text.startswith(f"{name}: ")
    assert told in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("folder", "output", "told"),
    [
        ("/data/incoming", "", "PYAMA_NIGHTLY_OUTPUT: must be set where PYAMA_NIGHTLY_FOLDER is"),
        ("/elsewhere", "/data/results", "PYAMA_NIGHTLY_FOLDER: is outside the folders of PYAMA_ALLOWED_PATHS"),
        ("/data/../elsewhere", "/data/results", "PYAMA_NIGHTLY_FOLDER: is outside the folders of PYAMA_ALLOWED_PATHS"),
        ("/data/incoming", "/database", "PYAMA_NIGHTLY_OUTPUT: is outside the folders of PYAMA_ALLOWED_PATHS"),
    ],
)
def test_nightly_folders_lie_inside_the_allowed_ones(
    environment: pytest.MonkeyPatch, folder: str, output: str, told: str
) -> None:
    environment.setenv("PYAMA_ALLOWED_PATHS", "/data")
    environment.setenv("PYAMA_NIGHTLY_FOLDER", folder)
    environment.setenv("PYAMA_NIGHTLY_OUTPUT", output)
    with pytest.raises(InvalidParametersError, match=told):
        Settings.from_environment()
    environment.setenv("PYAMA_NIGHTLY_FOLDER", "/data/incoming")
    environment.setenv("PYAMA_NIGHTLY_OUTPUT", "/data/results")
    assert Settings.from_environment().nightly_folder == Path("/data/incoming")


def test_a_key_that_is_not_hashed_is_not_printed(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("PYAMA_API_KEYS", "my-secret-key")
    with pytest.raises(InvalidParametersError, match="PYAMA_API_KEYS: each key is written as") as error:
        Settings.from_environment()
    assert "my-secret-key" not in str(error.value)


def test_keys_come_from_the_environment_and_from_a_file(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (_, alice), (_, bob), (_, carol) = (new_api_key(name, "operator") for name in ("alice", "bob", "carol"))
    file = tmp_path / "keys"
    file.write_text(f"# of the microscopists\n{bob}\n\n  {carol}  \n")
    environment.setenv("PYAMA_API_KEYS", alice)
    environment.setenv("PYAMA_API_KEYS_FILE", str(file))
    assert [key.name for key in Settings.from_environment().keys] == ["alice", "bob", "carol"]
    environment.delenv("PYAMA_API_KEYS")
    assert [key.name for key in Settings.from_environment().keys] == ["bob", "carol"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot read .*No such file"),
        (b"", "lists nothing"),
        (b"# none yet\n", "lists nothing"),
        (b"\xff\xfe\n", "cannot read"),
        (b"alice:operator:my-secret-key\n", "each key is written as"),
    ],
)
def test_a_wrong_file_of_keys_stops_the_start(
    environment: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None, told: str
) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content)
    environment.setenv("PYAMA_API_KEYS_FILE", str(file))
    with pytest.raises(InvalidParametersError, match=f"PYAMA_API_KEYS_FILE: .*{told}") as error:
        Settings.from_environment()
    assert "my-secret-key" not in str(error.value)
    assert "\n" not in str(error.value)


def test_all_wrong_values_are_told_at_once(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("PYAMA_PORT", "x")
    environment.setenv("PYAMA_MAX_JOBS", "y")
    with pytest.raises(InvalidParametersError, match=r"PYAMA_PORT.*PYAMA_MAX_JOBS"):
        Settings.from_environment()


def test_every_setting_is_described() -> None:
    assert issubclass(Settings, BaseSettings)
    assert all(field.description for field in Settings.model_fields.values())


@pytest.mark.parametrize(
    "command", [["-m", "pyama_backend"], ["-m", "uvicorn", "pyama_backend.main:app", "--workers", "2", "--port", "0"]]
)
def test_a_wrong_value_stops_the_start(command: list[str]) -> None:
    ended = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env={**os.environ, "PYAMA_PORT": "abc"}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert "pyama: PYAMA_PORT: " in ended.stderr
    assert "Traceback" not in ended.stderr
    if command[1] == "pyama_backend":
        assert ended.returncode != 0
        assert len(ended.stderr.splitlines()) == 1


def test_the_documented_command_serves_and_loads_nothing_heavy(tmp_path: Path) -> None:
    """Run `python -m pyama_backend`, and at its end look at what it has imported."""
    report = "import atexit, json, sys; atexit.register(lambda: print(json.dumps(sorted(sys.modules))))"
    code = f"{report}; import runpy; runpy.run_module('pyama_backend', run_name='__main__')"
    log = tmp_path / "log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=errors,
            env={**os.environ, "PYAMA_PORT": "0", "PYAMA_HOME": str(tmp_path), "PREFECT_API_URL": NO_PREFECT},
        )  # fmt: skip
    try:
        wait_until(lambda: b"running on" in log.read_bytes() or process.poll() is not None, "the API is up")
        address = re.search(r"http://127\.0\.0\.1:\d+", log.read_text())
        assert address, log.read_text()
        film = ROOT / "tests" / "data" / "nd2_real"
        with httpx.Client(base_url=address[0], timeout=30) as client:
            for path in film.glob("*.nd2"):
                body = {"file_path": str(path)}
                assert client.post("/api/v1/processing/load-metadata", json=body).status_code == 200
            assert client.get("/api/v1/analysis/models").status_code == 200
            assert client.get("/docs").status_code == 200
    finally:
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
    loaded = {name.partition(".")[0] for name in json.loads(output.splitlines()[-1])}
    assert "nd2" in loaded
    assert not loaded & {*HEAVY, "flows", "deployments"}
    assert "/api/v1/analysis/models" in log.read_text()


@pytest.mark.parametrize("name", ["PYAMA_WEBHOOKS", "PYAMA_ALLOWED_WEBHOOKS"])
def test_notices_are_never_sent_without_a_signature(environment: pytest.MonkeyPatch, name: str) -> None:
    environment.setenv(name, "https://hooks.example.org/secret-path")
    settings = Settings.from_environment()  # who sends no notices need not know the secret
    with pytest.raises(InvalidParametersError, match=r"^PYAMA_WEBHOOK_SECRET: must be set where PYAMA_WEBHOOKS"):
        settings.require_webhook_secret()
    environment.setenv("PYAMA_WEBHOOK_SECRET", "a long enough secret")
    Settings.from_environment().require_webhook_secret()


def test_secrets_of_notices_are_not_repeated(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("PYAMA_WEBHOOKS", "https://user:secret-path@hooks.example.org/")
    environment.setenv("PYAMA_WEBHOOK_SECRET", "secret-path")
    with pytest.raises(InvalidParametersError) as error:
        Settings.from_environment()
    assert "secret-path" not in str(error.value)
    environment.setenv("PYAMA_WEBHOOKS", "https://hooks.example.org/")
    environment.setenv("PYAMA_WEBHOOK_SECRET", "a long enough secret-path")
    assert "secret-path" not in repr(Settings.from_environment())


def test_where_users_reach_the_api() -> None:
    assert Settings(host="0.0.0.0", port=8001).url == "http://127.0.0.1:8001"
    assert Settings(host="::1").url == "http://[::1]:8000"
    assert Settings(host="::").url == "http://[::1]:8000"
    assert Settings(public_url="https://pyama.example.org/lab/").url == "https://pyama.example.org/lab"
