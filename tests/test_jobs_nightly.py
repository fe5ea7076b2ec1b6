"""New recordings on the whole stack: the scan runs in the control pool, and what it starts are jobs as any other."""

import json
from pathlib import Path

import httpx

from deployments.deploying import NIGHTLY
from tests.engines import wait_until
from tests.flow_runs import film
from tests.recordings import write_recording
from tests.stack import CHANNELS, SCIENCE, RunningStack


def test_a_scan_has_new_recordings_processed_and_waits_for_them(stack: RunningStack, tmp_path: Path) -> None:
    folder = tmp_path / "incoming"
    (folder / "day").mkdir(parents=True)
    write_recording(folder / "day" / "new.nd2", film(2, 2))
    (folder / "broken.nd2").write_bytes(b"not a recording")
    (folder / "pyama.yaml").write_text(json.dumps({"channels": CHANNELS, "parameters": SCIENCE}))
    asked = {"folder": str(folder), "output_root": str(tmp_path / "results"), "settle_s": 0, "wait": True}
    with httpx.Client(base_url=f"{stack.prefect_url}/api", timeout=30) as prefect:
        deployment = prefect.get(f"/deployments/name/{NIGHTLY.full_name}").json()
        assert deployment["schedules"] == []
        body = {"parameters": asked, "state": {"type": "SCHEDULED"}}
        created = prefect.post(f"/deployments/{deployment['id']}/create_flow_run", json=body)
        assert created.is_success, created.text
        address = f"/flow_runs/{created.json()['id']}"
        wait_until(lambda: _ended(prefect.get(address).json()), "the scan has ended", 120)
        state = prefect.get(address).json()["state"]
    assert state["type"] == "COMPLETED"
    said = "2 recordings found: 1 started, 0 skipped, 1 broken (broken.nd2); of those started 1 completed"
    assert state["message"] == said
    jobs = stack.client.http.get("/jobs", params={"kind": "processing"}).json()["jobs"]
    (job,) = (one for one in jobs if one["name"] == "new.nd2")
    results = stack.client.results(job["job_id"])
    assert results["status"] == "completed"
    assert results["output_dir"] == str(tmp_path / "results" / "day" / "new")
    assert len(results["traces"]) == 2


def _ended(run: dict[str, dict[str, str]]) -> bool:
    return run["state"]["type"] in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
