"""Where the FOVs of a run are computed: threads of this process, or any Dask cluster.

`PYAMA_DASK_ADDRESS` names a running scheduler; `PYAMA_DASK_CLUSTER_CLASS`, with `PYAMA_DASK_CLUSTER_KWARGS` as JSON,
a cluster that is started for the run, e.g. `dask_jobqueue.SLURMCluster`; with `PYAMA_DASK_MAXIMUM` it has as many
workers as there is work for. Without either, a run has threads of its own: they start in a tenth of a second, and the
kernels leave the GIL to each other.
"""

import logging
import os
from typing import Any

import distributed
from prefect_dask.task_runners import DaskTaskRunner

from flows.cluster_settings import ClusterSettings
from tasks.errors import ClusterError

_LOOPBACK = "127.0.0.1:0"


def make_task_runner(
    n_workers: int | None, run_id: str, logger: logging.Logger | logging.LoggerAdapter[Any]
) -> DaskTaskRunner:
    """Task runner for a run.

    Parameters
    ----------
    n_workers
        Threads of the run's own cluster; by default one for each usable processor. A cluster that the environment
        names has its own workers.
    run_id
        Id of the run, for the name of a cluster that is started for it.
    logger
        Told where `n_workers` is ignored.

    Raises
    ------
    InvalidParametersError
        Where the settings contradict each other or make no sense.
    ClusterError
        Where there is no such cluster class.
    """
    settings = ClusterSettings.from_environment()
    if settings.address or settings.cluster_class:
        if n_workers is not None:
            logger.info("n_workers = %d is ignored: the Dask cluster of the settings has its own workers", n_workers)
        if settings.address:
            return DaskTaskRunner(address=settings.address)
        try:
            return DaskTaskRunner(
                cluster_class=settings.cluster_class,
                cluster_kwargs=settings.cluster_kwargs_of(run_id),
                adapt_kwargs=settings.adapt_kwargs,
            )
        except (ImportError, AttributeError, ValueError) as error:
            raise ClusterError(
                f"cannot find the cluster class {settings.cluster_class}: {error}; check PYAMA_DASK_CLUSTER_CLASS"
            ) from error
    return DaskTaskRunner(
        cluster_class=distributed.LocalCluster,
        cluster_kwargs={
            "n_workers": 1,
            "threads_per_worker": n_workers or usable_cpus(),
            "processes": False,
            "dashboard_address": None,
            # Without a dashboard there is still a server of health and metrics, by default for the whole network.
            "scheduler_kwargs": {"dashboard_address": _LOOPBACK},
            "worker_dashboard_address": _LOOPBACK,
            "memory_limit": 0,
            "silence_logs": logging.WARNING,
        },
    )


def has_own_threads(runner: DaskTaskRunner) -> bool:
    """Whether a task runner computes in threads of this process, as `make_task_runner` has it without any setting."""
    return runner.cluster_class is distributed.LocalCluster


def usable_cpus() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def count_threads(client: distributed.Client) -> int:
    """Threads of all workers that a cluster has at this moment."""
    return sum(map(int, client.nthreads().values()))


def connect(runner: DaskTaskRunner) -> distributed.Client:
    """Start or reach the cluster of a task runner.

    Raises
    ------
    ClusterError
        Where it cannot be started or does not answer.
    """
    try:
        return runner.client
    except Exception as error:
        where = f"the Dask scheduler at {runner.address}" if runner.address else f"a {runner.cluster_class} cluster"
        raise ClusterError(f"cannot reach or start {where}: {error}; check the PYAMA_DASK_ settings") from error
