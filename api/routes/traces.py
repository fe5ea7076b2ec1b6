"""What is in a trace file."""

import math
from pathlib import Path
from typing import Annotated, Self

import anyio
import numpy as np
from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from api.errors import InvalidRequestError
from api.paths import existing_path, refused
from api.responses import Answer, documented_errors
from api.security import READ_ONLY
from tasks.configuration import Index, Model
from tasks.trace_files import TimeUnit, TraceSet, describe_traces, read_traces

_MOST_AT_A_TIME = 2
"""Files that are read at once: a large one takes seconds, and memory."""
_MOST_CELLS = 100

router = APIRouter(prefix="/analysis", tags=["analysis"])


class CellName(Model):
    """A cell of a trace file."""

    fov: Index
    cell: Annotated[int, Field(ge=0)]


class LoadTracesRequest(Model):
    """Which file to look at."""

    csv_path: str = Field(description="Absolute path of the CSV file", examples=["/data/merged/control_merged.csv"])
    column: str | None = Field(
        None,
        description="Column of the values. By default `value` of a tidy file; of a table its only feature, or else the "
        "total intensity in the lowest channel that has one",
        examples=["intensity_total_ch_1"],
    )
    cells: Annotated[list[CellName], Field(max_length=_MOST_CELLS)] = Field(
        [], description="Cells whose traces are told too", examples=[[{"fov": 0, "cell": 7}]]
    )


class TraceData(BaseModel):
    """Cells, times and values of a trace file; rows that are marked as not good do not count."""

    n_fovs: int
    n_cells: int
    n_timepoints: int = Field(description="Time points of the FOV that has most")
    n_rows: int
    n_left_out: int = Field(description="Rows that are marked as not good")
    time_units: TimeUnit
    time_range: tuple[float, float] = Field(description="First and last time, in time_units")
    columns: list[str]
    column: str = Field(description="Where the values are from")
    value_range: tuple[float, float] | None = Field(description="Smallest and largest finite value")
    n_non_finite: int = Field(description="Values that are empty, NaN or infinite")
    n_gaps: int = Field(description="Time points at which a cell is missing between its first and its last")
    n_cells_with_gaps: int

    @classmethod
    def of(cls, traces: TraceSet) -> Self:
        """Tell what is in a file."""
        told = describe_traces(traces)
        return cls(
            **told._asdict(),
            n_left_out=traces.n_left_out,
            time_units=traces.time_units,
            columns=list(traces.columns),
            column=traces.column,
        )


class Trace(BaseModel):
    """The values of a cell."""

    fov: int
    cell: int
    times: list[float] = Field(description="In time_units of the file")
    values: list[float | None] = Field(description="Null where a value is empty, NaN or infinite")

    @classmethod
    def of(cls, traces: TraceSet, asked: CellName) -> Self:
        """Find the trace of a cell."""
        (found,) = np.nonzero((traces.fovs == asked.fov) & (traces.cells == asked.cell))
        if not found.size:
            raise InvalidRequestError(f"cells: the file has no good rows of cell {asked.cell} in FOV {asked.fov}")
        rows = slice(*traces.offsets[found[0] : found[0] + 2])
        values = traces.values[rows]
        told = [value if math.isfinite(value) else None for value in values.tolist()]
        return cls(fov=asked.fov, cell=asked.cell, times=traces.times[rows].tolist(), values=told)


class TracesAnswer(Answer):
    """What is in the file."""

    data: TraceData
    traces: list[Trace] = Field(description="Those that were asked for, in the order of `cells`")


_reading = anyio.CapacityLimiter(_MOST_AT_A_TIME)


@router.post("/load-traces", responses=documented_errors("FILE_NOT_FOUND"), openapi_extra=READ_ONLY)
async def load_traces(body: LoadTracesRequest, request: Request) -> TracesAnswer:
    """Read a trace file, tidy or a table, and tell its cells, times, values, and what is missing."""
    return await anyio.to_thread.run_sync(_read, body, request, limiter=_reading)


def _read(body: LoadTracesRequest, request: Request) -> TracesAnswer:
    path: Path = existing_path(request, body.csv_path, "csv_path")
    try:
        traces = read_traces(path, body.column)
    except OSError as error:
        raise refused(error, body.csv_path, "csv_path") from error
    return TracesAnswer(data=TraceData.of(traces), traces=[Trace.of(traces, asked) for asked in body.cells])
