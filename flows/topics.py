"""Topics of the Dask scheduler, by which tasks tell their run of something from whatever worker they are on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import distributed


@contextmanager
def hearing(client: distributed.Client, topic: str, handle: Callable[[Any], None]) -> Iterator[None]:
    """Have what tasks tell by a topic of this run handled within the block; then the scheduler forgets it."""

    def unpack(event: tuple[float, Any]) -> None:
        handle(event[1])

    client.subscribe_topic(topic, unpack)
    try:
        yield
    finally:
        # A scheduler that is gone has forgotten already, and whatever has ended the block is to be told of it.
        if client.status != "closed":
            client.unsubscribe_topic(topic)
            client.run_on_scheduler(_forget, topic=topic)


def _forget(dask_scheduler: distributed.Scheduler, topic: str) -> None:
    """Have a scheduler not keep the last thousand events of each run for as long as it lives."""
    dask_scheduler._broker._topics.pop(topic, None)
