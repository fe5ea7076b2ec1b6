"""Features of regions: what the kernels fill and the registry computes, against their oracle."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

from tasks.background import Surface, tile_grid
from tasks.bitmask import Bitmask
from tasks.features import FLUORESCENCE_FEATURES, PHASE_FEATURES
from tasks.regions import find_regions, measure
from tests import strategies
from tests.oracles import background, regions
from tests.oracles.segmentation import Image
from tests.oracles.squares import Mask

Features = dict[str, NDArray[np.float64]]

weights = st.sampled_from([0.0, 0.3, 1.0])
erosions = st.integers(0, 4)


def phase_features(mask: ArrayLike) -> Features:
    frame = find_regions(Bitmask.of(np.asarray(mask, dtype=bool)), with_perimeter=True)
    return {name: feature.compute(frame.regions) for name, feature in PHASE_FEATURES.items()}


def fluorescence_features(
    mask: ArrayLike, image: Image, tiles: ArrayLike, *, weight: float = 1.0, erosion: int = 0
) -> Features:
    surface = Surface(tile_grid(*image.shape), np.asarray(tiles, dtype=np.float64))
    frame = find_regions(Bitmask.of(np.asarray(mask, dtype=bool)))
    intensities = measure(frame.eroded(erosion), image, surface, weight=weight, pixelwise=True)
    return {name: feature.compute(intensities) for name, feature in FLUORESCENCE_FEATURES.items()}


def random_tiles(shape: tuple[int, int], level: float) -> NDArray[np.float64]:
    n_rows, n_columns = (len(background.centres(n)) for n in shape)
    return np.random.default_rng(3).uniform(0.5 * level, 1.5 * level, (n_rows, n_columns))


@given(strategies.masks())
def test_phase_features_are_those_of_the_oracle(mask: Mask) -> None:
    computed = phase_features(mask)
    expected = [regions.geometry(region) for region in regions.masks(regions.label(mask))]
    for name, values in computed.items():
        np.testing.assert_allclose(values, [row[name] for row in expected], rtol=1e-9, atol=1e-6, err_msg=name)


@given(strategies.images_with_masks(), weights, erosions, st.floats(0, 65535))
def test_fluorescence_features_are_those_of_the_oracle(
    image_and_mask: tuple[Image, Mask], weight: float, erosion: int, level: float
) -> None:
    check_fluorescence(*image_and_mask, weight, erosion, level)


@settings(max_examples=6)
@given(strategies.images_with_masks(strategies.large_shapes), weights, erosions)
def test_fluorescence_features_of_large_images_are_those_of_the_oracle(
    image_and_mask: tuple[Image, Mask], weight: float, erosion: int
) -> None:
    image, mask = image_and_mask
    # Few large regions: the oracle looks at the whole image for each.
    labels = regions.label(mask, min_area=image.size // 200 + 1)
    check_fluorescence(image, labels > 0, weight, erosion, level=1000.0)


def check_fluorescence(image: Image, mask: Mask, weight: float, erosion: int, level: float) -> None:
    tiles = random_tiles(image.shape, level)
    computed = fluorescence_features(mask, image, tiles, weight=weight, erosion=erosion)
    behind = background.surface(tiles, *image.shape)
    found = regions.masks(regions.label(mask))
    expected = [regions.intensities(region, image, behind, weight, erosion) for region in found]
    # Rounding grows with what is added up, not with what is left after subtracting.
    brightest = float(image.max()) + 2 * level
    for name, values in computed.items():
        scale = np.array([brightest * (region.sum() if name == "intensity_total" else 1) for region in found])
        wanted = np.array([row[name] for row in expected])
        np.testing.assert_array_equal(np.isnan(values), np.isnan(wanted), err_msg=name)
        difference = np.nan_to_num(values - wanted)
        assert (np.abs(difference) <= 1e-10 * scale).all(), name


@given(strategies.images_with_masks(), erosions)
def test_totals_are_the_same_bytes_whether_or_not_pixels_are_compared(
    image_and_mask: tuple[Image, Mask], erosion: int
) -> None:
    image, mask = image_and_mask
    surface = Surface(tile_grid(*image.shape), random_tiles(image.shape, 500.0))
    frame = find_regions(Bitmask.of(mask))
    with_pixels, without = (
        measure(frame.eroded(erosion), image, surface, pixelwise=pixelwise) for pixelwise in (True, False)
    )
    np.testing.assert_array_equal(with_pixels.total, without.total)
    np.testing.assert_array_equal(with_pixels.area, without.area)


def test_single_pixel_has_no_shape() -> None:
    features = phase_features([[0, 0, 0], [0, 1, 0], [0, 0, 0]])
    assert features["area"] == 1
    assert np.isnan(features["aspect_ratio"])
    assert np.isnan(features["eccentricity"])
    assert features["perimeter"] == 0
    assert np.isnan(features["circularity"])


@pytest.mark.parametrize("shape", [(1, 2), (2, 1), (1, 7), (40, 1)])
def test_line_has_eccentricity_one_and_no_aspect_ratio(shape: tuple[int, int]) -> None:
    features = phase_features(np.pad(np.ones(shape), 3))
    assert np.isnan(features["aspect_ratio"])
    assert features["eccentricity"] == 1


def test_square_has_aspect_ratio_one_and_no_eccentricity() -> None:
    features = phase_features(np.pad(np.ones((9, 9)), 2))
    assert features["aspect_ratio"] == pytest.approx(1, abs=1e-12)
    assert features["eccentricity"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("radius", [1.0, 1.5, 2.0, 2.3, 3.0, 5.0, 7.5, 20.0])
def test_symmetric_shapes_have_defined_axes(radius: float) -> None:
    y, x = np.ogrid[-30:31, -30:31]
    features = phase_features(np.hypot(y, x) <= radius)
    assert features["aspect_ratio"] == pytest.approx(1, abs=1e-12)
    assert features["eccentricity"] == pytest.approx(0, abs=1e-6)


def test_rectangle_has_the_axes_of_its_pixel_variances() -> None:
    # The variance of w whole numbers in a row is (w^2 - 1) / 12.
    features = phase_features(np.pad(np.ones((5, 11)), 2))
    assert features["aspect_ratio"] == pytest.approx(np.sqrt((11**2 - 1) / (5**2 - 1)))
    assert features["eccentricity"] == pytest.approx(np.sqrt(1 - (5**2 - 1) / (11**2 - 1)))


def test_perimeter_goes_through_the_centres_of_the_outer_pixels() -> None:
    features = phase_features(np.pad(np.ones((5, 11)), 2))
    assert features["perimeter"] == 2 * (4 + 10)
    assert features["circularity"] == pytest.approx(4 * np.pi * 55 / 28**2)


def test_diagonal_neighbours_do_not_share_an_outline() -> None:
    apart = phase_features(np.kron(np.eye(2), np.ones((4, 4))))
    assert apart["perimeter"].tolist() == [12, 12]


def test_intensities_of_four_pixels() -> None:
    image = np.array([[10, 12, 0], [14, 20, 0]], dtype=np.uint16)
    features = fluorescence_features([[1, 1, 0], [1, 1, 0]], image, [[4.0]], weight=0.5)
    assert features["intensity_total"] == 56 - 0.5 * 4 * 4
    assert features["intensity_mean"] == 12
    assert features["intensity_std"] == pytest.approx(np.std([10, 12, 14, 20]))
    assert features["intensity_max"] == 18


def test_erosion_measures_the_inside() -> None:
    image = np.arange(25, dtype=np.uint8).reshape(5, 5)
    features = fluorescence_features(np.ones((5, 5)), image, [[0.0]], erosion=2)
    assert features["intensity_total"] == image[2, 2]
    assert features["intensity_mean"] == image[2, 2]


def test_region_that_erodes_away_has_no_intensities() -> None:
    features = fluorescence_features(np.ones((4, 4)), np.ones((4, 4), np.uint16), [[0.0]], erosion=2)
    assert all(np.isnan(values).all() for values in features.values())


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_saturated_pixels_add_up_without_overflow(dtype: type[np.generic]) -> None:
    brightest = 255 if dtype is np.uint8 else 65535
    image = np.full((600, 530), brightest, dtype=dtype)
    tiles = np.zeros_like(random_tiles(image.shape, 1.0))
    features = fluorescence_features(np.ones(image.shape), image, tiles)
    assert features["intensity_total"] == brightest * image.size
