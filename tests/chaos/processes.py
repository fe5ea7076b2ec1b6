"""Processes as the kernel tells of them: by their environment, and by the files that they have open."""

import os
import re
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from tests.stack import is_alive

_PROC = Path("/proc")


def with_environment(**variables: str) -> list[int]:
    """Processes with these variables, however they were started and by whatever parent; never this one."""
    wanted = [f"{name}={value}".encode() for name, value in variables.items()]
    found = []
    for folder in _PROC.iterdir():
        if folder.name.isdecimal() and int(folder.name) != os.getpid():
            with suppress(OSError):
                if set(wanted) <= set((folder / "environ").read_bytes().split(b"\0")) and is_alive(int(folder.name)):
                    found.append(int(folder.name))
    return sorted(found)


def runs_module(pid: int, module: str) -> bool:
    """Whether a process is a Python program of this name."""
    with suppress(OSError):
        return module.encode() in (_PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    return False


def fovs_being_written(pids: Iterable[int], output_dir: Path) -> list[int]:
    """FOVs of an output folder that processes have files open of, which are not yet in place."""
    pattern = re.compile(re.escape(str(output_dir)) + r"/\.fov_(\d+)\.[^/]*\.tmp/")
    found = set()
    for pid in pids:
        with suppress(OSError):
            for descriptor in (_PROC / str(pid) / "fd").iterdir():
                with suppress(OSError):
                    if match := pattern.match(str(descriptor.readlink())):
                        found.add(int(match[1]))
    return sorted(found)


def send(number: signal.Signals, pids: Iterable[int]) -> None:
    """Send a signal to those that are still there."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
