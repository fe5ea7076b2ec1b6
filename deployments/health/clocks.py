"""Whether clocks agree: schedules, lateness, the age of recordings and the signatures of notices depend on it."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from api.settings import Settings
from deployments.health.finding import Finding

_MOST_APART_S = 5.0


def file_clock_findings(settings: Settings) -> Iterator[Finding]:
    """Compare the clock of each file system that is written to with that of this machine."""
    for folder in (settings.home, settings.nightly_output):
        if folder is not None and folder.is_dir():
            before_s = time.time()
            yield clock_finding(f"the file system of {folder}", _file_time(folder), before_s, time.time())


def clock_finding(whose: str, told_s: float, before_s: float, after_s: float) -> Finding:
    """Whether a clock shows what that of this machine does; all in seconds since 1970.

    Parameters
    ----------
    before_s, after_s
        What this machine's clock showed before and after the other one was asked.
    """
    ahead_s = told_s - min(max(told_s, before_s), after_s)
    if abs(ahead_s) <= _MOST_APART_S:
        return Finding(True, f"clocks: {whose} agrees with this machine")
    way = "ahead of" if ahead_s > 0 else "behind"
    return Finding(
        False,
        f"clocks: {whose} is {abs(ahead_s):.0f} s {way} this machine",
        "have both set their clocks by the network (chrony, systemd-timesyncd)",
    )


def _file_time(folder: Path) -> float:
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".pyama-doctor-") as file:
        file.write(b"now")
        file.flush()
        return Path(file.name).stat().st_mtime
