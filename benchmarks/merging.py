"""What merging costs, beside the plain way with a dictionary for each row: `python -m benchmarks.merging --help`.

The plain way is PyAMA's: for each channel, the rows of a table are turned into dictionaries of the columns that all
channels share and of its own, and their values are put into a dictionary by key, which is then written line by line. It
is spared what else PyAMA does (a grid of all times by all cells, growing with their square), and the table
of all columns and the fsync, which are measured in the merge. It takes minutes for a large folder, so it is measured on
some FOVs and counted up in proportion.
"""

import argparse
import csv
import re
import resource
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter, process_time
from typing import NamedTuple

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from tasks.merge import merge
from tasks.merge_plan import MergeRequest, make_merge_plan
from tasks.output.layout import FovLayout
from tasks.samples import Sample, Samples, write_samples
from tasks.traces import IDENTITY_COLUMNS, POSITION_COLUMNS

FEATURES = ("area_ch_0", "intensity_total_ch_1")
COLUMNS = (*IDENTITY_COLUMNS, *POSITION_COLUMNS, *FEATURES)
PERIOD_MIN = 10.0
_MOST_PLAIN_FOVS = 10


class Figures(NamedTuple):
    """What a merge took."""

    wall_s: float
    processor_s: float
    peak_mb: float
    """Memory above what was there before it began."""


def main() -> None:
    """Make tables, merge them both ways, and print what it took."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.merging", description=__doc__)
    parser.add_argument("--fovs", type=int, default=50, help="fields of view (default 50)")
    parser.add_argument("--cells", type=int, default=200, help="cells of each (default 200)")
    parser.add_argument("--frames", type=int, default=180, help="frames of each cell (default 180)")
    parser.add_argument("--parquet", action="store_true", help="write Parquet too")
    parser.add_argument("--folder", type=Path, help="where to make the tables; removed afterwards (default /tmp)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        n_bytes = make_tables(folder, options.fovs, options.cells, options.frames)
        n_plain = min(options.fovs, _MOST_PLAIN_FOVS)
        ours = measured(partial(run_merge, folder, options.fovs, options.parquet))
        plain = measured(partial(run_row_by_row, folder, n_plain))
    n_rows = options.fovs * options.cells * options.frames
    n_plain_rows = n_plain * options.cells * options.frames
    table = Table(
        "way", "rows", "wall s", "processor s", "processor µs per row", "peak MB", title=f"{n_bytes / 1e9:.2f} GB"
    )
    for way, rows, figures in (("merge", n_rows, ours), ("row by row, dictionaries", n_plain_rows, plain)):
        per_row = f"{1e6 * figures.processor_s / rows:.3f}"
        table.add_row(
            way, f"{rows:,}", f"{figures.wall_s:.2f}", f"{figures.processor_s:.2f}", per_row, f"{figures.peak_mb:.0f}"
        )
    console = Console()
    console.print(table)
    for what, left, right in (
        ("wall", ours.wall_s / n_rows, plain.wall_s / n_plain_rows),
        ("processor", ours.processor_s / n_rows, plain.processor_s / n_plain_rows),
    ):
        console.print(f"{what} time: {right / left:.1f} times faster for each row")


def make_tables(folder: Path, n_fovs: int, n_cells: int, n_frames: int) -> int:
    """Write tables as processing writes them, and a samples file with two samples; size of all tables."""
    rng = np.random.default_rng(0)
    form = "@,{:d},{:d},{:.6f},True," + ",".join(["{:.6f}"] * (len(COLUMNS) - len(IDENTITY_COLUMNS)))
    lines = [
        form.format(cell, frame, PERIOD_MIN * frame, *rng.uniform(0, 2048, 7), rng.lognormal(10, 1))
        for cell in range(1, n_cells + 1)
        for frame in range(n_frames)
    ]
    rows = "\n".join(lines) + "\n"
    n_bytes = 0
    for fov in range(n_fovs):
        layout = FovLayout("film", fov)
        (folder / "results" / layout.directory).mkdir(parents=True)
        text = ",".join(COLUMNS) + "\n" + re.sub("^@", str(fov), rows, flags=re.MULTILINE)
        n_bytes += (folder / "results" / layout.directory / layout.traces).write_text(text)
    half = max(1, n_fovs // 2)
    groups = {"control": list(range(half)), "drug": list(range(half, n_fovs))}
    samples = [Sample(name=name, fovs=fovs) for name, fovs in groups.items() if fovs]
    write_samples(folder / "samples.yaml", Samples(samples=samples))
    return n_bytes


def run_merge(folder: Path, n_fovs: int, parquet: bool) -> None:
    """Merge all FOVs."""
    request = MergeRequest(
        sample_yaml=str(folder / "samples.yaml"),
        input_dir=str(folder / "results"),
        output_dir=str(folder / "merged"),
        parquet=parquet,
    )
    plan = make_merge_plan(request)
    plan.output_dir.mkdir(exist_ok=True)
    assert sum(sample.n_fovs for sample in merge(plan)) == n_fovs


def run_row_by_row(folder: Path, n_fovs: int) -> None:
    """Merge some FOVs, with a dictionary for each row and one for each feature."""
    values: dict[str, dict[tuple[int, int, int], float]] = {}
    times: dict[tuple[int, int, int], float] = {}
    for fov in range(n_fovs):
        layout = FovLayout("film", fov)
        table = pd.read_csv(folder / "results" / layout.directory / layout.traces)
        for name in FEATURES:
            by_key = values.setdefault(name, {})
            for row in table[[*IDENTITY_COLUMNS, *POSITION_COLUMNS, name]].to_dict("records"):
                if row["good"]:
                    key = (fov, int(row["cell"]), int(row["frame"]))
                    times[key] = row["time"]
                    by_key[key] = row[name]
    for name, by_key in values.items():
        with (folder / f"plain_{name}.csv").open("w", newline="") as file:
            file.write("# Time units: min\n")
            writer = csv.writer(file)
            writer.writerow(["time", "fov", "cell", "value"])
            for key in sorted(by_key):
                writer.writerow([times[key], key[0], key[1], by_key[key]])


def measured(work: Callable[[], None]) -> Figures:
    """Do it in a fresh process."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_measure, work).result()


def _measure(work: Callable[[], None]) -> Figures:
    before_mb = _peak_mb()
    wall, processor = perf_counter(), process_time()
    work()
    return Figures(perf_counter() - wall, process_time() - processor, _peak_mb() - before_mb)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
