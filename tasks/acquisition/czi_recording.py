"""Recordings in Zeiss's CZI format."""

import math
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError, fromstring

import numpy as np
from numpy.typing import NDArray
from pylibCZIrw.czi import CziReader

from tasks.acquisition.checks import chosen_planes, named
from tasks.acquisition.czi_file import PLANE_AXES, CziDirectory, StoredImage, dtype_of
from tasks.acquisition.damage import RefusedError, errors_as
from tasks.acquisition.ome_xml import MODALITIES
from tasks.acquisition.planes import PlanewiseRecording
from tasks.acquisition.protocol import RecordingMetadata, ZPlane
from tasks.acquisition.times import FrameTimes, complete_times, evenly_spaced

_NOT_THERE = -1
_MOST_GAPS = 1000
"""Images that may be missing for each that is there; more are a damaged directory."""
_UM_PER_M = 1e6
_US_PER_MIN = 60e6


class CziRecording(PlanewiseRecording):
    """An open CZI file; each of its scenes is a FOV.

    Parameters
    ----------
    path
        File that exists.
    z_plane
        Plane of a Z stack that is read.

    Raises
    ------
    RecordingError
        Where the file is no complete CZI file, or holds what cannot be processed, e.g. mosaics or RGB images.
    InvalidParametersError
        Where the recording has no such plane.
    """

    def __init__(self, path: Path, z_plane: ZPlane = "middle") -> None:
        with ExitStack() as on_failure, errors_as(f"{named(path)} cannot be read"):
            self._stream = on_failure.enter_context(path.open("rb"))
            self._directory = CziDirectory(self._stream)
            self._stored, self._scenes = _grid(self._directory.images)
            first = self._directory.images[0]
            self._reader = CziReader(str(path))
            on_failure.callback(self._reader.close)
            image = _information(self._reader.raw_metadata)
            n_fovs, n_frames, n_channels, n_planes = self._stored.shape
            self._planes = chosen_planes(z_plane, n_planes)
            times = self._times(image)
            names, modalities = _channels(image, n_channels)
            metadata = RecordingMetadata(
                path=path,
                file_type="czi",
                n_fovs=n_fovs,
                n_frames=n_frames,
                n_planes=n_planes,
                channel_names=names,
                channel_modalities=modalities,
                height=first.height,
                width=first.width,
                dtype=dtype_of(first),
                pixel_size_um=_pixel_size_um(image),
                times_min=times.times_min,
                warnings=times.warnings,
            )
            super().__init__(metadata, self._planes)
            on_failure.pop_all()

    def close(self) -> None:
        """Close the file."""
        self._reader.close()
        self._stream.close()

    def _read_image(self, fov: int, frame: int, channel: int, plane: int, out: NDArray[Any]) -> None:
        image = self._image(fov, frame, channel, plane)
        assert image is not None
        pixels = self._reader.read(
            roi=(image.x, image.y, image.width, image.height),
            plane={axis: image.at.get(axis, 0) for axis in "CTZ"},
            scene=self._scenes[fov],
        )
        np.copyto(out, pixels[..., 0], casting="no")

    def _what_is_wrong_with(self, fov: int, frame: int, channel: int, plane: int) -> str | None:
        image = self._image(fov, frame, channel, plane)
        return "the file does not hold it" if image is None else self._directory.what_is_wrong_with(image)

    def _image(self, fov: int, frame: int, channel: int, plane: int) -> StoredImage | None:
        number = int(self._stored[fov, frame, channel, plane])
        return None if number == _NOT_THERE else self._directory.images[number]

    def _times(self, image: Element) -> FrameTimes:
        """Times of the first channel: those of the images, else those of the time points, else as planned."""
        n_fovs, n_frames = self._stored.shape[:2]
        stamps_min = np.full((n_fovs, n_frames), np.nan)
        for fov, frame in np.ndindex(n_fovs, n_frames):
            stored = self._image(fov, frame, 0, self._planes[0])
            if stored is not None and self._directory.what_is_wrong_with(stored) is None:
                acquired_us = self._directory.acquired_us(stored)
                stamps_min[fov, frame] = np.nan if acquired_us is None else acquired_us
        if np.isfinite(stamps_min).any():
            stamps_min = (stamps_min - np.nanmin(stamps_min)) / _US_PER_MIN
        else:
            of_points = self._directory.time_stamps_s()
            if len(of_points) == n_frames:
                stamps_min[:] = of_points / 60
        interval_s = image.findtext("Metadata/Information/Image/Dimensions/T/Positions/Interval/Increment")
        interval = evenly_spaced(n_frames, None if interval_s is None else float(interval_s) / 60)
        return complete_times(stamps_min, interval)


def _grid(images: Sequence[StoredImage]) -> tuple[NDArray[np.int64], list[int | None]]:
    """(P, T, C, Z) number of each image, -1 where there is none, and the number of each FOV's scene.

    Raises
    ------
    RefusedError
        Where there is more than one image at a place, as in a mosaic, or images differ in size or kind.
    """
    if not images:
        raise RefusedError("it holds no images")
    first = images[0]
    dtype_of(first)
    for image in images:
        if (image.height, image.width, image.pixels) != (first.height, first.width, first.pixels):
            raise RefusedError(
                f"its images differ in size or kind: {image.height} x {image.width} {dtype_of(image).name} beside "
                f"{first.height} x {first.width} {dtype_of(first).name}"
            )
    for axis in sorted({axis for image in images for axis in image.at} - PLANE_AXES - {"M"}):
        if len({image.at.get(axis, 0) for image in images}) > 1:
            raise RefusedError(f"its images are taken along the axis {axis}, which is not supported")
    scenes = sorted({image.at.get("S") for image in images}, key=lambda scene: -1 if scene is None else scene)
    starts = {axis: [image.at.get(axis, 0) for image in images] for axis in "TCZ"}
    shape = (len(scenes), *(max(starts[axis]) - min(starts[axis]) + 1 for axis in "TCZ"))
    if math.prod(shape) > _MOST_GAPS * len(images):
        raise RefusedError(f"it announces {math.prod(shape)} images, but holds {len(images)}")
    origin = {axis: min(starts[axis]) for axis in "TCZ"}
    stored = np.full(shape, _NOT_THERE, np.int64)
    for number, image in enumerate(images):
        place = (scenes.index(image.at.get("S")), *(image.at.get(axis, 0) - origin[axis] for axis in "TCZ"))
        if stored[place] != _NOT_THERE:
            raise RefusedError(
                "it is a mosaic: a scene is put together from several tiles, which is not supported; "
                "save each tile as a scene of its own, or stitch them"
            )
        stored[place] = number
    return stored, scenes


def _information(text: str) -> Element:
    """The metadata of the document."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise RefusedError("its metadata declare a document type or entities, which no recording needs")
    try:
        return fromstring(text)  # noqa: S314 - expat loads nothing from elsewhere, and there are no entities
    except ParseError as error:
        raise RefusedError(f"its metadata are damaged: {error}") from error


def _channels(document: Element, n_channels: int) -> tuple[tuple[str, ...], tuple[frozenset[str], ...]]:
    channels = document.findall("Metadata/Information/Image/Dimensions/Channels/Channel")[:n_channels]
    names = [channel.get("Name") for channel in channels] + [None] * (n_channels - len(channels))
    methods = [(channel.findtext("ContrastMethod") or "").lower() for channel in channels]
    modalities = [frozenset({MODALITIES[method]} if method in MODALITIES else ()) for method in methods]
    modalities += [frozenset[str]()] * (n_channels - len(channels))
    return tuple(name or f"Channel {index}" for index, name in enumerate(names)), tuple(modalities)


def _pixel_size_um(document: Element) -> float | None:
    for distance in document.findall("Metadata/Scaling/Items/Distance"):
        if distance.get("Id") == "X":
            size_um = float(distance.findtext("Value") or 0) * _UM_PER_M
            return round(size_um, 12) if np.isfinite(size_um) and size_um > 0 else None
    return None
