"""What is taken of a frame for pictures, while its images are in memory: small images, and tiles around some cells.

It depends on the frame alone, so it is the same whoever works on the frame.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.display import contrast_limits, reduction, to_grey
from tasks.features import Regions

OVERVIEW_SIZE = 600
"""Longest side, in pixels, of the image of a frame."""
TILE = 64
"""Side of a tile, in pixels."""

_LARGEST_ZOOM = 8
_N_STRIP_FRAMES = 8
_N_TILES = 12
"""Regions in a frame that get tiles, of which those of a few cells are shown: which ones is only known at the end."""
_LOW, _HIGH = 1.0, 99.8
"""Percentiles of a frame that are black and white."""
MOST_SAMPLED = 1 << 13
"""Pixels that tell the percentiles well enough for a picture."""

Image = NDArray[Any]
Grey = NDArray[np.uint8]


@dataclass(frozen=True)
class PictureFrames:
    """Which frames of a film are shown."""

    overview: tuple[int, ...]
    """First, middle and last."""
    strip: tuple[int, ...]

    @classmethod
    def of(cls, n_frames: int) -> "PictureFrames":
        """Choose frames of a film."""
        strip = np.linspace(0, n_frames - 1, min(_N_STRIP_FRAMES, n_frames)).astype(int)
        return cls(tuple(sorted({0, n_frames // 2, n_frames - 1})), tuple(strip.tolist()))


@dataclass(frozen=True)
class Scale:
    """How an image is brought to the size of an overview: reduced, or enlarged, by a whole number."""

    height: int
    width: int
    """Of the image."""

    @property
    def factor(self) -> int:
        """Pixels of the image for each of the overview, along each side."""
        return reduction(self.height, self.width, OVERVIEW_SIZE)

    @property
    def zoom(self) -> int:
        """Pixels of the overview for each of the image."""
        return max(1, min(_LARGEST_ZOOM, OVERVIEW_SIZE // max(self.height, self.width)))

    @property
    def shown(self) -> tuple[int, int]:
        """Height and width of the overview."""
        return max(1, self.height // self.factor) * self.zoom, max(1, self.width // self.factor) * self.zoom

    def reduce(self, image: Image) -> Image:
        """Mean of each square of an image; what is left over at the right and lower edge is not shown."""
        if self.factor == 1:
            return image
        rows, columns = (max(1, n // self.factor) for n in image.shape)
        whole = np.ascontiguousarray(image[: rows * self.factor, : columns * self.factor])
        return cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA)

    def sample(self, labels: NDArray[np.uint16]) -> NDArray[np.uint16]:
        """Label in the middle of each square."""
        rows, columns = (max(1, n // self.factor) for n in labels.shape)
        # Where an image is narrower than half a square, it ends before the middle of it.
        top, left = (min(self.factor // 2, n - 1) for n in labels.shape)
        return labels[top :: self.factor, left :: self.factor][:rows, :columns]

    def enlarge(self, image: Grey) -> Grey:
        """Repeat each pixel."""
        return image if self.zoom == 1 else image.repeat(self.zoom, axis=0).repeat(self.zoom, axis=1)


@dataclass(frozen=True)
class FrameViews:
    """What is taken of one frame."""

    greys: dict[int, Grey]
    """Small image of each channel, its contrast stretched; none where the frame is not in the overview."""
    tile_regions: NDArray[np.int64]
    """(n,) regions that tiles were taken of."""
    tiles: dict[int, Image]
    """(n, TILE, TILE) counts around these regions in each channel; none where the frame is not in the strip."""


def take_views(
    t: int, images: Image, channels: Iterable[int], regions: Regions, frames: PictureFrames, border_margin: int
) -> FrameViews | None:
    """Take what pictures need of frame `t`; None where it is not shown.

    Parameters
    ----------
    images
        (C, H, W) all channels, in counts.
    channels
        Numbers of the channels that are shown.
    border_margin
        Regions that come closer to the edge are in no table, so they get no tiles.
    """
    if t not in frames.overview and t not in frames.strip:
        return None
    numbers = tuple(channels)
    greys = {channel: _grey(images[channel]) for channel in numbers} if t in frames.overview else {}
    chosen, tiles = np.empty(0, np.int64), {}
    if t in frames.strip:
        chosen = _central_regions(regions, images.shape[1], images.shape[2], border_margin)
        windows = [_window(regions.boxes[region], images.shape[1], images.shape[2]) for region in chosen]
        tiles = {channel: _tiles(images[channel], windows) for channel in numbers}
    return FrameViews(greys, chosen, tiles)


def _grey(image: Image) -> Grey:
    scale = Scale(*image.shape)
    small = scale.reduce(image)
    return to_grey(small, *contrast_limits(small, _LOW, _HIGH, MOST_SAMPLED))


def _central_regions(regions: Regions, height: int, width: int, margin: int) -> NDArray[np.int64]:
    """Regions that are nearest to the middle of the image, where a film's cells stay longest in view."""
    x0, y0, x1, y1 = regions.boxes.T
    inside = np.flatnonzero((x0 >= margin) & (y0 >= margin) & (x1 <= width - margin) & (y1 <= height - margin))
    x, y = regions.centroids[inside].T
    distance = np.hypot(x - width / 2, y - height / 2)
    return inside[np.argsort(distance, kind="stable")[:_N_TILES]]


def _window(box: NDArray[np.int32], height: int, width: int) -> tuple[slice, slice]:
    """Square around a box, with something around it, inside the image; its side is a tile's, doubled as needed."""
    x0, y0, x1, y1 = box.tolist()
    side = TILE
    while side < 1.3 * max(x1 - x0, y1 - y0):
        side *= 2
    side = min(side, height, width)
    left = min(max((x0 + x1 + 1 - side) // 2, 0), width - side)
    above = min(max((y0 + y1 + 1 - side) // 2, 0), height - side)
    return slice(above, above + side), slice(left, left + side)


def _tiles(image: Image, windows: list[tuple[slice, slice]]) -> Image:
    tiles = np.empty((len(windows), TILE, TILE), image.dtype)
    for tile, window in zip(tiles, windows, strict=True):
        part = image[window]
        if part.shape == (TILE, TILE):
            tile[:] = part
        else:
            tile[:] = cv2.resize(np.ascontiguousarray(part), (TILE, TILE), interpolation=cv2.INTER_AREA)
    return tiles
