"""Receivers of notices: real HTTP servers on this machine, which do as they are told."""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HANG = 0
"""In place of a status: answer nothing until the receiver is closed."""


@dataclass(frozen=True)
class Received:
    """A request that came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def content(self) -> dict[str, Any]:
        """What it says."""
        content: dict[str, Any] = json.loads(self.body)
        return content


@dataclass
class Receiver:
    """What has come to a receiver, and with which status it answers, one after the other; the last one for ever."""

    answers: Sequence[int]
    url: str = ""
    location: str | None = None
    received: list[Received] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    def of(self, job_id: object) -> list[Received]:
        """What it was told of a job."""
        return [one for one in list(self.received) if one.body and one.content["job_id"] == str(job_id)]


@contextmanager
def receiver(*answers: int, location: str | None = None) -> Iterator[Receiver]:
    """Have a receiver on a free port."""
    state = Receiver(answers or (200,), location=location)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = state.answers[min(len(state.received), len(state.answers) - 1)]
            state.received.append(Received(self.path, dict(self.headers), body))
            if answer == HANG:
                state.closing.wait(60)
                return
            self.send_response(answer)
            if state.location is not None:
                self.send_header("Location", state.location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            state.received.append(Received(self.path, dict(self.headers), b""))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        state.url = f"http://127.0.0.1:{server.server_port}/notices"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield state
        finally:
            state.closing.set()
            server.shutdown()
            thread.join(10)
