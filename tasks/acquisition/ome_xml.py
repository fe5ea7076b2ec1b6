"""OME-XML: what the images of an OME-TIFF are, where their planes lie, and when they were taken.

Source: the OME data model, https://docs.openmicroscopy.org/ome-model/ .
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple
from xml.etree.ElementTree import Element, ParseError, XMLParser

import numpy as np
from numpy.typing import NDArray

from tasks.acquisition.damage import RefusedError
from tasks.acquisition.units import in_min, in_um

MODALITIES = {
    "phase": "phaseContrast",
    "dic": "diContrast",
    "brightfield": "brightfield",
    "fluorescence": "fluorescence",
}
"""A channel's contrast method, in small letters, and what recordings call it."""
_AXES = {"X", "Y", "Z", "C", "T"}


class Block(NamedTuple):
    """Consecutive pages of a file, and the planes that they hold."""

    file_name: str | None
    """None: the file that the XML is in."""
    uuid: str | None
    first_page: int
    first: dict[str, int]
    """First plane, by the letters Z, C, T."""
    n_planes: int | None
    """None: all that remain."""


@dataclass(frozen=True)
class OmeImage:
    """One image of an OME-XML, which is one FOV."""

    sizes: dict[str, int]
    """By the letters X, Y, Z, C, T."""
    order: str
    """Of Z, C, T, the fastest first."""
    channel_names: tuple[str, ...]
    channel_modalities: tuple[frozenset[str], ...]
    samples_per_pixel: int
    pixel_size_um: float | None
    interval_min: float | None
    stamps_min: dict[tuple[int, int], float]
    """Times of the planes of channel 0, by T and Z."""
    blocks: tuple[Block, ...]

    @property
    def n_images(self) -> int:
        """Images of all its frames, channels and planes."""
        return self.sizes["T"] * self.sizes["C"] * self.sizes["Z"]

    def stamps(self, plane: int) -> NDArray[np.float64]:
        """(T,) times of a plane of the stack in minutes; NaN where there is none."""
        return np.array([self.stamps_min.get((frame, plane), math.nan) for frame in range(self.sizes["T"])])

    def planes_of(self, block: Block) -> Iterator[tuple[tuple[int, int, int], int]]:
        """Planes (T, C, Z) of a block, each with its page.

        Raises
        ------
        RefusedError
            Where there are no such planes.
        """
        counts = [self.sizes[axis] for axis in self.order]
        first = 0
        for axis, count in reversed(list(zip(self.order, counts, strict=True))):
            if not 0 <= block.first[axis] < count:
                raise RefusedError(f"its OME-XML places an image at {axis} = {block.first[axis]} of {count}")
            first = first * count + block.first[axis]
        remaining = math.prod(counts) - first
        n_planes = remaining if block.n_planes is None else block.n_planes
        if not 0 <= n_planes <= remaining:
            raise RefusedError(f"its OME-XML places {n_planes} planes where {remaining} remain")
        for number in range(n_planes):
            at, rest = {}, first + number
            for axis, count in zip(self.order, counts, strict=True):
                rest, at[axis] = divmod(rest, count)
            yield (at["T"], at["C"], at["Z"]), block.first_page + number


@dataclass(frozen=True)
class OmeXml:
    """An OME-XML document."""

    uuid: str | None
    metadata_file: str | None
    """Name of the file that has the metadata, where this one does not."""
    images: tuple[OmeImage, ...] = field(default=())


def parse_ome_xml(text: str | bytes) -> OmeXml:
    """Read an OME-XML document.

    Raises
    ------
    RefusedError
        Where it is no such document, or lacks what is needed; says what.
    """
    root = _parsed(text)
    if _local(root.tag) != "OME":
        raise RefusedError(f"its XML is no OME-XML: it begins with <{_local(root.tag)[:40]}>")
    binary_only = _child(root, "BinaryOnly")
    return OmeXml(
        uuid=root.get("UUID"),
        metadata_file=None if binary_only is None else binary_only.get("MetadataFile"),
        images=tuple(_image(image, number) for number, image in enumerate(_children(root, "Image"))),
    )


def _parsed(text: str | bytes) -> Element:
    data = text.encode() if isinstance(text, str) else text
    head = data[:4096]
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise RefusedError("its OME-XML declares a document type or entities, which no recording needs")
    if isinstance(text, str) and head.lstrip().startswith(b"<?xml"):
        data = data[data.index(b"?>") + 2 :] if b"?>" in data else data  # the encoding is that of `text` no more
    parser = XMLParser()  # noqa: S314 - expat loads nothing from elsewhere, and there are no entities
    try:
        parser.feed(data.lstrip())
        root: Element = parser.close()
    except ParseError as error:
        raise RefusedError(f"its OME-XML is damaged: {error}") from error
    return root


def _image(image: Element, number: int) -> OmeImage:
    pixels = _child(image, "Pixels")
    if pixels is None:
        raise RefusedError(f"image {number} of its OME-XML has no <Pixels>")
    sizes = {axis: _count(pixels, f"Size{axis}", number) for axis in sorted(_AXES)}
    order = (pixels.get("DimensionOrder") or "XYZCT")[2:]
    if sorted(order) != ["C", "T", "Z"]:
        raise RefusedError(f"image {number} of its OME-XML has its planes in the unknown order {order[:20]!r}")
    channels = list(_children(pixels, "Channel"))
    # The samples of an RGB image count as channels in the sizes.
    samples = max((int(channel.get("SamplesPerPixel") or 1) for channel in channels), default=1)
    n_channels = sizes["C"] // samples
    names = [channel.get("Name") for channel in channels] + [None] * (n_channels - len(channels))
    modalities = [_modality(channel) for channel in channels] + [frozenset[str]()] * (n_channels - len(channels))
    return OmeImage(
        sizes=sizes,
        order=order,
        channel_names=tuple(name or f"Channel {index}" for index, name in enumerate(names[:n_channels])),
        channel_modalities=tuple(modalities[:n_channels]),
        samples_per_pixel=samples,
        pixel_size_um=_positive(
            in_um(_number(pixels.get("PhysicalSizeX")), pixels.get("PhysicalSizeXUnit") or "µm"),
        ),
        interval_min=in_min(_number(pixels.get("TimeIncrement")), pixels.get("TimeIncrementUnit") or "s"),
        stamps_min=dict(_stamps(pixels)),
        blocks=tuple(_block(block, number) for block in _children(pixels, "TiffData")),
    )


def _stamps(pixels: Element) -> Iterator[tuple[tuple[int, int], float]]:
    for plane in _children(pixels, "Plane"):
        if plane.get("TheC") == "0":
            time_min = in_min(_number(plane.get("DeltaT")), plane.get("DeltaTUnit") or "s")
            frame, z = _number(plane.get("TheT")), _number(plane.get("TheZ"))
            if time_min is not None and frame is not None and z is not None:
                yield (int(frame), int(z)), time_min


def _block(block: Element, number: int) -> Block:
    uuid = _child(block, "UUID")
    page, n_planes = block.get("IFD"), block.get("PlaneCount")
    try:
        return Block(
            file_name=None if uuid is None else uuid.get("FileName"),
            uuid=None if uuid is None else (uuid.text or "").strip(),
            first_page=int(page or 0),
            first={axis: int(block.get(f"First{axis}") or 0) for axis in "ZCT"},
            n_planes=int(n_planes) if n_planes is not None else None if page is None else 1,
        )
    except ValueError as error:
        raise RefusedError(f"image {number} of its OME-XML has a <TiffData> that is damaged: {error}") from error


def _modality(channel: Element) -> frozenset[str]:
    known = MODALITIES.get((channel.get("ContrastMethod") or "").lower())
    return frozenset() if known is None else frozenset({known})


def _count(pixels: Element, name: str, number: int) -> int:
    text = pixels.get(name) or ""
    if not text.isdecimal() or not int(text):
        raise RefusedError(f"image {number} of its OME-XML has {name} = {text[:20]!r}, which is no count")
    return int(text)


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _positive(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) and value > 0 else None


def _local(tag: str) -> str:
    """Name without its namespace, whose version does not matter here."""
    return tag.rpartition("}")[2]


def _children(parent: Element, name: str) -> Iterator[Element]:
    return (child for child in parent if _local(child.tag) == name)


def _child(parent: Element, name: str) -> Element | None:
    return next(_children(parent, name), None)
