"""Each kernel beside its oracle, on a frame of 1024 x 1024: `pytest benchmarks --benchmark-only`."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.recordings import simulated_recording
from tasks.acquisition import open_recording
from tasks.background import background_pixels, tile_grid
from tasks.regions import find_regions, measure
from tasks.segmentation import clean, foreground
from tasks.tracking import match
from tests.oracles import background as slow_background
from tests.oracles import regions as slow_regions
from tests.oracles import segmentation as slow_segmentation
from tests.oracles import tracking as slow_tracking

SIZE = 1024


@pytest.fixture(scope="module")
def images() -> NDArray[Any]:
    """(C, H, W) a simulated frame: phase and two fluorescence channels."""
    with open_recording(simulated_recording(n_fovs=2, n_frames=32, size=SIZE)) as film:
        return film.read_frame(0, 16)


Step = tuple[Callable[[], object], Callable[[], object]]
"""The kernel and the oracle of a step, ready to be called."""


def steps(images: NDArray[Any]) -> dict[str, Step]:
    """All steps of a frame, each on what the one before gives."""
    phase, light = images[0], images[1]
    raw_mask = foreground(phase)
    raw_array = raw_mask.to_array()
    mask = clean(raw_mask)
    array = mask.to_array()
    labelled = find_regions(mask)
    regions = slow_regions.masks(labelled.paint_labels())
    pixels = background_pixels(mask)
    near = pixels.near_cells.to_array()
    surface = tile_grid(SIZE, SIZE).estimate(light, pixels)
    background = surface.image().astype(np.float64)
    boxes = labelled.regions.boxes
    moved = boxes + np.array([2, -3, 2, -3], np.int32)
    return {
        "foreground": (lambda: foreground(phase), lambda: slow_segmentation.foreground(phase)),
        "clean": (lambda: clean(raw_mask), lambda: slow_segmentation.clean(raw_array)),
        "label": (lambda: find_regions(mask), lambda: slow_regions.label(array)),
        "background_pixels": (lambda: background_pixels(mask), lambda: slow_background.excluded(array)),
        "tile_medians": (
            lambda: tile_grid(SIZE, SIZE).estimate(light, pixels),
            lambda: slow_background.tile_values(light, near),
        ),
        "surface": (surface.image, lambda: slow_background.surface(surface.tile_values, SIZE, SIZE)),
        "measure": (
            lambda: measure(labelled, light, surface),
            lambda: [slow_regions.intensities(region, light, background, 1.0, 0) for region in regions],
        ),
        "match": (lambda: match(boxes, moved, 0.1), lambda: slow_tracking.match(boxes, moved, 0.1)),
    }


STEPS = ("foreground", "clean", "label", "background_pixels", "tile_medians", "surface", "measure", "match")


@pytest.mark.parametrize("step", STEPS)
def test_kernel(benchmark: BenchmarkFixture, images: NDArray[Any], step: str) -> None:
    benchmark.group = step
    kernel, _ = steps(images)[step]
    benchmark.pedantic(kernel, rounds=20, warmup_rounds=2)


@pytest.mark.parametrize("step", STEPS)
def test_oracle(benchmark: BenchmarkFixture, images: NDArray[Any], step: str) -> None:
    benchmark.group = step
    _, oracle = steps(images)[step]
    benchmark.pedantic(oracle, rounds=1)
