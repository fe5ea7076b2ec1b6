"""Keeping a bounded number of a run's task runs in flight, until all have ended or the run has to."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import distributed

from flows.crew import Crew, Workers
from flows.stopping import Deadline, call_off

Part = TypeVar("Part")

_LOOK_INTERVAL_S = 0.5


def in_flight(
    crew: Crew,
    parts: Iterable[Part],
    begin: Callable[[Part, Workers], distributed.Future[Any]],
    batch_size: int | None,
    deadline: Deadline,
    look: Callable[[], None],
) -> Generator[tuple[Part, distributed.Future[Any]], None, None]:
    """Have parts computed and give back each with its future as that ends.

    Closing the generator, or an exception in it, calls off those that are being computed. A part whose workers have
    all left begins again with others.

    Parameters
    ----------
    crew
        Workers that compute.
    begin
        Hands one part to some of them.
    batch_size
        Most parts in flight; by default as many as the crew has threads.
    look
        Called at least twice a second.

    Raises
    ------
    JobTimeoutError
        Where the deadline passes.
    ClusterError
        Where no worker of the cluster can compute for the run.
    """
    waiting = deque(parts)
    running: dict[distributed.Future[Any], tuple[Part, Workers]] = {}
    ended: SimpleQueue[distributed.Future[Any]] = SimpleQueue()

    def start(part: Part) -> None:
        workers = crew.workers
        future = begin(part, workers)
        running[future] = part, workers
        future.add_done_callback(ended.put)

    try:
        while waiting or running:
            while waiting and len(running) < crew.room(batch_size):
                start(waiting.popleft())
            deadline.check()
            crew.check()
            with suppress(Empty):
                future = ended.get(timeout=_LOOK_INTERVAL_S)
                if future in running:
                    part, _ = running.pop(future)
                    yield part, future
            for future, (part, workers) in list(running.items()):
                if crew.is_stranded(workers):
                    del running[future]
                    future.cancel()
                    start(part)
            look()
    finally:
        call_off(crew.client, list(running))
