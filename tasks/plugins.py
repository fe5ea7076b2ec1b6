"""Plugins: features, fitting models, methods of segmentation and tracking, and formats from elsewhere.

A plugin is a Python module with a function `register`, which is told what it adds:

    __version__ = "1.0"

    def roundness(regions):
        return 4 * np.pi * regions.area / regions.perimeter**2

    def register(plugin):
        plugin.phase_feature("roundness", "1", "Isoperimetric quotient", roundness, needs=["perimeter"])

It is a file in the folder that PYAMA_PLUGINS names, or a module of an installed package with an entry point in the
group `pyama.plugins`. All are loaded once in each process, and each is checked as a whole: a plugin that fails adds
nothing, is told of by name, and stops nobody. What was computed with a plugin is known by the plugin's version.
"""

import hashlib
import importlib.util
import inspect
import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from tasks.acquisition.formats import FORMATS, Format
from tasks.acquisition.protocol import Recording
from tasks.errors import PluginError
from tasks.features import FLUORESCENCE_FEATURES, PHASE_FEATURES, Column, Feature, Intensities, Regions
from tasks.fitting.catalog import FITTING_MODELS, FittingModel, Shapes
from tasks.methods import SEGMENTATION_METHODS, TRACKING_METHODS, Method, MethodParameters
from tasks.plugin_checks import (
    check_feature,
    check_fluorescence_feature,
    check_format,
    check_method,
    check_model,
    check_phase_feature,
)
from tasks.registry import Plugin, Registry

ENTRY_POINTS = "pyama.plugins"
FOLDER_VARIABLE = "PYAMA_PLUGINS"

logger = logging.getLogger("pyama.plugins")


@dataclass(frozen=True)
class LoadedPlugin:
    """A plugin, and what it has added."""

    plugin: Plugin
    additions: tuple[str, ...]
    """E.g. `phase feature roundness`."""


@dataclass(frozen=True)
class FailedPlugin:
    """A plugin that has added nothing, and why."""

    name: str
    origin: str
    reason: str


@dataclass
class Plugins:
    """What was found when plugins were loaded."""

    loaded: list[LoadedPlugin] = field(default_factory=list)
    failed: list[FailedPlugin] = field(default_factory=list)


class Additions:
    """What a plugin adds; given to its function `register`."""

    def __init__(self) -> None:
        self._entries: list[tuple[Registry[Any], Any]] = []

    def phase_feature(
        self, name: str, unit: str, description: str, compute: Callable[[Regions], Column], needs: Iterable[str] = ()
    ) -> None:
        """Add a feature of the shape of cells.

        Parameters
        ----------
        compute
            From the regions of a frame to one value for each, (n,) float64.
        needs
            Columns of `Regions` that are filled only where asked for: `perimeter`.

        Raises
        ------
        PluginError
            Where the name is taken or cannot be one, or what is computed is not of the right shape.
        """
        feature = Feature(name, unit, description, compute, frozenset(needs))
        self._take(PHASE_FEATURES, feature)
        check_feature(feature, Regions)
        check_phase_feature(feature)

    def fluorescence_feature(
        self,
        name: str,
        unit: str,
        description: str,
        compute: Callable[[Intensities], Column],
        needs: Iterable[str] = (),
    ) -> None:
        """Add a feature of the intensities within cells.

        Parameters
        ----------
        compute
            From the intensities of a frame to one value for each region, (n,) float64.
        needs
            Columns of `Intensities` that are filled only where asked for: `squared_deviation`, `maximum`.

        Raises
        ------
        PluginError
            Where the name is taken or cannot be one, or what is computed is not of the right shape.
        """
        feature = Feature(name, unit, description, compute, frozenset(needs))
        self._take(FLUORESCENCE_FEATURES, feature)
        check_feature(feature, Intensities)
        check_fluorescence_feature(feature)

    def fitting_model(self, model: FittingModel, shapes: Shapes) -> None:
        """Add a model that traces can be fitted with.

        Parameters
        ----------
        model
            Name, equation and parameters.
        shapes
            Its functions of time and their derivatives, as `tasks.fitting.models` describes them; plain Python that
            numba can compile.

        Raises
        ------
        PluginError
            Where the name is taken or cannot be one, parameters do not fit together, or the derivatives are wrong.
        """
        complete = model.computed_by(shapes)
        self._take(FITTING_MODELS, complete)
        check_model(complete, shapes)

    def segmentation_method(
        self, description: str, parameters: type[MethodParameters], segment: Callable[..., Any]
    ) -> None:
        """Add a way to find cells.

        Parameters
        ----------
        parameters
            Model of its parameters, whose field `method` is its name; each other field has a default.
        segment
            `segment(image, parameters, pixel_size_um)`, from a phase image (H, W) to labels (H, W) of any integer
            dtype, 0 for background. It is to depend on this one image alone.

        Raises
        ------
        PluginError
            Where the name is taken or cannot be one, or something else does not keep to the rules.
        """
        self._take_method(SEGMENTATION_METHODS, description, parameters, segment, n_arguments=3)

    def tracking_method(
        self,
        description: str,
        parameters: type[MethodParameters],
        make: Callable[..., Any],
        *,
        with_parents: bool = False,
    ) -> None:
        """Add a way to follow cells.

        Parameters
        ----------
        parameters
            Model of its parameters, whose field `method` is its name; each other field has a default.
        make
            `make(parameters)`, to a `tasks.linking.Linker`; called once for each FOV.
        with_parents
            Whether it tells whose daughter a cell is; the table then has the column `parent`.

        Raises
        ------
        PluginError
            Where the name is taken or cannot be one, or something else does not keep to the rules.
        """
        self._take_method(TRACKING_METHODS, description, parameters, make, n_arguments=1, with_parents=with_parents)

    def recording_format(
        self,
        name: str,
        endings: Sequence[str],
        reader: Callable[..., Recording],
        files: Callable[[Path], list[Path]] | None = None,
        *,
        is_folder: bool = False,
    ) -> None:
        """Add a format of recordings.

        Parameters
        ----------
        endings
            Of its files or folders, in small letters, e.g. `[".raw"]`.
        reader
            `reader(path, z_plane)`, to a `tasks.acquisition.protocol.Recording`.
        files
            Lists the files of a recording, where it is more than one.
        is_folder
            Whether a recording is a folder.

        Raises
        ------
        PluginError
            Where the name or an ending is taken or cannot be one, or something else does not keep to the rules.
        """
        added = Format(name, tuple(endings), reader, files, is_folder)
        self._take(FORMATS, added)
        taken = {ending: known.name for known in FORMATS.so_far().values() for ending in known.endings}
        check_format(added, taken)

    def _take_method(
        self,
        registry: Registry[Method[MethodParameters]],
        description: str,
        parameters: type[MethodParameters],
        function: Callable[..., Any],
        *,
        n_arguments: int,
        with_parents: bool = False,
    ) -> None:
        name = check_method(description, parameters, function, n_arguments)
        self._take(registry, Method(name, description, parameters, function, with_parents=with_parents))

    def _take(self, registry: Registry[Any], entry: Any) -> None:  # noqa: ANN401 - of that registry
        again = any(registry is other and entry.name == known.name for other, known in self._entries)
        if again or entry.name in registry.so_far():
            raise PluginError(f"there is a {registry.noun} {entry.name!r} already; choose another name")
        self._entries.append((registry, entry))

    def apply(self, plugin: Plugin) -> tuple[str, ...]:
        """Add everything, and tell what that is."""
        for registry, entry in self._entries:
            registry.add(entry, plugin)
        return tuple(f"{registry.noun} {entry.name}" for registry, entry in self._entries)


_lock = threading.RLock()
_plugins: Plugins | None = None


def load_plugins() -> Plugins:
    """Load all plugins, once in a process; never fails."""
    global _plugins
    with _lock:
        if _plugins is None:
            _plugins = Plugins()  # a plugin that looks into a registry sees what is there by now
            _load_all(_plugins)
        return _plugins


def check_plugins(wanted: Mapping[str, str]) -> None:
    """Make sure that this process has the plugins that work is to be done with.

    Parameters
    ----------
    wanted
        Version of each, by its name.

    Raises
    ------
    PluginError
        Naming each plugin that is not here in this version.
    """
    if not wanted:
        return
    here = {loaded.plugin.name: loaded.plugin.version for loaded in load_plugins().loaded}
    lacking = [
        f"{name} {version} (here: {here.get(name, 'none')})"
        for name, version in sorted(wanted.items())
        if here.get(name) != version
    ]
    if lacking:
        raise PluginError(
            f"the worker at hand lacks plugins that this job takes: {', '.join(lacking)}; give all workers the same "
            f"files in {FOLDER_VARIABLE} and the same packages, and start them again"
        )


def _load_all(plugins: Plugins) -> None:
    for candidate in _candidates(plugins):
        additions = Additions()
        try:
            module, plugin = candidate.load()
            register = getattr(module, "register", None)
            if not callable(register) or len(inspect.signature(register).parameters) != 1:
                raise PluginError("it has no function register(plugin), which tells what it adds")
            register(additions)
        except (Exception, SystemExit) as error:  # whatever is in other people's code
            failed = FailedPlugin(candidate.name, candidate.origin, _reason(error))
            plugins.failed.append(failed)
            logger.warning("the plugin %s (%s) adds nothing: %s", failed.name, failed.origin, failed.reason)
            continue
        plugins.loaded.append(LoadedPlugin(plugin, additions.apply(plugin)))


@dataclass(frozen=True)
class _Candidate:
    """Something that is to be a plugin."""

    name: str
    origin: str
    load: Callable[[], tuple[ModuleType, Plugin]]


def _candidates(plugins: Plugins) -> Iterator[_Candidate]:
    for entry_point in sorted(entry_points(group=ENTRY_POINTS), key=lambda one: one.name):
        yield _Candidate(entry_point.name, entry_point.value, partial(_load_installed, entry_point))
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder:
        return
    try:
        paths = sorted(path for path in Path(folder).iterdir() if path.suffix == ".py" and path.name[0] not in "._")
    except OSError as error:
        failed = FailedPlugin(FOLDER_VARIABLE, folder, f"the folder cannot be read: {error.strerror}")
        plugins.failed.append(failed)
        logger.warning("%s: %s: %s", failed.name, failed.origin, failed.reason)
        return
    for path in paths:
        yield _Candidate(path.stem, str(path), partial(_load_file, path))


def _load_installed(entry_point: EntryPoint) -> tuple[ModuleType, Plugin]:
    module = entry_point.load()
    if not isinstance(module, ModuleType):
        raise PluginError(f"its entry point {entry_point.value} is no module")
    version = entry_point.dist.version if entry_point.dist else "unknown"
    return module, Plugin(entry_point.name, version, entry_point.value)


def _load_file(path: Path) -> tuple[ModuleType, Plugin]:
    content = path.read_bytes()
    name = f"pyama_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError("it cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # as an import does, before its code runs
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    # A file is edited more readily than its version, so what is in it counts too.
    declared, digest = getattr(module, "__version__", None), hashlib.sha256(content).hexdigest()[:12]
    return module, Plugin(path.stem, f"{declared}+{digest}" if declared else digest, str(path))


def _reason(error: BaseException) -> str:
    if isinstance(error, PluginError):
        return str(error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(last.filename).name}, line {last.lineno})"
