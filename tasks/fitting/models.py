"""What the models of the catalogue compute: the functions of time that a trace is a combination of.

A trace is a sum of functions of time, each times a linear parameter:

    f(t) = sum over i of linear[i] * phi_i(t; searched, given)

where `searched` are the rates and times that are fitted, and `given` those that are fixed, in the catalogue's order.
A model is one small function that computes the phi_i and their derivatives by the searched parameters, registered
under the model's name:

    @shapes("maturation")
    def _maturation(times, searched, given, phi, slopes): ...

It is compiled to machine code behind a pointer, so that one compiled solver serves all models.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numba
import numpy as np
from numba import float64, void

from tasks.errors import PluginError
from tasks.fitting.catalog import Array, FittingModel, Shapes
from tasks.fitting.exponentials import exponentials, far_from_all, pulse2, pulse3, pulse4
from tasks.kernel import kernel

_SIGNATURE = void(float64[::1], float64[::1], float64[::1], float64[:, ::1], float64[:, :, ::1])

_SHAPES: dict[str, Any] = {}


def shapes(name: str) -> Callable[[Shapes], Shapes]:
    """Register what a model of the catalogue computes."""

    def register(function: Shapes) -> Shapes:
        compiled: Shapes = numba.cfunc(_SIGNATURE, cache=True, nogil=True, error_model="numpy")(function)
        _SHAPES[name] = compiled
        return compiled

    return register


def shapes_of(model: FittingModel) -> Shapes:
    """Compiled functions of time of a model, to be called by kernels.

    Raises
    ------
    PluginError
        Where those of a plugin cannot be compiled.
    """
    if model.name not in _SHAPES and model.shapes is not None:
        try:
            shapes(model.name)(model.shapes)
        except numba.core.errors.NumbaError as error:
            raise PluginError(
                f"numba cannot compile what the model {model.name!r} of a plugin computes: {error}"
            ) from error
    compiled: Shapes = _SHAPES[model.name]
    return compiled


def curve(model: FittingModel, times_h: Array, values: Mapping[str, float]) -> Array:
    """f(t) of a model.

    Parameters
    ----------
    times_h
        (n,) in hours.
    values
        Of all parameters, fixed or not.
    """
    searched, given, linear = (
        np.array([values[one.name] for one in some], np.float64) for some in (model.searched, model.given, model.linear)
    )
    phi = np.empty((len(linear), len(times_h)))
    _fill(shapes_of(model), times_h, searched, given, phi, np.empty((len(linear), len(searched), len(times_h))))
    return linear @ phi


@kernel
def _fill(shapes: Shapes, times: Array, searched: Array, given: Array, phi: Array, slopes: Array) -> None:
    shapes(times, searched, given, phi, slopes)


@shapes("trivial")
def _trivial(times: Array, searched: Array, given: Array, phi: Array, slopes: Array) -> None:  # noqa: ARG001
    phi[:] = 1.0


@shapes("maturation")
def _maturation(times: Array, searched: Array, given: Array, phi: Array, slopes: Array) -> None:  # noqa: ARG001
    decay = np.empty(len(times))
    exponentials(-searched[0] * times, decay)
    for i in range(len(times)):
        phi[0, i] = 1.0 - decay[i]
        slopes[0, 0, i] = times[i] * decay[i]
    phi[1] = 1.0
    slopes[1] = 0.0


@shapes("translation_maturation")
def _translation_maturation(times: Array, searched: Array, given: Array, phi: Array, slopes: Array) -> None:
    """The response of the chain mRNA (delta), immature protein (beta + km), mature protein (beta), to a pulse at t0.

    g(d) = km e3(delta, beta, beta + km; d); g'(d) = km e2(delta, beta + km; d) - beta g(d);
    dg/ddelta = -km e4(delta, delta, beta, beta + km; d).
    """
    t0, delta = searched[0], searched[1]
    km, beta = given[0], given[1]
    n = len(times)
    # The three rates in ascending order.
    a, b, c = min(delta, beta), min(max(delta, beta), beta + km), max(delta, beta + km)
    exponents = np.empty(n)
    e_a, e_b, e_c = np.empty(n), np.empty(n), np.empty(n)
    for rate, e in ((a, e_a), (b, e_b), (c, e_c)):
        for i in range(n):
            exponents[i] = -rate * max(times[i] - t0, 0.0)
        exponentials(exponents, e)
    far = far_from_all(a, b, c)
    per_ab, per_bc, per_ac = 1.0 / (b - a), 1.0 / (c - b), 1.0 / (c - a)
    for i in range(n):
        d = times[i] - t0
        if d <= 0.0:
            phi[0, i] = slopes[0, 0, i] = slopes[0, 1, i] = 0.0
            continue
        is_far = d > far
        if is_far:
            e2_ab, e2_bc = (e_a[i] - e_b[i]) * per_ab, (e_b[i] - e_c[i]) * per_bc
            e3_abc = (e2_ab - e2_bc) * per_ac
        else:
            e2_ab, e2_bc = pulse2(e_a[i], e_b[i], a, b, d), pulse2(e_b[i], e_c[i], b, c, d)
            e3_abc = pulse3(e2_ab, e2_bc, e_b[i], a, b, c, d)
        if delta <= beta:  # delta is a
            if is_far:
                e2_immature = (e_a[i] - e_c[i]) * per_ac
                e4 = ((d * e_a[i] - e2_ab) * per_ab - e3_abc) * per_ac
            else:
                e2_immature = pulse2(e_a[i], e_c[i], a, c, d)
                e3_aab = pulse3(d * e_a[i], e2_ab, e_a[i], a, a, b, d)
                e4 = pulse4(e3_aab, e3_abc, e_a[i], a, a, b, c, d)
        elif delta <= beta + km:  # delta is b
            e2_immature, e2_bb = e2_bc, d * e_b[i]
            if is_far:
                e4 = ((e2_ab - e2_bb) * per_ab - (e2_bb - e2_bc) * per_bc) * per_ac
            else:
                e3_abb = pulse3(e2_ab, e2_bb, e_b[i], a, b, b, d)
                e3_bbc = pulse3(e2_bb, e2_bc, e_b[i], b, b, c, d)
                e4 = pulse4(e3_abb, e3_bbc, e_b[i], a, b, b, c, d)
        else:  # delta is c
            e2_immature = e2_bc
            if is_far:
                e4 = (e3_abc - (e2_bc - d * e_c[i]) * per_bc) * per_ac
            else:
                e3_bcc = pulse3(e2_bc, d * e_c[i], e_c[i], b, c, c, d)
                e4 = pulse4(e3_abc, e3_bcc, e_b[i], a, b, c, c, d)
        phi[0, i] = km * e3_abc
        slopes[0, 0, i] = km * (beta * e3_abc - e2_immature)
        slopes[0, 1, i] = -km * e4
    phi[1] = 1.0
    slopes[1] = 0.0


@shapes("maturation_blocked")
def _maturation_blocked(times: Array, searched: Array, given: Array, phi: Array, slopes: Array) -> None:
    """What is mature decays; what is not is km e2(beta, beta + km; d) later on."""
    km, beta = searched[0], searched[1]
    t0 = given[0]
    n = len(times)
    exponents = np.empty(n)
    mature, immature = np.empty(n), np.empty(n)
    for rate, e in ((beta, mature), (beta + km, immature)):
        for i in range(n):
            exponents[i] = -rate * max(times[i] - t0, 0.0)
        exponentials(exponents, e)
    slopes[:] = 0.0
    for i in range(n):
        d = times[i] - t0
        if d < 0.0:
            phi[0, i] = phi[1, i] = 0.0
            continue
        phi[0, i] = mature[i]
        phi[1, i] = km * pulse2(mature[i], immature[i], beta, beta + km, d)
        slopes[0, 1, i] = -d * phi[0, i]
        slopes[1, 0, i] = d * immature[i]
        slopes[1, 1, i] = -d * phi[1, i]
    phi[2] = 1.0
