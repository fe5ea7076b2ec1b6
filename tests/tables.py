"""Processed folders made of nothing but traces tables, to be merged."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tasks.merge_plan import MergeRequest
from tasks.output.layout import FovLayout

COLUMNS = (
    "fov", "cell", "frame", "time", "good", "position_x", "position_y", "bbox_x0", "bbox_y0", "bbox_x1", "bbox_y1",
    "area_ch_0", "intensity_total_ch_1",
)  # fmt: skip


def table_text(fov: int, cells: Iterable[int] = (1, 2), n_frames: int = 3, period_min: float = 10.0) -> str:
    """A table as processing writes it, with values of its own for each row."""
    rng = np.random.default_rng(fov)
    lines = [",".join(COLUMNS)]
    for cell in cells:
        for frame in range(n_frames):
            numbers = ",".join(f"{value:.6f}" for value in rng.uniform(0, 1e4, 8))
            lines.append(f"{fov},{cell},{frame},{frame * period_min:.6f},True,{numbers}")
    return "\n".join(lines) + "\n"


def write_table(folder: Path, fov: int, text: str, *, inspected: bool = False, base_name: str = "film") -> Path:
    """Put a table where that of a FOV is."""
    layout = FovLayout(base_name, fov)
    directory = folder / layout.directory
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / (layout.inspected if inspected else layout.traces)
    path.write_bytes(text.encode())
    return path


def write_folder(folder: Path, fovs: Iterable[int]) -> Path:
    """Write tables of some FOVs."""
    for fov in fovs:
        write_table(folder, fov, table_text(fov))
    return folder


def write_samples_file(path: Path, samples: Mapping[str, Any] | Sequence[Any] | str) -> Path:
    """Write a samples file: FOVs by name, or a list of anything, or text as it is."""
    if isinstance(samples, Mapping):
        samples = [{"name": name, "fovs": fovs} for name, fovs in samples.items()]
    path.write_text(samples if isinstance(samples, str) else yaml.safe_dump({"samples": list(samples)}))
    return path


def merge_request(folder: Path, samples: Mapping[str, Any] | Sequence[Any] | str, **fields: Any) -> MergeRequest:
    """Request to merge what is in `folder/results` into `folder/merged`."""
    asked = {
        "sample_yaml": str(write_samples_file(folder / "samples.yaml", samples)),
        "input_dir": str(folder / "results"),
        "output_dir": str(folder / "merged"),
    }
    return MergeRequest.model_validate({**asked, **fields})
