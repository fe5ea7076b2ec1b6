"""The command-line program, run as a user runs it: in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from deployments.cli import main

_TIMEOUT_S = 280.0


def start_pyama(*arguments: str | Path, environment: Mapping[str, str | None] | None = None) -> subprocess.Popen[str]:
    """Start the program in a process group of its own, as a shell does; a variable that is None is not set."""
    variables = {**os.environ, **(environment or {})}
    return subprocess.Popen(
        [sys.executable, "-m", "deployments.cli", *map(str, arguments)],
        env={name: value for name, value in variables.items() if value is not None},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def run_pyama(
    *arguments: str | Path, environment: Mapping[str, str | None] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the program to its end."""
    with start_pyama(*arguments, environment=environment) as process:
        out, err = process.communicate(timeout=_TIMEOUT_S)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def mistake(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Make a mistake within this process, and return the one line that the program says to it."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("pyama: ")
    return str(line)
