"""The client of the REST API: what is refused, fails or does not answer ends in one clear exception."""

from pathlib import Path
from typing import Any

import pytest

from deployments.api_client import ApiClient
from deployments.errors import RunFailedError
from tests.flow_runs import film
from tests.recordings import write_recording
from tests.stack import RunningStack, asked


def test_a_refusal_is_told_with_its_reason_and_code(stack: RunningStack) -> None:
    with (
        ApiClient(stack.api_url) as client,
        pytest.raises(RunFailedError, match=r"'/nowhere\.nd2' does not exist.*FILE_NOT_FOUND"),
    ):
        client.post("/processing/load-metadata", {"file_path": "/nowhere.nd2"})


def test_a_job_that_fails_is_told_with_its_reason(stack: RunningStack, tmp_path: Path) -> None:
    recording = write_recording(tmp_path / "broken.nd2", film(1, 3), missing={(0, 2)})
    told: list[dict[str, Any]] = []
    with ApiClient(stack.api_url) as client:
        job_id = client.post("/processing/workflow/start", asked(recording, tmp_path / "out"))["job_id"]
        with pytest.raises(RunFailedError, match="1 of 1 FOVs failed"):
            client.finish(f"/processing/workflow/status/{job_id}", told.append)
    assert told[-1]["status"] == "failed"
    assert all(status["job_id"] == job_id for status in told)


def test_an_api_that_does_not_answer() -> None:
    with ApiClient("http://127.0.0.1:9") as client, pytest.raises(RunFailedError, match="the API does not answer"):
        client.get("/jobs")
