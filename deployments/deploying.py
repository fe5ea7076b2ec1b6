"""Telling Prefect of our flows: work pools, their limits, and one deployment for each flow. `pyama deploy`."""

import asyncio
import importlib
import shlex
import sys
from dataclasses import dataclass
from typing import Any, Self

import httpx
from prefect import Flow
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.exceptions import ObjectAlreadyExists
from prefect.schedules import Cron, Schedule
from prefect.types.entrypoint import EntrypointType
from prefect.workers.process import ProcessWorker

from api.jobs import FITTING, MERGE, PROCESSING, JobKind
from api.orchestrator import CONTROL_POOL, POOL
from api.settings import Settings
from deployments.errors import RunFailedError
from tasks.errors import PyamaError
from tasks.job_marks import COMMON_TAG


@dataclass(frozen=True)
class Deployment:
    """A flow that can be started by its name."""

    entrypoint: str
    """Module and function."""
    full_name: str
    """Flow and deployment, as Prefect names them together."""
    tag: str
    """Of what kind its runs are."""
    pool: str

    @classmethod
    def of_jobs(cls, entrypoint: str, kind: JobKind, pool: str) -> Self:
        """Tell of a deployment whose runs are jobs of the API."""
        return cls(entrypoint, kind.deployment, kind.tag, pool)


NIGHTLY = Deployment(
    "flows.nightly.process_new_acquisitions", "process-new-acquisitions/pyama", "pyama-kind:nightly", CONTROL_POOL
)
"""Starts jobs and is none itself; the one that has a schedule."""

DEPLOYMENTS = (
    Deployment.of_jobs("flows.process.process_acquisition", PROCESSING, POOL),
    Deployment.of_jobs("flows.merge.merge_samples", MERGE, CONTROL_POOL),
    Deployment.of_jobs("flows.fit.fit_traces", FITTING, POOL),
    NIGHTLY,
)
"""All deployments; `prefect.yaml` tells the same for those who deploy by `prefect deploy --all`."""


async def deploy(settings: Settings) -> list[str]:
    """Create or update work pools and deployments; safe to repeat.

    Returns
    -------
    list of str
        Names of the deployments.

    Raises
    ------
    RunFailedError
        Where Prefect does not answer.
    """
    try:
        async with get_client() as client:
            await ensure_pools(client, settings)
        return [await _apply(deployment, settings) for deployment in DEPLOYMENTS]
    except httpx.TransportError as error:
        raise RunFailedError(f"Prefect does not answer: {error}; start it, or see PREFECT_API_URL") from error


async def ensure_pools(client: PrefectClient, settings: Settings) -> None:
    """Create the work pools, or have them hold to PYAMA_MAX_JOBS."""
    await _ensure_pool(client, POOL, settings.max_jobs)
    await _ensure_pool(client, CONTROL_POOL, None)


async def _ensure_pool(client: PrefectClient, name: str, limit: int | None) -> None:
    """Have a work pool of processes.

    The limit is the pool's: a worker with a limit of its own crashes when a run is tried again.
    """
    template = ProcessWorker.get_default_base_job_template()
    try:
        await client.create_work_pool(
            WorkPoolCreate(name=name, type="process", base_job_template=template, concurrency_limit=limit)
        )
    except ObjectAlreadyExists:
        await client.update_work_pool(name, WorkPoolUpdate(concurrency_limit=limit))


async def _apply(deployment: Deployment, settings: Settings) -> str:
    module, _, function = deployment.entrypoint.rpartition(".")
    flow: Flow[..., Any] = getattr(importlib.import_module(module), function)
    parameters = _nightly_parameters(settings) if deployment is NIGHTLY else {}
    built = await flow.ato_deployment(
        name=deployment.full_name.partition("/")[2],
        description=flow.description,
        tags=[COMMON_TAG, deployment.tag],
        work_pool_name=deployment.pool,
        entrypoint_type=EntrypointType.MODULE_PATH,
        parameters=parameters,
        schedules=[_schedule(settings, parameters)] if parameters else [],
        # The flows hold requests to what this process knows, plugins that came later included, and say what is wrong.
        enforce_parameter_schema=False,
        job_variables={
            # Without a command, the worker starts an interpreter with all of Prefect that starts another one.
            "command": shlex.join([sys.executable, "-m", "deployments.flow_process"]),
            # Without a dictionary here, that of a run is not added to the worker's environment.
            "env": {},
        },
    )
    await built.aapply()
    return deployment.full_name


def _nightly_parameters(settings: Settings) -> dict[str, Any]:
    """Parameters of the nightly scan; none where there is no folder to scan."""
    if settings.nightly_folder is None:
        return {}
    return {
        "folder": str(settings.nightly_folder),
        "output_root": str(settings.nightly_output),
        "wait": settings.nightly_wait,
    }


def _schedule(settings: Settings, parameters: dict[str, Any]) -> Schedule:
    """Have the scan every night; with parameters of its own, because `prefect deploy` takes the deployment's away."""
    return Cron(settings.nightly_cron, timezone=settings.nightly_timezone, parameters=parameters)


def main() -> None:
    """Deploy to the Prefect server that the environment names."""
    for name in asyncio.run(deploy(Settings.from_environment())):
        print(f"deployed {name}")


if __name__ == "__main__":
    try:
        main()
    except PyamaError as error:
        sys.exit(f"pyama: {error}")
