"""Whether there is a Dask cluster to compute on, and whether it is of the same versions."""

from collections.abc import Iterator

import distributed

from deployments.health.finding import Finding
from flows.cluster_settings import ClusterSettings
from flows.cluster_versions import compare_scheduler, compare_workers
from tasks.errors import InvalidParametersError

_ANSWER_TIMEOUT_S = 5.0


def cluster_findings() -> Iterator[Finding]:
    """Look at what the PYAMA_DASK_ settings name."""
    try:
        settings = ClusterSettings.from_environment()
    except InvalidParametersError as error:
        yield Finding(False, f"Dask: {error}", "correct the setting, or unset it")
        return
    if settings.address:
        yield from _scheduler(settings.address)
    elif settings.cluster_class:
        yield Finding(True, f"Dask: each run starts a {settings.cluster_class} with {settings.cluster_kwargs}")
    else:
        yield Finding(True, "Dask: each run has threads of its own (no PYAMA_DASK_ settings)")


def _scheduler(address: str) -> Iterator[Finding]:
    try:
        with distributed.Client(address, timeout=_ANSWER_TIMEOUT_S) as client:
            threads: dict[str, int] = client.nthreads()
            compared = [compare_scheduler(client), *compare_workers(client, list(threads)).values()]
    except OSError as error:
        there = f"Dask: the scheduler at {address} of PYAMA_DASK_ADDRESS does not answer ({error})"
        yield Finding(False, there, "start it: dask scheduler")
        return
    answers = f"Dask: the scheduler at {address} answers"
    for problem in (one.problem for one in compared if one.problem is not None):
        yield Finding(False, f"Dask: {problem}", "install the same versions there, with --constraint constraints.txt")
    if not threads:
        yield Finding(False, f"{answers}, but has no workers, so that jobs wait", f"start one: dask worker {address}")
    elif all(one.problem is None for one in compared):
        n_threads = sum(threads.values())
        yield Finding(True, f"{answers}; {len(threads)} workers with {n_threads} threads, versions agree")
