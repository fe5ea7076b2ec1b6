"""A fit in this process: the flow is called, with Prefect started here or reached where one is configured."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from deployments.errors import RunFailedError
from deployments.local_run import prefect_at_hand
from deployments.terminal import Meter
from tasks.errors import InvalidParametersError
from tasks.fitting.files import FitFiles
from tasks.fitting.plan import make_fit_plan
from tasks.fitting.request import FittingRequest
from tasks.fitting.results import FitSummary, read_summary


@dataclass(frozen=True)
class FitReport:
    """What came out of a fit."""

    summary: FitSummary
    seconds: float
    """Without the time that Prefect takes to start."""
    files: FitFiles

    def __str__(self) -> str:
        summary = self.summary
        quality = ", ".join(f"{count} {grade}" for grade, count in summary["quality"].items())
        mean = summary["mean_r_squared"]
        lines = [
            f"{summary['successful_fits']} of {summary['total_cells']} cells fitted, {self.seconds:.1f} s",
            f"R²: {'none' if mean is None else f'mean {mean:.4f}'} ({quality})",
        ]
        for name, numbers in summary["parameters"].items():
            if numbers["median"] is not None:
                spread = f"median {numbers['median']:.4g}, middle half {numbers['q25']:.4g} to {numbers['q75']:.4g}"
                at_bound = f", {numbers['n_at_bound']} at a bound" if numbers["n_at_bound"] else ""
                lines.append(f"{name} ({numbers['unit']}): {spread}{at_bound}")
        lines += [f"{count} x {remark}" for remark, count in summary["remarks"].items()]
        return "\n".join([*lines, f"Results: {self.files.table}"])


def fit_request(
    traces: Path,
    model: str,
    output_dir: Path | None,
    params: Sequence[str],
    bounds: Sequence[str],
    *,
    column: str | None,
    loss: str,
    plots: bool,
    parquet: bool,
) -> FittingRequest:
    """Request of the command line's words; relative paths are taken from the current folder.

    Raises
    ------
    InvalidParametersError
        Where something is no number, or does not fit the model.
    """
    return FittingRequest.parse(
        csv_path=str(traces.absolute()),
        model_type=model,
        model_params={name: _numbers("--param", text, 1)[0] for name, text in _named("--param", params).items()},
        model_bounds={name: _numbers("--bounds", text, 2) for name, text in _named("--bounds", bounds).items()},
        output_dir=str(output_dir.absolute()) if output_dir is not None else None,
        column=column,
        loss=loss,
        plots=plots,
        parquet=parquet,
    )


def run_fit(request: FittingRequest, meter: Meter, *, verbose: bool = False) -> FitReport:
    """Run the flow `fit_traces` and wait for its end.

    Raises
    ------
    PyamaError
        Telling what is wrong with the request, before anything is started.
    RunFailedError
        Where the run failed or could not be started; says why.
    KeyboardInterrupt
        Where the user ends it.
    """
    plan = make_fit_plan(request)
    with prefect_at_hand(meter, verbose=verbose):
        from flows.chunks import FitProgress
        from flows.fit import fit_traces
        from flows.progress import listening

        meter.begin("Fitting", "cells")
        start = monotonic()

        def on_progress(progress: FitProgress) -> None:
            meter.update(progress.cells_done, progress.n_cells)

        with listening(on_progress):
            state = fit_traces(**request.model_dump(), return_state=True)
        seconds = monotonic() - start
    if not state.is_completed():
        raise RunFailedError(f"{state.message}; what is finished is used by the next fit of the same kind")
    return FitReport(read_summary(plan.files.summary), seconds, plan.files)


def _named(option: str, texts: Sequence[str]) -> dict[str, str]:
    named: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise InvalidParametersError(f"{option} {text}: expected NAME=VALUE")
        if name in named:
            raise InvalidParametersError(f"{option} {name} is given twice")
        named[name] = value
    return named


def _numbers(option: str, text: str, n: int) -> list[float]:
    with suppress(ValueError):
        numbers = [float(part) for part in text.split(",")]
        if len(numbers) == n:
            return numbers
    expected = "a number" if n == 1 else "two numbers, LOW,HIGH"
    raise InvalidParametersError(f"{option}: expected {expected} (got {text!r})")
