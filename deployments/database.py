"""Prefect's database, as far as it is on this machine: where it is, and giving its unused space back to the disk.

SQLite keeps the space of what was deleted for what comes next. PostgreSQL has its own autovacuum. Old events and what
was left over of deleted runs is removed by Prefect's server itself (PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED).
"""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

from prefect.client.orchestration import PrefectClient
from prefect.settings import get_current_settings
from sqlalchemy.engine import URL, make_url

from api.settings import Settings

_LEAST_UNUSED_BYTES = 32 << 20
_LEAST_UNUSED_SHARE = 0.25
_LOCK_PATIENCE_S = 10.0


def database_url() -> URL:
    """Address of the database that a Prefect server with the settings of this process would use."""
    url = get_current_settings().server.database.connection_url
    assert url is not None  # Prefect fills it in
    return make_url(url.get_secret_value())


def sqlite_file(url: URL) -> Path | None:
    """File of a database; None where it is no file, or not there."""
    path = Path(url.database or "")
    return path if url.get_backend_name() == "sqlite" and path.is_file() else None


async def compact_database(client: PrefectClient, settings: Settings) -> str | None:  # noqa: ARG001
    """Shrink the SQLite database of this machine's Prefect server, where that is worth its while.

    Whoever writes waits meanwhile, a few seconds for a gigabyte, which is less than the server is patient for.
    """
    path = sqlite_file(database_url())
    freed = await asyncio.to_thread(compact, path) if path is not None else 0
    return f"{path} is smaller by {freed / 1e6:.0f} MB" if freed else None


def compact(path: Path, least_unused_bytes: int = _LEAST_UNUSED_BYTES) -> int:
    """Shrink a SQLite database by what is unused in it, where that is a quarter of it, and more than a few megabytes.

    Returns
    -------
    int
        Bytes that were given back; 0 where it was left as it is.
    """
    with closing(sqlite3.connect(path, timeout=_LOCK_PATIENCE_S, isolation_level=None)) as connection:
        page_bytes, pages, unused = (
            _number(connection, name) for name in ("page_size", "page_count", "freelist_count")
        )
        if unused * page_bytes < least_unused_bytes or unused < _LEAST_UNUSED_SHARE * pages:
            return 0
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return (pages - _number(connection, "page_count")) * page_bytes


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])
