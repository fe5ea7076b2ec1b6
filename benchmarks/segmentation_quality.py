"""How well each method finds cells: `python -m benchmarks.segmentation_quality [FOLDER]`.

SEG is the measure of the Cell Tracking Challenge (Maška et al. 2014): each true cell counts with the Jaccard index of
the region that covers more than half of it, or with 0 where there is none; the mean over all of them. Extra regions
cost nothing.

Films are simulated in phase contrast, of several kinds that no parameter is set for one by one. FOLDER may hold real
frames as well: `NAME_channel1_phase.tif` beside `NAME_mask1.tif`, of cells of 4.5 µm at 0.22 µm a pixel, such as yeast.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.configuration import ScienceParameters
from tasks.finding import find_cells
from tasks.phase_simulation import PhaseFilmSettings, simulate_phase_film

METHODS = ("logstd", "texture", "rims")
YEAST_PIXEL_UM = 0.22

KINDS = {
    "spread": PhaseFilmSettings(),
    "faint": PhaseFilmSettings(lamella=0.07),
    "noisy": PhaseFilmSettings(noise=1.6),
    "crowded": PhaseFilmSettings(n_cells=18, crowding=1.1, radius_um=18),
    "large": PhaseFilmSettings(n_cells=6, radius_um=30, lamella=0.1, ruggedness=1.3),
    "halo": PhaseFilmSettings(n_cells=12, crowding=1.2, halo_um=3),
    "smooth": PhaseFilmSettings(n_cells=14, crowding=1.2, ruggedness=0.3),
}
"""Kinds of simulated films."""
SEEDS = range(100, 106)


class Frame(NamedTuple):
    """An image and the truth about it."""

    image: NDArray[Any]
    truth: NDArray[np.integer[Any]]
    pixel_size_um: float


def jaccard_of_each(truth: NDArray[np.integer[Any]], found: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Jaccard index of each true cell with its match, 0 where it has none; in order of the cells' labels.

    Parameters
    ----------
    truth, found
        (H, W) labels, 0 for background.
    """
    truth, found = truth.astype(np.int64), found.astype(np.int64)
    overlap = np.zeros((truth.max() + 1, found.max() + 1), np.int64)
    np.add.at(overlap, (truth.reshape(-1), found.reshape(-1)), 1)
    area, area_found = overlap.sum(axis=1), overlap.sum(axis=0)
    there = np.flatnonzero(area[1:]) + 1
    scores = np.zeros(len(there))
    for i, cell in enumerate(there):
        for region in np.flatnonzero(overlap[cell]):
            shared = overlap[cell, region]
            if region and 2 * shared > area[cell]:
                scores[i] = shared / (area[cell] + area_found[region] - shared)
    return scores


def seg(frames: list[Frame], method: str) -> tuple[float, float]:
    """SEG of a method over some frames, and its seconds for a megapixel."""
    parameters = ScienceParameters.model_validate({"segmentation": method})
    scores, seconds, n_pixels = [], 0.0, 0
    for image, truth, pixel_size_um in frames:
        start = perf_counter()
        _, labelled = find_cells(np.ascontiguousarray(image), parameters, pixel_size_um, with_perimeter=False)
        seconds += perf_counter() - start
        n_pixels += image.size
        scores.append(jaccard_of_each(truth, labelled.paint_labels()))
    return float(np.concatenate(scores).mean()), seconds / n_pixels * 1e6


def simulated(settings: PhaseFilmSettings) -> list[Frame]:
    """Single frames of films that differ in their random numbers."""
    frames = []
    for seed in SEEDS:
        film = simulate_phase_film(PhaseFilmSettings(**{**vars(settings), "seed": seed}))
        frames.append(Frame(film.images[0], film.labels[0], settings.pixel_size_um))
    return frames


def real(folder: Path) -> Iterator[Frame]:
    """Real frames of a folder."""
    from tifffile import imread

    for path in sorted(folder.glob("*_channel1_phase.tif")):
        mask = path.with_name(path.name.replace("_channel1_phase", "_mask1"))
        yield Frame(imread(path), imread(mask).astype(np.int64), YEAST_PIXEL_UM)


def main(folder: Path | None = None) -> None:
    kinds = {name: simulated(settings) for name, settings in KINDS.items()}
    if folder is not None:
        kinds["real"] = list(real(folder))
    print(f"{'SEG':>8}" + "".join(f"{kind:>9}" for kind in kinds) + "   ms/Mpx")
    for method in METHODS:
        seg(kinds["spread"][:1], method)  # compiles
        results = [seg(frames, method) for frames in kinds.values()]
        speed = np.mean([seconds for _, seconds in results])
        print(f"{method:>8}" + "".join(f"{score:9.3f}" for score, _ in results) + f"{1000 * speed:9.0f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
