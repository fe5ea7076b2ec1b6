"""A tracking: each cell is the nearest one of the frame before, if that is near enough and nobody else's."""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from tasks.methods import MethodParameters

__version__ = "1.0"


class NearestParameters(MethodParameters):
    """What a user can set."""

    method: Literal["nearest"] = "nearest"
    reach: Annotated[float, Field(gt=0, le=1000)] = Field(20.0, description="Farthest way between frames (pixels)")


class NearestLinker:
    """Numbers the cells of one film."""

    def __init__(self, parameters):
        self.parents = {}
        self._reach = parameters.reach
        self._centroids = np.empty((0, 2))
        self._cells = np.empty(0, np.int32)
        self._n_cells = 0

    def link(self, frame, shift):
        """Take the next frame and give the cell numbers of its regions."""
        centroids = frame.regions.centroids
        cells = np.zeros(len(centroids), np.int32)
        distances = np.linalg.norm(centroids[:, np.newaxis] - self._centroids, axis=2)
        for flat in np.argsort(distances, axis=None, kind="stable"):
            new, old = np.unravel_index(flat, distances.shape)
            if distances[new, old] > self._reach:
                break
            if not cells[new] and self._cells[old] not in cells:
                cells[new] = self._cells[old]
        for new in np.flatnonzero(cells == 0):
            self._n_cells += 1
            cells[new] = self._n_cells
        self._centroids, self._cells = centroids, cells
        return [cells]

    def finish(self):
        """Nothing is kept back."""
        return []


def register(plugin):
    """Tell what this file adds."""
    plugin.tracking_method("The nearest cell of the frame before", NearestParameters, NearestLinker)
