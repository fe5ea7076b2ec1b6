"""Runs whose process is gone: they go on or are cancelled, and nothing that has ended begins anew."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State, StateDetails, StateType
from prefect.states import Cancelled, Cancelling, Completed, Crashed, Failed, Pending, Running
from prefect.types.entrypoint import EntrypointType

from api.jobs import PROCESSING, job_status
from api.orchestrator import POOL
from api.settings import Settings
from deployments.deploying import ensure_pools
from deployments.process_name import BEAT_LABEL, PROCESS_LABEL, is_alive_here, is_gone_from_here, name_of_process
from deployments.recovery import SILENT_LOOKS, Reconciler, recover_run, recover_runs

Result = TypeVar("Result")
ELSEWHERE = "microscope-2/b2c1-4026531836/4711/99"


@flow(name="recovered")
def recovered() -> None:
    """Never run."""


def asked(question: Callable[[PrefectClient], Awaitable[Result]]) -> Result:
    async def ask() -> Result:
        async with get_client() as client:
            return await question(client)

    return asyncio.run(ask())


@pytest.fixture(scope="module")
def deployment(prefect_api: str, tmp_path_factory: pytest.TempPathFactory) -> UUID:
    asked(lambda client: ensure_pools(client, Settings(home=tmp_path_factory.mktemp("home"))))
    built = recovered.to_deployment("recovered", work_pool_name=POOL, entrypoint_type=EntrypointType.MODULE_PATH)
    found = built.apply()  # type: ignore[union-attr]
    return found if isinstance(found, UUID) else asyncio.run(found)


class SomeRun:
    """A run of a deployment, whose states are set here as its process and its worker would."""

    def __init__(self, deployment: UUID) -> None:
        run = asked(lambda client: client.create_flow_run_from_deployment(deployment, tags=[PROCESSING.tag]))
        self.id = run.id

    def get(self) -> FlowRun:
        return asked(lambda client: client.read_flow_run(self.id))

    def become(self, *states: State[Any]) -> None:
        for state in states:
            asked(lambda client, state=state: client.set_flow_run_state(self.id, state, force=True))  # type: ignore[misc]

    def sign(self, process: str, beat: int = 0) -> None:
        labels: dict[str, bool | int | float | str] = {PROCESS_LABEL: process, BEAT_LABEL: beat}
        asked(lambda client: client.update_flow_run_labels(self.id, labels))

    def status(self) -> tuple[str | None, str]:
        """Name of its state, and what the API tells of it."""
        run = self.get()
        assert run.state is not None
        return run.state.name, job_status(run.state, run.run_count)


@pytest.fixture
def run(deployment: UUID) -> Iterator[SomeRun]:
    made = SomeRun(deployment)
    yield made
    asked(lambda client: client.delete_flow_run(made.id))


def look(reconciler: Reconciler, n_looks: int) -> list[str | None]:
    async def ask(client: PrefectClient) -> list[str | None]:
        return [await reconciler.look(client, Settings()) for _ in range(n_looks)]

    return asked(ask)


def test_silent_run_of_a_machine_that_is_gone_goes_on(run: SomeRun) -> None:
    run.become(Pending(), Running())
    run.sign(ELSEWHERE)
    reconciler = Reconciler()
    assert look(reconciler, SILENT_LOOKS) == [None] * SILENT_LOOKS
    assert run.status() == ("Running", "running")
    assert look(reconciler, 2) == ["1 interrupted runs go on, or are cancelled as was asked for", None]
    assert run.status() == ("Resuming", "running")


def test_silent_run_that_was_to_be_cancelled_is_cancelled(run: SomeRun) -> None:
    run.become(Pending(), Running(), Cancelling())
    look(Reconciler(), SILENT_LOOKS + 1)
    assert run.status() == ("Cancelled", "cancelled")


def test_run_that_a_worker_took_and_never_started_goes_back(run: SomeRun) -> None:
    run.become(Pending())
    look(Reconciler(), SILENT_LOOKS + 1)
    assert run.status() == ("AwaitingRetry", "pending")


def test_run_that_tells_of_itself_is_left_alone(run: SomeRun) -> None:
    run.become(Pending(), Running())
    reconciler = Reconciler()
    for beat in range(3):
        run.sign(ELSEWHERE, beat)
        assert look(reconciler, SILENT_LOOKS) == [None] * SILENT_LOOKS
    assert run.status() == ("Running", "running")


def test_process_of_this_machine_that_stands_still_is_left_alone_until_it_is_gone(run: SomeRun) -> None:
    run.become(Pending(), Running())
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        run.sign(name_of_process(process.pid))
        reconciler = Reconciler()
        look(reconciler, 2 * SILENT_LOOKS)
        assert run.status() == ("Running", "running")
        process.kill()
    look(reconciler, 1)
    assert run.status() == ("Resuming", "running")


@pytest.mark.parametrize("end", [Completed(), Failed(), Crashed(), Cancelled()], ids=lambda state: state.name)
@pytest.mark.parametrize("before", [Running(), Pending()], ids=lambda state: state.name)
def test_run_that_ends_at_the_same_moment_keeps_its_end(run: SomeRun, before: State[Any], end: State[Any]) -> None:
    run.become(Pending(), Running(), before)
    seen = run.get()
    run.become(end)
    reached = run.get().state_id
    assert not asked(lambda client: recover_run(client, seen))
    assert run.get().state_id == reached


def test_recovery_that_was_interrupted_itself_is_completed(run: SomeRun) -> None:
    details = StateDetails(pause_reschedule=True)
    run.become(Pending(), Running(), State(type=StateType.PAUSED, name="AwaitingRetry", state_details=details))
    assert run.status() == ("AwaitingRetry", "running")
    look(Reconciler(), SILENT_LOOKS + 1)
    assert run.status() == ("Resuming", "running")


def test_recovered_once_although_two_see_to_it(run: SomeRun) -> None:
    run.become(Pending(), Running())
    seen = run.get()
    assert asked(lambda client: recover_run(client, seen))
    assert not asked(lambda client: recover_run(client, seen))
    assert run.status() == ("Resuming", "running")


def test_own_runs_are_recovered_at_once_and_those_of_other_workers_left_alone(run: SomeRun, deployment: UUID) -> None:
    run.become(Pending(), Running())
    other = SomeRun(deployment)
    other.become(Pending(), Running())
    other.sign(ELSEWHERE)
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        name = name_of_process(process.pid)
    run.sign(name)

    async def recover(client: PrefectClient) -> int:
        await client.send_worker_heartbeat(POOL, "worker-of-elsewhere")
        return await recover_runs(client, POOL, ["own-worker"])

    assert asked(recover) == 1
    assert run.status() == ("Resuming", "running")
    assert other.status() == ("Running", "running")
    asked(lambda client: client.delete_flow_run(other.id))


def test_names_of_processes(tmp_path: Path) -> None:
    own = name_of_process(os.getpid())
    host, numbering, pid, start = own.split("/")
    assert is_alive_here(own)
    assert not is_gone_from_here(own)
    for gone in (f"{host}/{numbering}/{pid}/{int(start) - 1}", f"{host}/{numbering}/{2**22 + 1}/{start}"):
        assert is_gone_from_here(gone)
        assert not is_alive_here(gone)
    for unknown in ("", "nonsense", f"{host}//{pid}/{start}", f"{host}/another-boot/{pid}/{start}", ELSEWHERE):
        assert not is_gone_from_here(unknown)
        assert not is_alive_here(unknown)
