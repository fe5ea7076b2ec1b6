"""Which process works on a run, told so that another program can see whether it is still there.

Nothing but the standard library is imported, as `deployments.flow_process` needs it.
"""

import socket
from pathlib import Path

PROCESS_LABEL = "pyama.process"
"""Label of a run: the process that works on it, as `name_of_process` tells it."""
BEAT_LABEL = "pyama.beat"
"""Label of a run: a number that its process changes every few seconds."""

_PROC = Path("/proc")
_N_PARTS = 4


def name_of_process(pid: int) -> str:
    """Tell of a process of this machine: host, what tells its process numbers from those of others, number, start."""
    return "/".join((socket.gethostname(), _numbering(), str(pid), _start(pid) or ""))


def is_gone_from_here(name: str) -> bool:
    """Whether a process was one of this machine's and has ended; False where that cannot be seen from here."""
    return _is_there(name) is False


def is_alive_here(name: str) -> bool:
    """Whether a process is one of this machine's, be it that it stands still; False where that cannot be seen."""
    return _is_there(name) is True


def _is_there(name: str) -> bool | None:
    """Whether a process is there; None where it is not of this machine."""
    parts = name.split("/")
    if len(parts) != _N_PARTS or not parts[2].isdecimal() or not parts[1] or parts[1] != _numbering():
        return None
    return _start(int(parts[2])) == parts[3]


def _numbering() -> str:
    """What process numbers belong to: a boot of the kernel, and within it a container; empty where that is unknown."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}-{(_PROC / 'self/ns/pid').stat().st_ino}"
    except OSError:
        return ""


def _start(pid: int) -> str | None:
    """When a process has started, in ticks since the boot; None where there is none, or a mere corpse."""
    try:
        state, *others = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else others[18]
