"""Shades of grey, outlines and smaller images, against what is obvious, pixel by pixel."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from tasks.display import (
    contrast_limits,
    label_centres,
    outline,
    reduced,
    reduced_mask,
    reduction,
    to_grey,
)

SHAPES = st.tuples(st.integers(1, 12), st.integers(1, 12))
COUNTS = hnp.arrays(np.uint16, SHAPES)
FLOATS = hnp.arrays(np.float32, SHAPES, elements=st.floats(-1e6, 1e6, width=32))
LABELS = hnp.arrays(np.uint16, SHAPES, elements=st.integers(0, 3))
FACTORS = st.integers(1, 5)


def squares(image: NDArray[Any], factor: int) -> list[list[NDArray[Any]]]:
    """Squares of an image, cut off at its edge."""
    rows, columns = (range(0, n, factor) for n in image.shape)
    return [[image[y : y + factor, x : x + factor] for x in columns] for y in rows]


@given(LABELS)
def test_an_outline_is_where_a_neighbour_is_another(labels: NDArray[np.uint16]) -> None:
    height, width = labels.shape
    found = outline(labels)
    for y in range(height):
        for x in range(width):
            neighbours = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
            others = {labels[v, u] for v, u in neighbours if 0 <= v < height and 0 <= u < width}
            assert found[y, x] == (labels[y, x] > 0 and bool(others - {labels[y, x]}))


@given(COUNTS | FLOATS, FACTORS)
def test_a_reduced_image_is_the_mean_of_its_squares(image: NDArray[Any], factor: int) -> None:
    expected = [[square.mean(dtype=np.float64) for square in row] for row in squares(image, factor)]
    np.testing.assert_allclose(reduced(image, factor), expected, rtol=1e-5, atol=1e-1)


@given(LABELS, FACTORS)
def test_a_reduced_mask_is_set_where_any_pixel_is(labels: NDArray[np.uint16], factor: int) -> None:
    mask = labels > 0
    assert reduced_mask(mask, factor).tolist() == [[bool(s.any()) for s in row] for row in squares(mask, factor)]


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(16, 5000))
def test_the_reduction_is_the_least_that_fits(height: int, width: int, max_size: int) -> None:
    factor = reduction(height, width, max_size)
    assert -(-max(height, width) // factor) <= max_size
    assert factor == 1 or -(-max(height, width) // (factor - 1)) > max_size


@given(COUNTS | FLOATS, st.floats(-1e5, 1e5), st.floats(-1e5, 1e5))
def test_shades_are_even_between_black_and_white(image: NDArray[Any], black: float, white: float) -> None:
    grey = to_grey(image, black, white)
    for count, shade in zip(image.ravel().tolist(), grey.ravel().tolist(), strict=True):
        if not np.float32(white - black) > 0:
            assert shade == (255 if count > np.float32(black) else 0)
        else:
            expected = min(255.0, max(0.0, 255 * (count - black) / (white - black)))
            # Single precision: an error in proportion to the counts, spread over the shades.
            assert abs(shade - expected) <= 0.51 + 255 * 1e-6 * (abs(count) + abs(black)) / (white - black)


@given(COUNTS | FLOATS)
def test_contrast_is_given_by_percentiles(image: NDArray[Any]) -> None:
    assert contrast_limits(image, 1, 99.8) == pytest.approx(tuple(np.percentile(image, (1, 99.8))))


def test_contrast_of_a_large_image_is_nearly_that_of_all_its_pixels() -> None:
    image = np.random.default_rng(0).normal(1000, 50, (1500, 1100))
    assert contrast_limits(image, 1, 99.8) == pytest.approx(tuple(np.percentile(image, (1, 99.8))), rel=0.01)


def test_pixels_that_are_not_finite_have_no_part_in_the_contrast() -> None:
    image = np.array([[1.0, np.nan, 3.0], [np.inf, 2.0, -np.inf]], np.float32)
    assert contrast_limits(image, 0, 100) == (1.0, 3.0)
    assert contrast_limits(np.full((2, 2), np.nan), 0, 100) == (0.0, 0.0)
    assert to_grey(image, 1, 3).tolist() == [[0, 0, 255], [255, 128, 0]]


@given(LABELS)
def test_the_centre_of_a_label_is_the_mean_of_its_pixels(labels: NDArray[np.uint16]) -> None:
    centres = label_centres(labels)
    assert sorted(centres) == sorted(set(labels[labels > 0].tolist()))
    for label, (x, y) in centres.items():
        rows, columns = np.nonzero(labels == label)
        assert (x, y) == pytest.approx((columns.mean(), rows.mean()))
