"""Exponentials and what is made of them in kinetics: fast, and without cancellation where rates come close.

A chain of first-order reactions with the rates a, b, c, ... responds to a pulse by the divided differences of the
exponential function. With `e1 = exp(-a d)` these are

    e2(a, b; d)    = (exp(-a d) - exp(-b d)) / (b - a)
    e3(a, b, c; d) = (e2(a, b) - e2(b, c)) / (c - a)

and so on: smooth in all rates, with the limits `d exp(-a d)`, `d^2 exp(-a d) / 2`, ... where the rates are equal.
"""

import numpy as np
from numpy.typing import NDArray

from tasks.kernel import inner_kernel, kernel

Array = NDArray[np.float64]

_PER_LN2 = 1.4426950408889634
_LN2_HIGH = 0.6931471803691238
_LN2_LOW = 1.9082149292705877e-10
_ROUNDER = 6755399441055744.0
"""Added to a number below 2^31, it leaves the nearest whole number in the lowest bits of the sum: 1.5 * 2^52."""
_EXPONENT_BITS = 52
_LOWEST = -708.0
_HIGHEST = 300.0
_NEAR = 0.3
"""Distance of two exponents below which their divided difference is summed up as a series."""
_N_TERMS = 13


@kernel
def exponentials(exponents: Array, out: Array) -> None:
    """Compute exp of each exponent to 2 units in the last place, several at a time.

    The library's function takes one at a time, five times as long. The exponents are held between -708 and 300, so that
    squares of the results stay finite.

    Parameters
    ----------
    exponents
        (n,) finite; overwritten.
    out
        (n,) the result.
    """
    n = len(exponents)
    power = np.empty(n)
    for i in range(n):
        x = min(max(exponents[i], _LOWEST), _HIGHEST)
        shifted = x * _PER_LN2 + _ROUNDER
        power[i] = shifted
        whole = shifted - _ROUNDER
        r = x - whole * _LN2_HIGH - whole * _LN2_LOW
        # Taylor series to r^12 / 12!, where |r| <= ln(2) / 2: what is left out is below 2e-16.
        high = 1 / 5040 + r * (1 / 40320 + r * (1 / 362880 + r * (1 / 3628800 + r * (1 / 39916800 + r / 479001600))))
        low = 1 / 6 + r * (1 / 24 + r * (1 / 120 + r * (1 / 720 + r * high)))
        out[i] = 1.0 + (r + r * r * (0.5 + r * low))
    bits = out.view(np.int64)
    power_bits = power.view(np.int64)
    for i in range(n):
        bits[i] += power_bits[i] << _EXPONENT_BITS


@kernel
def far_from_all(a: float, b: float, c: float) -> float:
    """Time after which the definitions above can be computed as they are, where a <= b <= c; infinite for equal ones.

    Before, `pulse2`, `pulse3` and `pulse4` are needed, which have a series for rates that are close.
    """
    return _NEAR / min(b - a, c - b)


@inner_kernel
def pulse2(e_a: float, e_b: float, a: float, b: float, d: float) -> float:
    """Compute e2(a, b; d), given exp(-a d) and exp(-b d), where d >= 0."""
    x = (a - b) * d
    if abs(x) > _NEAR:
        return (e_a - e_b) / (b - a)
    # (exp(x) - 1) / x
    series = 1 / 40320 + x * (1 / 362880 + x / 3628800)
    series = 1 / 24 + x * (1 / 120 + x * (1 / 720 + x * (1 / 5040 + x * series)))
    return d * e_a * (1.0 + x * (0.5 + x * (1 / 6 + x * series)))


@inner_kernel
def pulse3(e2_ab: float, e2_bc: float, e_b: float, a: float, b: float, c: float, d: float) -> float:
    """Compute e3(a, b, c; d), given e2(a, b), e2(b, c) and exp(-b d), where a <= b <= c and d >= 0."""
    if (c - a) * d > _NEAR:
        return (e2_ab - e2_bc) / (c - a)
    u, v = (b - a) * d, (b - c) * d
    # Sum of h_k(u, v) / (k + 2)! with the complete homogeneous symmetric polynomials h_k.
    total, h, power, factorial = 0.5, 1.0, 1.0, 2.0
    for k in range(1, _N_TERMS):
        power *= v
        h = u * h + power
        factorial *= k + 2
        total += h / factorial
    return d * d * e_b * total


@inner_kernel
def pulse4(
    e3_abc: float, e3_bcf: float, e_b: float, a: float, b: float, c: float, f: float, d: float
) -> float:  # fmt: skip
    """Compute e4(a, b, c, f; d), given e3(a, b, c), e3(b, c, f) and exp(-b d), where a <= b <= c <= f and d >= 0."""
    if (f - a) * d > _NEAR:
        return (e3_abc - e3_bcf) / (f - a)
    u, v, w = (b - a) * d, (b - c) * d, (b - f) * d
    total, h, h_two, power, factorial = 1 / 6, 1.0, 1.0, 1.0, 6.0
    for k in range(1, _N_TERMS):
        power *= w
        h_two = v * h_two + power
        h = u * h + h_two
        factorial *= k + 3
        total += h / factorial
    return d * d * d * e_b * total
