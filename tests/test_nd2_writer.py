"""What `Nd2Writer` writes is read back by an independent reader, the nd2 package."""

from itertools import product
from pathlib import Path
from typing import Any

import nd2
import numpy as np
import pytest

from tasks.nd2_format import PAGE, encode_tree
from tasks.nd2_writer import Channel, Nd2Writer, StagePosition
from tests.recordings import lisca_images, random_images, write_lisca, write_recording

SHAPES = [
    (1, 1, 1, 1, 1),
    (1, 1, 1, 7, 5),
    (1, 4, 1, 6, 9),
    (3, 1, 2, 5, 8),
    (2, 3, 1, 9, 3),
    (2, 3, 3, 37, 53),
    (4, 2, 4, 64, 80),
]
"""(P, T, C, H, W), with rows that need padding and rows that do not."""
DTYPES = [np.uint8, np.uint16, np.float32]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "film.nd2"


def writer(path: Path, **settings: Any) -> Nd2Writer:
    """Open a film of 2 FOVs, 3 frames, 1 channel of 4 x 5 pixels, or as the settings say."""
    defaults: dict[str, Any] = {
        "n_frames": 3, "n_fovs": 2, "channels": [Channel("Phase", "brightfield")], "height": 4, "width": 5,
    }  # fmt: skip
    return Nd2Writer(path, **{**defaults, **settings})


def frame_of(value: int = 1) -> np.ndarray[Any, np.dtype[np.uint16]]:
    return np.full((1, 4, 5), value, np.uint16)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_shape_and_dtype_is_read_back(
    path: Path, shape: tuple[int, int, int, int, int], dtype: type[np.generic]
) -> None:
    n_fovs, n_frames, n_channels, height, width = shape
    images = random_images(n_fovs, n_frames, n_channels, height, width, dtype)
    with nd2.ND2File(write_recording(path, images)) as file:
        film = file.asarray()
        axes = {"T": n_frames, "P": n_fovs, "C": n_channels, "Y": height, "X": width}
        assert dict(file.sizes) == {axis: length for axis, length in axes.items() if length > 1}
        assert film.dtype == dtype
        np.testing.assert_array_equal(film.reshape(images.swapaxes(0, 1).shape), images.swapaxes(0, 1))


def test_frames_may_come_in_any_order(path: Path) -> None:
    images = random_images(2, 3, 1, 4, 5)
    with writer(path) as film:
        for fov, frame in [(1, 2), (0, 0), (1, 0), (0, 2), (0, 1), (1, 1)]:
            film.write_frame(fov, frame, images[fov, frame])
    with nd2.ND2File(path) as file:
        np.testing.assert_array_equal(file.asarray()[:, :, np.newaxis], images.swapaxes(0, 1))


def test_an_image_that_is_a_view_is_read_back(path: Path) -> None:
    images = random_images(1, 1, 2, 10, 12)
    with nd2.ND2File(write_recording(path, images[..., ::2, ::-1])) as file:
        np.testing.assert_array_equal(file.asarray(), images[0, 0, :, ::2, ::-1])


def test_channels_have_their_names_modalities_and_wavelengths(path: Path) -> None:
    channels = [
        Channel("Phasenkontrast µ", "brightfield"), Channel("GFP", "fluorescence", 488.0, 509.0),
        Channel("other", "fluorescence"),
    ]  # fmt: skip
    with writer(path, channels=channels, n_fovs=1, n_frames=1) as film:
        film.write_frame(0, 0, np.zeros((3, 4, 5), np.uint16))
    with nd2.ND2File(path) as file:
        read = file.metadata.channels or []
    assert [channel.channel.name for channel in read] == ["Phasenkontrast µ", "GFP", "other"]
    assert [channel.microscope.modalityFlags for channel in read] == [
        ["brightfield", "camera"], ["fluorescence", "camera"], ["fluorescence", "camera"],
    ]  # fmt: skip
    assert [channel.channel.excitationLambdaNm for channel in read] == [None, 488.0, None]
    assert [channel.channel.emissionLambdaNm for channel in read] == [None, 509.0, None]


def test_the_pixel_size_is_read_back(path: Path) -> None:
    with nd2.ND2File(write_recording(path, random_images(), pixel_size_um=0.325)) as file:
        assert file.voxel_size()[:2] == (0.325, 0.325)


def test_without_a_pixel_size_the_file_is_not_calibrated(path: Path) -> None:
    with nd2.ND2File(write_recording(path, random_images(), pixel_size_um=None)) as file:
        assert (file.metadata.channels or [])[0].volume.axesCalibrated[:2] == (False, False)


def test_each_frame_has_its_time(path: Path) -> None:
    times_min = np.array([[0.0, 10.0, 20.5], [1.0, 11.5, 21.0]])
    with nd2.ND2File(write_recording(path, random_images(2, 3), times_min=times_min)) as file:
        events = file.events(orient="list")
        frame_metadata = file.frame_metadata(3)
    np.testing.assert_allclose(events["Time [s]"], 60 * times_min.T.ravel())
    assert not isinstance(frame_metadata, dict)
    assert (frame_metadata.channels or [])[0].time.relativeTimeMs == pytest.approx(11.5 * 60_000)


def test_a_file_can_lack_times(path: Path) -> None:
    write_recording(path, random_images(), with_times=False)
    with nd2.ND2File(path) as file, pytest.warns(UserWarning, match="Failed to load frame times"):
        assert "Time [s]" not in file.events(orient="list")


def test_the_time_loop_tells_the_period(path: Path) -> None:
    with nd2.ND2File(write_recording(path, random_images(n_frames=4), period_min=5)) as file:
        loop = file.experiment[0]
    assert isinstance(loop, nd2.structures.TimeLoop)
    assert (loop.count, loop.parameters.periodMs, loop.parameters.durationMs) == (4, 300_000, 900_000)


def test_the_period_is_by_default_the_median_step(path: Path) -> None:
    with writer(path, n_fovs=1, times_min=[[0, 10, 19]]) as film:
        for frame in range(3):
            film.write_frame(0, frame, frame_of())
    with nd2.ND2File(path) as file:
        loop = file.experiment[0]
    assert isinstance(loop, nd2.structures.TimeLoop)
    assert loop.parameters.periodMs == pytest.approx(9.5 * 60_000)


def test_positions_have_names_and_coordinates(path: Path) -> None:
    positions = [StagePosition(10.5, -3.0, "A1"), StagePosition(0.0, 7.25, "Wärme")]
    with nd2.ND2File(write_recording(path, random_images(2), positions=positions)) as file:
        loop = file.experiment[1]
    assert isinstance(loop, nd2.structures.XYPosLoop)
    read = [(*point.stagePositionUm[:2], point.name) for point in loop.parameters.points]
    assert read == [(10.5, -3.0, "A1"), (0.0, 7.25, "Wärme")]


def test_one_fov_keeps_the_name_of_its_position(path: Path) -> None:
    write_recording(path, random_images(), positions=[StagePosition(name="A1")])
    with nd2.ND2File(path) as file:
        assert "P" not in file.sizes
        assert file.events(orient="list")["Position Name"] == ["A1"] * 3


def test_more_channels_and_positions_than_fit_a_page_of_metadata(path: Path) -> None:
    images = random_images(300, 1, 30, 2, 3)
    write_recording(path, images, channel_names=[f"channel {index}" for index in range(30)])
    with nd2.ND2File(path) as file:
        assert dict(file.sizes) == {"P": 300, "C": 30, "Y": 2, "X": 3}
        np.testing.assert_array_equal(file.asarray(), images[:, 0])


def test_the_whole_metadata_can_be_decoded(path: Path) -> None:
    write_recording(path, random_images(2, 3, 2))
    with nd2.ND2File(path) as file:
        assert set(file.unstructured_metadata()) == {
            "ImageAttributesLV", "ImageMetadataLV", "ImageMetadataSeqLV|0",
        }  # fmt: skip


def test_pixels_start_on_pages(path: Path) -> None:
    write_recording(path, np.full((1, 1, 1, 8, 8), 0x4142, np.uint16))
    content = path.read_bytes()
    assert content.index(b"\x42\x41" * 64) % PAGE == 0
    assert len(content) % PAGE == 0


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    images = random_images(2, 3)
    first = write_recording(tmp_path / "first.nd2", images).read_bytes()
    assert write_recording(tmp_path / "second.nd2", images).read_bytes() == first


def test_the_reference_film_is_read_back(path: Path) -> None:
    with nd2.ND2File(write_lisca(path)) as file:
        np.testing.assert_array_equal(file.asarray(), lisca_images())


def test_a_frame_that_was_not_written_is_an_error(path: Path) -> None:
    film = writer(path)
    for fov, frame in product(range(2), range(3)):
        if (fov, frame) != (1, 2):
            film.write_frame(fov, frame, frame_of())
    with pytest.raises(ValueError, match=r"FOV 1, frame 2 .* film\.nd2"):
        film.close()
    assert list(path.parent.iterdir()) == []


def test_missing_frames_can_be_allowed(path: Path) -> None:
    write_recording(path, random_images(2, 3) + 1, missing=[(1, 1)])
    with nd2.ND2File(path) as file:
        assert dict(file.sizes)["T"] == 3
        empty = {index for index in range(6) if not file.read_frame(index).any()}
    assert empty == {3}


@pytest.mark.parametrize(
    ("image", "fault"),
    [
        (np.zeros((1, 5, 4), np.uint16), r"uint16 \(1, 5, 4\)"),
        (np.zeros((4, 5), np.uint16), r"uint16 \(4, 5\)"),
        (np.zeros((1, 4, 5), np.uint8), "uint8"),
    ],
)
def test_an_image_of_another_shape_or_dtype_is_refused(path: Path, image: Any, fault: str) -> None:
    film = writer(path, allow_missing=True)
    with film, pytest.raises(ValueError, match=fault):
        film.write_frame(0, 0, image)


@pytest.mark.parametrize(("fov", "frame"), [(2, 0), (0, 3), (-1, 0), (0, -1)])
def test_a_frame_outside_the_film_is_refused(path: Path, fov: int, frame: int) -> None:
    film = writer(path, allow_missing=True)
    with film, pytest.raises(ValueError, match=f"FOV {fov}, frame {frame} does not exist"):
        film.write_frame(fov, frame, frame_of())


def test_a_frame_written_twice_is_refused(path: Path) -> None:
    with writer(path, allow_missing=True) as film:
        film.write_frame(0, 0, frame_of())
        with pytest.raises(ValueError, match="before"):
            film.write_frame(0, 0, frame_of())


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"n_frames": 0}, "n_frames"),
        ({"n_fovs": 0}, "n_fovs"),
        ({"channels": []}, "channels"),
        ({"height": 0}, "height"),
        ({"width": -1}, "width"),
        ({"dtype": np.int16}, "int16"),
        ({"times_min": np.zeros((3, 2))}, r"\(2, 3\)"),
        ({"positions": [StagePosition()]}, "1 positions for 2 FOVs"),
    ],
)
def test_settings_that_make_no_film_are_refused(path: Path, settings: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        writer(path, **settings)
    assert list(path.parent.iterdir()) == []


def test_a_film_is_under_its_name_only_when_complete(path: Path) -> None:
    with writer(path, n_fovs=1, n_frames=1) as film:
        film.write_frame(0, 0, frame_of())
        assert not path.exists()
    assert list(path.parent.iterdir()) == [path]


def test_after_an_error_the_old_film_is_still_there(path: Path) -> None:
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), writer(path):
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_closing_twice_does_no_harm(path: Path) -> None:
    with writer(path, n_fovs=1, n_frames=1) as film:
        film.write_frame(0, 0, frame_of())
    written = path.read_bytes()
    film.close()
    assert path.read_bytes() == written


def test_a_value_without_a_type_in_the_format_is_refused() -> None:
    with pytest.raises(TypeError, match="dWhen"):
        encode_tree("dWhen", None)  # type: ignore[arg-type]
