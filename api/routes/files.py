"""The file explorer: list a folder, search a tree, look at one file."""

import os
from pathlib import Path
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Request
from pydantic import Field

from api import file_search
from api.file_items import (
    Extension,
    FileItem,
    file_item,
    has_extension,
    is_recording,
    normalized_extensions,
    printable,
    series_item,
    visible_status,
)
from api.file_search import Found, GlobPattern, Limit
from api.paths import allowed_path, allowed_roots, existing_folder, existing_path, refused
from api.responses import Answer, documented_errors
from api.routes.metadata import Metadata
from api.security import READ_ONLY
from tasks.acquisition import is_pattern, known_suffixes, open_recording
from tasks.configuration import Model
from tasks.errors import RecordingError

MOST_ITEMS = 10_000
"""Entries of a folder that are listed at most."""
DEEPEST = 64
"""Levels of folders that a search may go through."""
_SEARCHES_AT_ONCE = anyio.CapacityLimiter(2)
"""Searches may take seconds; more of them wait, so that the threads that all other routes use stay free."""

router = APIRouter(prefix="/processing", tags=["file explorer"])

Extensions = Annotated[list[Extension], Field(max_length=100)]
"""Endings of file names."""


class ListDirectoryRequest(Model):
    """Which folder to list."""

    directory_path: str = Field(description="Absolute path of the folder", examples=["/data"])
    include_hidden: bool = Field(False, description="Whether to list what begins with a dot")
    filter_extensions: Extensions | None = Field(
        None, description="Endings of the files to list; folders are always listed", examples=[[".nd2", ".czi"]]
    )


class ListDirectoryAnswer(Answer):
    """What is in the folder: folders first, each by name."""

    directory_path: str
    items: list[FileItem]
    truncated: bool = Field(description=f"Whether there is more; at most {MOST_ITEMS} entries are listed")


class SearchFilesRequest(Model):
    """Which files to find."""

    search_path: str = Field(description="Absolute path of the folder to begin in", examples=["/data"])
    pattern: str | None = Field(
        None,
        description="Glob pattern relative to search_path: *, ?, [a-z], ** for any folders, braces for alternatives; "
        "capitals do not matter; default: all files",
        examples=["**/*.{nd2,czi}"],
    )
    extensions: Extensions | None = Field(None, description="Endings of the files to find", examples=[[".nd2"]])
    max_depth: int = Field(
        10, ge=1, le=DEEPEST, description="Levels of folders to look into; 1: only search_path itself"
    )
    include_hidden: bool = Field(False, description="Whether to look at what begins with a dot")


class SearchFilesAnswer(Answer):
    """The files found."""

    search_path: str
    files: list[FileItem]
    total_found: int = Field(description="Number of files in this answer")
    truncated: bool = Field(description="Whether the search ended at one of its limits")
    limit_reached: Limit | None = Field(
        description=f"Which one: {file_search.MOST_FILES} files found, {file_search.MOST_ENTRIES} entries looked at, "
        f"or {file_search.LONGEST_S:g} s of time"
    )
    unreadable_folders: int = Field(description="Folders that the server may not read")
    message: str


class StartingFoldersAnswer(Answer):
    """Where browsing begins."""

    folders: list[str] = Field(
        description="The allowed folders; where all are, that of the user who runs the server, and the root"
    )
    recording_extensions: list[str] = Field(description="Endings of recordings that can be opened", examples=[[".nd2"]])


class FileInfoRequest(Model):
    """Which file to look at."""

    file_path: str = Field(
        description="Absolute path of the file or folder, or pattern of a TIFF series",
        examples=["/data/experiment.nd2"],
    )


class FileInfoAnswer(Answer):
    """The file, and for a recording what is in it."""

    file_info: FileItem
    is_microscopy_file: bool = Field(description="Whether it is named like a recording that can be opened")
    metadata_preview: Metadata | None
    preview_error: str | None = Field(description="Why there is no preview of a recording")


@router.post("/list-directory", responses=documented_errors("FILE_NOT_FOUND"), openapi_extra=READ_ONLY)
def list_directory(body: ListDirectoryRequest, request: Request) -> ListDirectoryAnswer:
    """List a folder. Links that lead out of the allowed folders are left out, as are devices and the like."""
    folder = existing_folder(request, body.directory_path, "directory_path")
    roots = allowed_roots(request)
    extensions = normalized_extensions(body.filter_extensions)
    items: list[FileItem] = []
    truncated = False
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") and not body.include_hidden:
                    continue
                path = folder / entry.name
                status = visible_status(path, roots, is_link=entry.is_symlink())
                if status is None:
                    continue
                item = file_item(path, status)
                if item.is_file and not has_extension(item.name, extensions):
                    continue
                if len(items) == MOST_ITEMS:
                    truncated = True
                    break
                items.append(item)
    except OSError as error:
        raise refused(error, body.directory_path, "directory_path") from error
    items.sort(key=lambda item: (item.is_file, item.name.casefold(), item.name))
    return ListDirectoryAnswer(directory_path=printable(str(folder)), items=items, truncated=truncated)


@router.post("/search-files", responses=documented_errors("FILE_NOT_FOUND"), openapi_extra=READ_ONLY)
async def search_files(body: SearchFilesRequest, request: Request) -> SearchFilesAnswer:
    """Search a folder and those below it for files and recordings. Links to folders are not followed."""
    return await anyio.to_thread.run_sync(_search, body, request, limiter=_SEARCHES_AT_ONCE)


@router.get("/starting-folders")
def starting_folders(request: Request) -> StartingFoldersAnswer:
    """Tell where to begin to look for files, and how recordings are named."""
    roots = allowed_roots(request)
    folders = [Path.home(), Path("/")] if roots is None else roots
    return StartingFoldersAnswer(
        folders=[printable(str(folder)) for folder in folders], recording_extensions=known_suffixes()
    )


@router.post("/file-info", responses=documented_errors("FILE_NOT_FOUND"), openapi_extra=READ_ONLY)
def file_info(body: FileInfoRequest, request: Request) -> FileInfoAnswer:
    """Look at a file or folder; of a recording, tell what is in it."""
    path = allowed_path(request, body.file_path, "file_path")
    item = series_item(path) if is_pattern(path) else None
    if item is None:
        path = existing_path(request, body.file_path, "file_path")
        item = file_item(path, path.stat())
    preview, error = _preview(path) if is_recording(item) else (None, None)
    return FileInfoAnswer(
        file_info=item, is_microscopy_file=is_recording(item), metadata_preview=preview, preview_error=error
    )


def _search(body: SearchFilesRequest, request: Request) -> SearchFilesAnswer:
    pattern = GlobPattern("**/*" if body.pattern is None else body.pattern)
    folder = existing_folder(request, body.search_path, "search_path")
    found = file_search.search_files(
        folder,
        pattern,
        extensions=normalized_extensions(body.extensions),
        max_depth=body.max_depth,
        include_hidden=body.include_hidden,
        roots=allowed_roots(request),
    )
    return SearchFilesAnswer(
        search_path=printable(str(folder)),
        files=found.files,
        total_found=len(found.files),
        truncated=found.limit is not None,
        limit_reached=found.limit,
        unreadable_folders=found.n_unreadable,
        message=_told(found),
    )


def _told(found: Found) -> str:
    n_files = f"{len(found.files)} file{'s' * (len(found.files) != 1)} found"
    if found.limit is None:
        return n_files
    limit = {
        "files": f"{file_search.MOST_FILES} files were found",
        "entries": f"{file_search.MOST_ENTRIES} files and folders were looked at",
        "time": f"{file_search.LONGEST_S:g} s had passed",
    }[found.limit]
    return f"{n_files}; the search ended because {limit}: narrow search_path, pattern or max_depth to see the rest"


def _preview(path: Path) -> tuple[Metadata | None, str | None]:
    try:
        with open_recording(path) as recording:
            return Metadata.of(recording.metadata), None
    except RecordingError as error:
        return None, str(error)
