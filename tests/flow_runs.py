"""Runs of the process flow on small recordings, and what Prefect knows of them.

Run as a program, it makes a run of each JSON request on its standard input, in a process that may be killed.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import Artifact, FlowRun, Log, State, TaskRun

from flows.process import process_acquisition
from tasks.output import LOCK_FILE
from tests.engines import ROOT, wait_until

CHANNELS: dict[str, Any] = {
    "phase": {"channel": 0, "features": ["area"]},
    "fluorescence": [{"channel": 1, "features": ["intensity_total"]}],
}
SCIENCE: dict[str, Any] = {"border_margin": 2, "min_frames": 1}


@dataclass(frozen=True)
class Run:
    """A run, as Prefect knows it."""

    id: UUID

    def flow_run(self) -> FlowRun:
        """The run as Prefect remembers it."""
        with get_client(sync_client=True) as client:
            return client.read_flow_run(self.id)

    def task_runs(self) -> dict[str, TaskRun]:
        """Its task runs by name, once Prefect has been told how all of them ended."""
        wait_until(
            lambda: all(found.state and found.state.is_final() for found in task_runs(self.id).values()),
            "Prefect knows how the task runs ended",
        )
        return task_runs(self.id)

    def artifacts(self, kind: str) -> list[Artifact]:
        """Its artifacts of a kind, also those of its tasks."""
        selection = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[self.id]))
        with get_client(sync_client=True) as client:
            return [found for found in client.read_artifacts(artifact_filter=selection) if found.type == kind]

    def table(self) -> list[dict[str, Any]]:
        """Rows of its table artifact."""
        (artifact,) = self.artifacts("table")
        rows: list[dict[str, Any]] = json.loads(str(artifact.data))
        return rows

    def log(self) -> list[Log]:
        """Lines of its log in the Prefect UI, also those of its tasks, as far as there are."""
        selection = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[self.id]))
        with get_client(sync_client=True) as client:
            return client.read_logs(selection, limit=200)

    def logged(self, text: str) -> bool:
        """Whether its log in the Prefect UI comes to hold a text."""
        wait_until(lambda: any(text in line.message for line in self.log()), f"{text!r} in the log of the run")
        return True


@dataclass(frozen=True)
class EndedRun(Run):
    """A run that has ended."""

    state: State[Any]
    output_dir: Path

    @property
    def message(self) -> str:
        """What the run says of its end."""
        return self.state.message or ""


def task_runs(run_id: UUID) -> dict[str, TaskRun]:
    """Task runs of a run by name, as far as Prefect has been told of them."""
    with get_client(sync_client=True) as client:
        found = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run_id])))
    by_name = {task_run.name: task_run for task_run in found}
    assert len(by_name) == len(found)
    return by_name


def run_that_holds(output_dir: Path) -> UUID:
    """Id of the run that works in a folder, once there is one."""
    lock = output_dir / LOCK_FILE
    wait_until(lambda: lock.exists() and lock.stat().st_size > 0, "a run works in the folder")
    return UUID(json.loads(lock.read_text())["run"])


def request(recording: Path, output_dir: Path, **parameters: Any) -> dict[str, Any]:
    """Request to process a recording of the films below."""
    return {
        "microscopy_path": str(recording),
        "output_dir": str(output_dir),
        "channels": CHANNELS,
        "parameters": {**SCIENCE, **parameters},
    }


def run(asked: Mapping[str, Any]) -> EndedRun:
    """Run the flow here and now."""
    state: State[Any] = process_acquisition(**asked, return_state=True)
    run_id = state.state_details.flow_run_id
    assert run_id is not None
    return EndedRun(run_id, state, Path(str(asked["output_dir"])))


class Elsewhere:
    """A program that runs the flow, each time in a child of its own that may be killed.

    It has imported everything before it is asked, so that runs begin at once.

    Parameters
    ----------
    launcher
        Beginning of a command that starts the program.
    """

    def __init__(self, *launcher: str) -> None:
        self._program = subprocess.Popen(
            [*launcher, sys.executable, "-m", "tests.flow_runs"],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._program.kill()
        self._program.communicate()

    def begin(self, asked: Mapping[str, Any]) -> int:
        """Begin a run; number of its process."""
        assert self._program.stdin is not None
        self._program.stdin.write(json.dumps(asked) + "\n")
        self._program.stdin.flush()
        return int(self._answer())

    def end(self) -> int:
        """Wait for its end; 0 where it was completed, the negative number of the signal where one killed it."""
        return os.waitstatus_to_exitcode(int(self._answer()))

    def _answer(self) -> str:
        assert self._program.stdout is not None
        return self._program.stdout.readline()


def film(n_fovs: int, n_frames: int, dtype: type[np.generic] = np.uint16) -> NDArray[Any]:
    """Make images (P, T, C, H, W) of 64 x 64 pixels, with one cell in each FOV, brighter from frame to frame."""
    rng = np.random.default_rng(0)
    images = np.empty((n_fovs, n_frames, 2, 64, 64))
    images[:, :, 0] = rng.integers(995, 1005, images[:, :, 0].shape)
    images[:, :, 1] = rng.integers(95, 105, images[:, :, 1].shape)
    for fov in range(n_fovs):
        cell = np.s_[18 : 44 + fov % 4, 16 : 44 + fov % 3]
        for t in range(n_frames):
            images[fov, t, 0][cell] = rng.integers(0, 2000, images[fov, t, 0][cell].shape)
            images[fov, t, 1][cell] += 50 + 10 * t
    return images.astype(dtype)


def _serve() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            sys.exit(0 if run(json.loads(line)).state.is_completed() else 1)
        print(child, flush=True)
        print(os.waitpid(child, 0)[1], flush=True)


if __name__ == "__main__":
    _serve()
