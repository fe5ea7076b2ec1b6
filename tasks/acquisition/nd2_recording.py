"""Recordings in Nikon's ND2 format."""

import math
import os
import struct
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
from nd2 import ND2File
from nd2._readers import ModernReader
from nd2.structures import Attributes, ExpLoop, NETimeLoop, TimeLoop
from numpy.typing import NDArray

from tasks.acquisition.checks import check_fov, check_frame, chosen_planes, named
from tasks.acquisition.damage import RefusedError, errors_as
from tasks.acquisition.protocol import Recording, RecordingMetadata, ZPlane
from tasks.acquisition.times import FrameTimes, complete_times
from tasks.errors import MissingFrameError
from tasks.nd2_format import FILE_SIGNATURE, MAP_SIGNATURE, PAGE
from tasks.scratch import scratch

_CHUNK_HEADER = struct.Struct("<IIQ")  # magic, length of the name area, length of the data
_CHUNK_MAGIC = 0x0ABECEDA
_JPEG2000_START = b"\0\0\0\x0c"
_TRAILER_LENGTH = len(MAP_SIGNATURE) + 8
_FRAME_PREFIX = b"ImageDataSeq|"
_TIMES = b"CustomData|AcqTimesCache!"
_AXES = {"XYPosLoop": "P", "TimeLoop": "T", "NETimeLoop": "T", "ZStackLoop": "Z"}
_DTYPES = (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.float32))
_MOST_SPLIT_CHANNELS = 128  # OpenCV silently gives wrong planes beyond
_MS_PER_MIN = 60_000.0


class Nd2Recording(Recording):
    """An open ND2 file.

    Frames that are not compressed are read straight into memory that is used again for the next one: nd2 maps the file,
    and mapping each page of a frame takes longer than copying it. Besides, touching a map beyond the end of a file that
    was cut short in the meantime kills the process.

    A frame is an error where nd2 would give zeros or whatever stands in its place: not in the file's map of
    chunks, beyond the end of the file, or overwritten.

    Parameters
    ----------
    path
        File that exists.
    z_plane
        Plane of a Z stack that is read.

    Raises
    ------
    RecordingError
        Where the file is no complete ND2 file, or holds what cannot be processed, e.g. RGB images.
    InvalidParametersError
        Where the recording has no such plane.
    """

    def __init__(self, path: Path, z_plane: ZPlane = "middle") -> None:
        self._name = named(path)
        with ExitStack() as on_failure, errors_as(f"{self._name} cannot be read"):
            self._stream = on_failure.enter_context(path.open("rb"))
            _check_container(self._stream)
            self._file = ND2File(self._stream)
            on_failure.callback(self.close)
            self._chunks = _internals(self._file).chunkmap
            attributes, loops = self._file.attributes, self._file.experiment
            _check_images(attributes)
            _check_loops(loops, attributes, self._chunks, file_size=os.fstat(self._stream.fileno()).st_size)
            sequence = _sequence_numbers(loops)
            self._planes = chosen_planes(z_plane, sequence.shape[2])
            self._sequence = sequence[:, :, self._planes]
            self._compressed = attributes.compressionType is not None
            self._image_bytes = _least_bytes(attributes)
            self.metadata = _metadata(path, self._file, sequence.shape, self._sequence[:, :, 0])
            on_failure.pop_all()

    def read_frame(self, fov: int, frame: int, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """All channels of one time point: (C, H, W), C-contiguous, in the recording's dtype; into `out` if given.

        Raises
        ------
        InvalidParametersError
            Where the recording has no such FOV or frame.
        MissingFrameError
            Where the file does not hold the frame.
        RecordingError
            Where the frame cannot be decoded.
        """
        check_frame(self.metadata, fov, frame)
        if out is None:
            metadata = self.metadata
            out = np.empty((metadata.n_channels, metadata.height, metadata.width), metadata.dtype)
        self._read_plane(fov, frame, 0, out)
        for plane in range(1, len(self._planes)):
            projected = self._read_plane(fov, frame, plane, np.empty_like(out))
            np.maximum(out, projected, out=out)
        return out

    def check_frames(self, fov: int) -> None:
        """Make sure that the file holds every frame of a FOV, without reading the pixels.

        Raises
        ------
        InvalidParametersError
            Where the recording has no such FOV.
        MissingFrameError
            Naming the first frame that is not there.
        """
        check_fov(self.metadata, fov)
        for frame in range(self.metadata.n_frames):
            for plane in range(len(self._planes)):
                self._check_plane(fov, frame, plane)

    def close(self) -> None:
        """Close the file."""
        # An exception on its way may still hold a view of the memory map, which then goes with that view.
        with suppress(BufferError):
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _read_plane(self, fov: int, frame: int, plane: int, out: NDArray[Any]) -> NDArray[Any]:
        """Fill `out` (C, H, W) with one plane, counted among the chosen ones."""
        self._check_plane(fov, frame, plane)
        with errors_as(f"{self._where(fov, frame, plane)} cannot be decoded"):
            sequence_number = int(self._sequence[fov, frame, plane])
            if self._compressed:
                channels = self._file.read_frame(sequence_number).reshape(out.shape)  # nd2 drops axes of length 1
            else:
                channels = self._read_pixels(sequence_number)
            _separate(channels, out)
        return out

    def _read_pixels(self, sequence_number: int) -> NDArray[Any]:
        """View (C, H, W) of an image as it is stored: channels interleaved, rows padded."""
        metadata = self.metadata
        stored = scratch("stored", (metadata.height, self._image_bytes // metadata.height), np.uint8)
        offset = self._chunks[_frame_name(sequence_number)][0] + PAGE
        n_read = 0
        while n_read < stored.nbytes:
            count = os.preadv(self._stream.fileno(), [stored.reshape(-1)[n_read:].data], offset + n_read)
            if count == 0:
                raise RefusedError("the file was cut short while it was read")
            n_read += count
        row_bytes = metadata.width * metadata.n_channels * metadata.dtype.itemsize
        pixels = stored[:, :row_bytes].view(metadata.dtype)
        return np.moveaxis(pixels.reshape(metadata.height, metadata.width, metadata.n_channels), -1, 0)

    def _check_plane(self, fov: int, frame: int, plane: int) -> None:
        with errors_as(f"{self._where(fov, frame, plane)} cannot be read"):
            why = self._what_is_wrong_with(int(self._sequence[fov, frame, plane]))
        if why:
            raise MissingFrameError(
                f"{self._where(fov, frame, plane)} is missing: {why}; copy the recording anew, or leave this FOV out"
            )

    def _what_is_wrong_with(self, sequence_number: int) -> str | None:
        """Why the file does not hold an image, or None where it does."""
        name = _frame_name(sequence_number)
        offset = self._chunks.get(name, (None,))[0]
        if offset is None:
            return "the file does not hold it"
        # Asked anew each time: touching a memory map beyond the end of a file kills the process.
        file_size = os.fstat(self._stream.fileno()).st_size
        beyond_the_end = f"it lies beyond the end of the file at {file_size} bytes"
        if offset + PAGE + self._image_bytes > file_size:
            return beyond_the_end
        header = os.pread(self._stream.fileno(), _CHUNK_HEADER.size + len(name), offset)
        magic, name_area, length = _CHUNK_HEADER.unpack_from(header)
        if magic != _CHUNK_MAGIC or header[_CHUNK_HEADER.size :] != name:
            return f"the file holds something else in its place at byte {offset}"
        end = offset + _CHUNK_HEADER.size + name_area + length
        if end > file_size:
            return beyond_the_end
        if end < offset + PAGE + self._image_bytes:
            return "the file holds only a part of it"
        return None

    def _where(self, fov: int, frame: int, plane: int) -> str:
        where = f"{self._name}: FOV {fov}, frame {frame}"
        return where if self.metadata.n_planes == 1 else f"{where}, plane {self._planes[plane]}"


def _frame_name(sequence_number: int) -> bytes:
    """Name of the chunk that holds an image."""
    return _FRAME_PREFIX + b"%d!" % sequence_number


def _internals(file: ND2File) -> ModernReader:
    """Reach into nd2 for what it does not offer publicly.

    That is the map of chunks, which tells whether a frame is there; the time stamps, which publicly come with
    one dictionary per frame; and the calibration, whose absence publicly reads as 1 µm.
    """
    reader = file._rdr
    if not isinstance(reader, ModernReader):
        raise TypeError(f"nd2 took it for a file of its {type(reader).__name__}")
    return reader


def _check_container(stream: BinaryIO) -> None:
    """Tell what is wrong with a file that does not begin and end as an ND2 file does."""
    start = stream.read(PAGE)
    if start.startswith(_JPEG2000_START):
        raise RefusedError(
            "it is an ND2 file of the old kind (JPEG 2000), which is not supported; "
            "save it anew with a present-day NIS-Elements"
        )
    if start[_CHUNK_HEADER.size :][: len(FILE_SIGNATURE)] != FILE_SIGNATURE:
        raise RefusedError("it is not an ND2 file")
    stream.seek(-min(_TRAILER_LENGTH, len(start)), os.SEEK_END)
    if not stream.read().startswith(MAP_SIGNATURE):
        raise RefusedError("the file is truncated or still being written: the map of its frames at its end is missing")


def _check_images(attributes: Attributes) -> None:
    """Tell what is wrong with images that cannot be processed."""
    if attributes.componentCount != attributes.channelCount:
        raise RefusedError(
            f"its images have {attributes.componentCount} colour components in {attributes.channelCount} "
            "channels, as from an RGB camera; only monochrome channels can be processed"
        )
    if not (attributes.heightPx and attributes.widthPx and attributes.widthBytes):
        raise RefusedError(f"its images have {attributes.heightPx} x {attributes.widthPx} pixels")
    if attributes.widthBytes < attributes.widthPx * attributes.componentCount * _dtype(attributes).itemsize:
        raise RefusedError(f"its rows of {attributes.widthPx} pixels have only {attributes.widthBytes} bytes")
    if attributes.compressionType == "lossy":
        raise RefusedError("its images are compressed with losses, which is not supported")
    if _dtype(attributes) not in _DTYPES:
        raise RefusedError(f"its images have {attributes.bitsPerComponentInMemory} bits per pixel and channel")


def _check_loops(
    loops: Sequence[ExpLoop], attributes: Attributes, chunks: Mapping[bytes, object], file_size: int
) -> None:
    """Tell what is wrong with a sequence of images that cannot be laid out by FOV, frame and plane."""
    unknown = [loop.type for loop in loops if loop.type not in _AXES]
    if unknown:
        raise RefusedError(f"its images are taken in a loop of an unknown kind: {', '.join(unknown)}")
    axes = [_AXES[loop.type] for loop in loops]
    if len(set(axes)) < len(axes):
        raise RefusedError(f"its images are taken in nested loops over the same axis: {', '.join(axes)}")
    announced = math.prod(loop.count for loop in loops)
    if not any(name.startswith(_FRAME_PREFIX) for name in chunks):
        raise RefusedError("it holds no images")
    if not loops and attributes.sequenceCount > announced:
        raise RefusedError(f"it holds {attributes.sequenceCount} images and does not tell their order")
    if announced > file_size:
        raise RefusedError(f"it announces {announced} images, more than its {file_size} bytes can hold")


def _sequence_numbers(loops: Sequence[ExpLoop]) -> NDArray[np.int64]:
    """(P, T, Z) number of each image in the order of acquisition, in whichever order the loops were nested."""
    axes = [_AXES[loop.type] for loop in loops]
    absent = [axis for axis in "PTZ" if axis not in axes]
    counts = [loop.count for loop in loops] + [1] * len(absent)
    sequence = np.arange(math.prod(counts), dtype=np.int64).reshape(counts)
    return sequence.transpose([(axes + absent).index(axis) for axis in "PTZ"])


def _dtype(attributes: Attributes) -> np.dtype[Any]:
    kind = "f" if attributes.pixelDataType == "float" else "u"
    return np.dtype(f"{kind}{attributes.bitsPerComponentInMemory // 8}")


def _least_bytes(attributes: Attributes) -> int:
    """Bytes that an image takes in the file, as far as they are known without decoding it."""
    return 0 if attributes.compressionType else attributes.heightPx * (attributes.widthBytes or 0)


def _metadata(path: Path, file: ND2File, shape: tuple[int, ...], sequence: NDArray[np.int64]) -> RecordingMetadata:
    """Gather the metadata; `sequence` (P, T) are the images whose time stamps count."""
    n_fovs, n_frames, n_planes = shape
    attributes, channels = file.attributes, file.metadata.channels or []
    times_min, warnings = _times_min(file, sequence)
    if len(channels) != attributes.componentCount:
        raise RefusedError(f"it describes {len(channels)} of its {attributes.componentCount} channels")
    return RecordingMetadata(
        path=path,
        file_type="nd2",
        n_fovs=n_fovs,
        n_frames=n_frames,
        n_planes=n_planes,
        channel_names=tuple(channel.channel.name for channel in channels),
        channel_modalities=tuple(frozenset(channel.microscope.modalityFlags) for channel in channels),
        height=attributes.heightPx,
        width=attributes.widthPx or 0,
        dtype=_dtype(attributes),
        pixel_size_um=_pixel_size_um(file),
        times_min=times_min,
        warnings=warnings,
    )


def _pixel_size_um(file: ND2File) -> float | None:
    calibration = _internals(file)._cached_raw_metadata()
    size = calibration.get("dCalibration", 0.0)
    return float(size) if calibration.get("bCalibrated") and size > 0 else None


def _times_min(file: ND2File, sequence: NDArray[np.int64]) -> FrameTimes:
    """Times of the images `sequence` (P, T)."""
    stamps_ms = np.full(sequence.max() + 1, np.nan)
    recorded = _recorded_times_ms(file)[: stamps_ms.size]
    stamps_ms[: recorded.size] = np.where(recorded >= 0, recorded, np.nan)
    return complete_times(stamps_ms[sequence] / _MS_PER_MIN, _planned_times_min(file.experiment, sequence.shape[1]))


def _recorded_times_ms(file: ND2File) -> NDArray[np.float64]:
    """Time stamp of each image in the order of acquisition; none where the file holds none."""
    reader = _internals(file)
    stamps = reader._load_chunk(_TIMES) if _TIMES in reader.chunkmap else b""
    return np.frombuffer(stamps, "<f8", count=len(stamps) // 8)


def _planned_times_min(loops: Sequence[ExpLoop], n_frames: int) -> NDArray[np.float64] | None:
    """(T,) times as planned; None where the file does not tell."""
    periods_ms: list[float] = []
    for loop in loops:
        if isinstance(loop, TimeLoop):
            periods_ms = [loop.parameters.periodMs] * loop.count
        elif isinstance(loop, NETimeLoop):
            periods_ms = [phase.periodMs for phase in loop.parameters.periods for _ in range(phase.count)]
    if len(periods_ms) == n_frames and min(periods_ms) > 0:
        return np.cumsum([0.0, *periods_ms[:-1]]) / _MS_PER_MIN
    return None


def _separate(channels: NDArray[Any], out: NDArray[Any]) -> None:
    """Copy (C, H, W) channels, interleaved in memory, into an array that holds one after the other."""
    n_channels, pixel = channels.shape[0], channels.dtype.itemsize
    interleaved = np.moveaxis(channels, 0, -1)
    if 1 < n_channels <= _MOST_SPLIT_CHANNELS and interleaved.strides[1:] == (n_channels * pixel, pixel):
        import cv2  # here, because whoever only looks at metadata should not have to load it

        cv2.split(interleaved, list(out))
    else:
        np.copyto(out, channels)
