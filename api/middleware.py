"""What happens to every request before and after its route: an id, the log, errors nobody expected, and the gate."""

import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import TypeAlias

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import (
    ApiError,
    ErrorResponse,
    InternalError,
    InvalidRequestError,
    PayloadTooLargeError,
    RateLimitedError,
)
from api.rate_limit import RateLimiter, client_group
from api.security import KEY_HEADER, ApiKey, identify, needs_no_key
from api.settings import Settings

ID_HEADER = "X-Request-ID"
UNMATCHED = "(none)"
"""Stands for the route of a request that met none."""

logger = logging.getLogger("pyama.api")


@dataclass
class Outcome:
    """What the log tells of a request; `scope["pyama.outcome"]` while it is being answered."""

    request_id: str
    method: str
    path: str
    client: str
    key: str | None = None
    """Name of the API key."""
    status: int = 500
    error_code: str | None = None
    route: str = UNMATCHED
    """Address below the base with the names of its parameters, e.g. `/jobs/{job_id}`."""
    duration_s: float = 0.0


Observer: TypeAlias = Callable[[Outcome], None]
"""Is told of every request that has been answered."""


class _HttpMiddleware:
    """Stands before an application; what is no request, such as the server's start, passes it by."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        answer = self._answer if scope["type"] == "http" else self._app
        await answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise NotImplementedError


class RequestLog(_HttpMiddleware):
    """Gives each request an id, which is in the header `X-Request-ID` of its answer, and tells its outcome.

    It is told in one line of the log, and to `app.state.observers`.
    """

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        began_s = perf_counter()
        client = scope["client"][0] if scope.get("client") else "local socket"
        outcome = Outcome(secrets.token_hex(8), scope["method"], scope["path"], client)
        scope["pyama.outcome"] = outcome

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                outcome.status = message["status"]
                MutableHeaders(scope=message)[ID_HEADER] = outcome.request_id
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            outcome.duration_s = perf_counter() - began_s
            outcome.route = getattr(scope.get("route"), "path", UNMATCHED)
            _tell(outcome)
            for observe in scope["app"].state.observers:
                observe(outcome)


class Unexpected(_HttpMiddleware):
    """Answers for errors that nobody expected: the client is told no more than the request's id, the log the rest."""

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def send_some(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, send_some)
        except Exception:
            request_id = scope["pyama.outcome"].request_id
            logger.exception("request %s failed unexpectedly", request_id)
            if started:
                raise
            message = f"an unexpected error happened; the server's log tells more about request {request_id}"
            await ErrorResponse(InternalError(message, {"request_id": request_id}))(scope, receive, send)


class Gate(_HttpMiddleware):
    """Lets in who does not ask too often, brings a key where keys are asked for, and sends no more than allowed."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        super().__init__(app)
        self._keys = settings.keys
        self._most_bytes = settings.max_body_bytes
        self._limiter = RateLimiter(settings.rate_limit) if settings.rate_limit else None

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if not needs_no_key(scope["path"]):
                self._check_rate(scope)
                self._check_key(scope)
            self._check_length(scope)
        except ApiError as error:
            await ErrorResponse(error)(scope, receive, send)
            return
        await self._app(scope, self._counting(receive), send)

    def _check_rate(self, scope: Scope) -> None:
        if self._limiter is None:
            return
        outcome: Outcome = scope["pyama.outcome"]
        wait_s = self._limiter.wait_s(client_group(outcome.client))
        if wait_s:
            raise RateLimitedError(
                f"too many requests; ask again in {wait_s} s (limits are set by PYAMA_RATE_LIMIT)",
                headers={"Retry-After": str(wait_s)},
            )

    def _check_key(self, scope: Scope) -> None:
        if not self._keys:
            return
        key: ApiKey = identify(HTTPConnection(scope), self._keys)
        scope["pyama.key"] = key
        scope["pyama.outcome"].key = key.name

    def _check_length(self, scope: Scope) -> None:
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdecimal() and int(announced) > self._most_bytes:
            raise PayloadTooLargeError(self._too_large())

    def _counting(self, receive: Receive) -> Receive:
        n_bytes = 0

        async def receive_some() -> Message:
            nonlocal n_bytes
            message = await receive()
            n_bytes += len(message.get("body", b""))
            if n_bytes > self._most_bytes:
                # Of all exceptions, the framework passes on only this one while it reads a body.
                raise HTTPException(413, self._too_large())
            return message

        return receive_some

    def _too_large(self) -> str:
        return f"the body of the request is larger than {self._most_bytes} bytes; see PYAMA_MAX_BODY_BYTES"


class Cors(CORSMiddleware):
    """Lets web pages of the configured origins call the API; refuses all others in the documented body."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        super().__init__(
            app,
            allow_origins=settings.cors_origins,
            allow_methods=("GET", "POST", "DELETE"),
            allow_headers=("Content-Type", "Authorization", KEY_HEADER, "Idempotency-Key"),
            expose_headers=(ID_HEADER, "Retry-After"),
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer a browser that asks whether it may ask."""
        response = super().preflight_response(request_headers)
        if response.status_code < 400:
            return response
        return ErrorResponse(InvalidRequestError("this origin, method or header is not allowed (PYAMA_CORS_ORIGINS)"))


def _tell(outcome: Outcome) -> None:
    logger.info(
        "%s %s %s %d %.1f ms client=%s key=%s outcome=%s",
        outcome.request_id,
        outcome.method,
        # repr, because a path may hold line breaks, and whatever could pass for another line of the log.
        repr(outcome.path)[:300],
        outcome.status,
        1000 * outcome.duration_s,
        outcome.client,
        outcome.key or "-",
        outcome.error_code or "ok",
    )
