"""Writing what a fit leaves: table and summary, each there whole or not at all."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from tasks.fitting.files import FitFiles
from tasks.fitting.fit import FitTable, bound_names
from tasks.fitting.linear_algebra import AT_HIGH, AT_LOW
from tasks.fitting.request import FittingRequest
from tasks.fitting.results import FitSummary, summarise, table_text
from tasks.output.atomic import replacing, write_text_atomically
from tasks.output.os_errors import told


def write_results(
    files: FitFiles, table: FitTable, fovs: NDArray[np.int32], cells: NDArray[np.int32], request: FittingRequest
) -> FitSummary:
    """Write table and summary in place of all that an earlier fit of the same name has left.

    Parameters
    ----------
    fovs, cells
        (c,) FOV and number of each cell.

    Raises
    ------
    OutputError
        Where they cannot be written.
    """
    model = table.specification.model
    columns = table_columns(table, fovs, cells)
    # The summary comes last and goes first: what is beside one belongs to it.
    with told("replace", files.summary):
        for path in (files.summary, files.parquet, *files.plots()):
            path.unlink(missing_ok=True)
    write_text_atomically(files.table, table_text(model, columns))
    if request.parquet:
        _write_parquet(files.parquet, columns)
    summary = summary_of(table, request)
    write_text_atomically(files.summary, json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    return summary


def table_columns(table: FitTable, fovs: NDArray[np.int32], cells: NDArray[np.int32]) -> dict[str, Sequence[Any]]:
    """All columns of the table, by name."""
    model = table.specification.model
    return {
        "fov": fovs.tolist(),
        "cell": cells.tolist(),
        "model_type": [model.name] * len(fovs),
        "success": table.success.tolist(),
        "r_squared": table.r_squared.tolist(),
        **{one.name: table.estimate(one.name).tolist() for one in model.parameters},
        **{f"{one.name}_std_error": table.error(one.name).tolist() for one in model.fitted},
        "n_points": table.n_points.tolist(),
        "at_bound": bound_names(table),
        "reason": table.reasons.tolist(),
    }


def summary_of(table: FitTable, request: FittingRequest) -> FitSummary:
    """Totals, quality, and the distribution of each parameter."""
    model = table.specification.model
    at_bound = (table.places == AT_LOW) | (table.places == AT_HIGH)
    return summarise(
        request.digest,
        model,
        table.success,
        table.r_squared,
        {one.name: table.estimate(one.name) for one in model.fitted},
        {one.name: at_bound[:, i] for i, one in enumerate(model.parameters) if not one.fixed},
        table.reasons.tolist(),
    )


def _write_parquet(path: Path, columns: dict[str, Sequence[Any]]) -> None:
    with told("write", path), replacing(path) as temporary:
        parquet.write_table(pa.table(columns), temporary)
