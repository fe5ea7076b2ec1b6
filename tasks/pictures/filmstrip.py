"""A few cells over time: a row for each cell and channel, a column for each of some frames."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.display import contrast_limits, to_grey
from tasks.pictures.canvas import LINE_HEIGHT, write
from tasks.pictures.views import MOST_SAMPLED, TILE, Grey

MOST_CELLS = 4

_LOW, _HIGH = 0.5, 99.8
"""Percentiles of all tiles of a channel that are black and white."""
_MARGIN = 84
"""Width of what is written to the left of a row."""
_GAP = 2

Tiles = Mapping[tuple[int, int], Mapping[int, NDArray[Any]]]
"""By frame and cell, the (TILE, TILE) counts of each channel."""


def choose_cells(tiles: Tiles, kept: NDArray[np.int32]) -> list[int]:
    """Cells of the table that have most tiles, by number."""
    counts = dict.fromkeys(kept.tolist(), 0)
    for _, cell in tiles:
        if cell in counts:
            counts[cell] += 1
    seen = [cell for cell, count in counts.items() if count]
    return sorted(sorted(seen, key=lambda cell: (-counts[cell], cell))[:MOST_CELLS])


def draw_filmstrip(
    tiles: Tiles, cells: Sequence[int], frames: Sequence[int], titles: Sequence[str], channels: Mapping[int, str]
) -> Grey:
    """Draw tiles of cells over time, with one contrast for each channel.

    Parameters
    ----------
    titles
        What is written above each frame.
    channels
        Name of each channel, by number.
    """
    step = TILE + _GAP
    shades = np.zeros((LINE_HEIGHT + len(cells) * len(channels) * step, _MARGIN + len(frames) * step), np.uint8)
    for place, channel in enumerate(channels):
        keys = [(t, cell) for t in frames for cell in cells if (t, cell) in tiles]
        counts = np.array([tiles[key][channel] for key in keys])
        limits = contrast_limits(counts.reshape(-1, TILE), _LOW, _HIGH, MOST_SAMPLED)
        for (t, cell), tile in zip(keys, to_grey(counts, *limits), strict=True):
            y = LINE_HEIGHT + (cells.index(cell) * len(channels) + place) * step
            x = _MARGIN + frames.index(t) * step
            shades[y : y + TILE, x : x + TILE] = tile
    for column, title in enumerate(titles):
        write(shades, title, _MARGIN + column * step + TILE / 2, LINE_HEIGHT - 5, 255, align=0.5)
    for row, (cell, name) in enumerate((cell, name) for cell in cells for name in channels.values()):
        middle = LINE_HEIGHT + row * step + TILE / 2
        write(shades, f"cell {cell}", 4, middle - 3, 255)
        write(shades, name[:11], 4, middle + 13, 255)
    return shades
