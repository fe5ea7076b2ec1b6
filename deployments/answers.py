"""Whether a program answers, for health checks of containers: `python -m deployments.answers URL`.

The exit code is 0 where the address answers with success, and 1 where it does not. The image has no other program that
could ask, and this one imports nothing but the standard library, because it is run every few seconds.
"""

import sys
import urllib.request

_PATIENCE_S = 5.0


def answers(url: str) -> bool:
    """Whether an address answers with success within some seconds."""
    try:
        with urllib.request.urlopen(url, timeout=_PATIENCE_S) as answer:  # noqa: S310 - it is our own
            return bool(answer.status == 200)
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(0 if answers(sys.argv[1]) else 1)
