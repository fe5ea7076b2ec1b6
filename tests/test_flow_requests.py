"""Requests that cannot be met: refused with one message, before anything is written."""

from pathlib import Path
from typing import Any

import pytest

from tests.flow_runs import CHANNELS, film, request, run
from tests.output_worker import content
from tests.recordings import write_recording

pytestmark = pytest.mark.usefixtures("prefect_api")


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recording(tmp_path_factory.mktemp("recording") / "film.nd2", film(2, 2))


def refusal(asked: dict[str, Any]) -> str:
    """Why a request is refused."""
    ended = run(asked)
    assert ended.state.is_failed()
    assert ended.task_runs() == {}
    assert ended.flow_run().run_count == 1
    return ended.message


def channels(**changes: Any) -> dict[str, Any]:
    return {"channels": {**CHANNELS, **changes}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            channels(phase={"channel": 0, "features": ["colour"]}),
            "channels.phase.features: unknown feature 'colour'; available: area, ",
        ),
        (
            channels(fluorescence=[{"channel": 1, "features": ["area"]}]),
            "channels.fluorescence.0.features: unknown feature 'area'; available: intensity_total, ",
        ),
        (
            channels(phase={"channel": 2}),
            "channels.phase.channel: the recording has no channel 2; it has 0 (Phase), 1 (GFP)",
        ),
        (
            channels(fluorescence=[{"channel": 7}]),
            "channels.fluorescence.0.channel: the recording has no channel 7; it has 0 (Phase), 1 (GFP)",
        ),
        (channels(fluorescence=[{"channel": 0}]), "channels: channel 0 is used twice; each channel can have one role"),
        (channels(fluorescence=[{"channel": 1}, {"channel": 1}]), "channels: channel 1 is used twice"),
        (channels(phase=None), "channels.phase: "),
        (channels(phase={"channel": -1}), "channels.phase.channel: "),
    ],
)
def test_wrong_channels(recording: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    assert message in refusal({**request(recording, tmp_path / "out"), **changes})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"fov_end": 2}, "parameters.fov_end: 2 is outside the file; the recording has 2 FOVs: 0 to 1 are allowed"),
        ({"fov_start": 5}, "parameters.fov_start: 5 is outside the file; the recording has 2 FOVs: 0 to 1 are allowed"),
        ({"fovs": "0-9"}, "parameters.fovs: FOV 9 does not exist; the recording has 2 FOVs: 0 to 1 are allowed"),
        ({"fov_start": 1, "fov_end": 0}, "parameters: fov_end 0 is before fov_start 1"),
        ({"fov_start": -1}, "parameters.fov_start: "),
        ({"batch_size": 0}, "parameters.batch_size: allowed are 1 to 256 (got 0)"),
        ({"batch_size": 257}, "parameters.batch_size: allowed are 1 to 256 (got 257)"),
        ({"n_workers": 0}, "parameters.n_workers: allowed are 1 to 256 (got 0)"),
        ({"n_workers": 257}, "parameters.n_workers: allowed are 1 to 256 (got 257)"),
        ({"n_workers": "2"}, "parameters.n_workers: Input should be a valid integer (got '2')"),
        ({"background_weight": 1.5}, "parameters.background_weight: allowed are 0 to 1 (got 1.5)"),
        ({"background_weight": -0.1}, "parameters.background_weight: allowed are 0 to 1 (got -0.1)"),
        ({"z_plane": 1}, "parameters.z_plane: there is no plane 1; the recording has 1 plane: 0"),
        ({"colour": "red"}, "parameters.colour: unknown field (got 'red')"),
    ],
)
def test_wrong_parameters(recording: Path, tmp_path: Path, parameters: dict[str, Any], message: str) -> None:
    assert message in refusal(request(recording, tmp_path / "out", **parameters))
    assert list(tmp_path.iterdir()) == []


def test_all_that_is_wrong_is_told_at_once(recording: Path, tmp_path: Path) -> None:
    message = refusal({**request(recording, tmp_path / "out", n_workers=0, keep="some"), "microscopy_path": "film.nd2"})
    assert "microscopy_path: must be an absolute path" in message
    assert "parameters.n_workers: " in message
    assert "parameters.keep: " in message


def test_a_relative_output_folder(recording: Path) -> None:
    message = refusal(request(recording, Path("out")))
    assert message == "output_dir: must be an absolute path, e.g. /data/experiment.nd2 (got 'out')"


def test_a_recording_that_is_not_there(tmp_path: Path) -> None:
    message = refusal(request(tmp_path / "nothing.nd2", tmp_path / "out"))
    assert message == f"Recording '{tmp_path}/nothing.nd2' does not exist"
    assert list(tmp_path.iterdir()) == []


def test_a_truncated_recording(recording: Path, tmp_path: Path) -> None:
    (tmp_path / "part.nd2").write_bytes(recording.read_bytes()[:5000])
    message = refusal(request(tmp_path / "part.nd2", tmp_path / "out"))
    assert f"Recording '{tmp_path}/part.nd2' cannot be read: " in message
    assert [path.name for path in tmp_path.iterdir()] == ["part.nd2"]


def test_an_output_folder_that_is_a_file(recording: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("precious")
    message = refusal(request(recording, tmp_path / "out"))
    assert f"{tmp_path}/out is a file, not a folder; choose another output folder" in message
    assert content(tmp_path) == {"out": b"precious"}


def test_a_folder_of_other_parameters(recording: Path, tmp_path: Path) -> None:
    assert run(request(recording, tmp_path / "out")).state.is_completed()
    before = content(tmp_path)
    message = refusal(request(recording, tmp_path / "out", min_iou=0.2))
    assert "comes from other parameters: min_iou is 0.1 there, 0.2 was asked for" in message
    assert "choose another output folder, or set overwrite to replace what is there" in message
    assert content(tmp_path) == before


def test_a_folder_of_other_parameters_is_replaced_where_that_is_asked_for(recording: Path, tmp_path: Path) -> None:
    assert run(request(recording, tmp_path / "out", keep="none")).state.is_completed()
    assert run(request(recording, tmp_path / "out", keep="labels", overwrite=True)).state.is_completed()
    assert run(request(recording, tmp_path / "new", keep="labels")).state.is_completed()
    assert content(tmp_path / "out") == content(tmp_path / "new")


def test_a_folder_of_another_recording(recording: Path, tmp_path: Path) -> None:
    other = write_recording(tmp_path / "other.nd2", film(1, 3))
    assert run(request(recording, tmp_path / "out")).state.is_completed()
    message = refusal(request(other, tmp_path / "out"))
    assert "comes from another input: film.nd2 (" in message
    assert ") there, other.nd2 (" in message
