"""Where the API's log goes: the standard error stream, one line for each request."""

import logging
import sys


def configure_logging(*, debug: bool) -> None:
    """Show the log of the API, unless whoever runs the process has already decided where it goes."""
    logger = logging.getLogger("pyama")
    logger.setLevel(logging.DEBUG if debug else logging.INFO)
    if logger.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logger.addHandler(handler)
    logger.propagate = False
