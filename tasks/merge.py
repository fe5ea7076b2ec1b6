"""Merging: the tables of all FOVs of a sample, put together into one table, and into a tidy file for each feature.

A few FOVs are in memory at a time. Rows are known by FOV, cell and frame, never by their time, which repeats in
recordings whose time stamps are equal. Files appear when all of them are complete.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from io import BufferedWriter
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from tasks.errors import OutputConflictError, TraceFileError
from tasks.merge_plan import MergePlan, SamplePlan
from tasks.output import read_manifest
from tasks.output.atomic import discard, sync_folder
from tasks.output.layout import MERGE_ATTEMPT, temporary_name
from tasks.output.os_errors import told
from tasks.output.write_back import WriteBack
from tasks.parquet_table import ParquetTable, naming
from tasks.table_rows import Bytes, Indices, TableRows, join_rows, split_rows, truths, whole_numbers
from tasks.trace_files import TIDY_COLUMNS
from tasks.traces import read_columns

TIME_UNIT_LINE = "# Time units: min\n"
_READERS = 2
"""Threads that read tables, ahead of the one that writes; twice as many tables are in memory at most."""
_LONGEST_HEADER = 1 << 16


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
    merged = []
    n_done = 0
    with _attempt(plan.output_dir) as folder, ThreadPoolExecutor(_READERS, "merge") as readers:
        for sample in plan.samples:
            outputs = _outputs(sample, plan.columns, plan.features)
            n_cells = n_rows = 0
            with ExitStack() as opened:
                files = _open_files(folder, outputs, opened, parquet=plan.parquet)
                read = partial(_read_portion, outputs=outputs, plan=plan)
                for portion in _ahead(readers, read, sample.tables.items()):
                    for text, formats in zip(portion.texts, files, strict=True):
                        for file in formats:
                            file.append(text)
                    n_cells += portion.n_cells
                    n_rows += portion.n_rows
                    n_done += 1
                    on_fov(n_done)
            names = tuple(file.path.name for formats in files for file in formats)
            merged.append(MergedSample(sample.name, len(sample.tables), n_cells, n_rows, names))
        _put_in_place(folder, plan.output_dir)
    return merged


class _Portion(NamedTuple):
    """What a FOV adds to the files of its sample."""

    texts: list[Bytes]
    """Lines for each table."""
    n_cells: int
    n_rows: int


def _ahead(
    readers: ThreadPoolExecutor, read: Callable[[tuple[int, Path]], _Portion], tables: Iterable[tuple[int, Path]]
) -> Iterator[_Portion]:
    """Read tables in their order, a few of them before they are asked for."""
    waiting: deque[Future[_Portion]] = deque()
    try:
        for table in tables:
            waiting.append(readers.submit(read, table))
            if len(waiting) > _READERS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _read_portion(numbered: tuple[int, Path], outputs: Sequence["_Output"], plan: MergePlan) -> _Portion:
    """Read a table, and put its good rows together for each output, sorted by cell and frame."""
    fov, table = numbered
    columns = plan.columns
    rows = _read_rows(table, plan)
    try:
        good = np.flatnonzero(truths(rows, columns.index("good"), "good"))
        fovs, cells, frames = (whole_numbers(rows, columns.index(key), key)[good] for key in ("fov", "cell", "frame"))
    except TraceFileError as error:
        raise TraceFileError(f"{table}, {error}") from error
    if len(foreign := fovs[fovs != fov]):
        raise TraceFileError(f"{table} holds rows of FOV {foreign[0]} where those of FOV {fov} are expected")
    later = (cells[1:] > cells[:-1]) | ((cells[1:] == cells[:-1]) & (frames[1:] > frames[:-1]))
    if not later.all():
        order = np.lexsort((frames, cells))
        good, cells, frames = good[order], cells[order], frames[order]
        _refuse_repetitions(table, cells, frames)
    texts = [join_rows(rows, good, output.columns) for output in outputs]
    return _Portion(texts, int(np.count_nonzero(np.diff(cells))) + bool(len(cells)), len(cells))


def _refuse_repetitions(table: Path, cells: Indices, frames: Indices) -> None:
    repeated = np.flatnonzero((cells[1:] == cells[:-1]) & (frames[1:] == frames[:-1]))
    if repeated.size:
        where = f"cell {cells[repeated[0]]} in frame {frames[repeated[0]]}"
        raise TraceFileError(f"{table}: expected one row for each cell and frame; found several of {where}")


def _read_rows(table: Path, plan: MergePlan) -> TableRows:
    with told("read", table):
        # Between the plan and now, somebody may have put another table in its place.
        if read_columns(table) != plan.columns:
            raise TraceFileError(f"{table} has other columns than it had a moment ago; merge again")
        text = np.fromfile(table, np.uint8)
    # Looked at after the table: one that was replaced before it was read is found out.
    manifest = read_manifest(table.parent)
    if manifest is not None and manifest.fingerprint != plan.fingerprint:
        raise TraceFileError(f"{table} was made anew, from another recording or with other parameters; merge again")
    try:
        return split_rows(_below_header(text), len(plan.columns))
    except TraceFileError as error:
        raise TraceFileError(f"{table}, {error}") from error


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


def _open_files(
    folder: Path, outputs: Sequence[_Output], opened: ExitStack, *, parquet: bool
) -> list[list["_CsvFile | _ParquetFile"]]:
    """Open the files of each output, which are on the disk when the stack is left."""
    kinds: list[type[_CsvFile | _ParquetFile]] = [_CsvFile, _ParquetFile] if parquet else [_CsvFile]
    write_back = WriteBack()
    opened.callback(write_back.stop)
    files = [[kind(folder, output) for kind in kinds] for output in outputs]
    for formats in files:
        for file in formats:
            opened.enter_context(file)
            write_back.add(file.path)
    return files


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
        self._names = output.names

    def __enter__(self) -> Self:
        with told("write", self.path):
            self._file = self.path.open("xb")
        self._table = ParquetTable(self._file, self._names)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with told("write", self.path):
            try:
                # Also after an error: otherwise it would write to the closed file when it is collected.
                self._table.close()
            finally:
                _finish(self._file, complete=kind is None)

    def append(self, rows: Bytes) -> None:
        """Append lines."""
        with told("write", self.path), naming(self.path.name):
            self._table.append(rows)


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
            if path.suffix == ".csv" and path.with_suffix(".parquet") not in paths:
                # That of an earlier merge would no longer say the same.
                (output_dir / path.name).with_suffix(".parquet").unlink(missing_ok=True)
    with told("write", output_dir):
        sync_folder(output_dir)
