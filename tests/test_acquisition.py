"""Opening recordings: right frames from every shape of file, clear errors from every broken one."""

import os
import re
import subprocess
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nd2
import numpy as np
import pytest
from nd2._parse._chunk_decode import get_chunkmap, read_nd2_chunk

from tasks.acquisition import RecordingMetadata, ZPlane, known_suffixes, open_recording
from tasks.errors import (
    InvalidParametersError,
    MissingFrameError,
    RecordingError,
    RecordingNotFoundError,
)
from tasks.nd2_format import FRAME_NAME_AREA, chunk_header, encode_tree, file_header, file_map, padding, paged_chunk
from tests.recordings import random_images, write_recording

DATA = Path(__file__).parent / "data"
VARIANTS = DATA / "nd2_variants"
REAL = DATA / "nd2_real"
FRAME = b"ImageDataSeq|%d!"
GOOD_VARIANTS = {
    # n_fovs, n_frames, n_planes, n_channels, height, width, dtype
    "float32": (1, 3, 1, 2, 64, 80, "float32"),
    "no_times": (2, 4, 1, 2, 64, 80, "uint16"),
    "odd_size": (2, 3, 1, 3, 37, 53, "uint16"),
    "p_only": (3, 1, 1, 1, 64, 80, "uint16"),
    "single": (1, 1, 1, 1, 64, 80, "uint16"),
    "t_c2": (1, 4, 1, 2, 64, 80, "uint16"),
    "t_only": (1, 5, 1, 1, 64, 80, "uint16"),
    "t_p_c2": (2, 3, 1, 2, 64, 80, "uint16"),
    "t_p_z_c2": (2, 2, 3, 2, 64, 80, "uint16"),
    "uint8": (1, 3, 1, 2, 64, 80, "uint8"),
}
REAL_FILES = {
    # n_frames, n_planes, channel names, height, pixel size
    "example-cerevisiae": (1, 1, ("DIC", "FITC BP"), 256, 0.108333),
    "example-multichannel": (1, 1, ("Mono", "DAPI", "FITC BP", "TRITC BP"), 256, 0.323390),
    "example-timelapse": (53, 1, ("GFP 488 nm",), 64, 0.325),
    "example-zstack": (1, 11, ("FITC BP",), 128, 0.323390),
}


def metadata_of(path: Path, z_plane: ZPlane = "middle") -> RecordingMetadata:
    with open_recording(path, z_plane) as recording:
        return recording.metadata


def variant(name: str) -> Path:
    return VARIANTS / f"{name}.nd2"


def chunks_of(path: Path) -> dict[bytes, bytes]:
    """Data of all chunks of an ND2 file by name."""
    with path.open("rb") as stream:
        return {
            name: read_nd2_chunk(stream, offset)
            for name, (offset, _) in get_chunkmap(stream).items()
            if not name.startswith(b"ND2 ")
        }


def write_chunks(path: Path, chunks: Mapping[bytes, bytes]) -> Path:
    """Write an ND2 file of given chunks."""
    content, where = file_header(), {}
    for name, data in chunks.items():
        where[name] = (len(content), len(data))
        if name.startswith(b"ImageDataSeq|"):
            content += chunk_header(name, len(data), FRAME_NAME_AREA) + data
            content += bytes(padding(len(content)))
        else:
            content += paged_chunk(name, data)
    path.write_bytes(content + file_map(where, len(content)))
    return path


def attributes_with(path: Path, **changes: Any) -> dict[bytes, bytes]:
    """Chunks of an ND2 file whose attributes are changed."""
    with nd2.ND2File(path) as file:
        attributes = file.unstructured_metadata(strip_prefix=False, include={"ImageAttributesLV"})
    changed = attributes["ImageAttributesLV"]["SLxImageAttributes"] | changes
    return chunks_of(path) | {b"ImageAttributesLV!": encode_tree("SLxImageAttributes", changed)}


def nested(loops: list[dict[str, Any]]) -> bytes:
    """Experiment chunk of loops, the outermost first."""
    inner: dict[str, Any] | None = None
    for loop in reversed(loops):
        fields = {"eType": loop["eType"], "uLoopPars": loop["uLoopPars"]}
        inner = fields if inner is None else {**fields, "ppNextLevelEx": [inner]}
    assert inner is not None
    return encode_tree("SLxExperiment", inner)


def loops_of(path: Path) -> list[dict[str, Any]]:
    """Raw loops of a recording, the outermost first."""
    with nd2.ND2File(path) as file:
        metadata = file.unstructured_metadata(strip_prefix=False, include={"ImageMetadataLV"})
    loop, loops = metadata["ImageMetadataLV"]["SLxExperiment"], []
    while loop:
        loops.append(loop)
        loop = next(iter(loop.get("ppNextLevelEx", {}).values()), None)
    return loops


# What the files hold


@pytest.mark.parametrize("name", GOOD_VARIANTS)
def test_shape_and_dtype_of_every_variant(name: str) -> None:
    metadata = metadata_of(variant(name))
    sizes = tuple(metadata.sizes[axis] for axis in "PTZCYX")
    assert (*sizes, metadata.dtype.name) == GOOD_VARIANTS[name]


@pytest.mark.parametrize("name", GOOD_VARIANTS)
def test_names_scale_and_type_of_every_variant(name: str) -> None:
    metadata = metadata_of(variant(name))
    assert metadata.channel_names == ("Phase", "GFP", "RFP")[: metadata.n_channels]
    assert metadata.channel_modalities[0] == {"brightfield", "camera"}
    assert metadata.pixel_size_um == pytest.approx(0.65)
    assert (metadata.file_type, metadata.base_name) == ("nd2", name)


@pytest.mark.parametrize("name", REAL_FILES)
def test_metadata_of_real_recordings(name: str) -> None:
    metadata = metadata_of(REAL / f"{name}.nd2")
    n_frames, n_planes, channel_names, height, pixel_size_um = REAL_FILES[name]
    assert (metadata.n_fovs, metadata.n_frames, metadata.n_planes) == (1, n_frames, n_planes)
    assert metadata.channel_names == channel_names
    assert (metadata.height, metadata.width, metadata.dtype.name) == (height, height, "uint16")
    assert metadata.pixel_size_um == pytest.approx(pixel_size_um, abs=1e-6)


@pytest.mark.parametrize("path", [*map(variant, GOOD_VARIANTS), *sorted(REAL.glob("*.nd2"))], ids=lambda p: p.stem)
def test_every_pixel_is_what_nd2_reads(path: Path) -> None:
    with nd2.ND2File(path) as file:
        axes = "".join(axis for axis in "TPZCYX" if axis not in file.sizes)
        images = np.expand_dims(file.asarray(), tuple("TPZCYX".index(axis) for axis in axes))
    with open_recording(path, 0) as recording:
        for fov in range(recording.metadata.n_fovs):
            for frame in range(recording.metadata.n_frames):
                np.testing.assert_array_equal(recording.read_frame(fov, frame), images[frame, fov, 0])


@pytest.mark.parametrize("name", GOOD_VARIANTS)
def test_frames_are_contiguous_arrays_of_their_own(name: str) -> None:
    with open_recording(variant(name)) as recording:
        image = recording.read_frame(0, 0)
    assert image.shape == (recording.metadata.n_channels, recording.metadata.height, recording.metadata.width)
    assert image.dtype == recording.metadata.dtype
    assert image.flags.c_contiguous
    assert image.flags.owndata
    assert image.flags.writeable


@pytest.mark.parametrize("name", sorted(GOOD_VARIANTS.keys() - {"t_p_z_c2"}))
def test_frames_come_from_their_place_in_the_sequence(name: str) -> None:
    with open_recording(variant(name)) as recording:
        n_fovs, n_frames = recording.metadata.n_fovs, recording.metadata.n_frames
        first_pixels = [
            [recording.read_frame(fov, frame)[0, 0, 0] for frame in range(n_frames)] for fov in range(n_fovs)
        ]
    expected = np.arange(n_frames * n_fovs).reshape(n_frames, n_fovs).T
    np.testing.assert_array_equal(first_pixels, expected)


@pytest.mark.parametrize("order", ["PTZ", "PZT", "ZTP", "ZPT", "TZP"])
def test_loops_may_be_nested_in_any_order(tmp_path: Path, order: str) -> None:
    source = variant("t_p_z_c2")
    by_axis = dict(zip("TPZ", loops_of(source), strict=True))
    chunks = chunks_of(source) | {b"ImageMetadataLV!": nested([by_axis[axis] for axis in order])}
    path = write_chunks(tmp_path / "reordered.nd2", chunks)
    counts = {"T": 2, "P": 2, "Z": 3}
    sequence = np.arange(12).reshape([counts[axis] for axis in order])
    expected = sequence.transpose([order.index(axis) for axis in "PTZ"])
    for plane in range(3):
        with open_recording(path, plane) as recording:
            for fov, frame in np.ndindex(2, 2):
                assert recording.read_frame(fov, frame)[0, 0, 0] == expected[fov, frame, plane]


def test_lossless_compression(tmp_path: Path) -> None:
    source = variant("odd_size")
    chunks = attributes_with(source, eCompression=0)
    for number in range(6):
        data = chunks[FRAME % number]
        chunks[FRAME % number] = data[:8] + zlib.compress(data[8:])
    path = write_chunks(tmp_path / "compressed.nd2", chunks)
    with open_recording(source) as plain, open_recording(path) as compressed:
        for fov, frame in np.ndindex(2, 3):
            np.testing.assert_array_equal(compressed.read_frame(fov, frame), plain.read_frame(fov, frame))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 7), (3, 1, 1), (2, 1, 5), (2, 5, 1), (3, 37, 53), (5, 6, 4)])
def test_any_image_shape(tmp_path: Path, shape: tuple[int, int, int], dtype: type[np.generic]) -> None:
    images = random_images(2, 2, *shape, dtype=dtype)
    with open_recording(write_recording(tmp_path / "any.nd2", images)) as recording:
        for fov, frame in np.ndindex(2, 2):
            np.testing.assert_array_equal(recording.read_frame(fov, frame), images[fov, frame])


def test_a_hundred_and_thirty_channels(tmp_path: Path) -> None:
    images = random_images(1, 1, 130, 4, 5)
    path = write_recording(tmp_path / "many.nd2", images, channel_names=[f"λ{index}" for index in range(130)])
    with open_recording(path) as recording:
        np.testing.assert_array_equal(recording.read_frame(0, 0), images[0, 0])


def test_pixel_size_is_none_where_the_file_does_not_tell(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "uncalibrated.nd2", random_images(), pixel_size_um=None)
    assert metadata_of(path).pixel_size_um is None


# Planes of a Z stack


@pytest.mark.parametrize(("z_plane", "plane"), [(0, 0), (1, 1), (2, 2), ("middle", 1)])
def test_a_chosen_plane_is_read(z_plane: ZPlane, plane: int) -> None:
    with open_recording(variant("t_p_z_c2"), z_plane) as recording:
        for fov, frame in np.ndindex(2, 2):
            assert recording.read_frame(fov, frame)[0, 0, 0] == frame * 6 + fov * 3 + plane


def test_maximum_projection_is_over_all_planes() -> None:
    path = REAL / "example-zstack.nd2"
    with nd2.ND2File(path) as file:
        expected = file.asarray().max(axis=0)
    with open_recording(path, "max") as recording:
        np.testing.assert_array_equal(recording.read_frame(0, 0)[0], expected)


@pytest.mark.parametrize("z_plane", [0, "middle", "max"])
def test_without_a_stack_the_only_plane_is_read(z_plane: ZPlane) -> None:
    with open_recording(variant("t_c2"), z_plane) as recording:
        assert recording.read_frame(0, 2)[0, 0, 0] == 2


@pytest.mark.parametrize("z_plane", [3, -1, True, "bottom", 1.0])
def test_a_plane_that_does_not_exist_is_refused(z_plane: Any) -> None:
    with pytest.raises(InvalidParametersError, match=r"z_plane.*3 planes: 0 to 2, middle and max are allowed"):
        open_recording(variant("t_p_z_c2"), z_plane)


# Times


def test_recorded_times_are_used(tmp_path: Path) -> None:
    times_min = np.array([[0.1, 7.0, 31.5], [0.4, 7.2, 31.75]])
    path = write_recording(tmp_path / "times.nd2", random_images(2, 3), times_min=times_min)
    metadata = metadata_of(path)
    np.testing.assert_allclose(metadata.times_min, times_min, rtol=0, atol=1e-12)
    assert metadata.warnings == ()


def test_times_count_from_the_recordings_own_zero() -> None:
    times_min = metadata_of(REAL / "example-timelapse.nd2").times_min
    assert times_min[0, 0] * 60_000 == pytest.approx(4227.198, abs=1e-3)
    assert np.diff(times_min[0]) * 60 == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize(("z_plane", "plane"), [(2, 2), ("middle", 1), ("max", 0)])
def test_times_are_those_of_the_plane_that_is_read(z_plane: ZPlane, plane: int) -> None:
    first_fov = metadata_of(variant("t_p_z_c2"), z_plane).times_min[0]
    np.testing.assert_allclose(first_fov, [plane * 50 / 60, (6 + plane) * 50 / 60])


def test_without_recorded_times_the_period_of_the_loop_is_used() -> None:
    metadata = metadata_of(variant("no_times"))
    np.testing.assert_allclose(metadata.times_min, np.tile([0.0, 5.0, 10.0, 15.0], (2, 1)))
    assert "period" in metadata.warnings[0]


def test_without_times_and_period_frame_numbers_stand_for_minutes(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "t.nd2", random_images(), with_times=False, period_min=0)
    metadata = metadata_of(path)
    np.testing.assert_array_equal(metadata.times_min, [[0.0, 1.0, 2.0]])
    assert "frame numbers" in metadata.warnings[0]


def test_without_recorded_times_phases_of_different_period_follow_each_other(tmp_path: Path) -> None:
    period = loops_of(variant("t_only"))[0]["uLoopPars"]
    phases = [{**period, "uiCount": 3, "dPeriod": 60_000.0}, {**period, "uiCount": 2, "dPeriod": 600_000.0}]
    loop = {"eType": 8, "uLoopPars": {"pPeriod": phases, "pPeriodValid": [True, True]}}
    chunks = chunks_of(variant("t_only")) | {b"ImageMetadataLV!": nested([loop])}
    del chunks[b"CustomData|AcqTimesCache!"]
    metadata = metadata_of(write_chunks(tmp_path / "phases.nd2", chunks))
    np.testing.assert_allclose(metadata.times_min, [[0.0, 1.0, 2.0, 3.0, 13.0]])


def test_only_the_fov_without_all_its_times_takes_the_period(tmp_path: Path) -> None:
    times_min = np.array([[1.0, 12.0, 23.0], [2.0, 13.0, np.nan]])
    path = write_recording(tmp_path / "t.nd2", random_images(2, 3), times_min=times_min)
    metadata = metadata_of(path)
    np.testing.assert_allclose(metadata.times_min, [[1.0, 12.0, 23.0], [0.0, 10.0, 20.0]])
    assert "1 of 2 FOVs, the first is FOV 1" in metadata.warnings[0]


@pytest.mark.filterwarnings("error")
def test_missing_times_make_no_python_warning() -> None:
    metadata_of(variant("no_times"))


# Frames that are not there


def test_a_missing_frame_is_an_error_and_not_zeros(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "gap.nd2", random_images(2, 3), missing={(1, 2)})
    with (
        open_recording(path) as recording,
        pytest.raises(MissingFrameError, match=r"gap\.nd2'.*FOV 1, frame 2 is missing"),
    ):
        recording.read_frame(1, 2)


def test_check_frames_names_the_first_missing_frame(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "gap.nd2", random_images(2, 4), missing={(1, 3), (1, 1)})
    with open_recording(path) as recording, pytest.raises(MissingFrameError, match="FOV 1, frame 1 is"):
        recording.check_frames(1)


def test_other_fovs_are_not_touched_by_a_missing_frame(tmp_path: Path) -> None:
    images = random_images(2, 3)
    path = write_recording(tmp_path / "gap.nd2", images, missing={(1, 2)})
    with open_recording(path) as recording:
        recording.check_frames(0)
        np.testing.assert_array_equal(recording.read_frame(0, 2), images[0, 2])


def test_a_missing_plane_is_named(tmp_path: Path) -> None:
    chunks = chunks_of(variant("t_p_z_c2"))
    del chunks[FRAME % 8]
    path = write_chunks(tmp_path / "gap.nd2", chunks)
    with (
        open_recording(path, "max") as recording,
        pytest.raises(MissingFrameError, match="FOV 0, frame 1, plane 2"),
    ):
        recording.check_frames(0)


def test_a_plane_that_is_not_read_may_be_missing(tmp_path: Path) -> None:
    chunks = chunks_of(variant("t_p_z_c2"))
    del chunks[FRAME % 8]
    with open_recording(write_chunks(tmp_path / "gap.nd2", chunks), "middle") as recording:
        recording.check_frames(0)


def test_a_frame_beyond_the_end_of_the_file_is_missing(tmp_path: Path) -> None:
    content = bytearray(variant("t_only").read_bytes())
    entry = content.rindex(FRAME % 3) + len(FRAME % 3)
    content[entry : entry + 8] = (len(content) - 100).to_bytes(8, "little")
    path = tmp_path / "beyond.nd2"
    path.write_bytes(content)
    with open_recording(path) as recording, pytest.raises(MissingFrameError, match=r"frame 3.*beyond the end"):
        recording.check_frames(0)


def test_a_frame_that_was_overwritten_is_missing(tmp_path: Path) -> None:
    content = bytearray(variant("t_only").read_bytes())
    start = content.index(FRAME % 3) - 16
    content[start : start + 4096] = bytes(4096)
    path = tmp_path / "hole.nd2"
    path.write_bytes(content)
    with open_recording(path) as recording, pytest.raises(MissingFrameError, match=r"frame 3.*something else"):
        recording.read_frame(0, 3)


def test_a_frame_that_is_cut_short_is_missing(tmp_path: Path) -> None:
    chunks = chunks_of(variant("t_only"))
    chunks[FRAME % 3] = chunks[FRAME % 3][:-1]
    path = write_chunks(tmp_path / "short.nd2", chunks)
    with open_recording(path) as recording, pytest.raises(MissingFrameError, match=r"frame 3.*only a part"):
        recording.read_frame(0, 3)


def test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "shrinks.nd2", random_images())
    with open_recording(path) as recording:
        os.truncate(path, 8192)
        with pytest.raises(MissingFrameError, match="beyond the end of the file at 8192 bytes"):
            recording.read_frame(0, 2)


def test_compressed_data_that_are_corrupt_name_fov_and_frame(tmp_path: Path) -> None:
    chunks = attributes_with(variant("t_p_c2"), eCompression=0)
    for number in range(6):
        chunks[FRAME % number] = chunks[FRAME % number][:8] + zlib.compress(chunks[FRAME % number][8:])
    chunks[FRAME % 3] = chunks[FRAME % 3][:40] + b"\xff" * 40 + chunks[FRAME % 3][80:]
    path = write_chunks(tmp_path / "corrupt.nd2", chunks)
    with (
        open_recording(path) as recording,
        pytest.raises(RecordingError, match=r"corrupt\.nd2'.*FOV 1, frame 1 cannot be decoded"),
    ):
        recording.read_frame(1, 1)


@pytest.mark.parametrize(("fov", "frame"), [(2, 0), (-1, 0), (0, 3), (0, -1)])
def test_frames_outside_the_recording_are_refused(fov: int, frame: int) -> None:
    with (
        open_recording(variant("t_p_c2")) as recording,
        pytest.raises(InvalidParametersError, match=r"has no (FOV|frame) .*: 0 to \d are allowed"),
    ):
        recording.read_frame(fov, frame)


def test_frames_of_a_fov_outside_the_recording_cannot_be_checked() -> None:
    with open_recording(variant("t_p_c2")) as recording, pytest.raises(InvalidParametersError, match="no FOV 2"):
        recording.check_frames(2)


# Files that are no recordings


@pytest.mark.parametrize(
    ("name", "reason"),
    [("empty", "empty"), ("not_an_nd2", "not an ND2 file"), ("truncated", "truncated or still being written")],
)
def test_broken_files_are_refused(name: str, reason: str) -> None:
    with pytest.raises(RecordingError, match=rf"{name}\.nd2' cannot be read: .*{reason}"):
        open_recording(variant(name))


@pytest.mark.parametrize("path", ["nothing.nd2", "t_c2.nd2/inside.nd2", "x" * 5000, "nul\0.nd2", "\udcff\ud800.nd2"])
def test_a_path_that_leads_nowhere_is_not_found(path: str) -> None:
    with pytest.raises(RecordingNotFoundError, match="does not exist") as caught:
        open_recording(VARIANTS / path)
    assert len(str(caught.value).encode()) < 600


def test_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.nd2").mkdir()
    with pytest.raises(RecordingError, match=r"folder\.nd2' cannot be read: it is not a file but a folder"):
        open_recording(tmp_path / "folder.nd2")


@pytest.mark.timeout(10)
def test_a_fifo_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.nd2")
    with pytest.raises(RecordingError, match="not a file but a FIFO"):
        open_recording(tmp_path / "fifo.nd2")


def test_a_device_is_refused() -> None:
    with pytest.raises(RecordingError, match="not a file but a device"):
        open_recording("/dev/zero")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "secret.nd2", random_images())
    path.chmod(0)
    with pytest.raises(RecordingError, match=r"secret\.nd2' cannot be read: Permission denied"):
        open_recording(path)


@pytest.mark.parametrize("name", ["film.xyz", "film"])
def test_an_unknown_format_is_refused_with_the_known_ones(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"content")
    with pytest.raises(RecordingError, match=rf"{name}' cannot be read.*known are {re.escape(known_suffixes()[0])}"):
        open_recording(tmp_path / name)


def test_the_ending_may_be_in_capitals(tmp_path: Path) -> None:
    assert metadata_of(write_recording(tmp_path / "FILM.ND2", random_images())).base_name == "FILM"


def test_old_files_in_jpeg_2000_are_refused(tmp_path: Path) -> None:
    (tmp_path / "old.nd2").write_bytes(b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(5000))
    with pytest.raises(RecordingError, match=r"old\.nd2'.*JPEG 2000"):
        open_recording(tmp_path / "old.nd2")


@pytest.mark.parametrize("length", [1, 47, 100, 4096, 20_000, 331_775])
def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "cut.nd2"
    path.write_bytes(variant("t_p_z_c2").read_bytes()[:length])
    with pytest.raises(RecordingError, match=r"cut\.nd2' cannot be read"):
        open_recording(path)


@pytest.mark.parametrize("seed", range(40))
def test_damaged_metadata_raise_nothing_but_recording_errors(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    content = np.frombuffer(variant("single").read_bytes(), np.uint8).copy()
    # Behind the image: attributes, metadata, times and the map of chunks.
    content[rng.integers(20_000, content.size, 30)] = rng.integers(0, 256, 30)
    path = tmp_path / "damaged.nd2"
    path.write_bytes(content.tobytes())
    try:
        with open_recording(path) as recording:
            recording.check_frames(0)
            recording.read_frame(0, 0)
    except RecordingError as error:
        assert "damaged.nd2'" in str(error)  # noqa: PT017 - whether it fails depends on what was hit


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"uiComp": 3}, "3 colour components in 1 channels, as from an RGB camera"),
        ({"uiHeight": 0}, "0 x 80 pixels"),
        ({"uiWidth": 100}, "rows of 100 pixels have only 160 bytes"),
        ({"eCompression": 1}, "compressed with losses"),
        ({"uiBpcInMemory": 64, "uiWidthBytes": 640}, "64 bits per pixel"),
    ],
)
def test_images_that_cannot_be_processed_are_refused(tmp_path: Path, changes: dict[str, int], reason: str) -> None:
    path = write_chunks(tmp_path / "odd.nd2", attributes_with(variant("single"), **changes))
    with pytest.raises(RecordingError, match=rf"odd\.nd2' cannot be read: .*{reason}"):
        open_recording(path)


def test_a_file_without_images_is_refused(tmp_path: Path) -> None:
    chunks = chunks_of(variant("single"))
    del chunks[FRAME % 0]
    with pytest.raises(RecordingError, match="holds no images"):
        open_recording(write_chunks(tmp_path / "none.nd2", chunks))


def test_many_images_in_no_order_are_refused(tmp_path: Path) -> None:
    chunks = chunks_of(variant("t_only"))
    del chunks[b"ImageMetadataLV!"]
    with pytest.raises(RecordingError, match="5 images and does not tell their order"):
        open_recording(write_chunks(tmp_path / "heap.nd2", chunks))


def test_an_unbelievable_number_of_frames_is_refused(tmp_path: Path) -> None:
    time_loop = loops_of(variant("t_only"))[0]
    endless = {**time_loop, "uLoopPars": {**time_loop["uLoopPars"], "uiCount": 2_000_000_000}}
    chunks = chunks_of(variant("t_only")) | {b"ImageMetadataLV!": nested([endless])}
    with pytest.raises(RecordingError, match="announces 2000000000 images"):
        open_recording(write_chunks(tmp_path / "endless.nd2", chunks))


def test_two_loops_over_one_axis_are_refused(tmp_path: Path) -> None:
    loops = loops_of(variant("t_p_c2"))
    chunks = chunks_of(variant("t_p_c2")) | {b"ImageMetadataLV!": nested([*loops, loops[0]])}
    with pytest.raises(RecordingError, match="nested loops over the same axis: T, P, T"):
        open_recording(write_chunks(tmp_path / "twice.nd2", chunks))


# Around it


def test_metadata_need_no_heavy_libraries() -> None:
    program = (
        "import sys; from tasks.acquisition import open_recording, suggest_channels\n"
        "with open_recording(sys.argv[1]) as recording:\n"
        "    recording.check_frames(0)\n"
        "    suggest_channels(recording.metadata).channels()\n"
        "print(sorted({'cv2', 'scipy', 'numba', 'skimage', 'dask', 'pandas'} & sys.modules.keys()))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, str(variant("t_c2"))],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    assert result.stdout.strip() == "[]"


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def test_closing_leaves_no_open_file(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "film.nd2", random_images())
    before = open_files()
    for _ in range(3):
        with open_recording(path) as recording:
            recording.read_frame(0, 0)
    assert open_files() == before


def test_a_refused_file_is_closed_again(tmp_path: Path) -> None:
    before = open_files()
    for _ in range(3):
        with pytest.raises(InvalidParametersError):
            open_recording(variant("single"), 1)
    assert open_files() == before
