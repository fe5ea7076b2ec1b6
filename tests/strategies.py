"""Random and adversarial inputs of the kernels: images, masks, boxes and tables."""

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import DTypeLike, NDArray

from tests.oracles.segmentation import Image
from tests.oracles.squares import Mask

Shape = tuple[int, int]
Rng = np.random.Generator

DTYPES: list[DTypeLike] = [np.uint8, np.uint16, np.float32]

sides = st.one_of(st.integers(1, 5), st.integers(1, 40), st.integers(19, 70))
shapes = st.tuples(sides, sides)
large_shapes = st.sampled_from([(256, 257), (300, 511), (512, 513), (530, 600), (600, 530), (3, 600), (600, 1)])
seeds = st.integers(0, 2**32 - 1)


def _brightest(dtype: DTypeLike) -> float:
    return 65535.0 if np.issubdtype(dtype, np.floating) else float(np.iinfo(dtype).max)


def _flat(rng: Rng, shape: Shape, top: float) -> NDArray[np.float64]:
    return np.ones(shape) * float(rng.choice([0.0, 1.0, top // 3, top]))


def _noise(rng: Rng, shape: Shape, top: float) -> NDArray[np.float64]:
    return np.asarray(rng.uniform(0, top, shape))


def _dim_noise(rng: Rng, shape: Shape, top: float) -> NDArray[np.float64]:
    return np.asarray(rng.normal(0.5 * top, min(20.0, 0.1 * top), shape))


def _few_levels(rng: Rng, shape: Shape, top: float) -> NDArray[np.float64]:
    """Give small whole numbers, of which many variances are equal."""
    return rng.integers(0, rng.integers(2, 5), shape).astype(np.float64) * float(rng.choice([1, 3, 16]))


def _two_values(rng: Rng, shape: Shape, top: float) -> NDArray[np.float64]:
    return np.where(rng.random(shape) < rng.choice([0.02, 0.5]), top, 0.0)


def _powers_of_two(rng: Rng, shape: Shape, top: float) -> NDArray[np.float64]:
    """Give single dots of 2^k, whose variances lie on the edges of the histogram."""
    image = np.zeros(shape)
    rows, columns = image[1::4, 1::4].shape
    image[1::4, 1::4] = 2.0 ** rng.integers(0, np.log2(top + 1), (rows, columns))
    return image


def _saturated_patch(rng: Rng, shape: Shape, top: float) -> NDArray[np.float64]:
    image = _dim_noise(rng, shape, top)
    image[_span(rng, shape[0]), _span(rng, shape[1])] = top
    return image


def _gradient(rng: Rng, shape: Shape, top: float) -> NDArray[np.float64]:
    y, x = np.ogrid[: float(shape[0]), : float(shape[1])]
    return np.asarray((y + rng.integers(0, 3) * x) % (top + 1))


def _cells(rng: Rng, shape: Shape, top: float) -> NDArray[np.float64]:
    """Give a calm background with textured patches, some of them at the border."""
    texture = rng.uniform(0.2 * top, 0.8 * top, shape)
    return np.where(_rectangles(rng, shape), texture, _dim_noise(rng, shape, top))


IMAGES: list[Callable[[Rng, Shape, float], NDArray[np.float64]]] = [
    _cells,
    _noise,
    _dim_noise,
    _few_levels,
    _two_values,
    _powers_of_two,
    _saturated_patch,
    _gradient,
    _flat,
]


@st.composite
def images(draw: st.DrawFn, shape: st.SearchStrategy[Shape] = shapes, dtypes: list[DTypeLike] = DTYPES) -> Image:
    """Images of all kinds, sizes and types."""
    height_width, dtype = draw(shape), np.dtype(draw(st.sampled_from(dtypes)))
    if height_width[0] * height_width[1] <= 25 and draw(st.booleans()):
        return draw(hnp.arrays(dtype, height_width, elements=_elements(dtype)))
    kind, rng = draw(st.sampled_from(IMAGES)), np.random.default_rng(draw(seeds))
    top = _brightest(dtype)
    values = kind(rng, height_width, top)
    if np.issubdtype(dtype, np.integer):
        values = np.clip(np.rint(values), 0, top)
    return values.astype(dtype)


def _elements(dtype: np.dtype[Any]) -> st.SearchStrategy[Any]:
    if np.issubdtype(dtype, np.integer):
        return st.integers(0, int(np.iinfo(dtype).max))
    return st.floats(0, 65535, width=32, allow_subnormal=False)


def _span(rng: Rng, n: int) -> slice:
    """Give a part of an axis, which often begins or ends with it."""
    start, stop = sorted(np.clip(rng.integers(-n // 2, n + n // 2 + 1, 2), 0, n))
    return slice(int(start), int(stop))


def _rectangles(rng: Rng, shape: Shape) -> Mask:
    """Give rectangles that cut holes into each other, touch at corners, and nest."""
    mask = np.zeros(shape, dtype=bool)
    for _ in range(rng.integers(1, 8)):
        mask[_span(rng, shape[0]), _span(rng, shape[1])] ^= True
    return mask


def _speckle(rng: Rng, shape: Shape) -> Mask:
    return np.asarray(rng.random(shape) < rng.choice([0.05, 0.4, 0.6, 0.95]))


def _rings(rng: Rng, shape: Shape) -> Mask:
    """Give nested rings around a random centre."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    distance = np.hypot(y - rng.uniform(0, shape[0]), x - rng.uniform(0, shape[1]))
    return np.asarray(distance.astype(int) // int(rng.integers(1, 12)) % 2 == 0)


def _chessboard(rng: Rng, shape: Shape) -> Mask:
    """Give squares that touch diagonally alone."""
    return np.asarray(np.indices(shape).sum(axis=0) // int(rng.integers(1, 4)) % 2 == 0)


def _lines(rng: Rng, shape: Shape) -> Mask:
    mask = np.zeros(shape, dtype=bool)
    mask[:: int(rng.integers(2, 5)), _span(rng, shape[1])] = True
    return mask if rng.random() < 0.5 or shape[0] != shape[1] else mask.T.copy()


def _disc(shape: Shape, centre: NDArray[np.float64], radius: float) -> Mask:
    y, x = np.ogrid[: shape[0], : shape[1]]
    return np.asarray(np.hypot(y - centre[0], x - centre[1]) < radius, dtype=np.bool_)


def _discs(rng: Rng, shape: Shape) -> Mask:
    mask = np.zeros(shape, dtype=bool)
    for _ in range(rng.integers(1, 7)):
        mask |= _disc(shape, rng.uniform(0, 1, 2) * shape, rng.uniform(1, 16))
    return mask


def _full(_rng: Rng, shape: Shape) -> Mask:
    return np.ones(shape, dtype=bool)


def _empty(_rng: Rng, shape: Shape) -> Mask:
    return np.zeros(shape, dtype=bool)


MASKS: list[Callable[[Rng, Shape], Mask]] = [
    _rectangles,
    _discs,
    _rings,
    _speckle,
    _chessboard,
    _lines,
    _full,
    _empty,
]


@st.composite
def masks(draw: st.DrawFn, shape: st.SearchStrategy[Shape] = shapes) -> Mask:
    """Masks of all kinds and sizes."""
    height_width = draw(shape)
    if height_width[0] * height_width[1] <= 25 and draw(st.booleans()):
        return draw(hnp.arrays(bool, height_width))
    kind, rng = draw(st.sampled_from(MASKS)), np.random.default_rng(draw(seeds))
    return kind(rng, height_width)


@st.composite
def images_with_masks(
    draw: st.DrawFn, shape: st.SearchStrategy[Shape] = shapes, dtypes: list[DTypeLike] = DTYPES
) -> tuple[Image, Mask]:
    """An image and a mask of its size."""
    fixed = st.just(draw(shape))
    return draw(images(fixed, dtypes)), draw(masks(fixed))


@st.composite
def boxes(draw: st.DrawFn, max_size: int = 7, extent: int = 30) -> NDArray[np.int64]:
    """Boxes (n, 4) in a small area, so that many overlap; some repeat."""
    corner, size = st.integers(0, extent), st.integers(0, extent // 2)
    rows = draw(st.lists(st.tuples(corner, corner, size, size), max_size=max_size))
    return np.array([(x, y, x + w, y + h) for x, y, w, h in rows], dtype=np.int64).reshape(-1, 4)


@st.composite
def films_of_boxes(draw: st.DrawFn, max_frames: int = 6) -> list[NDArray[np.int64]]:
    """Boxes of consecutive frames: each moves a little, some vanish, some appear."""
    rng = np.random.default_rng(draw(seeds))
    frames = [draw(boxes())]
    for _ in range(draw(st.integers(0, max_frames - 1))):
        survivors = frames[-1][rng.random(len(frames[-1])) < 0.8]
        moved = np.maximum(survivors + np.tile(rng.integers(-3, 4, (len(survivors), 2)), 2), 0)
        frames.append(rng.permutation(np.concatenate([moved, draw(boxes(max_size=2))])))
    return frames


@st.composite
def films(draw: st.DrawFn) -> Image:
    """Films (T, C, H, W): textured cells that wander over a calm background, and glow; now and then a spoilt frame."""
    n_frames, n_channels = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    height_width = draw(st.one_of(shapes, st.tuples(st.integers(60, 140), st.integers(60, 140))))
    dtype, rng = np.dtype(draw(st.sampled_from(DTYPES))), np.random.default_rng(draw(seeds))
    top = _brightest(dtype)
    n_cells = int(rng.integers(0, 6))
    centres = rng.uniform(0, 1, (n_cells, 2)) * height_width
    radii = rng.uniform(9, 22, n_cells)
    film = np.empty((n_frames, n_channels, *height_width))
    for t in range(n_frames):
        film[t, 0] = _dim_noise(rng, height_width, top)
        film[t, 1:] = _gradient(rng, height_width, top)
        for centre, radius in zip(centres, radii, strict=True):
            inside = _disc(height_width, centre, radius)
            film[t, 0][inside] = rng.uniform(0.1 * top, 0.9 * top, inside.sum())
            film[t, 1:, inside] += rng.uniform(0, 0.2 * top)
        centres = centres + rng.normal(0, 4, centres.shape)
    for t in range(n_frames):
        if draw(st.integers(0, 9)) == 9:
            film[t, draw(st.integers(0, n_channels - 1))] = draw(st.sampled_from([0.0, top]))
    film = np.clip(film, 0, top)
    return np.ascontiguousarray(film if np.issubdtype(dtype, np.floating) else np.rint(film)).astype(dtype)
