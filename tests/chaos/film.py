"""A film of small images that takes a while to process."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.nd2_writer import Channel, Nd2Writer

SIDE = 40
_N_DISTINCT = 40
"""After so many frames, the same images come again; to make them takes longer than to write them."""


def write_film(path: Path, n_fovs: int, n_frames: int) -> Path:
    """Write a film with one cell in each FOV."""
    with Nd2Writer(
        path,
        n_frames=n_frames,
        n_fovs=n_fovs,
        channels=[Channel("Phase", "brightfield"), Channel("GFP", "fluorescence")],
        height=SIDE,
        width=SIDE,
        dtype=np.dtype(np.uint16),
        times_min=np.tile(10.0 * np.arange(n_frames), (n_fovs, 1)),
    ) as writer:
        for frame in range(n_frames):
            for fov in range(n_fovs):
                writer.write_frame(fov, frame, _image(fov, frame % _N_DISTINCT))
    return path


@cache
def _image(fov: int, frame: int) -> NDArray[Any]:
    rng = np.random.default_rng((fov, frame))
    image = np.empty((2, SIDE, SIDE))
    image[0] = rng.integers(995, 1005, (SIDE, SIDE))
    image[1] = rng.integers(95, 105, (SIDE, SIDE))
    cell = np.s_[8 : 30 + fov % 4, 9 : 30 + fov % 3]
    image[0][cell] = rng.integers(0, 2000, image[0][cell].shape)
    image[1][cell] += 50 + 10 * frame
    return image.astype(np.uint16)
