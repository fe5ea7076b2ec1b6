"""The one module that speaks to Prefect: starts, finds, cancels and deletes flow runs, by deployment name."""

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterIdempotencyKey,
    FlowRunFilterState,
    FlowRunFilterStateName,
    FlowRunFilterStateType,
    FlowRunFilterTags,
    Operator,
)
from prefect.client.schemas.objects import Artifact, FlowRun, State, StateType, WorkerStatus
from prefect.client.schemas.responses import OrchestrationResult, SetStateStatus
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import get_current_settings
from prefect.states import AwaitingRetry, Cancelled, Cancelling

from api.errors import (
    IdempotencyKeyReusedError,
    JobAlreadyCompletedError,
    JobNotFinishedError,
    JobNotFoundError,
    OutputDirBusyError,
    ServiceUnavailableError,
)
from api.host_lock import host_lock
from api.jobs import (
    BEGUN_BEFORE,
    KINDS,
    PROCESSING,
    REQUEST_LABEL,
    STATUS_OF_TYPE,
    Job,
    JobKind,
    JobStatus,
    KindName,
    progress_key,
)
from api.settings import Settings
from api.status_board import StatusBoard
from api.webhooks import WEBHOOK_LABEL
from tasks.job_marks import FOLDER_TAG_PREFIX, INPUT_LABEL, TAKEN_UP_LABEL, TOTAL_LABEL

POOL = "pyama"
"""Work pool of the jobs that compute; its limit is PYAMA_MAX_JOBS."""
CONTROL_POOL = "pyama-control"
"""Work pool of what waits for others or takes seconds."""

_ANSWER_TIMEOUT_S = 8.0
_READY_TIMEOUT_S = 3.0
_TURN_PATIENCE_S = 10.0
_LOOK_INTERVAL_S = 0.5
_WORKERS_LAST_WORD = "Flow run was cancelled successfully."
"""What Prefect's worker tells of a run that it has cancelled, after it has imported the flow to look for its hooks."""
_WORKERS_FIRST_WORD = "Process exited with status code"
"""What it tells of a run whose process was killed; it does so once more after it has looked for hooks."""
_CANCELLED_PATIENCE = timedelta(seconds=20)
_CRASHED_PATIENCE = timedelta(seconds=10)
_UNDO_PAUSES_S = (1.0, 10.0, 60.0)
MOST_IN_A_FILTER = 200
"""Prefect refuses more results at a time."""
_ACTIVE_TYPES = [
    StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED, StateType.CANCELLING
]  # fmt: skip
ENDED_TYPES = [kind for kind in StateType if kind not in _ACTIVE_TYPES]

logger = logging.getLogger("pyama.api")


@dataclass(frozen=True)
class NewJob:
    """A job that is to be started; checked completely."""

    kind: JobKind
    parameters: dict[str, Any]
    name: str
    total: int
    """How many FOVs or cells it is about."""
    folder: str | None
    """Folder that no other job may use at the time."""
    folder_tag: str | None
    digest: str
    """Of the request as it came, so that a repeated one is recognised."""
    idempotency_key: str | None
    webhook: str | None = None
    """Address that is to be told of its end."""
    input_fingerprint: str | None = None
    """Of the recording that it is to process."""

    @property
    def labels(self) -> dict[str, str | int]:
        """What its run carries along."""
        labels: dict[str, str | int] = {TOTAL_LABEL: self.total, REQUEST_LABEL: self.digest}
        others = {WEBHOOK_LABEL: self.webhook, INPUT_LABEL: self.input_fingerprint}
        return labels | {label: text for label, text in others.items() if text is not None}


@dataclass(frozen=True)
class JobPage:
    """A part of the list of jobs, newest first."""

    jobs: tuple[Job, ...]
    total: int


class Orchestrator:
    """What the API asks of Prefect, through one shared client."""

    def __init__(self, client: PrefectClient, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self._ui_url = ui_url(client)
        server = hashlib.sha256(str(client.api_url).rstrip("/").encode()).hexdigest()[:12]
        self._undoing: set[asyncio.Task[None]] = set()
        self._board = StatusBoard(settings.home / f"status-{server}.json", self._look)

    async def start(self, new: NewJob) -> Job:
        """Start a job, or find the one that the same request has started before.

        Raises
        ------
        IdempotencyKeyReusedError
            Where another request had the same key.
        OutputDirBusyError
            Where another job uses the folder.
        ServiceUnavailableError
            Where the orchestrator does not answer or does not know the deployment.
        """
        tags = [new.folder_tag] if new.folder_tag is not None else []
        # A key even where the client gave none, by which a run can be found whose creation was not answered.
        key = _stored_key(new.idempotency_key or str(uuid4()))
        async with host_lock(self._settings.home / "start.lock", _TURN_PATIENCE_S):
            if new.idempotency_key is not None:
                # Of many clients that ask with the same key at once, the first one may have got its turn meanwhile.
                earlier = await self.find_repeated(new.kind, new.idempotency_key, new.digest)
                if earlier is not None:
                    return earlier
            try:
                return await self._create(new, tags, key)
            except (ServiceUnavailableError, asyncio.CancelledError):
                # By a key of its own, the client finds the run when it asks again; others may have found it already.
                if new.idempotency_key is None:
                    self._undo_later(new.kind, key)
                raise

    async def _create(self, new: NewJob, tags: list[str], key: str) -> Job:
        async with _answering():
            try:
                deployment = await self._client.read_deployment_by_name(new.kind.deployment)
            except ObjectNotFound as error:
                raise _no_deployment(new.kind) from error
            await self._refuse_busy(tags, new.folder, key)
            run = await self._client.create_flow_run_from_deployment(
                deployment.id,
                parameters=new.parameters,
                name=new.name,
                tags=tags,
                idempotency_key=key,
                job_variables={"env": self._environment()},
                labels=dict(new.labels),
            )
            job = self._told(run)
            _refuse_reused(job, new.digest)
            try:
                await self._refuse_busy(tags, new.folder, key)
            except OutputDirBusyError:
                with suppress(ObjectNotFound):
                    await self._client.delete_flow_run(run.id)
                raise
            return job

    def _undo_later(self, kind: JobKind, key: str) -> None:
        """Have no run left of a request that was not answered with a job."""
        task = asyncio.create_task(self._undo(kind, key))
        self._undoing.add(task)
        task.add_done_callback(self._undoing.discard)

    async def _undo(self, kind: JobKind, key: str) -> None:
        for pause_s in _UNDO_PAUSES_S:
            await asyncio.sleep(pause_s)
            with suppress(ServiceUnavailableError, ObjectNotFound):
                for run in await self._runs_of_key(kind, key):
                    async with _answering():
                        await self._client.set_flow_run_state(run.id, Cancelling())
                        if run.run_count == 0:
                            await self._client.delete_flow_run(run.id)

    async def _runs_of_key(self, kind: JobKind, key: str) -> list[FlowRun]:
        selection = FlowRunFilter(
            idempotency_key=FlowRunFilterIdempotencyKey(any_=[key]), tags=FlowRunFilterTags(all_=[kind.tag])
        )
        async with _answering():
            return await self._client.read_flow_runs(flow_run_filter=selection, limit=1)

    async def find_repeated(self, kind: JobKind, idempotency_key: str, digest: str) -> Job | None:
        """The job that a request with this key has started before.

        Raises
        ------
        IdempotencyKeyReusedError
            Where that was another request.
        """
        runs = await self._runs_of_key(kind, _stored_key(idempotency_key))
        if not runs:
            return None
        job = self._told(runs[0])
        _refuse_reused(job, digest)
        return job

    async def job(self, job_id: str, kind: JobKind | None = None, *, now: bool = False) -> Job:
        """State of a job, at most a moment old.

        Parameters
        ----------
        kind
            Jobs of other kinds count as not found.
        now
            Look at the orchestrator, whatever was known a moment ago.

        Raises
        ------
        JobNotFoundError
            Where there is no such job.
        """
        run_id = _parse_id(job_id)
        job = await self._board.job(str(run_id), not_before_s=time.monotonic() if now else 0.0)
        if job is None or (kind is not None and job.kind != kind.name):
            raise _not_found(job_id, kind)
        return job

    async def jobs(self, status: Collection[JobStatus], kind: KindName | None, limit: int, offset: int) -> JobPage:
        """List jobs, newest first.

        Parameters
        ----------
        status
            Those of any of these; all where it is empty.
        kind
            Only those of this kind.
        """
        tags = [KINDS[kind].tag] if kind else [one.tag for one in KINDS.values()]
        selection = FlowRunFilter(tags=FlowRunFilterTags(any_=tags), state=state_filter(status))
        async with _answering():
            runs, total = await asyncio.gather(
                self._client.read_flow_runs(
                    flow_run_filter=selection,
                    sort=FlowRunSort.EXPECTED_START_TIME_DESC,
                    limit=limit,
                    offset=offset,
                ),
                self._client.count_flow_runs(flow_run_filter=selection),
            )
            artifacts = await read_progress(self._client, [run.id for run in runs])
        told = (Job.of(run, artifacts.get(progress_key(run.id)), self._ui_url) for run in runs)
        return JobPage(tuple(job for job in told if job is not None), total)

    async def cancel(self, job_id: str, kind: JobKind | None = None) -> Job:
        """Have a job stopped; it counts as cancelled once its work is gone.

        Raises
        ------
        JobNotFoundError
            Where there is no such job.
        JobAlreadyCompletedError
            Where it has ended.
        """
        job = await self.job(job_id, kind, now=True)
        if job.ended:
            raise _ended(job)
        run_id = UUID(job.job_id)
        async with _answering():
            try:
                run = await self._client.read_flow_run(run_id)
                waiting = run.state is not None and run.state.type is StateType.SCHEDULED
                result: OrchestrationResult[Any] = await self._client.set_flow_run_state(run_id, Cancelling())
                if waiting and result.status is SetStateStatus.ACCEPT:
                    # A run that waits for its next attempt has no process, although it had one.
                    await self._client.set_flow_run_state(run_id, Cancelled())
            except ObjectNotFound as error:
                raise _not_found(job_id, kind) from error
        job = await self.job(job_id, kind, now=True)
        if job.ended and job.status != "cancelled":
            raise _ended(job)
        return job

    async def retry(self, job_id: str) -> Job:
        """Have a job that failed or was cancelled taken up again; what it has finished is not computed again.

        Soon after a job was cancelled or has crashed, this takes some seconds.

        Raises
        ------
        JobNotFoundError
            Where there is no such job.
        JobNotFinishedError
            Where it has not ended.
        JobAlreadyCompletedError
            Where it is completed.
        OutputDirBusyError
            Where another job uses its folder.
        """
        job = await self.job(job_id, now=True)
        if job.status in {"cancelled", "failed"}:
            await self._await_worker(UUID(job.job_id))
        async with host_lock(self._settings.home / "start.lock", _TURN_PATIENCE_S):
            job = await self.job(job_id, now=True)
            if not job.ended:
                raise JobNotFinishedError(f"job {job.job_id} is {job.status}; wait for its end, or cancel it first")
            if job.status == "completed":
                raise JobAlreadyCompletedError(f"job {job.job_id} is completed; there is nothing to retry")
            async with _answering():
                try:
                    await self._take_up(UUID(job.job_id), job.output_dir)
                except ObjectNotFound as error:
                    raise _not_found(job_id) from error
        return await self.job(job_id, now=True)

    async def _await_worker(self, run_id: UUID) -> None:
        """Wait until the worker, too, has told how a run has ended: it does so late, whatever the state is by then.

        Where it has not heard of a cancelling, it never does.
        """
        while True:
            async with _answering():
                try:
                    run = await self._client.read_flow_run(run_id)
                except ObjectNotFound:
                    return
            if not _worker_has_more_to_say(run):
                return
            await asyncio.sleep(_LOOK_INTERVAL_S)

    async def _take_up(self, run_id: UUID, folder: str | None) -> None:
        run = await self._client.read_flow_run(run_id)
        tags = [tag for tag in run.tags if tag.startswith(FOLDER_TAG_PREFIX)]
        await self._refuse_busy(tags, folder, run.idempotency_key)
        # Otherwise what was taken up days later would be past its time at once.
        await self._client.update_flow_run_labels(run_id, {TAKEN_UP_LABEL: datetime.now(UTC).isoformat()})
        # The same as Prefect's own UI does.
        state: State[Any] = AwaitingRetry(message="Asked for by the API")
        result: OrchestrationResult[Any] = await self._client.set_flow_run_state(run_id, state)
        if result.status is not SetStateStatus.ACCEPT:
            reason = getattr(result.details, "reason", None) or result.status.value
            raise ServiceUnavailableError(f"the orchestrator does not retry job {run_id}: {reason}")

    async def delete(self, job_id: str) -> None:
        """Forget a job that has ended; its files stay.

        Raises
        ------
        JobNotFoundError
            Where there is no such job.
        JobNotFinishedError
            Where it has not ended.
        """
        job = await self.job(job_id, now=True)
        if not job.ended:
            raise JobNotFinishedError(f"job {job.job_id} is {job.status}; cancel it or wait for its end")
        async with _answering():
            forgotten = await forget_runs(self._client, [UUID(job.job_id)])
        try:
            job = await self.job(job_id, now=True)  # also so that no process remembers it
        except JobNotFoundError:
            if forgotten:
                return
            raise
        raise JobNotFinishedError(f"job {job.job_id} is {job.status} again, for it was started once more meanwhile")

    async def table(self, job_id: str, key: str) -> str | None:
        """Newest table that the run of a job has left under a key, as JSON; None where there is none."""
        selection = ArtifactFilter(
            flow_run_id=ArtifactFilterFlowRunId(any_=[UUID(job_id)]), key=ArtifactFilterKey(any_=[key])
        )
        async with _answering():
            found = await self._client.read_artifacts(artifact_filter=selection, limit=MOST_IN_A_FILTER)
        newest = max(found, key=lambda artifact: (artifact.created is not None, artifact.created), default=None)
        return newest.data if newest is not None and isinstance(newest.data, str) else None

    async def count_jobs(self) -> dict[tuple[KindName, JobStatus], int]:
        """How many jobs of each kind and status there are."""
        statuses: tuple[JobStatus, ...] = ("pending", "running", "completed", "failed", "cancelled")
        asked = [(kind.name, status) for kind in KINDS.values() for status in statuses]
        async with _answering():
            counts = await asyncio.gather(
                *(
                    self._client.count_flow_runs(
                        flow_run_filter=FlowRunFilter(
                            tags=FlowRunFilterTags(all_=[KINDS[kind].tag]), state=state_filter([status])
                        )
                    )
                    for kind, status in asked
                )
            )
        return dict(zip(asked, counts, strict=True))

    async def count_workers(self) -> dict[str, int]:
        """How many workers of each work pool are there."""
        counts = {}
        async with _answering(_READY_TIMEOUT_S):
            for pool in (POOL, CONTROL_POOL):
                try:
                    workers = await self._client.read_workers_for_work_pool(pool)
                except ObjectNotFound:
                    workers = []
                counts[pool] = sum(worker.status is WorkerStatus.ONLINE for worker in workers)
        return counts

    async def problems(self) -> list[str]:
        """What keeps new jobs from being computed; empty where nothing does."""
        try:
            workers = await self.count_workers()
            async with _answering(_READY_TIMEOUT_S):
                try:
                    await self._client.read_deployment_by_name(PROCESSING.deployment)
                    problems = []
                except ObjectNotFound:
                    problems = [_no_deployment(PROCESSING).message]
        except ServiceUnavailableError as error:
            return [error.message]
        if workers[POOL] == 0:
            problems.append(
                f"no worker of the work pool {POOL} is there; start one: prefect worker start --pool {POOL}"
            )
        return problems

    async def apply_limit(self) -> None:
        """Have the work pool hold to PYAMA_MAX_JOBS, where it is set for this process."""
        if "max_jobs" not in self._settings.model_fields_set:
            return
        try:
            async with _answering():
                pool = await self._client.read_work_pool(POOL)
                if pool.concurrency_limit != self._settings.max_jobs:
                    update = WorkPoolUpdate(concurrency_limit=self._settings.max_jobs)
                    await self._client.update_work_pool(POOL, update)
        except (ServiceUnavailableError, ObjectNotFound) as error:
            logger.warning("PYAMA_MAX_JOBS could not be applied to the work pool %s: %s", POOL, error)

    async def _refuse_busy(self, tags: list[str], folder: str | None, key: str | None) -> None:
        """Refuse a folder that an active job uses that was there before, unless it comes from the same request."""
        if not tags:
            return
        selection = FlowRunFilter(
            tags=FlowRunFilterTags(all_=tags),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_ACTIVE_TYPES)),
        )
        active = await self._client.read_flow_runs(flow_run_filter=selection, limit=MOST_IN_A_FILTER)
        first = min(active, key=_age_order, default=None)
        if first is not None and first.idempotency_key != key:
            raise OutputDirBusyError(
                f"{folder}: folder in use by job {first.id}; wait for its end, cancel it, or choose another folder",
                {"job_id": str(first.id)},
            )

    def _environment(self) -> dict[str, str]:
        """Settings of the API that hold for the jobs that it starts."""
        settings = self._settings
        wanted = {"PYAMA_JOB_TIMEOUT": settings.job_timeout, "PYAMA_DASK_ADDRESS": settings.dask_address}
        return {name: str(value) for name, value in wanted.items() if value is not None}

    def _told(self, run: FlowRun) -> Job:
        job = Job.of(run, None, self._ui_url)
        if job is None:
            raise ServiceUnavailableError("the deployment lacks the tags by which jobs are known; run: pyama deploy")
        return job

    async def _look(self, job_ids: Collection[str]) -> dict[str, Job]:
        ids = [UUID(job_id) for job_id in job_ids]
        async with _answering():
            jobs = {}
            for first in range(0, len(ids), MOST_IN_A_FILTER):
                some = ids[first : first + MOST_IN_A_FILTER]
                # The progress first: what a run that has ended by now says of itself is what counts.
                artifacts = await read_progress(self._client, some)
                runs = await self._client.read_flow_runs(
                    flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=some)), limit=MOST_IN_A_FILTER
                )
                for run in runs:
                    if (job := Job.of(run, artifacts.get(progress_key(run.id)), self._ui_url)) is not None:
                        jobs[job.job_id] = job
            return jobs


@asynccontextmanager
async def open_orchestrator(settings: Settings) -> AsyncIterator[Orchestrator]:
    """Share one client with all requests of this process; the orchestrator itself need not answer yet."""
    timeout = httpx.Timeout(_ANSWER_TIMEOUT_S, pool=None)
    async with get_client(httpx_settings={"timeout": timeout}) as client:
        orchestrator = Orchestrator(client, settings)
        applying = asyncio.create_task(orchestrator.apply_limit())
        try:
            yield orchestrator
        finally:
            applying.cancel()


def ui_url(client: PrefectClient) -> str:
    """Where the Prefect UI is."""
    return get_current_settings().ui_url or str(client.api_url).rstrip("/").removesuffix("/api")


async def read_progress(client: PrefectClient, run_ids: Sequence[UUID]) -> dict[str, Artifact]:
    """Progress artifacts of at most 200 runs, by key."""
    if not run_ids:
        return {}
    selection = ArtifactFilter(key=ArtifactFilterKey(any_=[progress_key(run_id) for run_id in run_ids]))
    found = await client.read_artifacts(artifact_filter=selection, limit=MOST_IN_A_FILTER)
    return {str(artifact.key): artifact for artifact in found}


async def forget_runs(client: PrefectClient, run_ids: Sequence[UUID]) -> list[UUID]:
    """Delete those of at most 50 runs that have ended, with all that Prefect keeps of them: logs, artifacts, task runs.

    Whether a run has ended is looked at in the transaction that deletes it, so that one that somebody starts again at
    the same moment is not lost. What a crash in the midst of this leaves, Prefect's own search for orphans removes.

    Returns
    -------
    list of UUID
        Runs that are deleted.
    """
    selection = FlowRunFilter(
        id=FlowRunFilterId(any_=list(run_ids)),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=ENDED_TYPES)),
    )
    asked = {"flow_runs": selection.model_dump(mode="json", exclude_unset=True)}
    answer = await client.request("POST", "/flow_runs/bulk_delete", json=asked)  # type: ignore[arg-type] # not in its list
    deleted = [UUID(run_id) for run_id in answer.json()["deleted"]]
    left = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=deleted))
    while deleted and (artifacts := await client.read_artifacts(artifact_filter=left, limit=MOST_IN_A_FILTER)):
        for artifact in artifacts:
            with suppress(ObjectNotFound):
                await client.delete_artifact(artifact.id)
    return deleted


def state_filter(status: Collection[JobStatus]) -> FlowRunFilterState | None:
    """Runs whose status is one of these, all where none is named; the opposite way of `api.jobs.job_status`.

    There is one difference: for the few seconds in which the process of a run starts that is tried again, it is told
    as running, but found as pending.
    """
    if not status:
        return None
    types = [kind for kind, told in STATUS_OF_TYPE.items() if told in status]
    state: dict[str, Any] = {"type": FlowRunFilterStateType(any_=types)}
    if "running" in status and "pending" not in status:
        state |= {"operator": Operator.or_, "name": FlowRunFilterStateName(any_=list(BEGUN_BEFORE))}
    if "pending" in status and "running" not in status:
        state |= {"name": FlowRunFilterStateName(not_any_=list(BEGUN_BEFORE))}
    return FlowRunFilterState.model_validate(state)


@asynccontextmanager
async def _answering(timeout_s: float = _ANSWER_TIMEOUT_S) -> AsyncIterator[None]:
    """Tell in the API's terms that Prefect does not answer, or not in a way that can be understood."""
    try:
        # The client would try again for half a minute.
        async with asyncio.timeout(timeout_s):
            yield
    except (httpx.TransportError, TimeoutError) as error:
        raise ServiceUnavailableError(
            f"the orchestrator does not answer ({type(error).__name__}); try again in a moment"
        ) from error
    except PrefectHTTPStatusError as error:
        logger.warning("Prefect answered with an error: %s", error)
        raise ServiceUnavailableError(
            f"the orchestrator answered with status {error.response.status_code}; the server's log tells more"
        ) from error


def _stored_key(idempotency_key: str) -> str:
    """Key under which Prefect keeps a run; a digest, because clients may send any text."""
    return f"pyama-{hashlib.sha256(idempotency_key.encode()).hexdigest()}"


def _refuse_reused(job: Job, digest: str) -> None:
    if job.request_digest != digest:
        raise IdempotencyKeyReusedError(
            f"this Idempotency-Key came before, with another request (job {job.job_id}); use a new key",
            {"job_id": job.job_id},
        )


def _worker_has_more_to_say(run: FlowRun) -> bool:
    state = run.state
    if state is None or run.infrastructure_pid is None:
        return False
    message, age = state.message or "", datetime.now(UTC) - state.timestamp
    if state.type is StateType.CANCELLED:
        return message != _WORKERS_LAST_WORD and age <= _CANCELLED_PATIENCE
    return state.type is StateType.CRASHED and message.startswith(_WORKERS_FIRST_WORD) and age <= _CRASHED_PATIENCE


def _age_order(run: FlowRun) -> tuple[datetime, UUID]:
    assert run.created is not None
    return run.created, run.id


def _parse_id(job_id: str) -> UUID:
    try:
        return UUID(job_id)
    except ValueError as error:
        raise _not_found(job_id) from error


def _not_found(job_id: str, kind: JobKind | None = None) -> JobNotFoundError:
    what = f"{kind.name} job" if kind is not None else "job"
    return JobNotFoundError(f"there is no {what} {job_id[:80]!r}; GET /jobs lists all jobs")


def _no_deployment(kind: JobKind) -> ServiceUnavailableError:
    return ServiceUnavailableError(f"the orchestrator knows no deployment {kind.deployment}; run: pyama deploy")


def _ended(job: Job) -> JobAlreadyCompletedError:
    return JobAlreadyCompletedError(f"job {job.job_id} has ended as {job.status}; there is nothing to cancel")
