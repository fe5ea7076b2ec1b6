"""Choosing the workers of a cluster that compute for a run: such as agree with it in versions, and see what it sees.

Workers come and go while a run goes on. Each is looked at once it is there, and is given work when nothing is in the
way. What is in the way of one of the first ends the run: that is before hours of work, not after. Later the log tells
of it, and the worker is left out.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from threading import Event, Thread
from time import monotonic
from typing import Any

from prefect.context import FlowRunContext, SettingsContext
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect_dask.task_runners import DaskTaskRunner

from flows.cluster_versions import Compared, ask_workers, compare_scheduler, compare_workers, name_worker
from flows.crew import Crew
from flows.remote_logs import hearing_logs
from flows.site import Site, join_run
from flows.task_runner import connect, has_own_threads
from tasks.errors import ClusterError

RunLogger = logging.Logger | logging.LoggerAdapter[Any]

_LOOK_INTERVAL_S = 1.0
_LOOK_AGAIN_AFTER_S = 30.0
"""Storage that was not mounted, or a server that did not answer, may be there by then."""
_END_PATIENCE_S = 5.0
_MOST_TOLD = 3


@contextmanager
def recruited(runner: DaskTaskRunner, site: Site, logger: RunLogger) -> Iterator[Crew]:
    """Have a crew within the block: the run's own threads, or such workers of its cluster as are fit for it.

    Raises
    ------
    ClusterError
        Where the cluster cannot be started or reached, or its scheduler or one of its first workers is not fit.
    """
    client = connect(runner)
    if has_own_threads(runner):
        yield Crew(client, is_own=True)
        return
    crew = Crew(client, grows=bool(runner.adapt_kwargs))
    with _prefect_with_address(), hearing_logs(client, site.run_id):
        recruiting = Recruiting(crew, site, logger)
        recruiting.check_scheduler()
        recruiting.look()
        crew.check()
        if not crew.n_threads:
            logger.info("The Dask cluster has no workers yet; the run waits for them")
        over = Event()
        # In a thread of its own, as a worker that does not answer is not to hold up the others.
        looking = Thread(target=copy_context().run, args=[recruiting.go_on, over], name="recruiting", daemon=True)
        looking.start()
        try:
            yield crew
        finally:
            over.set()
            looking.join(_END_PATIENCE_S)


@contextmanager
def _prefect_with_address() -> Iterator[None]:
    """Have the settings that go with tasks tell where Prefect is, also where the run has an embedded server."""
    context = FlowRunContext.get()
    if PREFECT_API_URL.value() or context is None:
        yield
        return
    with temporary_settings({PREFECT_API_URL: str(context.client.api_url).rstrip("/")}):
        yield


class Recruiting:
    """Looks at the workers of a cluster as they come, and keeps a crew up to date."""

    def __init__(self, crew: Crew, site: Site, logger: RunLogger) -> None:
        self._crew = crew
        self._client = crew.client
        self._site = site
        self._logger = logger
        self._settings = SettingsContext.get()
        self._begun = False
        """Whether there has been a crew in whose way nothing was."""
        self._fit: set[str] = set()
        self._unfit: dict[str, tuple[str, float]] = {}
        """What is in the way of other workers, by their address, and when that was seen."""

    def check_scheduler(self) -> None:
        """Hold the scheduler to the run's versions.

        Raises
        ------
        ClusterError
            Where they do not agree.
        """
        compared = compare_scheduler(self._client)
        if compared.problem is not None:
            raise ClusterError(compared.problem)
        self._tell(compared)

    def go_on(self, over: Event) -> None:
        """Look now and then, until the run is over."""
        told = ""
        while not over.wait(_LOOK_INTERVAL_S):
            try:
                self.look()
            except Exception as error:  # a scheduler that does not answer; tasks tell what becomes of them
                if not over.is_set() and str(error) != told:
                    told = str(error)
                    self._logger.warning("The workers of the Dask cluster cannot be looked at: %s", error)

    def look(self) -> None:
        """Look at workers that are new, and again at those that were not fit."""
        present: dict[str, int] = self._client.nthreads()
        self._fit &= present.keys()
        self._unfit = {address: seen for address, seen in self._unfit.items() if address in present}
        self._publish(present)
        due = [address for address in present if address not in self._fit and self._is_due(address)]
        examined = self._examine(due)
        for address, problem in examined.items():
            self._note(address, problem)
        self._publish(present)
        for address in examined.keys() & self._fit if self._begun else ():
            self._logger.info("%s has joined the run", name_worker(self._client, address))
        if self._unfit and not self._begun:
            self._crew.refuse(_refusal([problem for problem, _ in self._unfit.values()]))
        self._begun = self._begun or bool(self._fit)

    def _is_due(self, address: str) -> bool:
        return address not in self._unfit or monotonic() - self._unfit[address][1] > _LOOK_AGAIN_AFTER_S

    def _publish(self, present: Mapping[str, int]) -> None:
        self._crew.update({address: present[address] for address in self._fit})

    def _note(self, address: str, problem: str | None) -> None:
        known, _ = self._unfit.pop(address, (None, 0.0))
        if problem is None:
            self._fit.add(address)
            return
        self._unfit[address] = (problem, monotonic())
        if self._begun and problem != known:
            self._logger.warning("%s. It is given no work of this run", problem)

    def _examine(self, addresses: Sequence[str]) -> dict[str, str | None]:
        """Tell of each worker that answers what is in its way, or that nothing is."""
        found: dict[str, str | None] = {}
        compared = compare_workers(self._client, addresses)
        for address, versions in compared.items():
            found[address] = versions.problem
            self._tell(versions)
        agreeing = [address for address, problem in found.items() if problem is None]
        settings = self._settings.serialize() if self._settings is not None else {}
        seen = ask_workers(self._client, agreeing, join_run, self._site, settings)
        for address in agreeing:
            if address not in seen:  # it has left
                del found[address]
            elif problems := _as_list(seen[address]):
                found[address] = f"{name_worker(self._client, address)} {'; it '.join(problems)}"
        return found

    def _tell(self, compared: Compared) -> None:
        if compared.remark is not None:
            self._logger.info("%s", compared.remark)


def _as_list(answer: list[str] | Exception) -> list[str]:
    return [f"cannot be asked: {answer}"] if isinstance(answer, Exception) else answer


def _refusal(problems: Sequence[str]) -> ClusterError:
    more = f"; and {len(problems) - _MOST_TOLD} more" if len(problems) > _MOST_TOLD else ""
    return ClusterError("; ".join(problems[:_MOST_TOLD]) + more)
