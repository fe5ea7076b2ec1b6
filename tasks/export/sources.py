"""Tables that can be exported: traces tables, of one FOV or merged, and tables of fits."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tasks.comparable import MadeAlike
from tasks.errors import TraceFileError
from tasks.features import feature_columns
from tasks.fitting.results import is_fit_table
from tasks.output import fov_directories, read_manifest
from tasks.output.layout import INSPECTED_ENDING
from tasks.output.os_errors import told
from tasks.trace_files import read_header
from tasks.traces import IDENTITY_COLUMNS

TableKind = Literal["traces", "fits"]

LONGEST_NAME = 255
"""Characters of the name of an experiment that a database keeps."""
_TRACES_ENDING = "_traces.csv"


@dataclass(frozen=True)
class Source:
    """A table that is to be exported."""

    path: Path
    kind: TableKind
    experiment: str
    """What it belongs to."""

    @property
    def name(self) -> str:
        """Name of the table within its experiment; an inspected one takes the place of the table that it corrects."""
        return self.path.name.replace(INSPECTED_ENDING, ".csv")

    def digest(self) -> str:
        """SHA-256 of its bytes, in hexadecimal.

        Raises
        ------
        OutputError
            Where it cannot be read.
        """
        with told("read", self.path), self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def find_sources(paths: Iterable[Path], experiment: str | None = None) -> list[Source]:
    """Name tables by their paths, and those of folders.

    Of a processed folder these are the tables of its FOVs, an inspected one in place of what it corrects; of another
    folder the merged tables and those of fits.

    Parameters
    ----------
    experiment
        What they belong to; by default each to the folder that it was found in, by the full path of that.

    Raises
    ------
    TraceFileError
        Listing all that is no such table; or where two of an experiment have the same name, or the FOVs of a folder
        were not made alike.
    """
    sources: list[Source] = []
    problems: list[str] = []
    for path in paths:
        folder = (path if path.is_dir() else path.parent).resolve()
        tables = _tables_of(path, problems) if path.is_dir() else [path]
        if not tables:
            problems.append(f"{path} holds no table of traces, of a merge or of fits")
        for table in tables:
            try:
                sources.append(Source(table, _kind(table), experiment or str(folder)))
            except OSError as error:
                problems.append(f"{table} cannot be read: {error.strerror}")
            except TraceFileError as error:
                problems.append(str(error))
    problems += _clashes(sources) + _long_names(sources)
    if problems:
        raise TraceFileError("; ".join(problems))
    return sources


def _long_names(sources: Iterable[Source]) -> list[str]:
    """Names that databases have no room for."""
    return [
        f"{name} is too long for the name of an experiment, of which {LONGEST_NAME} characters are kept; give another "
        "one by --experiment"
        for name in sorted({one.experiment for one in sources})
        if len(name) > LONGEST_NAME
    ]


def _tables_of(folder: Path, problems: list[str]) -> list[Path]:
    directories = fov_directories(folder)
    if not directories:
        return sorted([*folder.glob("*_merged.csv"), *folder.glob("*_fitted_*.csv")])
    tables = []
    made = MadeAlike()
    for directory in directories.values():
        made.add(read_manifest(directory))
        for table in sorted(directory.glob(f"*{_TRACES_ENDING}")):
            inspected = table.with_name(table.name.removesuffix(".csv") + INSPECTED_ENDING)
            tables.append(inspected if inspected.exists() else table)
    if (foreign := made.problem()) is not None:
        problems.append(f"{folder}: {foreign}")
    return tables


def _kind(table: Path) -> TableKind:
    if is_fit_table(table):
        return "fits"
    columns = read_header(table).columns
    if not set(IDENTITY_COLUMNS) <= set(columns) or not feature_columns(columns):
        raise TraceFileError(
            f"{table.name} does not hold all that was measured: expected the columns {', '.join(IDENTITY_COLUMNS)} "
            f"and features; found {', '.join(columns)}; give the traces table, or the merged one"
        )
    return "traces"


def _clashes(sources: Iterable[Source]) -> list[str]:
    owner: dict[tuple[str, str], Path] = {}
    return [
        f"{other} and {source.path} would both be the table {source.name} of the experiment {source.experiment}; "
        "export them one by one, and name an experiment for each"
        for source in sources
        if (other := owner.setdefault((source.experiment, source.name), source.path)) != source.path
    ]
