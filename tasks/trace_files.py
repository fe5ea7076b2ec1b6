"""Trace files: one value of each cell over time, read from a tidy file or from a traces table.

A tidy file has the columns `time, fov, cell, value`; a traces table, of one FOV or merged, has `fov, cell, frame,
time, good` and features, one of which is read. In both, a first line `# Time units: h` may tell the unit of the time
(`min`, `h` or `s`); without it the time is in minutes.
"""

import csv
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
from numpy.typing import NDArray

from tasks.errors import TraceFileError
from tasks.features import feature_columns
from tasks.traces import IDENTITY_COLUMNS, PARENT_COLUMN, POSITION_COLUMNS, header_columns

TimeUnit = Literal["min", "h", "s"]

TIDY_COLUMNS = ("time", "fov", "cell", "value")
TRUE_TEXTS = ("True", "true", "TRUE", "1")
FALSE_TEXTS = ("False", "false", "FALSE", "0")
"""What tables hold in the columns `good` and `success`: spreadsheets write it in their own way."""

_UNIT_LINE = re.compile(r"#\s*time units?\s*:\s*(.*?)[\s,;]*", re.IGNORECASE)
_UNIT_NAMES: dict[str, TimeUnit] = {
    **dict.fromkeys(("min", "minute", "minutes"), "min"),
    **dict.fromkeys(("h", "hour", "hours"), "h"),
    **dict.fromkeys(("s", "second", "seconds"), "s"),
}
_PER_HOUR: dict[TimeUnit, float] = {"min": 60.0, "h": 1.0, "s": 3600.0}
_DEFAULT_FEATURE = "intensity_total"
_NULLS = ["", "nan", "NaN", "NAN", "NA", "N/A", "null", "None"]
_TYPES = {"fov": pa.int32(), "cell": pa.int32(), "frame": pa.int32(), "time": pa.float64(), "good": pa.bool_()}
_KIND_NAMES = {"fov": "a whole number", "cell": "a whole number", "frame": "a whole number", "good": "true or false"}
_BLOCK_SIZE = 1 << 23
_LONGEST_LINE = 1 << 16
_EXPECTED = (
    f"expected the columns {', '.join(TIDY_COLUMNS)} (a tidy file), or {', '.join(IDENTITY_COLUMNS)} and features "
    "like intensity_total_ch_1 (a traces table), separated by commas"
)


@dataclass(frozen=True)
class TraceSet:
    """The traces of a file: cells sorted by FOV and number, and the rows of each cell one after the other.

    The rows of cell i are those from `offsets[i]` to before `offsets[i + 1]`, in order of their frame, or of their
    time where the file tells no frames. A time may repeat only in a file that tells frames.
    """

    columns: tuple[str, ...]
    """Columns of the file."""
    column: str
    """The column that the values are from."""
    time_units: TimeUnit
    """Unit of `times`, as in the file."""
    fovs: NDArray[np.int32]
    """(n_cells,) FOV of each cell."""
    cells: NDArray[np.int32]
    """(n_cells,) number of each cell within its FOV."""
    offsets: NDArray[np.int64]
    """(n_cells + 1,) where the rows of each cell begin."""
    times: NDArray[np.float64]
    """(n_rows,) finite times in the file's own unit."""
    values: NDArray[np.float64]
    """(n_rows,) values; NaN or infinite where the file has them so, NaN where a field is empty."""
    frames: NDArray[np.int32] | None
    """(n_rows,) frame numbers; None where the file tells none."""
    n_left_out: int
    """Rows that were left out because they are marked as not good."""

    @property
    def n_cells(self) -> int:
        """How many traces there are."""
        return len(self.cells)

    @property
    def times_h(self) -> NDArray[np.float64]:
        """(n_rows,) times in hours; computed anew each time."""
        return self.times / _PER_HOUR[self.time_units]


class TraceStatistics(NamedTuple):
    """What can be said of a trace file before it is fitted."""

    n_fovs: int
    n_cells: int
    n_rows: int
    n_timepoints: int
    """Time points of the FOV that has most."""
    time_range: tuple[float, float]
    """First and last time, in the file's unit."""
    value_range: tuple[float, float] | None
    """Smallest and largest finite value; None where there is none."""
    n_gaps: int
    """Time points between the first and the last of a cell at which its FOV was seen, but not the cell."""
    n_cells_with_gaps: int
    n_non_finite: int
    """Values that are empty, NaN or infinite."""


class TraceHeader(NamedTuple):
    """What stands above the rows of a trace file."""

    columns: tuple[str, ...]
    time_units: TimeUnit
    n_lines: int


def read_traces(path: Path, column: str | None = None) -> TraceSet:
    """Read a trace file; rows that are marked as not good are left out.

    Parameters
    ----------
    path
        A CSV file.
    column
        The column to take values from. By default `value` of a tidy file; of a table its only feature, or else the
        total intensity in the lowest channel that has one.

    Raises
    ------
    OSError
        As the operating system refuses it.
    TraceFileError
        Where it is not a trace file, lacks the column, holds something else than numbers, has two rows of a cell at
        the same time point, or no good row; tells what was expected and what was found.
    """
    header = read_header(path)
    chosen = _choose_column(path, header.columns, column)
    table, n_left_out = _read_rows(path, header, chosen)
    keys = table["frame" if "frame" in table else "time"]
    table = _sort(table, keys)
    fov, cell = table["fov"], table["cell"]
    begins = np.append(True, (fov[1:] != fov[:-1]) | (cell[1:] != cell[:-1]))
    starts = np.flatnonzero(begins)
    frames = table.get("frame")
    _refuse_repetitions(path, table, begins)
    return TraceSet(
        columns=header.columns,
        column=chosen,
        time_units=header.time_units,
        fovs=fov[starts],
        cells=cell[starts],
        offsets=np.append(starts, len(fov)).astype(np.int64),
        times=table["time"],
        values=table[chosen],
        frames=frames,
        n_left_out=n_left_out,
    )


def describe_traces(traces: TraceSet) -> TraceStatistics:
    """Count cells, time points and gaps, and find the ranges."""
    keys = traces.times if traces.frames is None else traces.frames
    fov_starts = np.flatnonzero(np.append(True, traces.fovs[1:] != traces.fovs[:-1]))
    n_timepoints, gaps = 0, np.zeros(traces.n_cells, np.int64)
    for first, last in zip(fov_starts, [*fov_starts[1:], traces.n_cells], strict=True):
        offsets = traces.offsets[first : last + 1]
        time_points, position = np.unique(keys[offsets[0] : offsets[-1]], return_inverse=True)
        n_timepoints = max(n_timepoints, len(time_points))
        starts, stops = offsets[:-1] - offsets[0], offsets[1:] - offsets[0]
        gaps[first:last] = position[stops - 1] - position[starts] + 1 - (stops - starts)
    finite = traces.values[np.isfinite(traces.values)]
    return TraceStatistics(
        n_fovs=len(fov_starts),
        n_cells=traces.n_cells,
        n_rows=len(traces.values),
        n_timepoints=n_timepoints,
        time_range=(float(traces.times.min()), float(traces.times.max())),
        value_range=(float(finite.min()), float(finite.max())) if finite.size else None,
        n_gaps=int(gaps.sum()),
        n_cells_with_gaps=int(np.count_nonzero(gaps)),
        n_non_finite=len(traces.values) - len(finite),
    )


def read_header(path: Path) -> TraceHeader:
    """Read comment lines and the names of the columns.

    Raises
    ------
    OSError
        As the operating system refuses it.
    TraceFileError
        Where it is not a trace file.
    """
    time_units: TimeUnit = "min"
    n_lines = 0
    with path.open("rb") as file:
        while True:
            raw = file.readline(_LONGEST_LINE)
            n_lines += 1
            line = raw.decode("utf-8-sig" if n_lines == 1 else "utf-8", "replace").strip()
            if not line.startswith("#"):
                break
            if match := _UNIT_LINE.fullmatch(line):
                time_units = _time_unit(path, match[1])
    columns = header_columns(line)
    if not {"time", "fov", "cell"} <= set(columns) or not {"value", "frame"} & set(columns):
        raise TraceFileError(f"{path.name} is no trace file: {_EXPECTED}; found {_shorten(line) or 'an empty line'}")
    if repeated := sorted({name for name in columns if columns.count(name) > 1}):
        raise TraceFileError(f"{path.name} is no trace file: its column {repeated[0]!r} is there more than once")
    return TraceHeader(columns, time_units, n_lines)


def read_all_columns(path: Path, header: TraceHeader) -> Iterator[pa.RecordBatch]:
    """Read all columns of all rows, block by block: FOVs, cells and frames as int32, `good` as bool, others as double.

    Raises
    ------
    OSError
        As the operating system refuses it.
    TraceFileError
        Where a row does not fit; tells which.
    """
    types = {name: _TYPES.get(name, pa.float64()) for name in header.columns}
    try:
        for batch in _batches(path, header, types):
            _refuse_gaps(path, header, types, batch)
            yield batch
    except pa.ArrowInvalid as error:
        raise _fault(path, header, types, str(error)) from error


def minutes_per_unit(unit: TimeUnit) -> float:
    """How many minutes a time unit has."""
    return 60.0 / _PER_HOUR[unit]


def _time_unit(path: Path, text: str) -> TimeUnit:
    unit = _UNIT_NAMES.get(text.lower())
    if unit is None:
        raise TraceFileError(f"{path.name}: expected time units of min, h or s in its first line; found {text!r}")
    return unit


def _choose_column(path: Path, columns: tuple[str, ...], asked: str | None) -> str:
    """Name the column that values are taken from."""
    allowed = [name for name in columns if name not in (*IDENTITY_COLUMNS, PARENT_COLUMN)]
    if asked is not None:
        if asked not in allowed:
            raise TraceFileError(f"{path.name} has no column of values {asked!r}; it has {', '.join(allowed)}")
        return asked
    if "value" in columns:
        return "value"
    features = feature_columns(columns)
    totals = {channel: column for column, (name, channel) in features.items() if name == _DEFAULT_FEATURE}
    if totals:
        return totals[min(totals)]
    if len(features) == 1:
        return next(iter(features))
    found = list(features) or [name for name in allowed if name not in POSITION_COLUMNS]
    raise TraceFileError(
        f"{path.name}: expected a column intensity_total_ch_N, or a single feature; found "
        f"{', '.join(found) or 'no feature'}; name the column to read"
    )


def _read_rows(path: Path, header: TraceHeader, column: str) -> tuple[dict[str, NDArray[Any]], int]:
    """Read the good rows of the columns that matter, and count the others."""
    names = [name for name in _TYPES if name in header.columns]
    types: dict[str, pa.DataType] = {name: _TYPES[name] for name in names}
    types[column] = pa.float64()
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in types if name != "good"}
    n_left_out = 0
    try:
        for batch in _batches(path, header, types):
            _refuse_gaps(path, header, types, batch)
            if "good" in types:
                n_rows = batch.num_rows
                batch = batch.filter(batch.column("good"))
                n_left_out += n_rows - batch.num_rows
            for name, arrays in parts.items():
                arrays.append(batch.column(name).to_numpy(zero_copy_only=False))
    except pa.ArrowInvalid as error:
        raise _fault(path, header, types, str(error)) from error
    if not any(map(len, parts["fov"])):
        found = f"{n_left_out} rows, none of them good" if n_left_out else "no row below its header"
        raise TraceFileError(f"{path.name} holds no trace: expected a row for each cell and time point; found {found}")
    # One column after the other, so that at no time all of them are there twice.
    return {name: np.concatenate(parts.pop(name)) for name in list(parts)}, n_left_out


def _refuse_gaps(path: Path, header: TraceHeader, types: dict[str, pa.DataType], batch: pa.RecordBatch) -> None:
    """Make sure that each row tells its cell and its time."""
    for name in (name for name in _TYPES if name in types):
        if batch.column(name).null_count:
            raise _fault(path, header, types, f"a field of the column {name} is empty")
    if not np.isfinite(batch.column("time").to_numpy()).all():
        raise _fault(path, header, types, "a time is not finite")


def _batches(path: Path, header: TraceHeader, types: dict[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
    """Read a file block by block; raises `ArrowInvalid` where a row does not fit."""
    with path.open("rb") as file:
        for _ in range(header.n_lines):
            file.readline(_LONGEST_LINE)
        if not file.read(1):
            return
        file.seek(-1, 1)
        yield from arrow_csv.open_csv(
            file,
            arrow_csv.ReadOptions(column_names=list(header.columns), block_size=_BLOCK_SIZE),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=list(types),
                column_types=types,
                null_values=_NULLS,
                true_values=TRUE_TEXTS,
                false_values=FALSE_TEXTS,
            ),
        )


def _fault(path: Path, header: TraceHeader, types: dict[str, pa.DataType], otherwise: str) -> TraceFileError:
    """Find the first row that does not fit, by a slow second look at the file, and tell what is wrong with it."""
    with path.open(encoding="utf-8", errors="replace", newline="") as file, suppress(csv.Error):
        for _ in range(header.n_lines):
            file.readline(_LONGEST_LINE)
        reader = csv.reader(file)
        for fields in reader:
            line = header.n_lines + reader.line_num
            if fields and len(fields) != len(header.columns):
                return TraceFileError(
                    f"{path.name}, line {line}: expected {len(header.columns)} fields, as in the header; "
                    f"found {len(fields)}: {_shorten(','.join(fields))}"
                )
            for name, text in zip(header.columns, fields, strict=False):
                if name in types and not _fits(name, text.strip()):
                    kind = _KIND_NAMES.get(name, "a number")
                    return TraceFileError(
                        f"{path.name}, line {line}, column {name}: expected {kind}; found {_shorten(text)}"
                    )
    return TraceFileError(f"{path.name} cannot be read: {otherwise}")


def _fits(name: str, text: str) -> bool:
    if name == "good":
        return text in {*TRUE_TEXTS, *FALSE_TEXTS}
    if name in _KIND_NAMES:
        return bool(re.fullmatch(r"[+-]?[0-9]{1,10}", text)) and abs(int(text)) < 2**31
    if text in _NULLS:
        return name != "time"
    with suppress(ValueError):
        return bool(np.isfinite(float(text))) or name != "time"
    return False


def _sort(table: dict[str, NDArray[Any]], keys: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Sort rows by FOV, cell and time point; most files are sorted already."""
    sorting = (table["fov"], table["cell"], keys)
    later = np.ones(len(keys) - 1, bool)
    for values in reversed(sorting):
        later = (values[1:] > values[:-1]) | ((values[1:] == values[:-1]) & later)
    if later.all():
        return table
    order = np.lexsort(sorting[::-1])
    return {name: values[order] for name, values in table.items()}


def _refuse_repetitions(path: Path, table: dict[str, NDArray[Any]], begins: NDArray[np.bool_]) -> None:
    """Make sure that no cell is there twice at a time point."""
    what = "frame" if "frame" in table else "time"
    keys = table[what]
    again = np.flatnonzero(~begins[1:] & (keys[1:] == keys[:-1]))
    if again.size:
        row = again[0]
        raise TraceFileError(
            f"{path.name}: expected one row for each cell and {what}; found several of FOV {table['fov'][row]}, "
            f"cell {table['cell'][row]} at {what} {keys[row]:g} ({again.size} rows too many in all)"
        )


def _shorten(text: str, limit: int = 200) -> str:
    return repr(text) if len(text) <= limit else repr(text[:limit]) + "…"
