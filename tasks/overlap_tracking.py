"""Following cells by overlap and distance: through gaps of a few frames, divisions, and jumps of the stage.

What is remembered of the past is one image: each pixel holds the cell that was last seen there, as long as that is
not longer ago than a gap may be. It moves with the stage, so that regions meet the places where their cells were.
Memory does not grow with the film. Each frame is one assignment (Jaqaman et al. 2008, without its second pass):

- a region and a cell that overlap score `(1 + IoU) / 2`, from 0.5 up; of those that do not, one within reach scores
  less than 0.5, the nearer the more; each frame in which the cell was not seen costs a tenth;
- the one-to-one assignment of the largest sum is taken;
- a region that is left over and one that continues a cell (or two that are left over) are its daughters where they
  lie on either side of where it was, are alike in size, and have about its area together. Both get new numbers.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.kernel import kernel
from tasks.linking import Cells, Shift, check_number_of_cells
from tasks.methods import OverlapParameters
from tasks.regions import LabelledFrame
from tasks.runs import Indices, Runs, paint
from tasks.tracking import best_pairs

_COST_OF_A_GAP = 0.9
_FARTHEST_DAUGHTER = 1.8
"""From where the mother was, in her radii."""
_FARTHEST_MIDDLE = 0.7
"""Of both daughters from where the mother was, in her radii."""
_LEAST_LIKENESS = 0.5
"""Area of the smaller daughter over that of the larger."""
_AREA_TOGETHER = (0.6, 1.5)
"""Area of both daughters over that of the mother."""


@dataclass
class _Remembered:
    """Cells that are not given up yet, in order of their numbers."""

    numbers: NDArray[np.int32]
    areas: NDArray[np.int64]
    """(n,) when last seen."""
    places: NDArray[np.float64]
    """(n, 2) centroid x, y where it would be in the present frame."""
    unseen: NDArray[np.int32]
    """(n,) frames since it was last seen; 0 in the frame before."""

    def chosen(self, which: NDArray[np.bool_]) -> "_Remembered":
        """Some of them."""
        return _Remembered(self.numbers[which], self.areas[which], self.places[which], self.unseen[which])


class Pairs(NamedTuple):
    """Cells and regions that may be the same, sorted by the cell, then by the region."""

    cell: NDArray[np.intp]
    region: NDArray[np.intp]
    score: NDArray[np.float64]
    """Above 0, at most 1."""


class OverlapLinker:
    """Numbers the cells of a film, frame by frame, in order of appearance."""

    def __init__(self, parameters: OverlapParameters) -> None:
        self.parents: dict[int, int] = {}
        self._parameters = parameters
        self._n_cells = 0
        self._memory: NDArray[np.uint16] = np.empty((0, 0), np.uint16)
        nothing = np.empty(0, np.int32)
        self._past = _Remembered(nothing, np.empty(0, np.int64), np.empty((0, 2)), nothing)

    def link(self, frame: LabelledFrame, shift: Shift) -> list[Cells]:
        """Link a frame to those before; the numbers are final at once."""
        self._move(frame, shift)
        pairs = self._candidates(frame)
        chosen = best_pairs(*pairs)
        cell_of = np.full(len(frame), -1, np.intp)
        cell_of[pairs.region[chosen]] = pairs.cell[chosen]
        mothers = self._find_mothers(frame, cell_of) if self._parameters.divisions else {}
        cells = np.zeros(len(frame), np.int32)
        goes_on = (cell_of >= 0) & ~np.isin(np.arange(len(frame)), list(mothers))
        cells[goes_on] = self._past.numbers[cell_of[goes_on]]
        new = np.flatnonzero(~goes_on)
        check_number_of_cells(self._n_cells + len(new))
        cells[new] = np.arange(self._n_cells + 1, self._n_cells + 1 + len(new))
        self._n_cells += len(new)
        for region, mother in sorted(mothers.items()):
            self.parents[int(cells[region])] = int(self._past.numbers[mother])
        self._remember(frame, cells, sorted(set(mothers.values())))
        return [cells]

    def finish(self) -> list[Cells]:
        """Nothing is kept back."""
        return []

    def _move(self, frame: LabelledFrame, shift: Shift) -> None:
        """Bring the past to where the stage is now."""
        shape = (frame.height, frame.width)
        if self._memory.shape != shape:
            self._memory = np.zeros(shape, np.uint16)
        self._memory = moved(self._memory, shift)
        self._past.places = self._past.places + np.array([shift[1], shift[0]], np.float64)

    def _candidates(self, frame: LabelledFrame) -> Pairs:
        """All cells and regions that may be the same."""
        past, regions = self._past, frame.regions
        n = (len(past.numbers), len(frame))
        overlap = np.zeros(n, np.int64)
        shared = shared_pixels(self._memory, frame.runs, frame.region_of_run)
        # In the memory are only cells that are remembered, whose numbers are sorted.
        np.add.at(overlap, (np.searchsorted(past.numbers, shared[:, 0]), shared[:, 1]), shared[:, 2])
        union = past.areas[:, np.newaxis] + regions.area - overlap
        radii = np.sqrt(np.maximum(past.areas[:, np.newaxis], regions.area) / np.pi)
        way = np.linalg.norm(past.places[:, np.newaxis] - regions.centroids, axis=-1)
        reach = self._parameters.reach * radii
        near = np.where(way < reach, 0.5 * (1 - way / np.maximum(reach, 1e-9)), 0.0)
        score = np.where(overlap > 0, 0.5 * (1 + overlap / np.maximum(union, 1)), near)
        score *= _COST_OF_A_GAP ** past.unseen[:, np.newaxis]
        cell, region = np.nonzero(score)
        return Pairs(cell, region, score[cell, region])

    def _find_mothers(self, frame: LabelledFrame, cell_of: NDArray[np.intp]) -> dict[int, int]:
        """Index of the mother among the remembered cells, for each region that is a daughter."""
        past, area, places = self._past, frame.regions.area, frame.regions.centroids
        free = np.flatnonzero(cell_of < 0)
        mothers: dict[int, int] = {}
        for mother in np.flatnonzero(past.unseen == 0):
            radius = np.sqrt(past.areas[mother] / np.pi)
            where = past.places[mother]
            near = [int(r) for r in free if np.linalg.norm(places[r] - where) <= _FARTHEST_DAUGHTER * radius]
            continued = [int(r) for r in np.flatnonzero(cell_of == mother)]
            best: tuple[float, int, int] | None = None
            for first in continued or near:
                for second in near:
                    if first == second or {first, second} & mothers.keys():
                        continue
                    if not continued and first > second:
                        continue
                    likeness = min(area[first], area[second]) / max(area[first], area[second])
                    together = (area[first] + area[second]) / past.areas[mother]
                    middle = np.linalg.norm((places[first] + places[second]) / 2 - where) / radius
                    farthest = max(np.linalg.norm(places[r] - where) for r in (first, second)) / radius
                    fits = (
                        likeness >= _LEAST_LIKENESS
                        and _AREA_TOGETHER[0] <= together <= _AREA_TOGETHER[1]
                        and middle <= _FARTHEST_MIDDLE
                        and farthest <= _FARTHEST_DAUGHTER
                    )
                    if fits and (best is None or middle < best[0]):
                        best = (float(middle), first, second)
            if best is not None:
                mothers |= {best[1]: int(mother), best[2]: int(mother)}
        return mothers

    def _remember(self, frame: LabelledFrame, cells: Cells, divided: list[int]) -> None:
        """Note where cells are now, and forget those that have divided or have not been seen for too long."""
        past = self._past
        unseen = ~np.isin(past.numbers, cells)
        unseen[divided] = False
        kept = unseen & (past.unseen < self._parameters.max_gap)
        old = past.chosen(kept)
        numbers = np.concatenate([old.numbers, cells])
        order = np.argsort(numbers, kind="stable")
        self._past = _Remembered(
            numbers[order],
            np.concatenate([old.areas, frame.regions.area])[order],
            np.concatenate([old.places, frame.regions.centroids])[order],
            np.concatenate([old.unseen + 1, np.zeros(len(cells), np.int32)]).astype(np.int32)[order],
        )
        alive = np.zeros(self._n_cells + 1, np.uint16)
        alive[old.numbers] = old.numbers
        self._memory = alive[self._memory]
        paint(frame.runs, cells.astype(np.uint16)[frame.region_of_run], self._memory)


def moved(image: NDArray[np.uint16], shift: Shift) -> NDArray[np.uint16]:
    """Move an image (H, W) by y and x; what comes in is 0."""
    if shift == (0, 0):
        return image
    (height, width), (dy, dx) = image.shape, shift
    result = np.zeros_like(image)
    if abs(dy) < height and abs(dx) < width:
        result[max(dy, 0) : height + min(dy, 0), max(dx, 0) : width + min(dx, 0)] = image[
            max(-dy, 0) : height + min(-dy, 0), max(-dx, 0) : width + min(-dx, 0)
        ]
    return result


@kernel
def shared_pixels(memory: NDArray[np.uint16], runs: Runs, region_of_run: Indices) -> NDArray[np.int64]:
    """Stretches (n, 3) of pixels that a cell and a region share: cell number, index of the region, pixels."""
    n = 0
    for fill in range(2):
        stretches = np.empty((n, 3), np.int64)
        n = 0
        for i in range(region_of_run.size):
            row = memory[runs.row[i]]
            x = runs.start[i]
            while x < runs.stop[i]:
                cell, first = row[x], x
                while x < runs.stop[i] and row[x] == cell:
                    x += 1
                if cell:
                    if fill:
                        stretches[n, 0], stretches[n, 1], stretches[n, 2] = cell, region_of_run[i], x - first
                    n += 1
    return stretches
