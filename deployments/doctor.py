"""Checks of the installation, and of the files of an output folder: `pyama doctor`."""

import platform
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit

import numpy as np

from api.settings import Settings
from deployments.health.clocks import file_clock_findings
from deployments.health.finding import Finding, checked
from deployments.health.storage import storage_findings
from deployments.health.versions import version_findings
from tasks.errors import OutputError
from tasks.output import fov_directories, verify
from tasks.output.manifest import package_versions

_REMEDIES = {
    "kernels": "run: python -m tasks.warm_up, which tells more",
    "Dask": "see the scheduler's log",
    "packages": "install again, with --constraint constraints.txt",
    "Prefect": "see the server's log",
}
"""What to do where a check itself fails."""
_THIS_MACHINE = {"127.0.0.1", "localhost", "::1"}


def examine() -> list[Finding]:
    """Look at versions, processors, kernels, Dask, paths, disks, clocks and Prefect.

    Raises
    ------
    InvalidParametersError
        Where a setting is wrong.
    """
    settings = Settings.from_environment()
    checks: dict[str, Callable[[], Iterable[Finding]]] = {
        "processors": _processors,
        "kernels": _kernels,
        "Dask": _dask,
        "packages": version_findings,
        "paths": partial(storage_findings, settings),
        "clocks": partial(file_clock_findings, settings),
        "Prefect": partial(_prefect, settings),
    }
    found = (checked(name, check, _REMEDIES.get(name, "")) for name, check in checks.items())
    return [_versions(), *(finding for findings in found for finding in findings)]


def verify_folder(output_dir: Path) -> list[Finding]:
    """Read all files of an output folder again and hold them to their checksums.

    Raises
    ------
    OutputError
        Where there is no FOV in the folder.
    """
    directories = fov_directories(output_dir)
    if not directories:
        raise OutputError(f"{output_dir} holds no FOV directories; give the output folder of a run")
    findings = []
    for directory in directories.values():
        problems = verify(directory)
        remedy = f"remove {directory} and start the job again: what is there is not computed anew"
        findings += [Finding(False, problem, remedy) for problem in problems] or [Finding(True, str(directory))]
    return findings


def _versions() -> Finding:
    versions = ", ".join(f"{name} {version}" for name, version in package_versions().items())
    return Finding(True, f"versions: {versions}; {platform.platform()}")


def _processors() -> Iterator[Finding]:
    from flows.task_runner import usable_cpus

    yield Finding(True, f"processors: {usable_cpus()} usable")


def _kernels() -> Iterator[Finding]:
    """Compile the kernels, or load them where they were compiled before, and measure a small image."""
    from tasks.configuration import Channels, FluorescenceChannel, PhaseChannel, ScienceParameters
    from tasks.frames import measure_frame

    channels = Channels(phase=PhaseChannel(channel=0), fluorescence=[FluorescenceChannel(channel=1)])
    images = np.random.default_rng(0).integers(0, 100, (2, 64, 64), dtype=np.uint16)
    start = monotonic()
    measure_frame(images, channels, ScienceParameters())
    yield Finding(True, f"kernels: compiled and run in {monotonic() - start:.1f} s")


def _dask() -> Iterator[Finding]:
    from deployments.health.cluster import cluster_findings

    yield from cluster_findings()


def _prefect(settings: Settings) -> Iterator[Finding]:
    """Look at the Prefect server, and at its database where that is on this machine."""
    from prefect.settings import get_current_settings

    from deployments.health.database import database_findings
    from deployments.health.orchestrator import orchestrator_findings

    url = get_current_settings().api.url
    if not url:
        yield Finding(True, "Prefect: no API is configured, each run starts the embedded server")
        return
    yield from checked("Prefect", partial(orchestrator_findings, url), _REMEDIES["Prefect"])
    if urlsplit(url).hostname in _THIS_MACHINE:
        yield from checked("database", partial(database_findings, settings), "is it there, and may it be read?")
