"""Real file systems for single tests: mounted in a namespace of their own, gone with the process."""

import os
import shutil
import subprocess
from functools import cache

import pytest


def mount_namespace() -> list[str]:
    """Beginning of a command that may mount file systems; skips the test where that is not allowed."""
    command = usable_command()
    if command is None:
        pytest.skip("this system does not allow mounting a file system in a namespace (unshare --mount)")
    return command


@cache
def usable_command() -> list[str] | None:
    """Beginning of a command that may mount file systems; None where that is not allowed."""
    if shutil.which("unshare") is None:
        return None
    command = ["unshare", "--mount"]
    if os.geteuid() != 0:
        command += ["--user", "--map-root-user"]
    probe = [*command, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return command if subprocess.run(probe, capture_output=True, check=False).returncode == 0 else None
