"""Fitting beside bare scipy, on simulated transfections: `pytest benchmarks/test_fitting.py --benchmark-only`.

The figures are for 1000 traces, and for 20 with scipy; all on one processor.
"""

import numpy as np
import pytest
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture
from scipy.optimize import least_squares

from tasks.fitting.catalog import FITTING_MODELS
from tasks.fitting.fit import fit_traces
from tasks.fitting.request import FitSpecification, Loss
from tests.oracles import fitting as oracle

TIMES_H = np.arange(180) / 6.0
FIXED = {"km": 1.28, "beta": 5.22e-3}
MODEL = FITTING_MODELS["translation_maturation"]


def transfections(n_cells: int) -> NDArray[np.float64]:
    """(c, 180) traces, every 10 min."""
    rng = np.random.default_rng(0)
    curves = [
        oracle.curve(
            MODEL.name,
            TIMES_H,
            FIXED
            | {
                "t0": rng.uniform(0.3, 0.9),
                "ktl": rng.lognormal(np.log(900), 0.4),
                "delta": rng.uniform(0.04, 0.12),
                "offset": rng.normal(0, 50),
            },
        )
        for _ in range(n_cells)
    ]
    return np.array(curves) + rng.normal(0, 20, (n_cells, len(TIMES_H)))


@pytest.mark.parametrize("loss", ["linear", "soft_l1"])
def test_fit_1000(benchmark: BenchmarkFixture, loss: Loss) -> None:
    values = transfections(1000)
    times = np.tile(TIMES_H, len(values))
    offsets = np.arange(len(values) + 1) * len(TIMES_H)
    asked = FitSpecification.of(MODEL, loss=loss)
    table = benchmark.pedantic(lambda: fit_traces(times, values.ravel(), offsets, asked), rounds=10, warmup_rounds=1)
    assert table.success.all()


def test_scipy_20(benchmark: BenchmarkFixture) -> None:
    values = transfections(20)
    asked = FitSpecification.of(MODEL)
    names = list(asked.bounds)
    bounds = np.array([asked.bounds[name] for name in names]).T
    start = [asked.values[name] for name in names]

    def residuals(x: NDArray[np.float64], trace: NDArray[np.float64]) -> NDArray[np.float64]:
        return oracle.curve(MODEL.name, TIMES_H, FIXED | dict(zip(names, x, strict=True))) - trace

    def fit_all() -> None:
        for trace in values:
            least_squares(residuals, start, bounds=(bounds[0], bounds[1]), args=(trace,))

    benchmark.pedantic(fit_all, rounds=3)
