"""What a recording costs: `python -m benchmarks.pipeline --help`.

Computing, reading, writing and the floor are measured in the same run on the same machine. The floor is a plain
program that reads the same frames with nd2 and writes as many bytes to as many files: what remains when the computing
costs nothing.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.recordings import simulated_recording
from tasks.acquisition import open_recording

PYAMA_S_PER_MEGAPIXEL_FRAME = 1.0 / 1.048576
"""PyAMA's time for a frame of 1024 x 1024 with three channels is about 1 s on the machines this was built on."""


def main() -> None:
    """Measure and print a table; also JSON where asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipeline", description=__doc__)
    parser.add_argument(
        "--recording", type=Path, help="an ND2 file; default: simulated, 2 FOVs of 32 frames of 1024 x 1024 x 3"
    )
    parser.add_argument("--workers", type=int, default=2, help="workers of the scaling measurements (default 2)")
    parser.add_argument("--keep", choices=["all", "labels", "none"], default="all", help="stacks kept (default all)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write all figures to a file")
    options = parser.parse_args()
    recording = options.recording or simulated_recording(n_fovs=2, n_frames=32, size=1024)
    figures = measure(recording, options.keep, options.workers)
    report(figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def measure(recording: Path, keep: str, n_workers: int) -> dict[str, Any]:
    """All figures of a recording."""
    with open_recording(recording) as film:
        metadata = film.metadata
    megapixel_frames = metadata.n_frames * metadata.height * metadata.width / 1e6
    kept = ("--keep", keep)
    many = ("--workers", str(n_workers))
    stages = run_program("stages", recording)
    floor, pipeline = run_program("floor", recording, *kept), run_program("pipeline", recording, *kept)
    computing = run_program("pipeline", recording, "--keep", "none")
    one, threads, processes = (
        run_program("scaling", recording, *kept, *how) for how in (("--workers", "1"), many, (*many, "--processes"))
    )
    alone, with_threads, with_processes = (
        run_program("spread", recording, *kept, *how) for how in (("--workers", "1"), many, (*many, "--processes"))
    )
    wall_bound = max(pipeline["cpu_s"], floor["wall_s"])
    return {
        "recording": {"name": recording.name, **metadata.sizes, "dtype": str(metadata.dtype)},
        "keep": keep,
        "n_workers": n_workers,
        "seconds_per_megapixel_frame": {
            "stages": stages,
            "floor": floor["cpu_s"] / megapixel_frames,
            "pipeline": pipeline["cpu_s"] / megapixel_frames,
            "pipeline_without_stacks": computing["cpu_s"] / megapixel_frames,
        },
        "ms_per_frame": {
            "floor_cpu": 1e3 * floor["cpu_s"] / metadata.n_frames,
            "floor_wall": 1e3 * floor["wall_s"] / metadata.n_frames,
            "pipeline_cpu": 1e3 * pipeline["cpu_s"] / metadata.n_frames,
            "pipeline_wall": 1e3 * pipeline["wall_s"] / metadata.n_frames,
        },
        "ratio_to_floor": pipeline["cpu_s"] / floor["cpu_s"],
        "wall_ratio": pipeline["wall_s"] / wall_bound,
        "times_pyama": PYAMA_S_PER_MEGAPIXEL_FRAME * megapixel_frames / pipeline["wall_s"],
        "peak_mb": pipeline["peak_mb"],
        "scaling": {
            "fovs_on_threads": one["wall_s"] / threads["wall_s"],
            "fovs_on_processes": one["wall_s"] / processes["wall_s"],
            "one_fov_on_threads": alone["wall_s"] / with_threads["wall_s"],
            "one_fov_on_processes": alone["wall_s"] / with_processes["wall_s"],
        },
    }


def run_program(name: str, recording: Path, *options: str) -> dict[str, Any]:
    """Run one of the measured programs in a fresh process."""
    with tempfile.TemporaryDirectory() as folder, Console(stderr=True).status(f"Measuring {name} {' '.join(options)}"):
        command = [sys.executable, "-m", "benchmarks.programs", name, str(recording), f"{folder}/out", *options]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    figures: dict[str, Any] = json.loads(printed)
    return figures


def report(figures: dict[str, Any]) -> None:
    """Print the figures as tables."""
    console = Console()
    console.print(f"{figures['recording']}, keep={figures['keep']}")
    per_megapixel = figures["seconds_per_megapixel_frame"]
    stages = Table("stage", "ms per megapixel and frame")
    for name, seconds in per_megapixel["stages"].items():
        stages.add_row(name, f"{1e3 * seconds:.2f}")
    stages.add_section()
    for name in ("floor", "pipeline_without_stacks", "pipeline"):
        stages.add_row(name.replace("_", " ") + ", all channels", f"{1e3 * per_megapixel[name]:.2f}")
    console.print(stages)
    totals = Table("figure", "value")
    for name, value in {
        "processor time, times the floor": figures["ratio_to_floor"],
        "wall time, times the larger of computing and the floor's wall time": figures["wall_ratio"],
        "times PyAMA": figures["times_pyama"],
        "memory above the imports (MB)": figures["peak_mb"],
        **{f"{figures['n_workers']} workers, {name.replace('_', ' ')}": v for name, v in figures["scaling"].items()},
    }.items():
        totals.add_row(name, f"{value:.2f}")
    console.print(totals)


if __name__ == "__main__":
    main()
