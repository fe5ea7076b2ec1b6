"""Real file systems and networks for single tests: in a namespace of their own, gone with the process."""

import os
import shutil
import subprocess
from functools import cache

import pytest

MOUNT_PROBE = "mount -t tmpfs tmpfs /mnt"
"""Mounts a file system, which nobody sees elsewhere."""


def mount_namespace() -> list[str]:
    """Beginning of a command that may mount file systems; skips the test where that is not allowed."""
    command = usable_command("--mount", MOUNT_PROBE)
    if command is None:
        pytest.skip("this system does not allow mounting a file system in a namespace (unshare --mount)")
    return command


def network_namespace() -> list[str]:
    """Beginning of a command that has a network of its own to arrange; skips the test where that is not allowed."""
    command = usable_command("--net", "ip link add probe type veth peer name other && ip link add bridge type bridge")
    if command is None:
        pytest.skip("this system does not allow networks in a namespace (unshare --net, ip of iproute2, veth, bridge)")
    return command


@cache
def usable_command(kind: str, probe: str) -> list[str] | None:
    """Beginning of a command that has a namespace of that kind; None where the probe fails in one."""
    if shutil.which("unshare") is None:
        return None
    command = ["unshare", kind]
    if os.geteuid() != 0:
        command += ["--user", "--map-root-user"]
    found = subprocess.run([*command, "sh", "-c", probe], capture_output=True, check=False)
    return command if found.returncode == 0 else None
