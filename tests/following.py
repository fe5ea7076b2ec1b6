"""How well a linker follows the cells of a simulated film whose truth is known."""

from typing import NamedTuple

import numpy as np

from tasks.linking import Linker
from tasks.phase_simulation import PhaseFilm
from tasks.regions import labelled_regions
from tasks.registration import Registrar


class Score(NamedTuple):
    """How well a film was followed."""

    right_links: float
    """Share of the cells seen again that kept their number."""
    n_links: int
    divisions_found: int
    """Daughters whose mother is the right one."""
    divisions_claimed: int


def follow(film: PhaseFilm, linker: Linker, max_shift: int = 50) -> Score:
    """Follow the true regions of a film."""
    registrar = Registrar(max_shift)
    frames = [labelled_regions(labels) for labels in film.labels]
    numbers = []
    for frame, image in zip(frames, film.images, strict=True):
        numbers += list(linker.link(frame, registrar.next(image)))
    numbers += list(linker.finish())
    last: dict[int, int] = {}
    kept = []
    for frame, cells, labels in zip(frames, numbers, film.labels, strict=True):
        for region, cell in enumerate(cells.tolist()):
            first_run = int(np.flatnonzero(frame.region_of_run == region)[0])
            true = int(labels[frame.runs.row[first_run], frame.runs.start[first_run]])
            if true in last:
                kept.append(last[true] == cell)
            last[true] = cell
    found = sum(linker.parents.get(last.get(cell, 0)) == last.get(mother, -1) for cell, mother in film.parents.items())
    return Score(float(np.mean(kept)), len(kept), found, len(linker.parents))
