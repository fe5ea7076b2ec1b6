"""The traces table of one FOV: a row for each cell and frame."""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.configuration import Channels
from tasks.features import FLUORESCENCE_FEATURES, PHASE_FEATURES, Column, Intensities, Regions, column_name

IDENTITY_COLUMNS = ("fov", "cell", "frame", "time", "good")
POSITION_COLUMNS = ("position_x", "position_y", "bbox_x0", "bbox_y0", "bbox_x1", "bbox_y1")

PARENT_COLUMN = "parent"
"""Mother of a cell, 0 of one that has none; only of methods that follow divisions."""

_LONGEST_HEADER = 1 << 16
_ROWS_IN_A_BLOCK = 2000


def trace_columns(channels: Channels, *, with_parents: bool = False) -> list[str]:
    """Names of the table's columns: features in registry order, phase first, then fluorescence by channel."""
    parent = [PARENT_COLUMN] if with_parents else []
    phase = [column_name(name, channels.phase.channel) for name in channels.phase.features]
    fluorescence = [
        column_name(name, channel.channel)
        for channel in sorted(channels.fluorescence, key=lambda channel: channel.channel)
        for name in channel.features
    ]
    return [*IDENTITY_COLUMNS, *parent, *POSITION_COLUMNS, *phase, *fluorescence]


def header_columns(line: str) -> tuple[str, ...]:
    """Names of columns in the first line of a table; none where it is no line of CSV, e.g. for lack of line ends."""
    try:
        return tuple(name.strip() for name in next(csv.reader([line]), []))
    except csv.Error:
        return ()


def read_columns(table: Path) -> tuple[str, ...]:
    """Names of the columns of a table; raises `OSError` as it comes."""
    with table.open("rb") as file:
        line = file.readline(_LONGEST_HEADER).decode("utf-8-sig", "replace").strip()
    return header_columns(line)


@dataclass
class TraceRows:
    """Rows of a film, collected frame by frame."""

    channels: Channels
    _cells: list[NDArray[np.int32]] = field(default_factory=list)
    _boxes: list[NDArray[np.int32]] = field(default_factory=list)
    _values: list[NDArray[np.float64]] = field(default_factory=list)

    def add_frame(self, cells: NDArray[np.int32], regions: Regions, intensities: dict[int, Intensities]) -> None:
        """Append the regions of the next frame.

        Parameters
        ----------
        cells
            (n,) cell number of each region.
        intensities
            Measurements of each fluorescence channel, by channel number.
        """
        features: list[Column] = [PHASE_FEATURES[name].compute(regions) for name in self.channels.phase.features]
        for channel in sorted(self.channels.fluorescence, key=lambda channel: channel.channel):
            table = intensities[channel.channel]
            features += [FLUORESCENCE_FEATURES[name].compute(table) for name in channel.features]
        self._cells.append(cells)
        self._boxes.append(regions.boxes)
        self._values.append(np.column_stack([regions.centroids, regions.boxes, *features]))

    @property
    def cells(self) -> NDArray[np.int32]:
        """(n,) cell number of each row."""
        return np.concatenate([np.empty(0, np.int32), *self._cells])

    @property
    def boxes(self) -> NDArray[np.int32]:
        """(n, 4) box of each row."""
        return np.concatenate([np.empty((0, 4), np.int32), *self._boxes])

    @property
    def frames(self) -> NDArray[np.int64]:
        """(n,) frame of each row."""
        return np.repeat(np.arange(len(self._cells)), [len(cells) for cells in self._cells])

    @property
    def features(self) -> NDArray[np.float64]:
        """(n, n_features) features of each row, in the table's order."""
        return self._table[:, len(POSITION_COLUMNS) :]

    @property
    def _table(self) -> NDArray[np.float64]:
        """(n, n_columns) positions and features of each row."""
        n_columns = len(trace_columns(self.channels)) - len(IDENTITY_COLUMNS)
        return np.concatenate([np.empty((0, n_columns)), *self._values])

    def to_lines(
        self,
        fov: int,
        times_min: NDArray[np.float64],
        kept: NDArray[np.bool_],
        parents: Mapping[int, int] | None = None,
    ) -> Iterator[str]:
        """Rows of the table as CSV, in pieces, sorted by cell and frame; an undefined value is an empty field.

        Parameters
        ----------
        fov
            Number of the FOV.
        times_min
            (n_frames,) time stamps in minutes.
        kept
            (n,) which rows belong in the table.
        parents
            Mothers of those cells that have one, which need not be in the table; without it, there is no column.
        """
        cells, frames, values = self.cells, self.frames, self._table
        mothers = _mothers(cells, parents)
        rows = np.flatnonzero(kept)
        rows = rows[np.lexsort((frames[rows], cells[rows]))]
        row = f"{fov},%d,%d,%.6f,True" + ",%d" * mothers.shape[1] + ",%.6f" * values.shape[1] + "\n"
        # Numbers of Python take several times the memory of an array's.
        for block in np.split(rows, range(_ROWS_IN_A_BLOCK, len(rows), _ROWS_IN_A_BLOCK)):
            times = times_min[frames[block]]
            table = np.column_stack([cells[block], frames[block], times, mothers[block], values[block]])
            yield "".join([row % tuple(line) for line in table.tolist()]).replace(",nan", ",")


def _mothers(cells: NDArray[np.int32], parents: Mapping[int, int] | None) -> NDArray[np.int32]:
    """Column (n, 1) of the mothers of some cells; (n, 0) where nobody asks."""
    if parents is None:
        return np.empty((len(cells), 0), np.int32)
    mother_of = np.zeros(int(cells.max(initial=0)) + 1, np.int32)
    known = [cell for cell in parents if cell < len(mother_of)]
    mother_of[known] = [parents[cell] for cell in known]
    return mother_of[cells][:, np.newaxis]
