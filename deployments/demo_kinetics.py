"""The end of the demo: tables are merged, traces fitted, and what was recovered is held against the truth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.table import Table

from deployments.api_client import ApiClient, Body
from deployments.terminal import Meter
from tasks.fitting.catalog import FITTING_MODELS, Parameter
from tasks.simulation import CellTruth, Truth

SAMPLES, MERGED, PICTURE = "samples.yaml", "merged", "kinetics.png"

MODEL = FITTING_MODELS["translation_maturation"]
RECOVERED = ("t0", "ktl", "delta")
"""What is compared: onset, rate of translation, and decay of the mRNA."""
LEAST_FRAMES = 12
"""Shorter films leave the parameters open; they are fitted, but not judged."""
MOST_ERROR = 0.05
"""Median error of a parameter, relative to its usual size, up to which the truth counts as recovered."""

_SAMPLE = "all"
_FEATURE = "intensity_total_ch_1"
_PAGE = 1000
_INK, _FAINT, _DOT = "#22262b", "#9aa1a9", "#8f2d8f"

CellKey = tuple[int, int]
"""FOV and cell."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Recovered:
    """A parameter of all cells that were fitted."""

    parameter: Parameter
    simulated: Floats
    """(n,) in the parameter's unit."""
    fitted: Floats
    """(n,) the same cells."""

    @property
    def median_error(self) -> float:
        """Median distance of what was fitted from what was simulated, relative to the median of the latter."""
        if not self.simulated.size:
            return np.nan
        return float(np.median(np.abs(self.fitted - self.simulated)) / np.median(self.simulated))


@dataclass(frozen=True)
class KineticsReport:
    """What the fit has recovered."""

    n_cells: int
    """Cells that were found, and not struck out."""
    n_fitted: int
    """Of these, the ones that were fitted with success."""
    recovered: tuple[Recovered, ...]
    n_frames: int

    @property
    def passed(self) -> bool:
        """Whether the truth was recovered, where the film is long enough to tell."""
        if self.n_frames < LEAST_FRAMES:
            return True
        return self.n_fitted == self.n_cells and all(one.median_error <= MOST_ERROR for one in self.recovered)

    def as_table(self) -> Table:
        """Tell it to a person."""
        table = Table(
            "parameter", "simulated", "fitted", "median error", title_justify="left",
            title=f"Kinetics recovered from {self.n_fitted} of {self.n_cells} cells (medians)",
        )  # fmt: skip
        for one in self.recovered:
            name = f"{one.parameter.name} ({one.parameter.unit})"
            if one.simulated.size:
                medians = [f"{np.median(values):.4g}" for values in (one.simulated, one.fitted)]
                table.add_row(name, *medians, f"{one.median_error:.1%}")
            else:
                table.add_row(name, "-", "-", "-")
        return table


def fit_kinetics(client: ApiClient, folder: Path, n_fovs: int, meter: Meter) -> dict[CellKey, Body]:
    """Merge the tables of all FOVs and fit the first protein's traces; what the API tells of each cell."""
    meter.begin("Merging")
    samples = folder / SAMPLES
    all_fovs = {"name": _SAMPLE, "fovs": list(range(n_fovs))}
    client.post("/processing/samples/save", {"file_path": str(samples), "samples": [all_fovs]})
    merged = client.post(
        "/processing/merge",
        {"sample_yaml": str(samples), "input_dir": str(folder / "results"), "output_dir": str(folder / MERGED)},
    )
    client.finish(f"/jobs/{merged['job_id']}", lambda _: None)  # ended already, unless it took very long
    meter.begin("Fitting", "cells")
    traces = folder / MERGED / f"{_SAMPLE}_{_FEATURE}.csv"
    job_id = client.post("/analysis/fitting/start", {"csv_path": str(traces), "model_type": MODEL.name})["job_id"]
    client.finish(
        f"/analysis/fitting/status/{job_id}",
        lambda status: meter.update(status["progress"]["current_cell"], status["progress"]["total_cells"]),
    )
    rows: list[Body] = []
    while True:
        page = client.get(f"/analysis/fitting/results/{job_id}?limit={_PAGE}&offset={len(rows)}")
        rows += page["results"]
        if len(rows) >= page["total"] or not page["results"]:
            return {(row["fov"], row["cell"]): row for row in rows}


def compare_kinetics(
    fits: Mapping[CellKey, Body], matches: Mapping[int, Sequence[tuple[CellTruth, pd.DataFrame]]], truth: Truth
) -> KineticsReport:
    """Hold the fits of the cells that were found against how they were simulated.

    Parameters
    ----------
    fits
        What the API tells of each cell.
    matches
        Cells that were found, with their traces, by FOV.
    """
    pairs = []
    n_cells = 0
    for fov, found in matches.items():
        hours = truth.settings.times_min[fov] / 60
        for cell, trace in found:
            fit = fits.get((fov, int(trace["cell"].iloc[0])))
            if fit is None:  # somebody has looked at it and struck it out
                continue
            n_cells += 1
            if fit["success"]:
                pairs.append((_simulated(cell, hours), fit["fitted_params"]))
    return KineticsReport(
        n_cells=n_cells,
        n_fitted=len(pairs),
        recovered=tuple(
            Recovered(
                next(one for one in MODEL.parameters if one.name == name),
                np.array([simulated[name] for simulated, _ in pairs]),
                np.array([fitted[name] for _, fitted in pairs]),
            )
            for name in RECOVERED
        ),
        n_frames=truth.settings.n_frames,
    )


def _simulated(cell: CellTruth, hours: Floats) -> dict[str, float]:
    """Parameters of a cell's first protein, as its illumination lets them be seen."""
    kinetics = cell.kinetics[0]
    light = float(cell.intensities[0].sum() / kinetics(hours).sum())
    return {"t0": kinetics.t0, "ktl": light * kinetics.ktl, "delta": kinetics.delta}


def draw_kinetics(report: KineticsReport, path: Path) -> None:
    """Draw each fitted parameter over the simulated one, as a PNG."""
    with mpl.rc_context({"font.size": 9, "text.color": _INK, "axes.labelcolor": _INK, "axes.edgecolor": _FAINT,
                         "xtick.color": _INK, "ytick.color": _INK}):  # fmt: skip
        figure = Figure(figsize=(11, 4), layout="constrained")
        for axes, one in zip(figure.subplots(1, len(report.recovered)), report.recovered, strict=True):
            _draw_parameter(axes, one)
        figure.savefig(path, dpi=150, facecolor="white", format="png")


def _draw_parameter(axes: Axes, one: Recovered) -> None:
    low, high = (one.simulated.min(), one.simulated.max()) if one.simulated.size else one.parameter.bounds
    margin = 0.08 * (high - low) or abs(high) or 1.0
    ends = np.array([low - margin, high + margin])
    axes.fill_between(ends, 0.9 * ends, 1.1 * ends, color=_FAINT, alpha=0.25, linewidth=0, label="within 10 %")
    axes.plot(ends, ends, color=_FAINT, linewidth=1)
    axes.plot(one.simulated, one.fitted, ".", color=_DOT, markersize=6, alpha=0.7, markeredgewidth=0)
    axes.set(xlim=ends, ylim=ends, aspect="equal")
    axes.spines[["top", "right"]].set_visible(False)
    axes.ticklabel_format(scilimits=(-3, 4))
    unit = one.parameter.unit
    axes.set_xlabel(f"simulated {one.parameter.name} ({unit})")
    axes.set_ylabel(f"fitted {one.parameter.name} ({unit})")
    axes.set_title(one.parameter.meaning, loc="left", weight="bold", size=8.5)
    axes.legend(loc="upper left", frameon=False)
