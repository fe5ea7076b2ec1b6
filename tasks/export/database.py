"""Traces, merged tables and fits in a database, by an SQLAlchemy URL; needs the extra `database`.

Five tables, which are made where they are not there:

`pyama_table`
    A row for each exported table: `id`, `experiment`, `name` (of its file), `kind` (`traces` or `fits`), `sha256` of
    the file, `n_rows`, and `exported_at` (UTC). Experiment and name together occur once.
`pyama_observation`
    A row for each cell and frame of a traces table: `table_id, fov, cell, frame`, `time_min` (minutes), `good`,
    `position_x`, `position_y` (pixels), `bbox_x0`, `bbox_y0`, `bbox_x1`, `bbox_y1` (pixels, inclusive), `parent`.
`pyama_measurement`
    A row for each feature of each observation: `table_id, fov, cell, frame, feature, channel`, and `value`, which is
    NULL where it is undefined.
`pyama_fit`
    A row for each cell of a table of fits: `table_id, fov, cell`, `model`, `success`, `r_squared`, `n_points`,
    `reason`.
`pyama_fit_parameter`
    A row for each parameter of each of them: `table_id, fov, cell, parameter`, `value`, `std_error`, `at_bound`.

A table is there whole or not at all. Exported again under the same experiment and name, it is left alone where the
file has not changed, and replaced where it has.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Literal

import pyarrow as pa
import sqlalchemy as sa

from tasks.errors import ExportError, TraceFileError
from tasks.export.sources import LONGEST_NAME, Source
from tasks.features import feature_columns
from tasks.fitting.results import FitRow, read_rows
from tasks.trace_files import minutes_per_unit, read_all_columns, read_header
from tasks.traces import POSITION_COLUMNS

Outcome = Literal["written", "replaced", "unchanged"]
RowListener = Callable[[int], None]
"""Told after each batch how many rows of the table are written."""

_ROWS_IN_A_BATCH = 5000
_REFERENCE = "pyama_table.id"

_schema = sa.MetaData()
_tables = sa.Table(
    "pyama_table",
    _schema,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("experiment", sa.String(LONGEST_NAME), nullable=False),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("n_rows", sa.BigInteger, nullable=False),
    sa.Column("exported_at", sa.DateTime(timezone=True), nullable=False),
    sa.UniqueConstraint("experiment", "name"),
)


def _key(*names: str) -> list[sa.Column[Any]]:
    """Columns by which a row is known, the first of them the table that it came from."""
    table: sa.Column[int] = sa.Column("table_id", sa.ForeignKey(_REFERENCE), primary_key=True)
    return [table, *(sa.Column(name, sa.Integer, primary_key=True, autoincrement=False) for name in names)]


_observations = sa.Table(
    "pyama_observation",
    _schema,
    *_key("fov", "cell", "frame"),
    sa.Column("time_min", sa.Double, nullable=False),
    sa.Column("good", sa.Boolean, nullable=False),
    *(sa.Column(name, sa.Double) for name in POSITION_COLUMNS),
    sa.Column("parent", sa.Integer),
)
_measurements = sa.Table(
    "pyama_measurement",
    _schema,
    *_key("fov", "cell", "frame"),
    sa.Column("feature", sa.String(128), primary_key=True),
    sa.Column("channel", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("value", sa.Double),
)
_fits = sa.Table(
    "pyama_fit",
    _schema,
    *_key("fov", "cell"),
    sa.Column("model", sa.String(128), nullable=False),
    sa.Column("success", sa.Boolean, nullable=False),
    sa.Column("r_squared", sa.Double),
    sa.Column("n_points", sa.Integer, nullable=False),
    sa.Column("reason", sa.Text),
)
_fit_parameters = sa.Table(
    "pyama_fit_parameter",
    _schema,
    *_key("fov", "cell"),
    sa.Column("parameter", sa.String(128), primary_key=True),
    sa.Column("value", sa.Double),
    sa.Column("std_error", sa.Double),
    sa.Column("at_bound", sa.Boolean, nullable=False),
)


@contextmanager
def opened_database(url: str) -> Iterator[sa.Engine]:
    """Have a database that has our tables.

    Parameters
    ----------
    url
        As SQLAlchemy has it, e.g. `sqlite:////data/pyama.db`, or `postgresql+psycopg://user@host/database`.

    Raises
    ------
    ExportError
        Where it is no URL, its driver is not installed, or the database refuses; never tells the password.
    """
    try:
        engine = sa.create_engine(url)
    except sa.exc.NoSuchModuleError as error:
        raise ExportError(f"SQLAlchemy does not know this kind of database: {error}") from error
    except sa.exc.ArgumentError as error:
        raise ExportError(
            "the database's URL cannot be understood; write it as sqlite:////data/pyama.db or "
            "postgresql+psycopg://user:password@host/database"
        ) from error
    except ModuleNotFoundError as error:
        raise ExportError(
            f"the database's driver {error.name} is not installed; install pyama-backend[database] for "
            "postgresql+psycopg, or the driver itself"
        ) from error
    try:
        with _told(engine):
            _schema.create_all(engine)
        yield engine
    finally:
        engine.dispose()


def export_table(engine: sa.Engine, source: Source, on_rows: RowListener = lambda _: None) -> Outcome:
    """Write a table, in one transaction.

    Safe to repeat, and for several at once.

    Raises
    ------
    ExportError
        Where the database refuses, e.g. because a cell is in the table twice in the same frame.
    TraceFileError
        Where the table cannot be understood.
    OutputError
        Where it cannot be read.
    """
    digest = source.digest()
    with _told(engine, source.path.name):
        try:
            return _export(engine, source, digest, on_rows)
        except sa.exc.IntegrityError:
            with engine.connect() as connection:
                if _known(connection, source) is None:  # nobody else was faster: it is the table itself
                    raise
            return _export(engine, source, digest, on_rows)


def _export(engine: sa.Engine, source: Source, digest: str, on_rows: RowListener) -> Outcome:
    with engine.begin() as connection:
        known = _known(connection, source)
        if known is not None and known.sha256 == digest:
            return "unchanged"
        about = {
            "experiment": source.experiment, "name": source.name, "kind": source.kind, "sha256": digest, "n_rows": 0,
            "exported_at": datetime.now(UTC),
        }  # fmt: skip
        if known is not None:
            for table in (_observations, _measurements, _fits, _fit_parameters):
                connection.execute(table.delete().where(table.c.table_id == known.id))
            connection.execute(_tables.delete().where(_tables.c.id == known.id))
        connection.execute(_tables.insert().values(about))
        # Asked for apart: not every database returns what it has inserted.
        table_id = connection.execute(sa.select(_tables.c.id).where(_is(source))).scalar_one()
        write = _write_traces if source.kind == "traces" else _write_fits
        n_rows = write(connection, source, table_id, on_rows)
        connection.execute(_tables.update().where(_tables.c.id == table_id).values(n_rows=n_rows))
        return "written" if known is None else "replaced"


def _known(connection: sa.Connection, source: Source) -> sa.Row[Any] | None:
    """Row of a table that is there already; nobody else replaces it meanwhile."""
    return connection.execute(_tables.select().where(_is(source)).with_for_update()).one_or_none()


def _is(source: Source) -> sa.ColumnElement[bool]:
    """By what a table is known."""
    return (_tables.c.experiment == source.experiment) & (_tables.c.name == source.name)


def _write_traces(connection: sa.Connection, source: Source, table_id: int, on_rows: RowListener) -> int:
    header = read_header(source.path)
    features = feature_columns(header.columns)
    in_minutes = minutes_per_unit(header.time_units)
    others = ["good", *(name for name in (*POSITION_COLUMNS, "parent") if name in header.columns)]
    n_rows = 0
    for block in read_all_columns(source.path, header):
        for first in range(0, block.num_rows, _ROWS_IN_A_BATCH):
            rows = block.slice(first, _ROWS_IN_A_BATCH)
            keys = [{"table_id": table_id, **key} for key in rows.select(["fov", "cell", "frame"]).to_pylist()]
            times = [{"time_min": time * in_minutes} for time in rows.column("time").to_pylist()]
            told = rows.select(others).to_pylist()
            observations = [{**key, **time, **other} for key, time, other in zip(keys, times, told, strict=True)]
            measurements = [
                {**key, "feature": feature, "channel": channel, "value": value}
                for column, (feature, channel) in features.items()
                for key, value in zip(keys, _values(rows.column(column)), strict=True)
            ]
            connection.execute(_observations.insert(), observations)
            connection.execute(_measurements.insert(), measurements)
            n_rows += len(keys)
            on_rows(n_rows)
    return n_rows


def _values(column: pa.Array) -> list[float | None]:
    """Numbers as databases have them: NaN, which not all know, is NULL."""
    return [None if value is None or math.isnan(value) else value for value in column.to_pylist()]


def _write_fits(connection: sa.Connection, source: Source, table_id: int, on_rows: RowListener) -> int:
    n_rows = 0
    rows = _fit_rows(source)
    while batch := list(islice(rows, _ROWS_IN_A_BATCH)):
        keys = [{"table_id": table_id, "fov": row["fov"], "cell": row["cell"]} for row in batch]
        fits = [
            {
                **key,
                "model": row["model_type"],
                **{name: row[name] for name in ("success", "r_squared", "n_points", "reason")},
            }
            for key, row in zip(keys, batch, strict=True)
        ]
        parameters = [
            {
                **key,
                "parameter": name,
                "value": value,
                "std_error": row["std_errors"].get(name),
                "at_bound": name in row["at_bound"],
            }
            for key, row in zip(keys, batch, strict=True)
            for name, value in row["fitted_params"].items()
        ]
        connection.execute(_fits.insert(), fits)
        connection.execute(_fit_parameters.insert(), parameters)
        n_rows += len(batch)
        on_rows(n_rows)
    return n_rows


def _fit_rows(source: Source) -> Iterator[FitRow]:
    try:
        yield from read_rows(source.path)
    except ValueError as error:
        raise TraceFileError(f"{source.path.name} is no table of fits: {error}") from error


@contextmanager
def _told(engine: sa.Engine, what: str = "") -> Iterator[None]:
    """Turn what the database refuses into an error that names it, without its password."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        # The first line says what is wrong; the statement with its thousands of values helps nobody.
        reason = str(error.orig).strip().partition("\n")[0]
        lost = f"{what} was not exported: " if what else ""
        raise ExportError(f"{lost}the database {engine.url.render_as_string()} refuses: {reason}") from error
