"""Many jobs and many clients at once: jobs wait for their turn, and no client gets a wrong answer."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.engines import wait_until
from tests.flow_runs import film
from tests.recordings import write_recording
from tests.stack import JOB_DEADLINE_S, Client, RunningStack, asked, is_computing

N_CLIENTS = 50


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recording(tmp_path_factory.mktemp("recording") / "film.nd2", film(2, 1500))


@pytest.fixture
def one_at_a_time(stack: RunningStack) -> Iterator[Client]:
    """A client of an API that lets one job compute at a time."""
    pool = f"{stack.prefect_url}/api/work_pools/pyama"

    def limit() -> Any:
        return httpx.get(pool).json()["concurrency_limit"]

    usual = limit()
    with stack.another_api(PYAMA_MAX_JOBS="1") as client:
        wait_until(lambda: limit() == 1, "the work pool is told the limit")
        yield client
    httpx.patch(pool, json={"concurrency_limit": usual}).raise_for_status()


@pytest.mark.stack
def test_jobs_beyond_the_limit_wait_as_pending_and_then_run(
    one_at_a_time: Client, recording: Path, tmp_path: Path
) -> None:
    client = one_at_a_time
    first = client.start(asked(recording, tmp_path / "first", keep="none"))
    client.watch(first, is_computing)
    second = client.start(asked(recording, tmp_path / "second", keep="none", fovs=[0]))
    client.watch(first, lambda status: status["progress"]["percentage"] > 80)
    waiting = client.status(second)
    assert waiting["status"] == "pending"
    assert waiting["progress"]["percentage"] == 0
    pending = client.http.get("/jobs", params={"status": "pending"}).json()["jobs"]
    assert second in [job["job_id"] for job in pending]
    client.finish(first)
    client.watch(second, is_computing)
    client.cancel(second)
    assert client.finish(second)[-1]["status"] == "cancelled"


def test_fifty_clients_at_once(stack: RunningStack, recording: Path, tmp_path: Path) -> None:
    """All of them look at the recording, start the same job by the same key, ask for it, and try to cancel it."""
    body = asked(recording, tmp_path / "out", keep="none")

    def start(http: httpx.Client) -> httpx.Response:
        """Ask again where the orchestrator is too busy to answer, which a key makes safe."""
        deadline_s = time.monotonic() + JOB_DEADLINE_S
        while True:
            answer = http.post("/processing/workflow/start", json=body, headers={"Idempotency-Key": "fifty"})
            if answer.status_code != 503 or time.monotonic() > deadline_s:
                return answer

    def use(number: int) -> str:
        with httpx.Client(base_url=f"{stack.api_url}/api/v1", timeout=60) as http:
            loaded = http.post("/processing/load-metadata", json={"file_path": str(recording)})
            assert loaded.json()["metadata"]["n_fovs"] == 2, loaded.text
            started = start(http)
            assert started.status_code == 200, started.text
            job_id = str(started.json()["job_id"])
            status = http.get(f"/processing/workflow/status/{job_id}")
            assert status.json()["job_id"] == job_id, status.text
            cancelled = http.post(f"/processing/workflow/cancel/{job_id}")
            assert cancelled.status_code in {200, 409}, cancelled.text
            return job_id

    with ThreadPoolExecutor(N_CLIENTS) as threads:
        job_ids = set(threads.map(use, range(N_CLIENTS)))
    assert len(job_ids) == 1
    assert stack.client.finish(job_ids.pop())[-1]["status"] == "cancelled"
