"""What a worker has to see and to reach for a run: the storage, and the Prefect API."""

import asyncio
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect.client.orchestration import get_client
from prefect.context import SettingsContext
from prefect.settings import PREFECT_API_URL

from flows.remote_logs import send_logs
from tasks.errors import OutputError, PyamaError, RecordingError
from tasks.output import LOCK_FILE, input_fingerprint
from tasks.output.lock import signed_by

_PATIENCE_S = 30.0


@dataclass(frozen=True)
class Site:
    """Where a run reads and writes, and whom it tells."""

    run_id: str
    folder: Path
    """Folder that the run holds and that workers write to."""
    recording: Path | None = None
    recording_fingerprint: str | None = None
    """Of the recording's content, as the run reads it."""


async def join_run(site: Site, settings: dict[str, Any]) -> list[str]:
    """Look, on a worker, whether it can compute for a run; if so, what its tasks log is sent to the run.

    Parameters
    ----------
    settings
        Prefect's, as the run has them.

    Returns
    -------
    list of str
        What is in the way, each with its remedy.
    """
    checks: list[tuple[str, Callable[[], None]]] = [
        (f"the output folder {site.folder}", lambda: _check_folder(site)),
        (f"the recording {site.recording}", lambda: _check_recording(site)),
        ("the Prefect API", lambda: _check_prefect(settings)),
    ]
    problems = [problem for what, check in checks if (problem := await _outcome(what, check)) is not None]
    if not problems:
        send_logs(site.run_id)
    return problems


async def _outcome(what: str, check: Callable[[], None]) -> str | None:
    """Run a check in a thread, so that the worker goes on; storage that hangs holds up nobody."""
    try:
        await asyncio.wait_for(asyncio.to_thread(check), _PATIENCE_S)
    except TimeoutError:
        return f"{what} does not answer within {_PATIENCE_S:g} s"
    except PyamaError as error:
        return str(error)
    except Exception as error:  # whatever it is, it would be in the way of every FOV
        return f"{what} cannot be used: {type(error).__name__}: {error}"
    return None


def _check_folder(site: Site) -> None:
    if not site.folder.is_dir():
        raise OutputError(f"does not see the output folder {site.folder}; mount the storage there under the same path")
    if signed_by(site.folder) != site.run_id:
        raise OutputError(
            f"sees another folder as {site.folder}: the run's {LOCK_FILE} is not in it; mount the same storage there"
        )
    try:
        with tempfile.TemporaryFile(dir=site.folder):
            pass
    except OSError as error:
        raise OutputError(
            f"cannot write to the output folder {site.folder}: {error.strerror}; run the worker as a user who may"
        ) from error


def _check_recording(site: Site) -> None:
    if site.recording is None:
        return
    try:
        same = input_fingerprint(site.recording) == site.recording_fingerprint
    except RecordingError as error:
        raise RecordingError(
            f"does not see the recording: {error}; mount the storage there under the same path"
        ) from error
    if not same:
        raise RecordingError(f"sees another file as {site.recording}; mount the same storage there")


def _check_prefect(settings: dict[str, Any]) -> None:
    with SettingsContext(**settings):
        url = PREFECT_API_URL.value()
        with get_client(sync_client=True) as client:
            problem = client.api_healthcheck()
    if problem is not None:
        raise PyamaError(
            f"does not reach the Prefect API at {url}: {type(problem).__name__}: {problem}; set PREFECT_API_URL of the "
            "run to an address that workers reach, and have the server listen there (--host)"
        )
