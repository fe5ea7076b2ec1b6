"""Clusters that a run starts by the settings: by a job queue, as Slurm's, and on Kubernetes."""

import inspect
import json
from pathlib import Path
from typing import Any

import pytest

from flows.cluster_settings import ClusterSettings
from tests.engines import ROOT
from tests.flow_runs import film, request, run
from tests.output_worker import content
from tests.recordings import write_recording

LOOPBACK: dict[str, Any] = {"interface": "lo", "scheduler_options": {"dashboard_address": "127.0.0.1:0"}}


def settings_of(environment: pytest.MonkeyPatch, cluster_class: str, kwargs: dict[str, Any], **others: str) -> None:
    environment.setenv("PYAMA_DASK_CLUSTER_CLASS", cluster_class)
    environment.setenv("PYAMA_DASK_CLUSTER_KWARGS", json.dumps(kwargs))
    for name, value in others.items():
        environment.setenv(f"PYAMA_DASK_{name}", value)


@pytest.mark.parametrize("maximum", [pytest.param(None, marks=pytest.mark.stack), 2])
def test_jobs_of_a_queue_compute_a_film(
    prefect_api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, maximum: int | None
) -> None:
    """Jobs of a queue that starts them here; all else is as with Slurm's."""
    pytest.importorskip("dask_jobqueue", reason="the extra slurm is not installed")
    recording = write_recording(tmp_path / "film.nd2", film(4, 20))
    assert run(request(recording, tmp_path / "here")).state.is_completed()
    kwargs = {**LOOPBACK, "cores": 1, "processes": 1, "memory": "1GB", "local_directory": str(tmp_path)}
    # The queue waits for a line that a worker logs.
    monkeypatch.delenv("DASK_LOGGING__DISTRIBUTED", raising=False)
    settings_of(
        monkeypatch,
        "dask_jobqueue.local.LocalCluster",
        kwargs | ({} if maximum else {"n_workers": 2}),
        **({"MAXIMUM": str(maximum)} if maximum else {}),
    )
    ended = run(request(recording, tmp_path / "out"))
    assert ended.state.is_completed(), ended.message
    assert ended.logged(" is computed by the Dask worker ")
    assert content(tmp_path / "out") == content(tmp_path / "here")


def test_job_script_of_slurm_holds_what_the_example_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobqueue = pytest.importorskip("dask_jobqueue", reason="the extra slurm is not installed")
    kwargs = example("slurm", monkeypatch)
    here = {"interface": "lo", "log_directory": str(tmp_path)}
    with jobqueue.SLURMCluster(**{**kwargs, **here}) as cluster:
        lines = cluster.job_script().splitlines()
    told = {"-J pyama-0a1b2c3d", "-p cpu", "-A biology", "-n 1", "--cpus-per-task=8", "--mem=15G", "-t 04:00:00"}
    assert {f"#SBATCH {directive}" for directive in told} <= set(lines)
    assert f"#SBATCH -o {tmp_path}/pyama-0a1b2c3d-%J.out" in lines
    command = lines[-1]
    assert command.startswith("/opt/pyama/.venv/bin/python -m distributed.cli.dask_worker tcp://127.0.0.1:")
    for option in ("--nthreads 8", "--interface lo", "--lifetime 225m", "--local-directory /tmp"):
        assert option in command


def test_cluster_of_kubernetes_is_what_dask_makes_with_our_storage_added(monkeypatch: pytest.MonkeyPatch) -> None:
    operator = pytest.importorskip("dask_kubernetes.operator", reason="the extra kubernetes is not installed")
    kwargs = example("dask-kubernetes", monkeypatch)
    spec = kwargs["custom_cluster_spec"]
    worker, scheduler = (spec["spec"][part]["spec"] for part in ("worker", "scheduler"))
    made = operator.make_cluster_spec(
        "pyama-0a1b2c3d",
        image="pyama-backend:0.1.0",
        n_workers=1,
        resources=worker["containers"][0]["resources"],
        worker_command="dask-worker --nthreads 4 --local-directory /tmp",
    )
    for part, pod in (("worker", worker), ("scheduler", scheduler)):
        bare = made["spec"][part]["spec"]["containers"][0]
        del bare["env"]
        container = pod["containers"][0]
        # What the profile of Kubernetes asks of all pods.
        assert container.pop("securityContext")["capabilities"] == {"drop": ["ALL"]}
        assert pod.pop("securityContext")["runAsNonRoot"] is True
        assert (pod.pop("automountServiceAccountToken"), pod.pop("enableServiceLinks")) == (False, False)
        if part == "worker":
            (mount,) = container.pop("volumeMounts")
            assert [volume["name"] for volume in pod.pop("volumes")] == [mount["name"]]
        else:
            bare["resources"] = container["resources"]
    assert spec["metadata"].pop("labels") == {"app.kubernetes.io/part-of": "pyama"}
    assert spec == made


def test_examples_name_no_argument_that_the_classes_do_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    operator = pytest.importorskip("dask_kubernetes.operator", reason="the extra kubernetes is not installed")
    known = inspect.signature(operator.KubeCluster.__init__).parameters
    assert example("dask-kubernetes", monkeypatch).keys() <= known.keys()


def test_a_run_that_goes_on_removes_the_cluster_that_it_finds_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without being told, Dask removes only what the same process has made."""
    kwargs = example("dask-kubernetes", monkeypatch)
    assert (
        kwargs["custom_cluster_spec"]["metadata"]["name"] == "pyama-0a1b2c3d"
    )  # the same for every process of the run
    assert kwargs["shutdown_on_close"] is True


def test_clusters_of_two_runs_have_different_names(monkeypatch: pytest.MonkeyPatch) -> None:
    kwargs = {"name": "pyama-{run}", "labels": [{"of": "{run}"}], "n": 1}
    monkeypatch.setenv("PYAMA_DASK_CLUSTER_KWARGS", json.dumps(kwargs))
    settings = ClusterSettings.from_environment()
    assert settings.cluster_kwargs_of("0a1b2c3d-1-2") == {
        "name": "pyama-0a1b2c3d",
        "labels": [{"of": "0a1b2c3d"}],
        "n": 1,
    }
    assert settings.cluster_kwargs_of("ffffffff-1-2")["name"] == "pyama-ffffffff"


def example(folder: str, environment: pytest.MonkeyPatch) -> dict[str, Any]:
    """Arguments that an example gives the cluster of a run."""
    text = (ROOT / f"deployments/{folder}/cluster.json").read_text()
    environment.setenv("PYAMA_DASK_CLUSTER_KWARGS", text)
    return ClusterSettings.from_environment().cluster_kwargs_of("0a1b2c3d-4e5f-6789-abcd-ef0123456789")
