"""The demo: a recording is simulated, processed and fitted through the REST API, and held against the truth."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from deployments import demo_kinetics
from deployments.api_client import ApiClient, Body
from deployments.demo_kinetics import KineticsReport, compare_kinetics, draw_kinetics, fit_kinetics
from deployments.own_stack import own_stack
from deployments.picture import draw_fov
from deployments.planning import check_parameters
from deployments.terminal import Meter
from tasks.acquisition import RecordingMetadata, open_recording
from tasks.errors import InvalidParametersError, OutputConflictError, OutputError, PyamaError
from tasks.features import column_name
from tasks.output import Manifest, ensure_folder, fov_directories, read_manifest
from tasks.output.os_errors import readable_size, told
from tasks.simulation import CellTruth, FovTruth, Optics, Scene, SimulationSettings, Truth, simulate

RECORDING, TRUTH, RESULTS, PICTURE = "demo.nd2", "truth.json", "results", "demo.png"
FILES = (RECORDING, TRUTH, RESULTS, PICTURE, demo_kinetics.SAMPLES, demo_kinetics.MERGED, demo_kinetics.PICTURE)
"""All that it leaves in its folder."""

MOST_ERROR = 0.05
"""Median error of the intensities up to which the truth counts as found."""

_LEAST_SIZE = 400
_INTERVAL_MIN, _DURATION_MIN = 20.0, 600.0
_BYTES_OF_PHASE, _BYTES_OF_FLUORESCENCE = 8, 8
"""On disk for each pixel of each frame: the image twice, and labels twice or the background once."""


@dataclass(frozen=True)
class Comparison:
    """What was found of what was simulated."""

    n_cells: int
    """Simulated cells that processing should find: away from the edge and from each other."""
    matches: dict[int, list[tuple[CellTruth, pd.DataFrame]]]
    """Of these, the ones that have exactly one trace, in all frames, with it; by FOV."""
    n_spurious: int
    """Traces that belong to none of them."""
    median_error: float
    max_error: float
    """Of all intensities of the cells that were found, relative to the brightest frame of the cell."""

    @property
    def n_found(self) -> int:
        """Cells that have exactly one trace."""
        return sum(map(len, self.matches.values()))

    @property
    def passed(self) -> bool:
        """Whether the truth was found, and nothing else."""
        return self.n_found == self.n_cells and self.n_spurious == 0 and self.median_error <= MOST_ERROR


@dataclass(frozen=True)
class DemoReport:
    """What the demo did; its text is a table."""

    comparison: Comparison
    kinetics: KineticsReport
    results: Body
    """What the API tells of the job's results."""
    seconds_simulating: float
    seconds_processing: float
    seconds_fitting: float
    """From the request to the end of the job; merging included."""
    folder: Path

    @property
    def passed(self) -> bool:
        """Whether the truth was found."""
        return self.comparison.passed and self.kinetics.passed

    def __str__(self) -> str:
        comparison = self.comparison
        table = Table(title="Found against the truth", show_header=False, title_justify="left")
        table.add_column()
        table.add_column(justify="right")
        for name, value in (
            ("fields of view", str(len(self.results["fovs"]))),
            ("cells found, of cells simulated", f"{comparison.n_found} of {comparison.n_cells}"),
            ("spurious cells", str(comparison.n_spurious)),
            ("median error of the intensities *", f"{comparison.median_error:.2%}"),
            ("largest error of the intensities *", f"{comparison.max_error:.2%}"),
            ("seconds to simulate", f"{self.seconds_simulating:.1f}" if self.seconds_simulating else "there already"),
            ("seconds to process", f"{self.seconds_processing:.1f}"),
            ("seconds to merge and fit", f"{self.seconds_fitting:.1f}"),
        ):
            table.add_row(name, value)
        text = StringIO()
        console = Console(file=text, width=80)
        console.print(table)
        text.write("* relative to the brightest frame of the cell\n")
        console.print(self.kinetics.as_table())
        text.write(f"Results:  {self.results['output_dir']}\n")
        text.write(f"Pictures: {self.folder / PICTURE}\n          {self.folder / demo_kinetics.PICTURE}\n")
        text.write("The truth was found." if self.passed else "THE TRUTH WAS NOT FOUND.")
        return text.getvalue()


def run_demo(
    folder: Path, n_fovs: int, n_frames: int, size: int, n_workers: int | None, meter: Meter, *, verbose: bool = False
) -> DemoReport:
    """Simulate, process and fit through the REST API of a stack of its own, and compare.

    The simulation is deterministic: a second demo with the same settings finds the work done. One with other
    settings replaces the first; anything else in the folder stays.

    Parameters
    ----------
    folder
        Where the demo leaves its files.
    n_fovs, n_frames, size
        Of the recording; images are square.
    n_workers
        Threads that compute; None for all usable processors.
    meter
        Shows how far it is.
    verbose
        Whether the log of the stack is shown.

    Raises
    ------
    PyamaError
        Where a setting is out of range, the folder cannot be used, or the job failed.
    """
    folder = folder.absolute()
    settings = demo_settings(n_fovs, n_frames, size)
    # All results in this folder are a demo's: those of an older version of the program are replaced.
    parameters = {"overwrite": True} | ({} if n_workers is None else {"n_workers": n_workers})
    check_parameters(parameters)
    truth = _find_demo(folder, settings)
    if truth is None:
        ensure_folder(folder)
        _refuse_full_disk(folder, settings)
    with own_stack(verbose=verbose) as stack:  # which starts while the recording is being simulated
        started_s = monotonic()
        seconds_simulating = 0.0
        if truth is None:
            truth = _make_recording(folder, settings, meter)
            seconds_simulating = monotonic() - started_s
        meter.begin("Starting Prefect, workers and the REST API")
        stack.wait_until_ready()
        with ApiClient(stack.api_url) as client:
            started_s = monotonic()
            results = _process(client, folder, parameters, meter)
            seconds_processing = monotonic() - started_s
            started_s = monotonic()
            fits = fit_kinetics(client, folder, n_fovs, meter)
            seconds_fitting = monotonic() - started_s
        meter.begin("Comparing with the truth")
        comparison = compare([pd.read_csv(path) for path in results["traces"]], truth)
        kinetics = compare_kinetics(fits, comparison.matches, truth)
        with told("write", folder):
            draw_fov(fov_directories(folder / RESULTS)[0], folder / PICTURE, _metadata(folder / RECORDING), truth)
            draw_kinetics(kinetics, folder / demo_kinetics.PICTURE)
    return DemoReport(comparison, kinetics, results, seconds_simulating, seconds_processing, seconds_fitting, folder)


def _process(client: ApiClient, folder: Path, parameters: Mapping[str, Any], meter: Meter) -> Body:
    """Process the recording by the calls that the API's documentation shows; what it tells of the results."""
    recording = str(folder / RECORDING)
    loaded = client.post("/processing/load-metadata", {"file_path": recording})
    started = client.post(
        "/processing/workflow/start",
        {
            "microscopy_path": recording,
            "output_dir": str(folder / RESULTS),
            "channels": loaded["suggested_channels"],
            "parameters": parameters,
        },
    )
    job_id = started["job_id"]
    n_frames = loaded["metadata"]["n_fovs"] * loaded["metadata"]["n_frames"]
    meter.begin("Processing", "frames")

    def show(status: Body) -> None:
        progress = status["progress"]
        note = f"{progress['current_fov']} of {progress['total_fovs']} FOVs"
        meter.update(round(progress["percentage"] / 100 * n_frames), n_frames, note)

    client.finish(f"/processing/workflow/status/{job_id}", show)
    return client.get(f"/processing/workflow/results/{job_id}")


def demo_settings(n_fovs: int, n_frames: int, size: int) -> SimulationSettings:
    """Settings of the demo's recording: two proteins, filmed for at least some hours, however few the frames.

    Raises
    ------
    InvalidParametersError
        Where a number is out of range, or the images are too small for a cell away from their edges.
    """
    if n_frames < 2:
        raise InvalidParametersError(f"--frames {n_frames}: at least 2 are needed, as cells are dark in the first")
    interval_min = max(_INTERVAL_MIN, _DURATION_MIN / n_frames)
    settings = SimulationSettings(
        n_fovs=n_fovs, n_frames=n_frames, height=size, width=size, n_fluorescence=2, interval_min=interval_min
    )
    # Where cells are does not depend on the number of frames, and there may be very many.
    first = Scene(replace(settings, n_frames=1), 0, Optics.of(settings))
    if not any(cell.countable for cell in first.cells):
        raise InvalidParametersError(f"--size {size}: no cell lies clear of the edges; {_LEAST_SIZE} is enough")
    return settings


def compare(traces: Sequence[pd.DataFrame], truth: Truth) -> Comparison:
    """Hold the traces of each FOV against its truth."""
    matches, n_spurious, errors = {}, 0, [np.empty(0)]
    for number, (table, fov) in enumerate(zip(traces, truth.fovs, strict=True)):
        found = matches[number] = match(table, fov, truth.settings.n_frames)
        n_spurious += table["cell"].nunique() - len(found)
        for cell, trace in found:
            for channel, expected in enumerate(cell.intensities, start=1):
                measured = trace[column_name("intensity_total", channel)].to_numpy()
                errors.append(np.abs(measured - expected) / expected.max())
    all_errors = np.concatenate(errors)
    return Comparison(
        n_cells=sum(cell.countable for fov in truth.fovs for cell in fov.cells),
        matches=matches,
        n_spurious=n_spurious,
        median_error=float(np.median(all_errors)) if all_errors.size else np.nan,
        max_error=float(all_errors.max(initial=0)),
    )


def match(table: pd.DataFrame, truth: FovTruth, n_frames: int) -> list[tuple[CellTruth, pd.DataFrame]]:
    """Pair each countable cell with the one trace that stays within its outline in all frames, where there is one."""
    complete = [trace for _, trace in table.groupby("cell") if len(trace) == n_frames]
    positions = [trace[["position_y", "position_x"]].to_numpy() for trace in complete]
    pairs = []
    for cell in truth.cells:
        radius = min(cell.radius_y, cell.radius_x)
        inside = [np.linalg.norm(position - cell.centres, axis=1).max() < radius for position in positions]
        if cell.countable and sum(inside) == 1:
            pairs.append((cell, complete[inside.index(True)]))
    return pairs


def _find_demo(folder: Path, settings: SimulationSettings) -> Truth | None:
    """Truth of the demo that is there with these settings; None where it has to be made.

    Raises
    ------
    OutputConflictError
        Where the folder holds files under the demo's names that no demo has left.
    """
    recording, truth_file = folder / RECORDING, folder / TRUTH
    with told("use", folder):
        present = [name for name in FILES if (folder / name).exists()]
    if not present:
        return None
    try:
        truth = Truth.from_json(truth_file)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise OutputConflictError(
            f"{folder} holds {', '.join(present)}, but no {TRUTH} of a demo, so it is not the demo's to change; "
            "choose another folder with --output-dir"
        ) from error
    try:
        sizes = _metadata(recording).sizes
    except PyamaError:
        return None
    # A demo that was interrupted may have left the recording of one and the truth of another.
    return truth if truth.settings == settings and sizes == _sizes(settings) else None


def _make_recording(folder: Path, settings: SimulationSettings, meter: Meter) -> Truth:
    """Write recording and truth; clear away the results of an earlier demo."""
    meter.begin("Simulating", "images")
    recording, truth_file = folder / f".{RECORDING}.tmp", folder / f".{TRUTH}.tmp"
    with told("write", folder / RECORDING):
        truth = simulate(settings, recording, meter.update)
        truth.to_json(truth_file)
        for directory in _results_of_a_demo(folder / RESULTS):
            shutil.rmtree(directory)
        # The truth first: it is by this file that the next demo knows the folder as its own.
        truth_file.replace(folder / TRUTH)
        recording.replace(folder / RECORDING)
    return truth


def _results_of_a_demo(results: Path) -> list[Path]:
    """FOVs that were made from a demo's recording, but for those that a person has inspected."""

    def of_a_demo(manifest: Manifest | None, directory: Path) -> bool:
        if manifest is None or manifest.input.name != RECORDING:
            return False
        return not (directory / manifest.layout.inspected).exists()

    return [path for path in fov_directories(results).values() if of_a_demo(read_manifest(path), path)]


def _metadata(recording: Path) -> RecordingMetadata:
    with open_recording(recording) as opened:
        return opened.metadata


def _sizes(settings: SimulationSettings) -> dict[str, int]:
    """Length of each axis of the recording."""
    return {
        "P": settings.n_fovs, "T": settings.n_frames, "Z": 1, "C": len(settings.channels),
        "Y": settings.height, "X": settings.width,
    }  # fmt: skip


def _refuse_full_disk(folder: Path, settings: SimulationSettings) -> None:
    """Say beforehand where there is no room for the recording and its results."""
    n_pixels = settings.n_fovs * settings.n_frames * settings.height * settings.width
    needed = n_pixels * (_BYTES_OF_PHASE + settings.n_fluorescence * _BYTES_OF_FLUORESCENCE)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OutputError(
            f"{folder}: the demo needs {readable_size(needed)}, {readable_size(free)} are free; "
            "choose another folder with --output-dir, or fewer --fovs or --frames"
        )
