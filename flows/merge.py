"""The flow that merges samples: no task runs, because it takes seconds and each file needs all of its FOVs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows.progress import ProgressArtifact, current_listener
from flows.stopping import Deadline, ends_cancelled
from tasks.errors import PyamaError
from tasks.merge import MergedSample, merge
from tasks.merge_plan import MergePlan, MergeRequest, make_merge_plan
from tasks.output import OutputLock, ensure_folder, remove_leftovers


@dataclass(frozen=True)
class MergeProgress:
    """How far a merge is."""

    samples_done: int
    n_samples: int
    fovs_done: int
    n_fovs: int
    """FOVs of all samples together."""

    @classmethod
    def of(cls, plan: MergePlan, fovs_done: int) -> "MergeProgress":
        """Tell it from the FOVs alone, which come sample by sample."""
        samples_done = last = 0
        for sample in plan.samples:
            last += len(sample.tables)
            samples_done += last <= fovs_done
        return cls(samples_done, len(plan.samples), fovs_done, plan.n_fovs)

    @property
    def percentage(self) -> float:
        """Share of all FOVs that is done."""
        return 100.0 * self.fovs_done / self.n_fovs

    def as_counts(self) -> dict[str, int]:
        """What the API tells of a job's progress, beside the percentage."""
        return {"done": self.samples_done, "total": self.n_samples}

    def __str__(self) -> str:
        return f"{self.samples_done} of {self.n_samples} samples finished, {self.fovs_done} of {self.n_fovs} FOVs"


@flow(
    name="merge-samples",
    description="Put the traces of all FOVs of a sample together.",
    flow_run_name=lambda: Path(str(flow_run.parameters["sample_yaml"])).name,
    persist_result=False,
    validate_parameters=False,  # the request is validated below, with one message that names what is allowed
)
@ends_cancelled
def merge_samples(sample_yaml: str, input_dir: str, output_dir: str, parquet: bool = False) -> State[Any]:
    """Merge the tables of a processed folder, sample by sample.

    Safe to repeat: the same tables give the same files, which take the place of those that are there.

    Parameters
    ----------
    sample_yaml
        Absolute path of the samples file.
    input_dir
        Absolute path of the processed folder.
    output_dir
        Absolute path of the output folder; created where it is not there.
    parquet
        Whether every table is written as Parquet too.

    Returns
    -------
    State
        Completed, or Failed with a message that lists all that is wrong; then nothing is written.
    """
    logger = get_run_logger()
    try:
        deadline = Deadline.of_this_run()
        plan = make_merge_plan(
            MergeRequest.parse(sample_yaml=sample_yaml, input_dir=input_dir, output_dir=output_dir, parquet=parquet)
        )
        ensure_folder(plan.output_dir)
        with OutputLock(plan.output_dir, str(flow_run.id)):
            remove_leftovers(plan.output_dir)
            merged = _merge(plan, Path(sample_yaml).name, deadline)
    except PyamaError as error:
        return Failed(message=str(error))
    for sample in merged:
        logger.info("%s: %d FOVs, %d cells, %d rows", sample.name, sample.n_fovs, sample.n_cells, sample.n_rows)
    create_table_artifact(
        table=[_as_row(sample) for sample in merged], key="merged", description=f"Samples of {Path(sample_yaml).name}"
    )
    n_cells = sum(sample.n_cells for sample in merged)
    return Completed(message=f"{len(merged)} samples merged, {n_cells} cells")


def _merge(plan: MergePlan, title: str, deadline: Deadline) -> list[MergedSample]:
    """Merge, and tell the Prefect UI and whoever listens how far it is."""
    artifact = ProgressArtifact(title, key=f"progress-{flow_run.id}")
    listener = current_listener()

    def on_fov(n_done: int) -> None:
        deadline.check()
        progress = MergeProgress.of(plan, n_done)
        if listener is not None:
            listener(progress)
        artifact.show(progress.percentage, str(progress), progress.as_counts(), final=n_done == plan.n_fovs)

    return merge(plan, on_fov)


def _as_row(sample: MergedSample) -> dict[str, Any]:
    """Row of the table artifact."""
    return {
        "sample": sample.name,
        "FOVs": sample.n_fovs,
        "cells": sample.n_cells,
        "rows": sample.n_rows,
        "files": ", ".join(sample.files),
    }
