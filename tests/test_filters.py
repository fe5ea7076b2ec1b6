"""Filters: which cells stay, against the oracle and by hand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.filters import kept_rows
from tests.oracles import filters as oracle

HEIGHT, WIDTH = 100, 140
BOX_COLUMNS = ["bbox_x0", "bbox_y0", "bbox_x1", "bbox_y1"]


def kept(
    cells: list[int], boxes: list[tuple[int, int, int, int]], n_frames: int, min_frames: int, margin: int
) -> list[bool]:
    rows = kept_rows(
        np.array(cells, dtype=np.int32),
        np.array(boxes, dtype=np.int32).reshape(-1, 4),
        n_frames=n_frames,
        height=HEIGHT,
        width=WIDTH,
        min_frames=min_frames,
        border_margin=margin,
    )
    return [bool(row) for row in rows]


@st.composite
def tables(draw: st.DrawFn) -> tuple[pd.DataFrame, int]:
    """Rows of some cells in some frames of a film, and its length."""
    n_frames = draw(st.integers(1, 8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = []
    for frame in range(n_frames):
        for cell in np.flatnonzero(rng.random(draw(st.integers(0, 9))) < 0.8) + 1:
            x, y = rng.integers(0, WIDTH - 20), rng.integers(0, HEIGHT - 20)
            rows.append((cell, frame, x, y, x + rng.integers(0, 20), y + rng.integers(0, 20)))
    return pd.DataFrame(rows, columns=["cell", "frame", *BOX_COLUMNS], dtype=np.int64), n_frames


@given(tables(), st.integers(1, 10), st.sampled_from([0, 1, 5, 20, 60]))
def test_kept_cells_are_those_of_the_oracle(
    table_and_length: tuple[pd.DataFrame, int], min_frames: int, margin: int
) -> None:
    table, n_frames = table_and_length
    expected = oracle.kept_cells(table, HEIGHT, WIDTH, min(min_frames, n_frames), margin)
    boxes = [tuple(row) for row in table[BOX_COLUMNS].to_numpy().tolist()]
    rows = kept(table["cell"].tolist(), boxes, n_frames, min_frames, margin)
    assert rows == table["cell"].isin(expected).tolist()


@pytest.mark.parametrize(
    ("box", "stays"),
    [
        ((10, 10, 130, 90), True),
        ((9, 10, 130, 90), False),
        ((10, 9, 130, 90), False),
        ((10, 10, 131, 90), False),
        ((10, 10, 130, 91), False),
    ],
)
def test_margin_of_ten_pixels(box: tuple[int, int, int, int], *, stays: bool) -> None:
    assert kept([1], [box], n_frames=1, min_frames=1, margin=10) == [stays]


def test_margin_of_zero_keeps_a_cell_that_fills_the_image() -> None:
    assert kept([1], [(0, 0, WIDTH - 1, HEIGHT - 1)], n_frames=1, min_frames=1, margin=0) == [True]


def test_cell_that_comes_near_the_edge_once_is_dropped_in_all_frames() -> None:
    inside, outside = (40, 40, 60, 60), (5, 40, 25, 60)
    assert kept([1, 2, 1, 2], [inside, inside, outside, inside], 2, min_frames=1, margin=10) == [
        False,
        True,
        False,
        True,
    ]


def test_cell_seen_in_too_few_frames_is_dropped() -> None:
    box = (40, 40, 60, 60)
    assert kept([1, 2, 1], [box] * 3, n_frames=5, min_frames=2, margin=0) == [True, False, True]


def test_short_film_asks_for_no_more_frames_than_it_has() -> None:
    box = (40, 40, 60, 60)
    assert kept([1, 1, 2], [box] * 3, n_frames=2, min_frames=30, margin=0) == [True, True, False]


def test_no_cells_gives_no_rows() -> None:
    assert kept([], [], n_frames=3, min_frames=2, margin=10) == []
