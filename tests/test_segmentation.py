"""Segmentation: the kernels against their oracle, and cases worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from scipy import ndimage

from tasks.bitmask import Bitmask
from tasks.errors import ProcessingError
from tasks.segmentation import clean, fill_holes, foreground, local_variance, segment
from tests import strategies
from tests.oracles import segmentation as oracle
from tests.oracles.segmentation import Arithmetic, Image
from tests.oracles.squares import Mask

ARITHMETICS: list[Arithmetic] = ["float32", "exact"]
either_arithmetic = st.sampled_from(ARITHMETICS)
whole_numbers = strategies.images(dtypes=[np.uint8, np.uint16])


def found_in(image: Image, arithmetic: Arithmetic = "float32") -> Mask:
    return foreground(image, arithmetic).to_array()


def segmented(image: Image, arithmetic: Arithmetic = "float32") -> Mask:
    return segment(image, arithmetic).to_array()


def cleaned(mask: ArrayLike) -> Mask:
    return clean(Bitmask.of(np.asarray(mask, dtype=bool))).to_array()


def filled(mask: ArrayLike) -> Mask:
    return fill_holes(Bitmask.of(np.asarray(mask, dtype=bool))).to_array()


def where_positive(variance: np.ndarray[tuple[int, int], np.dtype[np.floating]]) -> Image:
    """Put 1, whose logarithm is 0, where rounding leaves no positive variance."""
    return np.where(variance > 0, variance, variance.dtype.type(1))


@given(strategies.images())
def test_float32_variance_is_that_of_the_oracle_bit_by_bit(image: Image) -> None:
    np.testing.assert_array_equal(local_variance(image), where_positive(oracle.float32_variance(image)))


@given(whole_numbers)
def test_exact_variance_of_whole_numbers_is_that_of_the_oracle_bit_by_bit(image: Image) -> None:
    np.testing.assert_array_equal(local_variance(image, "exact"), where_positive(oracle.exact_variance(image)))


@given(strategies.images(dtypes=[np.float32]))
def test_exact_variance_of_fractions_is_near_that_of_the_oracle(image: Image) -> None:
    expected = oracle.exact_variance(image)
    varied = expected > 1e-9 * float(np.abs(image).max()) ** 2
    np.testing.assert_allclose(local_variance(image, "exact")[varied], expected[varied], rtol=1e-6)


@given(strategies.images(dtypes=[np.uint8]))
def test_oracle_of_the_variance_is_a_uniform_filter_in_float32(image: Image) -> None:
    x = image.astype(np.float32)
    mean, mean_of_squares = (ndimage.uniform_filter(values, 3, mode="nearest") for values in (x, x * x))
    np.testing.assert_array_equal(oracle.float32_variance(image), mean_of_squares - mean * mean)


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_variance_of_one_bright_pixel_among_nine(arithmetic: Arithmetic) -> None:
    image = np.array([[0, 0, 0], [0, 9, 0], [0, 0, 0]], dtype=np.uint16)
    np.testing.assert_array_equal(local_variance(image, arithmetic), np.full((3, 3), 8.0))


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_variance_repeats_the_edge_of_the_image(arithmetic: Arithmetic) -> None:
    # Left window: columns 0, 0, 3 with mean 1 and mean square 3; right window: 0, 3, 3 with 2 and 6.
    image = np.array([[0, 3], [0, 3]], dtype=np.uint8)
    np.testing.assert_array_equal(local_variance(image, arithmetic), [[2, 2], [2, 2]])


def test_exact_variance_survives_where_float32_cancels() -> None:
    image = np.full((3, 3), 65000, dtype=np.uint16)
    image[1, 1] += 3
    assert local_variance(image, "exact")[1, 1] == 8 / 9
    assert local_variance(image, "float32")[1, 1] != pytest.approx(8 / 9)


@given(strategies.images())
def test_foreground_is_that_of_the_oracle(image: Image) -> None:
    np.testing.assert_array_equal(found_in(image), oracle.foreground(image))


@given(whole_numbers)
def test_foreground_by_exact_arithmetic_is_that_of_the_oracle(image: Image) -> None:
    np.testing.assert_array_equal(found_in(image, "exact"), oracle.foreground(image, "exact"))


@settings(max_examples=8)
@given(strategies.images(strategies.large_shapes))
def test_segmentation_of_large_images_is_that_of_the_oracle(image: Image) -> None:
    np.testing.assert_array_equal(segmented(image), oracle.segment(image))


@given(whole_numbers, either_arithmetic)
def test_segmentation_is_that_of_the_oracle(image: Image, arithmetic: Arithmetic) -> None:
    np.testing.assert_array_equal(segmented(image, arithmetic), oracle.segment(image, arithmetic))


@given(whole_numbers)
def test_foreground_does_not_depend_on_the_integer_type(image: Image) -> None:
    np.testing.assert_array_equal(found_in(image), found_in(image.astype(np.int32)))


@given(strategies.images(dtypes=[np.uint8]))
def test_mirrored_image_has_the_mirrored_foreground(image: Image) -> None:
    np.testing.assert_array_equal(found_in(image[:, ::-1]), found_in(image)[:, ::-1])


@given(whole_numbers, either_arithmetic)
def test_segmentation_leaves_its_input_alone(image: Image, arithmetic: Arithmetic) -> None:
    before = image.copy()
    segmented(image, arithmetic)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize("value", [0, 1, 30000, 65535])
def test_constant_image_has_no_foreground(value: int, arithmetic: Arithmetic) -> None:
    assert not found_in(np.full((50, 60), value, dtype=np.uint16), arithmetic).any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (2, 2)])
def test_tiny_images_can_be_segmented(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 65536, shape).astype(np.uint16)
    assert segmented(image).shape == shape


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_pixel_is_an_error(value: float, arithmetic: Arithmetic) -> None:
    image = np.zeros((20, 20), dtype=np.float32)
    image[7, 11] = value
    with pytest.raises(ProcessingError, match=r"7.*11"):
        segmented(image, arithmetic)


def test_textured_disc_on_a_calm_background_is_found() -> None:
    rng = np.random.default_rng(1)
    y, x = np.ogrid[:120, :120]
    disc = np.hypot(y - 60, x - 60) < 25
    image = np.where(disc, rng.normal(1000, 300, disc.shape), rng.normal(1000, 5, disc.shape)).astype(np.uint16)
    mask = segmented(image)
    assert mask[disc].mean() > 0.95
    assert mask[np.hypot(y - 60, x - 60) > 30].sum() == 0


@given(strategies.masks())
def test_cleaning_is_that_of_the_oracle(mask: Mask) -> None:
    np.testing.assert_array_equal(cleaned(mask), oracle.clean(mask))


@settings(max_examples=8)
@given(strategies.masks(strategies.large_shapes))
def test_cleaning_of_large_masks_is_that_of_the_oracle(mask: Mask) -> None:
    np.testing.assert_array_equal(cleaned(mask), oracle.clean(mask))


@given(strategies.masks())
def test_holes_are_those_of_the_oracle(mask: Mask) -> None:
    np.testing.assert_array_equal(filled(mask), oracle.fill_holes(mask))


@given(strategies.masks(st.tuples(st.integers(19, 90), st.integers(19, 90))))
def test_oracle_of_the_cleaning_is_iterated_morphology(mask: Mask) -> None:
    square = np.ones((7, 7), dtype=bool)
    without_holes = ndimage.binary_fill_holes(mask)
    opened = ndimage.binary_opening(without_holes, square, iterations=3)
    np.testing.assert_array_equal(oracle.clean(mask), ndimage.binary_closing(opened, square, iterations=3))


@given(strategies.masks())
def test_cleaning_leaves_its_input_alone(mask: Mask) -> None:
    packed = Bitmask.of(mask)
    clean(packed)
    np.testing.assert_array_equal(packed.to_array(), mask)


def test_background_enclosed_by_diagonal_neighbours_is_a_hole() -> None:
    diamond = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], dtype=np.uint8)
    np.testing.assert_array_equal(filled(diamond), [[0, 1, 0], [1, 1, 1], [0, 1, 0]])


def test_bay_that_is_open_to_the_edge_is_no_hole() -> None:
    bay = np.array([[1, 1, 1], [1, 0, 1], [1, 0, 1]], dtype=np.uint8)
    np.testing.assert_array_equal(filled(bay), bay)


def test_nested_rings_are_filled() -> None:
    rings = np.zeros((9, 9), dtype=np.uint8)
    for inset in (1, 3):
        rings[inset : 9 - inset, inset : 9 - inset] = 1
        rings[inset + 1 : 8 - inset, inset + 1 : 8 - inset] = 0
    expected = np.zeros((9, 9), dtype=np.uint8)
    expected[1:8, 1:8] = 1
    np.testing.assert_array_equal(filled(rings), expected)


@pytest.mark.parametrize(("side", "stays"), [(18, False), (19, True)])
def test_squares_smaller_than_the_opening_vanish(side: int, *, stays: bool) -> None:
    mask = np.zeros((80, 80), dtype=np.uint8)
    mask[30 : 30 + side, 30 : 30 + side] = 1
    np.testing.assert_array_equal(cleaned(mask), mask if stays else np.zeros_like(mask))


@pytest.mark.parametrize(("gap", "closes"), [(18, True), (19, False)])
def test_gaps_smaller_than_the_closing_close(gap: int, *, closes: bool) -> None:
    mask = np.zeros((80, 120), dtype=np.uint8)
    mask[20:60, 20:50] = mask[20:60, 50 + gap : 80 + gap] = 1
    assert cleaned(mask)[20:60, 50 : 50 + gap].all() == closes


def test_all_foreground_recedes_from_the_edge_since_the_outside_is_background() -> None:
    expected = np.zeros((60, 50), dtype=np.uint8)
    expected[9:51, 9:41] = 1
    np.testing.assert_array_equal(cleaned(np.ones((60, 50), dtype=np.uint8)), expected)
