"""The programs of production, run as their compose file says, on PostgreSQL and on a Dask cluster."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from api.orchestrator import CONTROL_POOL, POOL
from deployments.deploying import DEPLOYMENTS
from tests.api_server import error_of
from tests.engines import wait_until
from tests.flow_runs import film
from tests.production import Production, at_postgresql, postgresql_database, services
from tests.recordings import write_recording
from tests.stack import Client, asked
from tests.test_production_rules import OF_PROMETHEUS, metrics_of_alarms

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def database() -> Iterator[dict[str, str]]:
    """An empty database."""
    with postgresql_database() as settings:
        yield settings


@pytest.fixture
def production(tmp_path: Path, database: dict[str, str]) -> Iterator[Production]:
    """The programs of production, not yet started."""
    with Production(tmp_path, database) as programs:
        yield programs


def samples(text: str) -> set[str]:
    """Names of metrics that have a sample in Prometheus' text."""
    return {line.partition("{")[0].partition(" ")[0] for line in text.splitlines() if not line.startswith("#")}


def test_prefect_on_postgresql_a_worker_and_the_api(production: Production, database: dict[str, str]) -> None:
    production.start("prefect", "deploy", "control-worker", "api")

    # Prefect keeps its runs in PostgreSQL, and asks everybody for its own password.
    (found,) = at_postgresql("SELECT name FROM flow ORDER BY created LIMIT 1", database["name"])
    assert found["name"] in {deployment.full_name.partition("/")[0] for deployment in DEPLOYMENTS}
    pools = f"{production.prefect_url}/api/work_pools/filter"
    assert httpx.post(pools, json={}).status_code == 401
    known = httpx.post(pools, json={}, auth=("pyama", production.password)).json()
    assert {pool["name"]: pool["concurrency_limit"] for pool in known} == {POOL: 4, CONTROL_POOL: None}

    # The API asks for keys, and says what is missing.
    client = Client(production.api_url)
    error_of(client.http.get("/jobs"), 401, "UNAUTHORIZED")
    client.http.headers["X-API-Key"] = production.api_key
    assert client.http.get("/jobs").json()["total"] == 0
    assert f"no worker of the work pool {POOL}" in error_of(
        client.http.get("/health/ready"), 503, "SERVICE_UNAVAILABLE"
    )
    online = f'pyama_workers{{pool="{CONTROL_POOL}"}} 1'
    wait_until(lambda: online in client.http.get("/metrics").text.splitlines(), "its worker has told that it lives")

    shown = production.command_lines()
    assert "uvicorn" in shown
    assert not any(secret in shown for secret in (database["password"], production.password, production.api_key))
    codes = production.stop()
    assert (codes["deploy-0"], codes["control-worker-0"], codes["api-0"]) == (0, 0, 0)


@pytest.mark.stack
def test_a_film_is_computed_by_the_dask_workers(production: Production) -> None:
    production.start(*services())
    client = Client(production.api_url)
    client.http.headers["X-API-Key"] = production.api_key
    wait_until(lambda: client.http.get("/health/ready").is_success, "its workers have told that they live")

    recording = write_recording(production.data / "film.nd2", film(4, 30))
    job_id = client.start(asked(recording, production.data / "results", keep="labels"))
    told = client.finish(job_id)  # four processes answer, and what they tell never goes back
    assert told[-1]["status"] == "completed", told[-1]
    assert client.results(job_id)["success"] is True
    assert len(list((production.data / "results").glob("fov_*/manifest.json"))) == 4
    logs = [production.log(f"dask-worker-{number}") for number in range(2)]
    assert sum(log.count("Finished in state Completed") for log in logs) == 4

    error_of(
        httpx.post(f"{client.url}/api/v1/processing/file-info", json={"file_path": str(recording)}), 401, "UNAUTHORIZED"
    )
    outside = client.http.post("/processing/file-info", json={"file_path": "/etc/passwd"})
    error_of(outside, 403, "FORBIDDEN")

    told_by = samples(client.http.get("/metrics").text) | samples(httpx.get(production.dask_metrics_url).text)
    assert metrics_of_alarms() <= told_by | OF_PROMETHEUS
    assert all(code == 0 for name, code in production.stop().items() if not name.startswith("prefect"))
