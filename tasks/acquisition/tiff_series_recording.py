"""Recordings as series of plain TIFF files, given by a pattern, or by a file that has it.

What TIFF files do not tell can stand in a file `NAME.series.yaml`, which then is the recording::

    pattern: img_{fov}_{time}_{channel}.tif     # below the folder of this file
    interval_min: 10
    pixel_size_um: 0.65
    channel_names: [Phase, GFP]                 # in the order of what {channel} stands for
"""

import re
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from tasks.acquisition.checks import chosen_planes, named
from tasks.acquisition.containment import inside
from tasks.acquisition.damage import RefusedError, errors_as
from tasks.acquisition.names import has_placeholder, is_pattern
from tasks.acquisition.planes import PlanewiseRecording
from tasks.acquisition.protocol import RecordingMetadata, ZPlane
from tasks.acquisition.tiff_pages import ImageShape, TiffImages
from tasks.acquisition.tiff_series import NoFileError, Place, Series, find_series, series_files
from tasks.acquisition.times import complete_times, evenly_spaced
from tasks.configuration import Model
from tasks.errors import InvalidParametersError, RecordingError, RecordingNotFoundError
from tasks.problems import describe
from tasks.yaml_files import ValueLoader, read_yaml

_IMAGEJ_COUNT = re.compile(r"^(images|channels|slices|frames)=(\d+)$", re.MULTILINE)
_AXES = {"channels", "slices", "frames"}


class SeriesDescription(Model):
    """What a person has written down of a TIFF series."""

    pattern: str = Field(min_length=1, max_length=1000)
    interval_min: float | None = Field(None, gt=0, allow_inf_nan=False)
    pixel_size_um: float | None = Field(None, gt=0, allow_inf_nan=False)
    channel_names: list[str] | None = Field(None, min_length=1)


class TiffSeriesRecording(PlanewiseRecording):
    """An open series of TIFF files.

    Parameters
    ----------
    path
        A pattern, see `tasks.acquisition.tiff_series`, or a file `NAME.series.yaml` that has one.
    z_plane
        Plane of a Z stack that is read.

    Raises
    ------
    RecordingNotFoundError
        Where no folder of the pattern is there.
    RecordingError
        Where the files are no series, or hold what cannot be processed.
    InvalidParametersError
        Where the recording has no such plane.
    """

    def __init__(self, path: Path, z_plane: ZPlane = "middle") -> None:
        self._images = TiffImages()
        with ExitStack() as on_failure, errors_as(f"{named(path)} cannot be read"):
            on_failure.callback(self.close)
            told = _Told.of(path)
            self._series = series = _find(path, told.pattern)
            file = series.files[min(series.files)]
            self._shape = self._shape_of(file)
            n_frames = self._images.n_pages(file) if series.frames_are_pages else series.length("time")
            n_fovs, n_planes = series.length("fov"), series.length("z")
            planes = chosen_planes(z_plane, n_planes)
            times = complete_times(
                np.full((n_fovs, n_frames), np.nan), evenly_spaced(n_frames, told.description.interval_min)
            )
            metadata = RecordingMetadata(
                path=path,
                file_type="tiff-series",
                n_fovs=n_fovs,
                n_frames=n_frames,
                n_planes=n_planes,
                channel_names=_channel_names(series, told.description),
                channel_modalities=(frozenset(),) * series.length("channel"),
                height=self._shape.height,
                width=self._shape.width,
                dtype=self._shape.dtype,
                pixel_size_um=told.description.pixel_size_um,
                times_min=times.times_min,
                warnings=times.warnings,
            )
            super().__init__(metadata, planes)
            on_failure.pop_all()

    def close(self) -> None:
        """Close all files."""
        self._images.close()

    def _read_image(self, fov: int, frame: int, channel: int, plane: int, out: NDArray[Any]) -> None:
        time, page = self._time_and_page(frame)
        self._images.read(self._series.files[Place(fov, time, channel, plane)], page, out)

    def _what_is_wrong_with(self, fov: int, frame: int, channel: int, plane: int) -> str | None:
        time, page = self._time_and_page(frame)
        place = Place(fov, time, channel, plane)
        file = self._series.files.get(place)
        if file is None:
            return f"there is no file for {self._told(place)}"
        if page == 0:
            self._check_pages(file, self.metadata.n_frames if self._series.frames_are_pages else 1)
        return self._images.what_is_wrong_with(file, page, self._shape)

    def _time_and_page(self, frame: int) -> tuple[int, int]:
        return (0, frame) if self._series.frames_are_pages else (frame, 0)

    def _told(self, place: Place) -> str:
        """What stands in place of the placeholders in the name of a file that should be there."""
        values = self._series.values
        told = [f"{name} {values[name][index]}" for name, index in place._asdict().items() if values[name]]
        return ", ".join(told)

    def _shape_of(self, file: Path) -> ImageShape:
        page = self._images.page(file, 0)
        if page is None:
            raise RefusedError(f"{file.name!r} holds no images")
        return ImageShape.of(page, file)

    def _check_pages(self, file: Path, most: int) -> None:
        """Make sure that the pages of a file are no more than its frames, and nothing else."""
        n_pages = self._images.n_pages(file)
        if n_pages > most:
            meaning = "without {time} in the pattern, its pages are the frames" if most > 1 else "one was expected"
            raise RefusedError(f"{file.name!r} has {n_pages} pages, not {most}: {meaning}")
        page = self._images.page(file, 0)
        if page is not None and page.is_imagej:
            counts = {name: int(count) for name, count in _IMAGEJ_COUNT.findall(page.description)}
            if counts.get("images", 1) > n_pages or (counts.keys() & {"channels"}) or len(counts.keys() & _AXES) > 1:
                raise RefusedError(
                    f"{file.name!r} is a stack of ImageJ whose pages are not its frames alone; save it anew as OME-TIFF"
                )


def tiff_series_files(path: Path) -> Sequence[Path]:
    """Files that a series consists of; none where it cannot be understood."""
    own = [] if is_pattern(path) else [path]
    with suppress(RecordingError), errors_as(named(path)):
        return [*own, *series_files(_Told.of(path).pattern)]
    return own


@dataclass(frozen=True)
class _Told:
    """A pattern, and what is known beside."""

    pattern: Path
    description: SeriesDescription

    @classmethod
    def of(cls, path: Path) -> "_Told":
        if is_pattern(path):
            return cls(path, SeriesDescription(pattern=path.name))
        description = _read_description(path)
        pattern = PurePosixPath(description.pattern)
        if pattern.is_absolute() or ".." in pattern.parts or "\0" in description.pattern:
            raise RefusedError(f"pattern: {description.pattern!r} leads out of the folder of the file")
        if not is_pattern(pattern):
            raise RefusedError(
                f"pattern: {description.pattern!r} should end with .tif or .tiff and have one of {{fov}}, {{time}}, "
                "{channel} and {z}"
            )
        folder = path.resolve().parent
        n_fixed = next(i for i, name in enumerate(pattern.parts) if has_placeholder(name))
        return cls(
            inside(folder.joinpath(*pattern.parts[:n_fixed]), folder).joinpath(*pattern.parts[n_fixed:]), description
        )


def _read_description(path: Path) -> SeriesDescription:
    try:
        told = read_yaml(path, "description of a series", ValueLoader)
        if not isinstance(told, dict):
            raise RefusedError(f"{path.name} is no description of a series: write it as `pattern: img_{{time}}.tif`")
        return SeriesDescription.model_validate(told)
    except ValidationError as error:
        raise RefusedError(describe(error)) from error
    except InvalidParametersError as error:
        raise RefusedError(str(error)) from error


def _find(path: Path, pattern: Path) -> Series:
    try:
        return find_series(pattern)
    except NoFileError as error:
        if is_pattern(path):
            raise RecordingNotFoundError(f"{named(path)} does not exist: {error}") from error
        raise


def _channel_names(series: Series, description: SeriesDescription) -> tuple[str, ...]:
    values, names = series.values["channel"], description.channel_names
    if names is None:
        return values or ("Channel 0",)
    if len(names) != series.length("channel"):
        raise RefusedError(
            f"channel_names: {len(names)} names for {series.length('channel')} channels ({', '.join(values)})"
        )
    return tuple(names)
