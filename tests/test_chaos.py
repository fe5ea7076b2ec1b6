"""The real stack broken at random moments: in short here, in every way by `make test-stack`, long by `make chaos`."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.faults import FAULTS, ROLES
from tests.chaos.film import write_film
from tests.chaos.scene import Scene, process_here
from tests.chaos.suite import LEAST_COMPUTING, Suite, plan
from tests.engines import ROOT
from tests.stack import RunningStack

SHORT = ("api", "stalled engine", "worker", "prefect server", "flow process")
N_FOVS, N_FRAMES = 5, 2000


@pytest.mark.timeout(900)  # half a minute, but on a machine that is busy
def test_nothing_is_lost_when_programs_die(stack: RunningStack, tmp_path: Path) -> None:
    recording = write_film(tmp_path / "film.nd2", N_FOVS, N_FRAMES)
    disk = tmp_path / "disk"
    disk.mkdir()
    scene = Scene(stack, {"local": stack.client}, None, recording, disk)
    process_here(recording, scene.expected)
    suite = Suite(scene, seed=0, report=tmp_path / "report.json")
    suite.run([ROLES[role] for role in SHORT])
    assert [struck.problems for struck in suite.struck] == [[]] * len(SHORT)
    assert suite.computing >= LEAST_COMPUTING
    report = json.loads((tmp_path / "report.json").read_text())
    assert [struck["role"] for struck in report["struck"]] == list(SHORT)
    assert report["failures"] == 0


@pytest.mark.stack
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_nothing_is_lost_whatever_breaks(database: str, tmp_path: Path) -> None:
    if database == "postgresql" and not _listens("127.0.0.1", 5432):
        pytest.skip("no PostgreSQL server at 127.0.0.1:5432")
    report = tmp_path / "report.json"
    options = ["--faults", "0", "--all", "--seed", "1", "--database", database, "--report", str(report)]
    ended = subprocess.run(
        [sys.executable, "-m", "tests.chaos", *options], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout[-8000:] + ended.stderr[-4000:]
    told = json.loads(report.read_text())
    assert told["failures"] == 0
    assert told["computing"] >= LEAST_COMPUTING
    assert (
        len({struck["role"] for struck in told["struck"]}) >= len(FAULTS) - 1
    )  # a small disk is not to be had anywhere


def test_a_seed_means_the_same_faults() -> None:
    assert plan(200, 7, FAULTS) == plan(200, 7, FAULTS) != plan(200, 8, FAULTS)
    assert {fault.role for fault in plan(200, 7, FAULTS)} == set(ROLES)
    computing = sum(fault.phase != "starting" for fault in plan(200, 7, FAULTS))
    assert computing / 200 > LEAST_COMPUTING


def _listens(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=2):
            return True
    except OSError:
        return False
