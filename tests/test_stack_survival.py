"""The stack when its programs die: they are started again, and no job is lost or goes back in time."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.chaos.processes import runs_module, with_environment
from tests.engines import ROOT, wait_until
from tests.flow_runs import film
from tests.recordings import write_recording
from tests.stack import RunningStack, answers, asked, children, is_alive, is_computing

N_FOVS, N_FRAMES = 2, 1500


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recording(tmp_path_factory.mktemp("recording") / "film.nd2", film(N_FOVS, N_FRAMES))


def test_api_lives_and_is_ready(stack: RunningStack) -> None:
    assert httpx.get(f"{stack.api_url}/health").json()["status"] == "healthy"
    assert httpx.get(f"{stack.api_url}/health/ready").json()["status"] == "ready"
    assert answers(f"{stack.api_url}/api/v1/health")
    assert answers(f"{stack.api_url}/api/v1/health/ready")


@pytest.mark.stack
def test_a_second_stack_says_that_one_is_running(stack: RunningStack) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "tests.stack", "4200"],
        cwd=ROOT, env=stack.environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert second.returncode == 2
    assert second.stdout == (
        f"pyama: pyama up is running already (process {stack.process.pid}, home {stack.home}); stop it first, "
        "or set PYAMA_HOME\n"
    )


def test_log_lines_bear_the_name_of_their_program(stack: RunningStack) -> None:
    names = {line.partition("|")[0].strip() for line in stack.log.read_text().splitlines()}
    assert names <= {"prefect", "deploy", "worker", "control", "care", "api", "pyama"}


def test_api_is_killed_in_the_midst_of_a_job(stack: RunningStack, recording: Path, tmp_path: Path) -> None:
    job_id = stack.client.start(asked(recording, tmp_path / "out", keep="none", n_workers=1))
    before = stack.client.watch(job_id, is_computing)[-1]
    os.kill(stack.program("uvicorn", "api.main:app"), signal.SIGKILL)
    wait_until(lambda: not answers(f"{stack.api_url}/health"), "the API is gone")
    told = stack.client.finish(job_id)
    assert told[0]["progress"]["percentage"] >= before["progress"]["percentage"]
    assert told[-1]["status"] == "completed"


@pytest.mark.stack
def test_worker_is_killed_in_the_midst_of_a_job(stack: RunningStack, recording: Path, tmp_path: Path) -> None:
    job_id = stack.client.start(asked(recording, tmp_path / "out", keep="none", n_workers=1))
    before = stack.client.watch(job_id, is_computing)[-1]
    engine = stack.engine(job_id)
    os.kill(stack.program("worker", "pyama"), signal.SIGKILL)
    wait_until(lambda: not is_alive(engine), "what the worker has started is gone with it", 5.0)
    told = stack.client.finish(job_id)
    assert told[0]["progress"]["percentage"] >= before["progress"]["percentage"]
    assert "Waiting to be tried again" in {status["message"] for status in told}
    assert told[-1]["status"] == "completed"


@pytest.mark.stack
def test_process_that_has_lost_its_run_ends_and_says_nothing(
    stack: RunningStack, recording: Path, tmp_path: Path
) -> None:
    job_id = stack.client.start(asked(recording, tmp_path / "out", keep="none", n_workers=1))
    before = stack.client.watch(job_id, is_computing)[-1]
    engine = stack.engine(job_id)
    os.kill(engine, signal.SIGSTOP)  # it cannot come to its end before
    run = f"{stack.prefect_url}/api/flow_runs/{job_id}"
    httpx.patch(f"{run}/labels", json={"pyama.process": "another/host/1/1"}).raise_for_status()
    wait_until(lambda: not is_alive(engine), "the process ends", 30.0)
    assert httpx.get(run).json()["state"]["type"] == "RUNNING"
    told = stack.client.finish(job_id)  # once nobody has told anything for half a minute, it goes on
    assert "Waiting to be tried again" in {status["message"] for status in told}
    assert told[0]["progress"]["percentage"] >= before["progress"]["percentage"]
    assert told[-1]["status"] == "completed"


@pytest.mark.stack
def test_run_that_ends_while_somebody_has_it_tried_again_stays_ended(
    stack: RunningStack, recording: Path, tmp_path: Path
) -> None:
    job_id = stack.client.start(asked(recording, tmp_path / "out", keep="none", n_workers=1))
    stack.client.watch(job_id, is_computing)
    flow_process, engine = stack.flow_process(job_id), stack.engine(job_id)
    assert flow_process is not None
    run = f"{stack.prefect_url}/api/flow_runs/{job_id}"

    def others() -> set[int]:
        pids = with_environment(PREFECT__FLOW_RUN_ID=job_id)
        return {pid for pid in pids if runs_module(pid, "deployments.flow_process")} - {flow_process}

    os.kill(flow_process, signal.SIGSTOP)  # it does not see that the run is no longer its own
    os.kill(engine, signal.SIGSTOP)
    try:
        state = {"type": "SCHEDULED", "name": "AwaitingRetry"}
        httpx.post(f"{run}/set_state", json={"state": state}).raise_for_status()
        wait_until(others, "another process is there", 30.0)
        os.kill(engine, signal.SIGCONT)
        wait_until(lambda: httpx.get(run).json()["state"]["type"] == "COMPLETED", "the run ends", 30.0)
        wait_until(lambda: not others(), "the other process ends", 30.0)
    finally:
        os.kill(flow_process, signal.SIGCONT)
    history = httpx.get(f"{stack.prefect_url}/api/flow_run_states/", params={"flow_run_id": job_id}).json()
    assert max(history, key=lambda state: state["timestamp"])["type"] == "COMPLETED"
    assert [state["type"] for state in history].count("COMPLETED") == 1


@pytest.mark.stack
def test_run_that_somebody_has_ended_is_not_worked_on(stack: RunningStack, recording: Path, tmp_path: Path) -> None:
    job_id = stack.client.start(asked(recording, tmp_path / "out", n_workers=1, keep="none"))
    stack.client.watch(job_id, is_computing)
    flow_process, engine = stack.flow_process(job_id), stack.engine(job_id)
    assert flow_process is not None
    os.kill(engine, signal.SIGSTOP)  # it cannot come to its end by itself
    run = f"{stack.prefect_url}/api/flow_runs/{job_id}"
    state = {"type": "FAILED", "name": "Failed", "message": "enough of it"}
    httpx.post(f"{run}/set_state", json={"state": state}).raise_for_status()
    wait_until(lambda: not is_alive(engine) and not is_alive(flow_process), "the processes end", 40.0)
    assert stack.client.finish(job_id)[-1]["error"] == "enough of it"


@pytest.mark.stack
def test_ctrl_c_stops_everything_and_the_next_start_goes_on(
    stack: RunningStack, recording: Path, tmp_path: Path
) -> None:
    job_id = stack.client.start(asked(recording, tmp_path / "out", keep="none", n_workers=1))
    before = stack.client.watch(job_id, is_computing)[-1]
    programs = [*children(stack.process.pid), stack.engine(job_id)]

    def all_gone() -> None:
        assert not any(is_alive(pid) for pid in programs)
        assert not answers(f"{stack.api_url}/health")

    stack.restart(all_gone)
    told = stack.client.finish(job_id)
    assert told[0]["progress"]["percentage"] >= before["progress"]["percentage"]
    assert told[-1]["status"] == "completed"


def test_four_api_processes_agree(stack: RunningStack, recording: Path, tmp_path: Path) -> None:
    with stack.another_api(4) as client:
        job_id = client.start(asked(recording, tmp_path / "out", keep="none", n_workers=1))
        told = client.finish(job_id)  # a connection for each question, and it holds that nothing goes back
        assert told[-1]["status"] == "completed"
        assert told[-1]["progress"]["percentage"] == 100


def test_metrics_for_prometheus_and_as_json(stack: RunningStack) -> None:
    text = httpx.get(f"{stack.api_url}/metrics").text
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    numbers = httpx.get(f"{stack.api_url}/metrics", headers={"Accept": "application/json"}).json()
    assert samples['pyama_workers{pool="pyama"}'] == "1"
    assert samples["pyama_queue_length"] == str(numbers["queue_length"]) == "0"
    assert samples["pyama_orchestrator_up"] == "1"
    assert (
        int(samples['pyama_jobs{kind="processing",status="completed"}']) == numbers["jobs"]["processing"]["completed"]
    )
    route = 'method="GET",route="/health"'
    assert int(samples[f"pyama_http_request_duration_seconds_count{{{route}}}"]) > 0
    before = int(samples[f'pyama_http_requests_total{{{route},status="200"}}'])
    httpx.get(f"{stack.api_url}/health")
    later = httpx.get(f"{stack.api_url}/metrics").text
    assert f'pyama_http_requests_total{{{route},status="200"}} {before + 1}' in later
