"""Background: the kernels against their oracle, and cases worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from scipy.interpolate import RectBivariateSpline

from tasks.background import BackgroundPixels, Surface, background_pixels, block_edges, tile_grid
from tasks.bitmask import Bitmask
from tasks.errors import ProcessingError
from tests import strategies
from tests.oracles import background as oracle
from tests.oracles.segmentation import Image
from tests.oracles.squares import Mask

tile_levels = st.sampled_from([1.0, 300.0, 65535.0])


def estimated(image: Image, left_out: ArrayLike | None = None) -> Surface:
    """Estimate the background from all pixels but those that are left out."""
    near_cells = Bitmask.of(np.zeros(image.shape, bool) if left_out is None else np.asarray(left_out, bool))
    return tile_grid(*image.shape).estimate(image, BackgroundPixels(near_cells, *near_cells.gaps()))


def check_estimate(image: Image, left_out: Mask) -> None:
    """Compare tile values exactly, and the surface to rounding of float32."""
    estimate = estimated(image, left_out)
    expected = oracle.tile_values(image, left_out)
    np.testing.assert_array_equal(estimate.tile_values, expected.values)
    assert estimate.without_background == expected.fully_masked
    surface = oracle.surface(expected.values, *image.shape)
    scale = float(np.abs(expected.values).max(initial=1))
    np.testing.assert_allclose(estimate.image(), surface, rtol=1e-6, atol=1e-7 * scale)


@given(strategies.masks())
def test_pixels_near_cells_are_those_of_the_oracle(mask: Mask) -> None:
    near_cells = background_pixels(Bitmask.of(mask)).near_cells
    np.testing.assert_array_equal(near_cells.to_array(), oracle.excluded(mask))


@given(strategies.images_with_masks())
def test_background_is_that_of_the_oracle(image_and_mask: tuple[Image, Mask]) -> None:
    check_estimate(*image_and_mask)


@settings(max_examples=12)
@given(strategies.images_with_masks(strategies.large_shapes))
def test_background_of_large_images_is_that_of_the_oracle(image_and_mask: tuple[Image, Mask]) -> None:
    check_estimate(*image_and_mask)


@given(st.integers(1, 5000))
def test_tiles_are_those_of_the_oracle(n: int) -> None:
    np.testing.assert_array_equal(block_edges(n), oracle.edges(n))


@given(st.integers(1, 5000))
def test_tiles_cover_every_pixel_and_none_is_empty(n: int) -> None:
    edges = block_edges(n)
    assert (edges[0], edges[-1]) == (0, n)
    assert (edges[2:] > edges[:-2]).all()
    assert (edges[2:] - edges[:-2]).max() <= 257


@pytest.mark.parametrize(
    ("n", "edges"),
    [
        (1, [0, 0, 1]),
        (256, [0, 128, 256]),
        (257, [0, 64, 128, 193, 257]),
        (544, [0, 91, 181, 272, 363, 453, 544]),
    ],
)
def test_edges_worked_out_by_hand(n: int, edges: list[int]) -> None:
    np.testing.assert_array_equal(block_edges(n), edges)


@given(st.integers(700, 1200), st.integers(700, 1200), strategies.seeds)
@settings(max_examples=6)
def test_oracle_of_the_surface_is_a_bivariate_spline(height: int, width: int, seed: int) -> None:
    rows, columns = oracle.centres(height), oracle.centres(width)
    values = np.random.default_rng(seed).uniform(100, 200, (len(rows), len(columns)))
    spline = RectBivariateSpline(rows, columns, values, s=0)
    y, x = np.clip(np.arange(height), rows[0], rows[-1]), np.clip(np.arange(width), columns[0], columns[-1])
    np.testing.assert_allclose(oracle.surface(values, height, width), spline(y, x), rtol=1e-9)


@pytest.mark.parametrize("shape", [(1, 1), (1, 600), (200, 300), (512, 512), (513, 257)])
def test_even_background_is_found_exactly(shape: tuple[int, int]) -> None:
    image = np.full(shape, 321, dtype=np.uint16)
    surface = estimated(image).image()
    np.testing.assert_allclose(surface, 321, rtol=1e-6)


def test_slope_is_followed_between_the_outermost_centres_and_constant_outside() -> None:
    image = np.tile(np.arange(544, dtype=np.uint16), (300, 1))
    surface = estimated(image).image()
    # The median of whole numbers from 0 to 180 is 90; the tile's centre is at 90.5.
    assert surface[0, 0] == pytest.approx(90)
    np.testing.assert_allclose(surface[:, :91], 90, atol=1e-3)
    np.testing.assert_allclose(surface[:, 91:453], image[:, 91:453] - 0.5, atol=0.6)
    np.testing.assert_allclose(surface[:, 454:], surface[0, 454])


def test_median_of_an_even_number_is_the_mean_of_the_middle_two() -> None:
    image = np.array([[1, 2], [7, 65535]], dtype=np.uint16)
    estimate = estimated(image)
    assert estimate.tile_values == 4.5


def test_median_of_an_odd_number_leaves_out_excluded_pixels() -> None:
    image = np.array([[1, 2], [7, 65535]], dtype=np.uint16)
    estimate = estimated(image, [[1, 0], [0, 0]])
    assert estimate.tile_values == 7


def test_tile_without_background_takes_the_median_of_what_the_frame_has() -> None:
    image = np.random.default_rng(5).integers(90, 110, (600, 600)).astype(np.uint16)
    left_out = np.zeros(image.shape, dtype=np.uint8)
    left_out[:200, :200] = 1
    image[:200, :200] = 60000
    estimate = estimated(image, left_out)
    assert estimate.tile_values[0, 0] == np.median(image[left_out == 0])
    assert not estimate.without_background


def test_frame_without_background_takes_its_first_percentile_and_says_so() -> None:
    image = np.arange(300 * 300, dtype=np.uint16).reshape(300, 300) % 997
    estimate = estimated(image, np.ones(image.shape))
    assert estimate.without_background
    np.testing.assert_array_equal(estimate.tile_values, np.percentile(image, 1))
    np.testing.assert_allclose(estimate.image(), np.percentile(image, 1), rtol=1e-6)


@given(tile_levels)
def test_cells_that_are_left_out_do_not_change_the_background(level: float) -> None:
    rng = np.random.default_rng(6)
    image = rng.integers(0, 1000, (270, 280)).astype(np.uint16)
    left_out = np.zeros(image.shape, dtype=np.uint8)
    left_out[50:120, 60:130] = 1
    brightened = np.where(left_out == 1, int(level), image).astype(np.uint16)
    np.testing.assert_array_equal(estimated(image, left_out).image(), estimated(brightened, left_out).image())


def test_non_finite_pixel_is_an_error() -> None:
    image = np.zeros((9, 9), dtype=np.float32)
    image[2, 3] = np.nan
    with pytest.raises(ProcessingError, match=r"2.*3"):
        estimated(image)
