"""What dead processes leave on the disk: unfinished directories in output folders, unfinished files in PYAMA_HOME.

A run clears its own folder when it is tried again. This is for those that never are.
"""

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilterEndTime

from api.jobs import output_dir_of
from api.settings import Settings
from deployments.retention import ended_runs
from tasks.errors import PyamaError
from tasks.fitting.leftovers import clear_fits
from tasks.output import clear_leftovers

QUIET_S = 3600.0
"""Who may be tried again soon clears its folder itself."""

_LOOKED_BACK = timedelta(days=8)
_NO_FIT_GOES_ON_AFTER_S = 3 * 86400.0
"""What a fit has finished is kept so long for one that goes on with it; less than the runs are looked back at."""
_UNFINISHED_AFTER_S = 86400.0
_FORGOTTEN_AFTER_S = 30 * 86400.0


async def clear_output_folders(client: PrefectClient, settings: Settings, quiet_s: float = QUIET_S) -> str | None:  # noqa: ARG001
    """Clear the output folders of the runs of the last days that ended a while ago, where no run holds them.

    What is finished of a fit stays for some days longer, for whoever fits the same again.

    Folders that are not there, or not to be written by this process, are passed over.
    """
    now = datetime.now(UTC)
    ended = FlowRunFilterEndTime(after_=now - _LOOKED_BACK, before_=now - timedelta(seconds=quiet_s))
    named = [output_dir_of(run.parameters) async for run in ended_runs(client, ended)]
    folders = sorted({Path(path) for path in named if path is not None and path.startswith("/")})
    n_cleared = await asyncio.to_thread(lambda: sum(map(_clear, folders)))
    return f"{n_cleared} unfinished directories and files of ended runs are cleared away" if n_cleared else None


def _clear(folder: Path) -> int:
    n_cleared = 0
    for clear in (clear_leftovers, partial(clear_fits, before_s=time.time() - _NO_FIT_GOES_ON_AFTER_S)):
        with suppress(PyamaError, OSError, ValueError):
            n_cleared += clear(folder) if folder.is_dir() else 0
    return n_cleared


async def tidy_home(client: PrefectClient, settings: Settings) -> str | None:  # noqa: ARG001
    """Remove files in PYAMA_HOME that were never finished, and what was known of jobs at servers of long ago."""
    n_removed = await asyncio.to_thread(_tidy, settings.home, time.time())
    return f"{n_removed} old files in {settings.home} are removed" if n_removed else None


def _tidy(home: Path, now_s: float) -> int:
    limits = (
        (_UNFINISHED_AFTER_S, (*home.glob("status-*.tmp"), *home.glob("metrics/*.tmp"))),
        (_FORGOTTEN_AFTER_S, tuple(home.glob("status-*.json"))),
    )
    n_removed = 0
    for limit_s, paths in limits:
        for path in paths:
            with suppress(OSError):
                if now_s - path.lstat().st_mtime > limit_s:
                    path.unlink()
                    n_removed += 1
    return n_removed
