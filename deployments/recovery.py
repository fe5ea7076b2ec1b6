"""Runs whose process is gone without a word: back into the queue, or cancelled where that was asked for.

Safe at any time, because a run that is repeated goes on from what is finished, and only one run at a time can hold an
output folder. A state that has been reached for good is never touched.
"""

from collections.abc import Collection

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, StateType, WorkerStatus
from prefect.exceptions import ObjectNotFound
from prefect.states import AwaitingRetry, Cancelled

_STARTED = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
_PAGE = 200


async def recover_runs(client: PrefectClient, pool: str, own_workers: Collection[str]) -> int:
    """Recover all runs of a work pool that were begun, after its own workers have ended with all their processes.

    Does nothing while other workers are at the pool, because the runs may be theirs.

    Parameters
    ----------
    own_workers
        Names of the workers that have ended.

    Returns
    -------
    int
        Number of runs that go on or are cancelled now.
    """
    try:
        workers = await client.read_workers_for_work_pool(pool)
    except ObjectNotFound:
        return 0
    if any(worker.status is WorkerStatus.ONLINE and worker.name not in own_workers for worker in workers):
        return 0
    runs = await client.read_flow_runs(
        flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_STARTED))),
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[pool])),
        limit=_PAGE,
    )
    for run in runs:
        await _recover(client, run)
    return len(runs)


async def _recover(client: PrefectClient, run: FlowRun) -> None:
    if run.state is not None and run.state.type is StateType.CANCELLING:
        await client.set_flow_run_state(run.id, Cancelled(message="Cancelled; its process is gone"))
        return
    message = "Its process ended unexpectedly; the run goes on from what is finished"
    await client.set_flow_run_state(run.id, AwaitingRetry(message=message), force=True)
