"""Recordings in the OME-Zarr format."""

import itertools
import os
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import ByteRequest
from zarr.codecs import Crc32cCodec, ShardingCodec
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore

from tasks.acquisition.checks import chosen_planes, named
from tasks.acquisition.containment import inside
from tasks.acquisition.damage import RefusedError, errors_as
from tasks.acquisition.ome_zarr_layout import ZarrFov, ZarrLayout, read_layout
from tasks.acquisition.planes import PlanewiseRecording, check_images
from tasks.acquisition.protocol import RecordingMetadata, ZPlane
from tasks.acquisition.times import FrameTimes, complete_times, evenly_spaced

_MOST_BYTES_AHEAD = 512 << 20
"""Memory for images that lie in the chunks of a frame, and are decoded with it."""
_DESCRIPTIONS = {"zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata"}
"""Files that need not be there."""
_NO_CHUNK = 2**64 - 1


class OmeZarrRecording(PlanewiseRecording):
    """An open OME-Zarr; each of its images is a FOV: fields of wells, series of bioformats2raw, or one image alone.

    A chunk that is not there is an error: zarr would give its fill value, and so zeros for images that were lost.
    Chunks that hold several time points are decoded once for all of them.

    Parameters
    ----------
    path
        Folder that exists.
    z_plane
        Plane of a Z stack that is read.

    Raises
    ------
    RecordingError
        Where the folder is no OME-Zarr of a known version, lacks an image, leads out of itself, or holds what cannot
        be processed.
    InvalidParametersError
        Where the recording has no such plane.
    """

    def __init__(self, path: Path, z_plane: ZPlane = "middle") -> None:
        with ExitStack() as on_failure, errors_as(f"{named(path)} cannot be read"):
            on_failure.callback(self.close)
            self._root = path.resolve()
            layout = read_layout(self._root)
            self._fovs = layout.fovs
            first = _check_alike(layout)
            planes = chosen_planes(z_plane, first.length("z"))
            self._opened: _OpenArray | None = None
            times = _times(layout, planes[0])
            names, modalities = _channels(layout)
            metadata = RecordingMetadata(
                path=path,
                file_type="ome-zarr",
                n_fovs=len(layout.fovs),
                n_frames=first.length("t"),
                n_planes=first.length("z"),
                channel_names=names,
                channel_modalities=modalities,
                height=first.length("y"),
                width=first.length("x"),
                dtype=first.array.dtype,
                pixel_size_um=first.pixel_size_um or (layout.xml.images[0].pixel_size_um if layout.xml else None),
                times_min=times.times_min,
                warnings=times.warnings,
            )
            super().__init__(metadata, planes)
            on_failure.pop_all()

    def close(self) -> None:
        """Let go of what was decoded."""
        self._opened = None

    def _read_image(self, fov: int, frame: int, channel: int, plane: int, out: NDArray[Any]) -> None:
        np.copyto(out, self._array(fov).image(frame, channel, plane, self._planes), casting="equiv")

    def _what_is_wrong_with(self, fov: int, frame: int, channel: int, plane: int) -> str | None:
        return self._array(fov).what_is_wrong_with(frame, channel, plane)

    def _array(self, fov: int) -> "_OpenArray":
        if self._opened is None or self._opened.number != fov:
            self._opened = _OpenArray(fov, self._fovs[fov], self._root)
        return self._opened


class _StrictStore(LocalStore):
    """Files of an array; a chunk that has gone away since it was looked at is an error, and not its fill value."""

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        found = await super().get(key, prototype, byte_range)
        if found is None and PurePosixPath(key).name not in _DESCRIPTIONS:
            raise RefusedError(f"the file of its chunk {key!r} has gone away")
        return found


class _OpenArray:
    """The array of a FOV, and those of its images that were decoded last."""

    def __init__(self, number: int, fov: ZarrFov, root: Path) -> None:
        self.number = number
        self._fov = fov
        self._root = root
        array: zarr.Array[Any] = zarr.open_array(_StrictStore(fov.array.folder, read_only=True), mode="r")
        self._array = array
        self._chunks = dict(zip(fov.axes, array.shards or array.chunks, strict=True))
        self._decoded: NDArray[Any] | None = None
        self._first_frame, self._first_plane = 0, 0
        self._looked_at: dict[tuple[int, ...], str | None] = {}

    def image(self, frame: int, channel: int, plane: int, planes: range) -> NDArray[Any]:
        """View (H, W) of an image, decoded with those that share its chunks."""
        if self._decoded is None or not 0 <= frame - self._first_frame < len(self._decoded):
            self._decode(frame, planes)
        decoded = self._decoded
        assert decoded is not None
        image: NDArray[Any] = decoded[frame - self._first_frame, channel, plane - self._first_plane]
        return image

    def what_is_wrong_with(self, frame: int, channel: int, plane: int) -> str | None:
        """Why the chunks of an image are not all there; None where they are."""
        at = {"t": frame, "c": channel, "z": plane}
        ranges = [
            range(at[axis] // self._chunks[axis], at[axis] // self._chunks[axis] + 1)
            if axis in at
            else range(-(-self._fov.length(axis) // self._chunks[axis]))
            for axis in self._fov.axes
        ]
        for chunk in itertools.product(*ranges):
            if chunk not in self._looked_at:
                self._looked_at[chunk] = self._what_is_wrong_with_chunk(chunk)
            if (why := self._looked_at[chunk]) is not None:
                return why
        return None

    def _what_is_wrong_with_chunk(self, chunk: tuple[int, ...]) -> str | None:
        key = self._array.metadata.encode_chunk_key(chunk)
        path = inside(self._fov.array.folder / key, self._root)
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            return (
                f"there is no file for its chunk {key!r}; a chunk that only holds the fill value has to be written, too"
            )
        if size == 0:
            return f"the file of its chunk {key!r} is empty"
        return self._what_is_wrong_with_shard(path, size, chunk)

    def _what_is_wrong_with_shard(self, path: Path, size: int, chunk: tuple[int, ...]) -> str | None:
        """Hold the index of a shard against what it should hold: all chunks that lie in the image."""
        codecs: tuple[object, ...] = getattr(self._array.metadata, "codecs", ())
        codec = codecs[0] if len(codecs) == 1 else None
        if not isinstance(codec, ShardingCodec):
            return None
        inner = self._array.chunks
        counts = [self._chunks[axis] // length for axis, length in zip(self._fov.axes, inner, strict=True)]
        n_bytes = 16 * int(np.prod(counts)) + 4 * sum(isinstance(one, Crc32cCodec) for one in codec.index_codecs)
        with path.open("rb") as file:
            at_the_start = codec.index_location.value == "start"
            data = os.pread(file.fileno(), n_bytes, 0 if at_the_start else max(0, size - n_bytes))
        if len(data) < n_bytes:
            return f"the file {path.name!r} of its chunks is truncated"
        index = np.frombuffer(data, "<u8", count=2 * int(np.prod(counts))).reshape(*counts, 2)
        for place in np.ndindex(*counts):
            start = [
                number * self._chunks[axis] + offset * length
                for number, axis, offset, length in zip(chunk, self._fov.axes, place, inner, strict=True)
            ]
            if any(first >= self._fov.length(axis) for first, axis in zip(start, self._fov.axes, strict=True)):
                continue
            offset, length = index[place].tolist()
            if offset == _NO_CHUNK:
                return f"the file {path.name!r} lacks its chunk {place}, or it was not written for its fill value"
            if offset + length > size:
                return f"the file {path.name!r} of its chunks is truncated"
        return None

    def _decode(self, frame: int, planes: range) -> None:
        """Decode the frames that share their chunks with one, as far as memory allows, with all channels."""
        fov, length = self._fov, self._chunks.get("t", 1)
        n_channels = fov.length("c")
        bytes_of_frame = n_channels * len(planes) * fov.length("y") * fov.length("x") * self._array.dtype.itemsize
        most = max(1, _MOST_BYTES_AHEAD // bytes_of_frame)
        end = min((frame // length + 1) * length, frame + most, fov.length("t"))
        # From this frame on: those before it have been read, as frames are read in order.
        frames = self._usable_frames(range(frame, end), planes)
        wanted = {
            "t": slice(frames.start, frames.stop), "c": slice(None), "z": slice(planes.start, planes.stop)
        }  # fmt: skip
        pixels = np.asarray(self._array[tuple(wanted.get(axis, slice(None)) for axis in fov.axes)])
        pixels = pixels.transpose(sorted(range(pixels.ndim), key=lambda i: "tczyx".index(fov.axes[i])))
        for number, axis in enumerate("tcz"):
            if axis not in fov.axes:
                pixels = np.expand_dims(pixels, number)
        self._decoded, self._first_frame, self._first_plane = pixels, frame, planes.start

    def _usable_frames(self, frames: range, planes: range) -> range:
        """Frames up to the first that is not all there."""
        for frame in frames[1:]:
            if any(self.what_is_wrong_with(frame, c, z) for c in range(self._fov.length("c")) for z in planes):
                return range(frames.start, frame)
        return frames


def _check_alike(layout: ZarrLayout) -> ZarrFov:
    """Make sure that all images can be FOVs of one recording; gives the first."""
    first = layout.fovs[0]
    check_images(first.array.dtype, first.length("y"), first.length("x"))
    for number, fov in enumerate(layout.fovs):
        lengths, expected = _lengths(fov), _lengths(first)
        if lengths != expected:
            raise RefusedError(f"its image {number} differs from the first: {lengths}, not {expected}")
    if 0 in first.array.shape:
        raise RefusedError(f"it holds no images: {_lengths(first)}")
    return first


def _lengths(fov: ZarrFov) -> str:
    return f"{' x '.join(f'{fov.length(axis)} {axis}' for axis in 'tczyx')}, {fov.array.dtype.name}"


def _channels(layout: ZarrLayout) -> tuple[tuple[str, ...], tuple[frozenset[str], ...]]:
    """Names and modalities of the channels: as the OME-Zarr has them, else as the OME-XML beside it."""
    first = layout.fovs[0]
    names = [*first.channel_names, *[None] * first.length("c")][: first.length("c")]
    modalities = [frozenset[str]()] * len(names)
    if layout.xml is not None and len(layout.xml.images[0].channel_names) == len(names):
        image = layout.xml.images[0]
        names = [name or other for name, other in zip(names, image.channel_names, strict=True)]
        modalities = list(image.channel_modalities)
    return tuple(name or f"Channel {index}" for index, name in enumerate(names)), tuple(modalities)


def _times(layout: ZarrLayout, plane: int) -> FrameTimes:
    """Time stamps, which only an OME-XML beside the images can have; else the interval along the axis of time."""
    first = layout.fovs[0]
    n_frames, interval_min = first.length("t"), first.interval_min
    stamps_min = np.full((len(layout.fovs), n_frames), np.nan)
    if layout.xml is not None:
        interval_min = interval_min or layout.xml.images[0].interval_min
        if all(image.sizes["T"] == n_frames for image in layout.xml.images):
            stamps_min = np.array([image.stamps(plane) for image in layout.xml.images])
    return complete_times(stamps_min, evenly_spaced(n_frames, interval_min))
