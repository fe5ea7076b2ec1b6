"""How long Prefect keeps runs: those that ended more than PYAMA_KEEP_RUNS_DAYS ago are forgotten, with all about them.

Output folders are never touched. A run that the nightly scan has started is kept as long as its recording is there:
it is by the run that the scan knows that the recording was processed.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort

from api.orchestrator import ENDED_TYPES, MOST_IN_A_FILTER, forget_runs
from api.settings import Settings
from deployments.deploying import DEPLOYMENTS
from tasks.job_marks import FOUND_LABEL, SCAN_LABEL

_BATCH = 50
"""Runs that are deleted in one transaction, so that others get their turn in between; Prefect takes no more."""
_PAUSE_S = 0.1


async def forget_old_runs(client: PrefectClient, settings: Settings) -> str | None:
    """Delete the runs of our flows that ended long enough ago, whoever has started them."""
    if settings.keep_runs_days is None:
        return None
    before = datetime.now(UTC) - timedelta(days=settings.keep_runs_days)
    n_deleted = await forget_runs_before(client, settings, before)
    return f"{n_deleted} runs that ended {settings.keep_runs_days} days ago are deleted" if n_deleted else None


async def forget_runs_before(client: PrefectClient, settings: Settings, before: datetime) -> int:
    """Delete the runs of our flows that ended before a moment, some at a time, and return how many they were."""
    # All are read before any is deleted, so that none is passed over.
    old = [run async for run in ended_runs(client, FlowRunFilterEndTime(before_=before))]
    gone = await asyncio.to_thread(lambda: [run.id for run in old if not _is_remembered(run, settings)])
    n_deleted = 0
    for first in range(0, len(gone), _BATCH):
        n_deleted += len(await forget_runs(client, gone[first : first + _BATCH]))
        await asyncio.sleep(_PAUSE_S)
    return n_deleted


async def ended_runs(client: PrefectClient, ended: FlowRunFilterEndTime) -> AsyncIterator[FlowRun]:
    """Runs of our flows that have ended at some time, newest first, each once."""
    selection = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=ENDED_TYPES)), end_time=ended)
    flows = FlowFilter(name=FlowFilterName(any_=[one.full_name.partition("/")[0] for one in DEPLOYMENTS]))
    known: set[UUID] = set()
    while True:
        page = await client.read_flow_runs(
            flow_filter=flows, flow_run_filter=selection, sort=FlowRunSort.END_TIME_DESC, limit=MOST_IN_A_FILTER,
            offset=len(known),
        )  # fmt: skip
        new = [run for run in page if run.id not in known]
        known |= {run.id for run in new}
        for run in new:
            yield run
        if len(page) < MOST_IN_A_FILTER or not new:
            return


def _is_remembered(run: FlowRun, settings: Settings) -> bool:
    """Whether the nightly scan needs to know of a run; looks at the disk."""
    if SCAN_LABEL not in run.labels:
        return False
    names = {run.parameters.get("microscopy_path"), run.labels.get(FOUND_LABEL)} - {None}
    return any(_may_be_there(Path(str(name)), settings.nightly_folder) for name in names)


def _may_be_there(recording: Path, scanned: Path | None) -> bool:
    """Whether a recording is there, or nobody knows: a folder that is empty or cannot be read may not be mounted."""
    try:
        if recording.exists():
            return True
        around = {next(folder for folder in recording.parents if folder.is_dir())}
        if scanned is not None and recording.is_relative_to(scanned):
            around.add(scanned)
        return not all(any(folder.iterdir()) for folder in around)
    except OSError:
        return True
