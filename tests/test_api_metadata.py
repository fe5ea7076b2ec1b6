"""What the API tells of recordings, features and models."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tasks.configuration import Channels
from tests.api_server import BASE, api, error_of
from tests.format_writers import WRITERS, film_of, write_tiff_series
from tests.recordings import random_images, write_recording


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with api(tmp_path_factory.mktemp("home")) as client:
        yield client


def load(client: httpx.Client, path: Path | str) -> httpx.Response:
    return client.post(f"{BASE}/processing/load-metadata", json={"file_path": str(path)})


def test_metadata_of_a_recording(client: httpx.Client, tmp_path: Path) -> None:
    path = write_recording(tmp_path / "film.nd2", random_images(n_fovs=2, n_frames=3, height=32, width=40))
    answer = load(client, path).json()
    assert answer["success"] is True
    assert answer["error"] is None
    assert answer["metadata"] == {
        "file_path": str(path), "base_name": "film", "file_type": "nd2", "height": 32, "width": 40, "n_frames": 3,
        "n_fovs": 2, "n_channels": 2, "n_planes": 1, "channel_names": ["Phase", "GFP"],
        "timepoints": [0.0, 10.0, 20.0], "time_units": "min", "pixel_size_um": 0.65, "dtype": "uint16", "warnings": [],
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_metadata_of_a_recording_of_any_format(client: httpx.Client, tmp_path: Path, name: str) -> None:
    path = WRITERS[name](tmp_path, film_of(random_images(n_fovs=2, n_frames=3)))
    answer = load(client, path).json()
    assert answer["error"] is None
    told = {key: answer["metadata"][key] for key in ("file_path", "n_fovs", "n_frames", "channel_names", "timepoints")}
    assert told == {
        "file_path": str(path), "n_fovs": 2, "n_frames": 3, "channel_names": ["Phase", "GFP"],
        "timepoints": [0.0, 10.0, 20.0],
    }  # fmt: skip
    assert answer["suggested_channels"]["phase"]["channel"] == 0
    info = client.post(f"{BASE}/processing/file-info", json={"file_path": str(path)}).json()
    assert info["is_microscopy_file"] is True
    assert info["metadata_preview"] == answer["metadata"]
    recent = client.get(f"{BASE}/processing/recent-files?limit=1").json()["recent_files"]
    assert [item["path"] for item in recent] == [str(path)]


def test_of_a_series_what_is_not_there_is_passed_over(client: httpx.Client, tmp_path: Path) -> None:
    write_tiff_series(tmp_path, film_of(random_images(n_fovs=2, n_frames=3)))
    n_bytes = sum(path.stat().st_size for path in tmp_path.glob("*.tif"))
    (tmp_path / "img_9_9_9_9.tif").symlink_to(tmp_path / "gone.tif")
    pattern = tmp_path / "img_{fov}_{time}_{channel}_{z}.tif"
    info = client.post(f"{BASE}/processing/file-info", json={"file_path": str(pattern)}).json()
    assert info["file_info"]["size_bytes"] == n_bytes
    assert info["preview_error"]


def test_a_pattern_is_a_recording_of_all_its_files(client: httpx.Client, tmp_path: Path) -> None:
    write_tiff_series(tmp_path, film_of(random_images(n_fovs=2, n_frames=3)))
    pattern = tmp_path / "img_{fov}_{time}_{channel}_{z}.tif"
    metadata = load(client, pattern).json()["metadata"]
    assert (metadata["base_name"], metadata["n_fovs"], metadata["channel_names"]) == ("img", 2, ["x", "y"])
    info = client.post(f"{BASE}/processing/file-info", json={"file_path": str(pattern)}).json()
    assert info["is_microscopy_file"] is True
    assert info["file_info"]["size_bytes"] == sum(file.stat().st_size for file in tmp_path.glob("*.tif"))
    recent = client.get(f"{BASE}/processing/recent-files?limit=1&extensions=.tif").json()["recent_files"]
    assert [item["path"] for item in recent] == [str(pattern)]
    nothing = tmp_path / "none_{fov}.tif"
    assert "no file matches" in error_of(load(client, nothing), 404, "FILE_NOT_FOUND")
    response = client.post(f"{BASE}/processing/file-info", json={"file_path": str(nothing)})
    error_of(response, 404, "FILE_NOT_FOUND")


def test_suggested_channels_can_be_sent_back(client: httpx.Client, tmp_path: Path) -> None:
    path = write_recording(tmp_path / "film.nd2", random_images(n_channels=3))
    suggested = load(client, path).json()["suggested_channels"]
    channels = Channels.model_validate(suggested)
    assert channels.phase.channel == 0
    assert [(c.channel, c.features) for c in channels.fluorescence] == [
        (1, ["intensity_total"]),
        (2, ["intensity_total"]),
    ]


def test_no_phase_channel_is_told_with_the_reason(client: httpx.Client) -> None:
    path = next(
        p for p in sorted((Path(__file__).parent / "data" / "nd2_real").glob("*.nd2")) if _lacks_phase(client, p)
    )
    suggested = load(client, path).json()["suggested_channels"]
    assert suggested["phase"] is None
    assert "no channel looks like phase contrast" in suggested["reason"]


def _lacks_phase(client: httpx.Client, path: Path) -> bool:
    answer: dict[str, Any] = load(client, path).json()
    return answer["success"] is True and answer["suggested_channels"]["phase"] is None


def test_a_link_keeps_the_name_its_user_knows(client: httpx.Client, tmp_path: Path) -> None:
    stored = write_recording(tmp_path / "0123abcd.nd2", random_images())
    (tmp_path / "monday.nd2").symlink_to(stored)
    assert load(client, tmp_path / "monday.nd2").json()["metadata"]["base_name"] == "monday"


def test_a_recording_that_is_not_there(client: httpx.Client, tmp_path: Path) -> None:
    text = error_of(load(client, tmp_path / "none.nd2"), 404, "FILE_NOT_FOUND")
    assert "none.nd2" in text


def test_a_broken_recording(client: httpx.Client, tmp_path: Path) -> None:
    path = write_recording(tmp_path / "cut.nd2", random_images())
    os.truncate(path, path.stat().st_size // 2)
    assert "cut.nd2" in error_of(load(client, path), 400, "INVALID_PARAMETERS")


def test_a_folder_is_no_recording(client: httpx.Client, tmp_path: Path) -> None:
    assert "folder" in error_of(load(client, tmp_path), 400, "INVALID_PARAMETERS")


def test_a_fifo_is_refused_without_waiting_for_it(client: httpx.Client, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.nd2")
    assert "FIFO" in error_of(load(client, tmp_path / "fifo.nd2"), 400, "INVALID_PARAMETERS")


def test_features_with_descriptions_and_units(client: httpx.Client) -> None:
    answer = client.get(f"{BASE}/processing/features").json()
    assert answer["phase_features"][:2] == ["area", "aspect_ratio"]
    assert "intensity_total" in answer["fluorescence_features"]
    assert answer["details"]["phase"]["area"] == {"description": "Number of pixels of the cell", "unit": "px"}
    assert list(answer["details"]["fluorescence"]) == answer["fluorescence_features"]


def test_models_with_their_parameters(client: httpx.Client) -> None:
    models = {model["name"]: model for model in client.get(f"{BASE}/analysis/models").json()["models"]}
    assert set(models) == {"trivial", "maturation", "translation_maturation", "maturation_blocked"}
    for model in models.values():
        assert model["equation"].startswith("f(t) =")
        assert model["description"]
        for parameter in model["parameters"]:
            low, high = parameter["bounds"]
            assert low <= parameter["default"] <= high
            assert parameter["unit"]
            assert parameter["meaning"]


def test_the_documented_model(client: httpx.Client) -> None:
    (model,) = [m for m in client.get(f"{BASE}/analysis/models").json()["models"] if m["name"] == "maturation"]
    told = {p["name"]: (p["default"], *p["bounds"], p["fixed"]) for p in model["parameters"]}
    assert told == {
        "amplitude": (1.0, 0.0, 10.0, False),
        "rate": (0.1, 0.01, 1.0, False),
        "offset": (0.0, -1.0, 5.0, False),
    }
