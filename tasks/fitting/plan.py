"""Checking a request to fit before anything is computed. Light, like `tasks.fitting.catalog`."""

from dataclasses import dataclass
from pathlib import Path

from tasks.errors import InvalidParametersError, OutputBusyError, TraceFileError
from tasks.fitting.files import FitFiles
from tasks.fitting.request import FittingRequest
from tasks.output.folder import check_usable
from tasks.output.lock import lock_holder
from tasks.trace_files import TraceSet, read_traces


@dataclass(frozen=True)
class FitPlan:
    """A request whose traces can be read, and whose results can be written."""

    request: FittingRequest
    traces: TraceSet
    files: FitFiles


def make_fit_plan(request: FittingRequest) -> FitPlan:
    """Read the traces, and see whether the folder of the results can be written; nothing is changed.

    Raises
    ------
    InvalidParametersError
        Where the file cannot be read, is no trace file, or has too long a name.
    OutputBusyError
        Where another run writes the same results.
    OutputError
        Where the results could not be written.
    """
    path, files = Path(request.csv_path), FitFiles.of(request)
    try:
        traces = read_traces(path, request.column)
    except FileNotFoundError as error:
        raise InvalidParametersError(f"csv_path: {path}: there is no such file") from error
    except OSError as error:
        raise InvalidParametersError(f"csv_path: {path} cannot be read: {error.strerror or error}") from error
    except TraceFileError as error:
        raise InvalidParametersError(f"csv_path: {error}") from error
    check_usable(files.folder)
    if (run := lock_holder(files.work_folder)) is not None:
        raise OutputBusyError(f"{files.table} is being written by run {run}; wait for its end, or cancel it")
    return FitPlan(request, traces, files)
