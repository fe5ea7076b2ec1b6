"""Every error of the API has the documented body."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from api.errors import ErrorResponse, InvalidRequestError
from api.main import create_app
from api.settings import Settings
from tasks import errors
from tests.api_server import BASE, api, ask, error_of, serving

LOAD = f"{BASE}/processing/load-metadata"
START = f"{BASE}/processing/workflow/start"
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with api(tmp_path_factory.mktemp("home")) as client:
        yield client


@pytest.fixture
def broken(tmp_path: Path) -> FastAPI:
    """An application with routes that fail as none should."""
    app = create_app(Settings(home=tmp_path))

    async def fail() -> None:
        raise RuntimeError("the password is 1234")

    async def fail_with(name: str) -> None:
        kind: type[errors.PyamaError] = getattr(errors, name)
        raise kind("what is wrong")

    app.add_api_route("/fail", fail)
    app.add_api_route("/fail/{name}", fail_with)
    return app


@pytest.mark.parametrize("path", ["/nowhere", BASE, f"{BASE}/nowhere", f"{LOAD}/", "/%ff%00", "/" + "x" * 5000])
def test_no_such_route(client: httpx.Client, path: str) -> None:
    assert "/docs" in error_of(client.get(path), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", LOAD, "POST"),
        ("DELETE", LOAD, "POST"),
        ("OPTIONS", LOAD, "POST"),
        ("POST", f"{BASE}/processing/features", "GET"),
    ],
)
def test_wrong_method(client: httpx.Client, method: str, path: str, allowed: str) -> None:
    response = client.request(method, path)
    assert allowed in error_of(response, 405, "METHOD_NOT_ALLOWED")
    assert response.headers["allow"] == allowed


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"null", b"[]", b'"text"', b"1", b"\xff\xfe", b"[" * 50_000, b"{}", b'{"file_path": null}',
        b'{"file_path": 1}', b'{"file_path": ["/a"]}', b'{"file_path": "/a", "more": 1}', b'{"file_path": NaN}',
        b'{"file_path": ""}', b'{"file_path": "relative"}', b'{"file_path": "~/a"}', b'{"file_path": "file:///a"}',
        b'{"file_path": "/a\\u0000b"}', b'{"file_path": "/a\\ud800b"}', b'{"file_path": "' + b"/a" * 2500 + b'"}',
        b'{"file_path": "/' + b"a" * 5000 + b'"}', b'{"file_path": "/' + "µ".encode() * 200 + b'"}',
        b'{"file_path": "/a", "\\ud800": 1}', b"9" * 5000, b'{"file_path": "/dev/zero"}',
        b'{"file_path": "/proc/self/mem"}',
    ],
)  # fmt: skip
def test_a_body_without_sense(client: httpx.Client, body: bytes) -> None:
    error_of(client.post(LOAD, content=body, headers=JSON), 400, "INVALID_PARAMETERS")


def test_a_body_that_is_not_said_to_be_json(client: httpx.Client) -> None:
    """Any web page can send such a body from its visitor's browser without asking first."""
    response = client.post(LOAD, content=b'{"file_path": "/a"}', headers={"Content-Type": "text/plain"})
    assert "Content-Type: application/json" in error_of(response, 400, "INVALID_PARAMETERS")


def test_each_wrong_field_is_named_with_its_value(client: httpx.Client) -> None:
    response = client.post(f"{BASE}/processing/search-files", json={"search_path": 7, "max_depth": 0, "depth": 1})
    text = error_of(response, 400, "INVALID_PARAMETERS")
    assert "search_path" in text
    assert "(got 7)" in text
    assert "unknown field" in text
    assert {problem["field"] for problem in response.json()["details"]} == {"search_path", "max_depth", "depth"}


def test_a_huge_value_is_not_sent_back(client: httpx.Client) -> None:
    response = client.post(LOAD, json={"file_path": ["x" * 100_000] * 5})
    assert len(response.content) < 1000


@pytest.mark.parametrize("parameters", [{"x" * 100_000: 1}, {"tracking": {"method": "iou", "x" * 100_000: 1}}])
def test_a_huge_name_is_not_sent_back_either(client: httpx.Client, parameters: dict[str, Any]) -> None:
    body = {"microscopy_path": "/a", "output_dir": "/b", "channels": {"phase": {"channel": 0}}}
    response = client.post(START, json={**body, "parameters": parameters})
    assert "xxx…" in error_of(response, 400, "INVALID_PARAMETERS")
    assert len(response.content) < 10_000


@pytest.mark.parametrize(
    "parameters", [b'{"\\ud800": 1}', b'{"tracking": {"method": "iou", "\\ud800": 1}}', b'{"tracking": "\\ud800"}']
)
def test_a_name_that_is_no_text_can_be_told_all_the_same(client: httpx.Client, parameters: bytes) -> None:
    body = b'{"microscopy_path": "/a", "output_dir": "/b", "channels": {"phase": {"channel": 0}}, "parameters": %b}'
    text = error_of(client.post(START, content=body % parameters, headers=JSON), 400, "INVALID_PARAMETERS")
    assert "\\ud800" in text


def test_an_unexpected_error_is_told_by_an_id_that_is_in_the_log(
    broken: FastAPI, api_log: list[logging.LogRecord]
) -> None:
    with serving(broken) as client:
        response = client.get("/fail")
        text = error_of(response, 500, "INTERNAL_ERROR")
    request_id = response.json()["details"]["request_id"]
    assert request_id in text
    assert response.headers["X-Request-ID"] == request_id
    assert "1234" not in response.text
    (told,) = [record for record in api_log if record.exc_info and request_id in record.getMessage()]
    assert "1234" in str(told.exc_info[1] if told.exc_info else "")


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("InvalidParametersError", 400, "INVALID_PARAMETERS"),
        ("RecordingNotFoundError", 404, "FILE_NOT_FOUND"),
        ("RecordingError", 400, "INVALID_PARAMETERS"),
        ("MissingFrameError", 400, "INVALID_PARAMETERS"),
        ("OutputConflictError", 409, "OUTPUT_DIR_CONFLICT"),
        ("OutputBusyError", 409, "OUTPUT_DIR_BUSY"),
        ("OutputError", 400, "INVALID_PARAMETERS"),
        ("ProcessingError", 500, "PROCESSING_ERROR"),
        ("ClusterError", 503, "SERVICE_UNAVAILABLE"),
        ("PyamaError", 500, "PROCESSING_ERROR"),
    ],
)
def test_errors_of_the_computing_floors(broken: FastAPI, name: str, status: int, code: str) -> None:
    assert error_of(ask(broken, "GET", f"/fail/{name}"), status, code) == "what is wrong"


def test_text_that_is_none_can_be_told_all_the_same() -> None:
    body = json.loads(bytes(ErrorResponse(InvalidRequestError("film\udcff.nd2\nis broken")).body))
    assert body["error"] == "film?.nd2 is broken"
