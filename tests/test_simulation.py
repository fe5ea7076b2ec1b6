"""The simulator writes what it says: recordings with a truth that the pipeline can be held to."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import nd2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from tasks.errors import InvalidParametersError
from tasks.simulation import CellTruth, Kinetics, Optics, Scene, SimulationSettings, Truth, simulate
from tests.oracles.segmentation import segment

BOUNDS = {"t0": (-1, 1), "ktl": (1, 5e8), "delta": (1e-5, 11), "offset": (-1e6, 1e6)}
"""Default bounds of the translation–maturation model's parameters."""

SMALL = SimulationSettings(n_fovs=2, n_frames=3, height=90, width=120, n_fluorescence=2, spacing_px=60)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "film.nd2"


def scene(settings: SimulationSettings, fov: int = 0) -> Scene:
    return Scene(settings, fov, Optics.of(settings))


def all_cells(truth: Truth) -> list[CellTruth]:
    return [cell for fov in truth.fovs for cell in fov.cells]


def film_of(path: Path) -> NDArray[np.uint16]:
    """Read (T, P, C, H, W) of a film that has all axes."""
    with nd2.ND2File(path) as file:
        assert tuple(file.sizes) == ("T", "P", "C", "Y", "X")
        film: NDArray[np.uint16] = file.asarray()
    return film


def test_the_file_is_a_recording_of_the_settings(path: Path) -> None:
    simulate(SMALL, path)
    with nd2.ND2File(path) as file:
        assert dict(file.sizes) == {"T": 3, "P": 2, "C": 3, "Y": 90, "X": 120}
        assert file.dtype == np.uint16
        assert [channel.channel.name for channel in file.metadata.channels or []] == ["Phase", "GFP", "mCherry"]
        assert file.voxel_size()[:2] == (0.65, 0.65)
        np.testing.assert_allclose(file.events(orient="list")["Time [s]"], 60 * SMALL.times_min.T.ravel())


def test_the_same_seed_gives_the_same_bytes_and_truth(tmp_path: Path) -> None:
    for name in ("first", "second"):
        simulate(SMALL, tmp_path / f"{name}.nd2").to_json(tmp_path / f"{name}.json")
    assert (tmp_path / "first.nd2").read_bytes() == (tmp_path / "second.nd2").read_bytes()
    assert (tmp_path / "first.json").read_bytes() == (tmp_path / "second.json").read_bytes()


def test_another_seed_gives_other_cells() -> None:
    first, second = scene(SMALL).cells, scene(replace(SMALL, seed=1)).cells
    assert [cell.radius_x for cell in first] != [cell.radius_x for cell in second]


def test_a_fov_does_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    simulate(SMALL, tmp_path / "two.nd2")
    simulate(replace(SMALL, n_fovs=4), tmp_path / "four.nd2")
    two, four = film_of(tmp_path / "two.nd2"), film_of(tmp_path / "four.nd2")
    np.testing.assert_array_equal(two, four[:, :2])


def test_fovs_differ(path: Path) -> None:
    simulate(SMALL, path)
    film = film_of(path)
    assert (film[:, 0] != film[:, 1]).mean() > 0.9


def test_channels_and_cells_have_kinetics_of_their_own(path: Path) -> None:
    kinetics = [channel for cell in all_cells(simulate(SMALL, path)) for channel in cell.kinetics]
    assert len(set(kinetics)) == len(kinetics) > 4


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (7, 11), (64, 64)])
@pytest.mark.parametrize("n_fluorescence", [0, 1])
def test_tiny_recordings_can_be_made(path: Path, size: tuple[int, int], n_fluorescence: int) -> None:
    height, width = size
    settings = SimulationSettings(n_frames=2, height=height, width=width, n_fluorescence=n_fluorescence)
    simulate(settings, path)
    with nd2.ND2File(path) as file:
        assert file.asarray().size == 2 * (1 + n_fluorescence) * height * width


def test_channel_names_are_never_repeated() -> None:
    names = [channel.name for channel in SimulationSettings(n_fluorescence=9).channels]
    assert len(set(names)) == 10


def test_progress_is_told_after_each_frame(path: Path) -> None:
    told: list[tuple[int, int]] = []
    simulate(SMALL, path, on_frame=lambda done, total: told.append((done, total)))
    assert told == [(number, 6) for number in range(1, 7)]


def test_the_truth_survives_its_file(path: Path) -> None:
    truth = simulate(SMALL, path)
    truth.to_json(path.with_suffix(".json"))
    read = Truth.from_json(path.with_suffix(".json"))
    assert read.settings == truth.settings
    for cell, other in zip(all_cells(read), all_cells(truth), strict=True):
        np.testing.assert_equal(asdict(cell), asdict(other))


def test_the_truth_of_a_film_without_fluorescence_survives_its_file(path: Path) -> None:
    truth = simulate(replace(SMALL, n_fluorescence=0), path)
    truth.to_json(path.with_suffix(".json"))
    read = Truth.from_json(path.with_suffix(".json"))
    assert {cell.intensities.shape for cell in all_cells(read)} == {(0, 3)}


def test_the_truth_file_is_plain_json(path: Path) -> None:
    simulate(SMALL, path).to_json(path.with_suffix(".json"))
    cell = json.loads(path.with_suffix(".json").read_text())["fovs"][0]["cells"][0]
    assert np.shape(cell["centres"]) == (3, 2)
    assert np.shape(cell["intensities"]) == (2, 3)


def test_all_kinetics_are_inside_the_bounds_of_the_fit() -> None:
    settings = SimulationSettings(n_frames=1, height=1500, width=1500, n_fluorescence=3)
    for kinetics in (channel for cell in scene(settings).cells for channel in cell.kinetics):
        for name, (low, high) in BOUNDS.items():
            assert low < getattr(kinetics, name) < high


def test_expression_solves_the_equations_of_the_model() -> None:
    kinetics = Kinetics(t0=0.5, ktl=1000.0, delta=0.1, offset=20.0)
    step = 1e-4
    hours = np.arange(0, 6, step)
    mrna = np.where(hours >= 0.5, np.exp(-0.1 * (hours - 0.5)), 0)
    unripe = ripe = 0.0
    expected = np.empty_like(hours)
    for index, molecules in enumerate(mrna):
        expected[index] = ripe + 20
        unripe, ripe = (
            unripe + step * (1000 * molecules - (1.28 + 5.22e-3) * unripe),
            ripe + step * (1.28 * unripe - 5.22e-3 * ripe),
        )
    np.testing.assert_allclose(kinetics(hours), expected, rtol=2e-3, atol=0.1)


def test_a_cell_is_dark_until_translation_sets_in() -> None:
    kinetics = Kinetics(t0=0.5, ktl=1000.0, delta=0.1, offset=20.0)
    np.testing.assert_array_equal(kinetics(np.array([0, 0.2, 0.5])), 20.0)


def test_cells_stay_within_their_drift() -> None:
    settings = SimulationSettings(n_frames=400, drift_px=2.0)
    centres = np.stack([cell.centres for cell in scene(settings).cells])
    reach = np.linalg.norm(centres[:, :, np.newaxis] - centres[:, np.newaxis], axis=-1).max()
    assert 2 < reach <= 4 + 1e-3
    assert np.abs(np.diff(centres, axis=1)).max() < 1.5


def test_by_default_all_cells_are_isolated() -> None:
    assert all(cell.isolated for cell in scene(SimulationSettings(height=1500, width=1500)).cells)


def test_crowded_cells_are_not_isolated() -> None:
    cells = scene(SimulationSettings(spacing_px=60)).cells
    assert sum(cell.isolated for cell in cells) < len(cells) / 4


def test_cells_near_the_border_are_told() -> None:
    settings = SimulationSettings(n_frames=5, height=700, width=500)
    for cell in scene(settings).cells:
        y, x = cell.centres.T
        nearest = min(
            y.min() - cell.radius_y, 699 - y.max() - cell.radius_y,
            x.min() - cell.radius_x, 499 - x.max() - cell.radius_x,
        )  # fmt: skip
        assert cell.near_border == (nearest < 50)
        assert not 50 <= nearest < 57


@pytest.mark.parametrize("size", [(544, 544), (500, 620)])
def test_each_countable_cell_is_one_region_and_nothing_else_is(size: tuple[int, int]) -> None:
    height, width = size
    fov = scene(SimulationSettings(n_frames=2, height=height, width=width))
    for frame in range(2):
        labels, n_regions = ndimage.label(segment(fov.render(frame)[0]))
        at_centres = [labels[tuple(np.rint(cell.centres[frame]).astype(int))] for cell in fov.cells]
        assert sorted(at_centres) == list(range(1, n_regions + 1))
        for cell, box in zip(fov.cells, (ndimage.find_objects(labels)[label - 1] for label in at_centres), strict=True):
            inside = all(
                side.start >= 50 and side.stop - 1 <= length - 50 for side, length in zip(box, size, strict=True)
            )
            assert inside == cell.countable


def test_intensities_above_the_background_are_the_truth() -> None:
    settings = SimulationSettings(n_frames=2, interval_min=600, n_fluorescence=2)
    fov, without_cells = scene(settings), scene(replace(settings, occupancy=0))
    image, background = (one.render(1).astype(np.float64) for one in (fov, without_cells))
    labels, _ = ndimage.label(segment(image[0].astype(np.uint16)))
    for cell in fov.cells:
        mask = labels == labels[tuple(np.rint(cell.centres[1]).astype(int))]
        measured = (image - background)[1:, mask].sum(axis=1)
        np.testing.assert_allclose(measured, cell.intensities[:, 1], rtol=0.01)


def test_light_outside_the_image_does_not_count() -> None:
    settings = SimulationSettings(n_frames=1, height=9, width=9, jitter_px=0, drift_px=0, occupancy=1)
    (cell,) = scene(settings).cells
    assert 0 < cell.intensities[0, 0] < 0.2 * cell.kinetics[0].offset


def test_no_pixel_is_saturated_after_days() -> None:
    settings = SimulationSettings(n_frames=2, interval_min=2400)
    assert scene(settings).render(1).max() < 65_535


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_fovs", 0), ("n_frames", 0), ("height", 0), ("width", -3), ("n_fluorescence", -1), ("n_frames", 2.5),
        ("seed", -1), ("border_margin", -1), ("interval_min", 0.0), ("interval_min", float("nan")),
        ("pixel_size_um", -0.65), ("cell_radius_px", 1.0), ("spacing_px", float("inf")), ("jitter_px", -1.0),
        ("drift_px", -0.1), ("occupancy", 1.1), ("fov_delay_min", -1.0),
    ],
)  # fmt: skip
def test_settings_outside_their_range_are_refused(name: str, value: Any) -> None:
    with pytest.raises(InvalidParametersError, match=f"{name} must be .* not {value}"):
        SimulationSettings(**{name: value})
