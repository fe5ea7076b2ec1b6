"""The same small recording written in each format that can be read."""

import json
import struct
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
import tifffile
import zarr
from numpy.typing import NDArray
from pylibCZIrw import czi

from tests.recordings import write_recording

Missing = Collection[tuple[int, int]]
"""Pairs of FOV and frame that are left out."""


@dataclass(frozen=True)
class Film:
    """What is to be written."""

    images: NDArray[Any]
    """(P, T, C, Z, H, W)"""
    channel_names: tuple[str, ...]
    times_min: NDArray[np.float64] | None
    """(P, T); None: no time stamps."""
    period_min: float
    pixel_size_um: float
    missing: Missing = ()

    def places(self) -> Iterator[tuple[int, int, int, int]]:
        """FOV, frame, channel and plane of each image that is there."""
        for fov, frame, channel, plane in np.ndindex(*self.images.shape[:4]):
            if (fov, frame) not in self.missing:
                yield fov, frame, channel, plane


def film_of(
    images: NDArray[Any],
    *,
    with_times: bool = True,
    period_min: float = 10.0,
    channel_names: Sequence[str] = ("Phase", "GFP", "mCherry"),
    pixel_size_um: float = 0.65,
    missing: Missing = (),
) -> Film:
    """Make a film of images (P, T, C, H, W) or (P, T, C, Z, H, W), with frames `period_min` apart."""
    if images.ndim == 5:
        images = images[:, :, :, np.newaxis]
    n_fovs, n_frames, n_channels = images.shape[:3]
    times_min = np.tile(period_min * np.arange(n_frames), (n_fovs, 1)) if with_times else None
    return Film(images, tuple(channel_names[:n_channels]), times_min, period_min, pixel_size_um, missing)


def write_nd2(folder: Path, film: Film) -> Path:
    """Write one ND2 file; without stacks."""
    return write_recording(
        folder / "film.nd2",
        film.images[:, :, :, 0],
        channel_names=film.channel_names,
        times_min=film.times_min,
        with_times=film.times_min is not None,
        period_min=film.period_min,
        pixel_size_um=film.pixel_size_um,
        missing=film.missing,
    )


# CZI


def write_czi(folder: Path, film: Film) -> Path:
    """Write one CZI file with a scene for each FOV, and the time of each image in its metadata."""
    path = folder / "film.czi"
    width = film.images.shape[-1]
    with czi.create_czi(str(path)) as file:
        for fov, frame, channel, plane in film.places():
            file.write(
                film.images[fov, frame, channel, plane][..., np.newaxis],
                location=(fov * (width + 100), 7),
                plane={"T": frame, "C": channel, "Z": plane},
                scene=fov,
            )
        scale_m = film.pixel_size_um * 1e-6
        file.write_metadata("film", dict(enumerate(film.channel_names)), scale_x=scale_m, scale_y=scale_m)
    if film.times_min is not None:
        stamp_czi(path, film.times_min)
    return path


def czi_images(path: Path) -> dict[tuple[int, int, int, int], tuple[int, int]]:
    """Of each image of a CZI file, by scene, T, C, Z: where its directory entry begins, and its segment."""
    content = path.read_bytes()
    (directory,) = struct.unpack_from("<q", content, 32 + 52)
    (count,) = struct.unpack_from("<i", content, directory + 32)
    found, offset = {}, directory + 32 + 128
    for _ in range(count):
        (position,) = struct.unpack_from("<q", content, offset + 6)
        (n_dimensions,) = struct.unpack_from("<i", content, offset + 28)
        starts: dict[bytes, int] = {}
        for number in range(n_dimensions):
            name, start = struct.unpack_from("<4si", content, offset + 32 + 20 * number)
            starts[name.rstrip(b"\0")] = start
        found[tuple(starts.get(axis, 0) for axis in (b"S", b"T", b"C", b"Z"))] = (offset, position)
        offset += 32 + 20 * n_dimensions
    return found  # type: ignore[return-value]


def stamp_czi(path: Path, times_min: NDArray[np.float64]) -> None:
    """Write each image of a CZI file anew at its end, with its time (P, T) in its metadata."""
    content = bytearray(path.read_bytes())
    start = datetime(2024, 3, 31, 12, tzinfo=UTC)
    for (fov, frame, _, _), (entry, position) in czi_images(path).items():
        if np.isnan(times_min[fov, frame]):
            continue
        _, _, n_pixel_bytes = struct.unpack_from("<iiq", content, position + 32)
        (n_metadata,) = struct.unpack_from("<i", content, position + 32)
        (n_dimensions,) = struct.unpack_from("<i", content, position + 32 + 16 + 28)
        n_header = max(256, 16 + 32 + 20 * n_dimensions)
        header = content[position + 32 + 16 : position + 32 + n_header]
        pixels = position + 32 + n_header + n_metadata
        taken = (start + timedelta(minutes=float(times_min[fov, frame]))).isoformat(timespec="microseconds")
        text = f"<METADATA><Tags><AcquisitionTime>{taken.replace('+00:00', '0Z')}</AcquisitionTime></Tags></METADATA>"
        metadata = text.encode()
        data = struct.pack("<iiq", len(metadata), 0, n_pixel_bytes) + bytes(header) + metadata
        data += bytes(content[pixels : pixels + n_pixel_bytes])
        struct.pack_into("<q", content, entry + 6, len(content))
        content += struct.pack("<16sqq", b"ZISRAWSUBBLOCK", len(data), len(data)) + data
    path.write_bytes(content)


def attach_czi_times(path: Path, times_s: Sequence[float]) -> None:
    """Attach the times of the time points to a CZI file, as ZEN does."""
    content = bytearray(path.read_bytes())
    stamps = struct.pack("<ii", 8 + 8 * len(times_s), len(times_s)) + np.array(times_s, "<f8").tobytes()
    entry = struct.pack("<2s10sqi16s8s80s", b"A1", b"", len(content), 0, b"", b"CZTIMS", b"TimeStamps")
    data = struct.pack("<i12s", len(stamps), b"") + entry
    data = data.ljust(256, b"\0") + stamps
    content += struct.pack("<16sqq", b"ZISRAWATTACH", len(data), len(data)) + data
    struct.pack_into("<q", content, 32 + 72, len(content))
    directory = struct.pack("<i252s", 1, b"") + entry
    content += struct.pack("<16sqq", b"ZISRAWATTDIR", len(directory), len(directory)) + directory
    path.write_bytes(content)


# OME-TIFF


def ome_xml(film: Film, files: Mapping[tuple[int, int, int, int], tuple[str, int]], root: str = "") -> str:
    """OME-XML of a film; `files` tells the file name and page of each image."""
    n_fovs, n_frames, n_channels, n_planes, height, width = film.images.shape
    size = f'PhysicalSizeX="{film.pixel_size_um}" PhysicalSizeY="{film.pixel_size_um}"'
    images = []
    for fov in range(n_fovs):
        channels = "".join(
            f'<Channel ID="Channel:{fov}:{index}" SamplesPerPixel="1" Name={quoteattr(name)}/>'
            for index, name in enumerate(film.channel_names)
        )
        planes = "".join(
            f'<TiffData IFD="{page}" FirstT="{t}" FirstC="{c}" FirstZ="{z}" PlaneCount="1">'
            f"<UUID FileName={quoteattr(name)}>urn:uuid:{name}</UUID></TiffData>"
            for (p, t, c, z), (name, page) in files.items()
            if p == fov
        )
        if film.times_min is not None:
            planes += "".join(
                f'<Plane TheT="{t}" TheC="{c}" TheZ="{z}" DeltaT="{film.times_min[fov, t] * 60}"/>'
                for t, c, z in np.ndindex(n_frames, n_channels, n_planes)
                if not np.isnan(film.times_min[fov, t])
            )
        period = f' TimeIncrement="{film.period_min}" TimeIncrementUnit="min"' if film.period_min else ""
        images.append(
            f'<Image ID="Image:{fov}"><Pixels ID="Pixels:{fov}" DimensionOrder="XYZCT" Type="{film.images.dtype}" '
            f'SizeX="{width}" SizeY="{height}" SizeZ="{n_planes}" SizeC="{n_channels}" SizeT="{n_frames}" '
            f"{size}{period}>{channels}{planes}</Pixels></Image>"
        )
    namespace = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
    return f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{namespace}" {root}>{"".join(images)}</OME>'


def write_ome_tiff(
    folder: Path,
    film: Film,
    name_of: Callable[[int, int, int, int], str] = lambda *_: "film.ome.tif",
    companion: str | None = None,
    **options: Any,
) -> Path:
    """Write OME-TIFF files, named by the place of each image; the first of them, or the companion file, is named."""
    files: dict[tuple[int, int, int, int], tuple[str, int]] = {}
    pages: dict[str, list[tuple[int, int, int, int]]] = {}
    for place in film.places():
        name = name_of(*place)
        files[place] = (name, len(pages.setdefault(name, [])))
        pages[name].append(place)
    text = ome_xml(film, files)
    if companion is not None:
        (folder / companion).write_text(text, encoding="utf-8")
        text = f'<OME xmlns="x"><BinaryOnly MetadataFile={quoteattr(companion)} UUID="urn:uuid:x"/></OME>'
    for name, places in pages.items():
        with tifffile.TiffWriter(folder / name, bigtiff=True) as writer:
            for number, place in enumerate(places):
                description = text.encode() if number == 0 else None
                writer.write(
                    film.images[place], description=description, metadata=None, photometric="minisblack",
                    contiguous=False, **options,
                )  # fmt: skip
    return folder / (companion or next(iter(pages)))


def write_ome_tiff_set(folder: Path, film: Film) -> Path:
    """Write an OME-TIFF file for each FOV and channel."""
    return write_ome_tiff(folder, film, lambda fov, _, channel, __: f"film_s{fov}_c{channel}.ome.tif")


# TIFF series


def write_tiff_series(folder: Path, film: Film) -> Path:
    """Write a TIFF file for each image, and a description that tells what they do not."""
    for fov, frame, channel, plane in film.places():
        name = f"img_{fov + 1}_{frame:03}_{'xyzuvw'[channel]}_{plane}.tif"
        tifffile.imwrite(folder / name, film.images[fov, frame, channel, plane], photometric="minisblack")
    description: dict[str, Any] = {
        "pattern": "img_{fov}_{time}_{channel}_{z}.tif",
        "channel_names": list(film.channel_names),
        "pixel_size_um": film.pixel_size_um,
    }
    if film.period_min:
        description["interval_min"] = film.period_min
    (folder / "film.series.yaml").write_text(json.dumps(description))
    return folder / "film.series.yaml"


def write_tiff_stacks(folder: Path, film: Film) -> Path:
    """Write a TIFF file for each FOV and channel, in folders of the FOVs, whose pages are the frames."""
    for fov, _, channel, _ in film.places():
        place = folder / f"pos{fov}" / f"{film.channel_names[channel]}.tiff"
        place.parent.mkdir(exist_ok=True)
        tifffile.imwrite(place, film.images[fov, :, channel, 0], photometric="minisblack", metadata=None)
    return folder / "pos{fov}" / "{channel}.tiff"


# OME-Zarr


def write_zarr_image(group: zarr.Group, film: Film, fov: int, version: str, **options: Any) -> None:
    """Write one FOV as an image of an OME-Zarr."""
    array = group.create_array(
        "0", shape=(film.images.shape[1:]), dtype=film.images.dtype, config={"write_empty_chunks": True}, **options
    )
    array[:] = film.images[fov]
    axes = [
        {"name": "t", "type": "time", **({"unit": "minute"} if film.period_min else {})},
        {"name": "c", "type": "channel"},
        *({"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"),
    ]
    scale = [film.period_min or 1.0, 1.0, 1.0, film.pixel_size_um, film.pixel_size_um]
    transformations = [{"type": "scale", "scale": scale}]
    multiscales: list[dict[str, Any]] = [
        {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": transformations}]}
    ]
    omero: dict[str, Any] = {"channels": [{"label": name} for name in film.channel_names]}
    if version == "0.4":
        multiscales[0]["version"] = version
        group.attrs.update({"multiscales": multiscales, "omero": omero})
    else:
        group.attrs["ome"] = {"version": version, "multiscales": multiscales, "omero": omero}


def write_zarr_04(folder: Path, film: Film, **options: Any) -> Path:
    """Write an OME-Zarr of version 0.4 as bioformats2raw does, with time stamps in the OME-XML beside the images."""
    path = folder / "film.zarr"
    root = zarr.create_group(path, zarr_format=2)
    root.attrs["bioformats2raw.layout"] = 3
    ome = root.create_group("OME")
    ome.attrs["series"] = [str(fov) for fov in range(len(film.images))]
    (path / "OME" / "METADATA.ome.xml").write_text(ome_xml(film, {}), encoding="utf-8")
    chunks = options.pop("chunks", (2, 1, 1, *(max(1, length // 2) for length in film.images.shape[-2:])))
    for fov in range(len(film.images)):
        write_zarr_image(
            root.create_group(str(fov)), film, fov, "0.4", chunks=chunks,
            chunk_key_encoding={"name": "v2", "separator": "/"}, **options,
        )  # fmt: skip
        for place in film.missing:
            if place[0] == fov:
                _remove_files(path / str(fov) / "0" / str(place[1] // chunks[0]))
    return path


def write_zarr_05(folder: Path, film: Film) -> Path:
    """Write an OME-Zarr of version 0.5: a plate with a well for each two FOVs, and shards."""
    path = folder / "film.ome.zarr"
    root = zarr.create_group(path, zarr_format=3)
    n_fovs = len(film.images)
    shape = film.images.shape
    wells = [f"A/{number + 1}" for number in range(-(-n_fovs // 2))]
    root.attrs["ome"] = {
        "version": "0.5",
        "plate": {"wells": [{"path": well, "rowIndex": 0, "columnIndex": i} for i, well in enumerate(wells)]},
    }
    for number, well in enumerate(wells):
        group = root.create_group(well)
        fields = range(2 * number, min(2 * number + 2, n_fovs))
        group.attrs["ome"] = {"version": "0.5", "well": {"images": [{"path": str(fov % 2)} for fov in fields]}}
        for fov in fields:
            write_zarr_image(
                group.create_group(str(fov % 2)), film, fov, "0.5",
                chunks=(1, 1, 1, *shape[-2:]), shards=(1, shape[2], shape[3], *shape[-2:]),
            )  # fmt: skip
            for place in film.missing:
                if place[0] == fov:
                    _remove_files(path / well / str(fov % 2) / "0" / "c" / str(place[1]))
    return path


def _remove_files(folder: Path) -> None:
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        path.unlink()


WRITERS: dict[str, Callable[[Path, Film], Path]] = {
    "nd2": write_nd2,
    "czi": write_czi,
    "ome-tiff": write_ome_tiff,
    "ome-tiff-set": write_ome_tiff_set,
    "tiff-series": write_tiff_series,
    "ome-zarr-0.4": write_zarr_04,
    "ome-zarr-0.5": write_zarr_05,
}
"""By the name of a format, what writes a film into a folder and gives the recording's path."""
