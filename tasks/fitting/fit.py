"""Fitting traces: cells that share their times are a block, and the solver takes a block at a time."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tasks.fitting.catalog import Parameter
from tasks.fitting.linear_algebra import AT_HIGH, AT_LOW
from tasks.fitting.models import shapes_of
from tasks.fitting.request import FitSpecification
from tasks.fitting.solver import (
    ALL_AT_BOUNDS,
    CAUCHY_LOSS,
    CONVERGED,
    HUBER_LOSS,
    ILL_CONDITIONED,
    LINEAR_LOSS,
    NOT_CONVERGED,
    NOT_FINITE,
    SOFT_L1_LOSS,
    TOO_FEW_POINTS,
    Fits,
    Grid,
    Problem,
    fill_grid,
    fit_cells,
)

Array = NDArray[np.float64]

FIT_VERSION = 2
"""Raised whenever the same traces and request give other numbers than before."""

CellListener = Callable[[int], None]
"""Told how many cells are done; may raise to stop the fit."""

_LOSSES = {"linear": LINEAR_LOSS, "soft_l1": SOFT_L1_LOSS, "huber": HUBER_LOSS, "cauchy": CAUCHY_LOSS}
_BATCH = 256
"""Cells that are fitted between two looks at whether the fit is still wanted: some 10 ms."""
_LEAST_FILL = 0.5
"""Part of the times of its FOV that a cell has, on average, for the cells to be a block."""
_STARTS_PER_DECADE = 2.0
_STARTS_PER_FILM = 12.0
_MOST_STARTS = 12
_FILM_LENGTHS = 30.0
"""Time constants that the grid begins with, in lengths of the film."""

_FAILURES = {
    TOO_FEW_POINTS: "too few points: the model needs more than it has parameters",
    NOT_CONVERGED: "the search did not come to an end",
    NOT_FINITE: "the values are too large to compute with",
}
_NO_ERRORS = {
    ILL_CONDITIONED: "no standard errors: the data do not tell the parameters apart",
    ALL_AT_BOUNDS: "no standard errors: all parameters are at their bounds",
}
_CONSTANT = "no R²: the trace is constant"
_LONGEST_REASON = max(map(len, (*_FAILURES.values(), *_NO_ERRORS.values(), _CONSTANT)))
_COLUMNS = ("success", "r_squared", "estimates", "errors", "places", "n_points", "reasons")


@dataclass(frozen=True)
class Block:
    """Cells that share their times."""

    times_h: Array
    """(n,) ascending."""
    values: Array
    """(c, n) NaN where a cell has nothing."""
    cells: NDArray[np.int64]
    """(c,) index of each cell among all."""


@dataclass(frozen=True)
class FitTable:
    """What came out for each of c cells; p is the number of parameters of the model, fixed ones included."""

    specification: FitSpecification
    success: NDArray[np.bool_]
    r_squared: Array
    """(c,) NaN for a constant trace, and where a fit failed."""
    estimates: Array
    """(c, p) in the catalogue's order; NaN where a fit failed."""
    errors: Array
    """(c, p) standard errors; NaN for fixed parameters, those at a bound, and where the data do not tell."""
    places: NDArray[np.int8]
    """(c, p) -1 or 1 at the lower or upper bound, 0 between them, 2 for a fixed parameter."""
    n_points: NDArray[np.int32]
    reasons: NDArray[np.str_]
    """(c,) why the fit failed, or what is missing; empty text otherwise."""

    @classmethod
    def empty(cls, specification: FitSpecification, n_cells: int) -> Self:
        """Table with room for the results."""
        n_parameters = len(specification.model.parameters)
        return cls(
            specification,
            success=np.zeros(n_cells, np.bool_),
            r_squared=np.full(n_cells, np.nan),
            estimates=np.full((n_cells, n_parameters), np.nan),
            errors=np.full((n_cells, n_parameters), np.nan),
            places=np.zeros((n_cells, n_parameters), np.int8),
            n_points=np.zeros(n_cells, np.int32),
            reasons=np.zeros(n_cells, f"U{_LONGEST_REASON}"),
        )

    @classmethod
    def of(cls, specification: FitSpecification, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Table of arrays as they were stored."""
        return cls(specification, **{name: arrays[name] for name in _COLUMNS})

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All columns, for storing."""
        return {name: getattr(self, name) for name in _COLUMNS}

    def put(self, cells: NDArray[np.int64] | slice, part: "FitTable") -> None:
        """Put the results of some cells in their places."""
        for name, values in part.arrays().items():
            getattr(self, name)[cells] = values

    def estimate(self, name: str) -> Array:
        """(c,) estimates of one parameter."""
        return self.estimates[:, [one.name for one in self.specification.model.parameters].index(name)]

    def error(self, name: str) -> Array:
        """(c,) standard errors of one parameter."""
        return self.errors[:, [one.name for one in self.specification.model.parameters].index(name)]


def fit_traces(
    times_h: Array,
    values: Array,
    offsets: NDArray[np.int64],
    specification: FitSpecification,
    fovs: NDArray[np.int32] | None = None,
) -> FitTable:
    """Fit all traces, here and now.

    Parameters
    ----------
    times_h, values
        (rows,) time in hours and value of each row, in any order within a cell; those that are not finite do not count.
    offsets
        (c + 1,) where the rows of each cell begin.
    fovs
        (c,) FOV of each cell; cells of a FOV mostly have the same times, which makes the work faster.
    """
    table = FitTable.empty(specification, len(offsets) - 1)
    for block in make_blocks(times_h, values, offsets, fovs):
        table.put(block.cells, fit_block(block, specification))
    return table


def make_blocks(
    times_h: Array, values: Array, offsets: NDArray[np.int64], fovs: NDArray[np.int32] | None = None
) -> list[Block]:
    """Arrange traces in blocks; for the parameters see `fit_traces`."""
    n_cells = len(offsets) - 1
    fovs = np.zeros(n_cells, np.int32) if fovs is None else fovs
    groups: dict[bytes, list[Block]] = {}
    for fov in np.unique(fovs):
        for block in _blocks_of_fov(times_h, values, offsets, np.flatnonzero(fovs == fov)):
            groups.setdefault(block.times_h.tobytes(), []).append(block)
    return [
        Block(
            blocks[0].times_h,
            np.concatenate([block.values for block in blocks]),
            np.concatenate([block.cells for block in blocks]),
        )
        for blocks in groups.values()
    ]


def _blocks_of_fov(
    times_h: Array, values: Array, offsets: NDArray[np.int64], cells: NDArray[np.int64]
) -> Iterator[Block]:
    """Arrange the cells of one FOV: together, where they mostly share their times, or each for itself."""
    counts = offsets[cells + 1] - offsets[cells]
    rows = _rows(offsets, cells)
    own_times, own_values, n_most = times_h[rows], values[rows], int(counts.max())
    # Mostly, all cells have the times of the one that is seen longest.
    times = np.sort(own_times[_nth(counts, int(counts.argmax()))])
    if (
        (counts == n_most).all()
        and (own_times.reshape(len(cells), n_most) == times).all()
        and (np.diff(times) > 0).all()
    ):
        yield Block(times, own_values.reshape(len(cells), n_most), cells)
        return
    owners = np.repeat(np.arange(len(cells)), counts)
    usable = np.isfinite(own_times)
    own_times, own_values, owners = own_times[usable], own_values[usable], owners[usable]
    times = np.unique(own_times)
    places = np.searchsorted(times, own_times)
    keys = owners * np.int64(max(len(times), 1)) + places
    repeated = not (np.diff(keys) > 0).all() and len(np.unique(keys)) < len(keys)
    if not repeated and len(keys) >= _LEAST_FILL * len(times) * len(cells):
        dense = np.full((len(cells), len(times)), np.nan)
        dense[owners, places] = own_values
        yield Block(times, dense, cells)
        return
    order = np.lexsort((own_times, owners))
    bounds = np.searchsorted(owners[order], np.arange(len(cells) + 1))
    for i, cell in enumerate(cells):
        own = order[bounds[i] : bounds[i + 1]]
        yield Block(own_times[own], own_values[own][np.newaxis], np.array([cell]))


def _rows(offsets: NDArray[np.int64], cells: NDArray[np.int64]) -> slice | NDArray[np.int64]:
    """Rows of some cells, which mostly are one after the other."""
    if (np.diff(cells) == 1).all():
        return slice(offsets[cells[0]], offsets[cells[-1] + 1])
    return np.concatenate([np.arange(offsets[cell], offsets[cell + 1]) for cell in cells])


def _nth(counts: NDArray[np.int64], i: int) -> slice:
    """Rows of the i-th of some cells."""
    first = int(counts[:i].sum())
    return slice(first, first + int(counts[i]))


def fit_block(block: Block, specification: FitSpecification, on_cells: CellListener | None = None) -> FitTable:
    """Fit the cells of a block.

    Parameters
    ----------
    on_cells
        Told after every few hundred cells how many are done.
    """
    model = specification.model
    shapes = shapes_of(model)
    problem = _problem(specification)
    grid = _make_grid(block.times_h, specification)
    fill_grid(shapes, block.times_h, problem.given, grid)
    n_cells, n_unknown = len(block.values), len(model.searched) + len(model.linear)
    fits = Fits(
        estimates=np.full((n_cells, n_unknown), np.nan),
        errors=np.full((n_cells, n_unknown), np.nan),
        places=np.zeros((n_cells, n_unknown), np.int8),
        r_squared=np.full(n_cells, np.nan),
        n_points=np.zeros(n_cells, np.int32),
        endings=np.zeros(n_cells, np.int8),
        error_endings=np.zeros(n_cells, np.int8),
    )
    for first in range(0, n_cells, _BATCH):
        batch = slice(first, min(first + _BATCH, n_cells))
        fit_cells(shapes, problem, grid, block.times_h, block.values[batch], fits.part(batch))
        if on_cells is not None:
            on_cells(batch.stop)
    return _table(specification, fits)


def _problem(specification: FitSpecification) -> Problem:
    model, values, bounds = specification.model, specification.values, specification.bounds
    linear = [bounds.get(one.name, (values[one.name], values[one.name])) for one in model.linear]
    searched = [bounds[one.name] for one in model.searched]
    return Problem(
        given=np.array([values[one.name] for one in model.given]),
        searched_low=np.array([low for low, _ in searched]),
        searched_high=np.array([high for _, high in searched]),
        rates=np.array([one.role == "rate" for one in model.searched], np.bool_),
        linear_low=np.array([low for low, _ in linear]),
        linear_high=np.array([high for _, high in linear]),
        loss=_LOSSES[specification.loss],
        loss_scale=specification.loss_scale or np.nan,
    )


def _make_grid(times_h: Array, specification: FitSpecification) -> Grid:
    """Lay out where the search may begin: the user's start, and a grid over what the times can tell apart."""
    searched = specification.model.searched
    axes = [_grid_axis(one, specification.bounds[one.name], times_h) for one in searched]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes)) if axes else np.empty((0, 0))
    starts = np.concatenate([[[specification.values[one.name] for one in searched]], points])
    n_linear = len(specification.model.linear)
    return Grid(
        starts=starts,
        shape=np.array([len(axis) for axis in axes], np.int64),
        phi=np.empty((len(starts), n_linear, len(times_h))),
        gram=np.empty((len(starts), n_linear, n_linear)),
    )


def _grid_axis(parameter: Parameter, bounds: tuple[float, float], times_h: Array) -> Array:
    low, high = bounds
    span = float(times_h[-1] - times_h[0]) if len(times_h) > 1 else 0.0
    span = span if span > 0 else 1.0
    if parameter.role == "time":
        first, last = np.clip([times_h[0] - span, times_h[-1]] if len(times_h) else [low, high], low, high)
        n_points = min(3 + int(_STARTS_PER_FILM * (last - first) / span), 2 * _MOST_STARTS)
        return np.linspace(first, last, n_points) if first < last else np.array([first])
    steps = np.diff(times_h)
    step = float(np.median(steps[steps > 0])) if np.any(steps > 0) else span
    first, last = np.clip([1.0 / (_FILM_LENGTHS * span), 1.0 / step], max(low, np.finfo(float).tiny), high)
    if first >= last:
        return np.array([first])
    n_points = min(2 + int(_STARTS_PER_DECADE * np.log10(last / first)), _MOST_STARTS)
    axis: Array = np.geomspace(first, last, n_points)
    return np.clip(axis, low, high)


def _table(specification: FitSpecification, fits: Fits) -> FitTable:
    """Bring what the solver says into the catalogue's order, and into words."""
    model = specification.model
    table = FitTable.empty(specification, len(fits.endings))
    table.success[:] = fits.endings == CONVERGED
    table.n_points[:] = fits.n_points
    table.r_squared[:] = np.where(table.success, fits.r_squared, np.nan)
    order = [one.name for one in (*model.searched, *model.linear)]
    for i, parameter in enumerate(model.parameters):
        if parameter.fixed:
            table.estimates[:, i] = specification.values[parameter.name]
            table.places[:, i] = 2
            continue
        column = order.index(parameter.name)
        table.estimates[:, i] = np.where(table.success, fits.estimates[:, column], np.nan)
        table.errors[:, i] = np.where(table.success, fits.errors[:, column], np.nan)
        table.places[:, i] = np.where(table.success, fits.places[:, column], 0)
    for code, reason in _FAILURES.items():
        table.reasons[fits.endings == code] = reason
    table.reasons[table.success & np.isnan(fits.r_squared)] = _CONSTANT
    for code, reason in _NO_ERRORS.items():
        table.reasons[table.success & (fits.error_endings == code)] = reason
    return table


def bound_names(table: FitTable) -> list[str]:
    """Names of the parameters at a bound, for each cell, separated by spaces."""
    names = [one.name for one in table.specification.model.parameters]
    at_bound = (table.places == AT_LOW) | (table.places == AT_HIGH)
    return [" ".join(name for name, there in zip(names, row, strict=True) if there) for row in at_bound.tolist()]
