"""Recordings for tests: the reference film at full size, and small ones of any content."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tasks.nd2_writer import Channel, Nd2Writer, StagePosition

DATA = Path(__file__).parent / "data"
LISCA_TRACES = DATA / "lisca_frames_0_5.pyama_traces.csv"
"""What PyAMA makes of it, frames 0 to 5: area in channel 0, total intensity in channel 1."""
LISCA_TRUTH = DATA / "lisca_truth.json"
"""Centres, radii and kinetics that were simulated in that film."""


def lisca_images() -> NDArray[np.uint16]:
    """First six frames of the reference film: (6, 2, 544, 544), phase and GFP."""
    with np.load(DATA / "lisca_frames_0_5.npz") as halves:
        images: NDArray[np.uint16] = halves["high"].astype(np.uint16) << 8 | halves["low"]
    return images


def write_lisca(path: Path) -> Path:
    """Write the first six frames of the reference film: one FOV, 10 min between frames, 0.65 µm pixels."""
    return write_recording(path, lisca_images()[np.newaxis], channel_names=("Phase", "GFP"))


def random_images(
    n_fovs: int = 1,
    n_frames: int = 3,
    n_channels: int = 2,
    height: int = 32,
    width: int = 40,
    dtype: type[np.generic] = np.uint16,
    seed: int = 0,
) -> NDArray[Any]:
    """Noise of shape (P, T, C, H, W), values below 200."""
    shape = (n_fovs, n_frames, n_channels, height, width)
    return (200 * np.random.default_rng(seed).random(shape)).astype(dtype)


def write_recording(
    path: Path,
    images: NDArray[Any],
    *,
    times_min: ArrayLike | None = None,
    with_times: bool = True,
    channel_names: Sequence[str] | None = None,
    pixel_size_um: float | None = 0.65,
    period_min: float = 10.0,
    positions: Sequence[StagePosition] | None = None,
    missing: Collection[tuple[int, int]] = (),
) -> Path:
    """Write images as an ND2 file and return its path.

    Parameters
    ----------
    path
        File to write.
    images
        (P, T, C, H, W) in uint8, uint16 or float32.
    times_min
        (P, T) time stamps in minutes; by default, multiples of the period.
    with_times
        Whether the file holds time stamps at all.
    channel_names
        The first channel is brightfield, the others are fluorescence; by default Phase, GFP, ....
    pixel_size_um, period_min, positions
        As `Nd2Writer` takes them.
    missing
        Pairs of FOV and frame that are left out of the file.
    """
    n_fovs, n_frames, n_channels, height, width = images.shape
    names = channel_names or ("Phase", "GFP", "mCherry", "Cy5", "DAPI")[:n_channels]
    if times_min is None and with_times:
        times_min = np.tile(period_min * np.arange(n_frames), (n_fovs, 1))
    with Nd2Writer(
        path,
        n_frames=n_frames,
        n_fovs=n_fovs,
        channels=[Channel(name, "fluorescence" if index else "brightfield") for index, name in enumerate(names)],
        height=height,
        width=width,
        dtype=images.dtype,
        pixel_size_um=pixel_size_um,
        times_min=times_min,
        period_min=period_min,
        positions=positions,
        allow_missing=bool(missing),
    ) as writer:
        for frame in range(n_frames):
            for fov in range(n_fovs):
                if (fov, frame) not in missing:
                    writer.write_frame(fov, frame, images[fov, frame])
    return path
