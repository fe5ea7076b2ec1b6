"""Which cells of a film are kept in the traces table."""

import numpy as np
from numpy.typing import NDArray


def kept_rows(
    cells: NDArray[np.int32],
    boxes: NDArray[np.int32],
    *,
    n_frames: int,
    height: int,
    width: int,
    min_frames: int,
    border_margin: int,
) -> NDArray[np.bool_]:
    """Rows of the cells that are seen long enough and never come close to the edge of the image.

    Parameters
    ----------
    cells
        (n,) cell number of each row; a cell has one row for each frame it is seen in.
    boxes
        (n, 4) first and last pixel index, inclusive: x0, y0, x1, y1.
    n_frames
        Length of the film; no cell is asked to be seen in more frames than that.
    min_frames
        Fewest frames.
    border_margin
        A cell is left out whose box ever has `x0 < m or x1 > width - m or y0 < m or y1 > height - m`.
    """
    if len(cells) == 0:
        return np.zeros(0, np.bool_)
    x0, y0, x1, y1 = boxes.T
    m = border_margin
    near_edge = (x0 < m) | (x1 > width - m) | (y0 < m) | (y1 > height - m)
    seen_in = np.bincount(cells)
    ever_near_edge = np.bincount(cells, weights=near_edge) > 0
    kept = (seen_in >= min(min_frames, n_frames)) & ~ever_near_edge
    return np.asarray(kept[cells])
