"""One FOV is one streaming pass over its frames.

Everything that is measured on a cell in a frame depends on that frame alone; only the cell's number depends on the
other frames. So each frame is read once, measured, linked to the one before and written, and memory does not grow
with the length of the film.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.acquisition import Recording, RecordingMetadata
from tasks.background import Surface, background_pixels, tile_grid
from tasks.configuration import Channels, Configuration, ScienceParameters
from tasks.errors import ProcessingError
from tasks.features import FLUORESCENCE_FEATURES, PHASE_FEATURES, Intensities
from tasks.filters import kept_rows
from tasks.output import FovDirectory
from tasks.output.stack import StackWriter
from tasks.regions import LabelledFrame, find_regions, measure
from tasks.segmentation import segment
from tasks.traces import TraceRows
from tasks.tracking import Tracker

FrameListener = Callable[[int], None]
"""Called with the number of frames that are done; whatever it raises ends the pass."""


@dataclass(frozen=True)
class MeasuredFrame:
    """What is known of a frame by itself."""

    labelled: LabelledFrame
    backgrounds: dict[int, Surface]
    """Background of each fluorescence channel, by channel number."""
    intensities: dict[int, Intensities]
    """Measurements in each fluorescence channel, by channel number."""


@dataclass(frozen=True)
class FovSummary:
    """What came out of a FOV."""

    n_cells: int
    """Cells in the traces table."""
    warnings: tuple[str, ...]


def process_fov(
    recording: Recording,
    fov: int,
    configuration: Configuration,
    directory: FovDirectory,
    on_frame: FrameListener | None = None,
) -> FovSummary:
    """Turn one FOV of a recording into its traces table and image stacks.

    Parameters
    ----------
    recording
        An open recording.
    fov
        Number of the FOV, from 0.
    configuration
        Channels, features and parameters.
    directory
        Where the files go; committing it is the caller's part.
    on_frame
        Told after each frame how many are done.

    Raises
    ------
    MissingFrameError
        Where the recording lacks a frame of this FOV; before anything is computed.
    ProcessingError
        Naming FOV, frame and channel, e.g. for a non-finite pixel.
    OutputError
        Where the files cannot be written.
    """
    recording.check_frames(fov)
    metadata, channels, parameters = recording.metadata, configuration.channels, configuration.parameters
    stacks = Stacks(directory, metadata, configuration)
    tracker = Tracker(parameters.min_iou)
    rows = TraceRows(channels)
    without_background: dict[int, list[int]] = {}
    for t in range(metadata.n_frames):
        images = recording.read_frame(fov, t)
        with _naming(f"FOV {fov}, frame {t}"):
            frame = measure_frame(images, channels, parameters)
            cells = tracker.link(frame.labelled.regions.boxes)
        stacks.write(t, images, frame, cells)
        rows.add_frame(cells, frame.labelled.regions, frame.intensities)
        for channel, background in frame.backgrounds.items():
            if background.without_background:
                without_background.setdefault(channel, []).append(t)
        if on_frame is not None:
            on_frame(t + 1)
    kept = kept_rows(
        rows.cells,
        rows.boxes,
        n_frames=metadata.n_frames,
        height=metadata.height,
        width=metadata.width,
        min_frames=parameters.min_frames,
        border_margin=parameters.border_margin,
    )
    directory.write_text(directory.layout.traces, rows.to_csv(fov, metadata.times_min[fov], kept))
    return FovSummary(
        n_cells=len(np.unique(rows.cells[kept])),
        warnings=tuple(_background_warning(channel, frames) for channel, frames in sorted(without_background.items())),
    )


def measure_frame(images: NDArray[Any], channels: Channels, parameters: ScienceParameters) -> MeasuredFrame:
    """Find and measure the cells of one frame.

    Parameters
    ----------
    images
        (C, H, W) all channels, in counts.
    """
    phase = channels.phase
    with _naming(f"channel {phase.channel}"):
        mask = segment(images[phase.channel], parameters.logstd_arithmetic)
        with_perimeter = any("perimeter" in PHASE_FEATURES[name].needs for name in phase.features)
        labelled = find_regions(mask, parameters.min_area, parameters.max_area, with_perimeter=with_perimeter)
    pixels = background_pixels(mask)
    grid = tile_grid(*mask.shape)
    backgrounds, intensities = {}, {}
    for channel in channels.fluorescence:
        image = images[channel.channel]
        with _naming(f"channel {channel.channel}"):
            background = grid.estimate(image, pixels)
        backgrounds[channel.channel] = background
        intensities[channel.channel] = measure(
            labelled,
            image,
            background,
            weight=parameters.background_weight,
            erosion=parameters.erosion_size,
            pixelwise=any(FLUORESCENCE_FEATURES[name].needs for name in channel.features),
        )
    return MeasuredFrame(labelled, backgrounds, intensities)


class Stacks:
    """The image stacks of a FOV that `keep` asks for."""

    def __init__(self, directory: FovDirectory, metadata: RecordingMetadata, configuration: Configuration) -> None:
        shape = (metadata.n_frames, metadata.height, metadata.width)
        layout, keep = directory.layout, configuration.parameters.keep
        phase = configuration.channels.phase.channel
        fluorescence = [channel.channel for channel in configuration.channels.fluorescence]
        self._raw: dict[int, StackWriter] = {}
        self._backgrounds: dict[int, StackWriter] = {}
        self._labels: tuple[StackWriter, StackWriter] | None = None
        if keep == "all":
            self._raw[phase] = directory.stack(layout.phase(phase), shape, metadata.dtype)
            for channel in fluorescence:
                self._raw[channel] = directory.stack(layout.fluorescence(channel), shape, metadata.dtype)
                self._backgrounds[channel] = directory.stack(layout.background(channel), shape, np.float32)
        if keep in ("all", "labels"):
            self._labels = (
                directory.stack(layout.labeled(phase), shape, np.uint16),
                directory.stack(layout.tracked(phase), shape, np.uint16),
            )

    def write(self, t: int, images: NDArray[Any], frame: MeasuredFrame, cells: NDArray[np.int32]) -> None:
        """Write frame `t`: its images, and the number `cells` of each of its regions."""
        for channel, stack in self._raw.items():
            stack.write(t, images[channel])
        for channel, stack in self._backgrounds.items():
            stack.write(t, frame.backgrounds[channel].image())
        if self._labels is not None:
            labeled, tracked = self._labels
            labeled.write(t, frame.labelled.labels)
            tracked.write(t, frame.labelled.paint(cells))


@contextmanager
def _naming(place: str) -> Iterator[None]:
    """Say where in the recording an error happened."""
    try:
        yield
    except ProcessingError as error:
        raise ProcessingError(f"{place}: {error}") from error


def _background_warning(channel: int, frames: list[int]) -> str:
    return (
        f"channel {channel}: no pixel away from cells in {len(frames)} frames (the first is {frames[0]}); "
        "the 1st percentile of the frame stands in for its background"
    )
