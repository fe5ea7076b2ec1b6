"""Stacks as OME-Zarr 0.5 images: compressed, a file for each frame, and opened by napari, Fiji and the like.

A stack is a folder `NAME.ome.zarr` with one array `0` of axes t, y, x. A frame is one chunk, compressed by Blosc (LZ4,
bits shuffled), which halves camera images at 2 GB/s and takes label images to a few thousandths. The metadata is what
the zarr library writes; the chunks are written here, so that any process can write its frame, and knows its checksum.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from zlib_ng import zlib_ng

from tasks.output.atomic import sync_tree
from tasks.output.manifest import FileRecord
from tasks.output.os_errors import told
from tasks.output.stack import StackWriter, frame_bytes

_ARRAY = "0"
_LEVEL = 5


@dataclass(frozen=True)
class Scale:
    """Distance of neighbouring frames and pixels."""

    minutes: float
    """Between frames; 1 where it is not known."""
    um: float | None
    """Between pixels; None where it is not known."""


@dataclass(frozen=True)
class ZarrSink:
    """Where the frames of an OME-Zarr image go, see `FrameSink`."""

    path: Path
    shape: tuple[int, int, int]
    """(T, H, W)."""
    dtype: np.dtype[Any]

    def chunk(self, t: int) -> Path:
        """File of a frame."""
        return self.path / _ARRAY / "c" / str(t) / "0" / "0"

    def write(self, t: int, frame: NDArray[Any]) -> FileRecord:
        """Write frame `t` as a file of its own; see `FrameSink.write`."""
        content = frame_bytes(self, t, frame)
        compressed = _codec().encode(content.view(self.dtype))
        path = self.chunk(t)
        with told("write", path, len(compressed)):
            # Not the folders above: a writer that was left over must not bring a discarded directory back.
            path.parent.parent.mkdir(exist_ok=True)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(compressed)
        return FileRecord(len(compressed), zlib_ng.crc32(compressed))


class ZarrStackWriter(StackWriter):
    """Owner of an OME-Zarr image while it is written.

    Parameters
    ----------
    path
        A folder that does not exist yet.
    shape
        (T, H, W).
    dtype
        Type of the pixels.
    scale
        For those who measure in the image.

    Raises
    ------
    OutputError
        Where the folder cannot be created.
    """

    sink: ZarrSink

    def __init__(self, path: Path, shape: tuple[int, int, int], dtype: DTypeLike, scale: Scale) -> None:
        super().__init__(ZarrSink(path, shape, np.dtype(dtype)))
        with told("create", path):
            _create(path, shape, np.dtype(dtype), scale)

    def close(self) -> dict[str, FileRecord]:
        """Wait until all files are on the disk; see `StackWriter.close`."""
        frames = self._complete()
        path = self.sink.path
        with told("write", path):
            sync_tree(path)
            described = {file: _record(file) for file in sorted(path.rglob("zarr.json"))}
        chunks = {self.sink.chunk(t): record for t, record in enumerate(frames)}
        return {file.relative_to(path.parent).as_posix(): record for file, record in {**described, **chunks}.items()}

    def abandon(self) -> None:
        """Nothing is open."""


@cache
def _codec() -> Any:  # noqa: ANN401 - numcodecs has no types
    from numcodecs import Blosc, blosc

    blosc.use_threads = False  # one thread for each task, as everywhere
    return Blosc("lz4", _LEVEL, Blosc.BITSHUFFLE)


def _create(path: Path, shape: tuple[int, int, int], dtype: np.dtype[Any], scale: Scale) -> None:
    """Have the zarr library write all that is not an image."""
    import zarr
    from zarr.codecs import BloscCodec, BloscShuffle, BytesCodec

    path.mkdir()
    group = zarr.create_group(path, attributes={"ome": _ome(path.name, scale)})
    compressor = BloscCodec(
        typesize=dtype.itemsize, cname="lz4", clevel=_LEVEL, shuffle=BloscShuffle.bitshuffle, blocksize=0
    )
    group.create_array(
        _ARRAY,
        shape=shape,
        chunks=(1, *(max(length, 1) for length in shape[1:])),
        dtype=dtype,
        serializer=BytesCodec(endian="little"),
        compressors=[compressor],
        fill_value=0,
        dimension_names=["t", "y", "x"],
    )
    (path / _ARRAY / "c").mkdir(exist_ok=True)


def _ome(name: str, scale: Scale) -> dict[str, Any]:
    """Metadata as OME-NGFF 0.5 has it."""
    um = {"unit": "micrometer"} if scale.um is not None else {}
    factors = [scale.minutes, scale.um or 1.0, scale.um or 1.0]
    return {
        "version": "0.5",
        "multiscales": [
            {
                "name": name.partition(".")[0],
                "axes": [
                    {"name": "t", "type": "time", "unit": "minute"},
                    {"name": "y", "type": "space", **um},
                    {"name": "x", "type": "space", **um},
                ],
                "datasets": [{"path": _ARRAY, "coordinateTransformations": [{"type": "scale", "scale": factors}]}],
            }
        ],
    }


def _record(path: Path) -> FileRecord:
    content = path.read_bytes()
    return FileRecord(len(content), zlib_ng.crc32(content))
