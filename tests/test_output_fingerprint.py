import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.configuration import WorkflowRequest
from tasks.errors import RecordingError, RecordingNotFoundError
from tasks.output import Fingerprint, Provenance, input_fingerprint, parameter_fingerprint
from tests.output_worker import make_request

MIB = 1 << 20
BLOCK = 65536


def defined(content: bytes) -> str:
    """The definition, word for word."""
    size = len(content)
    text = size.to_bytes(8, "little") + content[:MIB] + content[max(0, size - MIB) :]
    for i in range(64):
        start = i * max(0, size - BLOCK) // 63
        text += content[start : start + BLOCK]
    return hashlib.sha256(text).hexdigest()


def some_bytes(size: int) -> bytes:
    return np.random.default_rng(size).bytes(size)


@pytest.mark.parametrize("size", [0, 1, 63, BLOCK - 1, BLOCK, BLOCK + 1, MIB, MIB + 1, 2 * MIB, 9 * MIB + 7])
def test_fingerprint_is_what_it_is_defined_to_be(tmp_path: Path, size: int) -> None:
    path = tmp_path / "film.nd2"
    path.write_bytes(some_bytes(size))
    assert input_fingerprint(path) == defined(path.read_bytes())


def test_name_and_time_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "a.nd2").write_bytes(some_bytes(1000))
    (tmp_path / "b.nd2").write_bytes(some_bytes(1000))
    assert input_fingerprint(tmp_path / "a.nd2") == input_fingerprint(tmp_path / "b.nd2")


def test_a_changed_byte_at_the_end_matters(tmp_path: Path) -> None:
    content = bytearray(some_bytes(3 * MIB))
    (tmp_path / "a.nd2").write_bytes(content)
    content[-1] ^= 1
    (tmp_path / "b.nd2").write_bytes(content)
    assert input_fingerprint(tmp_path / "a.nd2") != input_fingerprint(tmp_path / "b.nd2")


def test_a_sparse_terabyte_takes_a_moment(tmp_path: Path) -> None:
    path = tmp_path / "film.nd2"
    try:
        with path.open("wb") as file:
            file.truncate(1 << 40)
    except OSError:
        pytest.skip("the file system does not allow sparse files of 1 TiB")
    assert len(input_fingerprint(path)) == 64


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordingNotFoundError, match=r"nothing\.nd2"):
        input_fingerprint(tmp_path / "nothing.nd2")


def test_a_folder_is_no_recording(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=str(tmp_path)):
        input_fingerprint(tmp_path)


def fingerprint_with(**parameters: Any) -> str:
    return parameter_fingerprint(make_request(Path("/out"), **parameters).configuration())


@pytest.mark.parametrize(
    "parameters",
    [
        {"fov_start": 1, "fov_end": 3},
        {"fovs": "1-3"},
        {"n_workers": 7},
        {"batch_size": 7},
        {"overwrite": True},
        {"background_weight": 1},
        {"keep": "all"},
    ],
)
def test_how_it_is_executed_and_given_defaults_do_not_matter(parameters: dict[str, Any]) -> None:
    assert fingerprint_with(**parameters) == fingerprint_with()


@pytest.mark.parametrize(
    "parameters",
    [{"background_weight": 0.5}, {"min_frames": 29}, {"keep": "none"}, {"z_plane": 0}, {"erosion_size": 1}],
)
def test_what_changes_the_result_matters(parameters: dict[str, Any]) -> None:
    assert fingerprint_with(**parameters) != fingerprint_with()


def with_channels(*fluorescence: dict[str, Any]) -> str:
    request = WorkflowRequest.parse(
        microscopy_path="/data/film.nd2",
        output_dir="/out",
        channels={"phase": {"channel": 0}, "fluorescence": list(fluorescence)},
    )
    return parameter_fingerprint(request.configuration())


def test_order_of_the_fluorescence_channels_does_not_matter() -> None:
    assert with_channels({"channel": 1}, {"channel": 2}) == with_channels({"channel": 2}, {"channel": 1})


def test_features_matter() -> None:
    more = {"channel": 1, "features": ["intensity_total", "intensity_max"]}
    assert with_channels({"channel": 1}) != with_channels(more)


def test_provenance_takes_name_size_and_fingerprints(tmp_path: Path) -> None:
    recording = tmp_path / "my film.v2.nd2"
    recording.write_bytes(some_bytes(1000))
    configuration = make_request(tmp_path).configuration()
    provenance = Provenance.of(recording, {"T": 3}, configuration)
    assert provenance.fingerprint == Fingerprint(
        input_fingerprint(recording), parameter_fingerprint(configuration), science_version=1
    )
    assert provenance.input.name == "my film.v2.nd2"
    assert provenance.input.base_name == "my film.v2"
    assert provenance.input.size_bytes == 1000
