"""Oracle of a whole field of view: its images to the table of traces and the stacks that are written."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.configuration import Configuration
from tasks.features import column_name
from tests.oracles import background, filters, regions, segmentation, tracking


class FovResult(NamedTuple):
    """What is made of one field of view."""

    traces: pd.DataFrame
    labelled: NDArray[np.uint16]
    """(T, H, W) labels of each frame by itself."""
    tracked: NDArray[np.uint16]
    """(T, H, W) cell numbers."""
    backgrounds: dict[int, NDArray[np.float64]]
    """(T, H, W) for each fluorescence channel."""
    fully_masked: dict[int, list[int]]
    """Frames of each fluorescence channel without any pixel of background."""


def process(
    images: NDArray[Any], configuration: Configuration, fov: int = 0, minutes: NDArray[np.float64] | None = None
) -> FovResult:
    """Analyse the images (T, C, H, W) of a field of view, taken at the given times (T,)."""
    channels, parameters = configuration.channels, configuration.parameters
    n_frames, _, height, width = images.shape
    times = np.arange(n_frames, dtype=np.float64) if minutes is None else minutes

    segmented = [
        segmentation.segment(image, parameters.logstd_arithmetic) for image in images[:, channels.phase.channel]
    ]
    labelled = np.array([regions.label(m, parameters.min_area, parameters.max_area) for m in segmented])
    numbers = tracking.link([regions.boxes(labels) for labels in labelled], parameters.min_iou)
    tracked = np.array([paint(labels, cells) for labels, cells in zip(labelled, numbers, strict=True)])

    left_out = [background.excluded(mask) for mask in segmented]
    backgrounds, fully_masked = {}, {}
    for fluorescence in channels.fluorescence:
        stack = images[:, fluorescence.channel]
        tiles = [background.tile_values(image, out) for image, out in zip(stack, left_out, strict=True)]
        backgrounds[fluorescence.channel] = np.array([background.surface(tile.values, height, width) for tile in tiles])
        fully_masked[fluorescence.channel] = [t for t, tile in enumerate(tiles) if tile.fully_masked]

    rows = []
    for t in range(n_frames):
        for cell, region in zip(numbers[t], regions.masks(labelled[t]), strict=True):
            row: dict[str, Any] = {"fov": fov, "cell": int(cell), "frame": t, "time": times[t], "good": True}
            shape = regions.geometry(region)
            row |= {name: shape[name] for name in ("position_x", "position_y")}
            row |= dict(zip(("bbox_x0", "bbox_y0", "bbox_x1", "bbox_y1"), regions.box(region), strict=True))
            row |= {column_name(name, channels.phase.channel): shape[name] for name in channels.phase.features}
            for fluorescence in sorted(channels.fluorescence, key=lambda f: f.channel):
                number = fluorescence.channel
                light = regions.intensities(
                    region,
                    images[t, number],
                    backgrounds[number][t],
                    parameters.background_weight,
                    parameters.erosion_size,
                )
                row |= {column_name(name, number): light[name] for name in fluorescence.features}
            rows.append(row)
    table = pd.DataFrame(rows, columns=columns(configuration))
    min_frames = min(parameters.min_frames, n_frames)
    kept = filters.kept_cells(table, height, width, min_frames, parameters.border_margin)
    traces = table[table["cell"].isin(kept)].sort_values(["cell", "frame"], ignore_index=True)
    return FovResult(traces, labelled, tracked, backgrounds, fully_masked)


def paint(labels: NDArray[np.uint16], values: NDArray[np.int64]) -> NDArray[np.uint16]:
    """Replace label i by the i-th value."""
    return np.concatenate([[0], values]).astype(np.uint16)[labels]


def columns(configuration: Configuration) -> list[str]:
    """Columns of the table, in order."""
    channels = configuration.channels
    names = ["fov", "cell", "frame", "time", "good", "position_x", "position_y"]
    names += ["bbox_x0", "bbox_y0", "bbox_x1", "bbox_y1"]
    names += [column_name(name, channels.phase.channel) for name in channels.phase.features]
    for fluorescence in sorted(channels.fluorescence, key=lambda f: f.channel):
        names += [column_name(name, fluorescence.channel) for name in fluorescence.features]
    return names
