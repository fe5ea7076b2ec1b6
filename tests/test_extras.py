"""The optional extras, where they are installed."""

import numpy as np
import pytest

from tasks.btrack_adapter import BtrackLinker
from tasks.errors import ProcessingError
from tasks.methods import BtrackParameters, CellposeParameters
from tasks.phase_simulation import PhaseFilmSettings, simulate_phase_film
from tests.following import follow
from tests.test_overlap_tracking import numbers_of, square


@pytest.fixture
def btrack_linker() -> BtrackLinker:
    """A linker, where btrack works on this machine."""
    pytest.importorskip("btrack", reason="the extra btrack is not installed")
    try:
        return BtrackLinker(BtrackParameters(max_shift=50))
    except ProcessingError as error:
        pytest.skip(str(error))


def test_btrack_follows_a_film_through_gaps_and_jumps_of_the_stage(btrack_linker: BtrackLinker) -> None:
    film = simulate_phase_film(
        PhaseFilmSettings(n_frames=12, height=360, width=480, n_cells=6, seed=5, jitter_px=25, gap_rate=0.03)
    )
    assert follow(film, btrack_linker).right_links > 0.97


def test_btrack_numbers_cells_in_order_of_appearance_when_the_film_is_over(btrack_linker: BtrackLinker) -> None:
    frames = [square((20, 20 + t), (50, 80 - t)) for t in range(5)]
    assert numbers_of(btrack_linker, *frames) == []
    assert [cells.tolist() for cells in btrack_linker.finish()] == [[1, 2]] * 5


def test_btrack_takes_frames_without_cells(btrack_linker: BtrackLinker) -> None:
    assert numbers_of(btrack_linker, square(), square()) == []
    assert [len(cells) for cells in btrack_linker.finish()] == [0, 0]


def test_cellpose_finds_cells() -> None:
    pytest.importorskip("cellpose", reason="the extra cellpose is not installed")
    from tasks.cellpose_adapter import segment_by_cellpose, weights

    try:
        weights(CellposeParameters().model)
    except ProcessingError as error:
        pytest.skip(str(error))
    film = simulate_phase_film(PhaseFilmSettings(height=256, width=256, n_cells=3, seed=5))
    labels = segment_by_cellpose(film.images[0], CellposeParameters(), 0.65)
    assert labels.shape == film.labels[0].shape
    assert np.issubdtype(labels.dtype, np.integer)
    assert labels.max() >= 1
