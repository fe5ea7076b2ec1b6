"""Splitting landscapes and masks, against sets of pixels and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tasks.splitting import distance_inside, split_landscape, split_mask
from tests import strategies
from tests.oracles import splitting as oracle


@st.composite
def landscapes(draw: st.DrawFn) -> NDArray[np.float64]:
    """Few levels, so that plateaus and ties are common."""
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    rng = np.random.default_rng(draw(strategies.seeds))
    return rng.integers(-1, draw(st.integers(2, 30)), shape).astype(np.float64)


ratios = st.sampled_from([0.0, 0.3, 0.75, 0.9, 1.0])


@settings(max_examples=60)
@given(landscapes(), ratios, st.sampled_from([0, 3, 10]))
def test_hills_are_those_of_the_oracle(heights: NDArray[np.float64], ratio: float, min_area: int) -> None:
    expected = oracle.as_labels(oracle.split_landscape(heights, ratio, min_area), heights.shape)
    np.testing.assert_array_equal(split_landscape(heights, ratio, min_area), expected)


@given(landscapes(), ratios, st.sampled_from([0.5, 4.0]))
def test_scaled_landscape_has_the_same_hills(heights: NDArray[np.float64], ratio: float, scale: float) -> None:
    np.testing.assert_array_equal(split_landscape(scale * heights, ratio), split_landscape(heights, ratio))


@given(landscapes(), ratios)
def test_all_land_and_no_water_is_labelled(heights: NDArray[np.float64], ratio: float) -> None:
    labels = split_landscape(heights, ratio)
    np.testing.assert_array_equal(labels > 0, heights > 0)
    assert set(np.unique(labels)) - {0} == set(range(1, labels.max() + 1))


def discs(*centres: tuple[float, float], radius: float = 12.0) -> NDArray[np.bool_]:
    y, x = np.indices((60, 90))
    return np.asarray(np.any([np.hypot(y - cy, x - cx) <= radius for cy, cx in centres], axis=0))


def test_two_discs_that_touch_are_two_cells_divided_at_the_neck() -> None:
    labels = split_mask(discs((30, 30), (30, 51)), 0.85)
    assert labels.max() == 2
    assert set(np.unique(labels[:, :40])) == {0, 1}
    assert set(np.unique(labels[:, 42:])) == {0, 2}


@pytest.mark.parametrize("apart", [0, 4, 8])
def test_an_oblong_cell_is_one(apart: int) -> None:
    assert split_mask(discs((30, 30), (30, 30 + apart)), 0.85).max() == 1


def test_nothing_is_split_at_a_ratio_of_0() -> None:
    assert split_mask(discs((30, 30), (30, 51)), 0.0).max() == 1


def test_a_part_that_is_too_small_is_not_split_off() -> None:
    mask = discs((30, 30)) | discs((30, 46), radius=5)
    assert split_mask(mask, 0.85).max() == 2
    assert split_mask(mask, 0.85, min_area=100).max() == 1


def test_distance_knows_nothing_of_what_is_outside_the_image() -> None:
    mask = np.ones((20, 30), np.bool_)
    mask[:, 20:] = False
    np.testing.assert_allclose(distance_inside(mask)[:, 0], 20)
    assert (distance_inside(np.ones((4, 7), np.bool_)) >= 7).all()
