"""Pictures of a fit: curves over traces, distribution of each parameter, and each parameter against each other."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from tasks.fitting.catalog import Parameter
from tasks.fitting.files import PLOT_ENDINGS, FitFiles
from tasks.fitting.fit import FitTable
from tasks.fitting.models import curve
from tasks.fitting.results import GOOD_R_SQUARED, MEDIUM_R_SQUARED
from tasks.output.atomic import replacing, sync_file
from tasks.output.os_errors import told
from tasks.trace_files import TraceSet

Array = NDArray[np.float64]

_DPI = 130
_PAGE = (4, 5)
"""Rows and columns of a page of cells."""
_MOST_DOTS = 3000
"""Dots of a scatter plot; more would hide each other."""
_CURVE_POINTS = 300
_SHARE_SHOWN = 0.99
"""Share of the cells whose values the axes of a distribution cover; a few that got away would leave no room."""
_TRACE, _FIT, _ACCENT = "#7a8793", "#c8452e", "#2f6f9f"
_STYLE = {
    "font.size": 9, "axes.titlesize": 9, "axes.labelsize": 9, "axes.spines.top": False, "axes.spines.right": False,
    "axes.edgecolor": "#888888", "xtick.color": "#444444", "ytick.color": "#444444", "svg.hashsalt": "pyama",
}  # fmt: skip


def write_plots(files: FitFiles, table: FitTable, traces: TraceSet) -> list[Path]:
    """Draw all pictures, as PNG and as SVG, in place of those that are there.

    Returns
    -------
    list of Path
        The files; none for a distribution where no cell could be fitted.

    Raises
    ------
    OutputError
        Where they cannot be written.
    """
    written = []
    with rc_context(_STYLE):  # type: ignore[arg-type]
        for kind, figure in _draw(table, traces):
            FigureCanvasAgg(figure)
            for ending in PLOT_ENDINGS:
                path = files.plot(kind, ending)
                _save(figure, path, ending)
                written.append(path)
    return written


def _draw(table: FitTable, traces: TraceSet) -> Iterator[tuple[str, Figure]]:
    yield "curves", draw_curves(table, traces, page_of_cells(table))
    fitted = table.specification.model.fitted
    if table.success.any():
        yield "histograms", draw_histograms(table)
        if len(fitted) > 1:
            yield "pairs", draw_pairs(table)


def page_of_cells(table: FitTable) -> NDArray[np.int64]:
    """Choose the cells of a page: evenly from the worst to the best fit, failed ones first."""
    most = _PAGE[0] * _PAGE[1]
    order = np.argsort(np.where(np.isnan(table.r_squared), -np.inf, table.r_squared), kind="stable")
    if len(order) <= most:
        return order
    return order[np.linspace(0, len(order) - 1, most).round().astype(np.int64)]


def draw_curves(table: FitTable, traces: TraceSet, cells: Sequence[int] | NDArray[np.int64]) -> Figure:
    """Draw fitted curves over the traces of some cells."""
    rows = max(-(-len(cells) // _PAGE[1]), 1)
    figure = Figure(figsize=(2.6 * _PAGE[1], 1.95 * rows + 0.9), dpi=_DPI, layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, _PAGE[1], squeeze=False)).ravel()
    times_h = traces.times_h
    for axis, cell in zip(axes, cells, strict=False):
        rows_of_cell = slice(traces.offsets[cell], traces.offsets[cell + 1])
        _draw_cell(axis, table, int(cell), times_h[rows_of_cell], traces.values[rows_of_cell])
        axis.set_title(f"FOV {traces.fovs[cell]}, cell {traces.cells[cell]}   {_grade(table, int(cell))}", loc="left")
    for axis in axes[len(cells) :]:
        axis.set_axis_off()
    model = table.specification.model
    figure.suptitle(
        f"{model.name}: {len(cells)} of {len(table.success)} cells, from the worst to the best fit",
        x=0.01, ha="left", fontsize=12,
    )  # fmt: skip
    figure.supxlabel("Time (h)", fontsize=10)
    figure.supylabel(
        traces.column.replace("_", " ") + (" (counts)" if "intensity" in traces.column else ""), fontsize=10
    )
    return figure


def _draw_cell(axis: Axes, table: FitTable, cell: int, times_h: Array, values: Array) -> None:
    there = np.isfinite(values) & np.isfinite(times_h)
    times_h, values = times_h[there], values[there]
    if not len(values):
        axis.set(xticks=[], yticks=[])
        axis.text(0.5, 0.5, "no values", ha="center", va="center", color=_TRACE, transform=axis.transAxes)
        return
    axis.plot(times_h, values, ".", color=_TRACE, markersize=4, alpha=0.6)
    if table.success[cell]:
        model = table.specification.model
        parameters = dict(zip((one.name for one in model.parameters), table.estimates[cell].tolist(), strict=True))
        dense = np.linspace(times_h.min(), times_h.max(), _CURVE_POINTS)
        axis.plot(dense, curve(model, dense, parameters), color=_FIT, linewidth=1.1)
    axis.ticklabel_format(axis="y", style="sci", scilimits=(-2, 4), useMathText=True)
    axis.locator_params(nbins=4)


def _grade(table: FitTable, cell: int) -> str:
    if not table.success[cell]:
        return "failed"
    r_squared = table.r_squared[cell]
    return "constant" if np.isnan(r_squared) else f"R² {r_squared:.4f}"


def draw_histograms(table: FitTable) -> Figure:
    """Draw the distribution of each fitted parameter, and of R²."""
    fitted = table.specification.model.fitted
    n_columns = min(len(fitted) + 1, 3)
    n_rows = -(-(len(fitted) + 1) // n_columns)
    figure = Figure(figsize=(3.6 * n_columns, 2.7 * n_rows + 0.5), dpi=_DPI, layout="constrained")
    axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for axis, parameter in zip(axes, fitted, strict=False):
        values = table.estimate(parameter.name)[table.success]
        low, high = _shown(values)
        axis.hist(values, bins=_bins(values, low, high), range=(low, high), color=_ACCENT, alpha=0.85)
        median = float(np.median(values))
        axis.axvline(median, color=_FIT, linewidth=1.4)
        axis.set_title(f"median {median:.4g}{_not_shown((values < low) | (values > high))}", loc="left", color=_FIT)
        axis.set_xlabel(_label(parameter))
        axis.set_xlim(low, high)
        axis.ticklabel_format(axis="x", style="sci", scilimits=(-3, 4), useMathText=True)
        axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    _draw_r_squared(axes[len(fitted)], table)
    for axis in axes[len(fitted) + 1 :]:
        axis.set_axis_off()
    for row in range(n_rows):
        axes[row * n_columns].set_ylabel("Cells")
    n_fitted, n_cells = int(table.success.sum()), len(table.success)
    figure.suptitle(
        f"{table.specification.model_type}: {n_fitted} of {n_cells} cells fitted", x=0.01, ha="left", fontsize=12
    )
    return figure


def _draw_r_squared(axis: Axes, table: FitTable) -> None:
    values = table.r_squared[np.isfinite(table.r_squared)]
    if len(values):
        low = max(float(np.quantile(values, 1 - _SHARE_SHOWN)), 0.0) if len(values) > 1 else 0.0
        low = low if low < 1 else 0.0
        axis.hist(values, bins=_bins(values, low, 1.0), range=(low, 1.0), color=_TRACE, alpha=0.85)
    good = int(np.count_nonzero(values >= GOOD_R_SQUARED))
    poor = int(np.count_nonzero(values < MEDIUM_R_SQUARED))
    axis.set_title(f"good {good}, medium {len(values) - good - poor}, poor {poor}", loc="left")
    axis.set_xlabel("R²")
    axis.xaxis.set_major_locator(MaxNLocator(4))
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    axis.ticklabel_format(axis="x", useOffset=False)


def draw_pairs(table: FitTable) -> Figure:
    """Draw each fitted parameter against each other."""
    pairs = list(combinations(table.specification.model.fitted, 2))
    n_columns = min(len(pairs), 3 if len(pairs) < 10 else 5)
    n_rows = -(-len(pairs) // n_columns)
    figure = Figure(figsize=(3.4 * n_columns, 3.0 * n_rows + 0.5), dpi=_DPI, layout="constrained")
    axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    shown = np.flatnonzero(table.success)
    if len(shown) > _MOST_DOTS:
        shown = shown[np.linspace(0, len(shown) - 1, _MOST_DOTS).round().astype(np.int64)]
    outside = np.zeros(len(shown), bool)
    for axis, (first, second) in zip(axes, pairs, strict=False):
        x, y = table.estimate(first.name)[shown], table.estimate(second.name)[shown]
        (left, right), (bottom, top) = _shown(x), _shown(y)
        outside |= (x < left) | (x > right) | (y < bottom) | (y > top)
        axis.plot(x, y, ".", color=_ACCENT, markersize=3, alpha=0.4 if len(shown) > 200 else 0.7, rasterized=True)
        axis.set_xlim(left, right)
        axis.set_ylim(bottom, top)
        axis.set_xlabel(_label(first))
        axis.set_ylabel(_label(second))
        axis.ticklabel_format(style="sci", scilimits=(-3, 4), useMathText=True)
    for axis in axes[len(pairs) :]:
        axis.set_axis_off()
    figure.suptitle(
        f"{table.specification.model_type}: parameters against each other, {len(shown)} cells"
        f"{_not_shown(outside)}",
        x=0.01, ha="left", fontsize=12,
    )  # fmt: skip
    return figure


def _label(parameter: Parameter) -> str:
    return f"{parameter.name} ({parameter.unit})"


def _not_shown(outside: NDArray[np.bool_]) -> str:
    """Tell of the cells that lie beyond an axis, so that nobody takes what is drawn for all there is."""
    return f" ({np.count_nonzero(outside)} beyond the axes)" if outside.any() else ""


def _shown(values: Array) -> tuple[float, float]:
    """Range that nearly all values lie in, with some room."""
    low, high = np.quantile(values, [(1 - _SHARE_SHOWN) / 2, (1 + _SHARE_SHOWN) / 2])
    room = 0.05 * (high - low) or 0.05 * abs(low) or 1.0
    return float(low - room), float(high + room)


def _bins(values: Array, low: float, high: float) -> int:
    """As many bins as the values can fill, by the rule of Freedman and Diaconis."""
    q25, q75 = np.quantile(values, [0.25, 0.75])
    width = 2.0 * (q75 - q25) / len(values) ** (1 / 3)
    return int(np.clip((high - low) / width, 8, 60)) if width > 0 else 8


def _save(figure: Figure, path: Path, ending: str) -> None:
    """Write a picture whole or not at all; without the time at which it was made."""
    with told("write", path), replacing(path) as temporary:
        figure.savefig(temporary, format=ending, metadata={"Date": None} if ending == "svg" else None)
        sync_file(temporary)
