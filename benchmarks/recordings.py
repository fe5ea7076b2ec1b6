"""Recordings to measure with: simulated once, kept in the system's folder for temporary files."""

import tempfile
from pathlib import Path

from rich.console import Console

from tasks.simulation import SimulationSettings, simulate

_FOLDER = Path(tempfile.gettempdir()) / "pyama-benchmarks"


def simulated_recording(n_fovs: int, n_frames: int, size: int, n_fluorescence: int = 2) -> Path:
    """Recording of square images; made where it is not there yet."""
    path = _FOLDER / f"film_{n_fovs}x{n_frames}x{1 + n_fluorescence}x{size}.nd2"
    if not path.exists():
        _FOLDER.mkdir(exist_ok=True)
        settings = SimulationSettings(
            n_fovs=n_fovs, n_frames=n_frames, height=size, width=size, n_fluorescence=n_fluorescence
        )
        with Console(stderr=True).status(f"Simulating {path.name} ..."):
            simulate(settings, path)
    return path
