"""The API server: `python -m pyama_backend`, at the address of PYAMA_HOST and PYAMA_PORT."""

from __future__ import annotations

from typing import TYPE_CHECKING

import uvicorn

from api.main import app

if TYPE_CHECKING:
    from api.settings import Settings


def main() -> None:
    """Serve until stopped."""
    settings: Settings = app.state.settings
    # The log of the API tells more of each request than uvicorn's own.
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        # A client that asks now and then keeps its connection.
        timeout_keep_alive=75,
        access_log=False,
        log_level="debug" if settings.debug else "info",
    )


if __name__ == "__main__":
    main()
