"""The solver: variable projection inside a bounded Levenberg-Marquardt, for one trace after the other.

A model is linear in most of its parameters. For every choice of the others, the searched ones, the best linear ones
inside their bounds are known in closed form; so the search goes on in one or two dimensions only, and needs no start
values for the rest (Golub and Pereyra 1973; the derivative is Kaufman's of 1975, whose gradient is exact). It begins
at the best points of a grid, whose functions of time are computed once for all cells that share their times.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.fitting.catalog import Shapes
from tasks.fitting.linear_algebra import (
    AT_HIGH,
    AT_LOW,
    FIXED,
    FREE,
    dot,
    minimise_in_box,
    orthogonalise,
    singular_values,
    subtract,
)
from tasks.kernel import kernel

Array = NDArray[np.float64]
Places = NDArray[np.int8]

LINEAR_LOSS, SOFT_L1_LOSS, HUBER_LOSS, CAUCHY_LOSS = 0, 1, 2, 3

CONVERGED, TOO_FEW_POINTS, NOT_CONVERGED, NOT_FINITE = 0, 1, 2, 3
"""How a fit ended."""
ERRORS_KNOWN, ILL_CONDITIONED, ALL_AT_BOUNDS = 0, 1, 2
"""What can be said of the standard errors."""

WORST_CONDITION = 1e8
"""Condition number of the scaled Jacobian above which the data do not tell the parameters apart."""

_MOST_DESCENTS = 4
_NEARLY_AS_LOW = 2.0
_MOST_STEPS = 200
_MOST_REWEIGHTINGS = 1000
_TOLERANCE = 1e-10
"""Share of the sum of squares below which a step is not worth taking: a hundred thousandth of a standard error."""
_ROUNDING = 1e-30
"""Share of the sum of squared values that residuals have by rounding alone."""
_LEAST_ROOT = 1e-8
_LEAST_SHRINKING = 0.1
"""A rate is not made smaller than this part of itself in one step: what matters of it is the order of magnitude."""
_SLOWEST = 1e-4
"""Rate times length of the film below which a rate might as well be zero."""
_LEAST_DAMPING, _FIRST_DAMPING, _MOST_DAMPING = 1e-12, 1e-3, 1e12


class Problem(NamedTuple):
    """What is asked of all traces alike."""

    given: Array
    """(q,) rates and times that are fixed."""
    searched_low: Array
    """(k,) bounds of the searched parameters."""
    searched_high: Array
    rates: NDArray[np.bool_]
    """(k,) which of the searched parameters are rates."""
    linear_low: Array
    """(m,) bounds of the linear parameters; both are the value where one is fixed."""
    linear_high: Array
    loss: int
    """One of the losses above."""
    loss_scale: float
    """Residual at which a point begins to count as an outlier; NaN to take the noise of each trace."""


class Grid(NamedTuple):
    """Where the search may begin."""

    starts: Array
    """(g, k) values of the searched parameters; the first is the user's, the others are on a grid."""
    shape: NDArray[np.int64]
    """(k,) points of the grid along each searched parameter, the last varying fastest."""
    phi: Array
    """(g, m, n) functions of time at each start."""
    gram: Array
    """(g, m, m) their products, summed over time."""


class Fits(NamedTuple):
    """What came out, for each of c cells; parameters are the k searched, then the m linear ones."""

    estimates: Array
    """(c, k + m)"""
    errors: Array
    """(c, k + m) standard errors; NaN where there is none."""
    places: Places
    """(c, k + m) `FREE`, `AT_LOW`, `AT_HIGH` or `FIXED`."""
    r_squared: Array
    """(c,) NaN for a constant trace."""
    n_points: NDArray[np.int32]
    """(c,)"""
    endings: Places
    """(c,) `CONVERGED` or why not."""
    error_endings: Places
    """(c,) `ERRORS_KNOWN` or why not."""

    def part(self, cells: slice) -> "Fits":
        """The rows of some cells, to be filled in."""
        return Fits(
            self.estimates[cells],
            self.errors[cells],
            self.places[cells],
            self.r_squared[cells],
            self.n_points[cells],
            self.endings[cells],
            self.error_endings[cells],
        )


class _Trace(NamedTuple):
    """One trace, without the points that are missing."""

    times: Array
    values: Array
    roots: Array
    """(n,) square roots of the weights of the points."""


class _Point(NamedTuple):
    """Everything that is known at a choice of the searched parameters."""

    searched: Array
    linear: Array
    places: Places
    """(m,) of the linear parameters."""
    phi: Array
    slopes: Array
    q: Array
    """(m, n) orthonormal basis of the functions of the free linear parameters; the first rows of it."""
    r: Array
    n_free: NDArray[np.int64]
    """(1,) how many those are."""
    residuals: Array
    """(n,) weighted."""


@kernel
def fill_grid(shapes: Shapes, times: Array, given: Array, grid: Grid) -> None:
    """Compute the functions of time at all points of a grid."""
    n_starts, k = grid.starts.shape
    slopes = np.empty((grid.phi.shape[1], k, len(times)))
    for i in range(n_starts):
        shapes(times, grid.starts[i], given, grid.phi[i], slopes)
        for j in range(len(grid.phi[i])):
            for other in range(len(grid.phi[i])):
                grid.gram[i, j, other] = dot(grid.phi[i, j], grid.phi[i, other])


@kernel
def fit_cells(shapes: Shapes, problem: Problem, grid: Grid, times: Array, values: Array, fits: Fits) -> None:
    """Fit all cells of a block.

    Parameters
    ----------
    shapes
        Functions of time of the model, see `tasks.fitting.models`.
    times
        (n,) in hours, ascending.
    values
        (c, n) what was measured of each cell; NaN where there is nothing.
    fits
        Filled in.
    """
    k, m = len(problem.searched_low), len(problem.linear_low)
    n_fitted = k
    for i in range(m):
        n_fitted += problem.linear_low[i] < problem.linear_high[i]
    for cell in range(len(values)):
        present = np.isfinite(values[cell])
        n = np.count_nonzero(present)
        fits.n_points[cell] = n
        if n <= n_fitted:
            fits.endings[cell] = TOO_FEW_POINTS
            continue
        trace = _Trace(times[present], values[cell][present], np.ones(n))
        best, ending = _search(shapes, problem, grid, values[cell], present, trace)
        if problem.loss != LINEAR_LOSS and ending == CONVERGED:
            best, ending = _search_robustly(shapes, problem, trace, best)
        fits.endings[cell] = ending
        if ending == NOT_FINITE:
            continue
        fits.r_squared[cell] = _r_squared(trace, best)
        _describe(problem, trace, best, fits, cell)


@kernel
def _new_point(k: int, m: int, n: int) -> _Point:
    return _Point(
        np.empty(k), np.empty(m), np.empty(m, np.int8), np.empty((m, n)), np.empty((m, k, n)),
        np.empty((m, n)), np.empty((m, m)), np.zeros(1, np.int64), np.empty(n),
    )  # fmt: skip


@kernel
def _search(
    shapes: Shapes,
    problem: Problem,
    grid: Grid,
    values: Array,
    present: NDArray[np.bool_],
    trace: _Trace,
) -> tuple[_Point, int]:
    """Go down from the most promising starts to the lowest point."""
    k, m, n = len(problem.searched_low), len(problem.linear_low), len(trace.times)
    costs = _costs(problem, grid, values, present)
    lowest, ending = np.inf, NOT_FINITE
    best, here, trial = _new_point(k, m, n), _new_point(k, m, n), _new_point(k, m, n)
    for _ in range(_MOST_DESCENTS):
        start = int(np.argmin(costs))
        if not costs[start] < np.inf:
            break
        here.searched[:] = grid.starts[start]
        height = costs[start]
        costs[start] = costs[0] = np.inf  # the user's start is worth a descent only where it is the lowest of all
        here, trial, cost, ended = _descend(shapes, problem, trace, here, trial)
        # Where a descent has not come to its end, it says nothing of the starts around it.
        if ended != NOT_CONVERGED and not _leave_bounds(problem, grid, costs, here):
            _leave_valley(grid, costs, start, height)
        if cost < lowest:
            lowest, ending = cost, ended
            best, here = here, best
    return best, ending


@kernel
def _costs(problem: Problem, grid: Grid, values: Array, present: NDArray[np.bool_]) -> Array:
    """Sum of squares at each start, roughly: by the normal equations."""
    n_starts, m, n = grid.phi.shape
    complete = present.all()
    known = np.where(present, values, 0.0)
    mask = np.where(present, 1.0, 0.0)
    total = dot(known, known)
    costs = np.empty(n_starts)
    matrix, vector, linear, places = np.empty((m, m)), np.empty(m), np.empty(m), np.empty(m, np.int8)
    masked = np.empty(n)
    for start in range(n_starts):
        for i in range(m):
            phi = grid.phi[start, i]
            vector[i] = dot(phi, known)
            if not complete:
                for t in range(n):
                    masked[t] = phi[t] * mask[t]
            for j in range(i + 1):
                if complete:
                    matrix[i, j] = matrix[j, i] = grid.gram[start, i, j]
                else:
                    matrix[i, j] = matrix[j, i] = dot(masked, grid.phi[start, j])
        costs[start] = np.inf
        if minimise_in_box(matrix, vector, problem.linear_low, problem.linear_high, linear, places):
            cost = total
            for i in range(m):
                cost += linear[i] * (dot(matrix[i], linear) - 2.0 * vector[i])
            costs[start] = cost
    return costs


@kernel
def _leave_bounds(problem: Problem, grid: Grid, costs: Array, point: _Point) -> bool:
    """Strike out the half of the grid that lies towards the bounds that a descent has ended at.

    The lowest point may as well be there as far inside, where a coarse grid has missed it: valleys are narrow in time.

    Returns
    -------
    bool
        Whether the point is at a bound at all.
    """
    at_bound = False
    stride = 1
    for axis in range(len(grid.shape) - 1, -1, -1):
        at_low = point.searched[axis] == problem.searched_low[axis]
        if at_low or point.searched[axis] == problem.searched_high[axis]:
            at_bound = True
            for start in range(1, len(costs)):
                place = (start - 1) // stride % grid.shape[axis]
                if (2 * place < grid.shape[axis]) == at_low:
                    costs[start] = np.inf
        stride *= grid.shape[axis]
    return at_bound


@kernel
def _leave_valley(grid: Grid, costs: Array, start: int, height: float) -> None:
    """Strike out the starts from which the grid goes down to this one, so that the next is in another valley.

    Those that are nearly as low stay, except for the next neighbours: a coarse grid does not tell valleys apart there.
    """
    waiting = np.empty(len(costs), np.int64)
    levels = np.full(len(costs), np.inf)  # of the starts that are seen to lie in the valley
    waiting[0], levels[start] = start, height
    n_waiting = 1 if start > 0 else 0
    while n_waiting > 0:
        n_waiting -= 1
        here = waiting[n_waiting]
        stride = 1
        for axis in range(len(grid.shape) - 1, -1, -1):
            place = (here - 1) // stride % grid.shape[axis]
            for direction in (-1, 1):
                neighbour = here + direction * stride
                inside = 0 <= place + direction < grid.shape[axis]
                if inside and levels[neighbour] == np.inf and levels[here] <= costs[neighbour] < np.inf:
                    waiting[n_waiting], levels[neighbour] = neighbour, costs[neighbour]
                    n_waiting += 1
                    if here == start or costs[neighbour] > _NEARLY_AS_LOW * height:
                        costs[neighbour] = np.inf
            stride *= grid.shape[axis]


@kernel
def _descend(
    shapes: Shapes,
    problem: Problem,
    trace: _Trace,
    here: _Point,
    trial: _Point,
) -> tuple[_Point, _Point, float, int]:
    """Go down from a point by damped Gauss-Newton steps inside the bounds.

    Returns
    -------
    tuple
        The lowest point, a spare one, the sum of squares, and how it ended.
    """
    k, n = len(here.searched), len(trace.times)
    cost = _evaluate(shapes, problem, trace, here)
    if not cost < np.inf:
        return here, trial, cost, NOT_FINITE
    if k == 0:
        return here, trial, cost, CONVERGED
    least = _ROUNDING * dot(trace.values, trace.values)
    columns, hessian, damped = np.empty((k, n)), np.empty((k, k)), np.empty((k, k))
    downhill, low, high, step, places = np.empty(k), np.empty(k), np.empty(k), np.empty(k), np.empty(k, np.int8)
    damping, growth = _FIRST_DAMPING, 2.0
    slowest = _SLOWEST / max(trace.times[-1] - trace.times[0], _SLOWEST)
    moved = True
    for _ in range(_MOST_STEPS):
        if cost <= least:
            return here, trial, cost, CONVERGED
        if moved:
            _differentiate(trace, here, columns)
            for i in range(k):
                downhill[i] = dot(columns[i], here.residuals)
                low[i] = problem.searched_low[i] - here.searched[i]
                if problem.rates[i] and here.searched[i] > slowest:
                    low[i] = max(low[i], (_LEAST_SHRINKING - 1.0) * here.searched[i])
                high[i] = problem.searched_high[i] - here.searched[i]
                for j in range(i + 1):
                    hessian[i, j] = hessian[j, i] = dot(columns[i], columns[j])
        damped[:] = hessian
        for i in range(k):
            damped[i, i] *= 1.0 + damping
        if not minimise_in_box(damped, downhill, low, high, step, places):
            return here, trial, cost, NOT_FINITE
        expected = 0.0
        for i in range(k):
            expected += step[i] * (2.0 * downhill[i] - dot(hessian[i], step))
        if expected <= _TOLERANCE * cost:
            return here, trial, cost, CONVERGED
        for i in range(k):
            trial.searched[i] = min(max(here.searched[i] + step[i], problem.searched_low[i]), problem.searched_high[i])
            if places[i] == AT_LOW and low[i] == problem.searched_low[i] - here.searched[i]:
                trial.searched[i] = problem.searched_low[i]
            elif places[i] == AT_HIGH:
                trial.searched[i] = problem.searched_high[i]
        trial_cost = _evaluate(shapes, problem, trace, trial)
        gain = (cost - trial_cost) / expected
        moved = gain > 0.0
        if moved:
            here, trial = trial, here
            gained = cost - trial_cost
            cost = trial_cost
            if gained <= _TOLERANCE * cost:
                return here, trial, cost, CONVERGED
            damping = max(damping * max(1 / 3, 1.0 - (2.0 * gain - 1.0) ** 3), _LEAST_DAMPING)
            growth = 2.0
        else:
            damping *= growth
            growth *= 2.0
            if damping > _MOST_DAMPING:
                return here, trial, cost, CONVERGED
    return here, trial, cost, NOT_CONVERGED


@kernel
def _evaluate(shapes: Shapes, problem: Problem, trace: _Trace, point: _Point) -> float:
    """Compute everything at the point's searched parameters; returns the sum of squares."""
    m, n = point.phi.shape
    shapes(trace.times, point.searched, problem.given, point.phi, point.slopes)
    for i in range(m):
        for t in range(n):
            point.phi[i, t] *= trace.roots[t]
        point.places[i] = FREE if problem.linear_low[i] < problem.linear_high[i] else FIXED
    solved = _solve_linear(problem, trace, point)
    if not solved:
        solved = _solve_bounded(problem, trace, point)
    if not solved:
        return np.inf
    return dot(point.residuals, point.residuals)


@kernel
def _solve_linear(problem: Problem, trace: _Trace, point: _Point) -> bool:
    """Solve for the free linear parameters, those that are not free being where they are.

    Returns
    -------
    bool
        Whether the solution is unique and inside the bounds.
    """
    m, n = point.phi.shape
    for t in range(n):
        point.residuals[t] = trace.values[t] * trace.roots[t]
    n_free = 0
    for i in range(m):
        if point.places[i] == FREE:
            point.q[n_free] = point.phi[i]
            n_free += 1
        else:
            high = point.places[i] == AT_HIGH
            point.linear[i] = problem.linear_high[i] if high else problem.linear_low[i]
            subtract(point.residuals, point.linear[i], point.phi[i])
    point.n_free[0] = n_free
    inside = orthogonalise(point.q[:n_free], point.r)
    shares = np.empty(n_free)
    for j in range(n_free):
        shares[j] = dot(point.q[j], point.residuals)
        subtract(point.residuals, shares[j], point.q[j])
    j = n_free
    for i in range(m - 1, -1, -1):
        if point.places[i] != FREE:
            continue
        j -= 1
        value = shares[j]
        for other in range(j + 1, n_free):
            value -= point.r[j, other] * shares[other]
        shares[j] = value / point.r[j, j] if point.r[j, j] > 0.0 else 0.0
        point.linear[i] = shares[j]
        inside &= problem.linear_low[i] <= shares[j] <= problem.linear_high[i]
    return inside


@kernel
def _solve_bounded(problem: Problem, trace: _Trace, point: _Point) -> bool:
    """Solve for the linear parameters where some of them are at their bounds."""
    m = len(point.linear)
    matrix, vector = np.empty((m, m)), np.empty(m)
    values = trace.values * trace.roots
    for i in range(m):
        vector[i] = dot(point.phi[i], values)
        for j in range(i + 1):
            matrix[i, j] = matrix[j, i] = dot(point.phi[i], point.phi[j])
    if not minimise_in_box(matrix, vector, problem.linear_low, problem.linear_high, point.linear, point.places):
        return False
    for i in range(m):
        if problem.linear_low[i] == problem.linear_high[i]:
            point.places[i] = FIXED
    _solve_linear(problem, trace, point)
    for i in range(m):
        point.linear[i] = min(max(point.linear[i], problem.linear_low[i]), problem.linear_high[i])
    return True


@kernel
def _differentiate(trace: _Trace, point: _Point, columns: Array) -> None:
    """Derivatives of the fitted curve by the searched parameters, the linear ones following in their best way."""
    m, k, _ = point.slopes.shape
    for j in range(k):
        columns[j] = 0.0
        for i in range(m):
            subtract(columns[j], -point.linear[i], point.slopes[i, j])
        for t in range(len(trace.roots)):
            columns[j, t] *= trace.roots[t]
        for i in range(point.n_free[0]):
            subtract(columns[j], dot(point.q[i], columns[j]), point.q[i])


@kernel
def _search_robustly(shapes: Shapes, problem: Problem, trace: _Trace, point: _Point) -> tuple[_Point, int]:
    """Give outliers less and less weight until nothing changes: iteratively reweighted least squares."""
    scale = _loss_scale(problem, trace)
    trial = _new_point(len(point.searched), len(point.linear), len(trace.times))
    if scale == 0.0:
        return point, CONVERGED
    cost = np.inf
    for _ in range(_MOST_REWEIGHTINGS):
        now = 0.0
        for t in range(len(trace.times)):
            z = (point.residuals[t] / (trace.roots[t] * scale)) ** 2
            value, slope, _ = _loss(problem.loss, z)
            trace.roots[t] = max(np.sqrt(slope), _LEAST_ROOT)
            now += value
        if cost - now <= _TOLERANCE * now:
            _evaluate(shapes, problem, trace, point)  # with the weights that belong to it
            return point, CONVERGED
        cost = now
        point, trial, _, ending = _descend(shapes, problem, trace, point, trial)
        if ending != CONVERGED:
            return point, ending
    return point, NOT_CONVERGED


@kernel
def _loss(kind: int, z: float) -> tuple[float, float, float]:
    """Loss of a squared residual, and its first two derivatives, as in scipy.optimize.least_squares."""
    if kind == SOFT_L1_LOSS:
        root = np.sqrt(1.0 + z)
        return 2.0 * (root - 1.0), 1.0 / root, -0.5 / root**3
    if kind == HUBER_LOSS:
        if z <= 1.0:
            return z, 1.0, 0.0
        return 2.0 * np.sqrt(z) - 1.0, 1.0 / np.sqrt(z), -0.5 / z**1.5
    if kind == CAUCHY_LOSS:
        return np.log1p(z), 1.0 / (1.0 + z), -1.0 / (1.0 + z) ** 2
    return z, 1.0, 0.0


@kernel
def _loss_scale(problem: Problem, trace: _Trace) -> float:
    """Residual at which a point begins to count as an outlier; 0 where there is no noise to tell it by."""
    if problem.loss_scale > 0.0 or len(trace.values) < 3:
        return problem.loss_scale if problem.loss_scale > 0.0 else 0.0
    # Second differences of noise of deviation 1 deviate by sqrt(6); those of a smooth curve are small.
    bends = trace.values[2:] - 2.0 * trace.values[1:-1] + trace.values[:-2]
    return float(1.4826 * np.median(np.abs(bends)) / np.sqrt(6.0))


@kernel
def _r_squared(trace: _Trace, point: _Point) -> float:
    """Share of the variance that is explained, of the points as they are; NaN for a constant trace."""
    deviations = trace.values - np.mean(trace.values)
    residuals = point.residuals / trace.roots
    total = dot(deviations, deviations)
    if total <= _ROUNDING * dot(trace.values, trace.values):
        return np.nan
    return float(1.0 - dot(residuals, residuals) / total)


@kernel
def _describe(problem: Problem, trace: _Trace, point: _Point, fits: Fits, cell: int) -> None:
    """Note the parameters, which of them are at a bound, and the standard errors of the others."""
    m, k, n = point.slopes.shape
    fitted = np.empty(k + m, np.int64)
    columns = np.empty((k + m, n))
    n_fitted = n_free = 0
    for j in range(k):
        value = point.searched[j]
        place = AT_LOW if value == problem.searched_low[j] else AT_HIGH if value == problem.searched_high[j] else FREE
        fits.estimates[cell, j], fits.places[cell, j] = value, place
        fitted[n_fitted] = j
        columns[n_fitted] = 0.0
        for i in range(m):
            subtract(columns[n_fitted], -point.linear[i], point.slopes[i, j])
        n_fitted += 1
        n_free += place == FREE
    for i in range(m):
        value, place = point.linear[i], point.places[i]
        if place == FREE and value == problem.linear_low[i]:
            place = AT_LOW
        elif place == FREE and value == problem.linear_high[i]:
            place = AT_HIGH
        fits.estimates[cell, k + i], fits.places[cell, k + i] = value, place
        if place != FIXED:
            fitted[n_fitted] = k + i
            columns[n_fitted] = point.phi[i] / trace.roots
            n_fitted += 1
            n_free += place == FREE
    if n_free == 0:
        fits.error_endings[cell] = ALL_AT_BOUNDS
        return
    norms = np.empty(n_fitted)
    for j in range(n_fitted):
        norms[j] = np.sqrt(dot(columns[j], columns[j]))
        columns[j] /= norms[j]
    r, vectors, values = np.zeros((n_fitted, n_fitted)), np.empty((n_fitted, n_fitted)), np.empty(n_fitted)
    independent = norms.min() > 0.0 and orthogonalise(columns[:n_fitted], r)
    if independent:
        singular_values(r, vectors, values)
    if not independent or values.max() > WORST_CONDITION * values.min():
        fits.error_endings[cell] = ILL_CONDITIONED
        return
    deviation = _deviation(problem, trace, point, n_fitted)
    for j in range(n_fitted):
        variance = 0.0
        for i in range(n_fitted):
            variance += (vectors[j, i] / values[i]) ** 2
        if fits.places[cell, fitted[j]] == FREE:
            fits.errors[cell, fitted[j]] = deviation * np.sqrt(variance) / norms[j]
    fits.error_endings[cell] = ERRORS_KNOWN


@kernel
def _deviation(problem: Problem, trace: _Trace, point: _Point, n_fitted: int) -> float:
    """Standard deviation of the noise, as it counts for the standard errors: Huber's, where the loss is not linear."""
    n = len(trace.values)
    scale = _loss_scale(problem, trace)
    if problem.loss == LINEAR_LOSS or scale == 0.0:
        return float(np.sqrt(dot(point.residuals, point.residuals) / (n - n_fitted)))
    total = steepness = 0.0
    for t in range(n):
        residual = point.residuals[t] / trace.roots[t]
        z = (residual / scale) ** 2
        _, slope, bend = _loss(problem.loss, z)
        total += (residual * slope) ** 2
        steepness += slope + 2.0 * z * bend
    return float(np.sqrt(total / (n - n_fitted)) / (max(steepness, 1.0) / n))
