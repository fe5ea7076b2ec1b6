"""Simulate a recording of which everything is known: single cells on a jittered grid that express proteins.

What a microscope would see of them is rendered frame by frame and written as an ND2 file, and the truth is kept
beside it: where each cell is, how it expresses, and the light that the camera should have counted. The phase
channel shows granular cells with a halo; each fluorescence channel an uneven illumination, a glowing medium, and
cells whose total light follows the translation–maturation model of mRNA transfection (Leonhardt et al. 2014).
The camera adds shot noise, read noise and an offset.

With the default sizes, cells stay far enough apart to be told from each other by the segmentation.
"""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from tasks.errors import InvalidParametersError
from tasks.nd2_writer import Channel, Nd2Writer, StagePosition

MATURATION_RATE_PER_H = 1.28
PROTEIN_DECAY_PER_H = 5.22e-3

_FLUORESCENCE = (("GFP", 488.0, 509.0), ("mCherry", 587.0, 610.0), ("Cy5", 650.0, 670.0), ("DAPI", 359.0, 461.0))
"""Name, excitation and emission (nm) of the channels, in the order in which they are used."""

_RADIUS_SPREAD = 0.1
_ELONGATION = 0.1
_GRANULE_PX = 0.7

_CAMERA_OFFSET = 100.0
_READ_NOISE = 4.0
_LARGEST_COUNT = 65_535
_BAND_ROWS = 64

_PHASE_LEVEL = 12_000.0
_TEXTURE_CONTRAST = 900.0
"""Standard deviation inside a cell; locally some six times that of the background's shot noise."""
_CELL_DEPTH = 1_200.0
_HALO_HEIGHT = 1_500.0
_HALO_CENTRE_PX, _HALO_WIDTH_PX = 2.0, 1.5
_HALO_REACH_PX = 7
"""Beyond this distance from its outline, nothing of a cell can be told from noise."""
_PHASE_SHADING = 0.04

_MEDIUM_LEVEL = 180.0
_FLUORESCENCE_SHADING = 0.25

_ISOLATION_GAP_PX = 42.0
"""Two halos, and the diagonal of the 19 x 19 square by which the segmentation closes gaps."""
_SHEET_PX = 256


@dataclass(frozen=True)
class SimulationSettings:
    """What is simulated.

    Raises
    ------
    InvalidParametersError
        Naming the setting that makes no recording.
    """

    n_fovs: int = 1
    n_frames: int = 30
    height: int = 544
    width: int = 544
    n_fluorescence: int = 1
    interval_min: float = 10.0
    """Time between the frames of a FOV."""
    fov_delay_min: float = 1 / 60
    """Time the stage needs from one FOV to the next."""
    pixel_size_um: float = 0.65
    cell_radius_px: float = 20.0
    """Mean radius; below about 12 px the segmentation loses cells."""
    spacing_px: float = 110.0
    """Distance between the sites of neighbouring cells."""
    jitter_px: float = 6.0
    """Farthest that a cell's site is off the grid, in y and in x."""
    drift_px: float = 3.0
    """Farthest that a cell strays from its site during the film."""
    occupancy: float = 0.85
    """Share of the sites that hold a cell."""
    border_margin: int = 50
    """Cells keep clear of this distance to the edge, so that which of them lie inside is never in doubt."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("n_fovs", 1), ("n_frames", 1), ("height", 1), ("width", 1), ("n_fluorescence", 0),
                            ("border_margin", 0), ("seed", 0)):  # fmt: skip
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise InvalidParametersError(f"{name} must be a whole number from {least} up, not {value!r}")
        for name in ("interval_min", "pixel_size_um"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InvalidParametersError(f"{name} must be a finite number above 0, not {value!r}")
        for name in ("cell_radius_px", "spacing_px"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 2):
                raise InvalidParametersError(f"{name} must be a finite number of at least 2, not {value!r}")
        for name, most in (("fov_delay_min", math.inf), ("jitter_px", math.inf), ("drift_px", math.inf),
                           ("occupancy", 1.0)):  # fmt: skip
            value = getattr(self, name)
            if not (math.isfinite(value) and 0 <= value <= most):
                raise InvalidParametersError(f"{name} must be a finite number from 0 to {most:g}, not {value!r}")

    @property
    def channels(self) -> list[Channel]:
        """Phase, then the fluorescence channels."""
        channels = [Channel("Phase", "brightfield")]
        for index in range(self.n_fluorescence):
            name, excitation_nm, emission_nm = _FLUORESCENCE[index % len(_FLUORESCENCE)]
            repeat = index // len(_FLUORESCENCE)
            name = f"{name} {repeat + 1}" if repeat else name
            channels.append(Channel(name, "fluorescence", excitation_nm, emission_nm))
        return channels

    @property
    def times_min(self) -> NDArray[np.float64]:
        """(n_fovs, n_frames) time stamps: the stage visits one FOV after the other."""
        frames = self.interval_min * np.arange(self.n_frames)
        return self.fov_delay_min * np.arange(self.n_fovs)[:, np.newaxis] + frames


@dataclass(frozen=True)
class Kinetics:
    """How a cell expresses one protein: parameters of the translation–maturation model."""

    t0: float
    """Onset of translation, hours."""
    ktl: float
    """Translation rate times the number of mRNA molecules, counts per hour."""
    delta: float
    """Decay rate of mRNA, per hour."""
    offset: float
    """Light of the cell before it expresses anything, counts."""

    def __call__(self, hours: NDArray[np.float64]) -> NDArray[np.float64]:
        """Total light of the cell under full illumination, in counts, at times given in hours."""
        since_onset = np.maximum(hours - self.t0, 0.0)
        # The formula has removable singularities at b = 0 and b = -MATURATION_RATE_PER_H, which the range of
        # the simulated decay rates excludes.
        b = PROTEIN_DECAY_PER_H - self.delta
        matured = (
            MATURATION_RATE_PER_H * np.expm1(b * since_onset) / b + np.expm1(-MATURATION_RATE_PER_H * since_onset)
        ) / (b + MATURATION_RATE_PER_H)
        expressed: NDArray[np.float64] = self.ktl * np.exp(-PROTEIN_DECAY_PER_H * since_onset) * matured
        return expressed + self.offset


@dataclass(frozen=True, eq=False)
class CellTruth:
    """All that is known of one cell."""

    radius_y: float
    radius_x: float
    """Half axes of the cell's ellipse, in pixels."""
    centres: NDArray[np.float64]
    """(n_frames, 2) y and x of the centre, in pixels."""
    kinetics: tuple[Kinetics, ...]
    """One for each fluorescence channel."""
    intensities: NDArray[np.float64]
    """(n_fluorescence, n_frames) expected counts above the background, summed over the cell as illuminated."""
    isolated: bool
    """Whether no other cell ever comes so close that the segmentation could take both for one."""
    near_border: bool
    """Whether the cell ever comes closer to the edge than the border margin."""

    @property
    def countable(self) -> bool:
        """Whether processing should find this cell, once and for the whole film."""
        return self.isolated and not self.near_border


@dataclass(frozen=True)
class FovTruth:
    """The cells of one field of view."""

    cells: tuple[CellTruth, ...]


@dataclass(frozen=True)
class Truth:
    """All that is known of a simulated recording."""

    settings: SimulationSettings
    fovs: tuple[FovTruth, ...]

    def to_json(self, path: Path) -> None:
        """Write the truth to a file."""
        path.write_text(json.dumps(asdict(self), default=np.ndarray.tolist), encoding="utf-8")

    @classmethod
    def from_json(cls, path: Path) -> Self:
        """Read what `to_json` has written."""
        content = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            SimulationSettings(**content["settings"]),
            tuple(FovTruth(tuple(map(_cell_from_json, fov["cells"]))) for fov in content["fovs"]),
        )


def simulate(settings: SimulationSettings, path: Path, on_frame: Callable[[int, int], None] | None = None) -> Truth:
    """Write a simulated recording and return the truth about it.

    The same settings give the same bytes, and a FOV is the same however many others there are.

    Parameters
    ----------
    settings
        What is simulated.
    path
        ND2 file to write.
    on_frame
        Called after each frame with the number of frames written, and of all frames of all FOVs.
    """
    optics = Optics.of(settings)
    scenes = [Scene(settings, fov, optics) for fov in range(settings.n_fovs)]
    n_images = settings.n_frames * settings.n_fovs
    with Nd2Writer(
        path,
        n_frames=settings.n_frames,
        n_fovs=settings.n_fovs,
        channels=settings.channels,
        height=settings.height,
        width=settings.width,
        dtype=np.uint16,
        pixel_size_um=settings.pixel_size_um,
        times_min=settings.times_min,
        period_min=settings.interval_min,
        positions=_stage_positions(settings),
    ) as writer:
        for frame in range(settings.n_frames):
            for fov, scene in enumerate(scenes):
                writer.write_frame(fov, frame, scene.render(frame))
                if on_frame is not None:
                    on_frame(frame * settings.n_fovs + fov + 1, n_images)
    return Truth(settings, tuple(FovTruth(scene.cells) for scene in scenes))


@dataclass(frozen=True, eq=False)
class Optics:
    """What all FOVs share: the light that falls on each pixel, and the texture of cells.

    Images are surrounded by a dark frame of `pad` pixels, so that a cell at the edge is drawn like any other
    and what lies outside does not count.
    """

    pad: int
    half: int
    """A cell is drawn on a square of `2 half + 1` pixels."""
    phase_light: NDArray[np.float32]
    fluorescence_light: NDArray[np.float32]
    """(H + 2 pad, W + 2 pad) share of the full light; 0 in the dark frame."""
    texture: NDArray[np.float32]
    """A sheet of granules, mean 0 and standard deviation 1, of which each cell takes a piece."""

    @classmethod
    def of(cls, settings: SimulationSettings) -> Self:
        """Set up the microscope for a recording."""
        half = math.ceil(settings.cell_radius_px * (1 + _RADIUS_SPREAD) * (1 + _ELONGATION)) + _HALO_REACH_PX
        pad = half + math.ceil(settings.drift_px) + 1
        grain = np.random.default_rng(settings.seed).standard_normal((_SHEET_PX + 2 * half + 1,) * 2)
        granules = ndimage.gaussian_filter(grain, _GRANULE_PX, mode="wrap")
        return cls(
            pad=pad,
            half=half,
            phase_light=_light(settings, pad, (0.5, 0.5), _PHASE_SHADING),
            fluorescence_light=_light(settings, pad, (0.35, 0.6), _FLUORESCENCE_SHADING),
            texture=(granules / granules.std()).astype(np.float32),
        )


class Scene:
    """One field of view: its cells are made at once, its images when they are asked for.

    Parameters
    ----------
    settings
        Of the whole recording.
    fov
        Which field of view, from 0.
    optics
        Of the same settings.
    """

    def __init__(self, settings: SimulationSettings, fov: int, optics: Optics) -> None:
        self._seed, self._fov, self._optics = settings.seed, fov, optics
        self._n_fluorescence = settings.n_fluorescence
        self._hours = settings.times_min[fov] / 60
        rng = self._generator(0)
        self.cells = _make_cells(settings, self._hours, optics, rng)
        self._texture_corners = rng.integers(0, _SHEET_PX, size=(len(self.cells), 2))

    def render(self, frame: int) -> NDArray[np.uint16]:
        """Take a picture of all channels: (C, H, W), phase first."""
        optics = self._optics
        phase = _PHASE_LEVEL * optics.phase_light
        fluorescence = [_MEDIUM_LEVEL * optics.fluorescence_light for _ in range(self._n_fluorescence)]
        for cell, (top, left) in zip(self.cells, self._texture_corners, strict=True):
            window, distance = _outline(cell, frame, optics)
            granules = optics.texture[top:, left:][: distance.shape[0], : distance.shape[1]]
            phase[window] += _phase_pattern(cell, distance, granules) * optics.phase_light[window]
            spot = _spot(distance) * optics.fluorescence_light[window]
            for light, kinetics in zip(fluorescence, cell.kinetics, strict=True):
                light[window] += np.float32(kinetics(self._hours[frame])) * spot
        inside = slice(optics.pad, -optics.pad)
        rng = self._generator(1 + frame)
        return np.stack([_expose(light[inside, inside], rng) for light in (phase, *fluorescence)])

    def _generator(self, purpose: int) -> np.random.Generator:
        """Random numbers of their own for each FOV and picture, whatever else is simulated."""
        # SFC64, because drawing the camera's noise is most of the work, and it is the fastest.
        sequence = np.random.SeedSequence(self._seed, spawn_key=(self._fov, purpose))
        return np.random.Generator(np.random.SFC64(sequence))


def _expose(expected: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.uint16]:
    """Counts of the camera, (H, W), where this light is expected."""
    image = np.empty(expected.shape, np.uint16)
    # In bands of rows, so that all that happens to a pixel happens within the processor's cache.
    for top in range(0, len(image), _BAND_ROWS):
        light = expected[top : top + _BAND_ROWS]
        counts = rng.standard_normal(light.shape, dtype=np.float32)
        # At the hundreds of counts that there are at least, shot noise is as good as normally distributed.
        counts *= np.sqrt(np.maximum(light, 0) + np.float32(_READ_NOISE**2))
        counts += light
        counts += np.float32(_CAMERA_OFFSET)
        np.rint(counts, out=counts)
        image[top : top + _BAND_ROWS] = counts.clip(0, _LARGEST_COUNT, out=counts)
    return image


def _outline(cell: CellTruth, frame: int, optics: Optics) -> tuple[tuple[slice, slice], NDArray[np.float32]]:
    """Where a cell is drawn, and there the distance from its centre in units of its radius."""
    corner = np.floor(cell.centres[frame]).astype(int) - optics.half
    offsets = np.arange(2 * optics.half + 1) + corner[:, np.newaxis] - cell.centres[frame][:, np.newaxis]
    y, x = (offsets / [[cell.radius_y], [cell.radius_x]]).astype(np.float32)
    top, left = corner + optics.pad
    window = slice(top, top + len(y)), slice(left, left + len(x))
    return window, np.sqrt(y[:, np.newaxis] ** 2 + x**2)


def _phase_pattern(
    cell: CellTruth, distance: NDArray[np.float32], granules: NDArray[np.float32]
) -> NDArray[np.float32]:
    """A cell in phase contrast: dark and granular inside, a bright halo around."""
    outside_px = (distance - 1) * np.float32(math.sqrt(cell.radius_y * cell.radius_x))
    inside = np.clip(np.float32(0.5) - outside_px, 0, 1)
    halo = np.exp(np.float32(-0.5) * ((outside_px - _HALO_CENTRE_PX) / _HALO_WIDTH_PX) ** 2)
    pattern: NDArray[np.float32] = inside * (_TEXTURE_CONTRAST * granules - _CELL_DEPTH) + _HALO_HEIGHT * halo
    return pattern


def _spot(distance: NDArray[np.float32]) -> NDArray[np.float32]:
    """A cell in fluorescence: a dome that ends at the outline, of sum 1."""
    dome = np.maximum(1 - distance**2, 0)
    spot: NDArray[np.float32] = dome / dome.sum()
    return spot


def _light(
    settings: SimulationSettings, pad: int, brightest: tuple[float, float], shading: float
) -> NDArray[np.float32]:
    """Light that falls off with the square of the distance from its brightest point (share of H, of W)."""
    y = np.arange(settings.height)[:, np.newaxis] / settings.height - brightest[0]
    x = np.arange(settings.width) / settings.width - brightest[1]
    light = 1 - shading * (y**2 + x**2) / (max(brightest) ** 2 * 2)
    return np.pad(light.astype(np.float32), pad)


def _make_cells(
    settings: SimulationSettings, hours: NDArray[np.float64], optics: Optics, rng: np.random.Generator
) -> tuple[CellTruth, ...]:
    sites, radii = _populate(settings, rng)
    centres = np.round(sites + _wander(settings, len(sites), rng), 4)
    isolated = _isolated(settings, sites, radii)
    edges = np.array([settings.height - 1, settings.width - 1])
    to_edge = (np.minimum(centres, edges - centres) - radii).min(axis=(0, 2))
    cells = []
    for number, (radius_y, radius_x) in enumerate(radii.tolist()):
        area = math.pi * radius_y * radius_x
        cell = CellTruth(
            radius_y=radius_y,
            radius_x=radius_x,
            centres=centres[:, number],
            kinetics=tuple(_draw_kinetics(area, rng) for _ in range(settings.n_fluorescence)),
            intensities=np.empty((0, 0)),
            isolated=bool(isolated[number]),
            near_border=bool(to_edge[number] < settings.border_margin),
        )
        cells.append(replace(cell, intensities=_intensities(cell, hours, optics)))
    return tuple(cells)


def _populate(
    settings: SimulationSettings, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sites (n, 2) and half axes (n, 2) of the cells, y first."""
    lengths = (settings.height, settings.width)
    grid = np.stack(np.meshgrid(*(_grid(length, settings.spacing_px) for length in lengths), indexing="ij"), -1)
    sites = grid.reshape(-1, 2)
    sites = sites + rng.uniform(-settings.jitter_px, settings.jitter_px, sites.shape)
    size = settings.cell_radius_px * rng.uniform(1 - _RADIUS_SPREAD, 1 + _RADIUS_SPREAD, len(sites))
    elongation = rng.uniform(1 - _ELONGATION, 1 + _ELONGATION, len(sites))
    radii = np.stack([size * elongation, size / elongation], axis=-1).round(4).astype(np.float64)
    sites = np.clip(_off_the_margin(sites, radii, settings), 0, np.subtract(lengths, 1))
    occupied = rng.random(len(sites)) < settings.occupancy
    return sites[occupied], radii[occupied]


def _grid(length: int, spacing: float) -> NDArray[np.float64]:
    """Points `spacing` apart, centred in an image of this length; at least one."""
    n_sites = max(round(length / spacing), 1)
    steps = np.arange(n_sites, dtype=np.float64) - (n_sites - 1) / 2
    return (length - 1) / 2 + spacing * steps


def _off_the_margin(
    sites: NDArray[np.float64], radii: NDArray[np.float64], settings: SimulationSettings
) -> NDArray[np.float64]:
    """Move cells that would touch the border margin outwards, until they are clearly within it.

    Whether such a cell counts would depend on a pixel more or less of its mask. Outwards, they do not come
    closer to their neighbours.
    """
    edges = np.array([settings.height - 1, settings.width - 1])
    to_edge = np.minimum(sites, edges - sites) - radii
    nearest = settings.border_margin - settings.drift_px - 1
    farthest = settings.border_margin + settings.drift_px + _HALO_REACH_PX + 1
    in_doubt = (nearest < to_edge) & (to_edge < farthest)
    outwards = np.where(sites < edges / 2, -1, 1)
    return np.where(in_doubt, sites + outwards * (to_edge - nearest), sites)


def _wander(settings: SimulationSettings, n_cells: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(n_frames, n_cells, 2) displacements: slow random walks that never lead farther than `drift_px`."""
    steps = rng.normal(0, settings.drift_px / 8, (settings.n_frames, n_cells, 2))
    walk = np.empty_like(steps)
    position = np.zeros((n_cells, 2))
    for frame, step in enumerate(steps):
        position = position + step
        distance = np.linalg.norm(position, axis=-1, keepdims=True)
        position = position * np.minimum(1, settings.drift_px / np.maximum(distance, 1e-12))
        walk[frame] = position
    return walk


def _isolated(
    settings: SimulationSettings, sites: NDArray[np.float64], radii: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Which cells never come close to another, wherever both wander."""
    isolated = np.ones(len(sites), bool)
    if len(sites) < 2:
        return isolated
    largest = radii.max(axis=-1)
    reach = _ISOLATION_GAP_PX + 2 * settings.drift_px
    pairs = cKDTree(sites).query_pairs(reach + 2 * largest.max(), output_type="ndarray")
    first, second = pairs.T
    gap = np.linalg.norm(sites[first] - sites[second], axis=-1) - largest[first] - largest[second]
    isolated[pairs[gap < reach]] = False
    return isolated


def _draw_kinetics(area: float, rng: np.random.Generator) -> Kinetics:
    """Kinetics of a cell, every parameter within the bounds of the fit; light grows with the cell's area."""
    t0, offset, translation, decay = rng.uniform(0, 1), rng.uniform(0, 3), *rng.standard_normal(2)
    return Kinetics(
        t0=round(t0, 4),
        ktl=round(200 * area * math.exp(0.5 * min(max(translation, -2.5), 2.5)), 2),
        delta=round(0.08 * math.exp(0.3 * min(max(decay, -2.5), 2.5)), 6),
        offset=round(offset * area, 2),
    )


def _intensities(cell: CellTruth, hours: NDArray[np.float64], optics: Optics) -> NDArray[np.float64]:
    """(n_fluorescence, n_frames) expected counts of a cell above the background."""
    lit = np.empty(len(hours))
    for frame in range(len(hours)):
        window, distance = _outline(cell, frame, optics)
        lit[frame] = np.vdot(_spot(distance), optics.fluorescence_light[window])
    emitted = np.array([kinetics(hours) for kinetics in cell.kinetics]).reshape(-1, len(hours))
    return np.round(emitted * lit, 2)


def _stage_positions(settings: SimulationSettings) -> list[StagePosition]:
    """FOVs side by side with gaps between them, in rows of ten."""
    step_um = 1.2 * max(settings.height, settings.width) * settings.pixel_size_um
    return [StagePosition(fov % 10 * step_um, fov // 10 * step_um, f"FOV {fov}") for fov in range(settings.n_fovs)]


def _cell_from_json(content: dict[str, Any]) -> CellTruth:
    kinetics = tuple(Kinetics(**channel) for channel in content.pop("kinetics"))
    centres = np.array(content.pop("centres"), np.float64).reshape(-1, 2)
    intensities = np.array(content.pop("intensities"), np.float64).reshape(len(kinetics), len(centres))
    return CellTruth(centres=centres, kinetics=kinetics, intensities=intensities, **content)
