"""The shapes of answers, and the errors that each route documents."""

from typing import Any, Literal

from pydantic import BaseModel, Field, JsonValue


class Answer(BaseModel):
    """What every successful answer has in common; `error` is there because older clients look for it."""

    success: Literal[True] = True
    error: None = None


class ErrorBody(BaseModel):
    """Body of every answer with a status of 400 or more."""

    success: Literal[False] = False
    error: str = Field(description="What is wrong, with which value, and what helps")
    error_code: str = Field(description="The kind of error, for programs")
    details: JsonValue = Field(None, description="More where it is useful, e.g. the problem of each field")


_EXAMPLES: dict[str, tuple[int, str]] = {
    "INVALID_PARAMETERS": (400, "parameters.fov_start: allowed are 0 or more (got -1)"),
    "UNAUTHORIZED": (401, "an API key is needed; send it in the header X-API-Key, or as Authorization: Bearer KEY"),
    "FORBIDDEN": (
        403,
        "file_path: '/etc/passwd' is outside the folders that this server may use (set by PYAMA_ALLOWED_PATHS)",
    ),
    "FILE_NOT_FOUND": (404, "file_path: '/data/experiment.nd2' does not exist"),
    "JOB_NOT_FOUND": (404, "there is no job 'job_123456'; GET /jobs lists all jobs"),
    "NOT_FOUND": (404, "there is nothing at '/api/v1/nowhere'; GET /docs lists all addresses"),
    "METHOD_NOT_ALLOWED": (405, "GET is not allowed at '/api/v1/processing/load-metadata'; allowed: POST"),
    "JOB_ALREADY_COMPLETED": (409, "the job has ended, as completed; there is nothing to cancel"),
    "JOB_NOT_FINISHED": (409, "the job is running; wait for its end or cancel it"),
    "OUTPUT_DIR_BUSY": (
        409,
        "/data/output: folder in use by run 5f0c2b1e; wait for its end, cancel it, or choose another folder",
    ),
    "OUTPUT_DIR_CONFLICT": (
        409,
        "/data/output holds results of another recording; choose another folder, or overwrite",
    ),
    "IDEMPOTENCY_KEY_REUSED": (409, "this Idempotency-Key came before, with another request; use a new key"),
    "PAYLOAD_TOO_LARGE": (413, "the body of the request is larger than 1048576 bytes; see PYAMA_MAX_BODY_BYTES"),
    "RATE_LIMITED": (429, "too many requests; ask again in 2 s (limits are set by PYAMA_RATE_LIMIT)"),
    "PROCESSING_ERROR": (500, "FOV 3, frame 17: channel 1 holds a non-finite pixel"),
    "INTERNAL_ERROR": (500, "an unexpected error happened; the server's log tells more about request 9f8a3c0d51e2b764"),
    "SERVICE_UNAVAILABLE": (503, "the orchestrator does not answer; try again in a moment"),
}
_EVERYWHERE = ("INVALID_PARAMETERS", "UNAUTHORIZED", "FORBIDDEN", "PAYLOAD_TOO_LARGE", "RATE_LIMITED", "INTERNAL_ERROR")


def documented_errors(*codes: str) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route: the errors named, beside those that every route may answer with.

    Parameters
    ----------
    codes
        Error codes, e.g. `FILE_NOT_FOUND`.
    """
    responses: dict[int | str, dict[str, Any]] = {}
    for code in sorted({*codes, *_EVERYWHERE}, key=list(_EXAMPLES).index):
        status, text = _EXAMPLES[code]
        response = responses.setdefault(status, {"model": ErrorBody, "description": "", "content": {}})
        response["description"] = ", ".join(filter(None, [response["description"], code]))
        examples = response["content"].setdefault("application/json", {}).setdefault("examples", {})
        examples[code] = {"value": {"success": False, "error": text, "error_code": code}}
    return responses
