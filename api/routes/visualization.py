"""Looking at results: frames, labels, cells, and the pictures that were made of them.

Everything is read from the files of FOVs that are done, so a job may still be running.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Depends, Query, Request, Response
from numpy.typing import NDArray
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from api.errors import InvalidRequestError
from api.file_items import printable
from api.processed import ProcessedFov, Stack, StackKind, check_index, processed_fov, processed_fovs
from api.rendering import ImageFormat, View, Window, conditional, draw, etag, in_thread, label_image
from api.responses import Answer, documented_errors
from tasks.fov_table import FovTable
from tasks.output.config import read_config

router = APIRouter(prefix="/visualization", tags=["visualization"])

OutputDir = Annotated[
    str, Query(description="Absolute path of the output folder of a processing job", examples=["/data/output"])
]
FovNumber = Annotated[int, Query(ge=0, le=1_000_000, description="Number of the FOV, from 0")]
FrameNumber = Annotated[int, Query(ge=0, le=10_000_000, description="Number of the frame, from 0")]
Pixel = Annotated[int | None, Query(ge=0, le=1_000_000)]
Percentile = Annotated[float, Query(ge=0, le=100, allow_inf_nan=False)]
Grey = Annotated[float | None, Query(allow_inf_nan=False)]

ImageKind = Literal["phase", "fluorescence", "background", "corrected"]

_NOT_MODIFIED: dict[int | str, dict[str, Any]] = {
    304: {"description": "The client has it already: its ETag came in If-None-Match"}
}


class ViewedChannel(BaseModel):
    """A channel of the recording."""

    channel: int = Field(description="Its number in the recording, from 0")
    name: str
    features: list[str] = Field(description="What was measured in it")


class ViewedFov(BaseModel):
    """A FOV that is done."""

    fov: int
    n_frames: int
    height: int
    width: int
    phase: ViewedChannel | None
    fluorescence: list[ViewedChannel]
    stacks: list[StackKind] = Field(description="Image stacks that were kept")
    n_cells: int
    warnings: list[str]
    inspected: bool = Field(description="Whether somebody has marked cells as good or bad")
    pictures: list[str] = Field(description="Names of its pictures, for GET /visualization/picture")
    traces_file: str = Field(description="Its table; the corrected one where it is inspected")


class FolderAnswer(Answer):
    """What there is to be looked at."""

    output_dir: str
    base_name: str | None = Field(
        description="Name of the recording without its ending; null where nothing is done yet"
    )
    time_units: Literal["min"] = Field("min", description="Unit of all times in the tables")
    fovs: list[ViewedFov]


class CellAnswer(Answer):
    """What is at a pixel."""

    cell: int | None = Field(description="Number of the cell; null where there is none")


def _view(
    low: Annotated[Percentile, Query(description="Percentile of the frame that is black")] = 1.0,
    high: Annotated[Percentile, Query(description="Percentile of the frame that is white")] = 99.8,
    minimum: Annotated[Grey, Query(description="Count that is black, in place of low")] = None,
    maximum: Annotated[Grey, Query(description="Count that is white, in place of high")] = None,
    outlines: Annotated[bool, Query(description="Draw the outlines of the cells")] = False,
    numbers: Annotated[bool, Query(description="Write the numbers of the cells")] = False,
    max_size: Annotated[
        int, Query(ge=16, le=8192, description="Longest side of the image; larger ones are reduced by a whole number")
    ] = 1024,
    image_format: Annotated[
        ImageFormat, Query(alias="format", description="PNG loses nothing; WebP is several times smaller")
    ] = "png",
) -> View:
    """How an image is to be shown; the window comes when its size is known."""
    if not low < high:
        raise InvalidRequestError(f"low: the percentile {low:g} must be below high ({high:g})")
    if minimum is not None and maximum is not None and not minimum < maximum:
        raise InvalidRequestError(f"minimum: {minimum:g} must be below maximum ({maximum:g})")
    return View(low, high, minimum, maximum, outlines, numbers, max_size, image_format)


def _corners(
    x0: Annotated[Pixel, Query(description="Left edge of the window that is shown, in pixels")] = None,
    y0: Annotated[Pixel, Query(description="Upper edge")] = None,
    x1: Annotated[Pixel, Query(description="Right edge: the first column that is not shown")] = None,
    y1: Annotated[Pixel, Query(description="Lower edge: the first row that is not shown")] = None,
) -> tuple[int | None, int | None, int | None, int | None]:
    return x0, y0, x1, y1


Corners = tuple[int | None, int | None, int | None, int | None]


@router.get("/folder", responses=documented_errors("FILE_NOT_FOUND"))
async def folder(request: Request, output_dir: OutputDir) -> FolderAnswer:
    """Tell which FOVs of an output folder are done, and what there is of each.

    While a job runs, FOVs appear as they are done.
    """
    return await run_in_threadpool(_folder, request, output_dir)


@router.get(
    "/image",
    response_class=Response,
    responses={
        200: {"description": "The image", "content": {"image/png": {}, "image/webp": {}}},
        **_NOT_MODIFIED,
        **documented_errors("FILE_NOT_FOUND"),
    },
)
async def image(
    request: Request,
    output_dir: OutputDir,
    fov: FovNumber,
    frame: FrameNumber,
    kind: Annotated[ImageKind, Query(description="corrected: fluorescence minus its background")],
    view: Annotated[View, Depends(_view)],
    corners: Annotated[Corners, Depends(_corners)],
    channel: Annotated[
        int | None, Query(ge=0, le=10_000, description="Number of the channel; by default the first of its kind")
    ] = None,
) -> Response:
    """Show a frame, or a window of it, straight from its stack.

    Its contrast is given by percentiles of the whole frame, or by counts, which stay the same from frame to frame.
    Cells have the same colour in all frames; outlines and numbers show all cells that were followed, also those that
    are not in the table.
    """

    def make() -> Response:
        found = processed_fov(request, output_dir, fov)
        raw, background = _image_stacks(found, kind, channel)
        cells = found.stack("tracked") if view.outlines or view.numbers else None
        check_index("frame", frame, found.n_frames, f"the stacks of FOV {fov}", "frames")
        window = _window(corners, found)
        tag = etag("image", *(s and s.identity for s in (raw, background, cells)), frame, kind, view, window)

        def drawn() -> bytes:
            pixels: NDArray[Any] = raw.frame(frame)
            if background is not None:
                pixels = np.subtract(pixels, background.frame(frame), dtype=np.float32)
            return draw(pixels, cells.frame(frame) if cells else None, view, window)

        return conditional(request, tag, f"image/{view.format}", drawn)

    return await in_thread(make)


@router.get(
    "/labels",
    response_class=Response,
    responses={
        200: {"description": "The labels, 16 bits a pixel, 0 where no cell is", "content": {"image/png": {}}},
        **_NOT_MODIFIED,
        **documented_errors("FILE_NOT_FOUND"),
    },
)
async def labels(
    request: Request,
    output_dir: OutputDir,
    fov: FovNumber,
    frame: FrameNumber,
    kind: Annotated[
        Literal["labeled", "tracked"],
        Query(description="tracked: the cells' numbers; labeled: labels of the frame by itself"),
    ] = "tracked",
) -> Response:
    """Show the labels of a frame."""

    def make() -> Response:
        stack = processed_fov(request, output_dir, fov).stack(kind)
        check_index("frame", frame, stack.shape[0], f"the stacks of FOV {fov}", "frames")
        tag = etag("labels", stack.identity, frame)
        return conditional(request, tag, "image/png", lambda: label_image(stack.frame(frame)))

    return await in_thread(make)


@router.get("/cell", responses=documented_errors("FILE_NOT_FOUND"))
async def cell(
    request: Request,
    output_dir: OutputDir,
    fov: FovNumber,
    frame: FrameNumber,
    x: Annotated[float, Query(ge=0, le=1_000_000, allow_inf_nan=False, description="Column of the pixel, from 0")],
    y: Annotated[float, Query(ge=0, le=1_000_000, allow_inf_nan=False, description="Row of the pixel, from 0")],
) -> CellAnswer:
    """Tell which cell is at a pixel.

    Where label images were not kept, it is the cell of the table in whose box the pixel lies.
    """
    return CellAnswer(cell=await run_in_threadpool(_cell_at, request, output_dir, fov, frame, x, y))


@router.get(
    "/picture",
    response_class=Response,
    responses={
        200: {"description": "The picture", "content": {"image/png": {}, "image/webp": {}, "image/jpeg": {}}},
        **_NOT_MODIFIED,
        **documented_errors("FILE_NOT_FOUND"),
    },
)
async def picture(
    request: Request,
    output_dir: OutputDir,
    fov: FovNumber,
    name: Annotated[str, Query(max_length=255, description="One of the FOV's pictures, see GET /visualization/folder")],
) -> Response:
    """Show a picture that was made when the FOV was processed."""

    def make() -> Response:
        path, crc = processed_fov(request, output_dir, fov).picture(name)
        status = path.stat()
        tag = etag("picture", crc, status.st_size, status.st_mtime_ns)
        return conditional(request, tag, _MEDIA_TYPES[path.suffix], path.read_bytes)

    return await in_thread(make)


_MEDIA_TYPES = {".png": "image/png", ".webp": "image/webp", ".jpg": "image/jpeg"}


def _folder(request: Request, output_dir: str) -> FolderAnswer:
    path, fovs = processed_fovs(request, output_dir)
    return FolderAnswer(
        output_dir=printable(str(path)),
        base_name=_base_name(path, fovs),
        fovs=[_described(fov) for fov in fovs],
    )


def _base_name(folder: Path, fovs: list[ProcessedFov]) -> str | None:
    if fovs:
        return printable(fovs[0].layout.base_name)
    provenance = read_config(folder)
    return printable(provenance.input.base_name) if provenance else None


def _described(fov: ProcessedFov) -> ViewedFov:
    phase = fov.channels.phase
    return ViewedFov(
        fov=fov.fov,
        n_frames=fov.n_frames,
        height=fov.height,
        width=fov.width,
        phase=_channel(fov, phase.channel, phase.features),
        fluorescence=[_channel(fov, channel.channel, channel.features) for channel in fov.channels.fluorescence],
        stacks=fov.stacks,
        n_cells=fov.manifest.n_cells,
        warnings=list(fov.manifest.warnings),
        inspected=fov.is_inspected,
        pictures=fov.pictures,
        traces_file=printable(str(fov.table_path())),
    )


def _channel(fov: ProcessedFov, channel: int, features: list[str]) -> ViewedChannel:
    return ViewedChannel(channel=channel, name=fov.channel_name(channel), features=features)


def _image_stacks(fov: ProcessedFov, kind: ImageKind, channel: int | None) -> tuple[Stack, Stack | None]:
    """Stack that is shown, and the one that is subtracted from it."""
    if kind == "corrected":
        return fov.stack("fluorescence", channel), fov.stack("background", channel)
    return fov.stack(kind, channel), None


def _window(corners: Corners, fov: ProcessedFov) -> Window:
    """Part of the image that is asked for, as far as it is in the image."""
    x0, y0, x1, y1 = corners
    window = Window(
        x0 or 0,
        y0 or 0,
        fov.width if x1 is None else min(x1, fov.width),
        fov.height if y1 is None else min(y1, fov.height),
    )
    for first, last, n, axis in ((window.x0, window.x1, fov.width, "x"), (window.y0, window.y1, fov.height, "y")):
        if first >= last:
            raise InvalidRequestError(
                f"{axis}0, {axis}1: the window from {first} to before {last} holds no pixel; FOV {fov.fov} has "
                f"0 to {n - 1}, and {axis}1 must be above {axis}0"
            )
    return window


def _cell_at(request: Request, output_dir: str, fov: int, frame: int, x: float, y: float) -> int | None:
    found = processed_fov(request, output_dir, fov)
    images = f"the images of FOV {fov}"
    check_index("frame", frame, found.n_frames, images, "frames")
    column, row = int(x), int(y)
    check_index("x", column, found.width, images, "columns")
    check_index("y", row, found.height, images, "rows")
    if "tracked" in found.stacks:
        return int(found.stack("tracked").frame(frame)[row, column]) or None
    table: FovTable = found.table()
    return table.cell_at(frame, column, row)
