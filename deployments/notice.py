"""What a receiver is told of the end of a job, and by what it knows that it is we who tell it."""

import hashlib
import hmac
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Self
from uuid import UUID, uuid5

from prefect.client.schemas.objects import Artifact, FlowRun

from api.jobs import ENDED, Job, progress_key
from api.webhooks import receiver_id

SIGNATURE_HEADER = "PyAMA-Signature"
EVENT_HEADER = "PyAMA-Event"
DELIVERY_HEADER = "PyAMA-Delivery"

_DELIVERIES = UUID("5b0c9e0e-6f0a-4f5e-9c86-0f3d4c1d7a52")
"""Name space of the ids of deliveries."""
_ROUTES = {"processing": "/processing/workflow", "fitting": "/analysis/fitting"}
"""Where the API tells of jobs of a kind, below its base."""


@dataclass(frozen=True)
class Notice:
    """That a job has ended, for one receiver."""

    run_id: UUID
    end_id: str
    """Id of the state in which the run has ended; a run that is tried again ends in another one."""
    ended_at: datetime
    receiver: str
    """Address, as `api.webhooks` writes it."""
    event: str
    content: bytes
    """JSON."""

    @property
    def delivery_id(self) -> str:
        """The same for the same end and receiver, whoever sends it, so that a repeated notice can be told."""
        return delivery_id(self.run_id, self.end_id, self.receiver)

    @classmethod
    def of(cls, run: FlowRun, receiver: str, artifacts: dict[str, Artifact], api_url: str, ui_url: str) -> Self | None:
        """Tell of a run to a receiver; None where it is none of our jobs, or has not ended.

        Parameters
        ----------
        artifacts
            Progress of runs, by key.
        api_url, ui_url
            Where the API and the Prefect UI are.
        """
        job = Job.of(run, artifacts.get(progress_key(run.id)), ui_url)
        if job is None or run.state is None or job.status not in ENDED:
            return None
        end_id, event = str(run.state.id), f"job.{job.status}"
        content = {
            "event": event,
            "delivery_id": delivery_id(run.id, end_id, receiver),
            "job_id": job.job_id,
            "kind": job.kind,
            "name": job.name,
            "status": job.status,
            "message": job.message,
            "error": job.error,
            "output_dir": job.output_dir,
            "created_at": job.created_at,
            "started_at": job.started_at,
            "ended_at": job.ended_at,
            "progress": job.progress,
            "links": _links(job, f"{api_url}/api/v1"),
        }
        text = json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")
        return cls(run.id, end_id, run.end_time or run.state.timestamp, receiver, event, text)


def delivery_id(run_id: UUID, end_id: str, receiver: str) -> str:
    """Id of what one receiver is told of one end of a run."""
    return str(uuid5(_DELIVERIES, f"{run_id}:{end_id}:{receiver_id(receiver)}"))


def headers(notice: Notice, secret: str, now_s: int) -> dict[str, str]:
    """Headers of the request that brings a notice.

    Parameters
    ----------
    now_s
        Seconds since 1970; part of what is signed, so that a receiver can refuse what is old.
    """
    signature = hmac.new(secret.encode(), f"{now_s}.".encode() + notice.content, hashlib.sha256).hexdigest()
    return {
        "Content-Type": "application/json",
        "User-Agent": "PyAMA-Backend",
        EVENT_HEADER: notice.event,
        DELIVERY_HEADER: notice.delivery_id,
        SIGNATURE_HEADER: f"t={now_s},v1={signature}",
    }


def _links(job: Job, base: str) -> dict[str, str | None]:
    route = _ROUTES.get(job.kind)
    return {
        "status": f"{base}{route}/status/{job.job_id}" if route else f"{base}/jobs/{job.job_id}",
        "results": f"{base}{route}/results/{job.job_id}" if route else None,
        "ui": job.url,
    }
