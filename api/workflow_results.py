"""What a processing job has left in its output folder, FOV by FOV, judged by the manifests."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from api.file_items import printable
from api.jobs import Job
from tasks.acquisition import recording_name
from tasks.configuration import WorkflowRequest
from tasks.output import INDEX_FILE, fov_directories, parameter_fingerprint, read_manifest
from tasks.output.manifest import Manifest, is_complete

_FAILED = "failed: "


class FovSummary(BaseModel):
    """What became of a FOV."""

    fov: int
    status: Literal["completed", "failed", "missing"] = Field(description="Missing: was not computed")
    n_cells: int | None = None
    traces: str | None = Field(None, description="The table of its cells")
    warnings: list[str] = []
    reason: str | None = Field(None, description="Why it is not there")


@dataclass(frozen=True)
class Results:
    """Content of an output folder as far as a job is concerned."""

    output_dir: Path
    index: Path | None
    fovs: tuple[FovSummary, ...]


def collect_results(job: Job, table: str | None) -> Results:
    """Look at the output folder of a job.

    Parameters
    ----------
    table
        The run's table of FOVs as JSON, which tells why some failed; None where the run did not come to write it.
    """
    request = WorkflowRequest.parse(**job.parameters)
    output_dir = Path(request.output_dir)
    wanted = parameter_fingerprint(request.configuration())
    reasons = _reasons(table)
    directories = fov_directories(output_dir)
    index = output_dir / INDEX_FILE
    fovs = []
    for fov in _asked_for(request, job.total, directories):
        manifest = read_manifest(directories[fov]) if fov in directories else None
        if manifest is not None and _belongs_to(job, manifest, wanted) and is_complete(directories[fov], manifest):
            traces = directories[fov] / manifest.layout.traces
            fovs.append(
                FovSummary(
                    fov=fov,
                    status="completed",
                    n_cells=manifest.n_cells,
                    traces=printable(str(traces)),
                    warnings=list(manifest.warnings),
                )
            )
        elif fov in reasons:
            fovs.append(FovSummary(fov=fov, status="failed", reason=reasons[fov]))
        else:
            fovs.append(FovSummary(fov=fov, status="missing", reason=job.error or job.message))
    return Results(output_dir, index if index.is_file() else None, tuple(fovs))


def _belongs_to(job: Job, manifest: Manifest, parameters: str) -> bool:
    """Whether a FOV was made from what a job reads, with its parameters; another run may have overwritten it since.

    The recording need not be there any more. A run that was started elsewhere tells its name alone.
    """
    if job.input_fingerprint is None:
        same_input = manifest.input.name == recording_name(Path(job.input_path or ""))
    else:
        same_input = manifest.fingerprint.input == job.input_fingerprint
    return same_input and manifest.fingerprint.parameters == parameters


def _asked_for(request: WorkflowRequest, n_fovs: int, present: Iterable[int]) -> list[int]:
    """FOVs that the job is about; the recording need not be there any more."""
    parameters = request.parameters
    if parameters.fovs is not None:
        return list(parameters.fovs)
    if parameters.fov_end is not None:
        return list(range(parameters.fov_start, parameters.fov_end + 1))
    if n_fovs:
        return list(range(parameters.fov_start, parameters.fov_start + n_fovs))
    return sorted(fov for fov in present if fov >= parameters.fov_start)


def _reasons(table: str | None) -> dict[int, str]:
    """Why FOVs failed, from the run's table."""
    try:
        rows = json.loads(table or "[]")
        told = {int(row["FOV"]): str(row["warnings"]) for row in rows}
    except (ValueError, KeyError, TypeError):
        return {}
    return {fov: text.removeprefix(_FAILED) for fov, text in told.items() if text.startswith(_FAILED)}
