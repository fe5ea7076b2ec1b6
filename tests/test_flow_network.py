"""A run whose scheduler and workers are on machines of their own, in network namespaces, and a cable that fails."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.engines import ROOT
from tests.flow_runs import EndedRun, film, request, run
from tests.namespaces import network_namespace
from tests.output_worker import content
from tests.recordings import write_recording

pytestmark = pytest.mark.stack

N_FOVS, N_FRAMES = 4, 200


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recording(tmp_path_factory.mktemp("recording") / "film.nd2", film(N_FOVS, N_FRAMES))


@pytest.fixture(scope="module")
def undisturbed(recording: Path, prefect_api: str) -> EndedRun:
    return run(request(recording, recording.parent / "undisturbed", keep="labels"))


def run_on_machines(folder: Path, recording: Path, partition: str) -> dict[str, Any]:
    """What the program of the machines prints."""
    command = [*network_namespace(), sys.executable, "-m", "tests.machines", str(folder), str(recording), partition]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert ended.returncode == 0, ended.stderr[-5000:]
    told: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return told


@pytest.mark.parametrize("partition", ["none", "short", "long"])
def test_machines_that_share_only_the_storage(
    recording: Path, undisturbed: EndedRun, tmp_path: Path, partition: str
) -> None:
    """Whether no cable fails, or one for some seconds, or one for good in the midst of a FOV."""
    told = run_on_machines(tmp_path, recording, partition)
    assert told["message"] == undisturbed.message
    assert content(tmp_path / "out") == content(undisturbed.output_dir)
    for fov in range(N_FOVS):
        assert any(line.startswith(f"FOV {fov} is computed by the Dask worker ") for line in told["log"])
    for name, address in told["addresses"].items():
        assert any(f"is computed by the Dask worker {name} at tcp://{address}:" in line for line in told["log"])
