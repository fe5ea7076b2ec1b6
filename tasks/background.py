"""Fluorescence background of one frame: medians of tiles without cells, joined by a smooth surface.

The image is covered by tiles of about 256 pixels that overlap by half. Each takes the median of its pixels that lie
away from cells; a tensor cubic spline through the tile centres gives the background everywhere. For a given image
shape the surface is linear in the tile values, so the spline is two small matrices, made once.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import make_interp_spline

from tasks.bitmask import Bitmask
from tasks.images import check_finite
from tasks.kernel import kernel
from tasks.runs import Indices, Runs
from tasks.scratch import scratch

TILE_SIZE = 256
"""Side of a tile in pixels, about."""
CELL_MARGIN = 10
"""Pixels around a cell that do not count as background."""
LAST_RESORT_PERCENTILE = 1.0
"""What a frame without any background pixel takes for its background."""

Matrix = NDArray[np.float64]


class BackgroundPixels(NamedTuple):
    """The pixels of a frame that are away from cells, the same for all channels."""

    near_cells: Bitmask
    """All other pixels."""
    runs: Runs
    first_of_row: Indices
    """(H + 1) where the runs of each row begin among them."""


def background_pixels(cells: Bitmask) -> BackgroundPixels:
    """Find the pixels around which no pixel of a 21 x 21 square is set."""
    near_cells = cells.dilated(CELL_MARGIN)
    return BackgroundPixels(near_cells, *near_cells.gaps())


@dataclass(frozen=True)
class TileGrid:
    """The tiles of an image shape, and the matrices that interpolate between them."""

    row_edges: NDArray[np.int64]
    """Block limits along y; tile i reaches from edge i to edge i + 2."""
    column_edges: NDArray[np.int64]
    row_matrix: Matrix
    """(H, n_tile_rows) share of each row of tiles in each row of pixels."""
    column_matrix: Matrix
    """(W, n_tile_columns) share of each column of tiles in each column of pixels."""
    column_sums: Matrix
    """(W + 1, n_tile_columns) sums of the column matrix over the pixels before each position."""

    @cached_property
    def column_rows(self) -> Matrix:
        """(n_tile_columns, W) the column matrix with a row for each tile."""
        return np.ascontiguousarray(self.column_matrix.T)

    def estimate(self, image: NDArray[Any], pixels: BackgroundPixels) -> "Surface":
        """Estimate the background of an image.

        Parameters
        ----------
        image
            (H, W), any real dtype, in counts.
        pixels
            Those that count as background.

        Raises
        ------
        ProcessingError
            For a non-finite pixel.
        """
        check_finite(image)
        values = self._tile_medians(image, pixels)
        empty = np.isnan(values)
        if empty.all():
            values[:] = np.percentile(image.astype(np.float64), LAST_RESORT_PERCENTILE)
            return Surface(self, values, without_background=True)
        if empty.any():
            values[empty] = np.median(image[~pixels.near_cells.to_array()].astype(np.float64))
        return Surface(self, values)

    def _tile_medians(self, image: NDArray[Any], pixels: BackgroundPixels) -> Matrix:
        """Exact median of each tile's pixels; NaN for a tile with none."""
        if image.dtype in (np.uint8, np.uint16):
            counts = scratch("counts", (2, len(self.column_edges) - 1, 1 << 16), np.uint16)
            edges = self.row_edges, self.column_edges
            return _medians_by_counting(image, pixels.runs, pixels.first_of_row, *edges, counts)
        medians = np.full((len(self.row_edges) - 2, len(self.column_edges) - 2), np.nan)
        counts = ~pixels.near_cells.to_array()
        for i, j in np.ndindex(medians.shape):
            tile = np.s_[self.row_edges[i] : self.row_edges[i + 2], self.column_edges[j] : self.column_edges[j + 2]]
            if counts[tile].any():
                medians[i, j] = np.median(image[tile][counts[tile]].astype(np.float64))
        return medians


@dataclass(frozen=True)
class Surface:
    """The background of one frame, known by its tile values; the image of it is made only where it is kept."""

    grid: TileGrid
    tile_values: Matrix
    """(n_tile_rows, n_tile_columns) in counts."""
    without_background: bool = False
    """Whether no pixel of the frame was away from cells, so that a percentile had to stand in."""

    @cached_property
    def row_weights(self) -> Matrix:
        """(H, n_tile_columns): with `column_matrix`, the surface is `row_weights @ column_matrix.T`."""
        return _row_weights(self.grid.row_matrix, self.tile_values)

    def image(self, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Background (H, W) float32 in counts."""
        if out is None:
            out = np.empty((len(self.grid.row_matrix), len(self.grid.column_matrix)), np.float32)
        _fill_surface(self.row_weights, self.grid.column_rows, out)
        return out


@lru_cache(maxsize=8)
def tile_grid(height: int, width: int) -> TileGrid:
    """Tiles and interpolation for images of a shape; shared between calls."""
    column_matrix = interpolation_matrix(width)
    return TileGrid(
        row_edges=block_edges(height),
        column_edges=block_edges(width),
        row_matrix=interpolation_matrix(height),
        column_matrix=column_matrix,
        column_sums=np.vstack([np.zeros_like(column_matrix[:1]), np.cumsum(column_matrix, axis=0)]),
    )


def block_edges(n: int) -> NDArray[np.int64]:
    """Limits of the half-tiles along an axis of n pixels."""
    n_div = max(-(-n // TILE_SIZE) + 1, 2)
    return np.rint(np.linspace(0, n, 2 * n_div - 1)).astype(np.int64)


def interpolation_matrix(n: int) -> Matrix:
    """Share (n, n_tiles) that each tile has in the background of each pixel along an axis.

    A cubic spline (not-a-knot) through the tile centres; a polynomial of lower degree where there are fewer than
    four. Pixels outside the outermost centres take the value there.
    """
    edges = block_edges(n)
    centres = (edges[:-2] + edges[2:]) / 2
    if len(centres) == 1:
        return np.ones((n, 1))
    spline = make_interp_spline(centres, np.eye(len(centres)), k=min(3, len(centres) - 1))
    return np.ascontiguousarray(spline(np.clip(np.arange(n), centres[0], centres[-1])))


@kernel
def _row_weights(row_matrix: Matrix, tile_values: Matrix) -> Matrix:
    height, (n_rows, n_columns) = row_matrix.shape[0], tile_values.shape
    weights = np.zeros((height, n_columns))
    for y in range(height):
        for i in range(n_rows):
            for j in range(n_columns):
                weights[y, j] += row_matrix[y, i] * tile_values[i, j]
    return weights


@kernel
def _fill_surface(row_weights: Matrix, column_matrix: Matrix, surface: NDArray[np.float32]) -> None:
    """Product of (H, n) and (n, W), a row at a time in a buffer that stays in the cache."""
    height, width = surface.shape
    line = np.empty(width)
    for y in range(height):
        for x in range(width):
            line[x] = row_weights[y, 0] * column_matrix[0, x]
        # The number of tiles is odd: the others come in pairs, which halves the way through the buffer.
        for j in range(1, column_matrix.shape[0], 2):
            a, b = row_weights[y, j], row_weights[y, j + 1]
            for x in range(width):
                line[x] += a * column_matrix[j, x] + b * column_matrix[j + 1, x]
        for x in range(width):
            surface[y, x] = line[x]


@kernel
def _medians_by_counting(
    image: NDArray[Any],
    runs: Runs,
    first_of_row: Indices,
    row_edges: NDArray[np.int64],
    column_edges: NDArray[np.int64],
    counts: NDArray[np.uint16],
) -> Matrix:
    """Median of each tile from the value counts of its four blocks, which it shares with its neighbours."""
    n_rows, n_columns = row_edges.size - 1, column_edges.size - 1
    medians = np.empty((n_rows - 1, n_columns - 1))
    # Counts of each value, and of each 256 values, in the blocks of the present row and the one before. A block has
    # at most 129 x 129 pixels, which uint16 counts hold. Smallest and largest value of each block, and its pixels.
    counts[:] = 0
    groups = np.zeros((2, n_columns, 1 << 8), np.int32)
    lowest, highest = np.zeros((2, n_columns), np.int64), np.zeros((2, n_columns), np.int64)
    n_pixels = np.zeros((2, n_columns), np.int64)
    for i in range(n_rows):
        side = i & 1
        for j in range(n_columns):
            _clear(counts, groups, side, j, lowest[side, j] >> 8, highest[side, j] >> 8)
            n_pixels[side, j], lowest[side, j], highest[side, j] = 0, 1 << 16, -1
        for y in range(row_edges[i], row_edges[i + 1]):
            for run in range(first_of_row[y], first_of_row[y + 1]):
                start, stop = runs.start[run], runs.stop[run]
                for j in range(n_columns):
                    first, last = max(start, column_edges[j]), min(stop, column_edges[j + 1])
                    low, high = lowest[side, j], highest[side, j]
                    for x in range(first, last):
                        value = np.int64(image[y, x])
                        counts[side, j, value] += 1
                        low, high = min(low, value), max(high, value)
                    lowest[side, j], highest[side, j] = low, high
                    n_pixels[side, j] += max(last - first, 0)
        for j in range(n_columns):
            _count_groups(counts, groups, side, j, lowest[side, j] >> 8, highest[side, j] >> 8)
        if i == 0:
            continue
        for j in range(n_columns - 1):
            n = n_pixels[0, j] + n_pixels[0, j + 1] + n_pixels[1, j] + n_pixels[1, j + 1]
            if n == 0:
                medians[i - 1, j] = np.nan
            else:
                lower = _value_of_rank(counts, groups, j, (n - 1) // 2)
                upper = lower if n & 1 else _value_of_rank(counts, groups, j, n // 2)
                medians[i - 1, j] = (lower + upper) / 2
    return medians


@kernel
def _clear(counts: NDArray[np.uint16], groups: NDArray[np.int32], side: int, j: int, first: int, last: int) -> None:
    """Forget the values of a block, which lie in the groups from first to last."""
    for group in range(first, last + 1):
        for value in range(group << 8, (group + 1) << 8):
            counts[side, j, value] = 0
        groups[side, j, group] = 0


@kernel
def _count_groups(
    counts: NDArray[np.uint16], groups: NDArray[np.int32], side: int, j: int, first: int, last: int
) -> None:
    for group in range(first, last + 1):
        n = 0
        for value in range(group << 8, (group + 1) << 8):
            n += counts[side, j, value]
        groups[side, j, group] = n


@kernel
def _value_of_rank(counts: NDArray[np.uint16], groups: NDArray[np.int32], j: int, rank: int) -> int:
    """Value that has `rank` smaller or equal ones before it in the sorted pixels of the blocks j and j + 1."""
    k = j + 1
    seen = np.int64(0)
    for group in range(groups.shape[2]):
        here = groups[0, j, group] + groups[0, k, group] + groups[1, j, group] + groups[1, k, group]
        if seen + here > rank:
            for value in range(group << 8, (group + 1) << 8):
                seen += np.int64(counts[0, j, value]) + counts[0, k, value]
                seen += np.int64(counts[1, j, value]) + counts[1, k, value]
                if seen > rank:
                    return value
        seen += here
    return -1
