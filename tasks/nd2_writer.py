"""Write recordings as ND2 files: multi-position, multi-channel time lapses of any size, frame by frame.

The files are what the microscope's software calls version 3.0, uncompressed. They are the same bytes for the
same content: nothing in them depends on when or where they were written.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from tasks.nd2_format import (
    FRAME_NAME_AREA,
    Variant,
    chunk_header,
    encode_tree,
    file_header,
    file_map,
    padding,
    paged_chunk,
)

Modality = Literal["brightfield", "fluorescence"]

_MS_PER_MIN = 60_000.0
_UNKNOWN = -1.0
_ROW_ALIGNMENT = 4
_MODALITY_MASKS: dict[Modality, int] = {"brightfield": 0x102, "fluorescence": 0x101}  # each with "camera"
_COLOURS: dict[Modality, int] = {"brightfield": 0xFFFFFF, "fluorescence": 0x00FF00}
_TIME_LOOP, _POSITION_LOOP = 1, 2
_UNSIGNED, _FLOAT = 1, 2
_UNCOMPRESSED = 2


@dataclass(frozen=True)
class Channel:
    """One channel of a recording."""

    name: str
    modality: Modality
    excitation_nm: float | None = None
    emission_nm: float | None = None


@dataclass(frozen=True)
class StagePosition:
    """Where a field of view lies on the stage, and what it is called."""

    x_um: float = 0.0
    y_um: float = 0.0
    name: str = ""


class Nd2Writer(AbstractContextManager["Nd2Writer"]):
    """An ND2 file being written: give it every frame, in any order, then close it.

    The file appears under its name when it is closed and complete; until then, and after an error, nothing is
    at that name that was not there before. At no time more than one frame is in memory.

    Parameters
    ----------
    path
        File to write; one that exists is replaced at the end.
    n_frames, n_fovs
        Time points, and fields of view.
    channels
        In the order in which `write_frame` gets their images.
    height, width
        Size of an image in pixels.
    dtype
        `uint8`, `uint16` or `float32`.
    pixel_size_um
        None writes a recording that is not calibrated.
    times_min
        (n_fovs, n_frames) time stamps in minutes; None writes a recording without time stamps.
    period_min
        Time between frames that the recording announces; by default the median step of the time stamps.
    positions
        One for each FOV; without them FOVs have no names and lie side by side.
    allow_missing
        Close without an error when frames have not been written, as happens where an acquisition broke off.

    Raises
    ------
    ValueError
        Naming the argument that makes no recording.
    """

    def __init__(
        self,
        path: Path,
        *,
        n_frames: int,
        n_fovs: int,
        channels: Sequence[Channel],
        height: int,
        width: int,
        dtype: DTypeLike = np.uint16,
        pixel_size_um: float | None = None,
        times_min: ArrayLike | None = None,
        period_min: float | None = None,
        positions: Sequence[StagePosition] | None = None,
        allow_missing: bool = False,
    ) -> None:
        self.path = path
        self.dtype = np.dtype(dtype)
        self.shape = (len(channels), height, width)
        self._n_frames, self._n_fovs = n_frames, n_fovs
        self._channels, self._pixel_size_um = tuple(channels), pixel_size_um
        self._times_ms = None if times_min is None else np.asarray(times_min, np.float64) * _MS_PER_MIN
        self._positions = positions
        self._allow_missing = allow_missing
        self._check()
        self._period_ms = self._median_step_ms() if period_min is None else period_min * _MS_PER_MIN

        row_bytes = width * len(channels) * self.dtype.itemsize
        self._rows = np.zeros((height, row_bytes + -row_bytes % _ROW_ALIGNMENT), np.uint8)
        self._chunks: dict[bytes, tuple[int, int]] = {}
        self._partial = path.with_name(f"{path.name}.partial")
        self._file = self._partial.open("wb")
        self._file.write(file_header())
        self._write_chunk(b"ImageAttributesLV!", encode_tree("SLxImageAttributes", self._attributes()))

    def write_frame(self, fov: int, frame: int, image: NDArray[Any]) -> None:
        """Write all channels of one time point.

        Parameters
        ----------
        fov, frame
            Which one, from 0.
        image
            (C, H, W) in the recording's dtype.

        Raises
        ------
        ValueError
            Where there is no such frame, it has been written before, or the image has another shape or dtype.
        """
        if not (0 <= fov < self._n_fovs and 0 <= frame < self._n_frames):
            raise ValueError(
                f"FOV {fov}, frame {frame} does not exist: {self.path.name} has {self._n_fovs} FOVs "
                f"of {self._n_frames} frames"
            )
        if image.shape != self.shape or image.dtype != self.dtype:
            raise ValueError(
                f"FOV {fov}, frame {frame}: the image is {image.dtype} {image.shape}, "
                f"but {self.path.name} takes {self.dtype} {self.shape}"
            )
        name = self._frame_name(fov, frame)
        if name in self._chunks:
            raise ValueError(f"FOV {fov}, frame {frame} has been written to {self.path.name} before")
        self._interleaved()[...] = np.moveaxis(image, 0, -1)
        time_ms = np.float64(_UNKNOWN if self._times_ms is None else self._times_ms[fov, frame])
        length = time_ms.nbytes + self._rows.nbytes
        self._chunks[name] = (self._file.tell(), length)
        self._file.write(chunk_header(name, length, FRAME_NAME_AREA) + time_ms.astype("<f8").tobytes())
        self._file.write(self._rows.data)
        self._file.write(bytes(padding(self._rows.nbytes)))

    def close(self) -> None:
        """Write metadata, times and the chunk map, and give the file its name.

        Raises
        ------
        ValueError
            Naming the first frame that has not been written, unless `allow_missing` was asked for.
        """
        if self._file.closed:
            return
        try:
            if not self._allow_missing:
                self._check_complete()
            experiment = self._experiment()
            if experiment is not None:
                self._write_chunk(b"ImageMetadataLV!", encode_tree("SLxExperiment", experiment))
            self._write_chunk(b"ImageMetadataSeqLV|0!", encode_tree("SLxPictureMetadata", self._picture()))
            if self._times_ms is not None:
                in_sequence = np.ascontiguousarray(self._times_ms.T, "<f8")
                self._write_chunk(b"CustomData|AcqTimesCache!", in_sequence.tobytes())
            self._file.write(file_map(self._chunks, self._file.tell()))
            self._file.close()
            self._partial.replace(self.path)
        except BaseException:
            self._discard()
            raise

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error_type is None:
            self.close()
        else:
            self._discard()

    def __enter__(self) -> Self:
        return self

    def _check(self) -> None:
        n_channels, height, width = self.shape
        for name, number in (
            ("n_frames", self._n_frames), ("n_fovs", self._n_fovs), ("channels", n_channels),
            ("height", height), ("width", width),
        ):  # fmt: skip
            if number < 1:
                raise ValueError(f"{name} must be at least 1, not {number}")
        if self.dtype not in (np.uint8, np.uint16, np.float32):
            raise ValueError(f"dtype must be uint8, uint16 or float32, not {self.dtype}")
        expected = (self._n_fovs, self._n_frames)
        if self._times_ms is not None and self._times_ms.shape != expected:
            raise ValueError(f"times_min must have the shape (n_fovs, n_frames) = {expected}, "
                             f"not {self._times_ms.shape}")  # fmt: skip
        if self._positions is not None and len(self._positions) != self._n_fovs:
            raise ValueError(f"{len(self._positions)} positions for {self._n_fovs} FOVs")

    def _check_complete(self) -> None:
        for frame in range(self._n_frames):
            for fov in range(self._n_fovs):
                if self._frame_name(fov, frame) not in self._chunks:
                    raise ValueError(
                        f"FOV {fov}, frame {frame} has not been written to {self.path.name}; "
                        "write every frame, or allow missing ones"
                    )

    def _frame_name(self, fov: int, frame: int) -> bytes:
        return b"ImageDataSeq|%d!" % (frame * self._n_fovs + fov)

    def _interleaved(self) -> NDArray[Any]:
        """(H, W, C) view of the padded rows."""
        n_channels, height, width = self.shape
        pixel = n_channels * self.dtype.itemsize
        strides = (self._rows.shape[1], pixel, self.dtype.itemsize)
        return np.ndarray((height, width, n_channels), self.dtype, self._rows.data, strides=strides)

    def _median_step_ms(self) -> float:
        if self._times_ms is None or self._n_frames < 2:
            return 0.0
        return float(np.median(np.diff(self._times_ms, axis=1)))

    def _write_chunk(self, name: bytes, data: bytes) -> None:
        self._chunks[name] = (self._file.tell(), len(data))
        self._file.write(paged_chunk(name, data))

    def _discard(self) -> None:
        try:
            self._file.close()
        finally:
            self._partial.unlink(missing_ok=True)

    def _attributes(self) -> dict[str, Variant]:
        n_channels, height, width = self.shape
        bits = 8 * self.dtype.itemsize
        return {
            "uiWidth": np.uint32(width),
            "uiWidthBytes": np.uint32(self._rows.shape[1]),
            "uiHeight": np.uint32(height),
            "uiComp": np.uint32(n_channels),
            "uiBpcInMemory": bits,
            "uiBpcSignificant": bits,
            "uiSequenceCount": np.uint32(self._n_frames * self._n_fovs),
            "uiTileWidth": np.uint32(width),
            "uiTileHeight": np.uint32(height),
            "eCompression": _UNCOMPRESSED,
            "dCompressionParam": 0.0,
            "ePixelType": _FLOAT if self.dtype.kind == "f" else _UNSIGNED,
            "uiVirtualComponents": np.uint32(n_channels),
        }

    def _experiment(self) -> dict[str, Variant] | None:
        """Loops of the acquisition, positions within time points; a loop of one step is left out."""
        loop = None
        if self._n_fovs > 1 or self._positions is not None:
            loop = _loop(_POSITION_LOOP, self._position_loop(), inner=None)
        if self._n_frames > 1:
            loop = _loop(_TIME_LOOP, self._time_loop(), inner=loop)
        return loop

    def _time_loop(self) -> dict[str, Variant]:
        return {
            "uiCount": np.uint32(self._n_frames),
            "dStart": 0.0,
            "dPeriod": self._period_ms,
            "dDuration": self._period_ms * (self._n_frames - 1),
            "dMinPeriodDiff": 0.0,
            "dMaxPeriodDiff": 0.0,
            "dAvgPeriodDiff": 0.0,
        }

    def _position_loop(self) -> dict[str, Variant]:
        width_um = self.shape[2] * (self._pixel_size_um or 1.0)
        positions = self._positions or [StagePosition(x_um=fov * width_um) for fov in range(self._n_fovs)]
        return {
            "uiCount": np.uint32(self._n_fovs),
            "bUseZ": False,
            "bRelativeXY": False,
            "dReferenceX": 0.0,
            "dReferenceY": 0.0,
            "Points": [
                {"dPosX": at.x_um, "dPosY": at.y_um, "dPosZ": 0.0, "dPFSOffset": 0.0, "dPosName": at.name}
                for at in positions
            ],
        }

    def _picture(self) -> dict[str, Variant]:
        n_channels = np.uint32(len(self._channels))
        return {
            "dTimeAbsolute": 0.0,
            "dTimeMSec": 0.0,
            "dXPos": 0.0,
            "dYPos": 0.0,
            "dZPos": 0.0,
            "sPicturePlanes": {
                "uiCount": n_channels,
                "uiCompCount": n_channels,
                "sPlaneNew": {f"a{index}": _plane(channel) for index, channel in enumerate(self._channels)},
                "uiSampleCount": np.uint32(1),
                "sSampleSetting": {"a0": {"dExposureTime": 0.0, "dRelayLensZoom": 1.0}},
            },
            "dCalibration": self._pixel_size_um or 0.0,
            "dAspect": 1.0,
            "dCalibPrecision": _UNKNOWN,
            "bCalibrated": self._pixel_size_um is not None,
            "wsObjectiveName": "",
            "dObjectiveMag": _UNKNOWN,
            "dObjectiveNA": _UNKNOWN,
            "dRefractIndex1": _UNKNOWN,
            "dRefractIndex2": _UNKNOWN,
            "dZoom": _UNKNOWN,
            "ePictureXAxis": 0,
            "ePictureYAxis": 1,
            "dStgLgCT11": 1.0,
            "dStgLgCT21": 0.0,
            "dStgLgCT12": 0.0,
            "dStgLgCT22": 1.0,
        }


def _loop(kind: int, steps: dict[str, Variant], inner: dict[str, Variant] | None) -> dict[str, Variant]:
    loop: dict[str, Variant] = {
        "eType": np.uint32(kind),
        "uLoopPars": steps,
        "uiRepeatCount": np.uint32(1),
        "uiNextLevelCount": np.uint32(0 if inner is None else 1),
    }
    return loop if inner is None else {**loop, "ppNextLevelEx": [inner]}


def _plane(channel: Channel) -> dict[str, Variant]:
    colour = np.uint32(_COLOURS[channel.modality])
    return {
        "uiCompCount": np.uint32(1),
        "uiSampleIndex": np.uint32(0),
        "uiModalityMask": np.uint64(_MODALITY_MASKS[channel.modality]),
        "pFluorescentProbe": {
            "m_sName": "",
            "m_uiColor": colour,
            "m_ExcitationSpectrum": _spectrum(channel.excitation_nm),
            "m_EmissionSpectrum": _spectrum(channel.emission_nm),
        },
        "pFilterPath": {"m_sDescr": "", "m_uiCount": np.uint32(0), "m_pFilter": []},
        "uiColor": colour,
        "sDescription": channel.name,
        "dAcqTime": 0.0,
        "dPinholeDiameter": _UNKNOWN,
    }


def _spectrum(wavelength_nm: float | None) -> dict[str, Variant]:
    """Make a spectrum of one line, or of none where the wavelength is not known."""
    line: dict[str, Variant] = {"eType": np.uint32(4), "dWavelength": wavelength_nm or 0.0, "dTValue": 1.0}
    points = [] if wavelength_nm is None else [line]
    return {"uiCount": np.uint32(len(points)), "bPoints": False, "pPoint": points}
