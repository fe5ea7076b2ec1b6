"""What somebody has to see to as long as jobs are run: `python -m deployments.caretaker`.

One program beside the workers. Each duty is done again and again, at an interval of its own and beside the others; one
that fails is told of and tried again, and keeps no other from its turn. All that is done here can be done twice, or by
two of them at once, without harm.
"""

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from prefect.client.orchestration import PrefectClient, get_client

from api.settings import Settings
from deployments.database import compact_database
from deployments.leftovers import clear_output_folders, tidy_home
from deployments.notices import Notices
from deployments.recovery import LOOK_INTERVAL_S, Reconciler
from deployments.retention import forget_old_runs
from tasks.errors import InvalidParametersError

logger = logging.getLogger("pyama.caretaker")


@dataclass(frozen=True)
class Duty:
    """Something that is to be done again and again."""

    name: str
    interval_s: float
    """From the end of one time to the beginning of the next."""
    do: Callable[[PrefectClient, Settings], Awaitable[str | None]]
    """Does it once, and says what there is to tell, if anything."""


_HOUR_S = 3600.0

DUTIES: tuple[Duty, ...] = (
    Duty("interrupted runs", LOOK_INTERVAL_S, Reconciler().look),
    Duty("notices", 2.0, Notices().look),
    Duty("old runs", _HOUR_S, forget_old_runs),
    Duty("unfinished results", _HOUR_S, clear_output_folders),
    Duty("old files", 24 * _HOUR_S, tidy_home),
    Duty("size of the database", 24 * _HOUR_S, compact_database),
)


async def take_care(settings: Settings, duties: Sequence[Duty] = DUTIES) -> None:
    """Do all duties until cancelled."""
    async with asyncio.TaskGroup() as group:
        for duty in duties:
            group.create_task(_repeat(duty, settings))


async def _repeat(duty: Duty, settings: Settings) -> None:
    failing = False
    while True:
        try:
            async with get_client() as client:
                told = await duty.do(client, settings)
        except Exception as error:  # whatever it is, the next time may go better
            if not failing:  # a server that is away for hours is told of once
                logger.warning("%s failed, and is tried again: %s: %s", duty.name, type(error).__name__, error)
            failing = True
        else:
            if failing:
                logger.info("%s works again", duty.name)
            if told:
                logger.info("%s: %s", duty.name, told)
            failing = False
        await asyncio.sleep(duty.interval_s)


async def _until_signal(settings: Settings) -> None:
    working = asyncio.create_task(take_care(settings))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, working.cancel)
    with suppress(asyncio.CancelledError):
        await working


def main() -> None:
    """Take care of the jobs at the Prefect server that the environment names, until Ctrl-C or SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        settings = Settings.from_environment()
        settings.require_webhook_secret()
    except InvalidParametersError as error:
        sys.exit(f"pyama: {error}")
    asyncio.run(_until_signal(settings))


if __name__ == "__main__":
    main()
