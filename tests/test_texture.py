"""Segmentation by texture and by rims: its steps against slow ones, and what it makes of simulated films."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.segmentation_quality import jaccard_of_each
from tasks import texture
from tasks.configuration import ScienceParameters
from tasks.errors import InvalidParametersError, ProcessingError
from tasks.finding import find_cells
from tasks.methods import RimParameters, TextureParameters
from tasks.phase_simulation import PhaseFilm, PhaseFilmSettings, simulate_phase_film
from tasks.texture import segment_by_rims, segment_by_texture
from tests import strategies
from tests.oracles import splitting as oracle
from tests.oracles.squares import Mask

SCALE = 0.65


@st.composite
def small_masks(draw: st.DrawFn) -> Mask:
    rng = np.random.default_rng(draw(strategies.seeds))
    shape = draw(st.tuples(st.integers(1, 16), st.integers(1, 16)))
    return np.asarray(rng.random(shape) < draw(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0])))


radii = st.sampled_from([0.0, 1.0, 1.5, 2.3, 5.0])


@given(small_masks(), radii)
def test_discs_are_those_of_the_oracle(mask: Mask, radius: float) -> None:
    np.testing.assert_array_equal(texture._dilated(mask, radius), oracle.dilated(mask, radius))
    np.testing.assert_array_equal(texture._eroded(mask, radius), oracle.eroded(mask, radius))


@given(small_masks(), radii)
def test_closing_only_adds_and_opening_only_takes_away(mask: Mask, radius: float) -> None:
    assert (texture._closed(mask, radius) >= mask).all()
    assert (texture._opened(mask, radius) <= mask).all()


@given(small_masks(), st.sampled_from([0, 1, 3, 1000]))
def test_holes_up_to_a_size_are_filled(mask: Mask, most: int) -> None:
    patches, n = ndimage.label(~mask)
    expected = mask.copy()
    for number in range(1, n + 1):
        patch = patches == number
        at_edge = patch[0].any() or patch[-1].any() or patch[:, 0].any() or patch[:, -1].any()
        if not at_edge and patch.sum() <= most:
            expected |= patch
    np.testing.assert_array_equal(texture._without_holes(mask, most), expected)


@given(small_masks(), st.sampled_from([0, 2, 5]))
def test_specks_are_left_out(mask: Mask, least: int) -> None:
    regions, n = ndimage.label(mask, np.ones((3, 3)))
    kept = [number for number in range(1, n + 1) if (regions == number).sum() >= least]
    np.testing.assert_array_equal(texture._without_specks(mask, least), np.isin(regions, kept))


@settings(max_examples=30)
@given(small_masks(), st.sampled_from([1.0, 3.0]))
def test_labels_grow_to_the_nearest(mask: Mask, radius: float) -> None:
    labels, _ = ndimage.label(mask)
    grown = texture._grown(labels.astype(np.int32), radius)
    np.testing.assert_array_equal(grown[mask], labels[mask])
    # The distance is an approximation that is off by some percent.
    assert (oracle.dilated(mask, 1.05 * radius) >= (grown > 0)).all()
    assert (oracle.dilated(mask, 0.9 * radius) <= (grown > 0)).all()


def test_background_is_known_from_its_lower_half_whatever_the_cells_are() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(2.0, 0.1, (400, 500))
    values[:120] = rng.normal(4.0, 0.8, (120, 500))
    mode, width = texture.background_level(values)
    assert mode == pytest.approx(2.0, abs=0.03)
    assert width == pytest.approx(0.1, rel=0.2)


def film(**changes: Any) -> PhaseFilm:
    return simulate_phase_film(PhaseFilmSettings(**{"height": 360, "width": 480, "n_cells": 5, "seed": 7, **changes}))


def seg(truth: NDArray[np.integer[Any]], image: NDArray[Any], segmentation: object) -> float:
    parameters = ScienceParameters.model_validate({"segmentation": segmentation})
    _, labelled = find_cells(image, parameters, SCALE, with_perimeter=False)
    return float(jaccard_of_each(truth, labelled.paint_labels()).mean())


@pytest.mark.parametrize(
    ("changes", "least"),
    [({}, 0.8), ({"lamella": 0.07}, 0.8), ({"noise": 1.6}, 0.8), ({"n_cells": 9, "crowding": 1.3}, 0.6)],
    ids=["spread", "faint", "noisy", "crowded"],
)
def test_spread_cells_are_found_better_than_by_logstd(changes: dict[str, Any], least: float) -> None:
    films = [film(seed=seed, **changes) for seed in (7, 8, 9)]
    by_texture, by_logstd = (
        np.mean([seg(one.labels[0], one.images[0], method) for one in films]) for method in ("texture", "logstd")
    )
    assert by_texture > least
    assert by_texture > by_logstd


def test_splitting_tells_touching_cells_apart() -> None:
    crowd = film(n_cells=12, crowding=1.2, ruggedness=0.3)
    split, whole = (
        seg(crowd.labels[0], crowd.images[0], {"method": "texture", "split": ratio}) for ratio in (0.85, 0.0)
    )
    assert split > whole + 0.1


def test_the_same_cells_at_another_magnification_are_found_with_the_same_parameters() -> None:
    sharp = film(pixel_size_um=0.4, height=585, width=780)
    parameters = TextureParameters()
    assert jaccard_of_each(sharp.labels[0], segment_by_texture(sharp.images[0], parameters, 0.4)).mean() > 0.8
    own = segment_by_texture(sharp.images[0], TextureParameters(pixel_size_um=0.4), None)
    np.testing.assert_array_equal(own, segment_by_texture(sharp.images[0], parameters, 0.4))


def test_light_that_is_brighter_by_a_factor_makes_no_difference() -> None:
    image = film().images[0].astype(np.float32)
    one, twice = (segment_by_texture(factor * image, TextureParameters(), SCALE) for factor in (100, 200))
    assert jaccard_of_each(one, twice).min() > 0.99


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(1, 1), (5, 300), (64, 64)])
def test_an_even_image_of_any_shape_has_no_cells(dtype: type[np.generic], shape: tuple[int, int]) -> None:
    image = np.full(shape, 9, dtype)
    assert not segment_by_texture(image, TextureParameters(), SCALE).any()
    assert not segment_by_rims(image, RimParameters(), SCALE).any()


def test_round_cells_in_a_cluster_are_kept_apart_by_their_rims() -> None:
    y, x = np.indices((160, 160))
    rng = np.random.default_rng(1)
    image, truth = rng.normal(300, 5, (160, 160)), np.zeros((160, 160), np.int32)
    for number, (cy, cx) in enumerate([(60, 60), (60, 81), (78, 70), (79, 92), (97, 82)], start=1):
        distance = np.hypot(y - cy, x - cx)
        image += 700 * np.exp(-(((distance - 11) / 1.5) ** 2)) - 80 * (distance < 9)
        truth[distance < 10] = number
    labels = segment_by_rims(image.astype(np.float32), RimParameters(diameter_um=5.0), 0.22)
    assert jaccard_of_each(truth, labels).min() > 0.6


def test_a_size_of_pixels_is_needed() -> None:
    with pytest.raises(InvalidParametersError, match="pixel_size_um"):
        segment_by_texture(np.zeros((9, 9)), TextureParameters(), None)


def test_a_pixel_that_is_not_finite_is_named() -> None:
    image = np.zeros((9, 9))
    image[2, 3] = np.nan
    with pytest.raises(ProcessingError, match="row 2, column 3"):
        segment_by_texture(image, TextureParameters(), SCALE)


def test_jaccard_by_hand() -> None:
    truth = np.zeros((4, 12), int)
    truth[:, :4], truth[:, 4:8], truth[:, 8:] = 3, 1, 2
    found = np.zeros((4, 12), int)
    found[:3, :4] = 5  # three quarters of cell 3
    found[:, 4:6], found[:, 6:8] = 6, 7  # two halves of cell 1, neither more than half
    np.testing.assert_allclose(jaccard_of_each(truth, found), [0, 0, 0.75])
