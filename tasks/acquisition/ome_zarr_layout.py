"""Where the FOVs of an OME-Zarr are, and what their images mean: versions 0.4 and 0.5.

Source: the specification of next-generation file formats, https://ngff.openmicroscopy.org/ .
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tasks.acquisition.containment import inside
from tasks.acquisition.damage import RefusedError
from tasks.acquisition.ome_xml import OmeXml, parse_ome_xml
from tasks.acquisition.units import in_min, in_um
from tasks.acquisition.zarr_files import Node, read_node

VERSIONS = ("0.4", "0.5")
_AXES = "tczyx"
_XML_FILE = "METADATA.ome.xml"
_BIOFORMATS2RAW = "bioformats2raw.layout"


@dataclass(frozen=True)
class ZarrFov:
    """The image of one FOV, at its full resolution."""

    array: Node
    axes: str
    """Of the letters t, c, z, y, x."""
    pixel_size_um: float | None
    interval_min: float | None
    channel_names: tuple[str | None, ...]

    def length(self, axis: str) -> int:
        """Length of an axis; 1 where the image has none of this name."""
        return self.array.shape[self.axes.index(axis)] if axis in self.axes else 1


@dataclass(frozen=True)
class ZarrLayout:
    """What an OME-Zarr holds."""

    fovs: tuple[ZarrFov, ...]
    xml: OmeXml | None
    """OME-XML beside the images, one <Image> for each FOV; None where there is none."""


def read_layout(root: Path) -> ZarrLayout:
    """Find the FOVs: fields of the wells of a plate, or series of bioformats2raw, or one image alone.

    Parameters
    ----------
    root
        Folder of the recording, its links followed.

    Raises
    ------
    RefusedError
        Where it is no OME-Zarr of a known version, or lacks a group or an array.
    """
    top = read_node(root, root)
    if isinstance(top.ome.get("plate"), dict):
        return ZarrLayout(tuple(_fov(read_node(path, root), root) for path in _fields(top, root)), None)
    if _BIOFORMATS2RAW in top.ome or _BIOFORMATS2RAW in top.attributes:
        paths, xml = _series(root)
        fovs = tuple(_fov(read_node(path, root), root) for path in paths)
        return ZarrLayout(fovs, xml if xml is not None and len(xml.images) == len(fovs) else None)
    if "multiscales" in top.ome:
        return ZarrLayout((_fov(top, root),), None)
    raise RefusedError(
        f"it is a Zarr hierarchy but no OME-Zarr image: its attributes have no multiscales, plate or {_BIOFORMATS2RAW}"
    )


def _fields(top: Node, root: Path) -> list[Path]:
    """Images of a plate: well by well in the order of the plate, field by field."""
    found = []
    for well in _dicts(top.ome["plate"].get("wells"), "plate.wells"):
        folder = _below(root, well.get("path"))
        node = read_node(folder, root)
        described = node.ome.get("well")
        if not isinstance(described, dict):
            raise RefusedError(f"its group {folder.name!r} should be a well, but its attributes have no well")
        found += [_below(folder, image.get("path")) for image in _dicts(described.get("images"), "well.images")]
    if not found:
        raise RefusedError("its plate has no images")
    return found


def _series(root: Path) -> tuple[list[Path], OmeXml | None]:
    """Images of bioformats2raw, and the OME-XML beside them."""
    folder = inside(root / "OME", root)
    xml = None
    if (folder / _XML_FILE).is_file():
        xml = parse_ome_xml(inside(folder / _XML_FILE, root).read_bytes())
    series: object = None
    if folder.is_dir():
        series = read_node(folder, root).ome.get("series")
    if series is None:
        numbered = sorted(int(path.name) for path in root.iterdir() if path.name.isdecimal())
        series = [str(number) for number in numbered]
        if numbered != list(range(len(numbered))):
            raise RefusedError(f"its images are numbered {', '.join(series)[:80]}, and some are missing")
    if not isinstance(series, list) or not series:
        raise RefusedError("it lists no images")
    return [_below(root, path) for path in series], xml


def _fov(group: Node, root: Path) -> ZarrFov:
    multiscales = _dicts(group.ome.get("multiscales"), "multiscales")
    if not multiscales:
        raise RefusedError(f"its group {group.folder.name!r} is no image: its attributes have no multiscales")
    image = multiscales[0]
    version = group.ome.get("version") or image.get("version")
    if version not in VERSIONS:
        raise RefusedError(f"it is an OME-Zarr of version {version!r}; only {' and '.join(VERSIONS)} can be read")
    axes = _dicts(image.get("axes"), "multiscales.axes")
    names = "".join(str(axis.get("name")) for axis in axes)
    if len(names) != len(axes) or len(set(names)) < len(names) or not set(names) <= set(_AXES) or names[-2:] != "yx":
        raise RefusedError(
            f"its images have the axes {names[:40]!r}; some of {_AXES!r} were expected, y and x the last"
        )
    datasets = _dicts(image.get("datasets"), "multiscales.datasets")
    if not datasets:
        raise RefusedError(f"its group {group.folder.name!r} names no array")
    array = read_node(_below(group.folder, datasets[0].get("path")), root)
    if array.array is None:
        raise RefusedError(f"its group {array.folder.name!r} should be an array")
    if len(array.shape) != len(names):
        raise RefusedError(f"its array {array.folder.name!r} has {len(array.shape)} axes and not those of {names!r}")
    scales = _scales([datasets[0], image], len(names))
    units = {str(axis["name"]): axis.get("unit") for axis in axes}
    return ZarrFov(
        array=array,
        axes=names,
        pixel_size_um=in_um(scales[-1], units["x"]),
        interval_min=in_min(scales[names.index("t")], units["t"]) if "t" in names else None,
        channel_names=_channel_names(group),
    )


def _scales(holders: Sequence[Mapping[str, Any]], n_axes: int) -> list[float]:
    """Product of the scales that hold for an array, along each axis."""
    scales = [1.0] * n_axes
    for holder in holders:
        for transformation in _dicts(holder.get("coordinateTransformations", []), "coordinateTransformations"):
            factors = transformation.get("scale")
            if transformation.get("type") != "scale":
                continue
            if not isinstance(factors, list) or len(factors) != n_axes or not all(map(_is_positive, factors)):
                raise RefusedError(f"its coordinateTransformations have no scale for each of the {n_axes} axes")
            scales = [scale * factor for scale, factor in zip(scales, factors, strict=True)]
    return scales


def _channel_names(group: Node) -> tuple[str | None, ...]:
    omero = group.ome.get("omero") or group.attributes.get("omero")
    channels = omero.get("channels") if isinstance(omero, dict) else None
    if not isinstance(channels, list):
        return ()
    labels = [channel.get("label") if isinstance(channel, dict) else None for channel in channels]
    return tuple(label if isinstance(label, str) and label else None for label in labels)


def _dicts(value: object, what: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise RefusedError(f"its attributes have no list of {what}")
    return value


def _below(folder: Path, path: object) -> Path:
    parts = PurePosixPath(path).parts if isinstance(path, str) and "\0" not in path else ()
    if not parts or ".." in parts or parts[0] == "/":
        raise RefusedError(f"it names the group {path!r}, which is no path below it")
    return folder.joinpath(*parts)


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0
