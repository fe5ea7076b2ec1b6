"""Notices of jobs that the whole stack has computed: started through the API, and from elsewhere."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.engines import wait_until
from tests.flow_runs import film
from tests.receivers import Received, Receiver, receiver
from tests.recordings import write_recording
from tests.stack import JOB_DEADLINE_S, RunningStack, asked, is_computing, running_stack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def every() -> Iterator[Receiver]:
    with receiver() as every:
        yield every


@pytest.fixture(scope="module")
def named() -> Iterator[Receiver]:
    with receiver() as named:
        yield named


@pytest.fixture(scope="module")
def telling(tmp_path_factory: pytest.TempPathFactory, every: Receiver, named: Receiver) -> Iterator[RunningStack]:
    settings = {
        "PYAMA_WEBHOOKS": every.url,
        "PYAMA_ALLOWED_WEBHOOKS": named.url.removesuffix("/notices"),
        "PYAMA_WEBHOOK_SECRET": "a secret of the tests alone",
    }
    with running_stack(tmp_path_factory.mktemp("telling"), **settings) as stack:
        yield stack


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recording(tmp_path_factory.mktemp("recording") / "film.nd2", film(2, 1500))


def the_one(one: Receiver, job_id: str) -> Received:
    wait_until(lambda: one.of(job_id), f"{one.url} is told", JOB_DEADLINE_S)
    (notice,) = one.of(job_id)
    return notice


def test_completed_failed_and_cancelled_jobs_are_told_of(
    telling: RunningStack, every: Receiver, named: Receiver, recording: Path, tmp_path: Path
) -> None:
    client = telling.client
    done = client.start(asked(recording, tmp_path / "done", keep="none", fovs=[0]) | {"webhook_url": named.url})
    client.finish(done)
    for one in (every, named):
        said = the_one(one, done).content
        assert (said["event"], said["progress"]["percentage"]) == ("job.completed", 100.0)
        assert said["output_dir"] == str(tmp_path / "done")
        assert httpx.get(said["links"]["status"]).json()["status"] == "completed"
        assert httpx.get(said["links"]["results"]).json()["success"] is True

    stopped = client.start(asked(recording, tmp_path / "stopped", keep="none"))
    client.watch(stopped, is_computing)
    client.cancel(stopped)
    client.finish(stopped)
    assert the_one(every, stopped).content["event"] == "job.cancelled"
    assert named.of(stopped) == []

    deployment = httpx.get(f"{telling.prefect_url}/api/deployments/name/process-acquisition/pyama").json()
    started = httpx.post(
        f"{telling.prefect_url}/api/deployments/{deployment['id']}/create_flow_run",
        json={"parameters": asked(tmp_path / "nowhere.nd2", tmp_path / "failed")},
    )
    failed = the_one(every, started.json()["id"]).content
    assert failed["event"] == "job.failed"
    assert "nowhere.nd2" in failed["error"]
    assert len(every.of(done)) == 1
