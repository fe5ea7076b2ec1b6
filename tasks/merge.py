"""Merging: the tables of all FOVs of a sample, put together into one table, and into a tidy file for each feature.

One FOV is in memory at a time. Rows are known by FOV, cell and frame, never by their time, which repeats in
recordings whose time stamps are equal. Files appear when all of them are complete.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BufferedWriter
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as arrow_parquet

from tasks.errors import OutputConflictError, TraceFileError
from tasks.merge_plan import MergePlan, SamplePlan, read_columns
from tasks.output.atomic import discard, sync_folder
from tasks.output.layout import MERGE_ATTEMPT, temporary_name
from tasks.output.os_errors import told
from tasks.output.write_back import WriteBack
from tasks.table_rows import Bytes, Indices, TableRows, join_rows, split_rows, truths, whole_numbers
from tasks.trace_files import FALSE_TEXTS, TIDY_COLUMNS, TRUE_TEXTS

TIME_UNIT_LINE = "# Time units: min\n"
_LONGEST_HEADER = 1 << 16
_TYPES = {"fov": pa.int32(), "cell": pa.int32(), "frame": pa.int32(), "good": pa.bool_()}


FovListener = Callable[[int], None]
"""Is told after each FOV how many are done, of all samples."""


@dataclass(frozen=True)
class MergedSample:
    """What became of a sample."""

    name: str
    n_fovs: int
    n_cells: int
    n_rows: int
    files: tuple[str, ...]
    """Names of its files in the output folder."""


def merge(plan: MergePlan, on_fov: FovListener = lambda _: None) -> list[MergedSample]:
    """Write the files of all samples, all of them or none.

    For the holder of the output folder's lock. Files of the same names that are there already are replaced.

    Raises
    ------
    TraceFileError
        Where a table cannot be understood, belongs to another FOV, or has two rows of a cell in a frame.
    OutputError
        Where a table cannot be read or a file cannot be written.
    """
    with _attempt(plan.output_dir) as folder:
        merged = []
        n_done = 0
        for sample in plan.samples:
            with _SampleFiles(folder, sample, plan) as files:
                for fov, table in sample.tables.items():
                    files.add(_read_table(table, fov, plan.columns))
                    n_done += 1
                    on_fov(n_done)
            merged.append(files.summary())
        _put_in_place(folder, plan.output_dir)
    return merged


class _GoodRows(NamedTuple):
    """A table of a FOV, and which of its rows count."""

    rows: TableRows
    order: Indices
    """(n_good,) the good rows, sorted by cell and frame."""
    n_cells: int


def _read_table(table: Path, fov: int, columns: tuple[str, ...]) -> _GoodRows:
    """Read a table and select its good rows."""
    with told("read", table):
        # Between the plan and now, somebody may have put another table in its place.
        if read_columns(table) != columns:
            raise TraceFileError(f"{table} has other columns than it had a moment ago; merge again")
        text = np.fromfile(table, np.uint8)
    try:
        rows = split_rows(_below_header(text), len(columns))
        good = np.flatnonzero(truths(rows, columns.index("good"), "good"))
        fovs, cells, frames = (
            whole_numbers(rows, columns.index(name), name)[good] for name in ("fov", "cell", "frame")
        )
    except TraceFileError as error:
        raise TraceFileError(f"{table}, {error}") from error
    if len(foreign := fovs[fovs != fov]):
        raise TraceFileError(f"{table} holds rows of FOV {foreign[0]} where those of FOV {fov} are expected")
    order = np.lexsort((frames, cells))
    cells, frames = cells[order], frames[order]
    same_cell = cells[1:] == cells[:-1]
    repeated = np.flatnonzero(same_cell & (frames[1:] == frames[:-1]))
    if repeated.size:
        where = f"cell {cells[repeated[0]]} in frame {frames[repeated[0]]}"
        raise TraceFileError(f"{table}: expected one row for each cell and frame; found several of {where}")
    return _GoodRows(rows, good[order], int(np.count_nonzero(~same_cell)) + bool(len(cells)))


def _below_header(text: Bytes) -> Bytes:
    header_end = np.flatnonzero(text[:_LONGEST_HEADER] == ord("\n"))[:1]
    return text[header_end[0] + 1 :] if header_end.size else text[:0]


@dataclass(frozen=True)
class _Output:
    """A table that a sample gets, in whatever formats."""

    stem: str
    """Name of its files without their ending."""
    columns: tuple[int, ...]
    """Which columns of the FOVs' tables it takes."""
    names: tuple[str, ...]
    """What they are called in it."""
    first_line: str = ""


def _outputs(sample: SamplePlan, columns: tuple[str, ...], features: tuple[str, ...]) -> list[_Output]:
    """The table with all columns, and a tidy one for each feature."""
    key = tuple(columns.index(name) for name in TIDY_COLUMNS[:-1])
    return [
        _Output(sample.merged, tuple(range(len(columns))), columns),
        *(
            _Output(sample.tidy(feature), (*key, columns.index(feature)), TIDY_COLUMNS, TIME_UNIT_LINE)
            for feature in features
        ),
    ]


class _SampleFiles:
    """The files of a sample while they are written; on the disk when their block ends."""

    def __init__(self, folder: Path, sample: SamplePlan, plan: MergePlan) -> None:
        self._sample = sample
        self._n_cells = 0
        self._n_rows = 0
        self._open = ExitStack()
        kinds: list[type[_CsvFile | _ParquetFile]] = [_CsvFile, _ParquetFile] if plan.parquet else [_CsvFile]
        self._files = [
            (output.columns, [kind(folder, output) for kind in kinds])
            for output in _outputs(sample, plan.columns, plan.features)
        ]

    def __enter__(self) -> Self:
        write_back = WriteBack()
        with ExitStack() as opened:
            opened.callback(write_back.stop)
            for _, files in self._files:
                for file in files:
                    opened.enter_context(file)
                    write_back.add(file.path)
            self._open = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def add(self, table: _GoodRows) -> None:
        """Append the good rows of a FOV to each file."""
        self._n_cells += table.n_cells
        self._n_rows += len(table.order)
        for columns, files in self._files:
            text = join_rows(table.rows, table.order, columns)
            for file in files:
                file.append(text)

    def summary(self) -> MergedSample:
        """What was written."""
        names = tuple(file.path.name for _, files in self._files for file in files)
        return MergedSample(self._sample.name, len(self._sample.tables), self._n_cells, self._n_rows, names)


class _CsvFile:
    """A CSV file that is on the disk when its block ends."""

    def __init__(self, folder: Path, output: _Output) -> None:
        self.path = folder / f"{output.stem}.csv"
        self._header = output.first_line + ",".join(output.names) + "\n"

    def __enter__(self) -> Self:
        with told("write", self.path):
            self._file = self.path.open("xb")
            self._file.write(self._header.encode())
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with told("write", self.path):
            _finish(self._file, complete=kind is None)

    def append(self, rows: Bytes) -> None:
        """Append lines."""
        with told("write", self.path):
            self._file.write(rows.data)


class _ParquetFile:
    """A Parquet file that is on the disk when its block ends; a row group for each FOV."""

    def __init__(self, folder: Path, output: _Output) -> None:
        self.path = folder / f"{output.stem}.parquet"
        fields = [pa.field(name, _TYPES.get(name, pa.float64())) for name in output.names]
        self._schema = pa.schema(fields, metadata={"time_units": "min"})
        self._read = arrow_csv.ReadOptions(column_names=list(output.names))
        self._convert = arrow_csv.ConvertOptions(
            column_types=self._schema, true_values=TRUE_TEXTS, false_values=FALSE_TEXTS
        )

    def __enter__(self) -> Self:
        with told("write", self.path):
            self._file = self.path.open("xb")
        self._writer = arrow_parquet.ParquetWriter(self._file, self._schema, compression="zstd")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with told("write", self.path):
            if kind is None:
                self._writer.close()
            _finish(self._file, complete=kind is None)

    def append(self, rows: Bytes) -> None:
        """Append lines."""
        if not rows.size:
            return
        try:
            table = arrow_csv.read_csv(pa.BufferReader(pa.py_buffer(rows)), self._read, convert_options=self._convert)
        except pa.ArrowInvalid as error:
            raise TraceFileError(f"{self.path.name} needs numbers in all its columns: {error}") from error
        with told("write", self.path):
            self._writer.write_table(table.replace_schema_metadata(self._schema.metadata))


def _finish(file: BufferedWriter, *, complete: bool) -> None:
    """Close a file; where it is complete, wait until it is on the disk."""
    with file:
        if complete:
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def _attempt(output_dir: Path) -> Iterator[Path]:
    """Have a hidden directory to write in, which is gone after the block."""
    folder = output_dir / temporary_name(MERGE_ATTEMPT)
    with told("create", folder):
        folder.mkdir()
    try:
        yield folder
    finally:
        discard(folder)


def _put_in_place(folder: Path, output_dir: Path) -> None:
    """Give complete files their place; where one cannot have it, none gets its own."""
    paths = sorted(folder.iterdir())
    for path in paths:
        if (output_dir / path.name).is_dir():
            raise OutputConflictError(f"{output_dir / path.name} is a folder where a file is to be; move it away")
    for path in paths:
        with told("write", output_dir / path.name):
            path.replace(output_dir / path.name)
    with told("write", output_dir):
        sync_folder(output_dir)
