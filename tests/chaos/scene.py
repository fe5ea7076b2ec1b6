"""The stack with a job in it: what is going on there, and whether what it tells is true."""

import filecmp
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import httpx

from api.orchestrator import POOL
from tasks.configuration import WorkflowRequest
from tasks.fov_job import FovJob
from tasks.output import OutputLock, ensure_folder, prepare_folder, write_index
from tasks.plan import make_plan
from tests.chaos.dask import DaskCluster
from tests.chaos.processes import fovs_being_written, runs_module, with_environment
from tests.stack import Client, RunningStack, asked, is_ready, start_stack

Place = Literal["local", "dask", "timed"]
"""Where a job is computed, or that it has not enough time."""

TRUE_WITHIN_S = 60.0
STARTED_WITHIN_S = 120.0
SETTLED_WITHIN_S = 600.0
COMPUTING_WITHIN_S = 600.0
"""Time that work may take on a machine that is busy with other things."""
BY_HAND = "tried again by hand"
BY_API = "Asked for by the API"
_ASKED_FOR = {BY_HAND, BY_API}
_WORKERS_FIRST_WORD = "Process exited with status code"
_LOOK_INTERVAL_S = 0.1
_PERSON_S = 2.0
"""Time that a person takes to see that a job has failed."""
_TERMINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
_TOLD_TWICE = {"CANCELLED", "CRASHED"}
ENDED = {"completed", "failed", "cancelled"}
_ORDER = ["pending", "running", "completed", "failed", "cancelled"]
_HOLDS_SLOT = ["PENDING", "RUNNING", "CANCELLING"]


@dataclass(frozen=True)
class Moment:
    """What was being done when a fault struck."""

    status: str
    percentage: float
    fovs: list[int]
    """Those of which files are being written."""

    @property
    def computing(self) -> bool:
        """Whether FOVs were being computed."""
        return bool(self.fovs)


@dataclass
class Job:
    """A job, and what has been told of it."""

    id: str
    place: Place
    output_dir: Path
    told: list[dict[str, Any]] = field(default_factory=list)
    """Each status that differs from the one before."""
    retries: int = 0
    """How often it was tried again by hand."""
    problems: list[str] = field(default_factory=list)

    def note(self, status: dict[str, Any]) -> None:
        """Note a status, and whether it agrees with the one before."""
        before = self.told[-1] if self.told else None
        if before is not None and before["status"] in ENDED and status["status"] != before["status"]:
            self.problems.append(f"{before['status']} was overwritten by {status['status']}")
        elif before is not None and _ORDER.index(before["status"]) > _ORDER.index(status["status"]):
            self.problems.append(f"{before['status']} went back to {status['status']}")
        elif before is not None and before["progress"]["percentage"] > status["progress"]["percentage"]:
            self.problems.append(f"progress went back: {before['progress']} to {status['progress']}")
        if before != status:
            self.told.append(status)

    @property
    def last(self) -> dict[str, Any]:
        """What was told last."""
        return self.told[-1]


class Scene:
    """A stack, a recording, and one job at a time.

    Parameters
    ----------
    clients
        Of an API for each place.
    disk
        Where output folders are; a small file system where it is to become full.
    """

    def __init__(
        self, stack: RunningStack, clients: dict[Place, Client], dask: DaskCluster | None, recording: Path, disk: Path
    ) -> None:
        self.stack, self.clients, self.dask, self.recording, self.disk = stack, clients, dask, recording, disk
        self.expected = recording.parent / "undisturbed"
        self.job: Job | None = None
        self.finished: dict[str, tuple[int, int]] = {}
        """Manifests that are in place, with inode and time of change: what is finished is not made again."""
        self._prefect = httpx.Client(base_url=f"{stack.prefect_url}/api", timeout=10.0)
        self._n_folders = 0

    def run_undisturbed(self) -> None:
        """Have the recording processed by the stack while nothing is broken; what comes later is held to that."""
        job = self.start("local")
        self.wait(lambda: self._look(job) in ENDED, "the undisturbed run ends", SETTLED_WITHIN_S)
        assert job.last["status"] == "completed", job.last
        shutil.copytree(job.output_dir, self.expected)
        self.leave()

    def start(self, place: Place) -> Job:
        """Start a job, in the folder of the one before where that has not been completed."""
        if self.job is None:
            self._n_folders += 1
        output_dir = self.disk / f"out-{self._n_folders}"
        client, request = self.clients[place], _request(self.recording, output_dir)
        started: list[str] = []

        def ask() -> bool:
            with suppress(httpx.TransportError):  # an API that is being started again
                answer = client.http.post(f"{client.address}/start", json=request)
                if answer.status_code == 200:
                    started.append(answer.json()["job_id"])
                else:
                    # A process that was killed holds the folder for the moment that the kernel takes to clear it away.
                    assert answer.json()["error_code"] in {"SERVICE_UNAVAILABLE", "OUTPUT_DIR_BUSY"}, answer.text
            return bool(started)

        self.wait(ask, "a job can be started", STARTED_WITHIN_S)
        self.job = Job(started[0], place, output_dir)
        return self.job

    def try_again_by_hand(self) -> None:
        """Do what the button of the Prefect UI does; or ask the API, where only that knows what to wait for.

        Prefect's worker tells twice, in the course of seconds, that the process which it has started was killed; the
        second time would undo what is asked for before it.
        """
        job = self.current
        time.sleep(_PERSON_S)
        job.retries += 1
        if job.told and str(job.last["error"]).startswith(_WORKERS_FIRST_WORD):
            self.stack.client.http.post(f"/jobs/{job.id}/retry", timeout=STARTED_WITHIN_S).raise_for_status()
        else:
            state = {"type": "SCHEDULED", "name": "AwaitingRetry", "message": BY_HAND}
            answer = self._ask("POST", f"/flow_runs/{job.id}/set_state", {"state": state})
            assert answer["status"] == "ACCEPT", answer
        # The API may tell for a moment what it has heard before.
        self.wait(
            lambda: self._status()["status"] not in ENDED or self.state() in _TERMINAL, "the job is tried again", 30.0
        )
        job.told.clear()

    def leave(self) -> None:
        """Forget the job, and remove its folder."""
        if self.job is not None:
            shutil.rmtree(self.job.output_dir, ignore_errors=True)
        self.job = None
        self.finished.clear()

    @property
    def current(self) -> Job:
        """The job."""
        assert self.job is not None
        return self.job

    def processes(self) -> list[int]:
        """Those that were started for the job."""
        return with_environment(PREFECT__FLOW_RUN_ID=self.current.id)

    def engine(self) -> list[int]:
        """That which computes it, or has it computed."""
        return [pid for pid in self.processes() if runs_module(pid, "prefect.engine")]

    def flow_process(self) -> list[int]:
        """That which the worker has started."""
        return [pid for pid in self.processes() if runs_module(pid, "deployments.flow_process")]

    def look(self) -> Moment:
        """What is being done."""
        job = self.current
        status = self._look(job) or (str(job.last["status"]) if job.told else "pending")
        computing = self.processes() + (self.dask.workers if self.dask is not None else [])
        percentage = job.last["progress"]["percentage"] if job.told else 0.0
        return Moment(status, percentage, fovs_being_written(computing, job.output_dir))

    def state(self) -> str:
        """Type of the state of its run."""
        return str(self._ask("GET", f"/flow_runs/{self.current.id}", None)["state"]["type"])

    def settle(self) -> float:
        """Wait until the job has ended or is worked on; for how many seconds it was told to run without a process.

        What is told meanwhile is held to the rules, and so is what is on the disk.
        """
        job = self.current
        began_s = last_lie_s = time.monotonic()
        while True:
            with suppress(httpx.TransportError, httpx.HTTPStatusError):
                status = self._look(job)
                state = self.state()
                alive = bool(self.processes())
                if state in {"RUNNING", "CANCELLING"} and not alive:
                    last_lie_s = time.monotonic()
                elif (status in ENDED and state in _TERMINAL and not alive) or (
                    state == "RUNNING" and status == "running" and self.engine()
                ):
                    break
            assert time.monotonic() - began_s < SETTLED_WITHIN_S, f"not settled: {job.last if job.told else None}"
            time.sleep(_LOOK_INTERVAL_S)
        if last_lie_s - began_s > TRUE_WITHIN_S:
            job.problems.append(f"running without a process for {last_lie_s - began_s:.0f} s")
        self._check_finished()
        return last_lie_s - began_s

    def check_end(self) -> None:
        """Hold a job that has ended to what must not be left, and a completed one to the undisturbed run."""
        job = self.current
        self._check_finished()
        self._check_history()
        holding = {"flow_runs": {"state": {"type": {"any_": _HOLDS_SLOT}}}, "work_pools": {"name": {"any_": [POOL]}}}
        if held := self._ask("POST", "/flow_runs/filter", {**holding, "limit": 5}):
            job.problems.append(f"slots are held: {[(run['id'], run['state']['name']) for run in held]}")
        if job.last["status"] == "completed":
            if job.last["progress"]["percentage"] != 100:
                job.problems.append(f"completed at {job.last['progress']}")
            job.problems += differences(self.expected, job.output_dir)

    def restart(self) -> None:
        """Start the stack again, after all of it was killed."""
        self.stack.process.wait()
        self.stack.log.rename(self.stack.log.with_name(f"stack-{time.monotonic_ns()}.log"))
        port = int(self.stack.prefect_url.rpartition(":")[2])
        self.stack.process = start_stack(port, self.stack.environment, self.stack.log)
        self.wait(lambda: is_ready(self.stack), "the stack is up again", SETTLED_WITHIN_S)

    def wait(self, condition: Callable[[], object], what: str, deadline_s: float) -> None:
        """Wait for a condition, however busy the machine is."""
        end_s = time.monotonic() + deadline_s
        while not condition():
            assert time.monotonic() < end_s, f"not within {deadline_s:g} s: {what}"
            time.sleep(_LOOK_INTERVAL_S)

    def _status(self) -> dict[str, Any]:
        # Of the stack's own API, whichever has started the job.
        return self.stack.client.status(self.current.id)

    def _look(self, job: Job) -> str | None:
        """Status of the job; None where there is no API, or none that knows."""
        with suppress(httpx.TransportError):
            answer = self.stack.client.http.get(f"{self.stack.client.address}/status/{job.id}")
            if answer.status_code == 200:
                job.note(answer.json())
                return str(job.last["status"])
            if answer.status_code != 503:
                job.problems.append(f"the API answers with {answer.status_code}: {answer.text}")
        return None

    def _check_finished(self) -> None:
        job = self.current
        found = {
            path.parent.name: (path.stat().st_ino, path.stat().st_mtime_ns)
            for path in sorted(job.output_dir.glob("fov_*/manifest.json"))
        }
        for name, known in self.finished.items():
            if found.get(name) != known:
                job.problems.append(f"{name} was finished, and is made again or gone")
        self.finished = found

    def _check_history(self) -> None:
        """Hold all states that Prefect has kept of the run to the rule that none that is final is left but by hand.

        Prefect's worker tells once more, in its own words, that a run is cancelled or has crashed: it stays what it
        was. But it may not do so once the run is to be tried again.
        """
        job = self.current
        states = self._ask("GET", f"/flow_run_states/?flow_run_id={job.id}", None)
        states.sort(key=lambda state: state["timestamp"])
        left = [
            (before["name"], after["name"])
            for before, after in pairwise(states)
            if before["type"] in _TERMINAL - ({after["type"]} & _TOLD_TWICE) and after["message"] not in _ASKED_FOR
        ]
        left += [
            (before["name"], after["name"])
            for before, after in pairwise(states)
            if before["message"] in _ASKED_FOR and after["type"] == "CRASHED"
        ]
        if left:
            job.problems.append(f"final states were overwritten: {left}")

    def _ask(self, method: str, path: str, body: Any) -> Any:
        answer = self._prefect.request(method, path, json=body)
        answer.raise_for_status()
        return answer.json()


def process_here(recording: Path, output_dir: Path) -> None:
    """Process a recording without any orchestrator; what comes later may be held to that, too."""
    request = WorkflowRequest.parse(**_request(recording, output_dir))
    plan = make_plan(request)
    ensure_folder(output_dir)
    with OutputLock(output_dir, "here"):
        prepare_folder(output_dir, plan.provenance, request, plan.fovs)
        for fov in plan.fovs:
            FovJob.of(plan).run(fov)
        write_index(output_dir, plan.provenance)


def _request(recording: Path, output_dir: Path) -> dict[str, Any]:
    return asked(recording, output_dir, keep="labels", n_workers=1)


def differences(expected: Path, found: Path) -> list[str]:
    """In what two folders differ, byte for byte."""
    names, found_names = (
        {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} for folder in (expected, found)
    )
    problems = [f"{name} is missing" for name in sorted(names - found_names)]
    problems += [f"{name} is left over" for name in sorted(found_names - names)]
    _, differing, unreadable = filecmp.cmpfiles(expected, found, names & found_names, shallow=False)
    return problems + [f"{name} differs" for name in sorted([*differing, *unreadable])]
