"""Trace files of simulated cells, for tests."""

from pathlib import Path

import numpy as np

from tests.oracles import fitting as oracle

MATURATION = {"amplitude": 6.0, "rate": 0.3, "offset": 1.0}


def write_maturation(path: Path, n_cells: int, *, n_fovs: int = 1, n_points: int = 60, noise: float = 0.05) -> Path:
    """Write a tidy file, times in minutes, of cells that all have the same kinetics."""
    times_min = np.arange(n_points) * 10.0
    curve = oracle.curve("maturation", times_min / 60, MATURATION)
    values = curve + noise * np.random.default_rng(n_cells).normal(size=(n_cells, n_points))
    lines = [
        f"{time:.6f},{cell % n_fovs},{cell // n_fovs + 1},{value:.6f}"
        for cell, row in enumerate(values.tolist())
        for time, value in zip(times_min.tolist(), row, strict=True)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["# Time units: min", "time,fov,cell,value", *lines]) + "\n")
    return path
