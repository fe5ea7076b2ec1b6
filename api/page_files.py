"""The page at `/`: static files that load nothing from elsewhere, and may not."""

from pathlib import Path

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.staticfiles import StaticFiles
from starlette.types import Message, Receive, Scope, Send

PAGE_PATH = "/page"
"""Where the files are that the page loads."""

FOLDER = Path(__file__).parent / "page"

_HEADERS = {
    # Scripts and styles come from files of this host alone, so that no text that is shown can become a program.
    # Pictures that need a key are fetched by the page, and shown as blobs.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # Asked for again each time, and not sent again where nothing has changed: modules of two versions never meet.
    "Cache-Control": "no-cache",
}


class PageFiles(StaticFiles):
    """The files, with the headers that keep a browser to them."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await super().__call__(scope, receive, send_with_headers)


def add_page(app: FastAPI) -> None:
    """Add the page, and what it loads."""
    app.mount(PAGE_PATH, PageFiles(directory=FOLDER))
    app.add_route("/", _page, include_in_schema=False)


async def _page(_: Request) -> FileResponse:
    return FileResponse(FOLDER / "index.html", headers=_HEADERS)
