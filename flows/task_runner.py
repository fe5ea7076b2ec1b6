"""Where the FOVs of a run are computed: threads of this process, or any Dask cluster.

`PYAMA_DASK_ADDRESS` names a running scheduler; `PYAMA_DASK_CLUSTER_CLASS`, with `PYAMA_DASK_CLUSTER_KWARGS` as JSON,
a cluster that is started for the run, e.g. `dask_jobqueue.SLURMCluster`; with `PYAMA_DASK_MAXIMUM` it has as many
workers as there is work for. Without either, a run has threads of its own: they start in a tenth of a second, and the
kernels leave the GIL to each other.
"""

import json
import logging
import os
from typing import Any, Self

import distributed
from prefect_dask.task_runners import DaskTaskRunner
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from tasks.errors import ClusterError, InvalidParametersError
from tasks.problems import describe

_LOOPBACK = "127.0.0.1:0"


class ClusterSettings(BaseSettings):
    """How the environment asks for a cluster."""

    model_config = SettingsConfigDict(env_prefix="PYAMA_DASK_", env_ignore_empty=True)

    address: str | None = Field(None, description="Address of a running scheduler, e.g. tcp://10.0.0.1:8786")
    cluster_class: str | None = Field(None, description="Importable name of a Dask cluster class")
    cluster_kwargs: dict[str, Any] = Field(default_factory=dict, description="Its arguments, as JSON")
    minimum: int = Field(1, ge=1, description="Fewest workers of a cluster that grows with the work that waits")
    maximum: int | None = Field(None, ge=1, description="Most workers of such a cluster; unset: it does not grow")

    @classmethod
    def from_environment(cls) -> Self:
        """Read the settings.

        Raises
        ------
        InvalidParametersError
            Naming the variable and what is wrong with it.
        """
        try:
            settings = cls()
        except ValidationError as error:
            raise InvalidParametersError(f"PYAMA_DASK_ settings: {describe(error)}") from error
        except SettingsError as error:  # of all settings, only this one is parsed
            raise InvalidParametersError(
                'PYAMA_DASK_CLUSTER_KWARGS must be a JSON object, e.g. {"n_workers": 2}'
            ) from error
        if settings.address and settings.cluster_class:
            raise InvalidParametersError(
                "PYAMA_DASK_ADDRESS and PYAMA_DASK_CLUSTER_CLASS exclude each other; unset one"
            )
        if settings.maximum is None:
            return settings
        if not settings.cluster_class:
            raise InvalidParametersError(
                "PYAMA_DASK_MAXIMUM needs PYAMA_DASK_CLUSTER_CLASS: other workers are not ours"
            )
        if settings.minimum > settings.maximum:
            raise InvalidParametersError(
                f"PYAMA_DASK_MINIMUM must be at most PYAMA_DASK_MAXIMUM (got {settings.minimum} and {settings.maximum})"
            )
        return settings

    def cluster_kwargs_of(self, run_id: str) -> dict[str, Any]:
        """Arguments of the cluster of a run: `{run}` in any text of them stands for the beginning of its id."""
        kwargs: dict[str, Any] = json.loads(json.dumps(self.cluster_kwargs).replace("{run}", run_id.partition("-")[0]))
        return kwargs

    @property
    def adapt_kwargs(self) -> dict[str, int] | None:
        """Bounds of a cluster that grows with the work that waits; None for one that does not."""
        return None if self.maximum is None else {"minimum": self.minimum, "maximum": self.maximum}


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
