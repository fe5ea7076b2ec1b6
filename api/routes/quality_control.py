"""Quality control: a person marks cells as good or bad. Nothing is deleted; merges leave bad cells out."""

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, StringConstraints
from starlette.concurrency import run_in_threadpool

from api.file_items import printable
from api.processed import ProcessedFov, processed_fov
from api.responses import Answer, documented_errors
from api.routes.visualization import FovNumber, OutputDir
from tasks.configuration import Model
from tasks.inspection import mark_cells, read_history

router = APIRouter(prefix="/quality-control", tags=["quality control"])

CellNumber = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,8}$")]
"""Number of a cell, as JSON has it for a key."""

Name = Annotated[
    str,
    StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*$"),
]
"""Name of a person."""


class CellQuality(BaseModel):
    """A cell, and what was said of it."""

    cell: int
    good: bool


class QualityAnswer(Answer):
    """All cells of a FOV's table."""

    fov: int
    inspected_by: str | None = Field(description="Who marked cells last; null where nobody did by way of this route")
    inspected_at: str | None = Field(description="When, in UTC")
    cells: list[CellQuality]


class MarkCellsRequest(Model):
    """Which cells of a FOV are good, and which bad."""

    output_dir: str = Field(
        description="Absolute path of the output folder of a processing job", examples=["/data/output"]
    )
    fov: Annotated[int, Field(ge=0, le=1_000_000)] = Field(description="Number of the FOV, from 0")
    cells: Annotated[dict[CellNumber, bool], Field(min_length=1, max_length=65_535)] = Field(
        description="Whether each cell is good, by its number; those that are not named stay as they are",
        examples=[{"3": False, "7": True}],
    )
    who: Name = Field(description="Who says so", examples=["Ada"])


class MarkCellsAnswer(Answer):
    """What the table says now."""

    message: str
    inspected_file: str = Field(description="The corrected table, which merges use")
    n_good: int
    n_bad: int


@router.get("/cells", responses=documented_errors("FILE_NOT_FOUND"))
async def quality_of_cells(request: Request, output_dir: OutputDir, fov: FovNumber) -> QualityAnswer:
    """Tell which cells of a FOV are good, and who has looked at them."""
    return await run_in_threadpool(_quality, request, output_dir, fov)


@router.post("/cells", responses=documented_errors("FILE_NOT_FOUND"))
async def mark(body: MarkCellsRequest, request: Request) -> MarkCellsAnswer:
    """Mark cells of a FOV as good or bad.

    What is said is kept in `..._traces_inspected.csv` beside the table, whole or not at all, and with who and when in
    `..._traces_inspected.json`. Of several people who do so at once, each one's marks count; of the same cell, the
    last. Processing never replaces a FOV that was inspected.
    """
    return await run_in_threadpool(_mark, body, request)


def _quality(request: Request, output_dir: str, fov: int) -> QualityAnswer:
    found = processed_fov(request, output_dir, fov)
    history = read_history(found.directory, found.layout)
    return QualityAnswer(
        fov=fov,
        inspected_by=history[-1].who if history else None,
        inspected_at=history[-1].when if history else None,
        cells=[CellQuality(cell=cell, good=good) for cell, good in found.table().good().items()],
    )


def _mark(body: MarkCellsRequest, request: Request) -> MarkCellsAnswer:
    found: ProcessedFov = processed_fov(request, body.output_dir, body.fov)
    found.table_path()
    marks = {int(cell): good for cell, good in body.cells.items()}
    good = mark_cells(found.directory, found.layout, marks, body.who.strip())
    n_good = sum(good.values())
    n_bad = len(good) - n_good
    return MarkCellsAnswer(
        message=f"{len(marks)} cell{'s' * (len(marks) != 1)} of FOV {body.fov} marked: now {n_good} good, {n_bad} bad",
        inspected_file=printable(str(found.directory / found.layout.inspected)),
        n_good=n_good,
        n_bad=n_bad,
    )
