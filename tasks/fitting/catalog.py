"""The models that traces can be fitted with: names, equations, and what their parameters mean.

All are functions of the time t in hours. This module is light (no numerics), so that whoever lists or validates
models needs no kernels; what is computed is in `tasks.fitting.models`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from tasks.registry import Registry

Role = Literal["linear", "rate", "time"]
"""How a parameter enters: as a factor of a function of time (amplitudes, offsets), as a rate in the exponent of one,
or as a point in time. Linear ones are solved for in closed form, the others are searched for."""

ROLE_LIMITS: dict[Role, tuple[float, float]] = {"linear": (-1e15, 1e15), "rate": (0.0, 1e6), "time": (-1e6, 1e6)}
"""Between which numbers bounds may be set at all: there, everything that is computed stays finite."""

Array = NDArray[np.float64]

Shapes = Callable[[Array, Array, Array, Array, Array], None]
"""Computes the functions of time of a model.

Arguments: `times` (n,) in hours; `searched` (k,); `given` (q,); and what is filled in: `phi` (m, n), which is
phi_i(t), and `slopes` (m, k, n), which are the derivatives of phi_i(t) by the searched parameters. All are finite
for every finite time and every value within the limits of the parameters' roles.
"""

_COUNTS = "counts"
_HOURS = "h"
_PER_HOUR = "1/h"


@dataclass(frozen=True)
class Parameter:
    """A number in a model's equation."""

    name: str
    default: float
    """Where a fit starts; the value itself, where the parameter is fixed."""
    bounds: tuple[float, float]
    """Lowest and highest value that a fit gives, or that a fixed parameter may be set to; inclusive."""
    unit: str
    role: Role
    meaning: str
    fixed: bool = False
    """Whether it keeps its value instead of being fitted."""


@dataclass(frozen=True)
class FittingModel:
    """A function of time with named parameters."""

    name: str
    equation: str
    description: str
    parameters: tuple[Parameter, ...]
    shapes: Shapes | None = field(default=None, repr=False, compare=False)
    """What a plugin's model computes, not yet compiled; None for our own, which are in `tasks.fitting.models`."""

    def computed_by(self, shapes: Shapes) -> Self:
        """The same model, with what it computes."""
        return replace(self, shapes=shapes)

    @property
    def linear(self) -> tuple[Parameter, ...]:
        """Factors of functions of time, fixed or not."""
        return tuple(parameter for parameter in self.parameters if parameter.role == "linear")

    @property
    def searched(self) -> tuple[Parameter, ...]:
        """Rates and times that are fitted."""
        return tuple(one for one in self.parameters if one.role != "linear" and not one.fixed)

    @property
    def given(self) -> tuple[Parameter, ...]:
        """Rates and times that keep their values."""
        return tuple(one for one in self.parameters if one.role != "linear" and one.fixed)

    @property
    def fitted(self) -> tuple[Parameter, ...]:
        """All that are fitted."""
        return tuple(parameter for parameter in self.parameters if not parameter.fixed)


FITTING_MODELS: Registry[FittingModel] = Registry(
    "fitting model",
    (
        FittingModel(
            "trivial",
            "f(t) = amplitude + offset",
            "A constant. Only the sum is determined by the data, so the offset keeps the value that it is given.",
            (
                Parameter("amplitude", 1.0, (0.0, 10.0), _COUNTS, "linear", "Height above the offset"),
                Parameter("offset", 0.0, (-5.0, 5.0), _COUNTS, "linear", "Signal without any cell", fixed=True),
            ),
        ),
        FittingModel(
            "maturation",
            "f(t) = amplitude (1 - exp(-rate t)) + offset",
            "Exponential rise to a plateau.",
            (
                Parameter("amplitude", 1.0, (0.0, 10.0), _COUNTS, "linear", "Height of the plateau above the offset"),
                Parameter("rate", 0.1, (0.01, 1.0), _PER_HOUR, "rate", "Rate of the rise"),
                Parameter("offset", 0.0, (-1.0, 5.0), _COUNTS, "linear", "Signal at the time 0"),
            ),
        ),
        FittingModel(
            "translation_maturation",
            "f(t) = ktl g(t - t0) + offset; g(d) = 0 for d <= 0, else with b = beta - delta: "
            "g(d) = exp(-beta d) (km (exp(b d) - 1) / b + exp(-km d) - 1) / (b + km)",
            "mRNA transfection: translation from t0 on while the mRNA decays, and maturation of the protein before "
            "it fluoresces (Leonhardt et al. 2014).",
            (
                Parameter("t0", 0.0, (-1.0, 1.0), _HOURS, "time", "Onset of translation"),
                Parameter(
                    "ktl",
                    1000.0,
                    (1.0, 5e8),
                    "counts/h",
                    "linear",
                    "Rate of translation times the amount of mRNA at t0",
                ),
                Parameter("delta", 0.01, (1e-5, 11.0), _PER_HOUR, "rate", "Rate at which the mRNA decays"),
                Parameter("offset", 0.0, (-1e6, 1e6), _COUNTS, "linear", "Signal before the onset"),
                Parameter("km", 1.28, (1e-5, 30.0), _PER_HOUR, "rate", "Rate at which the protein matures", fixed=True),
                Parameter(
                    "beta", 5.22e-3, (1e-5, 10.0), _PER_HOUR, "rate", "Rate at which the protein decays", fixed=True
                ),
            ),
        ),
        FittingModel(
            "maturation_blocked",
            "f(t) = offset for t < t0, else with d = t - t0: "
            "f(t) = G0 exp(-beta d) + Gu0 (exp(-beta d) - exp(-(beta + km) d)) + offset",
            "Translation is blocked at t0: the protein that is there goes on to mature and decays. The time of the "
            "block is known from the experiment; the data cannot tell it from the amplitudes.",
            (
                Parameter("t0", 0.0, (-1e4, 1e4), _HOURS, "time", "Time of the block", fixed=True),
                Parameter("G0", 100.0, (0.0, 1e6), _COUNTS, "linear", "Mature protein at t0"),
                Parameter("Gu0", 100.0, (0.0, 1e6), _COUNTS, "linear", "Immature protein at t0"),
                Parameter("km", 1.28, (1e-5, 30.0), _PER_HOUR, "rate", "Rate at which the protein matures"),
                Parameter("beta", 5.22e-3, (1e-5, 10.0), _PER_HOUR, "rate", "Rate at which the protein decays"),
                Parameter("offset", 0.0, (-1e6, 1e6), _COUNTS, "linear", "Signal without any protein"),
            ),
        ),
    ),
)


def describe_models() -> str:
    """All models and their parameters in words, a paragraph for each."""
    return "\n\n".join(
        f"{model.name}: {'; '.join(map(_described, model.parameters))}. {model.description}"
        for model in FITTING_MODELS.values()
    )


def _described(parameter: Parameter) -> str:
    limits = "fixed" if parameter.fixed else "{:g} to {:g}".format(*parameter.bounds)
    return f"{parameter.name} = {parameter.default:g} {parameter.unit} ({limits})"
