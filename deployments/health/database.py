"""Prefect's database, where it can be reached from here: kind, size, and whether it is of the server's version."""

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import prefect.server.database
from alembic.config import Config
from alembic.script import ScriptDirectory
from prefect.settings import get_current_settings
from sqlalchemy import text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import create_async_engine

from api.settings import Settings
from deployments.database import database_url, sqlite_file
from deployments.health.clocks import clock_finding
from deployments.health.finding import Finding

_TIMEOUT_S = 5.0
_LARGE_SQLITE_BYTES = 4 << 30


def database_findings(settings: Settings) -> Iterator[Finding]:
    """Look at the database of a server on this machine."""
    url = _url(settings)
    if url.get_backend_name() == "postgresql":
        before_s = time.time()
        revision, n_bytes, told_s = asyncio.run(_ask_postgresql(url))
        yield clock_finding("the database", told_s, before_s, time.time())
    elif (path := sqlite_file(url)) is not None:
        revision, n_bytes = _ask_sqlite(path)
    else:
        yield Finding(True, "database: none on this machine; the server keeps it")
        return
    where = url.render_as_string(hide_password=True).partition("?")[0]
    yield revision_finding(where, revision, newest_revision(url.get_backend_name()))
    yield size_finding(where, url.get_backend_name(), n_bytes)


def revision_finding(where: str, revision: str | None, newest: str | None) -> Finding:
    """Whether a database is of the version that the Prefect of this program works with."""
    if revision == newest:
        return Finding(True, f"database: {where} is of the version of Prefect {prefect.__version__}")
    return Finding(
        False,
        f"database: {where} is of version {revision}, and Prefect {prefect.__version__} works with {newest}",
        "start the server of the same version once, or run: prefect server database upgrade",
    )


def size_finding(where: str, kind: str, n_bytes: int) -> Finding:
    """Whether a database has not grown too large for its kind."""
    said = f"database: {where} has {n_bytes / 1e6:.0f} MB ({kind})"
    if kind == "sqlite" and n_bytes > _LARGE_SQLITE_BYTES:
        return Finding(False, said, "set PYAMA_KEEP_RUNS_DAYS, or move to PostgreSQL")
    return Finding(True, said)


def newest_revision(kind: str) -> str | None:
    """Version of a database, `sqlite` or `postgresql`, that the installed Prefect works with."""
    migrations = Path(prefect.server.database.__file__).parent / "_migrations"
    config = Config()
    config.set_main_option("script_location", str(migrations))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", str(migrations / "versions" / kind))
    return ScriptDirectory.from_config(config).get_current_head()


def _url(settings: Settings) -> URL:
    """Where the database is: as Prefect's own settings have it, else where `pyama up` keeps it."""
    prefect_settings = get_current_settings()
    own = settings.home / "prefect" / "prefect.db"
    told = {"connection_url", "host"} & prefect_settings.server.database.model_fields_set
    if told or "home" in prefect_settings.model_fields_set or not own.is_file():
        return database_url()
    return make_url(f"sqlite+aiosqlite:///{own}")


def _ask_sqlite(path: Path) -> tuple[str | None, int]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=_TIMEOUT_S)) as connection:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return (row[0] if row else None), path.stat().st_size


async def _ask_postgresql(url: URL) -> tuple[str | None, int, float]:
    engine = create_async_engine(url, connect_args={"timeout": _TIMEOUT_S})
    asked = """
        SELECT (SELECT version_num FROM alembic_version),
               pg_database_size(current_database()),
               extract(epoch FROM clock_timestamp())
    """
    try:
        async with engine.connect() as connection:
            revision, n_bytes, now_s = (await connection.execute(text(asked))).one()
    finally:
        await engine.dispose()
    return revision, n_bytes, float(now_s)
