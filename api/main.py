"""The application: settings, middleware, routes, and the interactive documentation.

Run it as `uvicorn api.main:app`, with any number of workers; it keeps no state of its own.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Depends, FastAPI
from starlette.concurrency import run_in_threadpool

from api.documentation import OPENAPI_PATH, add_documentation
from api.errors import install_error_handlers
from api.logs import configure_logging
from api.metrics import RequestMetrics
from api.middleware import Cors, Gate, Observer, RequestLog, Unexpected
from api.openapi import polish
from api.orchestrator import open_orchestrator
from api.page_files import add_page
from api.responses import documented_errors
from api.routes import (
    cell_traces,
    features,
    files,
    fitting,
    job_events,
    jobs,
    merge,
    metadata,
    models,
    monitoring,
    peer_viewing,
    plugins,
    quality_control,
    recent_files,
    samples,
    traces,
    visualization,
    workflow,
)
from api.security import check_role
from api.settings import Settings
from api.stopping import noticing_stop
from tasks.errors import InvalidParametersError
from tasks.plugins import load_plugins

BASE = "/api/v1"
"""Where all routes are."""

ROUTERS: tuple[APIRouter, ...] = (
    workflow.router,
    fitting.router,
    jobs.router,
    visualization.router,
    cell_traces.router,
    quality_control.router,
    peer_viewing.router,
    job_events.router,
    metadata.router,
    features.router,
    files.router,
    recent_files.router,
    samples.router,
    models.router,
    plugins.router,
    traces.router,
    merge.router,
    monitoring.router,
)
"""Routes under the base; those that are polled come first, because a request is held against one after the other."""

ROOT_ROUTERS: tuple[APIRouter, ...] = (jobs.router, job_events.router, monitoring.router)
"""Those of them that are at the root as well."""

_STARTUP_FAILURE = 3
"""Exit code by which uvicorn's supervisor knows that a worker would fail again."""


class PyamaApi(FastAPI):
    """The application, with the description of exactly the errors that it answers with."""

    def openapi(self) -> dict[str, Any]:
        """Describe all routes, as OpenAPI has it."""
        if self.openapi_schema is None:
            self.openapi_schema = polish(super().openapi())
        return self.openapi_schema


def create_app(settings: Settings) -> FastAPI:
    """Make the application.

    `app.state` holds `settings`, `metrics`, `observers` (told of every request), and while the application runs
    `orchestrator` and `stopping` (set once the server is told to stop).
    """
    app = PyamaApi(
        title="PyAMA Backend",
        summary="Time-lapse microscopy in, single-cell kinetics out",
        version=version("pyama-backend"),
        lifespan=_lifespan,
        redirect_slashes=False,
        openapi_url=OPENAPI_PATH,
        docs_url=None,
        redoc_url=None,
    )
    app.state.settings = settings
    app.state.metrics = metrics = RequestMetrics(settings.home / "metrics")
    observers: list[Observer] = [metrics.observe]
    app.state.observers = observers
    install_error_handlers(app)
    # The last one added is the first that a request meets.
    app.add_middleware(Gate, settings=settings)
    app.add_middleware(Unexpected)
    if settings.cors_origins:
        app.add_middleware(Cors, settings=settings)
    app.add_middleware(RequestLog)
    for routers, prefix in ((ROUTERS, BASE), (ROOT_ROUTERS, "")):
        for router in routers:
            add_routes(app, router, prefix)
    add_documentation(app)
    add_page(app)
    return app


def add_routes(app: FastAPI, router: APIRouter, prefix: str) -> None:
    """Add routes under a prefix, for those who may use them."""
    app.include_router(router, prefix=prefix, dependencies=[Depends(check_role)], responses=documented_errors())


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    configure_logging(debug=settings.debug)
    await run_in_threadpool(load_plugins)  # now, so that a wrong one is told of at the start
    with noticing_stop() as app.state.stopping:
        async with open_orchestrator(settings) as app.state.orchestrator:
            yield


def _app_from_environment() -> FastAPI:
    try:
        return create_app(Settings.from_environment())
    except InvalidParametersError as error:
        print(f"pyama: {error}", file=sys.stderr)
        sys.exit(_STARTUP_FAILURE)


app = _app_from_environment()
