"""The request to fit the traces of a file: which model, where the search begins, and between which bounds.

Light, like `tasks.fitting.catalog`: whoever validates a request needs no kernels.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from tasks.configuration import AbsolutePath, RequestModel
from tasks.errors import InvalidParametersError
from tasks.fitting.catalog import FITTING_MODELS, ROLE_LIMITS, FittingModel, Parameter
from tasks.plugins import check_plugins
from tasks.problems import shorten

Loss = Literal["linear", "soft_l1", "huber", "cauchy"]
"""How a residual counts: by its square, or less than that where it is large, as in scipy.optimize.least_squares."""


def _known_model(name: str) -> str:
    if name not in FITTING_MODELS:
        raise ValueError(f"there is no such model; available: {', '.join(FITTING_MODELS)}")
    return name


def _positive(value: float) -> float:
    if value <= 0:
        raise ValueError("must be above 0")
    return value


ModelName = Annotated[str, AfterValidator(_known_model)]
"""Name of a model of the catalogue."""

AnyBounds = Mapping[str, list[float] | tuple[float, float]]
"""Lowest and highest value by parameter."""

Bounds = Annotated[list[float], Field(min_length=2, max_length=2)]
"""Lowest and highest value."""


class FittingRequest(RequestModel):
    """The documented request to fit traces."""

    csv_path: AbsolutePath
    model_type: ModelName
    model_params: dict[str, float] = Field(
        default_factory=dict, description="Start values by parameter; of a fixed parameter its value"
    )
    model_bounds: dict[str, Bounds] = Field(
        default_factory=dict, description="Lowest and highest value by parameter; not of fixed ones"
    )
    output_dir: AbsolutePath | None = Field(None, description="Folder of the results; default: that of the traces")
    column: str | None = Field(
        None, min_length=1, max_length=255,
        description="Column to fit; default: `value`, the only feature, or the total intensity",
    )  # fmt: skip
    loss: Loss = Field("linear", description="How residuals count; all but `linear` give outliers less weight")
    loss_scale: Annotated[float, AfterValidator(_positive)] | None = Field(
        None, description="Residual at which a point begins to count as an outlier; default: the noise of each trace"
    )
    parquet: bool = Field(False, description="Write the results as Parquet too")
    plots: bool = Field(False, description="Draw the fits and the distribution of the parameters")

    @model_validator(mode="after")
    def _parameters_exist_and_fit(self) -> Self:
        problems = check_parameters(FITTING_MODELS[self.model_type], self.model_params, self.model_bounds)
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def result_folder(self) -> Path:
        """Where the results go."""
        return Path(self.output_dir) if self.output_dir is not None else Path(self.csv_path).parent

    def specification(self) -> "FitSpecification":
        """What is asked of each trace."""
        return FitSpecification.of(
            FITTING_MODELS[self.model_type], self.model_params, self.model_bounds, self.loss, self.loss_scale
        )


@dataclass(frozen=True)
class FitSpecification:
    """What is asked of each trace, with all defaults filled in."""

    model_type: str
    values: dict[str, float]
    """Start value of each fitted parameter, and value of each fixed one."""
    bounds: dict[str, tuple[float, float]]
    """Of each fitted parameter."""
    loss: Loss = "linear"
    loss_scale: float | None = None
    """None for the noise of each trace."""
    plugins: dict[str, str] = field(default_factory=dict)
    """Version of the plugin that the model comes from, by its name; our own come from none."""

    @property
    def model(self) -> FittingModel:
        """The model of that name.

        Raises
        ------
        PluginError
            Where this process does not have the plugin that it comes from, or another version of it.
        """
        check_plugins(self.plugins)
        return FITTING_MODELS[self.model_type]

    @classmethod
    def of(
        cls,
        model: FittingModel,
        params: Mapping[str, float] | None = None,
        bounds: AnyBounds | None = None,
        loss: Loss = "linear",
        loss_scale: float | None = None,
    ) -> Self:
        """Fill in the defaults; a default start outside of the bounds is moved to the nearer one.

        Raises
        ------
        InvalidParametersError
            Where a name or a value does not fit the model.
        """
        params, bounds = params or {}, bounds or {}
        if problems := check_parameters(model, params, bounds):
            raise InvalidParametersError("; ".join(problems))
        chosen = {one.name: _bounds_of(one, bounds) for one in model.fitted}
        values = {}
        for parameter in model.parameters:
            low, high = chosen.get(parameter.name, parameter.bounds)
            values[parameter.name] = params.get(parameter.name, min(max(parameter.default, low), high))
        return cls(model.name, values, chosen, loss, loss_scale, FITTING_MODELS.plugins_of([model.name]))


def check_parameters(model: FittingModel, params: Mapping[str, float], bounds: AnyBounds) -> list[str]:
    """Tell everything that is wrong with start values and bounds; an empty list where nothing is."""
    known = {parameter.name: parameter for parameter in model.parameters}
    there_are = ", ".join(known)
    problems: list[str] = []
    for where, names in (("model_params", params), ("model_bounds", bounds)):
        unknown = [name for name in names if name not in known]
        problems += [f"{where}: {model.name} has no parameter {shorten(name)}; it has {there_are}" for name in unknown]
    for name, pair in bounds.items():
        if name in known:
            problems += [f"model_bounds.{name}: {problem}" for problem in _problems_of_bounds(known[name], pair)]
    for name, value in params.items():
        if name in known:
            problems += [
                f"model_params.{name}: {problem}" for problem in _problems_of_value(known[name], value, bounds)
            ]
    return problems


def _problems_of_value(parameter: Parameter, value: float, bounds: AnyBounds) -> list[str]:
    if not math.isfinite(value):
        return [f"must be a finite number (got {value})"]
    low, high = _bounds_of(parameter, {} if parameter.fixed else bounds)
    if low <= value <= high or low >= high:
        return []
    if parameter.fixed:
        return [f"the value {value:g} is outside the bounds {low:g} to {high:g}"]
    return [f"the start value {value:g} is outside the bounds {low:g} to {high:g}; move it, or set model_bounds"]


def _problems_of_bounds(parameter: Parameter, pair: list[float] | tuple[float, float]) -> list[str]:
    low, high = pair
    lowest, highest = ROLE_LIMITS[parameter.role]
    if parameter.fixed:
        return ["is fixed, so it has no bounds; set its value in model_params"]
    if not (math.isfinite(low) and math.isfinite(high)):
        return [f"bounds must be finite numbers (got {low}, {high})"]
    if low >= high:
        return [f"the lower bound must be below the upper one (got {low:g}, {high:g})"]
    if low < lowest or high > highest:
        return [f"a {parameter.role} parameter can be {lowest:g} to {highest:g} (got {low:g}, {high:g})"]
    return []


def _bounds_of(parameter: Parameter, bounds: AnyBounds) -> tuple[float, float]:
    low, high = bounds.get(parameter.name, parameter.bounds)
    return float(low), float(high)
