"""How far the stage has moved between two frames, from their phase images.

The peak of their cross-correlation (as Guizar-Sicairos, Thurman and Fienup 2008, without the subpixel step), of what
cells look like and uneven light does not: structures of some pixels in size, whose values are clipped so that no
single bright cell has it all its way. Large images are binned first; the shift is right to the size of a bin.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import fft

_MOST_PX = 1024
"""Longest side that is correlated."""
_FINE_PX, _COARSE_PX = 1.5, 10.0
_CLIP = 4.0
"""In standard deviations."""
_LEAST_CORRELATION = 0.2
"""Below it, what is alike is noise, and the stage is taken to hold still."""


class Registrar:
    """Tells of one image after the other how far the picture has moved since the one before.

    Parameters
    ----------
    max_shift
        Farthest that is looked for, in pixels, along y and x.
    """

    def __init__(self, max_shift: int) -> None:
        self._max_shift = max_shift
        self._before: NDArray[Any] | None = None
        self._energy_before = 0.0

    @property
    def has_before(self) -> bool:
        """Whether it has seen an image to compare the next one with."""
        return self._before is not None

    def next(self, image: NDArray[Any]) -> tuple[int, int]:
        """Shift y, x in pixels of the picture in this image (H, W) since the one before; (0, 0) of the first."""
        bins = -(-max(image.shape) // _MOST_PX)
        structure = _structure(image, bins)
        spectrum, energy = fft.rfft2(structure), float(np.vdot(structure, structure))
        before, energy_before = self._before, self._energy_before
        self._before, self._energy_before = spectrum, energy
        if before is None or energy * energy_before == 0:
            return 0, 0
        correlation = fft.irfft2(spectrum * before.conj(), structure.shape)
        most = [min(self._max_shift // bins, (length - 1) // 2) for length in structure.shape]
        rows, columns = (np.arange(-m, m + 1) for m in most)
        near = correlation[np.ix_(rows, columns)]
        row, column = np.unravel_index(np.argmax(near), near.shape)
        if near[row, column] < _LEAST_CORRELATION * np.sqrt(energy * energy_before):
            return 0, 0
        return int(rows[row]) * bins, int(columns[column]) * bins


def _structure(image: NDArray[Any], bins: int) -> NDArray[np.float32]:
    """What of an image is fine enough and coarse enough to be a cell, fading out towards the edges."""
    small: NDArray[Any] = image.astype(np.float32)
    if bins > 1:
        height, width = (max(1, length // bins) for length in image.shape)
        small = cv2.resize(small, (width, height), interpolation=cv2.INTER_AREA)
    band = cv2.GaussianBlur(small, (0, 0), _FINE_PX) - cv2.GaussianBlur(small, (0, 0), _COARSE_PX)
    most = _CLIP * band.std()
    window = [np.hanning(length + 2)[1:-1].astype(np.float32) for length in band.shape]
    return np.asarray(np.clip(band, -most, most) * window[0][:, np.newaxis] * window[1])
