"""Runs whose process is gone without a word: back into the queue, or cancelled where that was asked for.

Safe at any time: a run that is repeated goes on from what is finished, only one run at a time can hold an output
folder, and a process that finds its run taken over ends (`deployments.flow_process`). A state that has been reached
for good is never touched, even where it is reached at the same moment, because Prefect's server decides that.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateName,
    FlowRunFilterStateType,
    Operator,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, State, StateDetails, StateType, WorkerStatus
from prefect.client.schemas.responses import SetStateStatus
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.states import AwaitingRetry, Cancelled
from prefect.types._datetime import now

from api.jobs import RETRYING
from api.orchestrator import CONTROL_POOL, POOL
from api.settings import Settings
from deployments.process_name import BEAT_LABEL, PROCESS_LABEL, is_alive_here, is_gone_from_here

_STARTED = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
_PAGE = 200
_MESSAGE = "Its process ended unexpectedly; the run goes on from what is finished"
_LONGEST_PAUSE = timedelta(days=365)
"""Prefect fails a run that is paused for longer; here it takes a moment."""

LOOK_INTERVAL_S = 5.0
SILENT_LOOKS = 6
"""A run that has not changed in so many looks in a row, one after another, has no process."""


@dataclass
class Reconciler:
    """Makes true what Prefect tells of runs whose process is gone, wherever that was.

    A process tells again and again that it is there (`deployments.flow_process`). What counts is how often this one
    has looked and found no word of it, so that clocks need not agree, and that neither a server that was away nor a
    pause of this process is taken for the silence of another one. Where a process was on this machine, it is looked
    for instead: one that stands still is no reason to begin again. Half a minute is also what a worker has to tell
    by itself how a process has ended.
    """

    _seen: dict[UUID, tuple[object, int]] = field(default_factory=dict)
    """What each run told, and in how many looks it has been the same."""

    async def look(self, client: PrefectClient, _settings: Settings) -> str | None:
        """Look once, and see to the runs that have been silent for too long."""
        before, self._seen = self._seen, {}
        recovered = 0
        for run in await _started_runs(client, [POOL, CONTROL_POOL]):
            told = (run.state_id, run.labels.get(PROCESS_LABEL), run.labels.get(BEAT_LABEL))
            known, looks = before.get(run.id, (None, 0))
            looks = looks + 1 if known == told else 0
            self._seen[run.id] = (told, looks)
            if looks >= SILENT_LOOKS and not is_alive_here(_process(run)):
                recovered += await recover_run(client, run)
        return f"{recovered} interrupted runs go on, or are cancelled as was asked for" if recovered else None


async def recover_runs(client: PrefectClient, pool: str, own_workers: Collection[str]) -> int:
    """Recover the runs of a work pool that were begun, after its own workers have ended with all their processes.

    While other workers are at the pool, those runs are left alone that may be theirs.

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
    alone = not any(worker.status is WorkerStatus.ONLINE and worker.name not in own_workers for worker in workers)
    recovered = 0
    for run in await _started_runs(client, [pool]):
        if alone or _has_lost_its_process(run):
            recovered += await recover_run(client, run)
    return recovered


async def recover_run(client: PrefectClient, run: FlowRun) -> bool:
    """Have a run go on, or be cancelled where that was asked for; False where it is no longer as it was read.

    There is no asking Prefect for a state provided that another one holds. But it pauses nothing that is not running
    and resumes nothing that is not paused, whereas it would begin anew with what has ended at this moment.
    """
    assert run.state is not None
    if run.state.type is StateType.CANCELLING:
        return await _set(client, run, Cancelled(message="Cancelled; its process is gone"))
    if run.state.type is StateType.PENDING:
        unchanged = (await client.read_flow_run(run.id)).state_id == run.state_id
        if not unchanged or not await _set(client, run, AwaitingRetry(message=_MESSAGE)):
            return False
        await _make_good(client, run)
        return True
    if run.state.type is StateType.RUNNING:
        details = StateDetails(pause_reschedule=True, pause_timeout=now("UTC") + _LONGEST_PAUSE)
        paused: State[Any] = State(type=StateType.PAUSED, name=RETRYING, message=_MESSAGE, state_details=details)
        if not await _set(client, run, paused):
            return False
    try:
        return (await client.resume_flow_run(run.id)).status is SetStateStatus.ACCEPT
    except ObjectNotFound:
        return False


async def _make_good(client: PrefectClient, run: FlowRun) -> None:
    """Cancel a run after all that somebody has cancelled while its recovery was on its way."""
    assert run.state is not None
    since = [state for state in await client.read_flow_run_states(run.id) if state.timestamp > run.state.timestamp]
    if any(state.type in {StateType.CANCELLING, StateType.CANCELLED} for state in since):
        await _set(client, run, Cancelled(message="Cancelled, as was asked for while it was recovered"))


async def _set(client: PrefectClient, run: FlowRun, state: State[Any]) -> bool:
    """Propose a state; whether it was accepted."""
    try:
        return (await client.set_flow_run_state(run.id, state)).status is SetStateStatus.ACCEPT
    except ObjectNotFound:
        return False


async def _started_runs(client: PrefectClient, pools: list[str]) -> list[FlowRun]:
    """Runs that were begun, and those whose recovery was."""
    state = FlowRunFilterState.model_validate(
        {
            "operator": Operator.or_,
            "type": FlowRunFilterStateType(any_=_STARTED),
            "name": FlowRunFilterStateName(any_=[RETRYING]),
        }
    )
    found: list[FlowRun] = []
    while len(found) % _PAGE == 0:
        page = await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(state=state),
            work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=pools)),
            sort=FlowRunSort.ID_DESC,
            limit=_PAGE,
            offset=len(found),
        )
        if not page:
            break
        found += page
    return [run for run in found if run.state is not None and run.state.type is not StateType.SCHEDULED]


def _has_lost_its_process(run: FlowRun) -> bool:
    """Whether a run is told to be running, but by a process of this machine that is gone."""
    return run.state_type is StateType.RUNNING and is_gone_from_here(_process(run))


def _process(run: FlowRun) -> str:
    return str(run.labels.get(PROCESS_LABEL, ""))
