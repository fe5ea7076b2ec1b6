"""Labelling and geometry of regions: the kernels against their oracle, and cases worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from tasks.bitmask import Bitmask
from tasks.errors import ProcessingError
from tasks.regions import LabelledFrame, find_regions
from tests import strategies
from tests.oracles import regions as oracle
from tests.oracles.squares import Mask

area_limits = st.one_of(st.none(), st.integers(1, 60))


def find(mask: ArrayLike, min_area: int | None = None, max_area: int | None = None) -> LabelledFrame:
    return find_regions(Bitmask.of(np.asarray(mask, dtype=bool)), min_area, max_area)


@given(strategies.masks(), area_limits, area_limits)
def test_labels_are_those_of_the_oracle(mask: Mask, min_area: int | None, max_area: int | None) -> None:
    np.testing.assert_array_equal(find(mask, min_area, max_area).paint_labels(), oracle.label(mask, min_area, max_area))


@settings(max_examples=2)
@given(strategies.masks(strategies.large_shapes), st.integers(150, 400))
def test_labels_of_large_masks_are_those_of_the_oracle(mask: Mask, min_area: int) -> None:
    np.testing.assert_array_equal(find(mask, min_area).paint_labels(), oracle.label(mask, min_area))


@given(strategies.masks())
def test_areas_and_boxes_are_those_of_the_oracle(mask: Mask) -> None:
    regions, labels = find(mask).regions, oracle.label(mask)
    np.testing.assert_array_equal(regions.area, [region.sum() for region in oracle.masks(labels)])
    np.testing.assert_array_equal(regions.boxes, oracle.boxes(labels))


@given(strategies.masks())
def test_centroids_are_the_mean_of_the_pixels(mask: Mask) -> None:
    expected = [np.argwhere(region)[:, ::-1].mean(axis=0) for region in oracle.masks(oracle.label(mask))]
    np.testing.assert_allclose(find(mask).regions.centroids, np.reshape(expected, (-1, 2)), rtol=1e-12)


@given(strategies.masks())
def test_second_moments_are_the_covariance_of_the_pixels(mask: Mask) -> None:
    expected = []
    for region in oracle.masks(oracle.label(mask)):
        dy, dx = (np.argwhere(region) - np.argwhere(region).mean(axis=0)).T
        expected.append([(dx * dx).mean(), (dy * dy).mean(), (dx * dy).mean()])
    np.testing.assert_allclose(find(mask).regions.second_moments, np.reshape(expected, (-1, 3)), rtol=1e-9, atol=1e-9)


@given(strategies.masks())
def test_painting_gives_each_region_its_value(mask: Mask) -> None:
    frame = find(mask)
    values = np.random.default_rng(0).integers(1, 65536, len(frame))
    expected = np.zeros(mask.shape, dtype=np.uint16)
    for value, region in zip(values, oracle.masks(oracle.label(mask)), strict=True):
        expected[region] = value
    np.testing.assert_array_equal(frame.paint(values), expected)


@given(strategies.masks())
def test_painting_into_a_used_image_clears_it(mask: Mask) -> None:
    frame = find(mask)
    used = np.full(mask.shape, 7, dtype=np.uint16)
    frame.paint(np.arange(1, len(frame) + 1), out=used)
    np.testing.assert_array_equal(used, frame.paint_labels())


@given(strategies.masks())
def test_regions_do_not_depend_on_the_layout_in_memory(mask: Mask) -> None:
    np.testing.assert_array_equal(find(np.asfortranarray(mask)).paint_labels(), find(mask).paint_labels())


def test_regions_that_touch_diagonally_are_two() -> None:
    np.testing.assert_array_equal(find([[1, 0], [0, 1]]).paint_labels(), [[1, 0], [0, 2]])


def test_labels_follow_the_first_pixel_in_raster_order_even_where_arms_meet_late() -> None:
    mask = [
        [0, 0, 1, 0, 1],
        [1, 0, 1, 0, 1],
        [1, 0, 0, 0, 1],
        [1, 1, 1, 1, 1],
    ]
    expected = [
        [0, 0, 1, 0, 2],
        [2, 0, 1, 0, 2],
        [2, 0, 0, 0, 2],
        [2, 2, 2, 2, 2],
    ]
    np.testing.assert_array_equal(find(mask).paint_labels(), expected)


def test_region_inside_a_ring_is_a_region_of_its_own() -> None:
    mask = np.ones((5, 5), dtype=int)
    mask[1:4, 1:4] = 0
    mask[2, 2] = 1
    regions = find(mask).regions
    np.testing.assert_array_equal(regions.area, [16, 1])
    np.testing.assert_array_equal(regions.boxes, [[0, 0, 4, 4], [2, 2, 2, 2]])
    np.testing.assert_array_equal(regions.centroids, [[2, 2], [2, 2]])


def test_area_limits_are_inclusive_and_labels_stay_consecutive() -> None:
    mask = [[1, 0, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1, 1]]
    np.testing.assert_array_equal(
        find(mask, min_area=2, max_area=3).paint_labels(), [[0, 0, 1, 1, 0, 2, 2, 2, 0, 0, 0, 0, 0]]
    )


def test_no_foreground_gives_no_regions() -> None:
    frame = find(np.zeros((4, 6)))
    assert len(frame) == 0
    assert frame.regions.boxes.shape == (0, 4)
    assert frame.regions.centroids.shape == (0, 2)
    assert not frame.paint_labels().any()


def test_perimeter_is_left_out_unless_asked_for() -> None:
    assert np.isnan(find(np.ones((3, 3))).regions.perimeter).all()


def chessboard(shape: tuple[int, int]) -> Mask:
    """Isolated pixels, half of the image."""
    return np.asarray(np.indices(shape).sum(axis=0) % 2 == 0)


def test_as_many_regions_as_labels_can_tell_apart() -> None:
    mask = chessboard((2, 65535))
    assert len(find(mask)) == 65535
    assert find(mask).paint_labels().max() == 65535


def test_more_regions_than_labels_is_an_error() -> None:
    with pytest.raises(ProcessingError, match="65536"):
        find(chessboard((2, 65536)))


def test_regions_left_out_by_area_do_not_count_against_the_limit() -> None:
    mask = chessboard((2, 70000))
    mask[:, :2] = True
    assert len(find(mask, min_area=2)) == 1
