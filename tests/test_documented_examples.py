"""Every example of the API's documentation does what it says, against the real stack."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import documented
from tests.engines import ROOT, wait_until
from tests.flow_runs import film
from tests.recordings import write_recording
from tests.stack import RunningStack, has_ended

N_FOVS, N_FRAMES = 10, 3
PROCESSED = "output_of_all_features"
CLIENT_DEADLINE_S = 180
FILE_ITEM = {"name", "path", "is_directory", "is_file", "size_bytes", "modified_time", "extension"}


@dataclass(frozen=True)
class Place:
    """Where the documented paths are on this machine."""

    api_url: str
    folder: Path

    @property
    def recording(self) -> Path:
        """The recording of the examples, of as many FOVs as they ask for."""
        return self.folder / "experiment.nd2"

    def moved(self, text: str, output: str = "output") -> str:
        """Write an example with this server, these paths and that output folder, and with less patience."""
        for documented_text, here in {
            "http://localhost:8000": self.api_url,
            "/path/to/file.nd2": str(self.recording),
            "/data/sample.nd2": str(self.recording),
            "/data/experiment.nd2": str(self.recording),
            "/path/to/directory": str(self.folder),
            "/path/to/search": str(self.folder),
            "/path/to/samples.yaml": str(self.folder / "samples.yaml"),
            "/path/to/processed_fovs": str(self.folder / PROCESSED),
            "/path/to/traces.csv": str(self.folder / "merged" / "all_intensity_total_ch_1.csv"),
            "/path/to/output": str(self.folder / output),
            "/data/output": str(self.folder / output),
            '"/data"': f'"{self.folder}"',
            "time.sleep(5)": "time.sleep(0.2)",
        }.items():
            text = text.replace(documented_text, here)
        return text


@pytest.fixture(scope="module")
def place(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("documented")
    write_recording(folder / "experiment.nd2", film(N_FOVS, N_FRAMES))
    (folder / "below").mkdir()
    write_recording(folder / "below" / "other.nd2", film(1, 1))
    (folder / "notes.txt").write_text("notes")
    (folder / ".hidden.nd2").write_text("hidden")
    return Place(stack.api_url, folder)


@pytest.fixture(scope="module")
def post(stack: RunningStack, place: Place) -> Iterator[Any]:
    """Post a documented body to a documented address, and return the answer."""
    with httpx.Client(base_url=f"{stack.api_url}/api/v1", timeout=60) as client:

        def post(address: str, body: str, output: str = "output") -> dict[str, Any]:
            answer = client.post(address, json=json.loads(place.moved(body, output)))
            assert answer.status_code == 200, answer.text
            told: dict[str, Any] = answer.json()
            assert told["success"] is True
            assert told["error"] is None
            return told

        yield post


@pytest.fixture(scope="module")
def clients(place: Place) -> dict[str, subprocess.CompletedProcess[str]]:
    """What the documented clients print: all run at the same time, as programs of their own."""
    api = json.dumps(place.api_url)
    fetch = f"const web = globalThis.fetch; globalThis.fetch = (where, how) => web(new URL(where, {api}), how);\n"
    (readme_client,) = re.findall(r"```python\n(import time\n\nimport requests\n.*?)```", readme(), re.DOTALL)
    programs = {
        "python.py": f"import time\n{documented.PYTHON_CLIENT}\nimport json; print(json.dumps(results))",
        "readme.py": f"{readme_client}\nimport json; print(json.dumps(results))",
        "javascript.mjs": fetch + documented.JAVASCRIPT_CLIENT,
    }

    def run(name: str) -> subprocess.CompletedProcess[str]:
        program = place.folder / name
        program.write_text(place.moved(programs[name], f"output_of_{program.stem}"))
        interpreter = sys.executable if program.suffix == ".py" else shutil.which("node")
        if interpreter is None:
            return subprocess.CompletedProcess([name], 127, "", "there is no node here")
        return subprocess.run(
            [interpreter, program], capture_output=True, text=True, timeout=CLIENT_DEADLINE_S, check=False
        )

    with ThreadPoolExecutor(len(programs)) as threads:
        return dict(zip(programs, threads.map(run, programs), strict=True))


def readme() -> str:
    return (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", ["python.py", "readme.py"])
def test_python_client(clients: dict[str, subprocess.CompletedProcess[str]], place: Place, name: str) -> None:
    ended = clients[name]
    assert ended.returncode == 0, ended.stderr
    *progress, last = ended.stdout.splitlines()
    assert progress[0].startswith("Progress: ")
    assert progress[-1] == "Progress: 100.0%"
    results = json.loads(last)
    assert results["success"] is True
    assert Path(results["output_dir"]) == place.folder / f"output_of_{Path(name).stem}"
    assert len(results["traces"]) == N_FOVS
    assert all(Path(path).is_file() for path in [results["results_file"], *results["traces"]])


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node here")
def test_javascript_client(clients: dict[str, subprocess.CompletedProcess[str]], place: Place) -> None:
    ended = clients["javascript.mjs"]
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-2:] == ["100% complete", "Job finished!"]
    assert len(list((place.folder / "output_of_javascript").glob("fov_*/manifest.json"))) == N_FOVS


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
def test_curl_examples(place: Place) -> None:
    *requests, _ = re.split(r"\n\n|\n$", documented.CURL_EXAMPLES)
    answers = [
        json.loads(subprocess.run(["sh", "-c", place.moved(one)], capture_output=True, check=True, timeout=60).stdout)
        for one in requests
    ]
    metadata, listing, models = answers
    assert metadata["metadata"]["n_fovs"] == N_FOVS
    assert "experiment.nd2" in [item["name"] for item in listing["items"]]
    assert "maturation" in [model["name"] for model in models["models"]]


def test_load_metadata(post: Any) -> None:
    told = post("/processing/load-metadata", documented.FILE_REQUEST)
    assert set(told["metadata"]) >= {
        "file_path", "base_name", "file_type", "height", "width", "n_frames", "n_fovs", "n_channels", "channel_names",
        "timepoints", "time_units", "pixel_size_um", "dtype",
    }  # fmt: skip
    assert told["suggested_channels"] == {
        "phase": {"channel": 0, "features": ["area", "aspect_ratio"]},
        "fluorescence": [{"channel": 1, "features": ["intensity_total"]}],
    }


def test_start_status_and_cancel(post: Any, stack: RunningStack, place: Place) -> None:
    # The example asks for more FOVs than a recording for a test has.
    body = documented.START_REQUEST.replace('"fov_end": 99', f'"fov_end": {N_FOVS - 1}')
    job_id = post("/processing/workflow/start", body)["job_id"]
    status = stack.client.status(job_id)
    assert set(status) >= {"job_id", "status", "progress", "message"}
    assert status["job_id"] == job_id
    assert set(status["progress"]) == {"current_fov", "total_fovs", "percentage"}
    assert status["progress"]["total_fovs"] == N_FOVS
    cancelled = stack.client.cancel(job_id)
    assert cancelled["success"] is True
    assert cancelled["message"] == "Workflow cancelled successfully"
    assert stack.client.watch(job_id, has_ended)[-1]["status"] == "cancelled"


def test_the_documented_number_of_fovs_is_more_than_the_file_has(stack: RunningStack, place: Place) -> None:
    answer = stack.client.http.post(
        "/processing/workflow/start", json=json.loads(place.moved(documented.START_REQUEST))
    )
    assert answer.status_code == 400
    assert answer.json()["error_code"] == "INVALID_PARAMETERS"
    assert "parameters.fov_end: 99" in answer.json()["error"]


@pytest.fixture(scope="module")
def processed(post: Any, stack: RunningStack, place: Place) -> dict[str, Any]:
    """Results of a job with the documented channels and parameters, but for the number of FOVs."""
    body = {
        "microscopy_path": str(place.recording),
        "output_dir": str(place.folder / PROCESSED),
        "channels": json.loads(documented.CHANNELS),
        # The cells of this film come near its edges.
        "parameters": {**json.loads(documented.PARAMETERS), "fov_end": 1, "border_margin": 0},
    }
    job_id = post("/processing/workflow/start", json.dumps(body))["job_id"]
    assert stack.client.finish(job_id)[-1]["status"] == "completed"
    return stack.client.results(job_id)


@pytest.fixture(scope="module")
def merged(post: Any, place: Place, processed: dict[str, Any]) -> dict[str, Any]:
    """Answer to the documented merge of what was processed."""
    (place.folder / "samples.yaml").write_text('samples: [{name: all, fovs: "0-1"}]')
    answer: dict[str, Any] = post("/processing/merge", documented.MERGE_REQUEST, "merged")
    return answer


def test_channels_and_parameters(processed: dict[str, Any]) -> None:
    first, _ = processed["traces"]
    columns = Path(first).read_text().splitlines()[0].split(",")
    assert columns[-4:] == ["area_ch_0", "aspect_ratio_ch_0", "intensity_total_ch_1", "intensity_mean_ch_1"]


def test_merge(merged: dict[str, Any], place: Place) -> None:
    assert merged["output_dir"] == str(place.folder / "merged")
    names = ["merged", "area_ch_0", "aspect_ratio_ch_0", "intensity_total_ch_1", "intensity_mean_ch_1"]
    assert merged["merged_files"] == [str(place.folder / "merged" / f"all_{name}.csv") for name in names]
    assert all(Path(path).is_file() for path in merged["merged_files"])


def test_load_traces(post: Any, merged: dict[str, Any]) -> None:
    data = post("/analysis/load-traces", documented.TRACES_REQUEST)["data"]
    assert data["n_cells"] > 0
    assert data["n_timepoints"] == N_FRAMES
    assert data["time_units"] == "min"
    assert data["columns"] == ["time", "fov", "cell", "value"]


def test_fitting(post: Any, stack: RunningStack, merged: dict[str, Any]) -> None:
    n_cells = post("/analysis/load-traces", documented.TRACES_REQUEST)["data"]["n_cells"]
    job_id = post("/analysis/fitting/start", documented.FITTING_REQUEST)["job_id"]

    def status() -> dict[str, Any]:
        told: dict[str, Any] = stack.client.http.get(f"/analysis/fitting/status/{job_id}").json()
        return told

    wait_until(lambda: status()["status"] not in {"pending", "running"}, "the fit has ended", CLIENT_DEADLINE_S)
    assert status()["status"] == "completed", status()
    assert status()["progress"] == {"current_cell": n_cells, "total_cells": n_cells, "percentage": 100.0}
    results = stack.client.http.get(f"/analysis/fitting/results/{job_id}").json()
    assert results["success"] is True
    assert results["summary"]["total_cells"] == n_cells
    assert len(results["results"]) == n_cells
    assert set(results["results"][0]["fitted_params"]) == {"amplitude", "rate", "offset"}


def test_list_directory(post: Any, place: Place) -> None:
    told = post("/processing/list-directory", documented.LIST_REQUEST)
    assert told["directory_path"] == str(place.folder)
    assert all(set(item) == FILE_ITEM for item in told["items"])
    names = [item["name"] for item in told["items"]]
    assert {"below", "experiment.nd2", "notes.txt"} <= set(names)
    assert ".hidden.nd2" not in names


def test_search_files(post: Any, place: Place) -> None:
    told = post("/processing/search-files", documented.SEARCH_REQUEST)
    assert told["search_path"] == str(place.folder)
    assert {item["path"] for item in told["files"]} == {
        str(place.recording), str(place.folder / "below" / "other.nd2")
    }  # fmt: skip
    assert told["total_found"] == 2


def test_file_info(post: Any, place: Place) -> None:
    told = post("/processing/file-info", documented.FILE_REQUEST)
    assert told["file_info"]["path"] == str(place.recording)
    assert told["is_microscopy_file"] is True
    assert told["metadata_preview"]["n_frames"] == N_FRAMES


def test_recent_files(post: Any, stack: RunningStack, place: Place) -> None:
    post("/processing/load-metadata", documented.FILE_REQUEST)
    told = stack.client.http.get(documented.RECENT_FILES).json()
    assert told["success"] is True
    assert told["recent_files"][0]["path"] == str(place.recording)


def test_models(stack: RunningStack) -> None:
    models = stack.client.http.get("/analysis/models").json()["models"]
    (maturation,) = [model for model in models if model["name"] == "maturation"]
    assert {parameter["name"] for parameter in maturation["parameters"]} == {"amplitude", "rate", "offset"}


@pytest.mark.parametrize("address", ["/health", "/metrics", "/jobs", "/docs", "/redoc", "/openapi.json"])
def test_addresses_at_the_root(stack: RunningStack, address: str) -> None:
    assert httpx.get(f"{stack.api_url}{address}", timeout=30).status_code == 200


@pytest.mark.parametrize(
    ("address", "body", "status", "code"),
    [
        ("/processing/load-metadata", {"file_path": "/path/to/file.nd2"}, 404, "FILE_NOT_FOUND"),
        ("/processing/load-metadata", {"file_path": 5}, 400, "INVALID_PARAMETERS"),
        ("/processing/workflow/cancel/job_123456", {}, 404, "JOB_NOT_FOUND"),
    ],
)
def test_documented_errors(stack: RunningStack, address: str, body: Any, status: int, code: str) -> None:
    answer = stack.client.http.post(address, json=body)
    assert answer.status_code == status
    assert answer.json()["success"] is False
    assert answer.json()["error_code"] == code
    assert isinstance(answer.json()["error"], str)
