"""Oracle of the background: medians of overlapping tiles, joined by a smooth surface."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import make_interp_spline

from tests.oracles.squares import Mask, dilated

TILE = 256
MARGIN = 10


class Tiles(NamedTuple):
    """Value of each tile, and whether no pixel of the frame was left to take it from."""

    values: NDArray[np.float64]
    fully_masked: bool


def excluded(mask: NDArray[Any]) -> Mask:
    """Pixels within 10 pixels of a cell, in x and in y."""
    return dilated(mask, 2 * MARGIN + 1)


def edges(n: int) -> NDArray[np.int64]:
    """Edges of the tiles along an axis of n pixels; tile i reaches from edge i to edge i + 2."""
    n_div = max(int(np.ceil(n / TILE)) + 1, 2)
    return np.rint(np.linspace(0, n, 2 * n_div - 1)).astype(np.int64)


def centres(n: int) -> NDArray[np.float64]:
    """Coordinates halfway between the edges of each tile."""
    edge = edges(n)
    return (edge[:-2] + edge[2:]) / 2


def tile_values(image: NDArray[Any], left_out: NDArray[Any]) -> Tiles:
    """Median of the pixels left in, tile by tile."""
    values = image.astype(np.float64)
    kept = ~left_out.astype(bool)
    rows, columns = edges(image.shape[0]), edges(image.shape[1])
    if not kept.any():
        return Tiles(np.full((len(rows) - 2, len(columns) - 2), np.percentile(values, 1)), True)

    def median_of(tile: tuple[slice, ...]) -> float:
        pixels = values[tile][kept[tile]]
        return float(np.median(pixels if pixels.size else values[kept]))

    spans = [[slice(a, b) for a, b in zip(edge[:-2], edge[2:], strict=True)] for edge in (rows, columns)]
    return Tiles(np.array([[median_of((y, x)) for x in spans[1]] for y in spans[0]]), False)


def interpolated(values: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Spread values at the tile centres (axis 0) over n pixels: a not-a-knot spline, constant outside."""
    centre = centres(n)
    if len(centre) == 1:
        return np.repeat(values, n, axis=0)
    spline = make_interp_spline(centre, values, k=min(3, len(centre) - 1), axis=0)
    return np.asarray(spline(np.clip(np.arange(n), centre[0], centre[-1])))


def surface(values: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """Background at each pixel, in double precision; it is written to files as float32."""
    down = interpolated(values, height)
    return interpolated(down.T, width).T
