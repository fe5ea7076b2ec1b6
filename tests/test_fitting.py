"""Fitting: held to scipy trace by trace, to simulated truth, and to what it says of traces that cannot be fitted."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import t as student

from tasks.errors import InvalidParametersError
from tasks.fitting.catalog import FITTING_MODELS
from tasks.fitting.fit import Block, FitTable, bound_names, fit_block, fit_traces, make_blocks
from tasks.fitting.request import FitSpecification, Loss
from tests.oracles import fitting as oracle

Array = NDArray[np.float64]
TIMES = np.arange(180) / 6.0


def specification(model_type: str = "translation_maturation", **asked: Any) -> FitSpecification:
    return FitSpecification.of(FITTING_MODELS[model_type], **asked)


def fit(values: Array, asked: FitSpecification, times: Array = TIMES) -> FitTable:
    """Fit (c, n) values that share their times."""
    n_cells, n = values.shape
    return fit_traces(np.tile(times, n_cells), values.ravel(), np.arange(n_cells + 1) * n, asked)


def transfection(n_cells: int, noise: float = 20.0, seed: int = 0) -> tuple[Array, dict[str, Array]]:
    """Simulated traces (c, 180), every 10 min, and their parameters."""
    rng = np.random.default_rng(seed)
    truth = {
        "t0": rng.uniform(0.3, 0.9, n_cells),
        "ktl": rng.lognormal(np.log(900), 0.4, n_cells),
        "delta": rng.uniform(0.04, 0.12, n_cells),
        "offset": rng.normal(0, 50, n_cells),
    }
    fixed = {"km": 1.28, "beta": 5.22e-3}
    curves = [
        oracle.curve("translation_maturation", TIMES, fixed | {name: values[i] for name, values in truth.items()})
        for i in range(n_cells)
    ]
    return np.array(curves) + noise * rng.normal(size=(n_cells, len(TIMES))), truth


def sum_of_squares(values: Array, table: FitTable, cell: int, times: Array = TIMES) -> float:
    names = [one.name for one in table.specification.model.parameters]
    parameters = dict(zip(names, table.estimates[cell], strict=True))
    return float(np.sum((oracle.curve(table.specification.model_type, times, parameters) - values) ** 2))


def test_no_residual_is_worse_than_scipys() -> None:
    values, _ = transfection(60)
    asked = specification()
    table = fit(values, asked)
    for cell in range(len(values)):
        best = 2 * oracle.fit(TIMES, values[cell], asked).cost
        assert sum_of_squares(values[cell], table, cell) <= best * (1 + 1e-6)


def test_onset_is_found() -> None:
    values, truth = transfection(2000)
    table = fit(values, specification())
    assert table.success.all()
    assert np.mean(np.abs(table.estimate("t0") / truth["t0"] - 1) < 0.1) >= 0.98


def test_without_noise_the_truth_is_found() -> None:
    values, truth = transfection(50, noise=0.0)
    table = fit(values, specification())
    for name, true in truth.items():
        np.testing.assert_allclose(table.estimate(name), true, rtol=1e-6, atol=1e-5)
    assert (table.r_squared > 1 - 1e-12).all()


SIMULATIONS: dict[str, tuple[dict[str, float], dict[str, list[float]], float]] = {
    "trivial": ({"amplitude": 4.0, "offset": 0.0}, {}, 0.3),
    "maturation": ({"amplitude": 4.0, "rate": 0.1, "offset": 0.5}, {}, 0.1),
    "translation_maturation": (
        {"t0": 0.6, "ktl": 900.0, "delta": 0.05, "offset": 20.0, "km": 1.28, "beta": 5.22e-3}, {}, 20.0,
    ),
    "maturation_blocked": ({"t0": 0.0, "G0": 800.0, "Gu0": 1500.0, "km": 0.8, "beta": 0.05, "offset": 10.0}, {}, 5.0),
}  # fmt: skip


@pytest.mark.parametrize("model_type", sorted(SIMULATIONS))
@pytest.mark.parametrize("n_points", [36, 180])
def test_intervals_cover_the_truth(model_type: str, n_points: int) -> None:
    truth, bounds, noise = SIMULATIONS[model_type]
    times = np.linspace(0, 30, n_points)
    rng = np.random.default_rng(n_points)
    values = oracle.curve(model_type, times, truth) + noise * rng.normal(size=(3000, n_points))
    asked = specification(model_type, bounds=bounds)
    table = fit(values, asked, times)
    quantile = student.ppf(0.975, n_points - len(asked.bounds))
    for name in asked.bounds:
        known = np.isfinite(table.error(name))
        assert known.mean() > 0.9
        covered = np.abs(table.estimate(name) - truth[name])[known] < quantile * table.error(name)[known]
        assert 0.935 < covered.mean() < 0.965, name


@pytest.mark.parametrize("model_type", sorted(SIMULATIONS))
def test_standard_errors_are_scipys(model_type: str) -> None:
    truth, bounds, noise = SIMULATIONS[model_type]
    values = oracle.curve(model_type, TIMES, truth) + noise * np.random.default_rng(1).normal(size=(3, len(TIMES)))
    asked = specification(model_type, bounds=bounds)
    table = fit(values, asked)
    for cell in range(3):
        slow = oracle.fit(TIMES, values[cell], asked, start=truth)
        for name in asked.bounds:
            assert table.estimate(name)[cell] == pytest.approx(slow.parameters[name], rel=1e-3, abs=1e-3)
            assert table.error(name)[cell] == pytest.approx(slow.errors[name], rel=2e-3)


@given(st.data(), st.sampled_from(sorted(SIMULATIONS)), st.integers(0, 10**6))
@settings(max_examples=40)
def test_inside_any_bounds_nothing_that_scipy_finds_is_better(data: st.DataObject, model_type: str, seed: int) -> None:
    truth, _, noise = SIMULATIONS[model_type]
    bounds = {}
    for one in FITTING_MODELS[model_type].fitted:
        low, high = one.bounds
        center = truth[one.name]
        width = max(abs(center), 0.1)
        cut = st.floats(-1.5, 1.5)
        low_cut, high_cut = sorted((data.draw(cut), data.draw(cut)))
        low, high = max(low, center + width * (low_cut - 0.3)), min(high, center + width * (high_cut + 0.3))
        bounds[one.name] = [low, high] if low < high else list(one.bounds)
    values = oracle.curve(model_type, TIMES, truth) + noise * np.random.default_rng(seed).normal(size=(1, len(TIMES)))
    asked = specification(model_type, bounds=bounds)
    table = fit(values, asked)
    assert table.success.all()
    for one in FITTING_MODELS[model_type].fitted:
        low, high = asked.bounds[one.name]
        assert low <= table.estimate(one.name)[0] <= high
    own = sum_of_squares(values[0], table, 0)
    for start in (asked.values, truth):
        assert own <= 2 * oracle.fit(TIMES, values[0], asked, start).cost * (1 + 1e-6)


@pytest.mark.parametrize("loss", ["soft_l1", "huber", "cauchy"])
def test_robust_losses_are_scipys(loss: Loss) -> None:
    values, truth = transfection(10)
    values[:, ::17] += 3000
    asked = specification(loss=loss, loss_scale=20.0)
    table = fit(values, asked)
    for cell in range(10):
        start = {name: values[cell] for name, values in truth.items()}
        slow = oracle.fit(TIMES, values[cell], asked, start)
        for name in asked.bounds:
            assert table.estimate(name)[cell] == pytest.approx(
                slow.parameters[name], abs=0.01 * table.error(name)[cell]
            ), name


@pytest.mark.parametrize("loss", ["soft_l1", "huber", "cauchy"])
def test_outliers_do_not_matter_to_robust_losses(loss: Loss) -> None:
    values, truth = transfection(300)
    values[np.random.default_rng(0).random(values.shape) < 0.03] += 5000
    plain, robust = fit(values, specification()), fit(values, specification(loss=loss))

    def close(table: FitTable) -> float:
        return float(np.mean(np.abs(table.estimate("t0") / truth["t0"] - 1) < 0.1))

    assert close(robust) > 0.95 > close(plain)


def test_user_start_is_a_start() -> None:
    """A valley so narrow that no grid point lies in it is found from the user's start."""
    times = np.arange(0, 1000.0)
    truth = {"t0": 500.3, "ktl": 1e4, "delta": 2.0, "offset": 10.0, "km": 1.28, "beta": 1.0}
    values = oracle.curve("translation_maturation", times, truth)[np.newaxis]
    values = values + np.random.default_rng(0).normal(size=values.shape)
    bounds = {"t0": [-1000.0, 1000.0]}
    table = fit(values, specification(params={"t0": 499.0, "delta": 1.0, "beta": 1.0}, bounds=bounds), times)
    assert table.estimate("t0")[0] == pytest.approx(500.3, abs=0.01)


def test_missing_values_and_order_do_not_matter() -> None:
    values, _ = transfection(20)
    asked = specification()
    rng = np.random.default_rng(3)
    holes = rng.random(values.shape) < 0.2
    with_holes = np.where(holes, np.where(rng.random(values.shape) < 0.5, np.nan, np.inf), values)
    dense = fit(with_holes, asked)
    rows = [rng.permutation(np.flatnonzero(~hole)) for hole in holes]
    ragged = fit_traces(
        np.concatenate([TIMES[row] for row in rows]),
        np.concatenate([values[cell][row] for cell, row in enumerate(rows)]),
        np.cumsum([0, *map(len, rows)]),
        asked,
    )
    assert (dense.n_points == (~holes).sum(axis=1)).all()
    np.testing.assert_array_equal(dense.n_points, ragged.n_points)
    np.testing.assert_allclose(dense.estimates, ragged.estimates, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(dense.errors, ragged.errors, rtol=1e-5)


def test_cells_of_their_own_times() -> None:
    rng = np.random.default_rng(4)
    truth, _, noise = SIMULATIONS["translation_maturation"]
    times = np.sort(rng.uniform(0, 30, (30, 100)), axis=1)
    values = np.array([oracle.curve("translation_maturation", own, truth) for own in times])
    values += noise * rng.normal(size=values.shape)
    table = fit_traces(times.ravel(), values.ravel(), np.arange(31) * 100, specification())
    alone = [
        fit_traces(own_times, own_values, np.array([0, 100]), specification())
        for own_times, own_values in zip(times, values, strict=True)
    ]
    np.testing.assert_array_equal(table.estimates, np.concatenate([one.estimates for one in alone]))
    np.testing.assert_allclose(np.median(table.estimate("t0")), 0.6, atol=0.1)


def test_cells_do_not_depend_on_each_other() -> None:
    values, _ = transfection(600)
    whole = fit(values, specification())
    (block,) = make_blocks(np.tile(TIMES, 600), values.ravel(), np.arange(601) * 180)
    part = fit_block(Block(block.times_h, block.values[411:432], block.cells[411:432]), specification())
    np.testing.assert_array_equal(whole.estimates[411:432], part.estimates)
    np.testing.assert_array_equal(whole.errors[411:432], part.errors)


def test_fovs_of_other_times_are_blocks_of_their_own() -> None:
    times = np.concatenate([np.arange(5.0), np.arange(5.0), np.arange(5.0) + 0.1, np.arange(5.0)])
    blocks = make_blocks(times, np.arange(20.0), np.arange(5) * 5, np.array([0, 0, 1, 2]))
    assert [block.cells.tolist() for block in blocks] == [[0, 1, 3], [2]]
    np.testing.assert_array_equal(blocks[0].values, np.arange(20.0).reshape(4, 5)[[0, 1, 3]])


def test_repeated_times_count_each() -> None:
    times = np.repeat(np.arange(30.0), 2)
    values = oracle.curve("maturation", times, {"amplitude": 3.0, "rate": 0.1, "offset": 1.0})
    table = fit_traces(times, values, np.array([0, 60]), specification("maturation"))
    assert table.n_points[0] == 60
    assert table.estimate("rate")[0] == pytest.approx(0.1, rel=1e-6)


@pytest.mark.parametrize("n_points", [0, 1, 2, 3])
def test_too_few_points(n_points: int) -> None:
    values = np.full((1, 180), np.nan)
    values[0, :n_points] = 1.0
    table = fit(values, specification("maturation"))
    assert not table.success[0]
    assert "too few points" in table.reasons[0]
    assert table.n_points[0] == n_points
    assert np.isnan(table.estimates[0]).all()
    assert np.isnan(table.r_squared[0])


def test_cell_without_rows() -> None:
    table = fit_traces(np.empty(0), np.empty(0), np.array([0, 0]), specification())
    assert not table.success[0]


@pytest.mark.parametrize("model_type", sorted(SIMULATIONS))
def test_constant_trace(model_type: str) -> None:
    table = fit(np.full((1, 180), 3.0), specification(model_type))
    assert table.success[0]
    assert np.isnan(table.r_squared[0])
    assert table.reasons[0]
    assert np.isfinite(table.estimates[0]).all()


def test_all_times_equal() -> None:
    table = fit(np.random.default_rng(0).normal(size=(1, 20)), specification(), np.full(20, 5.0))
    assert table.success[0]
    assert "standard errors" in table.reasons[0]
    assert np.isnan(table.errors[0]).all()


def test_values_too_large_to_compute_with() -> None:
    table = fit(np.linspace(0, 1e300, 180)[np.newaxis], specification())
    assert not table.success[0]
    assert "too large" in table.reasons[0]


def test_parameters_at_a_bound_are_told_and_have_no_error() -> None:
    values, _ = transfection(5)
    table = fit(values, specification(bounds={"t0": [-1.0, 0.1]}))
    assert bound_names(table) == ["t0"] * 5
    assert (table.estimate("t0") == 0.1).all()
    assert np.isnan(table.error("t0")).all()
    assert np.isfinite(table.error("ktl")).all()


def test_r_squared_is_not_clamped() -> None:
    values, _ = transfection(1)
    table = fit(values, specification(bounds={"ktl": [1.0, 2.0], "offset": [-10.0, 0.0]}))
    assert table.success[0]
    assert table.r_squared[0] < 0


def test_parameters_that_the_data_do_not_tell_apart_have_no_errors() -> None:
    times = np.linspace(0, 1e-7, 50)
    values = np.random.default_rng(0).normal(size=(1, 50))
    table = fit(values, specification("maturation", bounds={"amplitude": [-1e9, 1e9]}), times)
    assert np.isnan(table.errors[0]).all()
    assert "do not tell the parameters apart" in table.reasons[0]


def test_fixed_parameters_keep_what_they_are_given() -> None:
    values, _ = transfection(2)
    table = fit(values, specification(params={"km": 2.0, "beta": 0.01}))
    assert (table.estimate("km") == 2.0).all()
    assert np.isnan(table.error("km")).all()
    assert bound_names(table) == ["", ""]
    constant = fit(np.full((1, 10), 3.0), specification("trivial", params={"offset": -2.0}), np.arange(10.0))
    assert constant.estimate("amplitude")[0] == pytest.approx(5.0)


def test_listener_hears_of_all_cells_and_can_stop() -> None:
    values, _ = transfection(700)
    (block,) = make_blocks(np.tile(TIMES, 700), values.ravel(), np.arange(701) * 180)
    heard: list[int] = []
    fit_block(block, specification(), heard.append)
    assert heard == sorted(heard)
    assert heard[-1] == 700
    assert len(heard) > 1

    def stop(_: int) -> None:
        raise InvalidParametersError("stop")

    with pytest.raises(InvalidParametersError):
        fit_block(block, specification(), stop)


def test_documented_request() -> None:
    times = np.arange(100) / 6
    truth = {"amplitude": 6.0, "rate": 0.3, "offset": 1.0}
    values = oracle.curve("maturation", times, truth)[np.newaxis]
    asked = specification(
        "maturation",
        params={"amplitude": 1.0, "rate": 0.1, "offset": 0.0},
        bounds={"amplitude": [0.0, 10.0], "rate": [0.01, 1.0], "offset": [-1.0, 5.0]},
    )
    table = fit(values, asked, times)
    for name, true in truth.items():
        assert table.estimate(name)[0] == pytest.approx(true, rel=1e-6)
