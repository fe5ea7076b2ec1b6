"""Registries of what users choose by name; plugins add to them."""

import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar


class Named(Protocol):
    """Something that is chosen by its name."""

    @property
    def name(self) -> str:
        """What users call it."""
        ...


Entry = TypeVar("Entry", bound=Named)


def resolve(function: str | Callable[..., Any]) -> Callable[..., Any]:
    """What an entry names by its address `package.module:function`, which is imported now; or the function itself."""
    return pkgutil.resolve_name(function) if isinstance(function, str) else function


@dataclass(frozen=True)
class Plugin:
    """Where something comes from that is not part of this project."""

    name: str
    version: str
    """Changes whenever its results may."""
    origin: str
    """File, or package and module."""


class Registry(Mapping[str, Entry]):
    """What can be chosen, by name: our own first, then what plugins have added, in the order of their names.

    Plugins are loaded when somebody looks into a registry for the first time.

    Parameters
    ----------
    noun
        What the entries are, in the singular.
    """

    def __init__(self, noun: str, own: Iterable[Entry]) -> None:
        self.noun = noun
        self._entries = {entry.name: entry for entry in own}
        self._plugins: dict[str, Plugin] = {}

    def __getitem__(self, name: str) -> Entry:
        return self._loaded()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaded())

    def __len__(self) -> int:
        return len(self._loaded())

    def plugins_of(self, names: Iterable[str]) -> dict[str, str]:
        """Versions of the plugins that entries come from, by the plugins' names; our own have none."""
        self._loaded()
        used = (self._plugins.get(name) for name in names)
        return {plugin.name: plugin.version for plugin in used if plugin is not None}

    def so_far(self) -> Mapping[str, Entry]:
        """What is there by now; for the plugins that are being loaded."""
        return self._entries

    def add(self, entry: Entry, plugin: Plugin) -> None:
        """Add an entry of a plugin, whose name is free."""
        self._entries[entry.name] = entry
        self._plugins[entry.name] = plugin

    def _loaded(self) -> dict[str, Entry]:
        from tasks.plugins import load_plugins  # here, because plugins are given our registries

        load_plugins()
        return self._entries
