"""Oracle of splitting and of morphology by discs: sets of pixels, one after the other."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.oracles.squares import Mask

Pixel = tuple[int, int]


def split_landscape(heights: NDArray[Any], ratio: float, min_area: float) -> list[set[Pixel]]:
    """Hills of a landscape, as sets of pixels."""
    order = sorted((-float(heights[p]), p) for p in np.ndindex(heights.shape) if heights[p] > 0)
    hills: list[set[Pixel]] = []
    for minus_height, (y, x) in order:
        around = [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        touched = [(p, hill) for p in around for hill in hills if p in hill]
        if not touched:
            hills.append({(y, x)})
            continue
        _, own = max(touched, key=lambda one: heights[one[0]])
        for _, hill in touched:
            if hill is own or not any(hill is other for other in hills):
                continue
            lower = min(max(heights[p] for p in h) for h in (own, hill))
            if -minus_height >= ratio * lower or min(len(own), len(hill)) < min_area:
                own |= hill
                hills = [other for other in hills if other is not hill]
        own.add((y, x))
    return hills


def as_labels(hills: list[set[Pixel]], shape: tuple[int, ...]) -> NDArray[np.int32]:
    """Label image, numbered in raster order of first pixels."""
    labels = np.zeros(shape, np.int32)
    for number, hill in enumerate(sorted(hills, key=min), start=1):
        for pixel in hill:
            labels[pixel] = number
    return labels


def dilated(mask: Mask, radius: float) -> Mask:
    """Pixels no farther than this from one that is set."""
    there = np.argwhere(mask)
    return np.array(
        [[bool(len(there)) and bool((np.hypot(*(there - p).T) <= radius).any()) for p in row] for row in pixels(mask)]
    ).reshape(mask.shape)


def eroded(mask: Mask, radius: float) -> Mask:
    """Pixels farther than this from any that is not set; outside the image there is none."""
    return ~dilated(~mask, radius) if not mask.all() else mask


def pixels(mask: Mask) -> NDArray[np.int64]:
    """Coordinates (H, W, 2) of all pixels."""
    return np.moveaxis(np.indices(mask.shape), 0, -1)
