"""A picture of one field of view: the cells as they were found, beside their traces."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from skimage.measure import find_contours

from tasks.acquisition import RecordingMetadata
from tasks.errors import OutputError
from tasks.features import column_name
from tasks.output import Manifest, read_manifest
from tasks.simulation import Truth

_INK, _FAINT = "#22262b", "#9aa1a9"
_COLORS = mpl.colormaps["plasma"]
_BRIGHTEST_COLOR = 0.9
"""The palest end of the colors cannot be seen on white."""
_SCALE_BARS_UM = (10, 20, 50, 100, 200, 500)


def read_traces(directory: Path) -> pd.DataFrame:
    """Traces table of a FOV's directory."""
    manifest = _manifest(directory)
    return pd.read_csv(directory / manifest.layout.traces)


def draw_fov(directory: Path, path: Path, metadata: RecordingMetadata, truth: Truth | None = None) -> None:
    """Draw a finished FOV whose stacks were kept, with the total intensity of each fluorescence channel.

    Parameters
    ----------
    directory
        Directory of the FOV.
    path
        PNG file to write.
    metadata
        Of the recording.
    truth
        Where the recording is simulated: what was, drawn under the traces.
    """
    manifest = _manifest(directory)
    channels = manifest.parameters["channels"]
    phase: int = channels["phase"]["channel"]
    fluorescence = [channel["channel"] for channel in channels["fluorescence"]]
    traces = read_traces(directory)
    image = np.load(directory / manifest.layout.phase(phase), mmap_mode="r")[-1]
    labels = np.load(directory / manifest.layout.tracked(phase), mmap_mode="r")[-1]
    columns = [column_name("intensity_total", channel) for channel in fluorescence]
    colors = _colors_of_cells(traces, columns[0])

    with mpl.rc_context({"font.size": 9, "text.color": _INK, "axes.labelcolor": _INK, "axes.edgecolor": _FAINT,
                         "xtick.color": _INK, "ytick.color": _INK}):  # fmt: skip
        figure = Figure(figsize=(12.5, 6.6), layout=ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.12))
        grid = figure.add_gridspec(len(columns), 2, width_ratios=(1.08, 1))
        _draw_cells(figure.add_subplot(grid[:, 0]), image, labels, traces, colors, metadata)
        for row, (channel, column) in enumerate(zip(fluorescence, columns, strict=True)):
            axes = figure.add_subplot(grid[row, 1])
            expected = None if truth is None else _expected(truth, manifest.fov, row)
            _draw_traces(axes, traces, column, colors, expected)
            axes.set_title(metadata.channel_names[channel], loc="left", weight="bold")
            if row == len(columns) - 1:
                axes.set_xlabel("time (h)")
        figure.savefig(path, dpi=150, facecolor="white", format="png")


def _manifest(directory: Path) -> Manifest:
    manifest = read_manifest(directory)
    if manifest is None:
        raise OutputError(f"{directory} holds no finished FOV; process the recording first")
    return manifest


def _colors_of_cells(traces: pd.DataFrame, column: str) -> dict[int, Any]:
    """Color of each cell: the brighter it ends, the brighter the color."""
    last = traces.groupby("cell")[column].last()
    ranks = last.rank(method="first").sub(1).div(max(len(last) - 1, 1))
    return {int(str(cell)): _COLORS(_BRIGHTEST_COLOR * rank) for cell, rank in ranks.items()}


def _draw_cells(
    axes: Axes,
    image: NDArray[Any],
    labels: NDArray[np.uint16],
    traces: pd.DataFrame,
    colors: dict[int, Any],
    metadata: RecordingMetadata,
) -> None:
    """Draw the last phase image with the outlines and numbers of its cells."""
    darkest, brightest = np.percentile(image, (0.2, 99.8))
    axes.imshow(image, cmap="gray", norm=Normalize(darkest, brightest), interpolation="none")
    for cell in np.unique(labels[labels > 0]).tolist():
        outlines = [line[:, ::-1] - 1 for line in _contours(np.pad(labels == cell, 1))]
        kept = cell in colors
        color, width = (colors[cell], 1.6) if kept else (_INK, 0.6)
        axes.add_collection(LineCollection(outlines, colors=[color], linewidths=width))
    last = traces.groupby("cell").tail(1)
    for cell, x, y in zip(last["cell"], last["position_x"], last["position_y"], strict=True):
        axes.text(x, y, str(cell), color="white", ha="center", va="center", size=8, weight="bold",
                  path_effects=[withStroke(linewidth=2, foreground="black")])  # fmt: skip
    height, width = image.shape
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    fov = int(traces["fov"].iloc[0]) if len(traces) else 0
    hours = metadata.times_min[fov, -1] / 60
    axes.set_title(f"FOV {fov} after {hours:.1f} h", loc="left", weight="bold")
    axes.set_title(f"{len(colors)} cells; thin outlines: left out, e.g. near the edge", loc="right", color=_FAINT)
    _draw_scale_bar(axes, width, height, metadata.pixel_size_um)


def _draw_scale_bar(axes: Axes, width: int, height: int, pixel_size_um: float | None) -> None:
    if pixel_size_um is None:
        return
    fitting = [bar for bar in _SCALE_BARS_UM if bar / pixel_size_um < width / 4]
    if not fitting:
        return
    length, margin = fitting[-1] / pixel_size_um, 0.03 * width
    x, y = np.array([width - margin - length, width - margin]), height - margin
    outline = [withStroke(linewidth=5, foreground="black")]
    axes.plot(x, [y, y], color="white", linewidth=3, solid_capstyle="butt", path_effects=outline)
    axes.text(x.mean(), y - 0.4 * margin, f"{fitting[-1]} µm", color="white", ha="center", va="bottom", weight="bold",
              path_effects=[withStroke(linewidth=2, foreground="black")])  # fmt: skip


def _expected(truth: Truth, fov: int, row: int) -> list[NDArray[np.float64]]:
    """Simulated intensities of the cells that can be found."""
    return [cell.intensities[row] for cell in truth.fovs[fov].cells if cell.countable]


def _draw_traces(
    axes: Axes, traces: pd.DataFrame, column: str, colors: dict[int, Any], expected: list[NDArray[np.float64]] | None
) -> None:
    """Draw the intensity of each cell over time, in the color of its outline, with the truth as dots."""
    exponent = 3 * int(np.log10(max(traces[column].max(), 1)) // 3)
    lines = [trace[["time", column]].to_numpy() / (60, 10**exponent) for _, trace in traces.groupby("cell")]
    axes.add_collection(LineCollection(lines, colors=list(colors.values()), linewidths=1.3))
    if expected is not None and lines:
        dots = np.transpose(expected) / 10**exponent
        axes.plot(lines[0][:, 0], dots, ".", color=_INK, markersize=1.6, zorder=3)
        axes.plot([], [], color=_COLORS(0.5), label="measured")
        axes.plot([], [], ".", color=_INK, markersize=3, label="simulated")
        axes.legend(loc="upper left", frameon=False)
    axes.autoscale_view()
    axes.margins(x=0.02)
    axes.spines[["top", "right"]].set_visible(False)
    unit = f"$10^{exponent}$ counts" if exponent else "counts"
    axes.set_ylabel(f"total intensity ({unit})")
    _number_lines(axes, dict(zip(colors, lines, strict=True)), colors)


def _number_lines(axes: Axes, lines: dict[int, NDArray[np.float64]], colors: dict[int, Any]) -> None:
    """Write the cell's number at the end of its line, from the brightest down, where there is room."""
    bottom, top = axes.get_ylim()
    lowest = np.inf
    for cell, line in sorted(lines.items(), key=lambda item: -item[1][-1, 1]):
        x, y = line[-1]
        if lowest - y > (top - bottom) / 22:
            axes.annotate(str(cell), (x, y), (5, 0), textcoords="offset points", va="center", size=7.5,
                          color=colors[cell], weight="bold", annotation_clip=False)  # fmt: skip
            lowest = y


def _contours(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Outlines of a mask, each (n, 2): y, x."""
    contours: list[NDArray[np.float64]] = find_contours(mask, 0.5)  # type: ignore[no-untyped-call]
    return contours
