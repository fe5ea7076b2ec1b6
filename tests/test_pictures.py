"""Pictures of FOVs: what is on them, that they are always the same, and that they can be left out."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tasks.acquisition import open_recording
from tasks.configuration import Channels, Configuration, FluorescenceChannel, PhaseChannel, ScienceParameters
from tasks.fov import Helpers, process_fov
from tasks.output import FovDirectory, Provenance, read_manifest, verify
from tasks.pictures.filmstrip import choose_cells
from tasks.pictures.overview import DROPPED, KEPT
from tasks.pictures.plots import nice_ticks
from tasks.pictures.views import TILE, PictureFrames, Scale
from tests.flow_runs import film
from tests.recordings import lisca_images, write_recording

ALL = Configuration(
    channels=Channels(
        phase=PhaseChannel(channel=0, features=["area", "circularity"]), fluorescence=[FluorescenceChannel(channel=1)]
    ),
    parameters=ScienceParameters(min_frames=1, border_margin=30),
)
NAMES = ["qc_filmstrip.jpg", "qc_overview_ch_0.jpg", "qc_overview_ch_1.jpg", "qc_traces.png"]


def make(folder: Path, images: NDArray[Any], helpers: Helpers | None = None, **parameters: Any) -> Path:
    """Process images (T, C, H, W); directory of the FOV."""
    configuration = ALL.model_copy(update={"parameters": ALL.parameters.model_copy(update=parameters)})
    folder.mkdir()
    path = write_recording(folder / "film.nd2", images[np.newaxis])
    with (
        open_recording(path) as recording,
        FovDirectory(folder, 0, Provenance.of(path, {}, configuration)) as directory,
    ):
        summary = process_fov(recording, 0, configuration, directory, helpers=helpers)
        directory.commit(n_cells=summary.n_cells)
    return folder / "fov_000"


def pictures(directory: Path) -> dict[str, bytes]:
    """Content of all pictures, by the ending of the name."""
    return {path.name.removeprefix("film_fov_000_"): path.read_bytes() for path in directory.glob("*_qc_*")}


def decoded(content: bytes) -> NDArray[np.uint8]:
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return np.asarray(image, np.uint8)


@pytest.fixture(scope="module")
def lisca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("lisca") / "a", lisca_images())


def test_pictures_are_part_of_the_fov(lisca: Path) -> None:
    found = pictures(lisca)
    assert sorted(found) == NAMES
    manifest = read_manifest(lisca)
    assert manifest is not None
    assert {f"film_fov_000_{name}" for name in found} < set(manifest.files)
    assert verify(lisca) == []
    assert sum(map(len, found.values())) < 1_000_000


def test_pictures_are_the_same_bytes_however_they_are_made(lisca: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as threads:
        spread = make(tmp_path / "spread", lisca_images(), Helpers(threads, 3), keep="none")
    assert pictures(spread) == pictures(lisca)


def test_pictures_can_be_left_out(lisca: Path, tmp_path: Path) -> None:
    without = make(tmp_path / "without", lisca_images(), pictures=False)
    assert pictures(without) == {}
    table = "film_fov_000_traces.csv"
    assert (without / table).read_bytes() == (lisca / table).read_bytes()


def test_the_overview_shows_three_frames_with_the_outlines_of_cells(lisca: Path) -> None:
    images = lisca_images()
    sheet = decoded(pictures(lisca)["qc_overview_ch_1.jpg"]).astype(int)
    height, width = images.shape[2:]
    assert sheet.shape == (height + 18, 3 * width + 8, 3)
    tracked = np.load(lisca / "film_fov_000_seg_tracked_ch_0.npy")
    kept = np.unique(np.loadtxt(lisca / "film_fov_000_traces.csv", delimiter=",", skiprows=1, usecols=1))
    for place, t in enumerate((0, 3, 5)):
        panel = sheet[18:, place * (width + 4) :][:, :width]
        for cell in np.unique(tracked[t])[1:]:
            rows, columns = np.nonzero(tracked[t] == cell)
            # The lowest pixels of a cell belong to its outline, and no number is written there.
            edge = panel[rows.max(), columns[rows == rows.max()]].mean(axis=0)
            colour = KEPT if cell in kept else DROPPED
            other = DROPPED if cell in kept else KEPT
            assert np.abs(edge - colour).sum() < np.abs(edge - other).sum()
        inside = panel[height // 2 - 3 : height // 2 + 3, width // 2 - 3 : width // 2 + 3]
        assert np.ptp(inside, axis=2).max() < 40 or (np.abs(inside - KEPT).sum(axis=2) < 200).any()


def test_the_filmstrip_shows_cells_brighter_from_frame_to_frame(lisca: Path) -> None:
    strip = decoded(pictures(lisca)["qc_filmstrip.jpg"])
    n_rows, n_columns = (strip.shape[0] - 18) // (TILE + 2), (strip.shape[1] - 84) // (TILE + 2)
    assert (n_rows, n_columns) == (8, 6)  # four cells in two channels, six frames
    fluorescence = [
        [strip[18 + row * 66 :, 84 + column * 66 :][:TILE, :TILE].mean() for column in range(n_columns)]
        for row in range(1, n_rows, 2)
    ]
    assert (np.diff(np.mean(fluorescence, axis=0)) > -1).all()
    phase = strip[18 : 18 + TILE, 84 : 84 + TILE, 0]
    assert np.ptp(phase) > 150


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((1, 2, 64, 64), np.uint16),
        ((2, 2, 3, 700), np.uint8),
        ((2, 2, 1300, 40), np.float32),
        ((3, 2, 19, 19), np.uint16),
        ((2, 2, 1, 700), np.uint16),
        ((2, 2, 3000, 2), np.uint16),
    ],
)
def test_any_size_can_be_shown(tmp_path: Path, shape: tuple[int, ...], dtype: type[np.generic]) -> None:
    images = (200 * np.random.default_rng(0).random(shape)).astype(dtype)
    found = pictures(make(tmp_path / "a", images, keep="none"))
    scale = Scale(*shape[2:])
    n_shown = len({0, shape[0] // 2, shape[0] - 1})
    for channel in (0, 1):
        sheet = decoded(found[f"qc_overview_ch_{channel}.jpg"])
        assert sheet.shape[:2] == (scale.shown[0] + 18, n_shown * (scale.shown[1] + 4) - 4)
    assert "qc_traces.png" in found


def test_a_cell_that_fills_most_of_a_small_image_is_shown(tmp_path: Path) -> None:
    found = pictures(make(tmp_path / "a", film(1, 4)[0], border_margin=2, keep="none"))
    assert sorted(found) == NAMES
    sheet = decoded(found["qc_overview_ch_0.jpg"]).astype(int)
    assert (np.abs(sheet - KEPT).sum(axis=2) < 60).sum() > 500


@given(st.integers(1, 500))
def test_frames_are_spread_over_the_film(n_frames: int) -> None:
    frames = PictureFrames.of(n_frames)
    assert {0, n_frames // 2, n_frames - 1} == set(frames.overview)
    assert frames.strip[0] == 0
    assert frames.strip[-1] == n_frames - 1
    assert len(set(frames.strip)) == len(frames.strip) == min(8, n_frames)


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_an_overview_is_never_too_large(height: int, width: int) -> None:
    scale = Scale(height, width)
    assert max(scale.shown) <= 600
    assert min(scale.factor, scale.zoom) == 1


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9), st.integers(3, 10))
def test_ticks_are_few_round_and_inside(low: float, width: float, most: int) -> None:
    high = low + width
    assume(width > 1e-5 * max(abs(low), abs(high)))
    ticks = nice_ticks(low, high, most)
    assert 1 <= len(ticks) <= most
    tolerance = 1e-9 * max(abs(low), abs(high))
    assert low - tolerance <= ticks[0]
    assert ticks[-1] <= high + tolerance
    for step in np.diff(ticks):
        mantissa = step / 10 ** np.floor(np.log10(step) + 1e-9)
        assert min(abs(mantissa - round_number) for round_number in (1, 2, 5, 10)) < 1e-2


def test_a_constant_has_one_tick() -> None:
    assert nice_ticks(3.0, 3.0, 5) == [3.0]


def test_the_filmstrip_takes_cells_of_the_table_that_are_seen_most() -> None:
    seen = {1: 3, 2: 5, 3: 5, 4: 1, 5: 4, 6: 5, 7: 2}
    tiles = {(t, cell): dict[int, Any]() for cell, n in seen.items() for t in range(n)}
    assert choose_cells(tiles, np.array([1, 3, 4, 5, 6, 9], np.int32)) == [1, 3, 5, 6]
    assert choose_cells(tiles, np.array([], np.int32)) == []
