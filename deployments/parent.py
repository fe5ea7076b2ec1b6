"""Processes that do not outlive the one that has started them, whatever it dies of.

Nothing but the standard library is imported, as `deployments.flow_process` needs it.
"""

import ctypes
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that has started it dies; Linux alone can do so."""
    _tell_kernel(signal.SIGKILL)


def end_with_parent() -> None:
    """Have the kernel ask this process to end when the one that has started it dies; Linux alone can do so."""
    _tell_kernel(signal.SIGTERM)


def _tell_kernel(number: signal.Signals) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
