"""A run in this process: Prefect is started, or reached where one is configured, and the flow is called."""

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from time import monotonic
from types import FrameType

from deployments.errors import RunFailedError
from deployments.terminal import INTERRUPTED, Meter, say
from tasks.output import finished_manifest
from tasks.plan import Plan

_STARTUP_TIMEOUT_S = 120
_FAREWELL_S = 10.0
"""Time that an interrupted run has to tell Prefect; then it ends all the same."""


@dataclass(frozen=True)
class RunSummary:
    """What came out of a run."""

    n_fovs: int
    n_found: int
    """FOVs that were finished before."""
    n_cells: int
    seconds: float
    """Without the time that Prefect takes to start."""
    warnings: tuple[str, ...]
    output_dir: Path

    def __str__(self) -> str:
        found = f" ({self.n_found} finished before)" if self.n_found else ""
        return "\n".join(
            [
                f"FOVs: {self.n_fovs}{found}, cells: {self.n_cells}, {self.seconds:.1f} s",
                *(f"warning: {warning}" for warning in self.warnings),
                f"Results: {self.output_dir}",
            ]
        )


def run_plan(plan: Plan, meter: Meter, *, verbose: bool = False) -> RunSummary:
    """Run the flow `process_acquisition` and wait for its end.

    Raises
    ------
    RunFailedError
        Where the run failed or could not be started; says why.
    KeyboardInterrupt
        Where the user ends it.
    """
    found = plan.finished()
    with prefect_at_hand(meter, verbose=verbose):
        from flows.process import process_acquisition
        from flows.progress import Progress, listening

        meter.begin("Processing", "frames")
        start = monotonic()

        def on_progress(progress: Progress) -> None:
            meter.update(progress.frames_done, progress.n_frames, f"{progress.fovs_done} of {progress.n_fovs} FOVs")

        request = plan.request
        with listening(on_progress):
            state = process_acquisition(
                request.microscopy_path, request.output_dir, request.channels, request.parameters, return_state=True
            )
        seconds = monotonic() - start
    if not state.is_completed():
        raise RunFailedError(f"{state.message}; what is finished stays in {plan.output_dir}")
    return _summarise(plan, found, seconds)


@contextmanager
def prefect_at_hand(meter: Meter, *, verbose: bool) -> Iterator[None]:
    """Have Prefect ready for a flow that is called in the block, and end in time where the user ends it.

    Loading it takes seconds: enter the block, and import flows, when the user's mistakes are out of the way.

    Raises
    ------
    RunFailedError
        On entering, where Prefect does not answer.
    """
    _prepare_prefect(verbose=verbose)
    with _ending_in_time():
        meter.begin("Loading Prefect")
        _reach_prefect(meter)
        yield


def _reach_prefect(meter: Meter) -> None:
    """Find the orchestrator that is configured, or start the embedded one."""
    from prefect import get_client
    from prefect.settings import get_current_settings

    url = get_current_settings().api.url
    where = f"Prefect at {url}" if url else "Prefect's embedded server"
    meter.begin(f"Reaching {where}" if url else f"Starting {where} (some ten seconds)")
    try:
        with _deaf_to_interrupts(), get_client(sync_client=True) as client:
            trouble = client.api_healthcheck()
    except Exception as error:  # whatever keeps it from starting is the reason to report
        trouble = error
    if trouble is not None:
        remedy = "start it, or unset PREFECT_API_URL to use the embedded server" if url else "see pyama doctor"
        raise RunFailedError(f"{where} does not answer: {trouble}; {remedy}") from trouble


def _summarise(plan: Plan, found: tuple[int, ...], seconds: float) -> RunSummary:
    """Read from the manifests what there is."""
    n_cells = 0
    fovs_warned: dict[str, list[int]] = {}
    for fov in plan.fovs:
        manifest = finished_manifest(plan.output_dir, fov, plan.provenance.fingerprint)
        if manifest is not None:
            n_cells += manifest.n_cells
            for warning in manifest.warnings:
                fovs_warned.setdefault(warning, []).append(fov)
    return RunSummary(
        n_fovs=len(plan.fovs),
        n_found=len(found),
        n_cells=n_cells,
        seconds=seconds,
        warnings=tuple(f"FOV {', '.join(map(str, fovs))}: {warning}" for warning, fovs in fovs_warned.items()),
        output_dir=plan.output_dir,
    )


def _prepare_prefect(*, verbose: bool) -> None:
    """Set what Prefect reads when it is imported; what the user has set stays."""
    for name, value in {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": str(_STARTUP_TIMEOUT_S),
        # Only the terminal is kept quiet: the orchestrator gets all that is logged.
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "INFO" if verbose else "CRITICAL",
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING" if verbose else "CRITICAL",
    }.items():
        os.environ.setdefault(name, value)


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Have processes that are started in the block not hear Ctrl-C, which a terminal sends to all of them.

    The embedded server has to live on until it knows that the run was interrupted; then it is stopped.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _ending_in_time() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the block: in an orderly way if that can be done soon, at once if it cannot.

    Nothing that is half done has to be saved: the next run goes on from the FOVs that are finished.
    """

    def end(number: int, _frame: FrameType | None) -> None:
        code = 128 + number
        say("ending…")
        signal.signal(signal.SIGINT, lambda *_: _end_at_once(code))
        farewell = Timer(_FAREWELL_S, _end_at_once, [code])
        farewell.daemon = True
        farewell.start()
        # Dask would tell at length that its tasks were cancelled.
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(code)

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_at_once(code: int) -> None:
    """End the process without waiting for its threads, but not without its embedded server."""
    say(INTERRUPTED)
    with suppress(Exception):
        from prefect.server.api.server import SubprocessASGIServer

        SubprocessASGIServer().stop()
    os._exit(code)
