"""The long version: `python -m tests.chaos --faults 200 --seed 1 --database sqlite --report chaos.json`."""

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

import asyncpg

from tests.chaos.faults import ROLES
from tests.chaos.suite import LEAST_COMPUTING, Suite, plan, staged, usable_faults
from tests.engines import ROOT
from tests.namespaces import MOUNT_PROBE, usable_command

_DISK_MB = 600
_IN_NAMESPACE = "PYAMA_CHAOS_NAMESPACE"
_POSTGRESQL = "127.0.0.1:5432"


def main() -> int:
    """Run the suite; 0 where nothing was lost."""
    arguments = _arguments()
    command = usable_command("--mount", MOUNT_PROBE)
    small_disk = command is not None
    if command is not None and _IN_NAMESPACE not in os.environ:
        # Once more, in a namespace in which a small disk can be mounted for this run and all that it starts.
        again = [*command, sys.executable, "-m", "tests.chaos", *sys.argv[1:]]
        return subprocess.run(again, cwd=ROOT, env={**os.environ, _IN_NAMESPACE: "1"}, check=False).returncode
    os.environ.pop(_IN_NAMESPACE, None)
    roles: Sequence[str] = arguments.roles or [fault.role for fault in usable_faults(small_disk=small_disk)]
    faults = plan(max(arguments.faults, len(roles)) if arguments.all else arguments.faults, arguments.seed,
                  [ROLES[role] for role in roles])  # fmt: skip
    scratch = Path(tempfile.mkdtemp(prefix="pyama-chaos-"))
    with ExitStack() as exits:
        disk = scratch / "disk"
        disk.mkdir()
        if small_disk:
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_DISK_MB}m", "tmpfs", str(disk)], check=True)
            exits.callback(subprocess.run, ["umount", "--lazy", str(disk)], check=True)
        settings = exits.enter_context(database(arguments.database))
        scene = exits.enter_context(staged(scratch, disk, roles, settings))
        print(f"seed {arguments.seed}, {len(faults)} faults, {arguments.database}", flush=True)
        scene.run_undisturbed()
        suite = Suite(scene, arguments.seed, arguments.report)
        suite.run(faults)
        print(suite.table(), flush=True)
    if suite.failed:
        print(f"logs are in {scratch}", flush=True)
    else:
        shutil.rmtree(scratch)
    return 0 if not suite.failed and suite.computing >= LEAST_COMPUTING else 1


@contextmanager
def database(kind: str) -> Iterator[dict[str, str]]:
    """Have a database of its own; yields the settings by which Prefect's server uses it."""
    if kind == "sqlite":
        yield {}
        return
    name = f"pyama_chaos_{uuid4().hex[:12]}"
    asyncio.run(_tell_postgresql(f"CREATE DATABASE {name}"))
    try:
        url = f"postgresql+asyncpg://postgres@{_POSTGRESQL}/{name}"
        yield {"PREFECT_API_DATABASE_CONNECTION_URL": url}
    finally:
        asyncio.run(_tell_postgresql(f"DROP DATABASE {name} WITH (FORCE)"))


async def _tell_postgresql(sentence: str) -> None:
    connection = await asyncpg.connect(f"postgresql://postgres@{_POSTGRESQL}/postgres", timeout=10)
    try:
        await connection.execute(sentence)
    finally:
        await connection.close()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--report", type=Path, default=None)
    parser.add_argument("--roles", nargs="*", choices=sorted(ROLES), help="only these; all by default")
    parser.add_argument("--all", action="store_true", help="each role at least once")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
