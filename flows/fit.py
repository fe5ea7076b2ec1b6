"""The flow that fits traces: chunks of cells are Prefect task runs on Dask."""

import base64
from contextlib import closing
from logging import Logger, LoggerAdapter
from pathlib import Path
from typing import Any
from uuid import uuid4

from prefect import flow, get_run_logger
from prefect.artifacts import create_image_artifact, create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows.chunks import CellCounts, compute_chunks
from flows.progress import ProgressArtifact
from flows.recruiting import recruited
from flows.site import Site
from flows.stopping import Deadline, ends_cancelled
from flows.task_runner import make_task_runner
from tasks.errors import PyamaError
from tasks.fitting.chunks import FitWork
from tasks.fitting.fit import FitTable
from tasks.fitting.plan import FitPlan, make_fit_plan
from tasks.fitting.plots import write_plots
from tasks.fitting.request import FittingRequest
from tasks.fitting.results import FitSummary
from tasks.fitting.writing import write_results
from tasks.output import OutputLock, ensure_folder

RunLogger = Logger | LoggerAdapter[Any]


@flow(
    name="fit-traces",
    description="Fit a kinetic model to the traces of single cells.",
    flow_run_name=lambda: Path(str(flow_run.parameters["csv_path"])).name,
    persist_result=False,
    validate_parameters=False,  # the request is validated below, with one message that names what is allowed
)
@ends_cancelled
def fit_traces(
    csv_path: str,
    model_type: str,
    model_params: dict[str, float] | None = None,
    model_bounds: dict[str, list[float]] | None = None,
    output_dir: str | None = None,
    column: str | None = None,
    loss: str = "linear",
    loss_scale: float | None = None,
    parquet: bool = False,
    plots: bool = False,
) -> State[Any]:
    """Fit all traces of a file, and leave a table, a summary, and pictures where they are asked for.

    Safe to repeat: results take the place of those of the same name once they are complete, and what an interrupted
    fit has finished is not computed again.

    Parameters
    ----------
    csv_path
        Absolute path of the trace file.
    model_type
        Name of a model of the catalogue.
    model_params, model_bounds
        Start values (values, of fixed parameters) and bounds, by parameter; the catalogue's where they are not given.
    output_dir
        Absolute path of the folder of the results; by default that of the traces.
    column, loss, loss_scale, parquet, plots
        See `tasks.fitting.request.FittingRequest`.

    Returns
    -------
    State
        Completed, also where single cells could not be fitted, or Failed with a message that says why.
    """
    logger = get_run_logger()
    try:
        deadline = Deadline.of_this_run()
        request = FittingRequest.parse(
            csv_path=csv_path, model_type=model_type, model_params=model_params or {}, model_bounds=model_bounds or {},
            output_dir=output_dir, column=column, loss=loss, loss_scale=loss_scale, parquet=parquet, plots=plots,
        )  # fmt: skip
        plan = make_fit_plan(request)
        ensure_folder(plan.files.folder)
        ensure_folder(plan.files.work_folder)
        with OutputLock(plan.files.work_folder, str(flow_run.id)):
            work = FitWork.prepare(plan.files.work_folder, plan.traces, request)
            table = _compute(work, Path(csv_path).name, deadline, logger)
            summary = write_results(plan, table, work.fingerprint, str(flow_run.id))
            pictures = write_plots(plan.files, table, plan.traces) if request.plots else []
            work.remove()
    except PyamaError as error:
        return Failed(message=str(error))
    _show(plan, summary, pictures)
    mean = summary["mean_r_squared"]
    quality = "" if mean is None else f", mean R² {mean:.3f}"
    return Completed(message=f"{summary['successful_fits']} of {summary['total_cells']} cells fitted{quality}")


def _compute(work: FitWork, title: str, deadline: Deadline, logger: RunLogger) -> FitTable:
    """Compute the chunks that are not finished."""
    run_id = flow_run.id or str(uuid4())
    counts = CellCounts(work.n_cells, ProgressArtifact(title, key=f"progress-{run_id}"))
    missing = [chunk for chunk in work.chunks if not work.is_finished(chunk)]
    for chunk in work.chunks:
        if chunk not in missing:
            counts.note(chunk.number, chunk.n_cells)
    if found := counts.now().cells_done:
        logger.info("%d cells are fitted already and are not computed again", found)
    if missing:
        with (
            make_task_runner(None, run_id, logger) as runner,
            recruited(runner, Site(run_id, work.folder), logger) as crew,
            closing(compute_chunks(crew, work, missing, run_id, counts, deadline)) as computed,
        ):
            for chunk in computed:
                counts.note(chunk.number, chunk.n_cells)
    counts.show(final=True)
    return work.collect()


def _show(plan: FitPlan, summary: FitSummary, pictures: list[Path]) -> None:
    """Show in the Prefect UI what came out."""
    rows = [{"parameter": name, **numbers} for name, numbers in summary["parameters"].items()]
    name = Path(plan.request.csv_path).name
    create_table_artifact(table=rows, key="parameters", description=f"{summary['model_type']} fitted to {name}")
    lines = [f"# {summary['model_type']} fitted to {name}", ""]
    lines += [f"- {key.replace('_', ' ')}: {summary[key]}" for key in ("total_cells", "successful_fits", "failed_fits")]
    lines += [f"- {grade}: {count}" for grade, count in summary["quality"].items()]
    lines += [f"- {count} × {remark}" for remark, count in summary["remarks"].items()]
    lines += [f"- {path}" for path in (plan.files.table, plan.files.summary, *pictures)]
    create_markdown_artifact("\n".join(lines), key="fit", description=f"Fit of {name}")
    for picture in pictures:
        if picture.suffix == ".png":
            # Embedded: a browser does not show files of the machine that computed.
            image = base64.b64encode(picture.read_bytes()).decode()
            kind = picture.stem.rpartition("_")[2]
            create_image_artifact(f"data:image/png;base64,{image}", key=kind, description=picture.name)
