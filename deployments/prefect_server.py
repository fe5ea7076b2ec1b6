"""Prefect's server on SQLite, with one change that lets it be asked by several clients at once.

Prefect begins most of its transactions as readers that come to write later. Where another one has written meanwhile,
SQLite refuses that at once, whatever the time it may wait for a lock: of four requests at a time, three are answered
by "503 Service Unavailable", and each client waits seconds before it asks again. A transaction that begins as a writer
waits for its turn instead, which is a matter of milliseconds. PostgreSQL needs none of this.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from prefect.cli import app
from prefect.server.database.configurations import AioSqliteConfiguration
from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction

_begin_transaction = AioSqliteConfiguration.begin_transaction


@asynccontextmanager
async def _begin_as_writer(
    self: AioSqliteConfiguration,
    session: AsyncSession,
    with_for_update: bool = False,  # noqa: ARG001 - that is the change
) -> AsyncGenerator[AsyncSessionTransaction, None]:
    async with _begin_transaction(self, session, with_for_update=True) as transaction:
        yield transaction


def main() -> None:
    """Run Prefect's own command line, with the change."""
    AioSqliteConfiguration.begin_transaction = _begin_as_writer  # type: ignore[method-assign]
    app()


if __name__ == "__main__":
    main()
