"""Tracking: matches against the least cost there is, and cases worked out by hand."""

from itertools import pairwise, permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

from tasks.errors import ProcessingError
from tasks.tracking import Boxes, Tracker, match
from tests import strategies
from tests.oracles import tracking as oracle

min_ious = st.sampled_from([0.01, 0.1, 0.3, 0.5, 1.0])


def as_boxes(rows: ArrayLike) -> Boxes:
    return np.asarray(rows, dtype=np.int32).reshape(-1, 4)


def as_set(pairs: NDArray[np.intp]) -> set[tuple[int, ...]]:
    return set(map(tuple, pairs.tolist()))


def cost_of(pairs: NDArray[Any], before: Boxes, after: Boxes, min_iou: float) -> float:
    """Total cost of a match, every box of the smaller set without a partner costing 1."""
    cost = oracle.costs(before, after, min_iou)
    return float(sum(cost[i, j] for i, j in pairs)) + min(len(before), len(after)) - len(pairs)


@given(strategies.boxes(max_size=6), strategies.boxes(max_size=6), min_ious)
def test_match_costs_the_least_of_all_assignments(a: NDArray[np.int64], b: NDArray[np.int64], min_iou: float) -> None:
    before, after = as_boxes(a), as_boxes(b)
    least = oracle.least_cost(oracle.costs(before, after, min_iou)) if len(a) and len(b) else 0.0
    assert cost_of(match(before, after, min_iou), before, after, min_iou) == pytest.approx(least, abs=1e-9)


@given(strategies.boxes(max_size=30), strategies.boxes(max_size=30), min_ious)
def test_match_costs_as_little_as_that_of_the_oracle(
    a: NDArray[np.int64], b: NDArray[np.int64], min_iou: float
) -> None:
    before, after = as_boxes(a), as_boxes(b)
    expected = np.reshape(oracle.match(before, after, min_iou), (-1, 2)).astype(int)
    found = match(before, after, min_iou)
    assert cost_of(found, before, after, min_iou) == pytest.approx(cost_of(expected, before, after, min_iou), abs=1e-9)


@given(strategies.boxes(max_size=30), strategies.boxes(max_size=30), min_ious)
def test_match_is_one_to_one_sorted_and_overlaps_enough(
    a: NDArray[np.int64], b: NDArray[np.int64], min_iou: float
) -> None:
    pairs = match(as_boxes(a), as_boxes(b), min_iou)
    assert pairs[:, 0].tolist() == sorted(set(pairs[:, 0].tolist()))
    assert len(set(pairs[:, 1].tolist())) == len(pairs)
    assert (oracle.box_iou(a, b)[pairs[:, 0], pairs[:, 1]] >= min_iou).all()


def is_ambiguous(cost: NDArray[np.float64]) -> bool:
    """Whether two different matches cost the least."""
    least = oracle.least_cost(cost)
    best = set()
    for columns in permutations(range(max(cost.shape)), min(cost.shape)):
        pairs = list(enumerate(columns)) if cost.shape[0] <= cost.shape[1] else [(i, j) for j, i in enumerate(columns)]
        if sum(cost[i, j] for i, j in pairs) < least + 1e-9:
            best.add(frozenset((i, j) for i, j in pairs if cost[i, j] < 1))
    return len(best) > 1


@given(strategies.boxes(max_size=5), strategies.boxes(max_size=5), min_ious, strategies.seeds)
def test_permuted_boxes_have_the_permuted_match(
    a: NDArray[np.int64], b: NDArray[np.int64], min_iou: float, seed: int
) -> None:
    before, after = as_boxes(a), as_boxes(b)
    assume(len(a) and len(b) and not is_ambiguous(oracle.costs(before, after, min_iou)))
    rng = np.random.default_rng(seed)
    p, q = rng.permutation(len(a)), rng.permutation(len(b))
    permuted = match(before[p], after[q], min_iou)
    assert {(p[i], q[j]) for i, j in permuted} == as_set(match(before, after, min_iou))


@given(strategies.boxes(max_size=5), strategies.boxes(max_size=5), min_ious)
def test_match_is_that_of_the_oracle_where_there_is_but_one(
    a: NDArray[np.int64], b: NDArray[np.int64], min_iou: float
) -> None:
    before, after = as_boxes(a), as_boxes(b)
    assume(len(a) and len(b) and not is_ambiguous(oracle.costs(before, after, min_iou)))
    assert as_set(match(before, after, min_iou)) == set(oracle.match(before, after, min_iou))


@given(strategies.films_of_boxes(), min_ious)
def test_numbers_go_on_exactly_where_consecutive_frames_match(frames: list[NDArray[np.int64]], min_iou: float) -> None:
    tracker = Tracker(min_iou)
    numbers = [tracker.link(as_boxes(boxes)) for boxes in frames]
    for (earlier, later), (before, after) in zip(pairwise(numbers), pairwise(frames), strict=True):
        same = {(i, j) for i, a in enumerate(earlier) for j, b in enumerate(later) if a == b}
        assert same == as_set(match(as_boxes(before), as_boxes(after), min_iou))


@given(strategies.films_of_boxes(), min_ious)
def test_new_cells_take_the_next_numbers_in_the_order_of_the_regions(
    frames: list[NDArray[np.int64]], min_iou: float
) -> None:
    tracker, n_cells = Tracker(min_iou), 0
    for boxes in frames:
        new = [number for number in tracker.link(as_boxes(boxes)).tolist() if number > n_cells]
        assert new == list(range(n_cells + 1, n_cells + 1 + len(new)))
        n_cells += len(new)


@given(strategies.films_of_boxes(), min_ious)
def test_no_number_is_given_twice_in_a_frame(frames: list[NDArray[np.int64]], min_iou: float) -> None:
    tracker = Tracker(min_iou)
    for boxes in frames:
        numbers = tracker.link(as_boxes(boxes)).tolist()
        assert len(set(numbers)) == len(boxes)


@pytest.mark.parametrize(
    ("a", "b", "iou"),
    [
        pytest.param([0, 0, 3, 3], [2, 1, 5, 4], 6 / 26, id="4 x 4 pixels each, of which 2 x 3 are shared"),
        pytest.param([5, 5, 5, 5], [5, 5, 5, 5], 1.0, id="one pixel, the same"),
        pytest.param([0, 0, 9, 9], [3, 4, 5, 5], 6 / 100, id="one inside the other"),
        pytest.param([0, 0, 3, 3], [4, 0, 7, 3], 0.0, id="side by side"),
        pytest.param([0, 0, 3, 3], [4, 4, 7, 7], 0.0, id="touching at a corner"),
        pytest.param([0, 0, 3, 3], [0, 90, 3, 93], 0.0, id="far apart"),
        pytest.param([0, 0, 99_999, 99_999], [0, 0, 99_999, 49_999], 0.5, id="more pixels than 32 bits count"),
    ],
)
def test_iou_counts_pixels(a: list[int], b: list[int], iou: float) -> None:
    assert oracle.iou(np.array(a), np.array(b)) == iou
    just_above = np.nextafter(iou, 1.0) if iou < 1 else 1.5
    assert match(as_boxes(a), as_boxes(b), just_above).tolist() == []
    if iou > 0:
        assert match(as_boxes(a), as_boxes(b), iou).tolist() == [[0, 0]]


def test_overlap_of_exactly_the_least_iou_is_a_match() -> None:
    # 10 pixels in a row against the first of them: IoU 1 / 10.
    row, pixel = as_boxes([0, 0, 9, 0]), as_boxes([0, 0, 0, 0])
    assert match(row, pixel, 0.1).tolist() == [[0, 0]]
    assert match(row, pixel, 0.1001).tolist() == []


def test_best_sum_wins_over_the_best_single_pair() -> None:
    # Greedy would take 0-0 (IoU 0.8) and leave 1 alone; 0-1 and 1-0 together overlap more.
    before = as_boxes([[0, 0, 9, 0], [4, 0, 11, 0]])
    after = as_boxes([[1, 0, 10, 0], [0, 0, 6, 0]])
    assert match(before, after, 0.1).tolist() == [[0, 1], [1, 0]]


def test_cell_that_is_missing_for_a_frame_gets_a_new_number() -> None:
    tracker, box, nothing = Tracker(0.1), as_boxes([0, 0, 9, 9]), as_boxes([])
    assert [tracker.link(boxes).tolist() for boxes in (box, nothing, box)] == [[1], [], [2]]


def test_new_cells_are_numbered_in_the_order_of_the_labels() -> None:
    tracker = Tracker(0.1)
    tracker.link(as_boxes([[50, 50, 59, 59]]))
    numbers = tracker.link(as_boxes([[0, 0, 5, 5], [51, 51, 60, 60], [90, 0, 99, 9]]))
    assert numbers.tolist() == [2, 1, 3]


def test_as_many_cells_as_numbers_and_one_more_is_an_error() -> None:
    tracker = Tracker(0.1)
    x = 2 * np.arange(5000)
    for frame in range(13):
        # Each frame lies below the one before, so that all its cells are new.
        tracker.link(as_boxes(np.stack([x, 0 * x + frame, x, 0 * x + frame], axis=1)))
    last = as_boxes([[2 * i, 13, 2 * i, 13] for i in range(535)])
    assert tracker.link(last)[-1] == 65535
    with pytest.raises(ProcessingError, match="65535"):
        tracker.link(as_boxes([0, 14, 0, 14]))
