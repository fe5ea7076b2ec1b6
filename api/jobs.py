"""What a job is: a flow run of one of our deployments, told in the API's terms."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

from prefect.client.schemas.objects import Artifact, FlowRun, State, StateType

from tasks.job_marks import INPUT_LABEL, PROCESSING_DEPLOYMENT, TOTAL_LABEL

JobStatus = Literal["pending", "running", "completed", "failed", "cancelled"]
KindName = Literal["processing", "merge", "fitting"]

ENDED: frozenset[JobStatus] = frozenset({"completed", "failed", "cancelled"})

REQUEST_LABEL = "pyama.request"
"""Label of a run: digest of the request that it came from."""

_MOST_BEFORE_THE_END = 99.9
STATUS_OF_TYPE: dict[StateType, JobStatus] = {
    StateType.SCHEDULED: "pending",
    StateType.PENDING: "pending",
    StateType.PAUSED: "pending",
    StateType.RUNNING: "running",
    StateType.CANCELLING: "running",
    StateType.COMPLETED: "completed",
    StateType.FAILED: "failed",
    StateType.CRASHED: "failed",
    StateType.CANCELLED: "cancelled",
}
RETRYING = "AwaitingRetry"
"""Name of the scheduled state of a run that somebody wants to be tried again."""
RESUMING = "Resuming"
"""Name of that of a run that goes on after its process was lost."""
BEGUN_BEFORE = (RETRYING, RESUMING)
"""Names of the waiting states of runs that have begun before."""


@dataclass(frozen=True)
class JobKind:
    """What jobs of a kind have in common."""

    name: KindName
    deployment: str
    """Flow and deployment, as Prefect names them together."""
    unit: str
    """What its progress counts."""
    verb: str
    reads: str
    """Parameter of its flow that names what it reads."""

    @property
    def tag(self) -> str:
        """Tag of the deployment and of all its runs."""
        return f"pyama-kind:{self.name}"


PROCESSING = JobKind("processing", PROCESSING_DEPLOYMENT, "fov", "Processing FOV", "microscopy_path")
MERGE = JobKind("merge", "merge-samples/pyama", "sample", "Merging sample", "sample_yaml")
FITTING = JobKind("fitting", "fit-traces/pyama", "cell", "Fitting cell", "csv_path")
KINDS: dict[KindName, JobKind] = {kind.name: kind for kind in (PROCESSING, MERGE, FITTING)}


@dataclass(frozen=True)
class Job:
    """State of a job at a moment; only what JSON knows."""

    job_id: str
    kind: KindName
    status: JobStatus
    message: str
    error: str | None
    done: int
    """FOVs or cells that are finished."""
    total: int
    percentage: float
    created_at: str | None
    started_at: str | None
    ended_at: str | None
    seconds_left: float | None
    """An estimate, for a running job."""
    name: str
    parameters: dict[str, Any]
    request_digest: str | None
    input_fingerprint: str | None
    """Of the recording that it is to process; None where a run that was started elsewhere does not say so."""
    url: str | None
    """Its page in the Prefect UI."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it, unless somebody starts it again."""
        return self.status in ENDED

    @property
    def progress(self) -> dict[str, int | float]:
        """Progress as documented for its kind."""
        unit = KINDS[self.kind].unit
        return {f"current_{unit}": self.done, f"total_{unit}s": self.total, "percentage": self.percentage}

    @property
    def input_path(self) -> str | None:
        """What it reads; None where a run that was started elsewhere does not say so."""
        return _text(self.parameters.get(KINDS[self.kind].reads))

    @property
    def output_dir(self) -> str | None:
        """Folder of its results: where none is asked for, that of its input."""
        return output_dir_of(self.parameters)

    def as_json(self) -> dict[str, Any]:
        """All of it, for storing."""
        return asdict(self)

    @classmethod
    def of(cls, run: FlowRun, artifact: Artifact | None, ui_url: str | None) -> Self | None:
        """Tell a flow run in the API's terms; None where it is none of our jobs."""
        kind = kind_of(run)
        if kind is None or run.state is None:
            return None
        status = job_status(run.state, run.run_count)
        done, total, percentage = _progress(run, artifact, status)
        return cls(
            job_id=str(run.id),
            kind=kind.name,
            status=status,
            message=_message(kind, run.state, status, done, total),
            error=(run.state.message or "the job failed without a reason") if status == "failed" else None,
            done=done,
            total=total,
            percentage=percentage,
            created_at=_time(run.created),
            started_at=_time(run.start_time),
            ended_at=_time(run.end_time) if status in ENDED else None,
            seconds_left=_seconds_left(run.state, status, percentage),
            name=run.name,
            parameters=dict(run.parameters),
            request_digest=_text(run.labels.get(REQUEST_LABEL)),
            input_fingerprint=_text(run.labels.get(INPUT_LABEL)),
            url=f"{ui_url}/runs/flow-run/{run.id}" if ui_url else None,
        )


def kind_of(run: FlowRun) -> JobKind | None:
    """Kind of job that a flow run is; None where it is none of our jobs."""
    return next((kind for kind in KINDS.values() if kind.tag in run.tags), None)


def output_dir_of(parameters: Mapping[str, Any]) -> str | None:
    """Folder of the results of a run, also of one that is no job: where none is asked for, that of its input."""
    read = next(filter(None, (_text(parameters.get(kind.reads)) for kind in KINDS.values())), None)
    return _text(parameters.get("output_dir")) or (str(Path(read).parent) if read else None)


def job_status(state: State[Any], run_count: int) -> JobStatus:
    """Tell Prefect's state of a run as the status of a job."""
    # A run that has begun before is tried again; a job that was running is not told as pending once more.
    if run_count >= 1 and (state.name in BEGUN_BEFORE or state.type is StateType.PENDING):
        return "running"
    return STATUS_OF_TYPE[state.type]


def progress_key(job_id: object) -> str:
    """Key of the artifact in which a run keeps its progress."""
    return f"progress-{job_id}"


def _progress(run: FlowRun, artifact: Artifact | None, status: JobStatus) -> tuple[int, int, float]:
    counts: Mapping[str, str] = (artifact.metadata_ or {}) if artifact is not None else {}
    known_total = run.labels.get(TOTAL_LABEL, 0)
    total = _number(counts.get("total"), known_total if isinstance(known_total, int) else 0)
    if status == "completed":
        return total, total, 100.0
    shown = artifact.data if artifact is not None else 0.0
    percentage = float(shown) if isinstance(shown, int | float) else 0.0
    return _number(counts.get("done"), 0), total, round(min(percentage, _MOST_BEFORE_THE_END), 2)


def _message(kind: JobKind, state: State[Any], status: JobStatus, done: int, total: int) -> str:
    if state.type is StateType.CANCELLING:
        return "Cancelling: waiting until the work has stopped"
    if status == "running" and state.type in {StateType.SCHEDULED, StateType.PENDING, StateType.PAUSED}:
        return "Waiting to be tried again"
    if status == "running":
        return f"{kind.verb} {done}/{total}" if total else "Running"
    waiting = "Waiting for a worker" if state.type is StateType.PENDING else "Waiting for its turn"
    defaults: dict[JobStatus, str] = {"pending": waiting, "completed": "Completed", "failed": "Failed"}
    if status == "cancelled":
        return "Cancelled; what was finished before stays"
    return (state.message if status != "pending" else None) or defaults[status]


def _seconds_left(state: State[Any], status: JobStatus, percentage: float) -> float | None:
    if status != "running" or state.type is not StateType.RUNNING or percentage <= 0:
        return None
    elapsed_s = (datetime.now(UTC) - state.timestamp).total_seconds()
    return round(max(elapsed_s, 0.0) * (100.0 - percentage) / percentage, 1)


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="milliseconds")


def _number(text: str | None, default: int) -> int:
    return int(text) if text is not None and text.isdecimal() else default


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
