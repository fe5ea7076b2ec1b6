"""A format: films as NumPy's `.npz`, with an array `images` (P, T, C, H, W) and the time between frames in minutes."""

from zipfile import BadZipFile

import numpy as np

from tasks.acquisition.protocol import RecordingMetadata
from tasks.errors import InvalidParametersError, MissingFrameError, RecordingError

__version__ = "1.0"


class NpzRecording:
    """An open recording."""

    def __init__(self, path, z_plane):
        if z_plane not in ("middle", "max", 0):
            raise InvalidParametersError(f"z_plane: {path.name} has one plane, 0 (got {z_plane})")
        try:
            with np.load(path) as arrays:
                self._images, interval_min = arrays["images"], float(arrays["interval_min"])
            n_fovs, n_frames, n_channels, height, width = self._images.shape
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise RecordingError(f"{path.name} cannot be read: {error}") from error
        self.metadata = RecordingMetadata(
            path=path,
            file_type="npz-film",
            n_fovs=n_fovs,
            n_frames=n_frames,
            n_planes=1,
            channel_names=("Phase", *(f"Fluorescence {c}" for c in range(1, n_channels))),
            channel_modalities=(frozenset(),) * n_channels,
            height=height,
            width=width,
            dtype=self._images.dtype,
            pixel_size_um=None,
            times_min=np.tile(interval_min * np.arange(n_frames), (n_fovs, 1)),
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        del self._images

    def check_frames(self, fov):
        """Make sure that all frames of a FOV are there."""
        if not 0 <= fov < self.metadata.n_fovs:
            raise MissingFrameError(f"there is no FOV {fov}")

    def read_frame(self, fov, frame, out=None):
        """All channels (C, H, W) of a time point."""
        images = self._images[fov, frame]
        if out is None:
            return images.copy()
        out[:] = images
        return out


def register(plugin):
    """Tell what this file adds."""
    plugin.recording_format("npz-film", [".film.npz"], NpzRecording)
