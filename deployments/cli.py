"""The command-line program `pyama`: arguments in, exit code out.

Exit codes: 0 done; 1 the run failed, or a check found a problem; 2 the user's mistake, told in one line;
130 ended by Ctrl-C. Whatever takes long to import is imported within its command, so that help and mistakes answer
at once.
"""

import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict
from inspect import cleandoc
from pathlib import Path
from signal import SIGINT
from typing import Annotated, Any, Literal

import typer

from deployments.errors import RunFailedError
from deployments.terminal import INTERRUPTED, metering, say
from tasks.errors import InvalidParametersError, PyamaError
from tasks.fitting.catalog import describe_models

app = typer.Typer(
    name="pyama",
    help="Time-lapse microscopy in, single-cell kinetics out.",
    epilog="Start with [bold]pyama demo[/bold]; then [bold]pyama process --help[/bold] has examples for your files.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

_INTERRUPTED_CODE = 130
"""What Typer makes of Ctrl-C."""

Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show Prefect's log, and tracebacks of failures.")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        # A file name may hold what the terminal cannot show; that is no reason to end.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    _reach_this_host_directly()
    try:
        code = app(args=list(arguments), prog_name="pyama", standalone_mode=False)
        if code == _INTERRUPTED_CODE:
            say(INTERRUPTED)
        return code if isinstance(code, int) else 0
    except typer.TyperException as error:
        if message := error.format_message():
            say(f"{message.removesuffix('.')}; see pyama --help")
        return 2
    except PyamaError as error:
        if "--verbose" in arguments or "-v" in arguments:
            traceback.print_exception(error)
        say(str(error))
        return 1 if isinstance(error, RunFailedError) else 2


def _reach_this_host_directly() -> None:
    """Keep what is asked of this host away from a proxy, for this program and all that it starts."""
    names = ("no_proxy", "NO_PROXY")
    known = next((os.environ[name] for name in names if os.environ.get(name)), None)
    for name in names:  # programs look at one of them alone
        os.environ[name] = ",".join(filter(None, [known, "127.0.0.1", "localhost"]))


def _whole_number(text: str | int) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a whole number") from error


def _port(text: str | int) -> int:
    port = _whole_number(text)
    if not 1 <= port <= 65535:
        raise typer.BadParameter(f"{port} is not a port; allowed are 1 to 65535")
    return port


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"pyama {version('pyama-backend')}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    pass


@app.command()
def process(
    file: Annotated[Path, typer.Argument(help="The recording, or the pattern of a TIFF series.", show_default=False)],
    output_dir: Annotated[
        Path, typer.Option("--output-dir", "-o", help="Folder of the results; created if it is not there.")
    ],
    phase: Annotated[
        str | None,
        typer.Option(metavar="CH[:FEATURE,...]", help="Channel in which cells are found. Default: by the metadata."),
    ] = None,
    fluorescence: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CH[:FEATURE,...]",
            help="Channel that is measured; may be repeated; [bold]none[/bold] for none. Default: by the metadata.",
        ),
    ] = None,
    fovs: Annotated[str | None, typer.Option(metavar="0-3,5", help="Fields of view. Default: all of the file.")] = None,
    n_workers: Annotated[
        int | None,
        typer.Option(parser=_whole_number, metavar="N", help="Threads that compute. Default: the usable processors."),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            parser=_whole_number, metavar="N", help="Most fields of view at a time. Default: one for each thread."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A parameter, e.g. min_frames=10; may be repeated."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace results of another recording or of other parameters.")
    ] = False,
    verbose: Verbose = False,
) -> None:
    """Find, follow and measure the cells of a recording.

    A channel CH is a number from 0, or a name.

    What is finished in the output folder is not computed again: a run that was interrupted goes on where it was.

    For example:

    pyama process film.nd2 -o results

    pyama process 'img_{fov}_{time}_{channel}.tif' -o results

    pyama process film.nd2 -o results --fovs 0-3,5 --set min_frames=10

    pyama process film.nd2 -o results --phase Phase:area --fluorescence GFP:intensity_total,intensity_mean
    """
    from deployments.local_run import run_plan
    from deployments.planning import describe_channels, join_parameters, parse_settings, plan_run

    options: dict[str, Any] = {
        "fovs": fovs, "n_workers": n_workers, "batch_size": batch_size, "overwrite": overwrite or None
    }  # fmt: skip
    parameters = join_parameters(parse_settings(settings or []), options)
    plan = plan_run(file, output_dir, phase, fluorescence or [], parameters)
    say(f"channels: {describe_channels(plan.request.channels, plan.metadata.channel_names)}")
    with metering() as meter:
        summary = run_plan(plan, meter, verbose=verbose)
    print(summary)


@app.command()
def merge(
    samples: Annotated[
        Path, typer.Argument(help="Samples file: which fields of view belong to which sample.", show_default=False)
    ],
    input_dir: Annotated[Path, typer.Option("--input-dir", "-i", help="Folder of results of [bold]process[/bold].")],
    output_dir: Annotated[
        Path, typer.Option("--output-dir", "-o", help="Folder of the merged files; created if it is not there.")
    ],
    parquet: Annotated[bool, typer.Option("--parquet", help="Write every table as Parquet too.")] = False,
    verbose: Verbose = False,
) -> None:
    """Put the traces of all fields of view of each sample together.

    The samples file is YAML, for example:

    samples: [{name: control, fovs: "0-4, 7"}, {name: drug, fovs: [5, 6]}]

    Leaves SAMPLE_merged.csv with all columns, and a tidy file for each feature
    and channel, such as SAMPLE_intensity_total_ch_1.csv.

    An inspected table (..._traces_inspected.csv) takes the place of the table
    beside it. Rows that are not marked as good are left out.

    All mistakes are told at once, and then nothing is written. Files of an
    earlier merge are replaced.

    For example:

    pyama merge samples.yaml -i results -o merged

    pyama merge samples.yaml -i results -o merged --parquet
    """
    from deployments.local_merge import merge_request, run_merge

    request = merge_request(samples, input_dir, output_dir, parquet=parquet)
    with metering() as meter:
        summary = run_merge(request, meter, verbose=verbose)
    print(summary)


def _with_models(command: Callable[..., None]) -> Callable[..., None]:
    """Have the help of a command tell the models, as the catalogue has them."""
    command.__doc__ = cleandoc(command.__doc__ or "").replace("MODELS", describe_models())
    return command


@app.command()
@_with_models
def fit(
    traces: Annotated[Path, typer.Argument(help="Trace file: a tidy file, or a traces table.", show_default=False)],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME",
            help="trivial, maturation, translation_maturation or maturation_blocked.",
            show_default=False,
        ),
    ],
    output_dir: Annotated[
        Path | None, typer.Option("--output-dir", "-o", help="Folder of the results. Default: that of the trace file.")
    ] = None,
    params: Annotated[
        list[str] | None,
        typer.Option(
            "--param", metavar="NAME=VALUE", help="Start value; of a fixed parameter its value. May be repeated."
        ),
    ] = None,
    bounds: Annotated[
        list[str] | None,
        typer.Option("--bounds", metavar="NAME=LOW,HIGH", help="Bounds of a fitted parameter; may be repeated."),
    ] = None,
    column: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Column to fit. Default: the value, or the total intensity.")
    ] = None,
    loss: Annotated[
        Literal["linear", "soft_l1", "huber", "cauchy"],
        typer.Option(help="How residuals count; all but linear give outliers less weight."),
    ] = "linear",
    plots: Annotated[bool, typer.Option("--plots", help="Draw fits and parameters, as PNG and SVG.")] = False,
    parquet: Annotated[bool, typer.Option("--parquet", help="Write the table as Parquet too.")] = False,
    verbose: Verbose = False,
) -> None:
    """Fit a kinetic model to the trace of each cell.

    Leaves TRACES_fitted_MODEL.csv with a row for each cell, and a summary (JSON).
    Results of an earlier fit with the same model are replaced. A fit that was
    interrupted goes on where it was.

    Times are in hours. These are the models, and their parameters with default
    and bounds; fixed ones can be set by --param, but have no bounds.

    MODELS

    For example:

    pyama fit merged/control_intensity_total_ch_1.csv -m translation_maturation --plots

    pyama fit traces.csv -m maturation --param rate=0.2 --bounds amplitude=0,1e7 --bounds offset=-1e6,1e6
    """
    from deployments.local_fit import fit_request, run_fit

    request = fit_request(
        traces, model, output_dir, params or [], bounds or [], column=column, loss=loss, plots=plots, parquet=parquet
    )
    with metering() as meter:
        summary = run_fit(request, meter, verbose=verbose)
    print(summary)


@app.command()
def export(
    tables: Annotated[
        list[Path],
        typer.Argument(help="Tables of traces, merges or fits, or folders that hold such.", show_default=False),
    ],
    database: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="PYAMA_DATABASE_URL",
            help="Database, as SQLAlchemy names it. A password is better in the variable than in the command.",
        ),
    ] = None,
    anndata: Annotated[
        Path | None, typer.Option(metavar="FILE.h5ad", help="File that takes one merged table, as AnnData.")
    ] = None,
    experiment: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What the tables belong to. Default: the path of their folder."),
    ] = None,
) -> None:
    """Give results to other programs: into a database, or as AnnData.

    A table that is in the database already is left alone where its file has not changed, and replaced where it has.
    The tables of the database all begin with pyama_; docs/exports.md describes them.

    For example:

    pyama export results/ merged/ --database sqlite:////data/pyama.db --experiment "2026-11 siRNA"

    pyama export merged/control_merged.csv --anndata control.h5ad
    """
    from deployments.local_export import export as run_export

    with metering() as meter:
        told = run_export(tables, database, anndata, experiment, meter)
    print("\n".join(told))


@app.command()
def demo(
    output_dir: Annotated[
        Path, typer.Option("--output-dir", "-o", help="Folder of the demo; created if it is not there.")
    ] = Path("demo_output"),
    fovs: Annotated[int, typer.Option(parser=_whole_number, metavar="N", help="Fields of view.")] = 4,
    frames: Annotated[int, typer.Option(parser=_whole_number, metavar="N", help="Frames of each field of view.")] = 30,
    size: Annotated[
        int, typer.Option(parser=_whole_number, metavar="N", help="Height and width of the images, in pixels.")
    ] = 768,
    workers: Annotated[
        int | None,
        typer.Option(parser=_whole_number, metavar="N", help="Threads that compute. Default: the usable processors."),
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Simulate a recording, process and fit it through the REST API, and hold the result against the truth.

    A stack as of [bold]pyama up[/bold] runs for it, on free ports, and is stopped at its end.

    Leaves the recording (demo.nd2), what was simulated (truth.json), the results and the merged and fitted traces
    (samples.yaml, merged), and pictures of what was found over what was simulated (demo.png, kinetics.png).

    Run again, it finds the work done. Ends with exit code 1 where the truth was not found.
    """
    from deployments.demo import run_demo

    with metering() as meter:
        report = run_demo(output_dir, fovs, frames, size, workers, meter, verbose=verbose)
    print(report)
    raise typer.Exit(0 if report.passed else 1)


@app.command()
def up(
    prefect_port: Annotated[
        int, typer.Option(parser=_port, metavar="PORT", help="Port of the Prefect server and its UI.")
    ] = 4200,
) -> None:
    """Run the REST API and all that it needs on this machine, until Ctrl-C.

    Starts a Prefect server, work pools, deployments, workers and the API, and tells their addresses when they are
    ready. What dies is started again; jobs that were running go on, also after the next start.

    The API's settings are environment variables, such as PYAMA_PORT, PYAMA_ALLOWED_PATHS, PYAMA_MAX_JOBS; all state is
    in the folder PYAMA_HOME, by default ~/.pyama. One stack can run in a folder.

    For example:

    pyama up

    PYAMA_PORT=8080 PYAMA_HOME=/data/pyama pyama up --prefect-port 4300
    """
    from api.settings import Settings
    from flows.cluster_settings import ClusterSettings

    # A mistake is answered before Prefect is loaded, which takes seconds.
    settings = Settings.from_environment()
    ClusterSettings.from_environment()
    if settings.port == 0:
        raise InvalidParametersError("PYAMA_PORT: pyama up needs to know the port; choose 1 to 65535 (got 0)")
    from deployments.stack import up as run_stack

    # SIGTERM is how a service manager ends it: nothing went wrong then.
    raise typer.Exit(_INTERRUPTED_CODE if run_stack(settings, prefect_port) == SIGINT else 0)


@app.command()
def deploy() -> None:
    """Tell a Prefect server of the flows: work pools and deployments. Safe to repeat.

    [bold]pyama up[/bold] does this by itself; it is for a server that runs elsewhere.

    For example:

    PREFECT_API_URL=http://prefect.example.org:4200/api pyama deploy
    """
    from deployments.deploying import main as deploy_all

    deploy_all()


@app.command(name="api-key")
def api_key(
    name: Annotated[str, typer.Argument(help="Who will use it; told in the log of the API.", show_default=False)],
    role: Annotated[
        Literal["read-only", "operator"],
        typer.Option(help="Whether it may only look, or also start, cancel, write and delete."),
    ] = "operator",
) -> None:
    """Make a key for the REST API.

    The key is shown once, on stdout. What the server needs is its hash: the entry for PYAMA_API_KEYS, on stderr.

    For example:

    pyama api-key alice

    pyama api-key dashboard --role read-only
    """
    from deployments.api_key import api_key as make_api_key

    make_api_key(name, role)


@app.command()
def doctor(
    verify: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Read all results of an output folder again and check their checksums."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check this installation and what it needs, or with --verify the files of an output folder.

    Looks at packages, processors, kernels, Dask, paths, disks, clocks, and the Prefect server with its database,
    deployments, workers and queue; says for each problem what to do. Ends with exit code 1 where there is one.

    For example:

    pyama doctor

    PREFECT_API_URL=http://127.0.0.1:4200/api pyama doctor --json

    pyama doctor --verify results
    """
    from deployments.doctor import examine, verify_folder

    findings = examine() if verify is None else verify_folder(verify.absolute())
    good = all(finding.good for finding in findings)
    if as_json:
        print(json.dumps({"good": good, "findings": [asdict(finding) for finding in findings]}, indent=2))
    else:
        print(*findings, sep="\n")
    raise typer.Exit(0 if good else 1)


if __name__ == "__main__":
    sys.exit(main())
