"""How much memory a worker takes, for short and long films: `python -m benchmarks.memory --help`."""

import argparse
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.pipeline import run_program
from benchmarks.recordings import simulated_recording
from tasks.acquisition import open_recording
from tasks.nd2_writer import Channel, Nd2Writer


def main() -> None:
    """Process one FOV of each film in a fresh process and print the most memory it held above the imports."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--size", type=int, default=2048, help="side of the images in pixels (default 2048)")
    parser.add_argument(
        "--frames", type=int, nargs="+", default=[30, 300], help="lengths of the films (default 30 300)"
    )
    parser.add_argument("--keep", choices=["all", "labels", "none"], default="all", help="stacks kept (default all)")
    options = parser.parse_args()
    table = Table("frames", "MB above the imports")
    # A long film takes gigabytes, so each is gone before the next one.
    for n_frames in options.frames:
        with tempfile.TemporaryDirectory() as folder:
            film = write_film(Path(folder) / "film.nd2", n_frames, options.size)
            figures = run_program("pipeline", film, "--keep", options.keep, "--rounds", "1")
        table.add_row(str(n_frames), f"{figures['peak_mb']:.0f}")
    Console().print(table)


def write_film(path: Path, n_frames: int, size: int) -> Path:
    """Write a film of any length from two simulated frames in turn."""
    with open_recording(simulated_recording(n_fovs=1, n_frames=2, size=size)) as pattern:
        channels = [Channel(name, "fluorescence") for name in pattern.metadata.channel_names]
        frames = [pattern.read_frame(0, t) for t in range(2)]
    with Nd2Writer(path, n_frames=n_frames, n_fovs=1, channels=channels, height=size, width=size) as writer:
        for t in range(n_frames):
            writer.write_frame(0, t, frames[t % 2])
    return path


if __name__ == "__main__":
    main()
