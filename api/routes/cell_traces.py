"""The traces of a FOV's cells, page by page; and its tables as files."""

import re
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse
from numpy.typing import NDArray
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from api.errors import ForbiddenError, InvalidRequestError, PathNotFoundError, to_json
from api.paths import existing_folder, existing_path, refused, shown
from api.processed import processed_fov
from api.rendering import in_thread
from api.responses import Answer, documented_errors
from api.routes.visualization import FovNumber, OutputDir
from tasks.fov_table import CellRows, FeatureColumn, FovTable

router = APIRouter(prefix="/visualization", tags=["visualization"])

_OURS = re.compile(
    r".+_traces(_inspected)?\.(csv|parquet)|.+_traces_inspected\.json|.+_merged\.(csv|parquet)"
    r"|.+_\w+_ch_\d+\.(csv|parquet)|.+_fitted_\w+\.(csv|parquet|png|svg)|.+_fitted_\w+_summary\.json"
    r"|processing_(config|results)\.yaml|manifest\.json"
)
"""Names of the files that processing, merging, fitting and quality control write, but for image stacks."""
_MOST_CELLS = 200


class TraceColumn(BaseModel):
    """A feature in a channel."""

    name: str = Field(description="Name of the column in the table", examples=["area_ch_0"])
    channel: int
    feature: str
    unit: str | None


class CellTrace(BaseModel):
    """A cell, in order of the frames in which it was seen."""

    cell: int
    good: bool
    n_frames: int
    frames: list[int]
    time: list[float | None]
    position_x: list[float | None]
    position_y: list[float | None]
    boxes: list[tuple[int, int, int, int]] = Field(description="First and last pixel, inclusive: x0, y0, x1, y1")
    values: dict[str, list[float | None]] = Field(description="By column; null where a value is undefined")


class FovTracesAnswer(Answer):
    """A page of the cells of a FOV."""

    fov: int
    time_units: Literal["min"]
    columns: list[TraceColumn]
    total_cells: int = Field(description="Cells on all pages")
    page: int
    page_size: int
    n_pages: int
    cells: list[CellTrace]


@router.get("/traces", response_model=FovTracesAnswer, responses=documented_errors("FILE_NOT_FOUND"))
async def traces(
    request: Request,
    output_dir: OutputDir,
    fov: FovNumber,
    page: Annotated[int, Query(ge=1, le=1_000_000, description="Number of the page, from 1")] = 1,
    page_size: Annotated[int, Query(ge=1, le=_MOST_CELLS, description="Cells on a page")] = 50,
    cells: Annotated[
        str | None, Query(pattern=r"^[0-9]{1,9}( ?, ?[0-9]{1,9}){0,999}$", description="Only these", examples=["3,7"])
    ] = None,
    feature: Annotated[
        str | None, Query(max_length=100, description="Only this feature, or this column", examples=["area"])
    ] = None,
) -> Response:
    """Tell the traces of a FOV's cells, from the corrected table where it is inspected.

    Cells are in order of their numbers. A page behind the last one has no cells.
    """

    def make() -> Response:
        table = processed_fov(request, output_dir, fov).table()
        numbers = _chosen_cells(table, cells, fov)
        columns = _chosen_columns(table, feature, fov)
        rows = table.rows_of(numbers[(page - 1) * page_size : page * page_size], [column.name for column in columns])
        content = {
            "success": True,
            "error": None,
            "fov": fov,
            "time_units": "min",
            "columns": [column._asdict() for column in columns],
            "total_cells": len(numbers),
            "page": page,
            "page_size": page_size,
            "n_pages": -(-len(numbers) // page_size),
            "cells": [_cell(row) for row in rows],
        }
        # A page may hold a hundred thousand numbers, which are not to be encoded on the event loop.
        return Response(to_json(content), media_type="application/json")

    return await in_thread(make)


@router.get(
    "/download",
    response_class=FileResponse,
    responses={
        200: {"description": "The file, as an attachment", "content": {"application/octet-stream": {}}},
        **documented_errors("FILE_NOT_FOUND"),
    },
)
async def download(
    request: Request,
    output_dir: OutputDir,
    file: Annotated[
        str,
        Query(
            min_length=1,
            max_length=4096,
            description="Path of the file, absolute or relative to output_dir: a table of traces, merged or fitted "
            "(CSV, Parquet), the configuration or the index (YAML), a manifest or summary (JSON)",
            examples=["fov_000/film_fov_000_traces.csv"],
        ),
    ],
) -> FileResponse:
    """Send a table, or another file that tells about the results, to be saved."""
    path = await run_in_threadpool(_downloadable, request, output_dir, file)
    return FileResponse(path, media_type="application/octet-stream", filename=path.name)


def _chosen_cells(table: FovTable, cells: str | None, fov: int) -> list[int]:
    there: list[int] = table.cells.tolist()
    if cells is None:
        return there
    asked = sorted({int(number) for number in cells.split(",")})
    unknown = sorted(set(asked) - set(there))
    if unknown:
        raise PathNotFoundError(f"cells: the table of FOV {fov} has no cell {', '.join(map(str, unknown[:10]))}")
    return asked


def _chosen_columns(table: FovTable, feature: str | None, fov: int) -> list[FeatureColumn]:
    chosen = [column for column in table.features if feature in (None, column.name, column.feature)]
    if feature is not None and not chosen:
        there_are = ", ".join(column.name for column in table.features) or "none"
        raise PathNotFoundError(f"feature: the table of FOV {fov} has no {shown(feature)}; it has {there_are}")
    return chosen


def _cell(row: CellRows) -> dict[str, object]:
    return {
        "cell": row.cell,
        "good": row.good,
        "n_frames": len(row.frames),
        "frames": row.frames.tolist(),
        "time": _numbers(row.times),
        "position_x": _numbers(row.positions[:, 0]),
        "position_y": _numbers(row.positions[:, 1]),
        "boxes": np.nan_to_num(row.boxes).astype(int).tolist(),
        "values": {name: _numbers(values) for name, values in row.values.items()},
    }


def _numbers(values: NDArray[np.float64]) -> list[float | None]:
    """Numbers as JSON has them: null for what is undefined."""
    finite = np.isfinite(values).tolist()
    return [value if there else None for value, there in zip(values.tolist(), finite, strict=True)]


def _downloadable(request: Request, output_dir: str, file: str) -> Path:
    folder = existing_folder(request, output_dir, "output_dir")
    path = existing_path(request, str(folder / file) if "\0" not in file else file, "file")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ForbiddenError(f"file: {shown(file)} is not inside output_dir ({shown(output_dir)})")
    if not path.is_file():
        raise InvalidRequestError(f"file: {shown(file)} is a folder, not a file")
    if not _OURS.fullmatch(path.name):
        raise ForbiddenError(
            f"file: {shown(file)} is none of the tables and descriptions that processing, merging and fitting write"
        )
    try:
        path.open("rb").close()  # once the answer has begun, it is too late to tell
    except OSError as error:
        raise refused(error, file, "file") from error
    return path
