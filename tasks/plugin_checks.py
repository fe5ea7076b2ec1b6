"""Whether what a plugin adds keeps to the rules: names, units, and what its functions give for a small example."""

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from tasks.acquisition.formats import Format
from tasks.errors import PluginError
from tasks.features import Column, Feature, Intensities, Regions
from tasks.fitting.catalog import ROLE_LIMITS, FittingModel, Shapes
from tasks.methods import MethodParameters

_NAME = re.compile(r"[a-z][a-z0-9_]{0,59}")
_FORMAT_NAME = re.compile(r"[a-z][a-z0-9-]{0,59}")
_ENDING = re.compile(r"(\.[a-z0-9_-]+)+")
_OPTIONAL = {Regions: frozenset({"perimeter"}), Intensities: frozenset({"squared_deviation", "maximum"})}
_TIMES_H = np.array([0.0, 0.25, 1.0, 4.0, 16.0])
_STEP = 1e-6
_TOLERANCE = 1e-4


def check_feature(feature: Feature[Any], table: type[Regions] | type[Intensities]) -> None:
    """Check name, unit, description and signature.

    Raises
    ------
    PluginError
        Naming the feature, and what is wrong with it.
    """
    what = f"the feature {feature.name!r}"
    _check_name(what, feature.name)
    if "_ch_" in feature.name:
        raise PluginError(f"{what}: its name cannot hold _ch_, which sets off the channel in the names of columns")
    _check_texts(what, unit=feature.unit, description=feature.description)
    _check_parameters(what, feature.compute, 1)
    if unknown := sorted(feature.needs - _OPTIONAL[table]):
        raise PluginError(
            f"{what} needs {', '.join(unknown)}, which is no optional column; there are "
            f"{', '.join(sorted(_OPTIONAL[table]))}"
        )


def check_phase_feature(feature: Feature[Regions]) -> None:
    """Compute a feature of no region, and of some, among them a single pixel.

    Raises
    ------
    PluginError
        Where the result is not one number for each.
    """
    for n in (0, 3):
        box = np.array([[0, 0, 0, 0], [5, 5, 14, 9], [20, 20, 29, 29]], np.int32)[:n]
        perimeter = np.array([0.0, 26.0, 36.0])[:n]
        regions = Regions(
            area=np.array([1, 50, 100])[:n],
            boxes=box,
            centroids=(box[:, :2] + box[:, 2:]) / 2.0,
            second_moments=np.array([[0.0, 0.0, 0.0], [8.25, 2.0, 0.0], [8.25, 8.25, 0.0]])[:n],
            perimeter=perimeter if "perimeter" in feature.needs else np.full(n, np.nan),
        )
        _check_column(feature, feature.compute, regions, n)


def check_fluorescence_feature(feature: Feature[Intensities]) -> None:
    """Compute a feature of no region, and of some, among them an empty one.

    Raises
    ------
    PluginError
        Where the result is not one number for each.
    """
    for n in (0, 3):
        intensities = Intensities(
            area=np.array([0, 1, 100])[:n],
            total=np.array([0.0, -3.0, 12345.0])[:n],
            squared_deviation=np.array([0.0, 0.0, 400.0])[:n]
            if "squared_deviation" in feature.needs
            else np.full(n, np.nan),
            maximum=np.array([-np.inf, -3.0, 300.0])[:n] if "maximum" in feature.needs else np.full(n, np.nan),
        )
        _check_column(feature, feature.compute, intensities, n)


def check_model(model: FittingModel, shapes: Shapes) -> None:
    """Check names and bounds, and hold the derivatives against differences.

    Raises
    ------
    PluginError
        Naming the model, and what is wrong with it.
    """
    what = f"the model {model.name!r}"
    _check_name(what, model.name)
    _check_texts(what, equation=model.equation, description=model.description)
    names = [parameter.name for parameter in model.parameters]
    if len(set(names)) < len(names):
        raise PluginError(f"{what} has two parameters of the same name")
    if not model.linear or not model.fitted:
        raise PluginError(f"{what} needs a linear parameter, such as an amplitude, and one that is fitted")
    for parameter in model.parameters:
        low, high = parameter.bounds
        lowest, highest = ROLE_LIMITS[parameter.role]
        _check_texts(f"{what}, parameter {parameter.name!r}", unit=parameter.unit, meaning=parameter.meaning)
        if not lowest <= low < high <= highest:
            raise PluginError(
                f"{what}: the bounds of {parameter.name}, {low:g} to {high:g}, must ascend, "
                f"within {lowest:g} to {highest:g}"
            )
        if not low <= parameter.default <= high:
            raise PluginError(f"{what}: the default of {parameter.name}, {parameter.default:g}, is outside its bounds")
    _check_parameters(what, shapes, 5)
    _check_derivatives(what, model, shapes)


def check_format(added: Format, taken: Mapping[str, str]) -> None:
    """Check name, endings and signatures of a format.

    Parameters
    ----------
    taken
        Formats that have endings already, by ending.

    Raises
    ------
    PluginError
        Naming the format, and what is wrong with it.
    """
    what = f"the format {added.name!r}"
    if not _FORMAT_NAME.fullmatch(added.name):
        raise PluginError(f"{what}: a name is made of small letters, digits and -, and begins with a letter")
    if not added.endings:
        raise PluginError(f"{what} has no ending by which its files are known")
    for ending in added.endings:
        if not _ENDING.fullmatch(ending):
            raise PluginError(f"{what}: an ending is written as .raw is, in small letters (got {ending!r})")
        if ending in taken:
            raise PluginError(f"{what}: {ending} is an ending of the format {taken[ending]!r} already")
    for function, n in ((added.reader, 2), (added.files, 1)):
        if callable(function):
            _check_parameters(what, function, n)


def check_method(
    description: str, parameters: type[MethodParameters], function: Callable[..., Any], n_arguments: int
) -> str:
    """Check the parameters and the signature of a method of segmentation or tracking, and give its name.

    Raises
    ------
    PluginError
        Naming the method, and what is wrong with it.
    """
    if not isinstance(parameters, type) or not issubclass(parameters, MethodParameters):
        raise PluginError(f"the parameters of a method are a class of MethodParameters, not {parameters!r}")
    name = parameters.model_fields["method"].default
    what = f"the method {name!r}"
    _check_name(what, name)
    if get_args(parameters.model_fields["method"].annotation) != (name,):
        raise PluginError(f'{what}: its field must be written as method: Literal["{name}"] = "{name}"')
    if required := [field for field, about in parameters.model_fields.items() if about.is_required()]:
        raise PluginError(f"{what}: its parameters {', '.join(required)} have no default")
    for field, about in parameters.model_fields.items():
        if field != "method":
            _check_texts(f"{what}, parameter {field!r}", description=about.description)
    _check_texts(what, description=description)
    _check_parameters(what, function, n_arguments)
    return str(name)


def _check_derivatives(what: str, model: FittingModel, shapes: Shapes) -> None:
    # Away from the bounds and the defaults, where a derivative may be 0 by chance.
    searched = np.array([_inside(one.default, one.bounds) for one in model.searched])
    given = np.array([one.default for one in model.given], np.float64)
    phi, slopes = _evaluated(what, model, shapes, searched, given)
    if not (np.isfinite(phi).all() and np.isfinite(slopes).all()):
        raise PluginError(f"{what} gives values that are not finite, or leaves some out, for times of 0 to 16 hours")
    for k, parameter in enumerate(model.searched):
        step = _STEP * max(abs(searched[k]), 1e-3)
        above, below = searched.copy(), searched.copy()
        above[k] += step
        below[k] -= step
        differences = (
            _evaluated(what, model, shapes, above, given)[0] - _evaluated(what, model, shapes, below, given)[0]
        ) / (2 * step)
        scale = np.abs(differences).max() + np.abs(phi).max() * 1e-6
        if np.abs(differences - slopes[:, k]).max() > _TOLERANCE * scale:
            raise PluginError(f"{what}: its derivatives by {parameter.name} do not agree with its values")


def _inside(default: float, bounds: tuple[float, float]) -> float:
    low, high = bounds
    return default + 0.1 * min(high - default, max(abs(default), 1.0)) if default < high else (low + high) / 2


def _evaluated(
    what: str, model: FittingModel, shapes: Shapes, searched: NDArray[np.float64], given: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    n_linear, n = len(model.linear), len(_TIMES_H)
    phi, slopes = np.full((n_linear, n), np.nan), np.full((n_linear, len(searched), n), np.nan)
    try:
        shapes(_TIMES_H, searched, given, phi, slopes)
    except Exception as error:  # other people's code
        raise PluginError(f"{what} fails for times of 0 to 16 hours: {type(error).__name__}: {error}") from error
    return phi, slopes


def _check_name(what: str, name: object) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise PluginError(f"{what}: a name is made of small letters, digits and _, and begins with a letter")


def _check_texts(what: str, **texts: object) -> None:
    for field, text in texts.items():
        if not isinstance(text, str) or not text.strip():
            raise PluginError(f"{what} has no {field}; it is a text{', 1 where there is none' * (field == 'unit')}")


def _check_parameters(what: str, function: Callable[..., Any], n: int) -> None:
    try:
        inspect.signature(function).bind(*range(n))
    except (TypeError, ValueError) as error:
        raise PluginError(f"{what}: its function must take {n} argument{'s' * (n > 1)}: {error}") from error


def _check_column(feature: Feature[Any], compute: Callable[[Any], Column], table: object, n: int) -> None:
    what = f"the feature {feature.name!r}"
    try:
        with np.errstate(all="ignore"):
            column = compute(table)
    except Exception as error:  # other people's code
        raise PluginError(f"{what} fails for {n} regions: {type(error).__name__}: {error}") from error
    shape, kind = getattr(column, "shape", None), getattr(column, "dtype", None)
    if shape != (n,) or kind != np.float64:
        raise PluginError(
            f"{what} must give an array of {n} float64 for {n} regions, not {type(column).__name__} "
            f"of shape {shape} and type {kind}"
        )
