"""The flow that starts processing of what has come into a folder: every night, or whenever it is asked to."""

import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import httpx
from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterIdempotencyKey,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows.stopping import Deadline, ends_cancelled
from tasks.errors import InvalidParametersError, PyamaError
from tasks.job_marks import FOUND_LABEL, INPUT_LABEL, PROCESSING_DEPLOYMENT, SCAN_LABEL, TOTAL_LABEL, folder_tag
from tasks.new_acquisitions import LeftOut, NewRecording, ScanRequest, attempt_key, scan

MOST_ATTEMPTS = 3
"""A recording whose processing has failed or crashed that often is left to people."""

_TRIED_AGAIN = {StateType.FAILED, StateType.CRASHED}
_ENDED = {*_TRIED_AGAIN, StateType.COMPLETED, StateType.CANCELLED}
_ACTIVE = [kind for kind in StateType if kind not in _ENDED]
_LOOK_INTERVAL_S = 5.0
_LONGEST_REFUSAL = 300
_MOST_IN_A_FILTER = 200
"""Prefect refuses more results at a time."""


@dataclass(frozen=True)
class Outcome:
    """What was done about a recording."""

    recording: str
    outcome: Literal["started", "skipped", "broken"]
    why: str
    job_id: str = ""


@flow(
    name="process-new-acquisitions",
    description="Start processing of the recordings in a folder that are new and complete.",
    flow_run_name=lambda: f"new in {Path(str(flow_run.parameters['folder'])).name}",
    persist_result=False,
    validate_parameters=False,  # the request is validated below, with one message that names what is allowed
)
@ends_cancelled
def process_new_acquisitions(
    folder: str, output_root: str, settle_s: float = 600.0, max_depth: int = 8, wait: bool = False
) -> State[Any]:
    """Start one run for each recording that is complete and not processed yet.

    Safe to repeat, also at the same time: a recording is started again only after its run has failed or crashed, and
    three times at most.

    Parameters
    ----------
    folder
        Absolute path of the folder that recordings come into.
    output_root
        Absolute path of the folder of the results: those of `DAY/NAME.nd2` go to `DAY/NAME` in it.
    settle_s
        Seconds that a complete recording has not changed for.
    max_depth
        Levels of folders below the first one that are looked into.
    wait
        Whether to wait for the end of what was started.

    Returns
    -------
    State
        Completed, with the numbers of recordings found, started, skipped and broken; also where jobs fail that were
        waited for. Failed where the folder cannot be scanned or nothing can be started at all.
    """
    logger = get_run_logger()
    try:
        deadline = Deadline.of_this_run()
        request = ScanRequest.parse(
            folder=folder, output_root=output_root, settle_s=settle_s, max_depth=max_depth, wait=wait
        )
        found = scan(request)
        with get_client(sync_client=True) as client:
            deployment_id = _deployment_id(client)
            outcomes = []
            for finding in found:
                outcomes.append(_outcome_or_refusal(client, deployment_id, finding))
                logger.info("%s: %s; %s", outcomes[-1].recording, outcomes[-1].outcome, outcomes[-1].why)
            create_table_artifact(
                table=[asdict(outcome) for outcome in outcomes],
                key="new-acquisitions",
                description=f"Recordings in {folder}",
            )
            message = _summary(outcomes)
            if request.wait:
                message += _ends(client, [UUID(one.job_id) for one in outcomes if one.outcome == "started"], deadline)
    except PyamaError as error:
        return Failed(message=str(error))
    return Completed(message=message)


def _deployment_id(client: SyncPrefectClient) -> UUID:
    try:
        return client.read_deployment_by_name(PROCESSING_DEPLOYMENT).id
    except ObjectNotFound as error:
        raise InvalidParametersError(
            f"Prefect knows no deployment {PROCESSING_DEPLOYMENT}; run: pyama deploy"
        ) from error


def _outcome_or_refusal(client: SyncPrefectClient, deployment_id: UUID, finding: NewRecording | LeftOut) -> Outcome:
    """Do what is to be done; what Prefect refuses for one recording is no reason to leave out the others."""
    try:
        return _outcome(client, deployment_id, finding)
    except httpx.HTTPStatusError as error:
        if error.response.is_server_error:
            raise
        why = f"Prefect refuses to start it: {error.response.status_code} {error.response.text[:_LONGEST_REFUSAL]}"
        return Outcome(finding.recording, "skipped", why)


def _outcome(client: SyncPrefectClient, deployment_id: UUID, finding: NewRecording | LeftOut) -> Outcome:
    """Start what is to be processed, unless it is or was on its way already."""
    if isinstance(finding, LeftOut):
        return Outcome(finding.recording, finding.outcome, finding.why)
    tag = folder_tag(finding.plan.output_dir)
    keys = [attempt_key(finding.identity, attempt) for attempt in range(1, MOST_ATTEMPTS + 1)]
    runs = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(idempotency_key=FlowRunFilterIdempotencyKey(any_=keys)), limit=MOST_ATTEMPTS
    )
    earlier = {keys.index(str(run.idempotency_key)) + 1: run for run in runs}
    last = max(earlier, default=0)
    if last and _is_of_this_scan(earlier[last], finding):
        return Outcome(finding.recording, "started", _attempt(last), str(earlier[last].id))
    if active := _active_runs(client, tag):
        return Outcome(finding.recording, "skipped", "its output folder is in use by this job", str(active[0].id))
    if last and (reason := _reason_to_skip(last, earlier[last])) is not None:
        _note_where(client, earlier[last], finding.plan.metadata.path)
        return Outcome(finding.recording, "skipped", reason, str(earlier[last].id))
    run = client.create_flow_run_from_deployment(
        deployment_id,
        parameters=finding.plan.request.model_dump(mode="json", exclude_unset=True),
        name=finding.plan.metadata.path.name,
        tags=[tag],
        idempotency_key=keys[last],
        labels={
            TOTAL_LABEL: len(finding.plan.fovs),
            INPUT_LABEL: finding.plan.provenance.fingerprint.input,
            SCAN_LABEL: str(flow_run.id),
        },
    )
    if run.labels.get(SCAN_LABEL) != str(flow_run.id):
        return Outcome(finding.recording, "skipped", "another scan has just started this job", str(run.id))
    return Outcome(finding.recording, "started", _attempt(last + 1), str(run.id))


def _is_of_this_scan(run: FlowRun, finding: NewRecording) -> bool:
    """Whether this scan has started a run for a recording before it was interrupted; not for a copy of it."""
    into = run.parameters.get("output_dir")
    return run.labels.get(SCAN_LABEL) == str(flow_run.id) and into == finding.plan.request.output_dir


def _attempt(number: int) -> str:
    return f"attempt {number} of {MOST_ATTEMPTS}"


def _note_where(client: SyncPrefectClient, run: FlowRun, recording: Path) -> None:
    """Have a run tell where its recording is now, so that it is kept as long as that is there."""
    known = (run.labels.get(FOUND_LABEL), run.parameters.get("microscopy_path"))
    if not any(Path(str(place)).exists() for place in known if place is not None):
        client.update_flow_run_labels(run.id, {FOUND_LABEL: str(recording)})


def _active_runs(client: SyncPrefectClient, tag: str) -> list[FlowRun]:
    selection = FlowRunFilter(
        tags=FlowRunFilterTags(all_=[tag]), state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_ACTIVE))
    )
    return client.read_flow_runs(flow_run_filter=selection, limit=1)


def _reason_to_skip(attempt: int, run: FlowRun) -> str | None:
    """Why there is no other attempt after this one; None where there is."""
    kind = run.state.type if run.state is not None else StateType.SCHEDULED
    if kind in _ACTIVE:
        return "this job is processing it"
    if kind not in _TRIED_AGAIN:
        where = run.parameters.get("output_dir")
        return f"it was {kind.value.lower()} as this job, into {where}; start it by hand to have it processed again"
    if attempt < MOST_ATTEMPTS:
        return None
    reason = (run.state.message if run.state is not None else None) or "without a reason"
    return f"given up after {MOST_ATTEMPTS} attempts, of which this was the last: {reason}"


def _summary(outcomes: Sequence[Outcome]) -> str:
    counts = ", ".join(
        f"{sum(one.outcome == kind for one in outcomes)} {kind}" for kind in ("started", "skipped", "broken")
    )
    broken = [one.recording for one in outcomes if one.outcome == "broken"]
    named = f" ({', '.join(broken[:3])}{', …' if len(broken) > 3 else ''})" if broken else ""
    return f"{len(outcomes)} recordings found: {counts}{named}"


def _ends(client: SyncPrefectClient, run_ids: Collection[UUID], deadline: Deadline) -> str:
    """Wait for the end of runs, and tell how many of them ended how."""
    kinds = _kinds(client, run_ids)
    while any(kind in _ACTIVE for kind in kinds):
        deadline.check()
        time.sleep(_LOOK_INTERVAL_S)
        kinds = _kinds(client, run_ids)
    told = ", ".join(f"{kinds.count(kind)} {kind.value.lower()}" for kind in StateType if kind in kinds)
    return f"; of those started {told}" if told else ""


def _kinds(client: SyncPrefectClient, run_ids: Collection[UUID]) -> list[StateType]:
    """Types of the states of runs; of those that are still there."""
    ids = list(run_ids)
    kinds = []
    for first in range(0, len(ids), _MOST_IN_A_FILTER):
        selection = FlowRunFilter(id=FlowRunFilterId(any_=ids[first : first + _MOST_IN_A_FILTER]))
        runs = client.read_flow_runs(flow_run_filter=selection, limit=_MOST_IN_A_FILTER)
        kinds += [run.state.type for run in runs if run.state is not None]
    return kinds
