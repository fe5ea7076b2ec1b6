"""Requests that the API's own description allows, and such as it does not: no answer is a surprise.

For each route, schemathesis makes requests from the OpenAPI description. Whatever comes, the API never fails (no status
of 500 or more), answers only with what is described, and refuses what it describes as wrong.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from api.main import BASE, app
from tests.flow_runs import film
from tests.recordings import write_recording
from tests.stack import RunningStack, asked

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
]
Case = schemathesis.Case[Any]
DESCRIPTION = schemathesis.openapi.from_dict(app.openapi())


@dataclass(frozen=True)
class Fuzzed:
    """An API that is asked anything."""

    url: str
    folder: Path
    """The only folder that it may use."""
    job_id: str
    """A job that was completed."""

    def sharpen(self, case: Case) -> None:
        """Give a request paths and jobs that are there, because text at random never names one."""
        there = [self.folder / "film.nd2", self.folder, self.folder / "out", self.folder / "samples.yaml"]
        for fields in (case.body, case.query):
            if not isinstance(fields, dict):
                continue
            for name, value in fields.items():
                if isinstance(value, str) and value and name.endswith(("_path", "_dir", "_yaml")):
                    choice = len(value) % (len(there) + 1)
                    if choice < len(there):
                        fields[name] = str(there[choice])
        job_id = case.path_parameters.get("job_id")
        if isinstance(job_id, str) and case.method == "GET" and len(job_id) % 2:
            case.path_parameters["job_id"] = self.job_id


@pytest.fixture(scope="module")
def fuzzed(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzed]:
    folder = tmp_path_factory.mktemp("fuzzed")
    write_recording(folder / "film.nd2", film(1, 2))
    with stack.another_api(PYAMA_ALLOWED_PATHS=str(folder)) as client:
        job_id = client.start(asked(folder / "film.nd2", folder / "out", keep="none"))
        client.finish(job_id)
        yield Fuzzed(client.url, folder, job_id)
        for job in client.http.get("/jobs", params={"status": ["pending", "running"]}).json()["jobs"]:
            client.http.post(f"/processing/workflow/cancel/{job['job_id']}")


@DESCRIPTION.include(path_regex=f"^{BASE}/").parametrize()
@settings(max_examples=25, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_request_surprises(case: Case, fuzzed: Fuzzed) -> None:
    fuzzed.sharpen(case)
    case.call_and_validate(base_url=fuzzed.url, checks=CHECKS)


def test_the_root_routes_are_described_as_those_under_the_base() -> None:
    paths: dict[str, Any] = app.openapi()["paths"]
    at_root = [path for path in paths if not path.startswith(f"{BASE}/")]
    assert at_root
    for path in at_root:
        for method, operation in paths[path].items():
            twin = paths[f"{BASE}{path}"][method]
            assert {**operation, "operationId": ""} == {**twin, "operationId": ""}
