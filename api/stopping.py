"""Whether this server has been told to stop: it waits for its answers, so that what sends without end has to ask."""

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def noticing_stop() -> Iterator[asyncio.Event]:
    """Have an event that is set as soon as the process is told to stop; whoever handles that otherwise still does.

    The servers know it first from their signal handlers, and tell applications only once all answers are sent.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    if threading.current_thread() is not threading.main_thread():  # where there are no signals to handle
        yield stopping
        return
    before: dict[int, Any] = {number: signal.getsignal(number) for number in _SIGNALS}

    def note(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(stopping.set)
        if callable(before[number]):
            before[number](number, frame)

    replaced = [number for number in _SIGNALS if callable(before[number])]
    for number in replaced:
        signal.signal(number, note)
    try:
        yield stopping
    finally:
        stopping.set()
        for number in replaced:
            if signal.getsignal(number) is note:
                signal.signal(number, before[number])
