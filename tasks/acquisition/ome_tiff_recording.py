"""Recordings in the OME-TIFF format, in one file or in many that name each other."""

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffFile, TiffFileError

from tasks.acquisition.checks import chosen_planes, named
from tasks.acquisition.containment import inside
from tasks.acquisition.damage import RefusedError, errors_as
from tasks.acquisition.formats import COMPANION_ENDING
from tasks.acquisition.ome_xml import Block, OmeImage, OmeXml, parse_ome_xml
from tasks.acquisition.planes import PlanewiseRecording
from tasks.acquisition.protocol import RecordingMetadata, ZPlane
from tasks.acquisition.tiff_pages import ImageShape, TiffImages
from tasks.acquisition.times import complete_times, evenly_spaced
from tasks.errors import RecordingError

_MOST_XML_BYTES = 1 << 30
_NOWHERE = -1


class OmeTiffRecording(PlanewiseRecording):
    """An open OME-TIFF; each of its images is a FOV, in the order of the OME-XML.

    All files of a set are looked for when it is opened, in the folder of the one that was named; whichever it was,
    the recording is the same.

    Parameters
    ----------
    path
        File that exists: a TIFF file with OME-XML, or the `.companion.ome` of such files.
    z_plane
        Plane of a Z stack that is read.

    Raises
    ------
    RecordingError
        Where a file is missing, truncated or no OME-TIFF, leads out of the folder, or holds what cannot be processed.
    InvalidParametersError
        Where the recording has no such plane.
    """

    def __init__(self, path: Path, z_plane: ZPlane = "middle") -> None:
        self._images = TiffImages()
        with ExitStack() as on_failure, errors_as(f"{named(path)} cannot be read"):
            on_failure.callback(self.close)
            document = _Document.of(path)
            images = document.xml.images
            first = _check_alike(images)
            self._set = _FileSet.of(document)
            self._set.check_there(images)
            self._pages = self._set.pages(images)
            self._shape = self._check_files(first)
            planes = chosen_planes(z_plane, first.sizes["Z"])
            times = complete_times(
                np.array([image.stamps(planes[0]) for image in images]),
                evenly_spaced(first.sizes["T"], first.interval_min),
            )
            metadata = RecordingMetadata(
                path=path,
                file_type="ome-tiff",
                n_fovs=len(images),
                n_frames=first.sizes["T"],
                n_planes=first.sizes["Z"],
                channel_names=first.channel_names,
                channel_modalities=first.channel_modalities,
                height=first.sizes["Y"],
                width=first.sizes["X"],
                dtype=self._shape.dtype,
                pixel_size_um=first.pixel_size_um,
                times_min=times.times_min,
                warnings=times.warnings,
            )
            super().__init__(metadata, planes)
            on_failure.pop_all()

    def close(self) -> None:
        """Close all files."""
        self._images.close()

    def _read_image(self, fov: int, frame: int, channel: int, plane: int, out: NDArray[Any]) -> None:
        file, page = self._pages[fov, frame, channel, plane].tolist()
        self._images.read(self._set.files[file], page, out)

    def _what_is_wrong_with(self, fov: int, frame: int, channel: int, plane: int) -> str | None:
        file, page = self._pages[fov, frame, channel, plane].tolist()
        if file == _NOWHERE:
            return "no file of the recording holds it"
        return self._images.what_is_wrong_with(self._set.files[file], page, self._shape)

    def _check_files(self, first: OmeImage) -> ImageShape:
        """Look at the first and the last page of the first file, for the last one is what a truncated file lacks."""
        in_first = self._pages[..., 0] == 0
        if not in_first.any():
            raise RefusedError("it holds no images")
        page = self._images.page(self._set.files[0], 0)
        if page is None:
            raise RefusedError("it holds no images")
        shape = ImageShape.of(page, self._set.files[0])
        announced = (first.sizes["Y"], first.sizes["X"])
        if (shape.height, shape.width) != announced:
            raise RefusedError(
                f"its OME-XML announces {announced[0]} x {announced[1]} pixels, but its images are {shape}"
            )
        last = int(self._pages[..., 1][in_first].max())
        if why := self._images.what_is_wrong_with(self._set.files[0], last, shape):
            raise RefusedError(f"it is truncated or still being written: {why}")
        return shape


def ome_tiff_files(path: Path) -> Sequence[Path]:
    """Files that an OME-TIFF consists of, also where some are not there; itself alone where it cannot be understood."""
    with suppress(RecordingError), errors_as(named(path)):
        document = _Document.of(path)
        files = {*_FileSet.of(document).files, document.path}
        return sorted(file for file in files if file.exists())
    return [path]


class _Document(NamedTuple):
    """The OME-XML of a recording, and where it stands."""

    xml: OmeXml
    path: Path

    @classmethod
    def of(cls, path: Path) -> "_Document":
        """Read the OME-XML of a file, or of the one that the file refers to.

        Raises
        ------
        RefusedError
            Where there is none.
        """
        resolved = path.resolve()
        found = cls(parse_ome_xml(_xml_text(resolved)), resolved)
        if found.xml.metadata_file is not None:
            companion = _beside(found.xml.metadata_file, resolved.parent)
            if not companion.is_file():
                raise RefusedError(f"its file {companion.name!r}, which has the metadata, is not beside it")
            found = cls(parse_ome_xml(_xml_text(companion)), companion)
        if not found.xml.images:
            raise RefusedError("its OME-XML describes no images")
        return found


class _FileSet:
    """The files of a recording, and which page of which file is which plane."""

    def __init__(self, document: _Document) -> None:
        self._document = document
        self._numbers: dict[Path, int] = {}
        self._number_of_name: dict[str | None, int] = {}
        self._alone = len({block.file_name for image in document.xml.images for block in image.blocks}) <= 1

    @cached_property
    def files(self) -> list[Path]:
        """All files, by number."""
        return list(self._numbers)

    @classmethod
    def of(cls, document: _Document) -> "_FileSet":
        """Name the files of a recording.

        Raises
        ------
        RefusedError
            Where one leads out of the folder.
        """
        found = cls(document)
        for image in document.xml.images:
            for block in image.blocks:
                found._number(block)
        if not found._numbers:
            raise RefusedError("its OME-XML does not tell where the images are")
        return found

    def check_there(self, images: Sequence[OmeImage]) -> None:
        """Make sure that all files are there, and can hold as many images as are announced.

        Raises
        ------
        RefusedError
            Naming the first file that is not, or is empty.
        """
        missing = [path.name for path in self.files if not path.is_file()]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise RefusedError(f"its file {missing[0]!r}{more} is not beside it; copy all files of the recording")
        sizes = {path.name: path.stat().st_size for path in self.files}
        empty = [name for name, size in sizes.items() if size == 0]
        if empty:
            raise RefusedError(f"its file {empty[0]!r} is empty")
        announced = sum(image.n_images for image in images)
        if announced > sum(sizes.values()):
            raise RefusedError(f"it announces {announced} images, more than its {sum(sizes.values())} bytes can hold")

    def pages(self, images: Sequence[OmeImage]) -> NDArray[np.int64]:
        """(P, T, C, Z, 2) number of file and page of each plane; of file -1 where none holds it."""
        sizes = images[0].sizes
        pages = np.full((len(images), sizes["T"], sizes["C"], sizes["Z"], 2), _NOWHERE, np.int64)
        for fov, image in enumerate(images):
            for block in image.blocks:
                file = self._number(block)
                for (frame, channel, plane), page in image.planes_of(block):
                    if pages[fov, frame, channel, plane, 0] != _NOWHERE:
                        raise RefusedError(
                            f"its OME-XML has two images for FOV {fov}, frame {frame}, channel {channel}, plane {plane}"
                        )
                    pages[fov, frame, channel, plane] = file, page
        return pages

    def _number(self, block: Block) -> int:
        number = self._number_of_name.get(block.file_name)
        if number is None:
            number = self._numbers.setdefault(self._path(block), len(self._numbers))
            self._number_of_name[block.file_name] = number
        return number

    def _path(self, block: Block) -> Path:
        here = self._document.path
        is_companion = here.name.lower().endswith(COMPANION_ENDING)
        if block.file_name is None or (block.uuid and block.uuid == self._document.xml.uuid and not is_companion):
            if is_companion:
                raise RefusedError("its OME-XML does not tell in which file the images are")
            return here
        path = _beside(block.file_name, here.parent)
        # A single file may have been renamed after it was written.
        return here if self._alone and not is_companion and not path.exists() else path


def _beside(name: str, folder: Path) -> Path:
    if "\0" in name or not name.strip():
        raise RefusedError("its OME-XML names a file that cannot be")
    return inside(folder / name, folder)


def _xml_text(path: Path) -> str | bytes:
    if path.name.lower().endswith(COMPANION_ENDING):
        with path.open("rb") as file:
            return file.read(_MOST_XML_BYTES)
    try:
        with TiffFile(path) as tiff:
            description = tiff.pages.first.description
    except IndexError:
        raise RefusedError("it holds no images") from None
    except TiffFileError as error:
        raise RefusedError(f"it is no TIFF file, or is damaged: {error}") from error
    if "<OME" not in description[:4096]:
        raise RefusedError(
            "it is a TIFF file without OME-XML; name the files of a series by a pattern, such as "
            "img_{fov}_{time}_{channel}.tif"
        )
    return description


def _check_alike(images: Sequence[OmeImage]) -> OmeImage:
    """Make sure that all images can be FOVs of one recording; gives the first."""
    first = images[0]
    for number, image in enumerate(images):
        if image.samples_per_pixel != 1:
            raise RefusedError(
                f"its images have {image.samples_per_pixel} samples per pixel, as from a colour camera; "
                "only monochrome channels can be processed"
            )
        if image.sizes != first.sizes or image.channel_names != first.channel_names:
            raise RefusedError(
                f"its image {number} differs from the first in size or channels ({_told(image)}, not {_told(first)}), "
                "so they cannot be FOVs of one recording"
            )
    return first


def _told(image: OmeImage) -> str:
    sizes = " x ".join(f"{image.sizes[axis]} {axis}" for axis in "TCZYX")
    return f"{sizes}: {', '.join(image.channel_names)}"[:200]
