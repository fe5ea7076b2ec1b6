"""Segmentation by texture: spread cells of any shape, and round ones in clusters; all lengths are in µm.

A cell varies on the scale of its details where the background has noise alone. So the power of fine detail is
averaged over a small Gaussian window (rather than taken in 3 x 3 pixels, where the noise itself varies by a quarter),
and its logarithm compared with that of the background, whose mode and width are read from the lower half of its
histogram, which cells do not reach. Averaging moves outlines out, the more the stronger the cell: so a cell ends a
given share of the way from the background to what is usual inside of it, and is trimmed. Gaps are closed by discs,
small holes filled, touching cells split at their necks.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.images import check_finite
from tasks.methods import RimParameters, TextureParameters
from tasks.splitting import distance_inside, split_mask

Mask = NDArray[np.bool_]

_QUANTISATION = 0.03
"""Power in squared counts that is added to the texture's: next to nothing, but an even image has a logarithm."""
_INSIDE_UM = 10.0
"""Radius over which a cell's usual texture is averaged."""
_N_BINS = 256
_MOST_SAMPLES = 1 << 18
_MOST_COUNTS = 1e9


def segment_by_texture(
    image: NDArray[Any], parameters: TextureParameters, pixel_size_um: float | None
) -> NDArray[np.int32]:
    """Find cells of any shape.

    Parameters
    ----------
    image
        (H, W) phase contrast, any real dtype.
    parameters
        Lengths in µm, areas in µm².
    pixel_size_um
        What the recording tells.

    Returns
    -------
    NDArray
        (H, W) int32 labels in raster order, 0 for background.

    Raises
    ------
    ProcessingError
        For a pixel that is not finite, or beyond 1e9.
    InvalidParametersError
        Where nobody tells the size of a pixel.
    """
    p, scale = parameters, parameters.scale(pixel_size_um)
    excess, width = _excess(image, p.detail_um / scale, p.smoothing_um / scale)
    mask = _above_edge(excess, p.threshold * width, p.edge, _INSIDE_UM / scale)
    mask = _closed(mask, p.closing_um / scale)
    mask = _without_holes(mask, p.max_hole_um2 / scale**2)
    mask = _opened(_eroded(mask, p.trim_um / scale), p.opening_um / scale)
    least = p.min_area_um2 / scale**2
    return split_mask(_without_specks(mask, least), p.split, least)


def segment_by_rims(image: NDArray[Any], parameters: RimParameters, pixel_size_um: float | None) -> NDArray[np.int32]:
    """Find round cells that are darker than the bright rims around them, in clusters or by themselves.

    Within what has texture, insides are the pixels below the surroundings' mean; they are split at necks, and grow
    back over half their rims. All lengths are in shares of the cells' diameter.

    Parameters, results and errors are as of `segment_by_texture`.
    """
    diameter = parameters.diameter_um / parameters.scale(pixel_size_um)
    area = np.pi / 4 * diameter**2
    excess, width = _excess(image, 0.1 * diameter, 0.06 * diameter)
    mask = _above_edge(excess, parameters.threshold * width, 0.3, diameter)
    mask = _without_holes(_closed(mask, 0.15 * diameter), 0.3 * area)
    mask = _without_specks(_opened(mask, 0.1 * diameter), 0.2 * area)
    fine = cv2.GaussianBlur(image.astype(np.float32), (0, 0), max(0.04 * diameter, 0.5))
    inside = mask & (fine < cv2.GaussianBlur(fine, (0, 0), 0.25 * diameter))
    inside = _without_holes(_opened(inside, 0.08 * diameter), 0.08 * area)
    cells = split_mask(_without_specks(inside, 0.06 * area), parameters.split, 0.06 * area)
    return _grown(cells, 0.1 * diameter)


def _excess(image: NDArray[Any], detail: float, smoothing: float) -> tuple[NDArray[np.float32], float]:
    """Log of the local deviation in fine detail, above the background's (H, W); and the width of the background's."""
    check_finite(image, most=_MOST_COUNTS)
    fine = image.astype(np.float32)
    fine -= cv2.GaussianBlur(fine, (0, 0), detail)
    power = cv2.GaussianBlur(fine * fine, (0, 0), smoothing)
    log = 0.5 * np.log(power + np.float32(_QUANTISATION))
    mode, width = background_level(log)
    return log - np.float32(mode), width


def background_level(values: NDArray[np.floating[Any]]) -> tuple[float, float]:
    """Mode of the most frequent values, and the root mean square distance of those below it.

    Large images are sampled on a grid. The histogram is smoothed by a triangle, and does not see the outermost
    thousandths.
    """
    step = max(int(np.ceil(np.sqrt(values.size / _MOST_SAMPLES))), 1)
    sample = values[::step, ::step].astype(np.float64).reshape(-1)
    low, high = np.percentile(sample, [0.1, 99.9])
    if low == high:
        return float(low), 0.0
    counts, edges = np.histogram(sample, bins=_N_BINS, range=(low, high))
    smooth = np.convolve(counts, [1, 2, 3, 4, 5, 6, 5, 4, 3, 2, 1], mode="same")
    fullest = int(np.argmax(smooth))
    mode = (edges[fullest] + edges[fullest + 1]) / 2
    below = sample[sample <= mode] - mode
    return float(mode), float(np.sqrt(np.mean(below**2))) if below.size else 0.0


def _above_edge(excess: NDArray[np.float32], least: float, edge: float, inside: float) -> Mask:
    """Pixels above the background, and above a share of what is usual in their surroundings of such pixels."""
    mask = excess > least
    if edge == 0 or not mask.any():
        return mask
    weight = mask.astype(np.float32)
    nearby = np.maximum(_widely_blurred(weight, inside), np.float32(1e-3))
    usual = _widely_blurred(excess * weight, inside) / nearby
    return mask & (excess > np.float32(edge) * usual)


def _widely_blurred(values: NDArray[np.float32], radius: float) -> NDArray[np.float32]:
    """Blur by a Gaussian so wide that a quarter of its radius is fine enough a grid to do it on."""
    height, width = values.shape
    step = max(int(radius / 4), 1)
    small = cv2.resize(values, (-(-width // step), -(-height // step)), interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(small, (0, 0), radius / step)
    return np.asarray(cv2.resize(blurred, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def _dilated(mask: Mask, radius: float) -> Mask:
    """Pixels no farther than this from a set one; a disc of any radius costs the same."""
    return distance_inside(~mask) <= radius if mask.any() else mask


def _eroded(mask: Mask, radius: float) -> Mask:
    """Pixels farther than this from every pixel that is not set; the edge of the image takes nothing away."""
    return distance_inside(mask) > radius


def _closed(mask: Mask, radius: float) -> Mask:
    return _eroded(_dilated(mask, radius), radius) | mask


def _opened(mask: Mask, radius: float) -> Mask:
    return _dilated(_eroded(mask, radius), radius) & mask


def _without_holes(mask: Mask, most: float) -> Mask:
    """Fill patches of background of at most this many pixels; 4-connected, and any that reach the edge are none."""
    n, patches, statistics, _ = cv2.connectedComponentsWithStats((~mask).view(np.uint8), connectivity=4)
    hole = statistics[:, cv2.CC_STAT_AREA] <= most
    hole[0] = False
    for edge in (patches[0], patches[-1], patches[:, 0], patches[:, -1]):
        hole[edge] = False
    return mask | hole[patches] if n > 1 else mask


def _without_specks(mask: Mask, least: float) -> Mask:
    """Leave out 8-connected regions of fewer pixels than this."""
    _, regions, statistics, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    large = statistics[:, cv2.CC_STAT_AREA] >= least
    large[0] = False
    return np.asarray(large[regions])


def _grown(labels: NDArray[np.int32], radius: float) -> NDArray[np.int32]:
    """Give pixels no farther than this from a cell to the nearest one."""
    outside = (labels == 0).view(np.uint8)
    if outside.all():
        return labels
    distance, nearest = cv2.distanceTransformWithLabels(
        outside, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    cell_of = np.zeros(int(nearest.max()) + 1, np.int32)
    cell_of[nearest[outside == 0]] = labels[outside == 0]
    return np.where(distance <= radius, cell_of[nearest], np.int32(0))
