"""Images as browsers show them: grey, with outlines and numbers of cells where asked for, as PNG or WebP."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import Any, Literal, TypeVar

import anyio
import numpy as np
from fastapi import Request, Response
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tasks.display import (
    contrast_limits,
    label_centres,
    outline,
    reduced,
    reduced_mask,
    reduction,
    to_grey,
)

ImageFormat = Literal["png", "webp"]

_RENDERING = 1
"""Part of every ETag; raised whenever the same stack is shown in another way."""
_MOST_AT_A_TIME = 4
"""Images that are made at once; each takes some 50 MB of memory where a frame has 4 megapixels."""
_CACHE_CONTROL = "private, no-cache"
"""To be kept, but shown again only once the server has said that it is still the same: results can be replaced."""
_COLOURS = np.array(
    [
        (255, 214, 10), (64, 200, 255), (255, 105, 97), (119, 221, 119), (255, 154, 0), (191, 148, 255),
        (0, 224, 198), (255, 128, 191), (180, 220, 60), (130, 170, 255), (240, 180, 130), (210, 210, 210),
    ],
    np.uint8,
)  # fmt: skip
"""A cell keeps its colour from frame to frame."""

Made = TypeVar("Made")

_threads = anyio.CapacityLimiter(_MOST_AT_A_TIME)


@dataclass(frozen=True)
class Window:
    """A part of an image, in pixels: from x0, y0 to before x1, y1."""

    x0: int
    y0: int
    x1: int
    y1: int

    def cut(self, image: NDArray[Any], margin: int = 0) -> NDArray[Any]:
        """Copy this part of an image into memory, with more around it as far as there is more."""
        rows = slice(max(0, self.y0 - margin), self.y1 + margin)
        columns = slice(max(0, self.x0 - margin), self.x1 + margin)
        return np.array(image[rows, columns])


@dataclass(frozen=True)
class View:
    """How an image is shown."""

    low: float
    high: float
    """Percentiles of the whole frame that are black and white."""
    minimum: float | None
    maximum: float | None
    """Counts that are black and white; each takes the place of its percentile."""
    outlines: bool
    numbers: bool
    max_size: int
    """Longest side of the image that comes out."""
    format: ImageFormat


async def in_thread(work: Callable[[], Made]) -> Made:
    """Make an answer off the event loop; only a few are made at a time."""
    return await anyio.to_thread.run_sync(work, limiter=_threads)


def etag(*parts: object) -> str:
    """Strong ETag of what is determined by these parts."""
    return f'"{hashlib.sha256(repr((_RENDERING, *parts)).encode()).hexdigest()[:32]}"'


def conditional(request: Request, tag: str, media_type: str, make: Callable[[], bytes]) -> Response:
    """Answer with what is made, or with 304 where the client has it already; then it is not made."""
    headers = {"ETag": tag, "Cache-Control": _CACHE_CONTROL}
    if _has_it(request.headers.get("If-None-Match", ""), tag):
        return Response(status_code=304, headers=headers)
    return Response(make(), headers=headers, media_type=media_type)


def draw(image: NDArray[Any], cells: NDArray[Any] | None, view: View, window: Window) -> bytes:
    """Make an image file of a frame.

    Parameters
    ----------
    image
        (H, W) counts.
    cells
        (H, W) cell numbers, where outlines or numbers are asked for.
    window
        Part of the image that is shown.
    """
    black, white = _limits(image, view)
    shown = window.cut(image)
    factor = reduction(shown.shape[0], shown.shape[1], view.max_size)
    grey = to_grey(reduced(shown, factor), black, white)
    if cells is None:
        return encode(Image.fromarray(grey), view.format)
    colours = np.repeat(grey[:, :, np.newaxis], 3, axis=2)
    numbers = window.cut(cells)
    if view.outlines:
        _draw_outlines(colours, cells, window, factor)
    picture = Image.fromarray(colours)
    if view.numbers:
        _draw_numbers(picture, numbers, factor)
    return encode(picture, view.format)


def label_image(frame: NDArray[np.uint16]) -> bytes:
    """PNG of labels (H, W), 16 bits each."""
    return encode(Image.fromarray(np.ascontiguousarray(frame, np.uint16)), "png")


def encode(image: Image.Image, how: ImageFormat) -> bytes:
    """Image file: PNG without loss, WebP several times smaller."""
    content = BytesIO()
    if how == "png":
        image.save(content, "PNG", compress_level=1)
    else:
        image.save(content, "WEBP", quality=80, method=0)
    return content.getvalue()


def _limits(image: NDArray[Any], view: View) -> tuple[float, float]:
    """Counts that are black and white."""
    if view.minimum is not None and view.maximum is not None:
        return view.minimum, view.maximum
    black, white = contrast_limits(image, view.low, view.high)
    return (
        black if view.minimum is None else view.minimum,
        white if view.maximum is None else view.maximum,
    )


def _draw_outlines(colours: NDArray[np.uint8], cells: NDArray[Any], window: Window, factor: int) -> None:
    """Paint the outline of each cell in its colour."""
    # With a pixel more around it, a cell that is cut by the window has no outline along the cut.
    around = window.cut(cells, margin=1)
    left, above = min(1, window.x0), min(1, window.y0)
    height, width = window.y1 - window.y0, window.x1 - window.x0
    inner = np.s_[above : above + height, left : left + width]
    edge, numbers = outline(around)[inner], around[inner]
    shown = reduced_mask(edge, factor)
    # Of several cells in one pixel of a reduced image, any may give its colour.
    owner = np.zeros(shown.shape, numbers.dtype)
    rows, columns = np.nonzero(edge)
    owner[rows // factor, columns // factor] = numbers[rows, columns]
    colours[shown] = _colour(owner[shown])


def _draw_numbers(picture: Image.Image, numbers: NDArray[Any], factor: int) -> None:
    """Write the number of each cell at its centroid."""
    pen = ImageDraw.Draw(picture)
    for cell, (x, y) in label_centres(numbers).items():
        pen.text(
            (x / factor, y / factor),
            str(cell),
            fill=tuple(_colour(np.array(cell)).tolist()),
            font=_font(),
            anchor="mm",
            stroke_width=1,
            stroke_fill=(0, 0, 0),
        )


def _colour(cells: NDArray[Any]) -> NDArray[np.uint8]:
    colours: NDArray[np.uint8] = _COLOURS[cells % len(_COLOURS)]
    return colours


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(12)


def _has_it(if_none_match: str, tag: str) -> bool:
    """Whether a client says that it has what this ETag stands for."""
    named = [entry.strip().removeprefix("W/") for entry in if_none_match.split(",")]
    return tag in named or "*" in named
