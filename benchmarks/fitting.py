"""How fast and how right fits are, on simulated cells: `python -m benchmarks.fitting --help`.

Speed is processor time on one core, beside bare scipy.optimize.least_squares with the same start and bounds. Right
means: the onset is found, no residual is worse than scipy's, and intervals of 95 % cover the truth in 95 % of cases.
"""

import argparse
from time import process_time

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.stats import t as student

from benchmarks.test_fitting import FIXED, MODEL, TIMES_H
from tasks.fitting.catalog import FITTING_MODELS
from tasks.fitting.fit import FitTable, fit_traces
from tasks.fitting.request import FitSpecification
from tests.oracles import fitting as oracle

Array = NDArray[np.float64]

_FILM_H = 30.0
_TIME_CONSTANTS = (0.1, 0.3, 1.0, 3.0, 10.0)
"""In film lengths."""


def main() -> None:
    """Simulate, fit, and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fitting", description=__doc__)
    parser.add_argument("--cells", type=int, default=4000, help="cells to fit")
    parser.add_argument("--scipy-cells", type=int, default=1000, help="cells to fit with scipy as well")
    options = parser.parse_args()
    compare(options.cells, options.scipy_cells)
    for n_points in (36, 180):
        for time_constant in _TIME_CONSTANTS:
            cover(options.cells, n_points, time_constant)


def compare(n_cells: int, n_scipy: int) -> None:
    """Fit transfections, and some of them with scipy."""
    rng = np.random.default_rng(0)
    truth = {
        "t0": rng.uniform(0.3, 0.9, n_cells),
        "ktl": rng.lognormal(np.log(900), 0.4, n_cells),
        "delta": rng.uniform(0.04, 0.12, n_cells),
        "offset": rng.normal(0, 50, n_cells),
    }
    values = np.array([_curve({name: one[i] for name, one in truth.items()}) for i in range(n_cells)])
    values += rng.normal(0, 20, values.shape)
    asked = FitSpecification.of(MODEL)
    _fit(TIMES_H, values[:10], asked)
    start = process_time()
    table = _fit(TIMES_H, values, asked)
    own_ms = 1e3 * (process_time() - start) / n_cells
    names = list(asked.bounds)
    low, high = np.array([asked.bounds[name] for name in names]).T
    start = process_time()
    begin = [asked.values[name] for name in names]
    costs = [
        2 * least_squares(_residuals, begin, bounds=(low, high), args=(trace, names)).cost for trace in values[:n_scipy]
    ]
    scipy_ms = 1e3 * (process_time() - start) / n_scipy
    own = [
        np.sum(_residuals(np.array([table.estimate(name)[i] for name in names]), values[i], names) ** 2)
        for i in range(n_scipy)
    ]
    worse = np.mean(np.array(own) > np.array(costs) * (1 + 1e-6))
    close = np.mean(np.abs(table.estimate("t0") / truth["t0"] - 1) < 0.1)
    print(f"a trace: {own_ms:.4f} ms, scipy {scipy_ms:.2f} ms ({scipy_ms / own_ms:.0f} times as long)")
    print(f"t0 within 10 %: {close:.2%}; residual worse than scipy's by 1e-6: {worse:.2%}")


def cover(n_cells: int, n_points: int, time_constant: float) -> None:
    """Tell how often intervals of 95 % cover the truth, of the parameters that are not at a bound."""
    times = np.linspace(0, _FILM_H, n_points)
    slow, fast = 1 / (time_constant * _FILM_H), 1 / (0.1 * time_constant * _FILM_H)
    simulations = {
        "maturation": ({"amplitude": 5.0, "rate": slow, "offset": 0.5}, 0.005),
        "translation_maturation": ({"t0": 0.5, "ktl": 900.0, "delta": slow, "offset": 10.0, **FIXED}, 20.0),
        "maturation_blocked": ({"t0": 0.0, "G0": 1e3, "Gu0": 2e3, "km": fast, "beta": slow, "offset": 9.0}, 0.5),
    }
    for model_type, (truth, noise) in simulations.items():
        asked = FitSpecification.of(
            FITTING_MODELS[model_type], bounds={"rate": [1e-4, 10.0]} if "rate" in truth else {}
        )
        rng = np.random.default_rng(n_points)
        values = oracle.curve(model_type, times, truth) + noise * rng.normal(size=(n_cells, n_points))
        table = _fit(times, values, asked)
        quantile = student.ppf(0.975, n_points - len(asked.bounds))
        told = []
        for name in asked.bounds:
            known = np.isfinite(table.error(name))
            covered = np.abs(table.estimate(name) - truth[name])[known] < quantile * table.error(name)[known]
            told.append(f"{name} {covered.mean():.1%}" + (f" of {known.mean():.0%}" if known.mean() < 1 else ""))
        print(f"{model_type}, {n_points} points, time constant {time_constant:g} film lengths: {', '.join(told)}")


def _fit(times: Array, values: Array, asked: FitSpecification) -> FitTable:
    return fit_traces(np.tile(times, len(values)), values.ravel(), np.arange(len(values) + 1) * len(times), asked)


def _curve(parameters: dict[str, float]) -> Array:
    return oracle.curve(MODEL.name, TIMES_H, FIXED | parameters)


def _residuals(x: Array, trace: Array, names: list[str]) -> Array:
    return _curve(dict(zip(names, x.tolist(), strict=True))) - trace


if __name__ == "__main__":
    main()
