"""Images in TIFF files: is a page whole, and its pixels, read straight into memory where they are stored plainly."""

import math
import os
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffFile, TiffFileError, TiffPage

from tasks.acquisition.damage import RefusedError
from tasks.acquisition.planes import check_images

_MOST_OPEN = 16
"""Files that are kept open: those of a frame, however many files its channels lie in."""
_LEAST_BYTES_OF_A_PAGE = 100
"""Its eight tags that must be there, their number, and where the next page is."""
_LOSSY = {6, 7}
"""Compressions: JPEG of the old and of the new kind."""
_GRAY = {0, 1}
"""Photometric interpretations of images in grey: minimum is white, and minimum is black."""


class TiffImages:
    """TIFF files, open while they are in use."""

    def __init__(self) -> None:
        self._files: OrderedDict[Path, TiffFile] = OrderedDict()

    def page(self, path: Path, index: int) -> TiffPage | None:
        """Page of a file by its number; None where the file has none of this number.

        Raises
        ------
        RefusedError
            Where it is no TIFF file, or the page cannot be understood.
        OSError
            Where the file cannot be read.
        """
        try:
            page = self._open(path).pages[index]
        except IndexError:
            return None
        except TiffFileError as error:
            raise RefusedError(f"{path.name!r} is no TIFF file, or is damaged: {error}") from error
        return page if isinstance(page, TiffPage) else page.aspage()

    def n_pages(self, path: Path) -> int:
        """Count the pages of a file; ends also where they are chained in a circle."""
        file = self._open(path)
        most = file.filehandle.size // _LEAST_BYTES_OF_A_PAGE
        if self.page(path, most) is not None:
            raise RefusedError(f"{path.name!r} is damaged: its pages are chained in a circle")
        return len(file.pages)

    def what_is_wrong_with(self, path: Path, index: int, like: "ImageShape") -> str | None:
        """Why a file does not hold an image, told without decoding it; None where it does.

        Raises
        ------
        RefusedError
            Where it holds an image of another shape or kind.
        """
        if not path.exists():
            return f"there is no file {path.name!r}"
        page = self.page(path, index)
        if page is None:
            return f"{path.name!r} ends before page {index}, as a truncated file does"
        found = ImageShape.of(page, path)
        if found != like:
            raise RefusedError(f"page {index} of {path.name!r} is {found}, but the recording is {like}")
        return _incomplete(page, path)

    def read(self, path: Path, index: int, out: NDArray[Any]) -> None:
        """Read an image that is whole into `out` (H, W)."""
        page = self.page(path, index)
        if page is None:
            raise RefusedError(f"{path.name!r} became shorter while it was read")
        if page.is_memmappable and _is_native(page) and out.flags.c_contiguous:
            _read_into(out, self._open(path).filehandle.fileno(), page.dataoffsets[0])
        else:
            np.copyto(out, page.asarray().reshape(out.shape), casting="equiv")

    def close(self) -> None:
        """Close all files."""
        while self._files:
            self._files.popitem()[1].close()

    def _open(self, path: Path) -> TiffFile:
        file = self._files.get(path)
        if file is None:
            if len(self._files) == _MOST_OPEN:
                self._files.popitem(last=False)[1].close()
            try:
                file = TiffFile(path)
            except TiffFileError as error:
                raise RefusedError(f"{path.name!r} is no TIFF file, or is damaged: {error}") from error
            self._files[path] = file
        self._files.move_to_end(path)
        return file


class ImageShape(NamedTuple):
    """Size of an image, and kind of its pixels."""

    height: int
    width: int
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, page: TiffPage, path: Path) -> "ImageShape":
        """Look at a page.

        Raises
        ------
        RefusedError
            Where it cannot be processed, e.g. an RGB image.
        """
        if page.samplesperpixel != 1 or page.photometric not in _GRAY:
            raise RefusedError(
                f"{path.name!r} holds images with {page.samplesperpixel} samples in each pixel or a palette, as from a "
                "colour camera; only monochrome channels can be processed"
            )
        if page.compression in _LOSSY:
            raise RefusedError(f"{path.name!r} holds images that are compressed with losses, which is not supported")
        if page.dtype is None or page.ndim != 2:
            raise RefusedError(f"{path.name!r} holds images with {page.bitspersample} bits per pixel and {page.axes}")
        height, width = page.shape
        if page.bitspersample != 8 * page.dtype.itemsize:
            raise RefusedError(f"{path.name!r} holds images with {page.bitspersample} bits per pixel")
        check_images(page.dtype, height, width)
        return cls(height, width, page.dtype.newbyteorder("="))

    def __str__(self) -> str:
        return f"{self.height} x {self.width} {self.dtype.name}"


def _incomplete(page: TiffPage, path: Path) -> str | None:
    """Why the pixels of a page are not all there; None where they are."""
    # Asked anew each time, for a file may be cut short while it is read.
    size = path.stat().st_size
    if not page.dataoffsets or len(page.dataoffsets) != len(page.databytecounts):
        return f"{path.name!r} holds no pixels for it"
    # tifffile would fill up with zeros what has no strip or tile.
    too_few = len(page.dataoffsets) < math.prod(page.chunked)
    if too_few or 0 in page.dataoffsets or 0 in page.databytecounts:
        return f"{path.name!r} holds only a part of it"
    if max(map(sum, zip(page.dataoffsets, page.databytecounts, strict=True))) > size:
        return f"it lies beyond the end of {path.name!r} at {size} bytes"
    if page.compression == 1 and sum(page.databytecounts) < page.nbytes:
        return f"{path.name!r} holds only a part of it"
    return None


def _is_native(page: TiffPage) -> bool:
    return page.dtype is not None and (
        page.dtype.itemsize == 1 or (page.parent.byteorder == "<") == (sys.byteorder == "little")
    )


def _read_into(out: NDArray[Any], descriptor: int, offset: int) -> None:
    target, n_read = out.reshape(-1).view(np.uint8), 0
    while n_read < out.nbytes:
        count = os.preadv(descriptor, [target[n_read:].data], offset + n_read)
        if count == 0:
            raise RefusedError("the file was cut short while it was read")
        n_read += count
