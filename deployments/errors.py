"""Errors of running the project, beside those of its tasks."""

from tasks.errors import PyamaError


class RunFailedError(PyamaError):
    """A run could not be started, or did not come to a good end; unlike a mistake in the request, nobody's fault."""
