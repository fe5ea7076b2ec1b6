"""A client of the REST API: the calls that its documentation shows, with refusals as exceptions."""

from collections.abc import Callable, Mapping
from time import monotonic, sleep
from typing import Any, Self

import httpx

from deployments.errors import RunFailedError

_TIMEOUT_S = 60.0
_POLL_INTERVAL_S = 0.5
_PATIENCE_S = 30.0
"""How long an API that does not answer may take to be started again."""

Body = dict[str, Any]
"""What JSON calls an object."""


class ApiClient:
    """A client that keeps its connection.

    Parameters
    ----------
    url
        Where the API is, without the base.
    """

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=f"{url}/api/v1", timeout=_TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str) -> Body:
        """Ask for something.

        Raises
        ------
        RunFailedError
            Where the API refuses, with its reason, or does not answer.
        """
        return self._ask("GET", path, None)

    def post(self, path: str, body: Mapping[str, Any]) -> Body:
        """Have something done; raises as `get` does."""
        return self._ask("POST", path, body)

    def finish(self, status_path: str, on_status: Callable[[Body], None]) -> Body:
        """Ask for the status of a job until it is completed.

        Parameters
        ----------
        status_path
            Where its status is.
        on_status
            Is told of each status.

        Raises
        ------
        RunFailedError
            Where the job fails or is cancelled, with the reason; or the API does not answer for half a minute.
        """
        answered_s = monotonic()
        while True:
            try:
                status = self.get(status_path)
            except _NoAnswerError:
                if monotonic() - answered_s > _PATIENCE_S:
                    raise
            else:
                answered_s = monotonic()
                on_status(status)
                if status["status"] == "completed":
                    return status
                if status["status"] in {"failed", "cancelled"}:
                    raise RunFailedError(str(status["error"] or status["message"]))
            sleep(_POLL_INTERVAL_S)

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None) -> Body:
        try:
            answer = self._http.request(method, path, json=body)
        except httpx.TransportError as error:
            raise _NoAnswerError(f"the API does not answer: {error!r}") from error
        told: Body = answer.json()
        if not answer.is_success:
            raise RunFailedError(f"{told['error']} ({told['error_code']})")
        return told


class _NoAnswerError(RunFailedError):
    """The API is not there."""
