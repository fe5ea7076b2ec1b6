"""What `pyama doctor` finds: in order where all is well, and a problem with its remedy where it is not."""

import asyncio
import json
import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from uuid import uuid4

import asyncpg
import prefect
import pytest
from packaging.requirements import Requirement
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL, PREFECT_API_URL, temporary_settings

from api.settings import Settings
from deployments.cli import main
from deployments.database import database_url, sqlite_file
from deployments.deploying import deploy
from deployments.doctor import examine
from deployments.health.clocks import clock_finding, file_clock_findings
from deployments.health.database import database_findings, newest_revision, size_finding
from deployments.health.finding import Finding, checked
from deployments.health.orchestrator import orchestrator_findings, queue_finding, server_version_finding
from deployments.health.storage import disk_finding, folder_finding, storage_findings
from deployments.health.versions import broken_requirements, compared_with_tested
from tests.program import run_pyama
from tests.stack import RunningStack


def problems(findings: Iterator[Finding] | list[Finding]) -> list[Finding]:
    found = [finding for finding in findings if not finding.good]
    assert all(finding.remedy for finding in found), found
    return found


def test_a_stack_that_runs_is_in_order(stack: RunningStack) -> None:
    allowed = {**stack.environment, "PYAMA_ALLOWED_PATHS": str(stack.home)}
    ended = run_pyama("doctor", "--json", environment=allowed)
    told = json.loads(ended.stdout)
    assert [finding for finding in told["findings"] if not finding["good"]] == []
    assert (ended.returncode, told["good"]) == (0, True)
    said = "\n".join(finding["text"] for finding in told["findings"])
    for words in (
        "clocks: the Prefect server agrees", f"the server has Prefect {prefect.__version__}, as this program",
        "deployments: all 4 are known", "workers: 1 online at the work pool pyama,", "are under way at pyama-control",
        f"database: sqlite+aiosqlite:///{stack.home}/prefect/prefect.db is of the version",
        f"paths: {stack.home} of PYAMA_ALLOWED_PATHS can be read", f"clocks: the file system of {stack.home} agrees",
    ):  # fmt: skip
        assert words in said, said


def test_problems_end_with_exit_code_1_and_say_what_to_do(
    prefect_api: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYAMA_HOME", str(tmp_path))
    monkeypatch.setenv("PYAMA_ALLOWED_PATHS", str(tmp_path / "nowhere"))
    asyncio.run(deploy(Settings(home=tmp_path)))
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert f"PROBLEM paths: {tmp_path}/nowhere of PYAMA_ALLOWED_PATHS is no folder; mount or create it" in out
    assert f"ok      Prefect: the API at {prefect_api} answers" in out
    assert "PROBLEM workers: 0 online at the work pool pyama; start one: prefect worker start --pool pyama" in out


def test_a_server_that_does_not_answer() -> None:
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        (problem,) = (one for one in examine() if one.text.startswith("Prefect"))
    assert "does not answer" in problem.text
    assert problem.remedy.startswith("start it")


@contextmanager
def server_that_answers(statuses: dict[str, int]) -> Iterator[str]:
    """A server that answers as Prefect's does where it is not well, by the end of the path."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(statuses[self.path.rpartition("/")[2]])
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/api"
        server.shutdown()


def test_a_server_without_a_database() -> None:
    with server_that_answers({"ready": 503}) as url:
        (problem,) = problems(orchestrator_findings(url))
    assert problem.text == f"Prefect: the API at {url} has no database"


def test_a_server_that_asks_for_a_password() -> None:
    statuses = {"ready": 200, "version": 401, "csrf-token": 422}
    with server_that_answers(statuses) as url, temporary_settings({PREFECT_API_URL: url}):
        (problem,) = problems(orchestrator_findings(url))
    assert problem.text == f"Prefect: the API at {url} asks for a password, and does not take this program's"
    assert "PREFECT_API_AUTH_STRING" in problem.remedy


def test_a_paused_pool_and_a_queue_that_stands(prefect_api: str, tmp_path: Path) -> None:
    asyncio.run(deploy(Settings(home=tmp_path)))
    with get_client(sync_client=True) as client:
        client.request("PATCH", "/work_pools/{name}", path_params={"name": "pyama"}, json={"is_paused": True})
    try:
        said = [str(finding) for finding in problems(orchestrator_findings(prefect_api))]
    finally:
        with get_client(sync_client=True) as client:
            client.request("PATCH", "/work_pools/{name}", path_params={"name": "pyama"}, json={"is_paused": False})
    assert "PROBLEM queue: the work pool pyama is paused; run: prefect work-pool resume pyama" in said
    assert queue_finding("pyama", 3, 10, 10, paused=False).good
    assert queue_finding("pyama", 0, 0, None, paused=False).good
    for active, limit in ((9, 10), (0, None)):
        finding = queue_finding("pyama", 3, active, limit, paused=False)
        assert not finding.good
        assert "3 wait for more than 10 minutes although there is room" in finding.text


def test_another_prefect_at_the_server() -> None:
    assert server_version_finding(prefect.__version__).good
    (problem,) = problems([server_version_finding("3.0.0")])
    assert "the server has Prefect 3.0.0" in problem.text


def test_the_database_of_a_server(prefect_api: str, tmp_path: Path) -> None:
    assert problems(database_findings(Settings(home=tmp_path))) == []
    assert sqlite_file(database_url()) is not None


def test_a_database_of_another_version(tmp_path: Path) -> None:
    own = tmp_path / "prefect.db"
    with closing(sqlite3.connect(own)) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('of-old')")
        connection.commit()
    with temporary_settings({PREFECT_API_DATABASE_CONNECTION_URL: f"sqlite+aiosqlite:///{own}"}):
        (problem,) = problems(database_findings(Settings(home=tmp_path)))
    assert f"{own} is of version of-old, and Prefect {prefect.__version__} works with" in problem.text
    assert "prefect server database upgrade" in problem.remedy


@pytest.fixture
def postgresql() -> Iterator[str]:
    """Address of an empty database of this machine's PostgreSQL, which is dropped afterwards."""
    name = f"pyama_doctor_{uuid4().hex[:12]}"

    async def do(*statements: str, database: str = "postgres") -> None:
        connection = await asyncpg.connect(user="postgres", host="127.0.0.1", database=database, timeout=5)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    try:
        asyncio.run(do(f"CREATE DATABASE {name}"))
    except (OSError, asyncpg.PostgresError) as error:
        pytest.skip(f"no PostgreSQL on this machine that lets user postgres in: {error}")
    try:
        asyncio.run(do("CREATE TABLE alembic_version AS SELECT 'of-old' AS version_num", database=name))
        yield f"postgresql+asyncpg://postgres:secret@127.0.0.1:5432/{name}"
    finally:
        asyncio.run(do(f"DROP DATABASE {name}"))


def test_a_database_of_postgresql(postgresql: str, tmp_path: Path) -> None:
    with temporary_settings({PREFECT_API_DATABASE_CONNECTION_URL: postgresql}):
        clock, revision, size = database_findings(Settings(home=tmp_path))
    assert clock.text == "clocks: the database agrees with this machine"
    assert not revision.good
    assert "is of version of-old" in revision.text
    assert size.text.endswith("MB (postgresql)")
    assert "secret" not in revision.text + size.text


def test_databases_of_two_kinds() -> None:
    assert newest_revision("postgresql") != newest_revision("sqlite")
    assert size_finding("here", "postgresql", 100 << 30).good
    assert "PYAMA_KEEP_RUNS_DAYS" in problems([size_finding("here", "sqlite", 5 << 30)])[0].remedy


def test_clocks(tmp_path: Path) -> None:
    assert problems(file_clock_findings(Settings(home=tmp_path))) == []
    assert list(tmp_path.iterdir()) == []
    for told_s in (996.0, 1000.0, 1030.0, 1064.0):
        assert clock_finding("the server", told_s, 1000.0, 1060.0).good  # it was busy for a minute
    (problem,) = problems([clock_finding("the server", 940.0, 1000.0, 1001.0)])
    assert problem.text == "clocks: the server is 60 s behind this machine"
    assert "59 s ahead of" in clock_finding("the server", 1060.0, 1000.0, 1001.0).text


def test_disks(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    assert disk_finding(tmp_path, least_free_bytes=0, least_free_share=0.0).good
    (problem,) = problems([disk_finding(tmp_path, least_free_bytes=2 * free + 1)])
    assert "GB are free" in problem.text


def test_folders(tmp_path: Path) -> None:
    assert folder_finding("PYAMA_HOME", tmp_path / "a" / "b", os.W_OK, created=True).good
    assert not (tmp_path / "a").exists()
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "nowhere"):
        (problem,) = problems([folder_finding("PYAMA_ALLOWED_PATHS", folder, os.R_OK)])
        assert problem.text == f"paths: {folder} of PYAMA_ALLOWED_PATHS is no folder"
    settings = Settings(home=tmp_path, nightly_folder=tmp_path / "in", nightly_output=tmp_path / "out")
    assert [one.text for one in problems(storage_findings(settings))] == [
        f"paths: {tmp_path}/in of PYAMA_NIGHTLY_FOLDER is no folder"
    ]


@pytest.mark.skipif(os.getuid() == 0, reason="root may read and write everything")
def test_a_folder_that_may_not_be_used(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    (problem,) = problems([folder_finding("PYAMA_HOME", tmp_path, os.R_OK | os.W_OK)])
    assert "cannot be written" in problem.text


def test_packages() -> None:
    installed = metadata.version("numpy")
    assert list(broken_requirements([Requirement(f"numpy>={installed}")])) == []
    wrong = [Requirement("numpy<1"), Requirement("no-such-package-of-pyama>=1")]
    old, missing = problems(broken_requirements(wrong))
    assert old.text == f"packages: numpy {installed} is installed, but numpy<1 is needed"
    assert "no-such-package-of-pyama is not installed" in missing.text
    assert "numpy" not in compared_with_tested({"numpy": installed, "no-such-package-of-pyama": "1"}).text
    assert f"numpy {installed} (tested: 1.0)" in compared_with_tested({"numpy": "1.0"}).text


def test_a_check_that_fails_is_a_finding() -> None:
    def check() -> Iterator[Finding]:
        raise OSError("the disk is gone")
        yield

    assert checked("disk", check) == [Finding(False, "disk: OSError: the disk is gone")]
