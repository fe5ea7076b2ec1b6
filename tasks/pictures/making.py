"""The pictures of one FOV: collected frame by frame, drawn when all cells are known."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.acquisition import RecordingMetadata
from tasks.configuration import Channels
from tasks.features import FLUORESCENCE_FEATURES, PHASE_FEATURES
from tasks.output.layout import FovLayout
from tasks.pictures.canvas import ascii_text, jpeg, png
from tasks.pictures.filmstrip import choose_cells, draw_filmstrip
from tasks.pictures.overview import Sheet
from tasks.pictures.plots import Panel, draw_plots
from tasks.pictures.views import FrameViews, PictureFrames
from tasks.regions import LabelledFrame
from tasks.traces import TraceRows


class Pictures:
    """Collects views of frames, and draws the pictures of a FOV."""

    def __init__(self, metadata: RecordingMetadata, channels: Channels, fov: int) -> None:
        self.frames = PictureFrames.of(metadata.n_frames)
        self._channels = channels
        self._names = {channel: ascii_text(metadata.channel_names[channel]) for channel in sorted(channels.numbers)}
        self._times_min = metadata.times_min[fov]
        self._overview: dict[int, tuple[FrameViews, LabelledFrame, NDArray[np.int32]]] = {}
        self._tiles: dict[tuple[int, int], dict[int, NDArray[Any]]] = {}

    def add_frame(self, t: int, views: FrameViews | None, labelled: LabelledFrame, cells: NDArray[np.int32]) -> None:
        """Keep what is shown of a frame, once the number `cells` of each of its regions is known."""
        if views is None:
            return
        if views.greys:
            self._overview[t] = (views, labelled, cells)
        for place, region in enumerate(views.tile_regions.tolist()):
            tiles = {channel: of_channel[place] for channel, of_channel in views.tiles.items()}
            self._tiles[t, int(cells[region])] = tiles

    def files(self, layout: FovLayout, rows: TraceRows, kept: NDArray[np.bool_]) -> Iterator[tuple[str, bytes]]:
        """Draw all pictures: name and content of each file.

        Parameters
        ----------
        rows
            All rows of the film.
        kept
            (n,) which of them are in the table.
        """
        cells = np.unique(rows.cells[kept])
        frames = list(self._overview.values())
        sheet = Sheet.of(
            [(labelled, numbers) for _, labelled, numbers in frames], [self._title(t) for t in self._overview], cells
        )
        for channel, name in self._names.items():
            yield layout.overview(channel), jpeg(sheet.draw([views.greys[channel] for views, _, _ in frames], name))
        if shown := choose_cells(self._tiles, cells):
            times = [self._time(t) for t in self.frames.strip]
            strip = draw_filmstrip(self._tiles, shown, self.frames.strip, times, self._names)
            yield layout.filmstrip, jpeg(strip)
        if panels := self._panels(rows, kept, cells):
            yield layout.plots, png(draw_plots(panels, self._times_min))

    def _panels(self, rows: TraceRows, kept: NDArray[np.bool_], cells: NDArray[np.int32]) -> list[Panel]:
        """A panel for each column of features, in the table's order."""
        place = np.searchsorted(cells, rows.cells[kept]), rows.frames[kept]
        panels = []
        for (name, unit, channel), column in zip(self._features(), rows.features[kept].T, strict=True):
            values = np.full((len(cells), len(self._times_min)), np.nan)
            values[place] = column
            panels.append(Panel(f"{name}, {self._names[channel]}", unit, values))
        return panels

    def _features(self) -> list[tuple[str, str, int]]:
        """Name, unit and channel of each column of features."""
        phase = self._channels.phase
        found = [(name, PHASE_FEATURES[name].unit, phase.channel) for name in phase.features]
        for channel in sorted(self._channels.fluorescence, key=lambda channel: channel.channel):
            found += [(name, FLUORESCENCE_FEATURES[name].unit, channel.channel) for name in channel.features]
        return found

    def _title(self, t: int) -> str:
        return f"frame {t}, {self._time(t)}"

    def _time(self, t: int) -> str:
        minutes = float(self._times_min[t])
        return f"{minutes / 60:.1f} h" if float(np.ptp(self._times_min)) > 180 else f"{minutes:.0f} min"
