"""One FOV is one streaming pass over its frames.

Everything that is measured on a cell in a frame depends on that frame alone; only the cell's number depends on the
other frames. So each frame is read once, measured, linked to the one before and written, and memory does not grow
with the length of the film. Where there are idle workers, they take chunks of frames; linking works on the small
tables that come back.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tasks.acquisition import Recording, RecordingMetadata
from tasks.configuration import Configuration, ImageFormat
from tasks.errors import ProcessingError
from tasks.filters import kept_rows
from tasks.frames import FrameResult, FrameWork, naming
from tasks.linking import Cells, checked_cells, make_linker
from tasks.methods import TRACKING_METHODS
from tasks.output import FovDirectory
from tasks.output.layout import zarr_name
from tasks.output.manifest import FileRecord
from tasks.output.stack import StackWriter
from tasks.output.zarr_stack import Scale
from tasks.pictures.making import Pictures
from tasks.pictures.views import PictureFrames
from tasks.plugins import check_plugins
from tasks.regions import LabelledFrame
from tasks.scratch import scratch
from tasks.traces import TraceRows, trace_columns

FrameListener = Callable[[int], None]
"""Called with the number of frames that are done; whatever it raises ends the pass."""

_MOST_FRAMES_PER_CHUNK = 8
"""Few enough that linking keeps up with the workers; handing over a chunk costs a cluster some milliseconds."""


@dataclass(frozen=True)
class Helpers:
    """Idle workers that take frames of a FOV: threads, or processes that share the storage."""

    executor: Executor
    n_workers: int
    on_frame: Callable[[], None] | None = None
    """Called by them with each frame; whatever it raises ends their work."""


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
    helpers: Helpers | None = None,
) -> FovSummary:
    """Turn one FOV of a recording into its traces table, image stacks and pictures.

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
    helpers
        Workers that take chunks of frames; without any, all is done here. The files are the same bytes.

    Raises
    ------
    PluginError
        Where this process lacks a plugin that the configuration takes, or has another version of it.
    MissingFrameError
        Where the recording lacks a frame of this FOV; before anything is computed.
    ProcessingError
        Naming FOV, frame and channel, e.g. for a non-finite pixel.
    OutputError
        Where the files cannot be written.
    """
    check_plugins(configuration.plugins)
    recording.check_frames(fov)
    metadata, parameters = recording.metadata, configuration.parameters
    stacks = Stacks(directory, metadata, configuration)
    pictures = Pictures(metadata, configuration.channels, fov) if parameters.pictures else None
    work = stacks.frame_work(fov, pictures.frames if pictures else None)
    linker = make_linker(parameters)
    rows = TraceRows(configuration.channels)
    without_background: dict[int, list[int]] = {}
    # Frames whose cells are not numbered yet; most methods number those of each frame at once.
    waiting: deque[tuple[int, FrameResult]] = deque()

    def settle(numbers: Iterable[Cells]) -> None:
        for given in numbers:
            if not waiting:
                raise ProcessingError("the tracking method numbered more frames than it was given")
            t, frame = waiting.popleft()
            cells = checked_cells(given, len(frame.labelled.regions.area))
            stacks.finish(t, frame.written, frame.labelled, cells)
            rows.add_frame(cells, frame.labelled.regions, frame.intensities)
            if pictures is not None:
                pictures.add_frame(t, frame.views, frame.labelled, cells)

    for t, frame in enumerate(_in_order(work, recording, helpers)):
        waiting.append((t, frame))
        with naming(f"FOV {fov}, frame {t}"):
            settle(linker.link(frame.labelled, frame.shift))
        for channel in frame.without_background:
            without_background.setdefault(channel, []).append(t)
        if on_frame is not None:
            on_frame(t + 1)
    with naming(f"FOV {fov}"):
        settle(linker.finish())
        if waiting:
            raise ProcessingError(f"the tracking method left {len(waiting)} frames without numbers")
    kept = kept_rows(
        rows.cells,
        rows.boxes,
        n_frames=metadata.n_frames,
        height=metadata.height,
        width=metadata.width,
        min_frames=parameters.min_frames,
        border_margin=parameters.border_margin,
    )
    parents = linker.parents if TRACKING_METHODS[parameters.tracking.method].with_parents else None
    columns = trace_columns(configuration.channels, with_parents=parents is not None)
    lines = partial(rows.to_lines, fov, metadata.times_min[fov], kept, parents)
    directory.write_text(directory.layout.traces, chain([",".join(columns) + "\n"], lines()))
    if parameters.parquet:
        directory.write_parquet(directory.layout.traces_parquet, columns, lines())
    if pictures is not None:
        for name, content in pictures.files(directory.layout, rows, kept):
            directory.write_bytes(name, [content])
    return FovSummary(
        n_cells=len(np.unique(rows.cells[kept])),
        warnings=(
            *metadata.warnings,
            *(_background_warning(channel, frames) for channel, frames in sorted(without_background.items())),
        ),
    )


class Stacks:
    """The image stacks of a FOV that `keep` asks for."""

    def __init__(self, directory: FovDirectory, metadata: RecordingMetadata, configuration: Configuration) -> None:
        self._configuration = configuration
        layout, keep = directory.layout, configuration.parameters.keep
        begin = _stacks_of(directory, metadata, configuration.parameters.image_format)
        phase = configuration.channels.phase.channel
        fluorescence = [channel.channel for channel in configuration.channels.fluorescence]
        self._raw: dict[int, StackWriter] = {}
        self._backgrounds: dict[int, StackWriter] = {}
        self._labeled: StackWriter | None = None
        self._tracked: StackWriter | None = None
        if keep == "all":
            self._raw[phase] = begin(layout.phase(phase), metadata.dtype)
            for channel in fluorescence:
                self._raw[channel] = begin(layout.fluorescence(channel), metadata.dtype)
                self._backgrounds[channel] = begin(layout.background(channel), np.float32)
        if keep in ("all", "labels"):
            self._labeled = begin(layout.labeled(phase), np.uint16)
            self._tracked = begin(layout.tracked(phase), np.uint16)

    def frame_work(self, fov: int, pictures: PictureFrames | None) -> FrameWork:
        """What is to be done with each frame by itself."""
        return FrameWork(
            fov=fov,
            configuration=self._configuration,
            raw={channel: stack.sink for channel, stack in self._raw.items()},
            backgrounds={channel: stack.sink for channel, stack in self._backgrounds.items()},
            labels=self._labeled.sink if self._labeled else None,
            pictures=pictures,
        )

    def finish(self, t: int, written: dict[str, FileRecord], labelled: LabelledFrame, cells: NDArray[np.int32]) -> None:
        """Note what was written of frame `t`, and write the number `cells` of each of its regions."""
        for stack in (*self._raw.values(), *self._backgrounds.values(), self._labeled):
            if stack is not None:
                stack.record(t, written[stack.sink.path.name])
        if self._tracked is not None:
            image = scratch("cells", (labelled.height, labelled.width), np.uint16)
            self._tracked.write(t, labelled.paint(cells, image))


def _stacks_of(
    directory: FovDirectory, metadata: RecordingMetadata, image_format: ImageFormat
) -> Callable[[str, DTypeLike], StackWriter]:
    """How a stack is begun, by its name as an `.npy` file and the type of its pixels."""
    shape = (metadata.n_frames, metadata.height, metadata.width)
    if image_format == "npy":
        return lambda name, dtype: directory.stack(name, shape, dtype)
    scale = Scale(_interval_min(metadata.times_min[directory.layout.fov]), metadata.pixel_size_um)
    return lambda name, dtype: directory.zarr_stack(zarr_name(name), shape, dtype, scale)


def _interval_min(times_min: NDArray[np.float64]) -> float:
    """Usual time between frames; 1 where there is none."""
    interval = float(np.median(np.diff(times_min))) if len(times_min) > 1 else 0.0
    return interval if interval > 0 else 1.0


def _in_order(work: FrameWork, recording: Recording, helpers: Helpers | None) -> Iterator[FrameResult]:
    """Results of all frames of a recording, one after the other, whoever computes them."""
    n_frames = recording.metadata.n_frames
    if helpers is None:
        yield from work.do(recording, range(n_frames))
        return
    # Every worker gets as many chunks as any other, so that all end together.
    n_rounds = -(-n_frames // (helpers.n_workers * _MOST_FRAMES_PER_CHUNK))
    size = -(-n_frames // (helpers.n_workers * n_rounds))
    chunks = (range(first, min(first + size, n_frames)) for first in range(0, n_frames, size))
    # Twice as many chunks as workers are on their way: nobody waits for work, and memory stays bounded.
    running: deque[Future[list[FrameResult]]] = deque()
    try:
        while True:
            for chunk in islice(chunks, 2 * helpers.n_workers - len(running)):
                running.append(helpers.executor.submit(work.do_chunk, recording.metadata.path, chunk, helpers.on_frame))
            if not running:
                return
            yield from running.popleft().result()
    finally:
        # Nobody may still be at work for a FOV that has ended.
        wait([future for future in running if not future.cancel()])


def _background_warning(channel: int, frames: list[int]) -> str:
    return (
        f"channel {channel}: no pixel away from cells in {len(frames)} frames (the first is {frames[0]}); "
        "the 1st percentile of the frame stands in for its background"
    )
