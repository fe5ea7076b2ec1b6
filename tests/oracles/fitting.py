"""Oracle of fitting: models by their equations, in 120 digits or by plain NumPy, and scipy for each trace by itself."""

from collections.abc import Mapping
from decimal import Decimal, localcontext
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from tasks.fitting.request import FitSpecification

Array = NDArray[np.float64]

_DIGITS = 120
_NUDGE = Decimal(10) ** -35
"""Takes equal rates apart, so that the equations as written can be computed in 120 digits."""


def _trivial(_: Decimal, p: Mapping[str, Decimal]) -> Decimal:
    return p["amplitude"] + p["offset"]


def _maturation(t: Decimal, p: Mapping[str, Decimal]) -> Decimal:
    return p["amplitude"] * (1 - (-p["rate"] * t).exp()) + p["offset"]


def _translation_maturation(t: Decimal, p: Mapping[str, Decimal]) -> Decimal:
    d, km, beta = t - p["t0"], p["km"], p["beta"]
    if d <= 0:
        return p["offset"]
    b = beta - p["delta"]
    b += _NUDGE if b in (0, -km) else 0
    pulse = (-beta * d).exp() * (km * ((b * d).exp() - 1) / b + (-km * d).exp() - 1) / (b + km)
    return p["ktl"] * pulse + p["offset"]


def _maturation_blocked(t: Decimal, p: Mapping[str, Decimal]) -> Decimal:
    d = t - p["t0"]
    if d < 0:
        return p["offset"]
    mature = (-p["beta"] * d).exp()
    return p["G0"] * mature + p["Gu0"] * (mature - (-(p["beta"] + p["km"]) * d).exp()) + p["offset"]


_EQUATIONS = {
    "trivial": _trivial,
    "maturation": _maturation,
    "translation_maturation": _translation_maturation,
    "maturation_blocked": _maturation_blocked,
}


def value(model_type: str, time_h: float, parameters: Mapping[str, float]) -> float:
    """f(t) of the equation as it stands in the catalogue, rounded once at the end."""
    with localcontext(prec=_DIGITS):
        return float(_EQUATIONS[model_type](Decimal(time_h), {name: Decimal(x) for name, x in parameters.items()}))


def slope(model_type: str, time_h: float, parameters: Mapping[str, float], name: str) -> float:
    """df/dname by a difference quotient over 1e-20, from above."""
    with localcontext(prec=_DIGITS):
        exact = {key: Decimal(x) for key, x in parameters.items()}
        step = Decimal(10) ** -20
        equation, t = _EQUATIONS[model_type], Decimal(time_h)
        return float((equation(t, exact | {name: exact[name] + step}) - equation(t, exact)) / step)


def curve(model_type: str, times_h: Array, p: Mapping[str, Any]) -> Array:
    """f(t) at many times in double precision, for simulations; where the rates are apart."""
    if model_type == "trivial":
        return np.full(len(times_h), float(p["amplitude"] + p["offset"]))
    if model_type == "maturation":
        return np.asarray(p["amplitude"] * -np.expm1(-p["rate"] * times_h) + p["offset"])
    d = np.maximum(times_h - p["t0"], 0)
    if model_type == "translation_maturation":
        b = p["beta"] - p["delta"]
        pulse = np.exp(-p["beta"] * d) * (p["km"] * np.expm1(b * d) / b + np.expm1(-p["km"] * d)) / (b + p["km"])
        return np.asarray(p["ktl"] * pulse + p["offset"])
    mature = np.exp(-p["beta"] * d)
    signal = p["G0"] * mature - p["Gu0"] * mature * np.expm1(-p["km"] * d)
    return np.asarray(np.where(times_h < p["t0"], 0.0, signal) + p["offset"])


class ScipyFit(NamedTuple):
    """What scipy makes of one trace."""

    parameters: dict[str, float]
    cost: float
    """Half the sum of losses."""
    errors: dict[str, float]
    """Standard errors by the Jacobian at the solution."""


def fit(times_h: Array, values: Array, asked: FitSpecification, start: Mapping[str, float] | None = None) -> ScipyFit:
    """Fit one trace, all parameters alike."""
    names = list(asked.bounds)
    low, high = np.array([asked.bounds[name] for name in names]).T
    begin = np.clip([(start or asked.values)[name] for name in names], low, high)

    def residuals(x: Array) -> Array:
        return curve(asked.model_type, times_h, asked.values | dict(zip(names, x, strict=True))) - values

    scale = asked.loss_scale or 1.0
    found = least_squares(
        residuals, begin, bounds=(low, high), loss=asked.loss, f_scale=scale, xtol=1e-12, ftol=1e-12, gtol=1e-12,
        x_scale=np.maximum(np.abs(begin), 1e-3), max_nfev=2000,
    )  # fmt: skip
    jacobian = np.asarray(found.jac)
    variance = 2 * found.cost / max(len(values) - len(names), 1)
    covariance = variance * np.linalg.pinv(jacobian.T @ jacobian)
    return ScipyFit(
        dict(zip(names, map(float, found.x), strict=True)),
        float(found.cost),
        dict(zip(names, map(float, np.sqrt(np.diag(covariance))), strict=True)),
    )
