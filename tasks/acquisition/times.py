"""When frames were taken: by their stamps, else as planned, else by their number."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class FrameTimes(NamedTuple):
    """Times of the frames of a recording."""

    times_min: NDArray[np.float64]
    """(P, T) minutes since the recording's own zero."""
    warnings: tuple[str, ...]
    """What to know about them."""


def complete_times(stamps_min: NDArray[np.float64], planned_min: NDArray[np.float64] | None) -> FrameTimes:
    """Fill in the times of FOVs that lack any of their time stamps.

    Parameters
    ----------
    stamps_min
        (P, T) recorded times in minutes; NaN where there is none.
    planned_min
        (T,) times as planned; None where the recording does not tell, and then the number of a frame is its time, as
        if frames were a minute apart.
    """
    without = np.flatnonzero(~np.isfinite(stamps_min).all(axis=1))
    if not without.size:
        return FrameTimes(stamps_min, ())
    times_min, n_frames = stamps_min.copy(), stamps_min.shape[1]
    if planned_min is None:
        times_min[without] = np.arange(n_frames, dtype=np.float64)
        origin = "the frame numbers, as if frames were a minute apart"
    else:
        times_min[without] = planned_min
        origin = "those of the planned period"
    which = f"{without.size} of {len(stamps_min)} FOVs, the first is FOV {without[0]}"
    return FrameTimes(times_min, (f"time stamps are missing ({which}); times are {origin}",))


def evenly_spaced(n_frames: int, interval_min: float | None) -> NDArray[np.float64] | None:
    """(T,) times as planned with one interval; None where there is none that can be."""
    if interval_min is None or not np.isfinite(interval_min) or interval_min <= 0:
        return None
    return np.arange(n_frames, dtype=np.float64) * np.float64(interval_min)
