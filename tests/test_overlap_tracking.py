"""Tracking by overlap: each step against all assignments, gaps, divisions and jumps of the stage by the truth."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tasks.acquisition import open_recording
from tasks.configuration import Channels, Configuration, FluorescenceChannel, PhaseChannel, ScienceParameters
from tasks.errors import ProcessingError
from tasks.fov import Helpers, process_fov
from tasks.linking import IouLinker, Linker, make_linker
from tasks.methods import OverlapParameters
from tasks.output import FovDirectory, Provenance
from tasks.overlap_tracking import OverlapLinker, moved, shared_pixels
from tasks.phase_simulation import PhaseFilm, PhaseFilmSettings, simulate_phase_film
from tasks.regions import labelled_regions
from tasks.registration import Registrar
from tests import strategies
from tests.following import follow
from tests.oracles import overlap_tracking as oracle
from tests.recordings import write_recording


@st.composite
def label_images(draw: st.DrawFn, shape: tuple[int, int] = (24, 30)) -> NDArray[np.int32]:
    """Some rectangles, the later over the earlier, numbered in raster order without gaps."""
    labels = np.zeros(shape, np.int32)
    for number in range(1, draw(st.integers(0, 6)) + 1):
        y, x = draw(st.integers(0, shape[0] - 1)), draw(st.integers(0, shape[1] - 1))
        labels[y : y + draw(st.integers(1, 9)), x : x + draw(st.integers(1, 9))] = number
    return labelled_regions(labels).paint_labels().astype(np.int32)


@given(label_images(), label_images(), st.sampled_from([0.0, 1.0, 2.5]))
def test_a_step_is_an_assignment_of_the_largest_sum(
    before: NDArray[np.int32], after: NDArray[np.int32], reach: float
) -> None:
    linker = OverlapLinker(OverlapParameters(reach=reach, divisions=False))
    (first,) = linker.link(labelled_regions(before), (0, 0))
    (second,) = linker.link(labelled_regions(after), (0, 0))
    assert first.tolist() == list(range(1, before.max() + 1))
    assert len(set(second.tolist())) == len(second)
    table = oracle.scores(before, after, reach)
    pairs = [(int(cell) - 1, region) for region, cell in enumerate(second) if cell <= len(first)]
    assert all(table[pair] > 0 for pair in pairs)
    assert sum(table[pair] for pair in pairs) == pytest.approx(oracle.best_sum(table), abs=1e-9)
    new = [int(cell) for cell in second if cell > len(first)]
    assert new == list(range(len(first) + 1, len(first) + 1 + len(new)))


@given(label_images(), label_images())
def test_shared_pixels_are_counted(memory: NDArray[np.int32], labels: NDArray[np.int32]) -> None:
    frame = labelled_regions(labels)
    counted: dict[tuple[int, int], int] = {}
    for cell, region, n in shared_pixels(memory.astype(np.uint16), frame.runs, frame.region_of_run).tolist():
        counted[cell, region] = counted.get((cell, region), 0) + n
    pairs, n_of_pair = np.unique(np.stack([memory, labels])[:, (memory > 0) & (labels > 0)], axis=1, return_counts=True)
    assert counted == {(a, b - 1): n for (a, b), n in zip(pairs.T.tolist(), n_of_pair.tolist(), strict=True)}


@given(label_images(), st.integers(-40, 40), st.integers(-40, 40))
def test_moved_image_is_that_of_the_oracle(labels: NDArray[np.int32], dy: int, dx: int) -> None:
    image = labels.astype(np.uint16)
    np.testing.assert_array_equal(moved(image, (dy, dx)), oracle.moved(image, dy, dx))


@settings(max_examples=20, deadline=None)
@given(strategies.seeds, st.integers(-25, 25), st.integers(-25, 25))
def test_a_shift_of_a_picture_is_found_to_the_pixel(seed: int, dy: int, dx: int) -> None:
    rng = np.random.default_rng(seed)
    world = simulate_phase_film(PhaseFilmSettings(height=300, width=340, n_cells=4, seed=seed % 1000)).images[0]
    noise = rng.normal(0, 1, (2, 240, 280))
    registrar = Registrar(30)
    assert registrar.next(world[30:270, 30:310] + noise[0]) == (0, 0)
    shift = registrar.next(world[30 - dy : 270 - dy, 30 - dx : 310 - dx] + noise[1])
    # The cells fade out towards the edges, which pulls a shift towards 0 by a pixel.
    np.testing.assert_allclose(shift, (dy, dx), atol=2)


def test_pictures_without_anything_in_common_tell_of_no_shift() -> None:
    rng = np.random.default_rng(0)
    registrar = Registrar(30)
    assert [registrar.next(rng.normal(100, 5, (200, 220))) for _ in range(4)] == [(0, 0)] * 4
    assert registrar.next(np.full((200, 220), 7.0)) == (0, 0)


@pytest.mark.parametrize("shape", [(1, 2000), (2000, 1), (2, 3000)])
def test_a_shift_of_a_picture_of_any_shape_can_be_looked_for(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    registrar = Registrar(30)
    for _ in range(2):
        assert max(map(abs, registrar.next(rng.normal(100, 5, shape)))) <= 30


def simulated(**changes: Any) -> PhaseFilm:
    return simulate_phase_film(
        PhaseFilmSettings(**{"n_frames": 12, "height": 360, "width": 480, "n_cells": 6, "seed": 5, **changes})
    )


def by_overlap(**parameters: Any) -> OverlapLinker:
    return OverlapLinker(OverlapParameters(**parameters))


def test_jitter_of_25_pixels_breaks_no_track_of_small_cells() -> None:
    film = simulated(jitter_px=25, radius_um=6, n_cells=30, crowding=2.5)
    assert np.abs(np.diff(film.offsets, axis=0)).max() > 18
    score = follow(film, by_overlap())
    assert score.n_links > 250
    assert score.right_links == 1.0
    assert follow(film, IouLinker(0.1)).right_links < 0.95
    assert follow(film, by_overlap(), max_shift=0).right_links < 0.95


def test_gaps_are_bridged() -> None:
    film = simulated(gap_rate=0.08, longest_gap=3)
    assert follow(film, by_overlap(max_gap=3)).right_links == 1.0
    assert follow(film, by_overlap(max_gap=0)).right_links < 1.0


def test_divisions_are_followed() -> None:
    films = [simulated(division_rate=rate, n_frames=10, seed=seed) for rate, seed in ((0.08, 1), (0.05, 2))]
    scores = [follow(film, by_overlap()) for film in films]
    n_daughters = sum(len(film.parents) for film in films)
    assert n_daughters >= 20
    assert all(score.right_links == 1.0 for score in scores)
    # Daughters that the edge of the image cuts are not alike; those are missed, and nothing is made up.
    assert sum(score.divisions_found for score in scores) >= 0.8 * n_daughters
    assert all(score.divisions_claimed == score.divisions_found for score in scores)
    assert follow(films[0], by_overlap(divisions=False)).divisions_claimed == 0


def test_all_at_once() -> None:
    scores = [
        follow(simulated(jitter_px=25, gap_rate=0.04, division_rate=0.015, n_frames=14, seed=s), by_overlap())
        for s in (1, 2)
    ]
    assert min(score.right_links for score in scores) > 0.97


def square(*corners: tuple[int, int], side: int = 10) -> NDArray[np.int32]:
    labels = np.zeros((80, 120), np.int32)
    for number, (y, x) in enumerate(corners, start=1):
        labels[y : y + side, x : x + side] = number
    return labels


def numbers_of(linker: Linker, *frames: NDArray[np.int32]) -> list[list[int]]:
    return [list(cells) for labels in frames for cells in linker.link(labelled_regions(labels), (0, 0))]


@pytest.mark.parametrize(("gap", "same"), [(0, True), (2, True), (3, False)])
def test_a_cell_is_remembered_for_as_long_as_a_gap_may_be(gap: int, same: bool) -> None:
    frames = [square((20, 20)), *gap * [square()], square((22, 21))]
    assert numbers_of(by_overlap(max_gap=2), *frames)[-1] == ([1] if same else [2])


def test_memory_does_not_grow_with_the_film() -> None:
    linker = by_overlap(max_gap=2)
    for t in range(60):
        linker.link(labelled_regions(square((20, (30 * t) % 110))), (0, 0))
    assert len(linker._past.numbers) <= 4
    assert len(np.unique(linker._memory)) <= 5


def test_a_cell_that_others_pass_near_is_no_mother() -> None:
    linker = by_overlap()
    assert numbers_of(linker, square((20, 20), (20, 60)), square((20, 22), (20, 58)), square((20, 24), (20, 56)))[
        -1
    ] == [1, 2]
    assert linker.parents == {}


def test_too_many_cells_are_refused() -> None:
    linker = by_overlap()
    linker._n_cells = 65_535
    with pytest.raises(ProcessingError, match="65535"):
        linker.link(labelled_regions(square((3, 3))), (0, 0))


def process(folder: Path, path: Path, helpers: Helpers | None, tracking: object = "overlap") -> tuple[str, bytes]:
    """Table and tracked stack of a recording."""
    configuration = Configuration(
        channels=Channels(phase=PhaseChannel(channel=0), fluorescence=[FluorescenceChannel(channel=1)]),
        parameters=ScienceParameters.model_validate(
            {"segmentation": "texture", "tracking": tracking, "min_frames": 1, "border_margin": 0}
        ),
    )
    folder.mkdir()
    with open_recording(path) as recording:
        provenance = Provenance.of(path, recording.metadata.sizes, configuration)
        with FovDirectory(folder, 0, provenance) as directory:
            summary = process_fov(recording, 0, configuration, directory, None, helpers)
            directory.commit(n_cells=summary.n_cells, warnings=summary.warnings)
    (made,) = folder.glob("fov_*")
    return next(made.glob("*_traces.csv")).read_text(), next(made.glob("*tracked*")).read_bytes()


@pytest.fixture(scope="module")
def jittered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of 9 frames whose stage jumps and whose cells divide."""
    film = simulated(n_frames=9, jitter_px=25, division_rate=0.03, seed=2)
    images = np.stack([film.images, film.images], axis=1)[np.newaxis]
    return write_recording(tmp_path_factory.mktemp("jittered") / "film.nd2", images)


@pytest.mark.parametrize("n_workers", [1, 2, 4, 9])
def test_files_are_the_same_bytes_however_frames_are_spread(tmp_path: Path, jittered: Path, n_workers: int) -> None:
    alone = process(tmp_path / "alone", jittered, None)
    with ThreadPoolExecutor(n_workers) as executor:
        assert process(tmp_path / "helped", jittered, Helpers(executor, n_workers)) == alone


def test_table_tells_the_mothers_of_cells(tmp_path: Path, jittered: Path) -> None:
    table, _ = process(tmp_path / "output", jittered, None)
    (tmp_path / "traces.csv").write_text(table)
    traces = pd.read_csv(tmp_path / "traces.csv")
    assert list(traces.columns[:7]) == ["fov", "cell", "frame", "time", "good", "parent", "position_x"]
    daughters = traces[traces["parent"] > 0]
    assert len(daughters)
    for _, rows in daughters.groupby("cell"):
        mother = traces[traces["cell"] == rows["parent"].iloc[0]]
        assert rows["parent"].nunique() == 1
        assert mother["frame"].max() < rows["frame"].min()


def test_default_table_has_no_mothers(tmp_path: Path, jittered: Path) -> None:
    table, _ = process(tmp_path / "output", jittered, None, tracking="iou")
    assert "parent" not in table.splitlines()[0]


def test_default_method_is_that_of_pyama() -> None:
    assert isinstance(make_linker(ScienceParameters()), IouLinker)
    assert isinstance(make_linker(ScienceParameters.model_validate({"tracking": "overlap"})), OverlapLinker)
