"""Keeping a bounded number of a run's task runs in flight, until all have ended or the run has to."""

from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from itertools import islice
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import distributed

from flows.stopping import Deadline, call_off

Part = TypeVar("Part")

_LOOK_INTERVAL_S = 0.5


def in_flight(
    client: distributed.Client,
    parts: Iterable[Part],
    begin: Callable[[Part], distributed.Future[Any]],
    most: int,
    deadline: Deadline,
    look: Callable[[], None],
) -> Generator[tuple[Part, distributed.Future[Any]], None, None]:
    """Have parts computed and give back each with its future as that ends.

    Closing the generator, or an exception in it, calls off those that are being computed.

    Parameters
    ----------
    begin
        Hands one part to the cluster.
    most
        Most parts in flight.
    look
        Called at least twice a second.

    Raises
    ------
    JobTimeoutError
        Where the deadline passes.
    """
    waiting = iter(parts)
    running: dict[distributed.Future[Any], Part] = {}
    ended: SimpleQueue[distributed.Future[Any]] = SimpleQueue()
    try:
        while True:
            for part in islice(waiting, most - len(running)):
                future = begin(part)
                running[future] = part
                future.add_done_callback(ended.put)
            if not running:
                return
            deadline.check()
            with suppress(Empty):
                future = ended.get(timeout=_LOOK_INTERVAL_S)
                yield running.pop(future), future
            look()
    finally:
        call_off(client, list(running))
