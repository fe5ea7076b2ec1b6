"""Being a user who may not read everything, as root may."""

import os
import subprocess
import sys

from tests.engines import ROOT

NOBODY = 65534


def become_nobody() -> None:
    """Give up all rights of this process for good, where it has those of root."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def printed_by(program: str, *arguments: object) -> str:
    """Output of a Python program, which is to call `become_nobody`.

    Before that it has to do once what it does afterwards: nobody may not read all modules that are loaded for it.
    """
    command = [sys.executable, "-c", program, *map(str, arguments)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
