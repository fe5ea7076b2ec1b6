"""The interactive documentation, Swagger UI and ReDoc, with scripts from this host: it needs no network."""

from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.staticfiles import StaticFiles
from starlette.responses import HTMLResponse

SWAGGER_PATH, REDOC_PATH, OPENAPI_PATH = "/docs", "/redoc", "/openapi.json"
ASSETS_PATH = "/docs-assets"
"""Where the scripts are."""

_PACKAGE = ("fastapi_offline", "static")
"""Package and folder that carry them; the framework itself would load them from the network."""


def add_documentation(app: FastAPI) -> None:
    """Add the pages, and what they load."""
    app.mount(ASSETS_PATH, StaticFiles(packages=[_PACKAGE]))
    app.add_route(SWAGGER_PATH, _swagger, include_in_schema=False)
    app.add_route(REDOC_PATH, _redoc, include_in_schema=False)


async def _swagger(request: Request) -> HTMLResponse:
    root = _root(request)
    return get_swagger_ui_html(
        openapi_url=f"{root}{OPENAPI_PATH}",
        title=f"{request.app.title} - Swagger UI",
        swagger_js_url=f"{root}{ASSETS_PATH}/swagger-ui-bundle.js",
        swagger_css_url=f"{root}{ASSETS_PATH}/swagger-ui.css",
        swagger_favicon_url=f"{root}{ASSETS_PATH}/favicon.png",
    )


async def _redoc(request: Request) -> HTMLResponse:
    root = _root(request)
    return get_redoc_html(
        openapi_url=f"{root}{OPENAPI_PATH}",
        title=f"{request.app.title} - ReDoc",
        redoc_js_url=f"{root}{ASSETS_PATH}/redoc.standalone.js",
        redoc_favicon_url=f"{root}{ASSETS_PATH}/favicon.png",
        with_google_fonts=False,
    )


def _root(request: Request) -> str:
    """Path below which a proxy shows the API."""
    return str(request.scope.get("root_path", "")).rstrip("/")
