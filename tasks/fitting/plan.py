"""Checking a request to fit before anything is computed. Light, like `tasks.fitting.catalog`."""

import os
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import InvalidParametersError, OutputBusyError, OutputError, TraceFileError
from tasks.fitting.files import FitFiles
from tasks.fitting.request import FittingRequest
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
        Where the file cannot be read, or is no trace file.
    OutputBusyError
        Where another run writes the same results.
    OutputError
        Where the results could not be written.
    """
    path = Path(request.csv_path)
    try:
        traces = read_traces(path, request.column)
    except FileNotFoundError as error:
        raise InvalidParametersError(f"csv_path: {path}: there is no such file") from error
    except OSError as error:
        raise InvalidParametersError(f"csv_path: {path} cannot be read: {error.strerror or error}") from error
    except TraceFileError as error:
        raise InvalidParametersError(f"csv_path: {error}") from error
    files = FitFiles.of(request)
    check_writable(files.folder)
    if (run := lock_holder(files.work_folder)) is not None:
        raise OutputBusyError(f"{files.table} is being written by run {run}; wait for its end, or cancel it")
    return FitPlan(request, traces, files)


def check_writable(folder: Path) -> None:
    """See whether files can be written into a folder, which may not be there yet.

    Raises
    ------
    OutputError
        Where they cannot.
    """
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise OutputError(f"output_dir: {there} is a file, not a folder; choose another output_dir")
    if not os.access(there, os.W_OK | os.X_OK):
        raise OutputError(
            f"output_dir: no permission to write into {there}; choose an output_dir that you may write to"
        )
