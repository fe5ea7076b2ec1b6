"""What a fit leaves: a table with a row for each cell, and a summary. Light, like `tasks.fitting.catalog`."""

import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter
from typing_extensions import TypedDict  # pydantic takes no other before Python 3.12

from tasks.fitting.catalog import FITTING_MODELS, FittingModel
from tasks.trace_files import FALSE_TEXTS, TRUE_TEXTS
from tasks.traces import read_columns

GOOD_R_SQUARED = 0.9
MEDIUM_R_SQUARED = 0.7
"""R² above which a fit counts as good, or as medium; the others are poor."""

_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


class ParameterSummary(TypedDict):
    """Distribution of a fitted parameter over the successful fits; all None where there is none."""

    unit: str
    mean: float | None
    std: float | None
    min: float | None
    q05: float | None
    q25: float | None
    median: float | None
    q75: float | None
    q95: float | None
    max: float | None
    n_at_bound: int


class FitSummary(TypedDict):
    """What came out of all cells together."""

    fingerprint: str
    """Digest of the trace file's content and of all that was asked: equal ones have equal results."""
    runs: list[str]
    """Flow runs whose results these are: the one that wrote them, and those before it with the same fingerprint."""
    model_type: str
    total_cells: int
    successful_fits: int
    failed_fits: int
    mean_r_squared: float | None
    quality: dict[str, int]
    """How many of the successful fits are good, medium and poor."""
    parameters: dict[str, ParameterSummary]
    remarks: dict[str, int]
    """How often each reason is given, for a failure or for something that is missing."""


class FitRow(TypedDict):
    """A cell, as the API tells it."""

    fov: int
    cell: int
    model_type: str
    success: bool
    r_squared: float | None
    fitted_params: dict[str, float | None]
    std_errors: dict[str, float | None]
    n_points: int
    at_bound: list[str]
    reason: str | None


_KEY_COLUMNS = ("fov", "cell", "model_type", "success")
_SUMMARY = TypeAdapter(FitSummary)


def columns_of(model: FittingModel) -> list[str]:
    """Names of the table's columns."""
    return [
        *_KEY_COLUMNS, "r_squared",
        *(one.name for one in model.parameters),
        *(f"{one.name}_std_error" for one in model.fitted),
        "n_points", "at_bound", "reason",
    ]  # fmt: skip


def table_text(model: FittingModel, columns: dict[str, Sequence[Any]]) -> str:
    """Table as CSV; numbers to ten digits, an undefined one as an empty field."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = columns_of(model)
    writer.writerow(names)
    writer.writerows(map(_fields, zip(*(columns[name] for name in names), strict=True)))
    return text.getvalue()


def _fields(row: Iterable[Any]) -> list[Any]:
    return [("" if math.isnan(one) else f"{one:.10g}") if isinstance(one, float) else one for one in row]


def read_rows(path: Path, offset: int = 0, limit: int | None = None) -> Iterator[FitRow]:
    """Read rows of a table, all from `offset` on or `limit` of them.

    Raises `OSError` as it comes, and `ValueError` where it is not such a table.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        for fields in islice(csv.DictReader(file), offset, None if limit is None else offset + limit):
            yield _row(fields)


def is_fit_table(path: Path) -> bool:
    """Whether a file begins as a table of fits does; raises `OSError` as it comes."""
    return read_columns(path)[: len(_KEY_COLUMNS)] == _KEY_COLUMNS


def _row(fields: dict[str, str]) -> FitRow:
    try:
        model = FITTING_MODELS[fields["model_type"]]
        return FitRow(
            fov=int(fields["fov"]),
            cell=int(fields["cell"]),
            model_type=model.name,
            success=_truth(fields["success"]),
            r_squared=_number(fields["r_squared"]),
            fitted_params={one.name: _number(fields[one.name]) for one in model.parameters},
            std_errors={one.name: _number(fields[f"{one.name}_std_error"]) for one in model.fitted},
            n_points=int(fields["n_points"]),
            at_bound=fields["at_bound"].split(),
            reason=fields["reason"] or None,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the table is damaged: {error!r}") from error


def _truth(text: str) -> bool:
    if text not in (*TRUE_TEXTS, *FALSE_TEXTS):
        raise ValueError(f"success: expected true or false; found {text!r}")
    return text in TRUE_TEXTS


def _number(text: str) -> float | None:
    return float(text) if text else None


def read_summary(path: Path) -> FitSummary:
    """Read a summary; raises `OSError` as it comes, and `ValueError` where it is not one."""
    return _SUMMARY.validate_json(path.read_bytes())


def summarise(
    fingerprint: str,
    runs: list[str],
    model: FittingModel,
    success: NDArray[np.bool_],
    r_squared: NDArray[np.float64],
    estimates: dict[str, NDArray[np.float64]],
    at_bound: dict[str, NDArray[np.bool_]],
    reasons: Sequence[str],
) -> FitSummary:
    """Count and describe.

    Parameters
    ----------
    fingerprint, runs
        See `FitSummary`.
    estimates, at_bound
        (c,) of each fitted parameter.
    """
    known = r_squared[success & np.isfinite(r_squared)]
    good = int(np.count_nonzero(known >= GOOD_R_SQUARED))
    medium = int(np.count_nonzero(known >= MEDIUM_R_SQUARED)) - good
    remarks, counts = np.unique([reason for reason in reasons if reason], return_counts=True)
    return FitSummary(
        fingerprint=fingerprint,
        runs=runs,
        model_type=model.name,
        total_cells=len(success),
        successful_fits=int(success.sum()),
        failed_fits=int((~success).sum()),
        mean_r_squared=float(known.mean()) if known.size else None,
        quality={"good": good, "medium": medium, "poor": len(known) - good - medium},
        parameters={
            one.name: _distribution(one.unit, estimates[one.name][success], at_bound[one.name][success])
            for one in model.fitted
        },
        remarks=dict(zip(map(str, remarks), map(int, counts), strict=True)),
    )


def _distribution(unit: str, values: NDArray[np.float64], at_bound: NDArray[np.bool_]) -> ParameterSummary:
    quantiles = np.quantile(values, list(_QUANTILES)).tolist() if values.size else [None] * len(_QUANTILES)
    low, q05, q25, median, q75, q95, high = quantiles
    return ParameterSummary(
        unit=unit,
        mean=float(values.mean()) if values.size else None,
        std=float(values.std(ddof=1)) if values.size > 1 else None,
        min=low,
        q05=q05,
        q25=q25,
        median=median,
        q75=q75,
        q95=q95,
        max=high,
        n_at_bound=int(at_bound.sum()),
    )
