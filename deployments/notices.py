"""Webhooks: receivers are told of the end of jobs, at least once each, whatever dies meanwhile.

A duty of the caretaker. What is owed follows from what Prefect knows: a run that has ended, without a label that says
that a receiver was told of that end. So nothing is lost with this process, and two of them at once send at worst the
same notice twice, by the same id. Each notice is delivered by a task of its own, a few at a time for each receiver, so
that one that hangs delays no other; and no job ever waits for any of it.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import VariableCreate, VariableUpdate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from api.jobs import KINDS
from api.orchestrator import ENDED_TYPES, MOST_IN_A_FILTER, read_progress, ui_url
from api.settings import Settings
from api.webhooks import WEBHOOK_LABEL, is_allowed, receiver_id, shown
from deployments.notice import Notice, delivery_id, headers

SINCE_VARIABLE = "pyama_webhooks_since"
"""Prefect variable: since when each receiver of `PYAMA_WEBHOOKS` is told of the end of jobs."""

_RECENT = timedelta(minutes=10)
"""What ended before is known, unless clocks differ; it is looked at now and then only."""
_WHOLE_LOOK_INTERVAL_S = 300.0
_ANSWER_TIMEOUT_S = 10.0
_MOST_AT_A_TIME = 4
"""Notices that are on their way to a receiver."""
_LONGEST_PAUSE_S = 3600.0
_MARK_PAUSE_S = 5.0
_GONE = 410

logger = logging.getLogger("pyama.notices")


class Notices:
    """What is owed to receivers, and the tasks that deliver it.

    Parameters
    ----------
    first_pause_s
        Time between the first attempt and the second; each pause is twice the one before, up to an hour.
    given_up_after
        So long after the end of a run nobody is told of it any more.
    """

    def __init__(self, first_pause_s: float = 2.0, given_up_after: timedelta = timedelta(days=1)) -> None:
        self._first_pause_s = first_pause_s
        self._given_up_after = given_up_after
        self._since: dict[str, datetime] | None = None
        self._looked_at_all_s: float | None = None
        self._known: dict[str, datetime] = {}
        self._turns: dict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(_MOST_AT_A_TIME))
        self._marking = asyncio.Lock()
        self._deliveries: set[asyncio.Task[None]] = set()

    async def look(self, client: PrefectClient, settings: Settings) -> None:
        """See which runs have ended, and have their receivers told; waits for none of them."""
        if not settings.webhooks and not settings.allowed_webhooks:
            return
        now = datetime.now(UTC)
        if self._since is None:
            self._since = await switched_on(client, settings.webhooks, now)
        whole = self._looked_at_all_s is None or time.monotonic() - self._looked_at_all_s > _WHOLE_LOOK_INTERVAL_S
        began_s = time.monotonic()
        runs = await _ended_runs(client, now - (self._given_up_after if whole else min(_RECENT, self._given_up_after)))
        for first in range(0, len(runs), MOST_IN_A_FILTER):
            await self._take_on(client, settings, runs[first : first + MOST_IN_A_FILTER])
        if whole:
            self._looked_at_all_s = began_s
            oldest = now - 2 * self._given_up_after
            self._known = {known: ended for known, ended in self._known.items() if ended > oldest}

    async def _take_on(self, client: PrefectClient, settings: Settings, runs: list[FlowRun]) -> None:
        owed = [(run, receiver) for run in runs for receiver in self._owed(run, settings)]
        if not owed:
            return
        artifacts = await read_progress(client, list({run.id for run, _ in owed}))
        secret = settings.webhook_secret.get_secret_value() if settings.webhook_secret is not None else ""
        for run, receiver in owed:
            notice = Notice.of(run, receiver, artifacts, settings.url, ui_url(client))
            if notice is not None:
                self._known[notice.delivery_id] = notice.ended_at
                delivery = asyncio.create_task(self._deliver(notice, secret))
                self._deliveries.add(delivery)
                delivery.add_done_callback(self._deliveries.discard)
                delivery.add_done_callback(partial(self._see_to_failure, notice))

    def _owed(self, run: FlowRun, settings: Settings) -> Iterator[str]:
        """Receivers that are to be told of the end of a run and that nobody here is at yet."""
        if run.state is None or run.end_time is None:
            return
        named = run.labels.get(WEBHOOK_LABEL)
        receivers = [one for one in settings.webhooks if run.end_time >= (self._since or {})[receiver_id(one)]]
        # The list may have been shortened since, and labels can be written by others than the API.
        if isinstance(named, str) and named not in receivers and is_allowed(named, settings.allowed_webhooks):
            receivers.append(named)
        for receiver in receivers:
            told = run.labels.get(told_label(receiver)) == str(run.state.id)
            if not told and delivery_id(run.id, str(run.state.id), receiver) not in self._known:
                yield receiver

    async def _deliver(self, notice: Notice, secret: str) -> None:
        """Try until it is told, or too late."""
        pause_s = self._first_pause_s
        while True:
            async with self._turns[notice.receiver]:
                problem = await _send(notice, secret)
            if problem is None:
                await self._mark(notice)
                return
            late = datetime.now(UTC) + timedelta(seconds=pause_s) - notice.ended_at > self._given_up_after
            told = f"{shown(notice.receiver)} was not told of the end of job {notice.run_id}: {problem}"
            if late or problem == _status_problem(_GONE):
                logger.error("%s; given up (delivery %s)", told, notice.delivery_id)
                return
            logger.warning("%s; tried again in %.0f s", told, pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _see_to_failure(self, notice: Notice, delivery: asyncio.Task[None]) -> None:
        """Take on again what has failed in a way that nobody has thought of."""
        if not delivery.cancelled() and (error := delivery.exception()) is not None:
            logger.error("the delivery %s failed: %s: %s", notice.delivery_id, type(error).__name__, error)
            self._known.pop(notice.delivery_id, None)

    async def _mark(self, notice: Notice) -> None:
        """Note in Prefect that it was told; where that never comes to be, it is told twice."""
        while True:
            try:
                # Prefect reads all labels of a run and writes them back: one after the other, none is lost.
                async with self._marking, get_client() as client:
                    await client.update_flow_run_labels(notice.run_id, {told_label(notice.receiver): notice.end_id})
            except ObjectNotFound:
                return
            except httpx.HTTPError as error:
                if isinstance(error, httpx.HTTPStatusError) and error.response.status_code == httpx.codes.NOT_FOUND:
                    return  # the run was deleted meanwhile
                await asyncio.sleep(_MARK_PAUSE_S)
            else:
                return


async def switched_on(client: PrefectClient, receivers: Collection[str], now: datetime) -> dict[str, datetime]:
    """Since when each receiver is told of the end of all jobs, by its id; what is new there is told of from now on.

    Kept in Prefect, so that neither the past is told to whoever is new, nor anything lost to those who are not.
    """
    variable = await client.read_variable_by_name(SINCE_VARIABLE)
    kept = variable.value if variable is not None and isinstance(variable.value, dict) else {}
    since = {name: str(kept.get(name, now.isoformat())) for name in map(receiver_id, receivers)}
    try:
        if variable is None:
            await client.create_variable(VariableCreate(name=SINCE_VARIABLE, value=since))
        elif since != kept:
            await client.update_variable(VariableUpdate(name=SINCE_VARIABLE, value=since))
    except ObjectAlreadyExists:  # by another caretaker, at the same moment
        return await switched_on(client, receivers, now)
    return {name: datetime.fromisoformat(moment) for name, moment in since.items()}


def told_label(receiver: str) -> str:
    """Label of a run: the end of it that a receiver was told of last."""
    return f"pyama.told.{receiver_id(receiver)}"


async def _ended_runs(client: PrefectClient, since: datetime) -> list[FlowRun]:
    """Jobs that have ended since a moment."""
    selection = FlowRunFilter(
        tags=FlowRunFilterTags(any_=[kind.tag for kind in KINDS.values()]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=ENDED_TYPES)),
        end_time=FlowRunFilterEndTime(after_=since),
    )
    found: dict[UUID, FlowRun] = {}
    while True:
        page = await client.read_flow_runs(
            flow_run_filter=selection, sort=FlowRunSort.END_TIME_DESC, limit=MOST_IN_A_FILTER, offset=len(found)
        )
        known = len(found)
        # Runs that end meanwhile move the others to the next page.
        found |= {run.id: run for run in page}
        if len(page) < MOST_IN_A_FILTER or len(found) == known:
            return list(found.values())


async def _send(notice: Notice, secret: str) -> str | None:
    """Bring a notice once; what is wrong, where it was not taken."""
    signed = headers(notice, secret, int(time.time()))
    try:
        # Redirects are not followed, for they may lead anywhere; nor is the body of the answer waited for.
        async with (
            asyncio.timeout(_ANSWER_TIMEOUT_S),
            httpx.AsyncClient(timeout=_ANSWER_TIMEOUT_S, follow_redirects=False) as http,
            http.stream("POST", notice.receiver, content=notice.content, headers=signed) as answer,
        ):
            return None if answer.is_success else _status_problem(answer.status_code)
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError) as error:
        return f"{type(error).__name__} {error}".strip()


def _status_problem(status: int) -> str:
    hint = ", a redirect, which is not followed" if 300 <= status < 400 else ""
    return f"it answered with status {status}{hint}"
