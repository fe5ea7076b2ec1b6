"""First, middle and last frame of a channel side by side, with the outlines and numbers of the cells."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.display import outline
from tasks.pictures.canvas import LINE_HEIGHT, Canvas, Colour, write
from tasks.pictures.views import Grey, Scale
from tasks.regions import LabelledFrame
from tasks.scratch import scratch

KEPT: Colour = (10, 214, 255)
"""Cells of the table."""
DROPPED: Colour = (200, 150, 90)
"""Cells that were followed, but are not in the table."""

_GAP = 4
_LETTER_HEIGHT = 10
_MOST_NUMBERS = 200
"""Numbers in a frame; more would hide the cells."""
_OF_DROPPED, _OF_KEPT = 96, 255
"""Marks of pixels; those of the smooth edge of a letter up to the first do not count as its own."""


@dataclass(frozen=True)
class Sheet:
    """Where frames are on a picture, and what is drawn over them, whatever the channel."""

    scale: Scale
    titles: tuple[str, ...]
    kept: NDArray[np.int64]
    """Pixels, numbered row by row, of outlines and numbers of the cells of the table."""
    dropped: NDArray[np.int64]
    """Pixels of the outlines of all others."""

    @classmethod
    def of(
        cls,
        frames: Sequence[tuple[LabelledFrame, NDArray[np.int32]]],
        titles: Sequence[str],
        kept: NDArray[np.int32],
    ) -> Self:
        """Find outlines and numbers of all cells.

        Parameters
        ----------
        frames
            Regions of each frame, and the cell number (n,) of each of them.
        titles
            What is written above each frame.
        kept
            Numbers of the cells of the table.
        """
        first, _ = frames[0]
        scale = Scale(first.height, first.width)
        marks = np.zeros((_height(scale), _width(scale, len(frames))), np.uint8)
        for place, (labelled, cells) in enumerate(frames):
            _mark(_panel(marks, scale, place), labelled, cells, kept, scale)
        flat = marks.reshape(-1)
        drawn = np.flatnonzero(flat)
        is_kept = flat[drawn] > _OF_DROPPED
        return cls(scale, tuple(titles), drawn[is_kept], drawn[~is_kept])

    def draw(self, greys: Sequence[Grey], name: str) -> Canvas:
        """Draw the frames of a channel of some name."""
        shades = np.zeros((_height(self.scale), _width(self.scale, len(greys))), np.uint8)
        for place, grey in enumerate(greys):
            _panel(shades, self.scale, place)[:] = self.scale.enlarge(grey)
            left = _left(self.scale, place)
            write(shades, f"{name}, {self.titles[place]}", left + 4, LINE_HEIGHT - 5, 255)
        canvas: Canvas = np.empty((*shades.shape, 3), np.uint8)
        cv2.cvtColor(shades, cv2.COLOR_GRAY2BGR, dst=canvas)
        pixels = canvas.reshape(-1, 3)
        pixels[self.dropped] = DROPPED
        pixels[self.kept] = KEPT
        return canvas


def _mark(
    marks: Grey, labelled: LabelledFrame, cells: NDArray[np.int32], kept: NDArray[np.int32], scale: Scale
) -> None:
    """Mark outlines of all cells of a frame, and numbers of those that are in the table."""
    is_kept = np.isin(cells, kept)
    # Regions are painted by their place in the frame, so that neighbours differ, whatever becomes of them.
    image = scratch("overview", (labelled.height, labelled.width), np.uint16)
    labels = np.ascontiguousarray(scale.sample(labelled.paint(np.arange(1, len(cells) + 1), image)))
    rows, columns = np.nonzero(outline(labels))
    shade_of_label = np.append(0, np.where(is_kept, _OF_KEPT, _OF_DROPPED)).astype(np.uint8)
    small = np.zeros(labels.shape, np.uint8)
    small[rows, columns] = shade_of_label[labels[rows, columns]]
    marks[:] = scale.enlarge(small)
    place = labelled.regions.boxes * scale.zoom / scale.factor
    for region in np.flatnonzero(is_kept)[:_MOST_NUMBERS].tolist():
        x0, y0, x1, _ = place[region].tolist()
        # Above the cell, where the image is even; below the upper edge.
        write(marks, str(cells[region]), (x0 + x1) / 2, max(y0 - 3, _LETTER_HEIGHT), _OF_KEPT, align=0.5)


def _panel(sheet: Grey, scale: Scale, place: int) -> Grey:
    """Part of a sheet that shows a frame."""
    left = _left(scale, place)
    return sheet[LINE_HEIGHT:, left : left + scale.shown[1]]


def _left(scale: Scale, place: int) -> int:
    return place * (scale.shown[1] + _GAP)


def _height(scale: Scale) -> int:
    return LINE_HEIGHT + scale.shown[0]


def _width(scale: Scale, n_frames: int) -> int:
    return _left(scale, n_frames) - _GAP
