"""Starting jobs by `prefect deployment run`, as the example for CI does it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.engines import ROOT
from tests.flow_runs import film
from tests.recordings import write_recording
from tests.stack import RunningStack

EXAMPLE = ROOT / "deployments" / "ci" / "process-recording.yml"
TIMEOUT_S = 120


def run_example(stack: RunningStack, recording: Path, output_dir: Path) -> subprocess.CompletedProcess[str]:
    """Run the command of the example against a stack, in the shell and with the variables that CI gives it."""
    (step,) = [step for step in yaml.safe_load(EXAMPLE.read_text())["jobs"]["process"]["steps"] if "env" in step]
    environment = {
        **os.environ,
        "PREFECT_API_URL": f"{stack.prefect_url}/api",
        "PREFECT_API_AUTH_STRING": "",  # as CI has a secret that is not there
        "RECORDING": str(recording),
        "OUTPUT_DIR": str(output_dir),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    assert set(step["env"]) <= set(environment)
    return subprocess.run(
        ["bash", "-e", "-c", step["run"]],
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def test_a_job_that_is_completed_ends_the_command_with_success(stack: RunningStack, tmp_path: Path) -> None:
    recording = write_recording(tmp_path / "a film.nd2", film(2, 3))
    ended = run_example(stack, recording, tmp_path / "out")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert len(list((tmp_path / "out").glob("fov_*/manifest.json"))) == 2
    jobs = stack.client.http.get("/jobs").json()["jobs"]
    assert [job["status"] for job in jobs if job["name"] == "a film.nd2"] == ["completed"]


@pytest.mark.stack
def test_a_job_that_fails_ends_the_command_with_its_reason(stack: RunningStack, tmp_path: Path) -> None:
    ended = run_example(stack, tmp_path / "missing.nd2", tmp_path / "out")
    assert ended.returncode == 1
    assert "missing.nd2" in ended.stdout + ended.stderr
    assert not (tmp_path / "out").exists()
