"""Set-up of the whole test suite."""

import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tests.engines import DaskProcesses
    from tests.stack import RunningStack

# The same examples on every machine and every day; HYPOTHESIS_PROFILE=search looks for new ones.
settings.register_profile(
    "ci", max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("search", max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a Prefect server of the test session, which flows that run here use."""
    from tests.engines import prefect_server  # here, because most tests need no engine, and importing them takes long

    with prefect_server(tmp_path_factory.mktemp("prefect")) as url:
        yield url


@pytest.fixture(scope="session")
def dask_processes(prefect_api: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator["DaskProcesses"]:
    """A Dask cluster of the test session: two workers of two threads."""
    from tests.engines import DaskProcesses

    with DaskProcesses(tmp_path_factory.mktemp("dask")) as cluster:
        cluster.start_workers("first", "second", n_threads=2)
        yield cluster


@pytest.fixture
def api_log() -> Iterator[list[logging.LogRecord]]:
    """What the API writes to its log during a test."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[assignment, method-assign]
    logger = logging.getLogger("pyama.api")
    logger.addHandler(handler)
    yield records
    logger.removeHandler(handler)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator["RunningStack"]:
    """The whole one-machine stack, for the test session: Prefect server, workers, API."""
    from tests.stack import running_stack

    with running_stack(tmp_path_factory.mktemp("stack")) as running:
        yield running
