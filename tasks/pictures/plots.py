"""Traces of the cells of a FOV over time: a panel for each feature, with the median of all cells."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.pictures.canvas import BLACK, DARK, Canvas, Colour, blank, write

Values = NDArray[np.float64]

_HEIGHT, _WIDTH = 220, 400
"""Of a panel."""
_LEFT, _RIGHT, _ABOVE, _BELOW = 66, 14, 26, 34
"""Of a panel's frame, from its edges."""
_COLUMNS = 3
_MOST_LINES = 60
"""Traces in a panel; more would be a stain."""
_LINE: Colour = (214, 178, 140)
_MEDIAN: Colour = (40, 60, 200)
_SMOOTH = 2
"""Lines are drawn so much larger and then reduced, which is several times faster than smooth lines."""
_TICK = 4
_SAME = 1e-5
"""Values that differ by less, in proportion, have no ticks that can be told apart."""
_SUBPIXEL_BITS = 3


@dataclass(frozen=True)
class Panel:
    """A feature in a channel."""

    title: str
    unit: str
    values: Values
    """(n_cells, n_frames), NaN where a cell was not seen or a value is undefined."""


def draw_plots(panels: Sequence[Panel], times_min: Values) -> Canvas:
    """Draw all panels on one canvas.

    Parameters
    ----------
    times_min
        (n_frames,) in minutes.
    """
    rows = -(-len(panels) // _COLUMNS)
    columns = min(len(panels), _COLUMNS)
    canvas = blank(rows * _HEIGHT, columns * _WIDTH)
    unit, times = ("h", times_min / 60) if np.ptp(times_min) > 180 else ("min", times_min)
    for place, panel in enumerate(panels):
        row, column = divmod(place, _COLUMNS)
        part = canvas[row * _HEIGHT : (row + 1) * _HEIGHT, column * _WIDTH : (column + 1) * _WIDTH]
        _draw_panel(part, panel, times, unit)
    return canvas


def nice_ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers from `low` to `high`, at steps of 1, 2 or 5 times a power of ten, at most so many."""
    if not high > low:
        return [low]
    step = 10.0 ** np.floor(np.log10((high - low) / most))
    while (high - low) / step >= most:
        # 1, 2, 5, 10, ...
        step *= 2.5 if f"{step:e}".startswith("2") else 2.0
    first, last = int(np.ceil(low / step)), int(np.floor(high / step))
    return [n * step for n in range(first, last + 1)]


def _draw_panel(canvas: Canvas, panel: Panel, times: Values, time_unit: str) -> None:
    n_cells = len(panel.values)
    shown = (
        panel.values[np.linspace(0, n_cells - 1, min(n_cells, _MOST_LINES)).astype(int)] if n_cells else panel.values
    )
    x_range, y_range = _range(times), _range(shown)
    inner_height, inner_width = _HEIGHT - _ABOVE - _BELOW, _WIDTH - _LEFT - _RIGHT
    large = blank(inner_height * _SMOOTH, inner_width * _SMOOTH)
    x = _along(times, x_range) * (large.shape[1] - 1)
    y = (1 - _along(shown, y_range)) * (large.shape[0] - 1)
    _draw_lines(large, x, y, _LINE, 1)
    if n_cells:
        middle = _median(panel.values)
        _draw_lines(large, x, (1 - _along(middle, y_range))[np.newaxis] * (large.shape[0] - 1), _MEDIAN, 2 * _SMOOTH)
    canvas[_ABOVE:-_BELOW, _LEFT:-_RIGHT] = cv2.resize(large, (inner_width, inner_height), interpolation=cv2.INTER_AREA)
    cv2.rectangle(canvas, (_LEFT - 1, _ABOVE - 1), (_WIDTH - _RIGHT, _HEIGHT - _BELOW), DARK)
    for tick in nice_ticks(*x_range, most=7):
        at = _LEFT + float(_along(np.array(tick), x_range)) * (inner_width - 1)
        cv2.line(canvas, (round(at), _HEIGHT - _BELOW), (round(at), _HEIGHT - _BELOW + _TICK), DARK)
        write(canvas, f"{tick:g}", at, _HEIGHT - _BELOW + 16, DARK, align=0.5)
    for tick in nice_ticks(*y_range, most=6):
        at = _ABOVE + (1 - float(_along(np.array(tick), y_range))) * (inner_height - 1)
        cv2.line(canvas, (_LEFT - 1 - _TICK, round(at)), (_LEFT - 1, round(at)), DARK)
        write(canvas, f"{tick:.4g}", _LEFT - 8, at + 4, DARK, align=1.0)
    cells = f"{len(shown)} of {n_cells} cells, median" if len(shown) < n_cells else f"{n_cells} cells, median"
    write(canvas, f"{panel.title} ({panel.unit})", _LEFT, _ABOVE - 9, BLACK)
    write(canvas, cells, _WIDTH - _RIGHT, _ABOVE - 9, DARK, align=1.0)
    write(canvas, f"time ({time_unit})", _LEFT + inner_width / 2, _HEIGHT - 5, DARK, align=0.5)


def _range(values: Values) -> tuple[float, float]:
    """Smallest and largest finite value, with something around them where they are as good as the same."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    margin = (abs(low) or 1.0) / 2 if high - low <= _SAME * max(abs(low), abs(high)) else 0.0
    return low - margin, high + margin


def _along(values: Values, span: tuple[float, float]) -> Values:
    """Where values are in a range, from 0 to 1."""
    low, high = span
    return (values - low) / (high - low)


def _median(values: Values) -> Values:
    """Median of all cells in each frame (n_frames,); NaN where there is none."""
    ordered = np.sort(values, axis=0)  # NaN comes last
    count = np.isfinite(values).sum(axis=0)
    below, above = np.maximum(count - 1, 0) // 2, count // 2
    frames = np.arange(values.shape[1])
    middle = (ordered[below, frames] + ordered[np.minimum(above, len(values) - 1), frames]) / 2
    return np.where(count > 0, middle, np.nan)


def _draw_lines(canvas: Canvas, x: Values, y: Values, colour: Colour, thickness: int) -> None:
    """Draw a line through the points of each row; it is broken where a value is missing."""
    points = np.stack([np.broadcast_to(x, y.shape), y], axis=2) * (1 << _SUBPIXEL_BITS)
    there = np.isfinite(y)
    if there.all():
        lines = list(np.rint(points).astype(np.int32))
    else:
        lines = [
            np.rint(points[row, first:last]).astype(np.int32)
            for row in range(len(y))
            for first, last in _stretches(there[row])
        ]
    cv2.polylines(canvas, lines, False, colour, thickness, cv2.LINE_8, _SUBPIXEL_BITS)


def _stretches(there: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and one past the last index of each stretch of values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], there, [False]]).astype(np.int8)))
    return [(int(first), int(last)) for first, last in edges.reshape(-1, 2)]
