"""Output folders as processing leaves them, made here and now without an engine."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tasks.configuration import WorkflowRequest
from tasks.fov_job import FovJob
from tasks.output import ensure_folder, prepare_folder, write_index
from tasks.plan import make_plan
from tests.flow_runs import request
from tests.recordings import write_recording


def process_film(
    folder: Path, images: NDArray[Any], fovs: Sequence[int] | None = None, *, keep: str = "all", **more: Any
) -> Path:
    """Write images (P, T, C, H, W) as `folder/film.nd2`, and process FOVs of it into `folder/out`.

    Parameters
    ----------
    fovs
        Which FOVs; by default all.
    more
        Further parameters.
    """
    recording = folder / "film.nd2"
    if not recording.exists():
        write_recording(recording, images)
    asked = WorkflowRequest.parse(**request(recording, folder / "out", keep=keep, **more))
    plan = make_plan(asked)
    ensure_folder(plan.output_dir)
    prepare_folder(plan.output_dir, plan.provenance, asked, plan.fovs)
    job = FovJob.of(plan)
    for fov in plan.fovs if fovs is None else fovs:
        job.run(fov)
    write_index(plan.output_dir, plan.provenance)
    return plan.output_dir
