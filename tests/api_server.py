"""The real API over real HTTP, at a free port of this machine; and without it, for tables of cases."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from prefect.settings import PREFECT_API_URL, temporary_settings

from api.main import create_app
from api.settings import Settings
from tests.engines import wait_until

BASE = "/api/v1"


NO_PREFECT = "http://127.0.0.1:9/api"
"""Where no Prefect server is: most of the API does without one."""


@contextmanager
def serving(app: FastAPI) -> Iterator[httpx.Client]:
    """Serve an application, and give a client that asks it."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, lifespan="on"))
    with temporary_settings({PREFECT_API_URL: NO_PREFECT}):
        thread = threading.Thread(target=copy_context().run, args=(server.run,), daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive(), "the API is up")
        assert server.started
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(30)


@contextmanager
def api(home: Path, **settings: Any) -> Iterator[httpx.Client]:
    """Serve the API with settings."""
    with serving(create_app(Settings(home=home, **settings))) as client:
        yield client


def ask(app: FastAPI, method: str, path: str, *, client_address: str = "127.0.0.1", **request: Any) -> httpx.Response:
    """Ask an application as a client of any address would."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(client_address, 50000))

    async def response() -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, **request)

    return asyncio.run(response())


def error_of(response: httpx.Response, status: int, code: str) -> str:
    """Text of an error, which comes in the documented body with a status and a code."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body["success"] is False
    assert body["error_code"] == code, body
    assert set(body) <= {"success", "error", "error_code", "details"}
    text: str = body["error"]
    assert text
    assert "\n" not in text
    return text
