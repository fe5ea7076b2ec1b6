"""What is done with a frame by itself: find and measure its cells, write its images.

Frames do not depend on each other here, so they can be worked on in any order and in any process that shares the
storage; `tasks.fov` puts them together.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.acquisition import Recording, open_recording
from tasks.background import Surface, background_pixels, tile_grid
from tasks.configuration import Channels, Configuration, ScienceParameters
from tasks.errors import ProcessingError
from tasks.features import FLUORESCENCE_FEATURES, PHASE_FEATURES, Intensities
from tasks.finding import find_cells
from tasks.methods import RegisteredParameters
from tasks.output.manifest import FileRecord
from tasks.output.stack import FrameSink
from tasks.pictures.views import FrameViews, PictureFrames, take_views
from tasks.plugins import check_plugins
from tasks.regions import LabelledFrame, measure
from tasks.registration import Registrar
from tasks.scratch import scratch

# Other frames and FOVs keep the other processors busy.
cv2.setNumThreads(1)


@dataclass(frozen=True)
class MeasuredFrame:
    """What is known of a frame by itself."""

    labelled: LabelledFrame
    backgrounds: dict[int, Surface]
    """Background of each fluorescence channel, by channel number."""
    intensities: dict[int, Intensities]
    """Measurements in each fluorescence channel, by channel number."""


@dataclass(frozen=True)
class FrameResult:
    """What linking, the table and the manifest need to know of a frame; small, whatever the image's size."""

    labelled: LabelledFrame
    intensities: dict[int, Intensities]
    without_background: tuple[int, ...]
    """Fluorescence channels in which no pixel was away from cells."""
    shift: tuple[int, int]
    """How far the stage has moved the picture since the frame before: y and x, in pixels."""
    written: dict[str, FileRecord]
    """What was written of this frame, by the stack's name."""
    views: FrameViews | None
    """What pictures show of it."""


@dataclass(frozen=True)
class FrameWork:
    """How the frames of one FOV are worked on; small, and fit to be sent to other processes."""

    fov: int
    configuration: Configuration
    raw: dict[int, FrameSink]
    """Where each channel's images go, by channel number; empty where they are not kept."""
    backgrounds: dict[int, FrameSink]
    labels: FrameSink | None
    pictures: PictureFrames | None
    """Frames that pictures are made of; None where there are to be none."""

    def do(self, recording: Recording, frames: Iterable[int]) -> Iterator[FrameResult]:
        """Measure frames and write their images, one at a time.

        Raises
        ------
        RecordingError
            Where a frame cannot be read.
        ProcessingError
            Naming FOV, frame and channel, e.g. for a non-finite pixel.
        OutputError
            Where the images cannot be written.
        """
        metadata = recording.metadata
        shape, dtype = (metadata.n_channels, metadata.height, metadata.width), metadata.dtype
        channels, parameters = self.configuration.channels, self.configuration.parameters
        registrar = _registrar(parameters)
        for t in frames:
            if registrar and t and not registrar.has_before:
                # The first of a chunk: whoever computes the frame before has its own copy.
                before = recording.read_frame(self.fov, t - 1, out=scratch("images", shape, dtype))
                registrar.next(before[channels.phase.channel])
            images = recording.read_frame(self.fov, t, out=scratch("images", shape, dtype))
            with naming(f"FOV {self.fov}, frame {t}"):
                frame = measure_frame(images, channels, parameters, metadata.pixel_size_um)
            yield FrameResult(
                labelled=frame.labelled,
                intensities=frame.intensities,
                without_background=tuple(c for c, surface in frame.backgrounds.items() if surface.without_background),
                shift=registrar.next(images[channels.phase.channel]) if registrar else (0, 0),
                written=self._write(t, images, frame),
                views=self._views(t, images, frame),
            )

    def do_chunk(self, path: Path, frames: range, on_frame: Callable[[], None] | None = None) -> list[FrameResult]:
        """Open the recording for some frames only; for a process that does not have it open."""
        check_plugins(self.configuration.plugins)
        results = []
        with open_recording(path, self.configuration.parameters.z_plane) as recording:
            for result in self.do(recording, frames):
                results.append(result)
                if on_frame is not None:
                    on_frame()
        return results

    def _views(self, t: int, images: NDArray[Any], frame: MeasuredFrame) -> FrameViews | None:
        if self.pictures is None:
            return None
        margin = self.configuration.parameters.border_margin
        channels = self.configuration.channels.numbers
        return take_views(t, images, channels, frame.labelled.regions, self.pictures, margin)

    def _write(self, t: int, images: NDArray[Any], frame: MeasuredFrame) -> dict[str, FileRecord]:
        written, shape = {}, images.shape[1:]
        for channel, sink in self.raw.items():
            written[sink.path.name] = sink.write(t, images[channel])
        for channel, sink in self.backgrounds.items():
            surface = frame.backgrounds[channel]
            written[sink.path.name] = sink.write(t, surface.image(scratch("surface", shape, np.float32)))
        if self.labels is not None:
            labels = frame.labelled.paint_labels(scratch("labels", shape, np.uint16))
            written[self.labels.path.name] = self.labels.write(t, labels)
        return written


def _registrar(parameters: ScienceParameters) -> Registrar | None:
    tracking = parameters.tracking
    if isinstance(tracking, RegisteredParameters) and tracking.max_shift > 0:
        return Registrar(tracking.max_shift)
    return None


def measure_frame(
    images: NDArray[Any], channels: Channels, parameters: ScienceParameters, pixel_size_um: float | None = None
) -> MeasuredFrame:
    """Find and measure the cells of one frame.

    Parameters
    ----------
    images
        (C, H, W) all channels, in counts.
    pixel_size_um
        What the recording tells.
    """
    phase = channels.phase
    with naming(f"channel {phase.channel}"):
        with_perimeter = any("perimeter" in PHASE_FEATURES[name].needs for name in phase.features)
        mask, labelled = find_cells(images[phase.channel], parameters, pixel_size_um, with_perimeter=with_perimeter)
    inner = labelled.eroded(parameters.erosion_size)
    pixels = background_pixels(mask)
    grid = tile_grid(*mask.shape)
    backgrounds, intensities = {}, {}
    for channel in channels.fluorescence:
        image = images[channel.channel]
        with naming(f"channel {channel.channel}"):
            background = grid.estimate(image, pixels)
        backgrounds[channel.channel] = background
        intensities[channel.channel] = measure(
            inner,
            image,
            background,
            weight=parameters.background_weight,
            pixelwise=any(FLUORESCENCE_FEATURES[name].needs for name in channel.features),
        )
    return MeasuredFrame(labelled, backgrounds, intensities)


@contextmanager
def naming(place: str) -> Iterator[None]:
    """Say where in the recording an error happened."""
    try:
        yield
    except ProcessingError as error:
        raise ProcessingError(f"{place}: {error}") from error
