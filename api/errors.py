"""What goes wrong, as the API tells it: one body for every error, and one place that makes it.

{"success": false, "error": "what is wrong and what helps", "error_code": "FILE_NOT_FOUND", "details": ...}
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from tasks.errors import (
    ClusterError,
    InvalidParametersError,
    OutputBusyError,
    OutputConflictError,
    OutputError,
    ProcessingError,
    PyamaError,
    RecordingError,
    RecordingNotFoundError,
    TraceFileError,
)
from tasks.problems import field_name, reason, shorten

_LONGEST_TEXT = 2000
_MOST_PROBLEMS = 20
_PARTS = {("body",), ("query",), ("path",), ("header",)}
"""Parts of a request, with which the framework begins the location of a field."""
_SECRET = {"webhook_url"}
"""Fields whose values are not repeated: a token may be part of them."""


class ApiError(Exception):
    """A request that cannot be answered as asked.

    Parameters
    ----------
    code
        The documented `error_code`.
    message
        One sentence for the user: what is wrong, with which value, and what helps.
    status
        HTTP status.
    details
        More, for programs; any JSON.
    headers
        Headers of the answer.
    """

    def __init__(
        self,
        code: str,
        message: str,
        status: int,
        details: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.details = details
        self.headers = dict(headers or {})


class _KnownError(ApiError):
    """An error whose code and status are those of its class."""

    CODE: ClassVar[str]
    STATUS: ClassVar[int]

    def __init__(self, message: str, details: object = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(self.CODE, message, self.STATUS, details, headers)


class InvalidRequestError(_KnownError):
    """The request cannot be understood, or names something that is not allowed: 400."""

    CODE, STATUS = "INVALID_PARAMETERS", 400


class UnauthorizedError(_KnownError):
    """API keys are asked for and the request brings none that is known: 401."""

    CODE, STATUS = "UNAUTHORIZED", 401


class ForbiddenError(_KnownError):
    """The client may not do that, or may not use that path: 403."""

    CODE, STATUS = "FORBIDDEN", 403


class PathNotFoundError(_KnownError):
    """There is no such file or folder: 404."""

    CODE, STATUS = "FILE_NOT_FOUND", 404


class JobNotFoundError(_KnownError):
    """There is no such job, or it is of another kind: 404."""

    CODE, STATUS = "JOB_NOT_FOUND", 404


class JobAlreadyCompletedError(_KnownError):
    """The job has ended, so it cannot be cancelled: 409."""

    CODE, STATUS = "JOB_ALREADY_COMPLETED", 409


class JobNotFinishedError(_KnownError):
    """The job has not ended, so it has no results and cannot be deleted: 409."""

    CODE, STATUS = "JOB_NOT_FINISHED", 409


class OutputDirBusyError(_KnownError):
    """Another job uses the output folder: 409."""

    CODE, STATUS = "OUTPUT_DIR_BUSY", 409


class OutputDirConflictError(_KnownError):
    """The output folder holds results of another input or of other parameters: 409."""

    CODE, STATUS = "OUTPUT_DIR_CONFLICT", 409


class IdempotencyKeyReusedError(_KnownError):
    """The idempotency key came before, with another request: 409."""

    CODE, STATUS = "IDEMPOTENCY_KEY_REUSED", 409


class NoRouteError(_KnownError):
    """The address is none of the API's: 404."""

    CODE, STATUS = "NOT_FOUND", 404


class MethodNotAllowedError(_KnownError):
    """The address does not take this HTTP method: 405."""

    CODE, STATUS = "METHOD_NOT_ALLOWED", 405


class PayloadTooLargeError(_KnownError):
    """The body of the request is larger than allowed: 413."""

    CODE, STATUS = "PAYLOAD_TOO_LARGE", 413


class RateLimitedError(_KnownError):
    """The client asks too often: 429."""

    CODE, STATUS = "RATE_LIMITED", 429


class ProcessingFailedError(_KnownError):
    """Data that were read could not be processed: 500."""

    CODE, STATUS = "PROCESSING_ERROR", 500


class InternalError(_KnownError):
    """Something that should not happen; the text holds no internals, only an id that is in the log: 500."""

    CODE, STATUS = "INTERNAL_ERROR", 500


class ServiceUnavailableError(_KnownError):
    """The orchestrator or what it needs does not answer: 503."""

    CODE, STATUS = "SERVICE_UNAVAILABLE", 503


_OF_PYAMA: list[tuple[type[PyamaError], type[_KnownError]]] = [
    (InvalidParametersError, InvalidRequestError),
    (RecordingNotFoundError, PathNotFoundError),
    (RecordingError, InvalidRequestError),
    (TraceFileError, InvalidRequestError),
    (OutputConflictError, OutputDirConflictError),
    (OutputBusyError, OutputDirBusyError),
    (OutputError, InvalidRequestError),
    (ProcessingError, ProcessingFailedError),
    (ClusterError, ServiceUnavailableError),
]
"""Which error of the computing floors is which of the API; subclasses before their bases."""

_OF_STATUS: dict[int, type[_KnownError]] = {
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NoRouteError,
    405: MethodNotAllowedError,
    413: PayloadTooLargeError,
    429: RateLimitedError,
    503: ServiceUnavailableError,
}


def from_pyama_error(error: PyamaError) -> ApiError:
    """Tell an error of the computing floors in the API's terms."""
    for kind, api_kind in _OF_PYAMA:
        if isinstance(error, kind):
            return api_kind(str(error))
    return ProcessingFailedError(str(error))


class ErrorResponse(Response):
    """The documented body of an error."""

    def __init__(self, error: ApiError) -> None:
        body: dict[str, Any] = {"success": False, "error": _one_line(error.message), "error_code": error.code}
        if error.details is not None:
            body["details"] = error.details
        super().__init__(to_json(body), error.status, error.headers, media_type="application/json")
        self._code = error.code

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, and note the code for the log."""
        if "pyama.outcome" in scope:
            scope["pyama.outcome"].error_code = self._code
        await super().__call__(scope, receive, send)


def to_json(content: object) -> bytes:
    """Encode as JSON whatever text is in it: what is no Unicode text becomes `?`, so that any client can read it."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=str)
    return text.encode("utf-8", "replace")


def install_error_handlers(app: FastAPI) -> None:
    """Have every error that a route or the framework raises told in the documented body."""
    app.add_exception_handler(ApiError, _on_api_error)
    app.add_exception_handler(PyamaError, _on_pyama_error)
    app.add_exception_handler(PermissionError, _on_permission_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)


def invalid_request(error: ValidationError | RequestValidationError) -> InvalidRequestError:
    """Tell what is wrong with a request: each field, the reason, and the value given."""
    problems = [_problem(dict(detail)) for detail in error.errors()[:_MOST_PROBLEMS]]
    text = "; ".join(f"{problem['field']}: {problem['message']}" for problem in problems)
    return InvalidRequestError(text, problems)


def _on_api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return ErrorResponse(error)


def _on_pyama_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, PyamaError)
    if isinstance(error, RecordingError) and isinstance(error.__cause__, PermissionError):
        return _on_permission_error(request, error.__cause__)
    return ErrorResponse(from_pyama_error(error))


def _on_permission_error(request: Request, error: Exception) -> Response:
    """What the operating system does not let be read, wherever in an allowed folder it is come upon."""
    assert isinstance(error, PermissionError)
    path = error.filename
    if not isinstance(path, str | Path) or Path(path).is_relative_to(request.app.state.settings.home):
        raise error  # a file of the server's own, which is no matter of the client's
    what = shorten(str(path))
    return ErrorResponse(ForbiddenError(f"{what} may not be read by the server; ask for permission on the file"))


def _on_invalid_request(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return ErrorResponse(invalid_request(error))


def _on_http_error(request: Request, error: Exception) -> Response:
    """Errors of the framework: no such route, wrong method, a body that is not JSON."""
    assert isinstance(error, HTTPException)
    where = request.url.path
    if error.status_code == 404:
        message = f"there is nothing at {shorten(where)}; GET /docs lists all addresses"
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        message = f"{request.method} is not allowed at {shorten(where)}; allowed: {allowed}"
    elif error.status_code == 400:
        message = "the body of the request cannot be read: it must be JSON in UTF-8"
    else:
        message = str(error.detail)
    kind = _OF_STATUS.get(error.status_code)
    if kind is not None:
        return ErrorResponse(kind(message, headers=error.headers))
    code = InternalError.CODE if error.status_code >= 500 else InvalidRequestError.CODE
    return ErrorResponse(ApiError(code, message, error.status_code, headers=error.headers))


def _problem(detail: dict[str, Any]) -> dict[str, str]:
    """Tell what is wrong with a field; neither its name nor its value is sent back in full where it is long."""
    if detail["type"] == "json_invalid":
        message = f"the body is not JSON: {detail['ctx']['error']} (at character {detail['loc'][-1]})"
        return {"field": "request", "message": message}
    location = detail["loc"][1:] if detail["loc"][:1] in _PARTS else detail["loc"]
    if isinstance(detail.get("input"), bytes):
        message = "the body must be JSON; send it with the header Content-Type: application/json"
    else:
        message = reason(_without_secrets(detail))
    return {"field": _one_line(field_name(location)), "message": _one_line(message)}


def _without_secrets(detail: dict[str, Any]) -> dict[str, Any]:
    """Leave out the values of fields in which a token may be, under whatever name an address is given."""
    given = detail.get("input")
    is_address = isinstance(given, str) and "://" in given
    if is_address or not _SECRET.isdisjoint(detail["loc"]) or (isinstance(given, list) and len(detail["loc"]) == 1):
        return {name: value for name, value in detail.items() if name != "input"}
    if isinstance(given, dict):
        return {**detail, "input": {name: value for name, value in given.items() if name not in _SECRET}}
    return detail


def _one_line(message: str) -> str:
    text = " ".join(message.split())
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…"
