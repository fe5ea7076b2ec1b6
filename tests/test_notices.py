"""Notices of the end of jobs, from a real Prefect server to real receivers."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.states import AwaitingRetry, Cancelled, Completed, Crashed, Failed, Running
from pydantic import SecretStr

from api.jobs import FITTING, PROCESSING
from api.settings import Settings
from api.webhooks import WEBHOOK_LABEL, normalize_webhook
from deployments.notices import SINCE_VARIABLE, Notices, told_label
from tasks.job_marks import COMMON_TAG
from tests.engines import ROOT, wait_until
from tests.receivers import HANG, Receiver, receiver

SECRET = "a secret of the tests alone"

pytestmark = pytest.mark.usefixtures("prefect_api")


@flow(name="process-acquisition")
def a_job(output_dir: str) -> None:
    pass


@pytest.fixture
def client() -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


def ended(
    client: SyncPrefectClient, *states: State[Any], webhook: str | None = None, kind: str = PROCESSING.tag
) -> UUID:
    """A job that has been in some states, after it had begun."""
    run = client.create_flow_run(a_job, name="film.nd2", parameters={"output_dir": "/results"}, tags=[COMMON_TAG, kind])
    if webhook is not None:
        client.update_flow_run_labels(run.id, {WEBHOOK_LABEL: normalize_webhook(webhook)})
    begun: State[Any] = Running()
    for state in (begun, *states):
        client.set_flow_run_state(run.id, state, force=True)
    return run.id


def settings(tmp_path: Path, *allowed: Receiver, every: tuple[Receiver, ...] = ()) -> Settings:
    return Settings(
        home=tmp_path,
        webhook_secret=SecretStr(SECRET),
        allowed_webhooks=[one.url for one in allowed],
        webhooks=[one.url for one in every],
    )


def look_until(condition: Callable[[], object], configured: Settings, notices: Notices | None = None) -> None:
    """Have the duty done again and again until a condition holds."""
    duty = notices or Notices(first_pause_s=0.05)

    async def repeat() -> None:
        async with asyncio.timeout(60):
            while not condition():
                async with get_client() as client:
                    await duty.look(client, configured)
                await asyncio.sleep(0.02)

    asyncio.run(repeat())


def is_marked(client: SyncPrefectClient, run_id: UUID, told: Receiver) -> bool:
    return told_label(normalize_webhook(told.url)) in client.read_flow_run(run_id).labels


def documented_verify() -> Callable[[str, dict[str, str], bytes], bool]:
    """The function of the documentation."""
    text = (ROOT / "docs" / "notices.md").read_text()
    (code,) = re.findall(r"```python\n(.*?def is_from_pyama.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    verify: Callable[[str, dict[str, str], bytes], bool] = names["is_from_pyama"]
    return verify


@pytest.mark.parametrize(
    ("state", "status"),
    [(Completed(message="2 of 2"), "completed"), (Failed(message="no disk"), "failed"), (Crashed(), "failed"),
     (Cancelled(), "cancelled")],
)  # fmt: skip
def test_a_receiver_is_told_of_every_end(
    client: SyncPrefectClient, tmp_path: Path, state: State[Any], status: str
) -> None:
    with receiver() as one:
        run_id = ended(client, state, webhook=one.url)
        look_until(lambda: is_marked(client, run_id, one), settings(tmp_path, one))
        (notice,) = one.received
        said = notice.content
        assert (said["event"], said["status"], said["job_id"]) == (f"job.{status}", status, str(run_id))
        assert (said["kind"], said["name"], said["output_dir"]) == ("processing", "film.nd2", "/results")
        assert said["error"] == ({"failed": state.message or "the job failed without a reason"}.get(status))
        assert said["progress"].keys() == {"current_fov", "total_fovs", "percentage"}
        assert said["links"]["status"] == f"http://127.0.0.1:8000/api/v1/processing/workflow/status/{run_id}"
        assert said["started_at"] <= said["ended_at"]
        assert notice.headers["PyAMA-Event"] == said["event"]
        assert notice.headers["PyAMA-Delivery"] == said["delivery_id"]
        assert SECRET.encode() not in notice.body


def test_the_signature_is_verified_as_documented(client: SyncPrefectClient, tmp_path: Path) -> None:
    verify = documented_verify()
    with receiver() as one:
        run_id = ended(client, Completed(), webhook=one.url, kind=FITTING.tag)
        look_until(lambda: is_marked(client, run_id, one), settings(tmp_path, one))
        (notice,) = one.received
    assert verify(SECRET, notice.headers, notice.body)
    assert not verify("another secret entirely", notice.headers, notice.body)
    assert not verify(SECRET, notice.headers, notice.body.replace(b"completed", b"cancelled"))
    moment, rest = notice.headers["PyAMA-Signature"].split(",")
    old = int(moment.removeprefix("t=")) - 3600
    assert not verify(SECRET, {**notice.headers, "PyAMA-Signature": f"t={old},{rest}"}, notice.body)


def test_who_fails_is_told_again_by_the_same_id(client: SyncPrefectClient, tmp_path: Path) -> None:
    with receiver(500, 503, 204) as one:
        run_id = ended(client, Completed(), webhook=one.url)
        look_until(lambda: is_marked(client, run_id, one), settings(tmp_path, one))
        assert len(one.received) == 3
        assert len({notice.content["delivery_id"] for notice in one.received}) == 1


def test_one_that_hangs_delays_no_other(client: SyncPrefectClient, tmp_path: Path) -> None:
    with receiver(HANG) as hanging, receiver() as good:
        configured = settings(tmp_path, hanging, good)
        stuck = [ended(client, Completed(), webhook=hanging.url) for _ in range(6)]
        fine = [ended(client, Completed(), webhook=good.url) for _ in range(6)]
        look_until(lambda: all(is_marked(client, run_id, good) for run_id in fine), configured)
        assert not any(is_marked(client, run_id, hanging) for run_id in stuck)
        assert 1 <= len(hanging.received) <= 4  # so many at a time


def test_a_redirect_is_not_followed(
    client: SyncPrefectClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with receiver() as target, receiver(302, 307, 308, 410, location=target.url) as redirecting:
        run_id = ended(client, Completed(), webhook=redirecting.url)
        look_until(lambda: "given up" in caplog.text, settings(tmp_path, redirecting))
        assert len(redirecting.received) == 4
        assert target.received == []
        assert not is_marked(client, run_id, redirecting)
    assert "a redirect, which is not followed" in caplog.text
    assert "/notices" not in caplog.text


def test_what_is_no_longer_allowed_is_not_told(client: SyncPrefectClient, tmp_path: Path) -> None:
    with receiver() as dropped, receiver() as kept:
        ended(client, Completed(), webhook=dropped.url)
        run_id = ended(client, Completed(), webhook=kept.url)
        look_until(lambda: is_marked(client, run_id, kept), settings(tmp_path, kept))
        assert dropped.received == []


def test_two_at_once_send_at_worst_the_same_twice(client: SyncPrefectClient, tmp_path: Path) -> None:
    with receiver() as one:
        run_id = ended(client, Completed(), webhook=one.url)
        both = [Notices(), Notices()]

        async def look_at_once() -> None:
            async with get_client() as prefect:
                await asyncio.gather(*(notices.look(prefect, settings(tmp_path, one)) for notices in both))
            await until(lambda: is_marked(client, run_id, one))

        asyncio.run(look_at_once())
        assert 1 <= len(one.received) <= 2
        assert len({notice.content["delivery_id"] for notice in one.received}) == 1


def test_a_job_that_ends_again_is_told_of_again(client: SyncPrefectClient, tmp_path: Path) -> None:
    with receiver() as one:
        notices = Notices()
        run_id = ended(client, Failed(message="no disk"), webhook=one.url)
        look_until(lambda: len(one.received) == 1, settings(tmp_path, one), notices)
        again: list[State[Any]] = [AwaitingRetry(), Running(), Completed()]
        for state in again:
            client.set_flow_run_state(run_id, state, force=True)
        look_until(lambda: len(one.received) == 2, settings(tmp_path, one))
        first, second = (notice.content for notice in one.received)
        assert (first["event"], second["event"]) == ("job.failed", "job.completed")
        assert first["delivery_id"] != second["delivery_id"]


def test_the_past_is_not_told_and_nothing_is_lost_once_switched_on(client: SyncPrefectClient, tmp_path: Path) -> None:
    with receiver() as every, receiver() as later:
        before = ended(client, Completed())
        configured = settings(tmp_path, every=(every,))
        look_until(lambda: client.read_variable_by_name(SINCE_VARIABLE), configured)
        look_until(lambda: client.read_variable_by_name(SINCE_VARIABLE).value.keys(), configured)  # type: ignore[union-attr]
        after = ended(client, Completed())
        both = settings(tmp_path, every=(every, later))  # another process, with one receiver more
        look_until(lambda: every.of(after), both)
        last = ended(client, Completed())
        look_until(lambda: later.of(last) and every.of(last), both)
        assert every.of(before) == later.of(before) == later.of(after) == []


def test_what_ended_too_long_ago_is_given_up(
    client: SyncPrefectClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with receiver(500) as failing:
        ended(client, Completed(), webhook=failing.url)
        brief = Notices(
            first_pause_s=3600, given_up_after=timedelta(minutes=30)
        )  # the second attempt would be too late
        look_until(lambda: "given up" in caplog.text, settings(tmp_path, failing), brief)
    with receiver() as one:
        run_id = ended(client, Completed(), webhook=one.url)
        asked = count()
        look_until(lambda: next(asked) > 3, settings(tmp_path, one), Notices(given_up_after=timedelta()))
        assert one.received == []
        look_until(lambda: is_marked(client, run_id, one), settings(tmp_path, one))


def test_a_run_that_is_deleted_meanwhile_ends_nothing(client: SyncPrefectClient, tmp_path: Path) -> None:
    with receiver(500, 200) as one, receiver() as other:
        run_id = ended(client, Completed(), webhook=one.url)
        notices = Notices(first_pause_s=0.5)
        configured = settings(tmp_path, one, other)

        async def delete_between() -> None:
            async with get_client() as prefect:
                await notices.look(prefect, configured)
                await until(lambda: len(one.received) == 1)
                await prefect.delete_flow_run(run_id)
                await until(lambda: len(one.received) == 2)

        asyncio.run(delete_between())


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


@contextmanager
def caretaker(folder: Path, one: Receiver) -> Iterator[subprocess.Popen[bytes]]:
    environment = {
        **os.environ,
        "PYAMA_HOME": str(folder),
        "PYAMA_WEBHOOK_SECRET": SECRET,
        "PYAMA_ALLOWED_WEBHOOKS": one.url,
    }
    with (folder / "caretaker.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "deployments.caretaker"], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_notices_survive_the_death_of_the_caretaker(client: SyncPrefectClient, tmp_path: Path) -> None:
    """Killed while a receiver has the notice and has not answered; its successor tells it, by the same id."""
    with receiver(HANG, 200) as one:
        run_id = ended(client, Completed(), webhook=one.url)
        with caretaker(tmp_path, one) as first:
            wait_until(lambda: len(one.received) == 1, "the receiver is told", 120)
            first.send_signal(signal.SIGKILL)
            first.wait()
        assert not is_marked(client, run_id, one)
        with caretaker(tmp_path, one) as second:
            wait_until(lambda: is_marked(client, run_id, one), "the receiver is told again", 120)
            second.terminate()
            assert second.wait(timeout=30) == 0
        assert len({notice.content["delivery_id"] for notice in one.received}) == 1
        with caretaker(tmp_path, one):
            later = ended(client, Completed(), webhook=one.url)
            wait_until(lambda: is_marked(client, later, one), "a later job is told of", 120)
        assert len(one.of(run_id)) == 2
