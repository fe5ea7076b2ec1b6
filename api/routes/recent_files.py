"""Recordings that were used last."""

from contextlib import suppress
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import Field

from api.errors import ApiError
from api.file_items import FileItem, file_item, has_extension, normalized_extensions, series_item
from api.paths import allowed_path, allowed_roots
from api.recent_files import MOST_FILES, recent_files
from api.responses import Answer
from tasks.acquisition import is_pattern
from tasks.errors import PyamaError

router = APIRouter(prefix="/processing", tags=["file explorer"])


class RecentFileItem(FileItem):
    """A recording that was used."""

    last_used: str = Field(description="When it was used last, in seconds since 1970, as text")


class RecentFilesAnswer(Answer):
    """Recordings, newest first."""

    recent_files: list[RecentFileItem]
    message: str


@router.get("/recent-files")
def get_recent_files(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=MOST_FILES, description="Most recordings to list")] = 10,
    extensions: Annotated[
        str | None, Query(max_length=400, description="Endings, separated by commas", examples=[".nd2,.czi"])
    ] = None,
) -> RecentFilesAnswer:
    """List recordings that jobs and metadata calls have used, newest first; those that are still there."""
    wanted = normalized_extensions([part for part in (extensions or "").split(",") if part.strip()])
    items: list[RecentFileItem] = []
    with suppress(ApiError):  # who may name no path is shown none
        allowed_roots(request)
        for recent in recent_files(request.app.state.settings.home):
            if len(items) == limit:
                break
            item = _item(request, recent.path)
            if item is not None and item.extension is not None and has_extension(item.name, wanted):
                items.append(RecentFileItem(**item.model_dump(), last_used=f"{recent.used_at_s:.3f}"))
    return RecentFilesAnswer(recent_files=items, message=f"{len(items)} recent file{'s' * (len(items) != 1)}")


def _item(request: Request, raw: str) -> FileItem | None:
    """Describe a file that is there and may be named; None otherwise."""
    try:
        path: Path = allowed_path(request, raw, "path")
        if is_pattern(path) and (item := series_item(path)) is not None:
            return item
        return file_item(path, path.stat())
    except (ApiError, PyamaError, OSError):
        return None
