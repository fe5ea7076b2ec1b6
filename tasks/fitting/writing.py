"""Writing what a fit leaves: table and summary, each there whole or not at all."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from tasks.fitting.fit import FitTable, bound_names
from tasks.fitting.linear_algebra import AT_HIGH, AT_LOW
from tasks.fitting.plan import FitPlan
from tasks.fitting.results import FitSummary, read_summary, summarise, table_text
from tasks.output.atomic import placing_text, replacing, sync_file
from tasks.output.os_errors import told


def write_results(plan: FitPlan, table: FitTable, fingerprint: str, run_id: str) -> FitSummary:
    """Write table and summary in place of all that an earlier fit of the same name has left.

    Parameters
    ----------
    fingerprint
        Of the traces and of what was asked, see `FitWork`.
    run_id
        Flow run that has fitted them.

    Raises
    ------
    OutputError
        Where they cannot be written.
    """
    files = plan.files
    model = table.specification.model
    columns = table_columns(table, plan.traces.fovs, plan.traces.cells)
    summary = summary_of(table, fingerprint, _runs(files.summary, fingerprint, run_id))
    with ExitStack() as placing:
        # Files get their places in the opposite order, the summary last: what is beside one belongs to it.
        text = json.dumps(summary, indent=2, ensure_ascii=False) + "\n"
        placing.enter_context(placing_text(files.summary, text))
        if plan.request.parquet:
            placing.enter_context(told("write", files.parquet))
            temporary = placing.enter_context(replacing(files.parquet))
            parquet.write_table(pa.table(columns), temporary)
            sync_file(temporary)
        placing.enter_context(placing_text(files.table, table_text(model, columns)))
        # Only now that all of the new ones are on the disk: where there is no room for them, the old ones stay.
        with told("replace", files.summary):
            for path in (files.summary, files.parquet, *files.plots()):
                path.unlink(missing_ok=True)
    return summary


def table_columns(table: FitTable, fovs: NDArray[np.int32], cells: NDArray[np.int32]) -> dict[str, Sequence[Any]]:
    """All columns of the table, by name.

    Parameters
    ----------
    fovs, cells
        (c,) FOV and number of each cell.
    """
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


def summary_of(table: FitTable, fingerprint: str, runs: list[str]) -> FitSummary:
    """Totals, quality, and the distribution of each parameter."""
    model = table.specification.model
    at_bound = (table.places == AT_LOW) | (table.places == AT_HIGH)
    return summarise(
        fingerprint,
        runs,
        model,
        table.success,
        table.r_squared,
        {one.name: table.estimate(one.name) for one in model.fitted},
        {one.name: at_bound[:, i] for i, one in enumerate(model.parameters) if not one.fixed},
        table.reasons.tolist(),
    )


def _runs(summary: Path, fingerprint: str, run_id: str) -> list[str]:
    """Runs whose results the new ones are: this one, and those that have left the same before."""
    try:
        earlier = read_summary(summary)
    except (OSError, ValueError):
        return [run_id]
    same = earlier["runs"] if earlier["fingerprint"] == fingerprint else []
    return [*(run for run in same if run != run_id), run_id]
