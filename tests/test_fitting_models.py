"""The functions of time that models are made of, held to their equations in 120 digits."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tasks.fitting.catalog import FITTING_MODELS, ROLE_LIMITS, Parameter, Shapes
from tasks.fitting.exponentials import exponentials
from tasks.fitting.models import shapes_of
from tasks.kernel import kernel
from tests.oracles import fitting as oracle

Array = NDArray[np.float64]


@kernel
def call(shapes: Shapes, times: Array, searched: Array, given: Array, phi: Array, slopes: Array) -> None:
    """A kernel, because what is registered is called from kernels."""
    shapes(times, searched, given, phi, slopes)


def evaluate(model_type: str, times: Array, values: dict[str, float]) -> tuple[Array, dict[str, Array]]:
    """f(t), and its derivatives by the searched parameters, as the solver sees them."""
    model = FITTING_MODELS[model_type]
    k, m = len(model.searched), len(model.linear)
    phi, slopes = np.full((m, len(times)), np.nan), np.full((m, k, len(times)), np.nan)
    searched = np.array([values[one.name] for one in model.searched])
    fixed = np.array([values[one.name] for one in model.given])
    call(shapes_of(model), times, searched, fixed, phi, slopes)
    linear = np.array([values[one.name] for one in model.linear])
    return linear @ phi, {one.name: linear @ slopes[:, i] for i, one in enumerate(model.searched)}


def within(parameter: Parameter) -> st.SearchStrategy[float]:
    """Any value inside the bounds, small ones as likely as large ones."""
    low, high = parameter.bounds
    if parameter.role == "rate":
        return st.floats(np.log(low), np.log(high)).map(lambda x: float(np.clip(np.exp(x), low, high)))
    return st.floats(max(low, -1e4), min(high, 1e4))


def values_of(model_type: str) -> st.SearchStrategy[dict[str, float]]:
    return st.fixed_dictionaries({one.name: within(one) for one in FITTING_MODELS[model_type].parameters})


def assert_true(model_type: str, times: Array, values: dict[str, float]) -> None:
    found, slopes = evaluate(model_type, times, values)
    expected = np.array([oracle.value(model_type, t, values) for t in times])
    linear = {one.name for one in FITTING_MODELS[model_type].linear}
    size = sum(abs(values[name]) for name in linear)
    scale = np.abs(expected).max() + size * max(1.0, float(np.abs(times).max())) ** 2
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-13 * scale + 1e-300)
    for name, slope in slopes.items():
        true = np.array([oracle.slope(model_type, t, values, name) for t in times])
        np.testing.assert_allclose(slope, true, rtol=1e-7, atol=1e-9 * (np.abs(true).max() + 1e-3 * scale) + 1e-300)


TIMES = np.array([-3.0, -0.1, 0.0, 1e-6, 1e-3, 0.03, 0.17, 0.5, 1.0, 4.0, 17.0, 60.0, 200.0])


@pytest.mark.parametrize("model_type", sorted(FITTING_MODELS))
def test_default_parameters(model_type: str) -> None:
    assert_true(model_type, TIMES, {one.name: one.default for one in FITTING_MODELS[model_type].parameters})


@given(values_of("maturation"))
def test_maturation(values: dict[str, float]) -> None:
    assert_true("maturation", TIMES, values)


@given(values_of("maturation_blocked").map(lambda values: values | {"t0": values["t0"] / 1e3}))
@example({"t0": 0.0, "G0": 1.0, "Gu0": 1.0, "km": 1e-5, "beta": 1e-5, "offset": 0.0})
def test_maturation_blocked(values: dict[str, float]) -> None:
    assert_true("maturation_blocked", TIMES, values)


@given(values_of("translation_maturation"))
def test_translation_maturation(values: dict[str, float]) -> None:
    assert_true("translation_maturation", TIMES, values)


@pytest.mark.parametrize("km", [1.28, 0.03, 1e-5, 30.0])
@pytest.mark.parametrize("beta", [5.22e-3, 1e-5, 2.0])
@pytest.mark.parametrize("distance", [0.0, 1e-15, -1e-12, 1e-9, 1e-6, -1e-6, 1e-3, 0.02])
@pytest.mark.parametrize("near_mature", [True, False])
def test_translation_maturation_where_rates_come_close(
    km: float, beta: float, distance: float, near_mature: bool
) -> None:
    rate = beta if near_mature else beta + km
    delta = min(max(rate * (1 + distance), 1e-5), 40.0)
    values = {"t0": 0.1, "ktl": 3.0, "delta": delta, "offset": 0.5, "km": km, "beta": beta}
    assert_true("translation_maturation", TIMES, values)


def test_singularities_are_exact() -> None:
    times = np.linspace(-1, 100, 300)
    for delta in (5.22e-3, 5.22e-3 + 1.28):
        values = {"t0": 0.2, "ktl": 900.0, "delta": delta, "offset": 0.0, "km": 1.28, "beta": 5.22e-3}
        found, _ = evaluate("translation_maturation", times, values)
        near, _ = evaluate("translation_maturation", times, values | {"delta": delta * (1 + 1e-9)})
        np.testing.assert_allclose(found, near, rtol=1e-6)
        assert np.isfinite(found).all()


@given(st.data(), st.sampled_from(sorted(FITTING_MODELS)))
def test_everything_is_finite_within_the_limits_of_the_roles(data: st.DataObject, model_type: str) -> None:
    values = {}
    for one in FITTING_MODELS[model_type].parameters:
        low, high = ROLE_LIMITS[one.role]
        values[one.name] = data.draw(st.one_of(st.floats(low, high), st.sampled_from([low, high])), one.name)
    times = np.array(data.draw(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6)))
    found, slopes = evaluate(model_type, times, values)
    assert np.isfinite(found).all()
    assert all(np.isfinite(slope).all() for slope in slopes.values())


@given(st.lists(st.floats(-1e4, 300), min_size=1, max_size=40))
def test_exponentials(exponents: list[float]) -> None:
    found = np.empty(len(exponents))
    exponentials(np.array(exponents), found)
    np.testing.assert_allclose(found, np.exp(np.array(exponents)), rtol=6e-16, atol=1e-300)
