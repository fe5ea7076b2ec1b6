"""Text, colours and image files, for all pictures alike."""

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Canvas = NDArray[np.uint8]
"""(H, W, 3) blue, green, red."""
Colour = tuple[int, int, int]

WHITE, BLACK, DARK = (255, 255, 255), (0, 0, 0), (60, 60, 60)
PAPER = 255
"""Shade of an empty drawing."""
LINE_HEIGHT = 18
"""Of a line of text, in pixels."""

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_TEXT_SCALE = 0.4
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 80]
# Filters are for photographs: without them a drawing is smaller, and done in a third of the time.
_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE]


def blank(height: int, width: int) -> Canvas:
    """Make an empty drawing."""
    return np.full((height, width, 3), PAPER, np.uint8)


@lru_cache(maxsize=4096)
def text_width(text: str) -> int:
    """Width of a line of text, in pixels."""
    return int(cv2.getTextSize(text, _FONT, _TEXT_SCALE, 1)[0][0])


def write(canvas: Any, text: str, x: float, y: float, colour: Any, align: float = 0.0) -> None:  # noqa: ANN401
    """Write a line of ASCII text.

    Parameters
    ----------
    canvas
        A canvas, or an image of one value for each pixel.
    x, y
        Where its baseline begins, ends (`align` of 1), or has its middle (0.5).
    """
    left = x - align * text_width(text) if align else x
    cv2.putText(canvas, text, (round(left), round(y)), _FONT, _TEXT_SCALE, colour, 1, cv2.LINE_AA)


def ascii_text(text: str) -> str:
    """Text in the letters that can be drawn: names of channels may hold others."""
    return text.encode("ascii", "replace").decode()


def jpeg(canvas: NDArray[np.uint8]) -> bytes:
    """Image file of a photograph."""
    return cv2.imencode(".jpg", canvas, _JPEG)[1].tobytes()


def png(canvas: Canvas) -> bytes:
    """Image file of a drawing."""
    return cv2.imencode(".png", canvas, _PNG)[1].tobytes()
