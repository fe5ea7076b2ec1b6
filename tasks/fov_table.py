"""The table of one FOV as arrays: what is known of each of its cells, frame by frame."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
from numpy.typing import NDArray

from tasks.errors import TraceFileError
from tasks.features import FLUORESCENCE_FEATURES, PHASE_FEATURES, parse_column_name
from tasks.trace_files import FALSE_TEXTS, TRUE_TEXTS
from tasks.traces import IDENTITY_COLUMNS, POSITION_COLUMNS, read_columns

_TYPES = {
    "fov": pa.int32(), "cell": pa.int32(), "frame": pa.int32(), "time": pa.float64(), "good": pa.bool_(),
}  # fmt: skip


class FeatureColumn(NamedTuple):
    """A column that holds a feature in a channel."""

    name: str
    feature: str
    channel: int
    unit: str | None
    """None for a feature that is not known here."""


@dataclass(frozen=True)
class CellRows:
    """What is known of one cell, in order of the frames."""

    cell: int
    good: bool
    """Whether all its rows are marked as good."""
    frames: NDArray[np.int32]
    times: NDArray[np.float64]
    """In minutes."""
    positions: NDArray[np.float64]
    """(n_frames, 2) x, y."""
    boxes: NDArray[np.float64]
    """(n_frames, 4) first and last pixel index, inclusive: x0, y0, x1, y1."""
    values: dict[str, NDArray[np.float64]]
    """By column."""


class FovTable:
    """The table of a FOV.

    Parameters
    ----------
    path
        A traces table, as it was computed or as a person has corrected it.

    Raises
    ------
    OSError
        As the operating system refuses it.
    TraceFileError
        Where it is no table of traces.
    """

    def __init__(self, path: Path) -> None:
        columns = _header(path)
        self.features = tuple(described for name in columns if (described := _feature(name)))
        table = _read(path, columns)
        cells, frames = table["cell"].to_numpy(), table["frame"].to_numpy()
        order = np.lexsort((frames, cells))
        self._table = table
        self._order = order
        self._frames = frames[order]
        self._good = table["good"].to_numpy()[order]
        self.cells, self._starts = np.unique(cells[order], return_index=True)
        self._stops = np.append(self._starts[1:], len(order))

    def __len__(self) -> int:
        return len(self.cells)

    def good(self) -> dict[int, bool]:
        """Whether each cell is good, by its number: all its rows are."""
        if not len(self):
            return {}
        good = np.logical_and.reduceat(self._good, self._starts)
        return dict(zip(self.cells.tolist(), good.tolist(), strict=True))

    def rows_of(self, cells: Collection[int], features: Sequence[str]) -> list[CellRows]:
        """Rows of some cells that are in the table, with some of its columns.

        Parameters
        ----------
        features
            Names of columns.
        """
        found = np.searchsorted(self.cells, np.array(sorted(cells), self.cells.dtype))
        rows = []
        for start, stop in zip(self._starts[found], self._stops[found], strict=True):
            there = self._order[start:stop]
            place = np.column_stack([self._column(name, there) for name in POSITION_COLUMNS])
            rows.append(
                CellRows(
                    cell=int(self.cells[np.searchsorted(self._starts, start)]),
                    good=bool(self._good[start:stop].all()),
                    frames=self._frames[start:stop],
                    times=self._column("time", there),
                    positions=place[:, :2],
                    boxes=place[:, 2:],
                    values={name: self._column(name, there) for name in features},
                )
            )
        return rows

    def cell_at(self, frame: int, x: float, y: float) -> int | None:
        """Cell in whose box a pixel lies in a frame; of several, the one whose centroid is nearest."""
        there = np.flatnonzero(self._table["frame"].to_numpy() == frame)
        place = np.column_stack([self._column(name, there) for name in POSITION_COLUMNS])
        inside = (place[:, 2] <= x) & (x <= place[:, 4]) & (place[:, 3] <= y) & (y <= place[:, 5])
        if not inside.any():
            return None
        distance = np.where(inside, np.hypot(place[:, 0] - x, place[:, 1] - y), np.inf)
        return int(self._table["cell"].to_numpy()[there[distance.argmin()]])

    def _column(self, name: str, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        column: NDArray[np.float64] = self._table[name].to_numpy()[rows].astype(np.float64)
        return column


def _header(path: Path) -> tuple[str, ...]:
    columns = read_columns(path)
    missing = [name for name in (*IDENTITY_COLUMNS, *POSITION_COLUMNS) if name not in columns]
    if missing:
        raise TraceFileError(f"{path.name} is no traces table: it lacks the columns {', '.join(missing)}")
    if len(set(columns)) < len(columns):
        raise TraceFileError(f"{path.name} is no traces table: a column is there more than once")
    return columns


def _feature(column: str) -> FeatureColumn | None:
    parsed = parse_column_name(column)
    if parsed is None:
        return None
    name, channel = parsed
    feature = PHASE_FEATURES.get(name) or FLUORESCENCE_FEATURES.get(name)
    return FeatureColumn(column, name, channel, feature.unit if feature else None)


def _read(path: Path, columns: tuple[str, ...]) -> pa.Table:
    wanted = [name for name in columns if name in _TYPES or name in POSITION_COLUMNS or parse_column_name(name)]
    try:
        table = arrow_csv.read_csv(
            path,
            arrow_csv.ReadOptions(column_names=list(columns), skip_rows=1, use_threads=False),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=wanted,
                column_types={name: _TYPES.get(name, pa.float64()) for name in wanted},
                true_values=TRUE_TEXTS,
                false_values=FALSE_TEXTS,
            ),
        )
    except pa.ArrowInvalid as error:
        raise TraceFileError(f"{path.name} cannot be read: {error}") from error
    for name in _TYPES:
        if table[name].null_count:
            raise TraceFileError(f"{path.name} cannot be read: a field of the column {name} is empty")
    return table
