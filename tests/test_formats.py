"""The same recording in every format: the same frames, metadata and traces, and clear errors where it is broken."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import tifffile
import zarr
from numpy.typing import NDArray

from tasks.acquisition import RecordingMetadata, ZPlane, open_recording, recording_files, suggest_channels
from tasks.configuration import Channels, Parameters, WorkflowRequest
from tasks.errors import InvalidParametersError, MissingFrameError, RecordingError, RecordingNotFoundError
from tasks.fov_job import FovJob
from tasks.output import FovLayout, ensure_folder, input_fingerprint
from tasks.plan import make_plan
from tasks.simulation import SimulationSettings, simulate
from tests.format_writers import (
    WRITERS,
    Film,
    attach_czi_times,
    czi_images,
    film_of,
    ome_xml,
    write_nd2,
    write_ome_tiff,
    write_ome_tiff_set,
    write_tiff_series,
    write_tiff_stacks,
    write_zarr_04,
    write_zarr_05,
    write_zarr_image,
)
from tests.recordings import DATA, random_images

FORMATS = sorted(WRITERS)
HOLDS_STAMPS = {"nd2", "czi", "ome-tiff", "ome-tiff-set", "ome-zarr-0.4"}
"""Formats that can hold a time of its own for each FOV and frame."""


def metadata_of(path: Path, z_plane: ZPlane = "middle") -> RecordingMetadata:
    with open_recording(path, z_plane) as recording:
        return recording.metadata


def refusal(path: Path, error: type[RecordingError] = RecordingError) -> str:
    """What is said of a recording that cannot be opened."""
    with pytest.raises(error) as caught:
        open_recording(path)
    assert path.name in str(caught.value)
    return str(caught.value)


def frames_of(path: Path, z_plane: ZPlane = "middle") -> NDArray[Any]:
    """(P, T, C, H, W) all frames of a recording."""
    with open_recording(path, z_plane) as recording:
        metadata = recording.metadata
        for fov in range(metadata.n_fovs):
            recording.check_frames(fov)
        return np.array(
            [[recording.read_frame(fov, frame) for frame in range(metadata.n_frames)] for fov in range(metadata.n_fovs)]
        )


def written(folder: Path, name: str, **options: Any) -> Path:
    """A small recording in a format."""
    return WRITERS[name](folder, film_of(random_images(2, 4), **options))


# What every format holds


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_frames_are_those_that_were_written(tmp_path: Path, name: str, dtype: type[np.generic]) -> None:
    images = random_images(3, 4, 2, 37, 53, dtype=dtype)
    found = frames_of(WRITERS[name](tmp_path, film_of(images)))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, images)


@pytest.mark.parametrize("name", FORMATS)
def test_metadata_are_those_that_were_written(tmp_path: Path, name: str) -> None:
    film = film_of(random_images(2, 3, 3, 30, 40))
    metadata, expected = metadata_of(WRITERS[name](tmp_path, film)), metadata_of(write_nd2(tmp_path, film))
    assert metadata.sizes == expected.sizes
    assert metadata.channel_names == expected.channel_names
    assert metadata.dtype == expected.dtype
    assert metadata.pixel_size_um == pytest.approx(0.65)
    np.testing.assert_array_equal(metadata.times_min, expected.times_min)
    assert suggest_channels(metadata) == suggest_channels(expected)
    assert metadata.base_name == ("film_s0_c0" if name == "ome-tiff-set" else "film")


@pytest.mark.parametrize("name", sorted(HOLDS_STAMPS))
def test_each_frame_has_its_own_time(tmp_path: Path, name: str) -> None:
    film = film_of(random_images(2, 3))
    times_min = np.array([[0.0, 7.25, 31.5], [0.5, 7.75, 32.0]])
    path = WRITERS[name](tmp_path, Film(**{**vars(film), "times_min": times_min}))
    metadata = metadata_of(path)
    np.testing.assert_allclose(metadata.times_min, times_min, rtol=0, atol=1e-9)
    assert metadata.warnings == ()


@pytest.mark.parametrize("name", sorted(HOLDS_STAMPS - {"czi"}))
def test_only_the_fov_without_all_its_times_takes_the_period(tmp_path: Path, name: str) -> None:
    film = film_of(random_images(2, 3))
    times_min = np.array([[1.0, 12.0, 23.0], [2.0, 13.0, np.nan]])
    metadata = metadata_of(WRITERS[name](tmp_path, Film(**{**vars(film), "times_min": times_min})))
    np.testing.assert_allclose(metadata.times_min, [[1.0, 12.0, 23.0], [0.0, 10.0, 20.0]])
    assert "1 of 2 FOVs, the first is FOV 1" in metadata.warnings[0]


@pytest.mark.parametrize("name", FORMATS)
def test_without_times_and_period_frame_numbers_stand_for_minutes(tmp_path: Path, name: str) -> None:
    metadata = metadata_of(written(tmp_path, name, with_times=False, period_min=0))
    np.testing.assert_array_equal(metadata.times_min, np.tile([0.0, 1.0, 2.0, 3.0], (2, 1)))
    assert "frame numbers" in metadata.warnings[0]


@pytest.mark.parametrize("name", sorted(WRITERS.keys() - {"nd2"}))
@pytest.mark.parametrize("z_plane", [0, 2, "middle", "max"])
def test_the_chosen_plane_is_read(tmp_path: Path, name: str, z_plane: ZPlane) -> None:
    images = random_images(2, 6, 2, 30, 40).reshape(2, 2, 3, 2, 30, 40).swapaxes(2, 3)
    path = WRITERS[name](tmp_path, film_of(images))
    expected = images.max(axis=3) if z_plane == "max" else images[:, :, :, 1 if z_plane == "middle" else z_plane]
    np.testing.assert_array_equal(frames_of(path, z_plane), expected)
    assert metadata_of(path).n_planes == 3
    with pytest.raises(InvalidParametersError, match="3 planes: 0 to 2, middle and max are allowed"):
        open_recording(path, 3)


@pytest.mark.parametrize("name", FORMATS)
def test_a_missing_frame_is_an_error_of_its_fov_alone(tmp_path: Path, name: str) -> None:
    images = random_images(2, 4)
    path = WRITERS[name](tmp_path, film_of(images, missing={(1, 2)}))
    with open_recording(path) as recording:
        recording.check_frames(0)
        np.testing.assert_array_equal(recording.read_frame(0, 2), images[0, 2])
        np.testing.assert_array_equal(recording.read_frame(1, 1), images[1, 1])
        with pytest.raises(MissingFrameError, match=r"film.*FOV 1, frame 2.* is missing"):
            recording.check_frames(1)
        with pytest.raises(MissingFrameError, match=r"film.*FOV 1, frame 2.* is missing"):
            recording.read_frame(1, 2)


@pytest.mark.parametrize("name", FORMATS)
def test_frames_go_into_given_memory_in_any_order(tmp_path: Path, name: str) -> None:
    images = random_images(2, 4)
    out = np.empty_like(images[0, 0])
    with open_recording(WRITERS[name](tmp_path, film_of(images))) as recording:
        for fov, frame in [(1, 3), (0, 0), (1, 0), (1, 1), (0, 3), (1, 3)]:
            assert recording.read_frame(fov, frame, out=out) is out
            np.testing.assert_array_equal(out, images[fov, frame])


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(("fov", "frame"), [(2, 0), (-1, 0), (0, 4), (0, -1)])
def test_frames_outside_the_recording_are_refused(tmp_path: Path, name: str, fov: int, frame: int) -> None:
    with (
        open_recording(written(tmp_path, name)) as recording,
        pytest.raises(InvalidParametersError, match=r"has no (FOV|frame) .*: 0 to \d are allowed"),
    ):
        recording.read_frame(fov, frame)


@pytest.mark.parametrize("name", FORMATS)
def test_closing_leaves_no_open_file(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, name)
    frames_of(path)  # whatever the libraries keep for themselves is there now
    before = set(Path("/dev/fd").iterdir())
    frames_of(path)
    with pytest.raises(InvalidParametersError):
        open_recording(path, 7)
    assert set(Path("/dev/fd").iterdir()) == before


@pytest.mark.parametrize("name", FORMATS)
def test_metadata_need_no_heavy_libraries(tmp_path: Path, name: str) -> None:
    program = (
        "import sys; from tasks.acquisition import open_recording, suggest_channels\n"
        "loaded = {'nd2', 'pylibCZIrw', 'tifffile', 'zarr'} & sys.modules.keys()\n"
        "with open_recording(sys.argv[1]) as recording:\n"
        "    recording.check_frames(0)\n"
        "    suggest_channels(recording.metadata).channels()\n"
        "print(loaded, sorted({'cv2', 'scipy', 'numba', 'skimage', 'dask', 'pandas'} & sys.modules.keys()))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, str(written(tmp_path, name))],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    assert result.stdout.strip() == "set() []"


# Traces


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Film:
    """A simulated film of two FOVs."""
    path = tmp_path_factory.mktemp("simulated") / "film.nd2"
    settings = SimulationSettings(n_fovs=2, n_frames=4, height=260, width=280, border_margin=20)
    simulate(settings, path)
    metadata = metadata_of(path)
    film = film_of(frames_of(path), channel_names=metadata.channel_names)
    return Film(**{**vars(film), "times_min": metadata.times_min})


def traces(recording: Path, output_dir: Path) -> list[bytes]:
    """The tables of traces of both FOVs."""
    plan = make_plan(
        WorkflowRequest(
            microscopy_path=str(recording),
            output_dir=str(output_dir),
            channels=Channels.model_validate(
                {"phase": {"channel": 0}, "fluorescence": [{"channel": 1, "features": ["intensity_total"]}]}
            ),
            parameters=Parameters(min_frames=2, border_margin=5, keep="none"),
        )
    )
    job = FovJob.of(plan)
    ensure_folder(output_dir)
    for fov in plan.fovs:
        job.run(fov)
    layouts = [FovLayout(plan.metadata.base_name, fov) for fov in plan.fovs]
    return [(output_dir / layout.directory / layout.traces).read_bytes() for layout in layouts]


@pytest.fixture(scope="module")
def nd2_traces(simulated: Film, tmp_path_factory: pytest.TempPathFactory) -> dict[bool, list[bytes]]:
    """Traces of the film as ND2, with its time stamps and without."""
    folder = tmp_path_factory.mktemp("nd2")
    with_stamps = traces(write_nd2(folder, simulated), folder / "stamps")
    return {True: with_stamps, False: traces(write_nd2(folder, without_stamps(simulated)), folder / "none")}


def without_stamps(film: Film) -> Film:
    return Film(**{**vars(film), "times_min": None})


@pytest.mark.parametrize("name", sorted(WRITERS.keys() - {"nd2"}))
def test_traces_are_the_same_bytes_whatever_the_format(
    simulated: Film, nd2_traces: dict[bool, list[bytes]], tmp_path: Path, name: str
) -> None:
    (tmp_path / "film").mkdir()
    with_stamps = name in HOLDS_STAMPS
    film = simulated if with_stamps else without_stamps(simulated)
    found = traces(WRITERS[name](tmp_path / "film", film), tmp_path / "out")
    assert found == nd2_traces[with_stamps]
    assert all(table.count(b"\n") > 8 for table in found)


# Broken recordings


@pytest.mark.parametrize("name", ["czi", "ome-tiff", "nd2"])
@pytest.mark.parametrize("share", [0.001, 0.3, 0.6, 0.98])
def test_a_truncated_file_is_refused_when_it_is_opened(tmp_path: Path, name: str, share: float) -> None:
    path = written(tmp_path, name)
    os.truncate(path, int(path.stat().st_size * share))
    assert "cannot be read" in refusal(path)


@pytest.mark.parametrize("name", ["czi", "ome-tiff", "ome-tiff-set", "tiff-series", "nd2"])
@pytest.mark.parametrize("content", [b"", b"garbage" * 100, bytes(5000)])
def test_a_file_of_something_else_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    path = written(tmp_path, name)
    broken = sorted(tmp_path.glob("*.tif"))[0] if name == "tiff-series" else path
    broken.write_bytes(content)
    said = refusal(path)
    assert "is empty" in said if not content else "cannot be read" in said


@pytest.mark.parametrize("name", sorted(WRITERS.keys() - {"nd2"}))
@pytest.mark.parametrize("seed", range(12))
def test_damaged_files_raise_nothing_but_recording_errors(tmp_path: Path, name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    path = written(tmp_path, name)
    for file in recording_files(path):
        content = np.frombuffer(file.read_bytes(), np.uint8).copy()
        content[rng.integers(0, content.size, max(1, content.size // 200))] = rng.integers(0, 256)
        file.write_bytes(content.tobytes())
    try:
        frames_of(path)
    except RecordingError as error:
        assert "film" in str(error)  # noqa: PT017 - whether it fails depends on what was hit


@pytest.mark.parametrize("name", ["ome-tiff", "czi"])
def test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, name)
    with open_recording(path) as recording:
        recording.read_frame(0, 0)
        os.truncate(path, 4000)
        with pytest.raises(RecordingError, match=rf"{path.name}'.*FOV 1, frame 3"):
            recording.read_frame(1, 3)


# CZI


def test_a_czi_of_two_scenes() -> None:
    path = DATA / "czi" / "t_s_c2.czi"
    metadata = metadata_of(path)
    assert metadata.sizes == {"P": 2, "T": 3, "Z": 1, "C": 2, "Y": 64, "X": 80}
    assert (metadata.channel_names, metadata.pixel_size_um) == (("Phase", "GFP"), 0.65)
    assert frames_of(path).shape == (2, 3, 2, 64, 80)


def test_times_of_a_czi_come_from_its_time_points_where_images_have_none(tmp_path: Path) -> None:
    path = written(tmp_path, "czi", with_times=False)
    attach_czi_times(path, [1.5, 60.0, 120.0, 240.0])
    metadata = metadata_of(path)
    np.testing.assert_allclose(metadata.times_min, np.tile([0.025, 1.0, 2.0, 4.0], (2, 1)))
    assert metadata.warnings == ()


def test_a_mosaic_is_refused(tmp_path: Path) -> None:
    from pylibCZIrw import czi

    path = tmp_path / "mosaic.czi"
    with czi.create_czi(str(path)) as file:
        for x in (0, 36):
            file.write(np.ones((32, 40, 1), np.uint16), location=(x, 0), plane={"T": 0, "C": 0, "Z": 0})
        file.write_metadata("mosaic")
    assert "it is a mosaic" in refusal(path)


@pytest.mark.parametrize(
    ("tiles", "reason"),
    [
        ([np.ones((32, 40, 3), np.uint8)], "in colour"),
        ([np.ones((32, 40, 1), np.uint16), np.ones((32, 41, 1), np.uint16)], "differ in size or kind"),
        ([np.ones((32, 40, 1), np.uint16), np.ones((32, 40, 1), np.uint8)], "differ in size or kind"),
    ],
)
def test_a_czi_of_images_that_cannot_be_processed_is_refused(
    tmp_path: Path, tiles: list[NDArray[Any]], reason: str
) -> None:
    from pylibCZIrw import czi

    path = tmp_path / "odd.czi"
    with czi.create_czi(str(path)) as file:
        for frame, tile in enumerate(tiles):
            file.write(tile, plane={"T": frame, "C": 0, "Z": 0})
        file.write_metadata("odd")
    assert reason in refusal(path)


def test_an_image_of_a_czi_that_was_overwritten_is_missing(tmp_path: Path) -> None:
    path = written(tmp_path, "czi", with_times=False)
    content = bytearray(path.read_bytes())
    position = czi_images(path)[1, 2, 0, 0][1]
    content[position : position + 32] = bytes(32)
    path.write_bytes(content)
    with open_recording(path) as recording, pytest.raises(MissingFrameError, match=r"frame 2.*something else"):
        recording.check_frames(1)


# OME-TIFF


def test_any_file_of_a_set_stands_for_all(tmp_path: Path) -> None:
    images = random_images(2, 4)
    first = write_ome_tiff_set(tmp_path, film_of(images))
    for path in sorted(tmp_path.glob("*.ome.tif")):
        np.testing.assert_array_equal(frames_of(path), images)
        assert input_fingerprint(path) == input_fingerprint(first)
        assert len(recording_files(path)) == 4


def test_a_companion_file_stands_for_its_set(tmp_path: Path) -> None:
    images = random_images(2, 4)
    path = write_ome_tiff(tmp_path, film_of(images), lambda fov, *_: f"p{fov}.ome.tif", companion="film.companion.ome")
    np.testing.assert_array_equal(frames_of(path), images)
    np.testing.assert_array_equal(frames_of(tmp_path / "p1.ome.tif"), images)
    assert {file.name for file in recording_files(tmp_path / "p1.ome.tif")} == {
        "film.companion.ome", "p0.ome.tif", "p1.ome.tif"
    }  # fmt: skip
    path.unlink()
    assert "film.companion.ome', which has the metadata, is not beside it" in refusal(tmp_path / "p1.ome.tif")


def test_a_file_that_was_renamed_is_the_one_its_xml_means(tmp_path: Path) -> None:
    images = random_images(2, 4)
    path = write_ome_tiff(tmp_path, film_of(images)).rename(tmp_path / "renamed.tif")
    np.testing.assert_array_equal(frames_of(path), images)


def test_a_missing_file_of_a_set_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, "ome-tiff-set")
    (tmp_path / "film_s1_c0.ome.tif").unlink()
    assert "its file 'film_s1_c0.ome.tif' is not beside it" in refusal(path)


@pytest.mark.parametrize("content", [b"", b"II*\0garbage"])
def test_a_broken_file_of_a_set_is_named(tmp_path: Path, content: bytes) -> None:
    path = written(tmp_path, "ome-tiff-set")
    (tmp_path / "film_s1_c0.ome.tif").write_bytes(content)
    with pytest.raises(RecordingError, match=r"film_s1_c0\.ome\.tif"):
        frames_of(path)


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "zlib"}, {"compression": "lzw"}, {"tile": (16, 16)}, {"rowsperstrip": 5},
        {"compression": "zstd", "predictor": True},
    ],
)  # fmt: skip
def test_pages_may_be_stored_in_any_way(tmp_path: Path, options: dict[str, Any]) -> None:
    images = random_images(1, 2)
    np.testing.assert_array_equal(frames_of(write_ome_tiff(tmp_path, film_of(images), **options)), images)


def test_pages_may_have_the_other_byte_order(tmp_path: Path) -> None:
    images = random_images(1, 2)
    path = write_ome_tiff(tmp_path, film_of(images))
    with tifffile.TiffFile(path) as file:
        text = file.pages.first.description.encode()
    with tifffile.TiffWriter(path, byteorder=">") as writer:
        for number, image in enumerate(images.reshape(-1, *images.shape[-2:])):
            writer.write(image, description=None if number else text, metadata=None, contiguous=False)
    np.testing.assert_array_equal(frames_of(path), images)


def test_strips_that_are_missing_make_a_frame_missing(tmp_path: Path) -> None:
    path = write_ome_tiff(tmp_path, film_of(random_images(1, 3)), compression="zlib", rowsperstrip=8)
    with tifffile.TiffFile(path, mode="r+") as file:
        page = file.pages[3].aspage()
        for name in ("StripOffsets", "StripByteCounts"):
            page.tags[name].overwrite(page.tags[name].value[:3])
    with open_recording(path) as recording, pytest.raises(MissingFrameError, match=r"frame 1.*holds only a part of it"):
        recording.check_frames(0)


def edited(path: Path, *changes: tuple[str, str]) -> Path:
    """Change the OME-XML of a file."""
    with tifffile.TiffFile(path) as file:
        text = file.pages.first.description
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    tifffile.tiffcomment(path, text.encode())
    return path


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("</Pixels>", "</Pixel>", "OME-XML is damaged"),
        ('SizeT="4"', 'SizeT="four"', "SizeT = 'four', which is no count"),
        ('SizeT="4"', 'SizeT="2"', "places an image at T = 2 of 2"),
        ('SizeT="4"', 'SizeT="4000000000"', "announces 16000000000 images, more than its"),
        ('SizeX="40"', 'SizeX="41"', "announces 32 x 41 pixels, but its images are 32 x 40 uint16"),
        ('FirstT="1"', 'FirstT="0"', "two images for FOV 0, frame 0"),
        ('DimensionOrder="XYZCT"', 'DimensionOrder="XYABC"', "unknown order 'ABC'"),
        ('SamplesPerPixel="1"', 'SamplesPerPixel="2"', "as from a colour camera"),
        ('IFD="15"', 'IFD="77"', "truncated or still being written: 'film.ome.tif' ends before page 77"),
        ('<?xml version="1.0" encoding="UTF-8"?>', '<!DOCTYPE a [<!ENTITY b "c">]>', "document type or entities"),
        ('FileName="film.ome.tif"', 'FileName="../film.ome.tif"', "leads out of the folder"),
        ('FileName="film.ome.tif"', 'FileName="/etc/passwd"', "leads out of the folder"),
    ],
)
def test_a_wrong_ome_xml_is_refused(tmp_path: Path, old: str, new: str, reason: str) -> None:
    path = edited(written(tmp_path, "ome-tiff"), (old, new))
    assert reason in refusal(path)


def test_images_of_different_sizes_are_no_fovs_of_one_recording(tmp_path: Path) -> None:
    path = written(tmp_path, "ome-tiff")
    with tifffile.TiffFile(path) as file:
        second = file.pages.first.description.partition("</Image>")[2]
    edited(path, (second, second.replace('SizeX="40"', 'SizeX="20"')))
    assert "image 1 differs from the first in size or channels" in refusal(path)


def test_a_link_of_a_set_that_leads_out_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = written(tmp_path / "in", "ome-tiff-set")
    shutil.move(tmp_path / "in" / "film_s1_c1.ome.tif", tmp_path / "secret.tif")
    (tmp_path / "in" / "film_s1_c1.ome.tif").symlink_to(tmp_path / "secret.tif")
    assert "'film_s1_c1.ome.tif' leads out of the folder of the recording" in refusal(path)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.zeros((32, 40, 3), np.uint8), "colour camera"),
        (np.zeros((32, 40), np.float64), "its pixels are float64; only uint8, uint16, float32"),
        (np.zeros((32, 40), np.int16), "its pixels are int16"),
        (np.zeros((32, 40), np.bool_), "1 bits per pixel"),
    ],
)
def test_pixels_that_cannot_be_processed_are_refused(tmp_path: Path, image: NDArray[Any], reason: str) -> None:
    film = film_of(np.zeros((1, 1, 1, 32, 40), np.uint8))
    text = ome_xml(film, {(0, 0, 0, 0): ("a.ome.tif", 0)})
    tifffile.imwrite(tmp_path / "a.ome.tif", image, description=text.encode(), metadata=None)
    assert reason in refusal(tmp_path / "a.ome.tif")
    tifffile.imwrite(tmp_path / "t0.tif", image, metadata=None)
    assert reason in refusal(tmp_path / "t{time}.tif")


def test_a_plain_tiff_file_is_refused_with_what_to_do(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((32, 40), np.uint16))
    assert "without OME-XML; name the files of a series by a pattern" in refusal(tmp_path / "a.tif")


# TIFF series


def series(folder: Path, *names: str, shape: tuple[int, ...] = (32, 40), dtype: Any = np.uint16) -> None:
    """Write TIFF files."""
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(folder / name, np.full(shape, number, dtype), metadata=None)


def test_a_pattern_alone_names_a_series(tmp_path: Path) -> None:
    film = film_of(random_images(2, 4))
    write_tiff_series(tmp_path, film)
    path = tmp_path / "img_{fov}_{time}_{channel}_{z}.tif"
    np.testing.assert_array_equal(frames_of(path), film.images[:, :, :, 0])
    metadata = metadata_of(path)
    assert (metadata.channel_names, metadata.base_name) == (("x", "y"), "img")
    assert metadata.pixel_size_um is None


def test_folders_may_have_placeholders_and_pages_are_frames_without_time(tmp_path: Path) -> None:
    images = random_images(2, 4)
    path = write_tiff_stacks(tmp_path, film_of(images, channel_names=("BF", "GFP")))
    np.testing.assert_array_equal(frames_of(path), images)
    metadata = metadata_of(path)
    assert (metadata.channel_names, metadata.base_name) == (("BF", "GFP"), "pos")
    assert metadata.n_frames == 4


def test_numbers_are_in_their_order_and_names_in_theirs(tmp_path: Path) -> None:
    series(tmp_path, "A10_t1.tif", "A2_t1.tif", "A2_t2.tif", "A10_t2.tif", "B_t1.tif", "B_t2.tif", "other.tif")
    found = frames_of(tmp_path / "{fov}_t{time}.tif")[:, :, 0, 0, 0]
    np.testing.assert_array_equal(found, [[0, 3], [1, 2], [4, 5]])
    np.testing.assert_array_equal(frames_of(tmp_path / "A{fov}_t{time}.tif")[:, :, 0, 0, 0], [[1, 2], [0, 3]])


@pytest.mark.parametrize(
    ("names", "pattern", "reason"),
    [
        (["a_1.tif", "a_01.tif"], "a_{time}.tif", r"two files are for one image: 'a_.*' and 'a_"),
        (["a_1.tif", "a_2.tif", "a_4.tif"], "a_{time}.tif", "there is no file for time 3, between 2 and 4"),
        (["a_1.tif"], "a_{time}{z}.tif", "placeholders side by side"),
        (["a_1.tif"], "a_{time}_{time}.tif", "has {time} twice"),
    ],
)
def test_series_that_make_no_grid_are_refused(tmp_path: Path, names: list[str], pattern: str, reason: str) -> None:
    series(tmp_path, *names)
    with pytest.raises(RecordingError, match=reason):
        open_recording(tmp_path / pattern)


@pytest.mark.parametrize(
    "pattern",
    ["b_{time}.tif", "none/a_{time}.tif", "a_1.tif/{time}.tif", "nul\0_{time}.tif", "x" * 300 + "{time}.tif"],
)
def test_a_pattern_that_no_file_matches_is_not_found(tmp_path: Path, pattern: str) -> None:
    series(tmp_path, "a_1.tif")
    with pytest.raises(RecordingNotFoundError, match="does not exist"):
        open_recording(tmp_path / pattern)


def test_a_hole_in_the_grid_is_named_by_what_its_file_should_be_called(tmp_path: Path) -> None:
    series(tmp_path, "s1_t7_GFP.tif", "s1_t8_GFP.tif", "s2_t7_GFP.tif")
    with (
        open_recording(tmp_path / "s{fov}_t{time}_{channel}.tif") as recording,
        pytest.raises(
            MissingFrameError, match="FOV 1, frame 1 is missing: there is no file for fov 2, time 8, channel GFP"
        ),
    ):
        recording.check_frames(1)


@pytest.mark.parametrize(("shape", "dtype"), [((32, 41), np.uint16), ((32, 40), np.uint8)])
def test_files_of_different_shape_or_kind_are_refused(tmp_path: Path, shape: tuple[int, int], dtype: Any) -> None:
    series(tmp_path, "a0.tif", "a1.tif")
    series(tmp_path, "a2.tif", shape=shape, dtype=dtype)
    with (
        open_recording(tmp_path / "a{time}.tif") as recording,
        pytest.raises(RecordingError, match=r"'a2\.tif' is .*, but the recording is 32 x 40 uint16"),
    ):
        recording.check_frames(0)


def test_more_pages_than_expected_are_refused(tmp_path: Path) -> None:
    series(tmp_path, "a0.tif", "b0.tif")
    tifffile.imwrite(tmp_path / "a1.tif", np.zeros((3, 32, 40), np.uint16), photometric="minisblack", metadata=None)
    for pattern in ("a{time}.tif", "a{fov}.tif"):
        with (
            open_recording(tmp_path / pattern) as recording,
            pytest.raises(RecordingError, match=r"a1\.tif' has 3 pages, not 1"),
        ):
            recording.check_frames(recording.metadata.n_fovs - 1)


def test_a_stack_of_channels_is_not_taken_for_frames(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a0.tif", np.zeros((3, 2, 32, 40), np.uint16), imagej=True, metadata={"axes": "TCYX"})
    with (
        open_recording(tmp_path / "a{fov}.tif") as recording,
        pytest.raises(RecordingError, match="a stack of ImageJ whose pages are not its frames alone"),
    ):
        recording.check_frames(0)


def test_a_truncated_file_of_a_series_is_missing(tmp_path: Path) -> None:
    series(tmp_path, "a0.tif", "a1.tif")
    os.truncate(tmp_path / "a1.tif", 1000)
    with (
        open_recording(tmp_path / "a{time}.tif") as recording,
        pytest.raises(RecordingError, match=r"frame 1.*a1\.tif"),
    ):
        recording.check_frames(0)


def test_links_of_a_series_that_lead_out_are_refused(tmp_path: Path) -> None:
    series(tmp_path, "in/a0.tif", "secret.tif")
    (tmp_path / "in" / "a1.tif").symlink_to(tmp_path / "secret.tif")
    assert "'a1.tif' leads out of the folder" in refusal(tmp_path / "in" / "a{time}.tif")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("pattern: ../{time}.tif", "leads out of the folder"),
        ("pattern: /etc/{time}.tif", "leads out of the folder"),
        ("pattern: a.tif", "should end with .tif or .tiff and have one of"),
        ("pattern: 'b{time}.tif'", "no file matches the pattern"),
        ("{pattern: 'a{time}.tif', interval: 3}", "interval: unknown field"),
        ("{pattern: 'a{time}.tif', interval_min: -1}", "interval_min: "),
        ("{pattern: 'a{time}.tif', channel_names: [a, b]}", "2 names for 1 channels"),
        ("[", "is no description of a series: line 1"),
        ("", "the file is empty"),
        ("- a", "is no description of a series: write it as"),
    ],
)
def test_a_wrong_description_of_a_series_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    series(tmp_path, "a0.tif")
    (tmp_path / "film.series.yaml").write_text(text)
    assert reason in refusal(tmp_path / "film.series.yaml")


# OME-Zarr


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_one_image_alone_is_a_recording_of_one_fov(tmp_path: Path, version: str) -> None:
    film = film_of(random_images(1, 5))
    group = zarr.create_group(tmp_path / "one.zarr", zarr_format=2 if version == "0.4" else 3)
    write_zarr_image(group, film, 0, version, chunks=(3, 2, 1, 20, 40))
    np.testing.assert_array_equal(frames_of(tmp_path / "one.zarr"), film.images[:, :, :, 0])


@pytest.mark.parametrize("axes", ["yx", "tyx", "cyx", "tcyx", "tzyx", "czyx"])
def test_axes_that_are_not_there_have_length_one(tmp_path: Path, axes: str) -> None:
    lengths = {"t": 3, "c": 2, "z": 4, "y": 20, "x": 30}
    images = random_images(3, 2, 4, 20, 30)[tuple(slice(lengths[axis] if axis in axes else 1) for axis in "tczyx")]
    root = zarr.create_group(tmp_path / "a.zarr", zarr_format=3)
    root.create_array("s0", data=np.squeeze(images))
    scale = [{"type": "scale", "scale": [1] * len(axes)}]
    described = [{"name": axis} for axis in axes]
    image: dict[str, Any] = {
        "axes": described, "datasets": [{"path": "s0", "coordinateTransformations": scale}]
    }  # fmt: skip
    root.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
    np.testing.assert_array_equal(frames_of(tmp_path / "a.zarr", 0), images[np.newaxis, :, :, 0])
    assert metadata_of(tmp_path / "a.zarr").pixel_size_um is None


def test_a_chunk_of_many_frames_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = random_images(1, 8)
    path = write_zarr_04(tmp_path, film_of(images), chunks=(4, 1, 1, 32, 40))
    read: list[str] = []
    original = zarr.storage.LocalStore.get

    async def get(self: Any, key: str, *rest: Any, **options: Any) -> Any:
        read.append(key)
        return await original(self, key, *rest, **options)

    monkeypatch.setattr(zarr.storage.LocalStore, "get", get)
    np.testing.assert_array_equal(frames_of(path), images)
    chunks = [key for key in read if not key.startswith((".", "zarr"))]
    assert sorted(chunks) == sorted(f"{t}/{c}/0/0/0" for t in range(2) for c in range(2))


def test_a_chunk_that_is_lost_between_the_look_and_the_reading_is_an_error(tmp_path: Path) -> None:
    path = write_zarr_04(tmp_path, film_of(random_images(1, 2)), chunks=(1, 2, 1, 32, 40))
    with open_recording(path) as recording:
        recording.check_frames(0)
        (path / "0" / "0" / "1" / "0" / "0" / "0" / "0").unlink()
        with pytest.raises(RecordingError, match=r"FOV 0, frame 1.*has gone away"):
            recording.read_frame(0, 1)


def test_a_chunk_that_is_missing_in_a_shard_is_an_error(tmp_path: Path) -> None:
    film = film_of(random_images(1, 2))
    path = write_zarr_05(tmp_path, film)
    array = zarr.open_array(path / "A/1/0/0")
    array[1, 1] = 0  # all are of the fill value, so that zarr leaves it out
    with open_recording(path) as recording:
        recording.read_frame(0, 0)
        with pytest.raises(MissingFrameError, match=r"FOV 0, frame 1.*lacks its chunk"):
            recording.check_frames(0)


@pytest.mark.parametrize("write", [write_zarr_04, write_zarr_05])
@pytest.mark.parametrize("length", [0, 1, 5])
def test_a_truncated_chunk_is_an_error(tmp_path: Path, write: Callable[[Path, Film], Path], length: int) -> None:
    path = write(tmp_path, film_of(random_images(1, 2)))
    chunk = next(file for file in recording_files(path) if file.name.isdecimal())
    os.truncate(chunk, length)
    with pytest.raises(RecordingError, match=rf"{path.name}'.*FOV 0, frame 0"):
        frames_of(path)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_truncated_chunk_without_compression_is_an_error(tmp_path: Path, zarr_format: Literal[2, 3]) -> None:
    film = film_of(random_images(1, 2))
    group = zarr.create_group(tmp_path / "one.zarr", zarr_format=zarr_format)
    version = "0.4" if zarr_format == 2 else "0.5"
    write_zarr_image(group, film, 0, version, chunks=(1, 1, 1, 32, 40), compressors=None)
    np.testing.assert_array_equal(frames_of(tmp_path / "one.zarr"), film.images[:, :, :, 0])
    chunk = next(path for path in recording_files(tmp_path / "one.zarr") if path.name[0] in "01")
    os.truncate(chunk, 2000)
    with pytest.raises(RecordingError, match=r"one\.zarr'.*FOV 0, frame \d, channel \d cannot be decoded"):
        frames_of(tmp_path / "one.zarr")


def _change(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    told = json.loads(path.read_text())
    change(told)
    path.write_text(json.dumps(told))


@pytest.mark.parametrize(
    ("file", "change", "reason"),
    [
        (".zattrs", lambda told: told.clear(), "no OME-Zarr image"),
        ("OME/.zattrs", lambda told: told.update(series=["0", "../1"]), "'../1', which is no path below it"),
        ("OME/.zattrs", lambda told: told.update(series=["0", "7"]), "'film.zarr/7' is no Zarr group or array"),
        ("1/.zattrs", lambda told: told["multiscales"][0].update(version="0.1"), "of version '0.1'; only 0.4 and 0.5"),
        ("1/.zattrs", lambda told: told["multiscales"][0].update(axes=["t"]), "no list of multiscales.axes"),
        ("1/.zattrs", lambda told: told["multiscales"][0]["axes"].reverse(), "the axes 'xyzct'"),
        ("1/.zattrs", lambda told: told["multiscales"][0]["axes"].pop(), "the axes 'tczy'"),
        ("1/.zattrs", lambda told: told["multiscales"][0].update(datasets=[]), "names no array"),
        ("1/.zattrs", lambda told: told.update(multiscales=3), "no list of multiscales"),
        ("1/0/.zarray", lambda told: told.update(shape=[4, 2, 1, 32, 50]), "image 1 differs from the first: 4 t"),
        ("1/0/.zarray", lambda told: told.update(dtype="<i4"), "image 1 differs from the first"),
        ("1/0/.zarray", lambda told: told.update(shape="big"), "has no shape"),
    ],
)
def test_a_wrong_description_of_an_ome_zarr_is_refused(
    tmp_path: Path, file: str, change: Callable[[dict[str, Any]], None], reason: str
) -> None:
    path = written(tmp_path, "ome-zarr-0.4")
    _change(path / file, change)
    assert reason in refusal(path)


def test_broken_json_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "ome-zarr-0.5")
    (path / "A" / "1" / "zarr.json").write_text('{"zarr_format": 3')
    assert "'film.ome.zarr/A/1/zarr.json' is no JSON" in refusal(path)


def test_links_in_an_ome_zarr_that_lead_out_are_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = written(tmp_path / "in", "ome-zarr-0.4")
    chunk = path / "1" / "0" / "0" / "0" / "0" / "0" / "0"
    shutil.move(chunk, tmp_path / "secret")
    chunk.symlink_to(tmp_path / "secret")
    with open_recording(path) as recording, pytest.raises(RecordingError, match="leads out of the folder"):
        recording.check_frames(1)
    shutil.move(path / "1", tmp_path / "moved")
    (path / "1").symlink_to(tmp_path / "moved")
    assert "leads out of the folder" in refusal(path)


def test_an_ome_zarr_is_a_folder_and_the_others_are_files(tmp_path: Path) -> None:
    (tmp_path / "a.zarr").write_text("")
    assert "it is not a folder" in refusal(tmp_path / "a.zarr")
    (tmp_path / "b.zarr").mkdir()
    assert "is no Zarr group or array" in refusal(tmp_path / "b.zarr")
    for name in ("a.czi", "a.ome.tif", "a.series.yaml"):
        (tmp_path / name).mkdir()
        assert "it is not a file but a folder" in refusal(tmp_path / name)
    refusal(tmp_path / "c.zarr", RecordingNotFoundError)


# Fingerprints


@pytest.mark.parametrize("name", FORMATS)
def test_the_fingerprint_is_of_the_content_wherever_it_lies(tmp_path: Path, name: str) -> None:
    (tmp_path / "one").mkdir()
    path = written(tmp_path / "one", name)
    before = input_fingerprint(path)
    (tmp_path / "one").rename(tmp_path / "two")
    moved = tmp_path / "two" / path.name
    assert input_fingerprint(moved) == before
    changed = sorted(file for file in recording_files(moved) if file.suffix not in {".yaml", ".xml", ".json"})[-1]
    content = bytearray(changed.read_bytes())
    content[-1] ^= 1
    changed.write_bytes(content)
    assert input_fingerprint(moved) != before


def test_files_that_change_places_change_the_fingerprint(tmp_path: Path) -> None:
    series(tmp_path, "a_0.tif", "b_1.tif")
    before = input_fingerprint(tmp_path / "{channel}_{time}.tif")
    assert input_fingerprint(tmp_path / "{fov}_{time}.tif") != before
    (tmp_path / "a_0.tif").rename(tmp_path / "c")
    (tmp_path / "b_1.tif").rename(tmp_path / "a_0.tif")
    (tmp_path / "c").rename(tmp_path / "b_1.tif")
    assert input_fingerprint(tmp_path / "{channel}_{time}.tif") != before


def test_labels_that_are_added_to_an_ome_zarr_do_not_matter(tmp_path: Path) -> None:
    path = written(tmp_path, "ome-zarr-0.4")
    before = input_fingerprint(path)
    (path / "0" / "labels").mkdir()
    (path / "0" / "labels" / ".zgroup").write_text("{}")
    assert input_fingerprint(path) == before


def test_files_that_others_leave_in_an_ome_zarr_do_not_matter(tmp_path: Path) -> None:
    path = written(tmp_path, "ome-zarr-0.4")
    before = input_fingerprint(path)
    for name in (".DS_Store", "._0", ".nfs000000000001"):
        (path / "0" / name).write_bytes(b"stray")
    assert input_fingerprint(path) == before
    with (path / "0" / ".zattrs").open("a") as attributes:
        attributes.write(" ")
    assert input_fingerprint(path) != before
