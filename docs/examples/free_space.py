"""An endpoint: how much room the disk of a folder has.

Put beside the others in `api/routes/`, with its router in the `ROUTERS` of `api/main.py`; run by itself, it serves the
whole API with this endpoint on top: `python docs/examples/free_space.py`.
"""

import shutil

import uvicorn
from fastapi import APIRouter, FastAPI, Query, Request
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from api.main import BASE, add_routes, create_app
from api.paths import existing_folder
from api.responses import Answer, documented_errors
from api.settings import Settings

router = APIRouter(prefix="/files", tags=["files"])


class FreeSpaceAnswer(Answer):
    """Room on the disk of a folder."""

    free_bytes: int = Field(description="What may still be written", examples=[250_000_000_000])
    total_bytes: int


@router.get("/free-space", responses=documented_errors("FILE_NOT_FOUND"))
async def free_space(request: Request, directory_path: str = Query(description="Absolute path")) -> FreeSpaceAnswer:
    """Tell how much room there is, before a job is started that writes terabytes."""
    # Every path goes through api.paths, which holds it to PYAMA_ALLOWED_PATHS; the disk is asked off the event loop.
    folder = await run_in_threadpool(existing_folder, request, directory_path, "directory_path")
    usage = await run_in_threadpool(shutil.disk_usage, folder)
    return FreeSpaceAnswer(free_bytes=usage.free, total_bytes=usage.total)


def make_app(settings: Settings) -> FastAPI:
    """The API with this endpoint."""
    app = create_app(settings)
    add_routes(app, router, BASE)
    return app


if __name__ == "__main__":
    uvicorn.run(make_app(Settings.from_environment()))
