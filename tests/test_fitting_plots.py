"""Pictures of fits: axes with units, nothing left out in silence, and something to see in any case."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from numpy.typing import NDArray

from tasks.fitting.catalog import FITTING_MODELS
from tasks.fitting.files import FitFiles
from tasks.fitting.fit import FitTable, fit_traces
from tasks.fitting.plots import draw_histograms, draw_pairs, write_plots
from tasks.fitting.request import FittingRequest
from tasks.trace_files import TraceSet, read_traces

TIMES_H = np.arange(24) / 2.0


def fitted(folder: Path, model: str, values: NDArray[np.float64]) -> tuple[FitTable, TraceSet, FitFiles]:
    """Fit traces (c, 24) by way of a file."""
    path = folder / "traces.csv"
    rows = [
        f"{t},0,{cell},{value}" for cell, trace in enumerate(values, 1) for t, value in zip(TIMES_H, trace, strict=True)
    ]
    path.write_text("# Time units: h\ntime,fov,cell,value\n" + "\n".join(rows) + "\n")
    request = FittingRequest.parse(csv_path=str(path), model_type=model)
    traces = read_traces(path)
    return (
        fit_traces(traces.times_h, traces.values, traces.offsets, request.specification()),
        traces,
        FitFiles.of(request),
    )


def rises(n_cells: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(0)
    rates, heights = rng.uniform(0.2, 0.6, n_cells), rng.uniform(2, 8, n_cells)
    curves: NDArray[np.float64] = heights[:, None] * (1 - np.exp(-rates[:, None] * TIMES_H))
    return curves + rng.normal(0, 0.01, curves.shape)


@pytest.mark.parametrize("model", sorted(FITTING_MODELS))
def test_axes_name_every_parameter_with_its_unit(model: str, tmp_path: Path) -> None:
    table, _, _ = fitted(tmp_path, model, rises(30))
    labels = {axis.get_xlabel() for axis in draw_histograms(table).axes}
    assert {f"{one.name} ({one.unit})" for one in table.specification.model.fitted} <= labels


def test_cells_beyond_the_axes_are_counted(tmp_path: Path) -> None:
    values = rises(400)
    values[0] += 4.5  # an offset that no other cell has
    table, _, _ = fitted(tmp_path, "maturation", values)
    titles = [axis.get_title(loc="left") for axis in draw_histograms(table).axes]
    assert any("beyond the axes" in title for title in titles)
    pairs = draw_pairs(table)
    assert "beyond the axes" in pairs.get_suptitle()


def test_all_pictures_are_written_as_png_and_svg(tmp_path: Path) -> None:
    table, traces, files = fitted(tmp_path, "maturation", rises(30))
    paths = write_plots(files, table, traces)
    assert [path.name for path in paths] == [
        f"traces_fitted_maturation_{kind}.{ending}"
        for kind in ("curves", "histograms", "pairs")
        for ending in ("png", "svg")
    ]
    for path in paths:
        if path.suffix == ".png":
            assert imread(path)[..., :3].std() > 0.01
        else:
            assert path.read_text().rstrip().endswith("</svg>")


def test_where_nothing_was_fitted_the_traces_are_shown(tmp_path: Path) -> None:
    values = np.full((3, len(TIMES_H)), np.nan)
    values[:, :2] = 1.0
    table, traces, files = fitted(tmp_path, "maturation", values)
    assert not table.success.any()
    assert {path.stem.rpartition("_")[2] for path in write_plots(files, table, traces)} == {"curves"}
