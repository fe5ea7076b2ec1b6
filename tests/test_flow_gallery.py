"""Pictures of a run in the Prefect UI: links that the API answers."""

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.api_server import api
from tests.flow_runs import film, request, run
from tests.recordings import write_recording


def test_a_run_links_its_pictures(prefect_api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYAMA_PUBLIC_URL", "https://lab.example.org/pyama/")
    recording = write_recording(tmp_path / "film.nd2", film(2, 2))
    ended = run(request(recording, tmp_path / "out & more", keep="none"))
    assert ended.state.is_completed(), ended.message
    (shown,) = ended.artifacts("image")
    (listed,) = ended.artifacts("markdown")
    text = str(listed.data)
    linked = re.findall(r"\]\((\S+?)\)", text)
    assert len(linked) == 3 * 4  # four pictures of each of two FOVs; those of the first are shown, too
    assert shown.data in linked
    with api(tmp_path / "home") as client:
        for url in linked:
            assert url.startswith("https://lab.example.org/pyama/api/v1/visualization/picture?")
            parts = urlsplit(url)
            answer = client.get(f"{parts.path.removeprefix('/pyama')}?{parts.query}")
            assert answer.status_code == 200, answer.text
            assert answer.headers["content-type"] in {"image/jpeg", "image/png"}
            tag = answer.headers["etag"]
            again = client.get(f"{parts.path.removeprefix('/pyama')}?{parts.query}", headers={"If-None-Match": tag})
            assert again.status_code == 304


def test_a_run_without_pictures_links_nothing(prefect_api: str, tmp_path: Path) -> None:
    recording = write_recording(tmp_path / "film.nd2", film(1, 2))
    ended = run(request(recording, tmp_path / "out", keep="none", pictures=False))
    assert ended.state.is_completed(), ended.message
    assert ended.artifacts("image") == ended.artifacts("markdown") == []
