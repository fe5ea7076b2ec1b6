"""Frames as numbers in JSON, in the shapes that clients of PyAMA know; the other routes are many times faster."""

import json
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Request, Response
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from api.errors import InvalidRequestError, PathNotFoundError
from api.file_items import printable
from api.paths import existing_path, shown
from api.processed import ProcessedFov, Stack, StackKind, check_index, processed_fov
from api.rendering import in_thread
from api.responses import Answer, documented_errors
from api.security import READ_ONLY
from tasks.configuration import Index, Model
from tasks.display import contrast_limits, to_grey
from tasks.output.layout import parse_fov_directory

router = APIRouter(prefix="/visualization", tags=["visualization"])

_MOST_PIXELS = 1 << 23
"""Pixels of all frames of one answer; each takes up to four bytes of JSON."""
_LOW, _HIGH = 1.0, 99.0
"""Percentiles of a stack that are black and white."""

_SEGMENTATION: dict[str, StackKind] = {"seg": "labeled", "seg_labeled": "tracked"}

ChannelKey = Annotated[str, Field(min_length=1, max_length=32)]


class VisualizationInitRequest(Model):
    """Which stacks of a FOV are to be looked at."""

    output_dir: str = Field(
        description="Absolute path of the output folder of a processing job", examples=["/data/output"]
    )
    fov_id: Annotated[int, Field(ge=0, le=1_000_000)] = Field(description="Number of the FOV, from 0")
    channels: Annotated[list[ChannelKey], Field(min_length=1, max_length=100)] = Field(
        description="pc: phase; a number: that fluorescence channel; seg: labels of each frame by itself; "
        "seg_labeled: cell numbers",
        examples=[["pc", "1", "seg_labeled"]],
    )
    data_types: list[Literal["image", "seg"]] = Field(["image", "seg"], description="Of them, only these")
    force_rebuild: bool = Field(False, description="Has no meaning here: nothing is kept in between")


class ChannelMeta(BaseModel):
    """A stack as it is shown."""

    channel: str
    dtype: Literal["uint8"]
    shape: tuple[int, int, int]
    n_frames: int
    vmin: int
    vmax: int
    path: str = Field(description="What `cached_path` is to be in the requests for its frames")


class VisualizationInitAnswer(Answer):
    """The stacks that are there."""

    fov_id: int
    channels: list[ChannelMeta]
    traces_csv: str | None


class VisualizationFrameRequest(Model):
    """Which frames of a stack are to be sent."""

    cached_path: str = Field(
        description="The `path` of the channel", examples=["/data/output/fov_000/film_fov_000_pc_ch_0.npy"]
    )
    channel: ChannelKey = Field(description="The channel, as in the request before", examples=["pc"])
    frame: Index | None = Field(None, description="Number of a frame, from 0")
    frame_start: Index | None = Field(None, description="First of several frames")
    frame_end: Index | None = Field(None, description="Last of them, inclusive")


class VisualizationFrameAnswer(Answer):
    """Frames, each a list of rows of shades of grey, 0 to 255."""

    channel: str
    frames: list[list[list[int]]]


@router.post("/init", responses=documented_errors("FILE_NOT_FOUND"), openapi_extra=READ_ONLY)
async def init(body: VisualizationInitRequest, request: Request) -> VisualizationInitAnswer:
    """Tell what there is of a FOV, as clients of PyAMA ask for it; nothing has to be prepared or is written."""
    return await in_thread(lambda: _init(body, request))


@router.post(
    "/frame",
    response_model=VisualizationFrameAnswer,
    responses=documented_errors("FILE_NOT_FOUND"),
    openapi_extra=READ_ONLY,
)
async def frame(body: VisualizationFrameRequest, request: Request) -> Response:
    """Send frames of a stack as numbers, with the same contrast for all frames of the stack."""
    return await in_thread(lambda: _frames(body, request))


def _init(body: VisualizationInitRequest, request: Request) -> VisualizationInitAnswer:
    fov = processed_fov(request, body.output_dir, body.fov_id)
    keys = [key for key in body.channels if ("seg" if key in _SEGMENTATION else "image") in body.data_types]
    if not keys:
        raise InvalidRequestError(f"data_types: none of the channels is of these types (got {body.data_types})")
    stacks = {key: _stack(fov, key) for key in keys}
    return VisualizationInitAnswer(
        fov_id=fov.fov,
        channels=[
            ChannelMeta(
                channel=key,
                dtype="uint8",
                shape=stack.shape,
                n_frames=stack.shape[0],
                vmin=0,
                vmax=255,
                path=printable(str(stack.path)),
            )
            for key, stack in stacks.items()
        ],
        traces_csv=printable(str(fov.table_path())),
    )


def _frames(body: VisualizationFrameRequest, request: Request) -> Response:
    path = existing_path(request, body.cached_path, "cached_path")
    number = parse_fov_directory(path.parent.name)
    if number is None:
        raise PathNotFoundError(f"cached_path: {shown(body.cached_path)} is no stack of a FOV; ask for init first")
    stack = _stack(processed_fov(request, str(path.parent.parent), number), body.channel)
    if stack.path.name != path.name:
        raise InvalidRequestError(
            f"cached_path: channel {body.channel!r} of FOV {number} is in {stack.path.name} (got {shown(path.name)})"
        )
    frames = _wanted(body, stack)
    black, white = (0.0, 0.0) if body.channel in _SEGMENTATION else _stack_limits(stack)
    images = [
        _cell_shades(stack.frame(t)) if body.channel in _SEGMENTATION else to_grey(stack.frame(t), black, white)
        for t in frames
    ]
    content = {
        "success": True,
        "error": None,
        "channel": body.channel,
        "frames": [image.tolist() for image in images],
    }
    return Response(json.dumps(content, separators=(",", ":")), media_type="application/json")


def _stack(fov: ProcessedFov, key: str) -> Stack:
    """Stack of a channel as PyAMA names it."""
    if key == "pc":
        return fov.stack("phase")
    if key in _SEGMENTATION:
        return fov.stack(_SEGMENTATION[key])
    if key.isascii() and key.isdecimal():
        return fov.stack("fluorescence", int(key))
    raise InvalidRequestError(
        f"channels: pc, seg, seg_labeled and numbers of fluorescence channels are known (got {shown(key)})"
    )


def _wanted(body: VisualizationFrameRequest, stack: Stack) -> range:
    """Frames that are asked for."""
    if body.frame is not None:
        first = last = body.frame
    elif body.frame_start is not None and body.frame_end is not None:
        first, last = body.frame_start, body.frame_end
    else:
        raise InvalidRequestError("frame: is missing; give frame, or frame_start and frame_end")
    of_what = f"the stacks of FOV {stack.fov}"
    for field, value in (("frame" if body.frame is not None else "frame_start", first), ("frame_end", last)):
        check_index(field, value, stack.shape[0], of_what, "frames")
    if last < first:
        raise InvalidRequestError(f"frame_end: {last} is before frame_start ({first})")
    n_pixels = (last - first + 1) * stack.shape[1] * stack.shape[2]
    if last > first and n_pixels > _MOST_PIXELS:
        most = max(1, _MOST_PIXELS // (stack.shape[1] * stack.shape[2]))
        raise InvalidRequestError(f"frame_end: at most {most} frames of this size at once (got {last - first + 1})")
    return range(first, last + 1)


def _stack_limits(stack: Stack) -> tuple[float, float]:
    """Counts that are black and white in a whole stack, judged by its first, middle and last frame."""
    n_frames = stack.shape[0]
    limits = [contrast_limits(stack.frame(t), _LOW, _HIGH) for t in sorted({0, n_frames // 2, n_frames - 1})]
    return min(black for black, _ in limits), max(white for _, white in limits)


def _cell_shades(labels: NDArray[Any]) -> NDArray[np.uint8]:
    """Labels as shades from 1 on, so that no cell is black; they repeat after 255."""
    return np.where(labels > 0, (labels.astype(np.int64) - 1) % 255 + 1, 0).astype(np.uint8)
