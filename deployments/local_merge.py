"""A merge in this process: the flow is called, with Prefect started here or reached where one is configured."""

from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from deployments.errors import RunFailedError
from deployments.local_run import prefect_at_hand
from deployments.terminal import Meter
from tasks.merge_plan import MergePlan, MergeRequest, make_merge_plan


@dataclass(frozen=True)
class MergeSummary:
    """What came out of a merge."""

    message: str
    seconds: float
    """Without the time that Prefect takes to start."""
    plan: MergePlan

    def __str__(self) -> str:
        files = [str(self.plan.output_dir / name) for name in self.plan.files]
        return "\n".join([f"{self.message}, {self.seconds:.1f} s", *files])


def merge_request(samples: Path, input_dir: Path, output_dir: Path, *, parquet: bool) -> MergeRequest:
    """Request to merge; relative paths are taken from the current folder.

    Raises
    ------
    InvalidParametersError
        Where a path cannot be one.
    """
    return MergeRequest.parse(
        sample_yaml=str(samples.absolute()),
        input_dir=str(input_dir.absolute()),
        output_dir=str(output_dir.absolute()),
        parquet=parquet,
    )


def run_merge(request: MergeRequest, meter: Meter, *, verbose: bool = False) -> MergeSummary:
    """Run the flow `merge_samples` and wait for its end.

    Raises
    ------
    PyamaError
        Listing all that is wrong with the request, before anything is started.
    RunFailedError
        Where the run failed or could not be started; says why.
    KeyboardInterrupt
        Where the user ends it.
    """
    plan = make_merge_plan(request)
    with prefect_at_hand(meter, verbose=verbose):
        from flows.merge import MergeProgress, merge_samples
        from flows.progress import listening

        meter.begin("Merging", "FOVs")
        start = monotonic()

        def on_progress(progress: MergeProgress) -> None:
            meter.update(
                progress.fovs_done, progress.n_fovs, f"{progress.samples_done} of {progress.n_samples} samples"
            )

        with listening(on_progress):
            state = merge_samples(**request.model_dump(), return_state=True)
        seconds = monotonic() - start
    if not state.is_completed():
        raise RunFailedError(f"{state.message}; nothing was written to {plan.output_dir}")
    return MergeSummary(state.message or "", seconds, plan)
