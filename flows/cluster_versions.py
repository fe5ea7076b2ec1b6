"""Holding the scheduler and the workers of a Dask cluster to the versions that are installed here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import distributed

from flows.versions import NUMBERS, SENDING, Installation, conflicts, installation, remarks

_REMEDY = "install the same versions there, from the same constraints.txt, and start it again"


@dataclass(frozen=True)
class Compared:
    """What is installed in a process of a cluster, compared to what is here."""

    problem: str | None
    """Why it can have no part in a run, beginning with its name; None where it can."""
    remark: str | None = None
    """What differs without harm, beginning with its name."""


def compare_scheduler(client: distributed.Client) -> Compared:
    """Compare the scheduler; what numbers depend on may be different there, as it computes none."""
    try:
        there: Installation | Exception = client.run_on_scheduler(installation)
    except Exception as error:  # there is no such function, or Python there does not understand this one
        there = error
    return _compare("The Dask scheduler", there, SENDING, NUMBERS)


def compare_workers(client: distributed.Client, addresses: Sequence[str]) -> dict[str, Compared]:
    """Compare workers, by address; those that have left meanwhile are missing."""
    return {
        address: _compare(name_worker(client, address), there, (*SENDING, *NUMBERS), ())
        for address, there in ask_workers(client, addresses, installation).items()
    }


def ask_workers(
    client: distributed.Client,
    addresses: Sequence[str],
    function: Callable[..., Any],
    *arguments: Any,  # noqa: ANN401
) -> dict[str, Any]:
    """Call a function on workers; results or errors, by address, of those that have not left meanwhile."""
    if not addresses:
        return {}
    answers = client.run(function, *arguments, workers=list(addresses), on_error="return")
    there = client.scheduler_info(n_workers=-1)["workers"].keys()
    return {
        address: answer for address, answer in answers.items() if address in there or not isinstance(answer, OSError)
    }


def name_worker(client: distributed.Client, address: str) -> str:
    """Name of a worker for people, at the beginning of a sentence."""
    known = client.scheduler_info(n_workers=-1)["workers"].get(address, {})
    return f"The Dask worker {known.get('name', 'unknown')} at {address}"


def _compare(who: str, there: Installation | Exception, agreeing: Sequence[str], harmless: Sequence[str]) -> Compared:
    if isinstance(there, Exception):
        return Compared(f"{who} cannot say what is installed there ({there}); {_REMEDY}")
    here = installation()
    if found := conflicts(here, there, agreeing):
        return Compared(f"{who} has other versions: {', '.join(found)}; {_REMEDY}")
    differing = [*conflicts(here, there, harmless), *remarks(here, there)]
    return Compared(None, f"{who} differs without harm: {', '.join(differing)}" if differing else None)
