"""The Prefect server as its clients see it: version, clock, deployments, workers, and whether the queue moves."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import httpx
import prefect
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import StateType, WorkerStatus, WorkPool
from prefect.exceptions import ObjectNotFound

from api.orchestrator import CONTROL_POOL, MOST_IN_A_FILTER, POOL
from deployments.deploying import DEPLOYMENTS
from deployments.health.clocks import clock_finding
from deployments.health.finding import Finding

_ANSWER_TIMEOUT_S = 5.0
_LONG_WAIT = timedelta(minutes=10)


def orchestrator_findings(api_url: str) -> Iterator[Finding]:
    """Look at the server that the Prefect settings of this process name."""
    before_s = time.time()
    try:
        ready = httpx.get(f"{api_url}/ready", timeout=_ANSWER_TIMEOUT_S)
    except httpx.HTTPError as error:
        yield Finding(
            False,
            f"Prefect: the API at {api_url} does not answer ({error})",
            "start it, or unset PREFECT_API_URL to use the embedded server",
        )
        return
    after_s = time.time()
    if not ready.is_success:
        yield Finding(False, f"Prefect: the API at {api_url} has no database", "start it; the server's log tells more")
        return
    yield Finding(True, f"Prefect: the API at {api_url} answers")
    told_s = parsedate_to_datetime(ready.headers["date"]).timestamp()
    yield clock_finding("the Prefect server", told_s, before_s, after_s)
    with get_client(sync_client=True) as client:
        try:
            version = str(client.request("GET", "/admin/version").json())
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.UNAUTHORIZED:
                raise
            asks = f"Prefect: the API at {api_url} asks for a password, and does not take this program's"
            yield Finding(
                False, asks, "set PREFECT_API_AUTH_STRING to the server's USER:PASSWORD, as its workers have it"
            )
            return
        yield server_version_finding(version)
        yield from _deployments(client)
        for name in (POOL, CONTROL_POOL):
            try:
                pool = client.read_work_pool(name)
            except ObjectNotFound:
                yield Finding(False, f"workers: Prefect knows no work pool {name}", "run: pyama deploy")
                continue
            yield _workers(client, name)
            yield _queue(client, pool)


def server_version_finding(version: str) -> Finding:
    """Whether the server has the Prefect that this program has."""
    if version == prefect.__version__:
        return Finding(True, f"versions: the server has Prefect {version}, as this program")
    return Finding(
        False,
        f"versions: the server has Prefect {version}, this program {prefect.__version__}",
        "install the same on both, with --constraint constraints.txt",
    )


def _deployments(client: SyncPrefectClient) -> Iterator[Finding]:
    missing = []
    for deployment in DEPLOYMENTS:
        try:
            client.read_deployment_by_name(deployment.full_name)
        except ObjectNotFound:
            missing.append(deployment.full_name)
    if missing:
        yield Finding(False, f"deployments: Prefect does not know {', '.join(missing)}", "run: pyama deploy")
    else:
        yield Finding(True, f"deployments: all {len(DEPLOYMENTS)} are known")


def _workers(client: SyncPrefectClient, pool: str) -> Finding:
    workers = client.read_workers_for_work_pool(pool)
    online = [worker for worker in workers if worker.status is WorkerStatus.ONLINE]
    beats = [worker.last_heartbeat_time for worker in workers if worker.last_heartbeat_time is not None]
    last = f", last heard of {(datetime.now(UTC) - max(beats)).total_seconds():.0f} s ago" if beats else ""
    said = f"workers: {len(online)} online at the work pool {pool}{last}"
    return Finding(bool(online), said, "" if online else f"start one: prefect worker start --pool {pool}, or pyama up")


def _queue(client: SyncPrefectClient, pool: WorkPool) -> Finding:
    """Whether runs wait although there is room for them."""
    overdue = FlowRunFilterExpectedStartTime(before_=datetime.now(UTC) - _LONG_WAIT)
    waiting = _count(client, pool, [StateType.SCHEDULED, StateType.PENDING], overdue)
    active = _count(client, pool, [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING])
    return queue_finding(pool.name, waiting, active, pool.concurrency_limit, paused=pool.is_paused)


def queue_finding(pool: str, n_waiting: int, n_active: int, limit: int | None, *, paused: bool) -> Finding:
    """Whether the queue of a work pool moves.

    Parameters
    ----------
    n_waiting
        Runs that should have begun ten minutes ago.
    n_active
        Runs that are begun.
    limit
        Most runs at once; None for any number.
    """
    room = "any number" if limit is None else str(limit)
    said = f"queue: {n_active} of {room} runs are under way at {pool}, {n_waiting} wait for more than 10 minutes"
    if paused:
        return Finding(False, f"queue: the work pool {pool} is paused", f"run: prefect work-pool resume {pool}")
    if n_waiting and (limit is None or n_active < limit):
        return Finding(False, f"{said} although there is room", "see the log of the worker; is one online?")
    return Finding(True, said)


def _count(
    client: SyncPrefectClient,
    pool: WorkPool,
    states: list[StateType],
    expected: FlowRunFilterExpectedStartTime | None = None,
) -> int:
    """Runs of a work pool in some states, counted up to 200."""
    selection = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=states)), expected_start_time=expected
    )
    in_pool = WorkPoolFilter(name=WorkPoolFilterName(any_=[pool.name]))
    return len(client.read_flow_runs(flow_run_filter=selection, work_pool_filter=in_pool, limit=MOST_IN_A_FILTER))
