"""Parquet files of tables that are at hand as lines of CSV; both say the same then."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as arrow_parquet
from numpy.typing import NDArray

from tasks.errors import TraceFileError
from tasks.trace_files import FALSE_TEXTS, TRUE_TEXTS
from tasks.traces import PARENT_COLUMN

_TYPES = {"fov": pa.int32(), "cell": pa.int32(), "frame": pa.int32(), "good": pa.bool_(), PARENT_COLUMN: pa.int32()}


class ParquetTable:
    """A Parquet file that grows by lines of CSV: numbers as double, times in minutes.

    Parameters
    ----------
    file
        Where it is written to; closing it is the caller's part.
    names
        Names of the columns.
    """

    def __init__(self, file: IO[bytes], names: Sequence[str]) -> None:
        fields = [pa.field(name, _TYPES.get(name, pa.float64())) for name in names]
        self._schema = pa.schema(fields, metadata={"time_units": "min"})
        self._read = arrow_csv.ReadOptions(column_names=list(names))
        self._convert = arrow_csv.ConvertOptions(
            column_types=self._schema, true_values=TRUE_TEXTS, false_values=FALSE_TEXTS
        )
        self._writer = arrow_parquet.ParquetWriter(file, self._schema, compression="zstd")

    def append(self, rows: NDArray[np.uint8] | bytes) -> None:
        """Append lines, as a row group of their own.

        Raises
        ------
        TraceFileError
            Where something else than a number is in a column.
        """
        if not len(rows):
            return
        try:
            table = arrow_csv.read_csv(pa.BufferReader(pa.py_buffer(rows)), self._read, convert_options=self._convert)
        except pa.ArrowInvalid as error:
            raise TraceFileError(f"a table of Parquet needs numbers in all its columns: {error}") from error
        self._writer.write_table(table.replace_schema_metadata(self._schema.metadata))

    def close(self) -> None:
        """Write what ends the file."""
        self._writer.close()


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Have errors in the lines of a table name it."""
    try:
        yield
    except TraceFileError as error:
        raise TraceFileError(f"{name}: {error}") from error
