"""Run a program with secrets that are in files: `python -m deployments.with_secrets PROGRAM ARGUMENT...`.

Prefect takes its passwords from environment variables alone. Where NAME_FILE is set for a NAME below, NAME becomes what
that file holds, as is usual for images of databases, and the program takes the place of this one: passwords stand
neither in a command nor in a file of settings. It imports nothing but the standard library.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

SECRETS = (
    "PREFECT_SERVER_DATABASE_PASSWORD",
    "PREFECT_SERVER_API_AUTH_STRING",
    "PREFECT_API_AUTH_STRING",
    "PYAMA_WEBHOOK_SECRET",
)
"""Password of Prefect's database; `USER:PASSWORD` that its server asks for, and that its clients bring; what signs
notices."""

_MISTAKE = 2
_NOT_FOUND = 127


def read_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """Read the secrets that the environment names files of.

    Raises
    ------
    ValueError
        Where a file cannot be read, or is empty, or the secret is set beside its file; names the variable.
    """
    secrets = {}
    for name in SECRETS:
        if not (path := environment.get(f"{name}_FILE")):
            continue
        if name in environment:
            raise ValueError(f"{name} and {name}_FILE exclude each other; unset one")
        try:
            secret = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{name}_FILE: cannot read {path}: {error}") from error
        if not secret or len(secret.splitlines()) != 1:
            raise ValueError(f"{name}_FILE: {path} must hold one line, the secret")
        secrets[name] = secret
    return secrets


def main() -> int:
    """Become the program that the command line names."""
    command = sys.argv[1:]
    if not command:
        print("usage: python -m deployments.with_secrets PROGRAM ARGUMENT...", file=sys.stderr)
        return _MISTAKE
    try:
        os.environ.update(read_secrets(os.environ))
    except ValueError as error:
        print(f"pyama: {error}", file=sys.stderr)
        return _MISTAKE
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell, and none is wanted
    except OSError as error:
        print(f"pyama: cannot run {command[0]}: {error}", file=sys.stderr)
        return _NOT_FOUND


if __name__ == "__main__":
    sys.exit(main())
