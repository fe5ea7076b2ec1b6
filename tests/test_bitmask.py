"""Packed masks: every operation against the same on arrays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tasks.bitmask import MOST_RADIUS, Bitmask
from tasks.runs import Runs
from tests import strategies
from tests.oracles import squares
from tests.oracles.squares import Mask

# Widths around the 64 pixels of a word.
shapes = st.one_of(strategies.shapes, st.tuples(st.integers(1, 40), st.integers(60, 200)))
masks = strategies.masks(shapes)
radii = st.one_of(st.integers(0, 12), st.integers(0, MOST_RADIUS))


def painted(runs: Runs, shape: tuple[int, int]) -> NDArray[np.int64]:
    """How often each pixel is in a run."""
    times = np.zeros(shape, dtype=np.int64)
    for row, start, stop in zip(*runs, strict=True):
        assert 0 <= start < stop <= shape[1]
        times[row, start:stop] += 1
    return times


@given(masks)
def test_packing_and_unpacking_gives_the_mask_back(mask: Mask) -> None:
    packed = Bitmask.of(mask)
    assert packed.shape == mask.shape
    np.testing.assert_array_equal(packed.to_array(), mask)


@given(masks, radii)
def test_erosion_is_that_of_the_oracle(mask: Mask, radius: int) -> None:
    np.testing.assert_array_equal(Bitmask.of(mask).eroded(radius).to_array(), squares.eroded(mask, 2 * radius + 1))


@given(masks, radii)
def test_dilation_is_that_of_the_oracle(mask: Mask, radius: int) -> None:
    np.testing.assert_array_equal(Bitmask.of(mask).dilated(radius).to_array(), squares.dilated(mask, 2 * radius + 1))


@given(masks, radii)
def test_operations_leave_the_mask_alone(mask: Mask, radius: int) -> None:
    packed = Bitmask.of(mask)
    packed.dilated(radius)
    packed.eroded(radius)
    packed.with_runs(packed.gaps()[0])
    np.testing.assert_array_equal(packed.to_array(), mask)


@pytest.mark.parametrize("inverted", [False, True])
@given(mask=masks)
def test_runs_cover_each_pixel_once_in_raster_order(mask: Mask, inverted: bool) -> None:
    packed = Bitmask.of(mask)
    runs, first_of_row = packed.gaps() if inverted else packed.runs()
    np.testing.assert_array_equal(painted(runs, mask.shape), mask != inverted)
    places = list(zip(runs.row.tolist(), runs.start.tolist(), strict=True))
    assert places == sorted(places)
    np.testing.assert_array_equal(first_of_row, np.searchsorted(runs.row, np.arange(mask.shape[0] + 1)))


@given(masks)
def test_runs_are_as_long_as_they_can_be(mask: Mask) -> None:
    runs, _ = Bitmask.of(mask).runs()
    n_beginnings = int((np.diff(np.pad(mask.astype(np.int8), ((0, 0), (1, 0))), axis=1) == 1).sum())
    assert len(runs.row) == n_beginnings


@given(strategies.images_with_masks(shapes, dtypes=[np.uint8]))
def test_adding_runs_is_a_union(pair: tuple[NDArray[np.uint8], Mask]) -> None:
    image, mask = pair
    other = image > 100
    united = Bitmask.of(mask).with_runs(Bitmask.of(other).runs()[0])
    np.testing.assert_array_equal(united.to_array(), mask | other)


@given(strategies.images(shapes, dtypes=[np.float32]), st.floats(0, 65535, width=32))
def test_bound_is_inclusive(image: NDArray[np.float32], bound: float) -> None:
    np.testing.assert_array_equal(Bitmask.at_least(image, bound).to_array(), image >= bound)


def test_more_runs_than_fit_at_first() -> None:
    mask = np.indices((300, 129)).sum(axis=0) % 2 == 0
    runs, _ = Bitmask.of(mask).runs()
    np.testing.assert_array_equal(painted(runs, mask.shape), mask)


@pytest.mark.parametrize("radius", [-1, MOST_RADIUS + 1])
def test_a_radius_beyond_a_word_is_refused(radius: int) -> None:
    with pytest.raises(ValueError, match="outside 0 to 64"):
        Bitmask.of(np.ones((3, 3), np.bool_)).eroded(radius)
