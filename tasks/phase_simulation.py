"""Simulate a hard film in phase contrast: flat, ragged cells that touch, overlap, divide and vanish for a moment.

Where `tasks.simulation` makes a recording that any method should master, this one stands in for spread cells such as
glioblastoma: thin lamellae that hardly differ from the background, processes, a thick body with a bright halo, uneven
light, debris, and a stage that does not hold still. The truth is kept beside it: the pixels of every cell, who stems
from whom, and how the stage moved.

A phase-contrast microscope shows how much light is retarded, less what its ring lets pass of the same light: to first
order the phase minus a blurred copy of it, which is what makes the halo and the shade-off inside large cells
(Yin, Kanade and Chen 2012). So a map of phase is drawn, and the image computed from it.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_PSF_PX = 0.7
_EDGE_PX = 2.5
"""Width over which a lamella rises to its thickness."""
_N_WAVES = 5
_RING_SHARE = 0.85
_SHADING = 0.18
_LARGEST = 2.6
"""No outline is farther from the centre than this, in radii."""
_SHEET_PX = 512


@dataclass(frozen=True)
class PhaseFilmSettings:
    """What is simulated; lengths in µm, so that the same cells can be seen at another magnification."""

    n_frames: int = 1
    height: int = 520
    width: int = 696
    pixel_size_um: float = 0.65
    n_cells: int = 8
    radius_um: float = 22.0
    """Typical radius of a spread cell."""
    crowding: float = 1.5
    """Least distance of two centres at the start, in radii; below about 1.8, many cells touch."""
    speed_um: float = 0.8
    """Typical way of a cell from frame to frame."""
    lamella: float = 0.15
    """Phase of the thin parts, in units that the thick body is 0.4 in."""
    ruggedness: float = 1.0
    """How far outlines depart from ellipses; 0 for smooth ones."""
    halo_um: float = 5.0
    """Reach of the halo."""
    noise: float = 0.8
    """Standard deviation of the camera's noise, in counts, of which the background has 110."""
    division_rate: float = 0.0
    """Probability that a cell divides, per frame."""
    gap_rate: float = 0.0
    """Probability that a cell begins to be invisible, per frame."""
    longest_gap: int = 3
    """Most frames that a cell is invisible."""
    jitter_px: int = 0
    """Farthest that the stage moves from one frame to the next, in y and in x."""
    seed: int = 0


@dataclass(frozen=True, eq=False)
class PhaseFilm:
    """A simulated film and the truth about it."""

    images: NDArray[np.uint16]
    """(T, H, W) in counts."""
    labels: NDArray[np.uint16]
    """(T, H, W) number of the cell that each pixel belongs to; the same number for the whole film."""
    parents: dict[int, int]
    """Mother of each cell that came from a division."""
    offsets: NDArray[np.int64]
    """(T, 2) y and x by which the picture of the cells is moved in each frame."""


@dataclass(frozen=True, eq=False)
class _Cell:
    """A cell in one frame; the same numbers make the same shape."""

    number: int
    centre: NDArray[np.float64]
    velocity: NDArray[np.float64]
    radius_px: float
    angle: float
    elongation: float
    waves: NDArray[np.float64]
    """(n, 2) amplitude and phase of the outline's waves."""
    processes: NDArray[np.float64]
    """(n, 3) angle, half width (radians) and length (radii) of the processes."""
    texture: tuple[int, int]
    """Corner of its piece of the sheet of granules."""
    thickness: float
    hidden: int = 0
    """Frames for which it stays invisible."""


def simulate_phase_film(settings: PhaseFilmSettings) -> PhaseFilm:
    """Simulate a film; the same settings give the same film.

    Returns
    -------
    PhaseFilm
        Images and truth.
    """
    rng = np.random.default_rng(settings.seed)
    grain = rng.standard_normal((_SHEET_PX, _SHEET_PX))
    fine, coarse = (ndimage.gaussian_filter(grain, width, mode="wrap") for width in (0.9, 2.2))
    sheet = fine / fine.std() + coarse / coarse.std()
    cells = _populate(settings, rng)
    n_cells = len(cells)
    debris = rng.uniform(0, 1, (12, 3))
    images = np.empty((settings.n_frames, settings.height, settings.width), np.uint16)
    labels = np.zeros(images.shape, np.uint16)
    offsets = np.zeros((settings.n_frames, 2), np.int64)
    parents: dict[int, int] = {}
    for t in range(settings.n_frames):
        if t:
            # From half the jitter on one side to half on the other, it is the whole of it.
            offsets[t] = rng.integers(-(settings.jitter_px // 2), settings.jitter_px // 2 + 1, 2)
            cells, n_cells = _next_frame(cells, n_cells, parents, settings, rng)
        labels[t], phase = _draw(cells, offsets[t], sheet, settings)
        images[t] = _picture(phase, debris, offsets[t], settings, rng)
    return PhaseFilm(images, labels, parents, offsets)


def _populate(settings: PhaseFilmSettings, rng: np.random.Generator) -> list[_Cell]:
    radius = settings.radius_um / settings.pixel_size_um
    field = np.array([settings.height, settings.width])
    centres: list[NDArray[np.float64]] = []
    for _ in range(200 * settings.n_cells):
        place = rng.uniform(0.05, 0.95, 2) * field
        if all(np.linalg.norm(place - other) > settings.crowding * radius for other in centres):
            centres.append(place)
        if len(centres) == settings.n_cells:
            break
    return [_new_cell(number, place, radius, settings, rng) for number, place in enumerate(centres, 1)]


def _new_cell(
    number: int, centre: NDArray[np.float64], radius: float, settings: PhaseFilmSettings, rng: np.random.Generator
) -> _Cell:
    rugged = settings.ruggedness
    n_processes = int(rng.integers(0, 4)) if rugged else 0
    amplitudes = rugged * 0.22 / np.arange(2, 2 + _N_WAVES) * rng.standard_normal(_N_WAVES)
    return _Cell(
        number=number,
        centre=centre,
        velocity=np.zeros(2),
        radius_px=radius * rng.uniform(0.75, 1.2),
        angle=rng.uniform(0, 2 * math.pi),
        elongation=rng.uniform(1.0, 1.25 + 0.35 * min(rugged, 1)),
        waves=np.stack([amplitudes, rng.uniform(0, 2 * math.pi, _N_WAVES)], axis=1),
        processes=np.stack(
            [
                rng.uniform(0, 2 * math.pi, n_processes),
                rng.uniform(0.12, 0.35, n_processes),
                rugged * rng.uniform(0.3, 1.1, n_processes),
            ],
            axis=1,
        ),
        texture=(int(rng.integers(_SHEET_PX)), int(rng.integers(_SHEET_PX))),
        thickness=rng.uniform(0.6, 1.3),
    )


def _next_frame(
    cells: list[_Cell], n_cells: int, parents: dict[int, int], settings: PhaseFilmSettings, rng: np.random.Generator
) -> tuple[list[_Cell], int]:
    """Move all cells; some divide or vanish."""
    moved: list[_Cell] = []
    speed = settings.speed_um / settings.pixel_size_um
    for cell in cells:
        velocity = 0.7 * cell.velocity + rng.normal(0, 0.7 * speed, 2)
        drift = np.stack([np.zeros(_N_WAVES), rng.normal(0, 0.06, _N_WAVES)], axis=1)
        now = replace(
            cell,
            centre=cell.centre + velocity,
            velocity=velocity,
            angle=cell.angle + rng.normal(0, 0.02),
            waves=cell.waves + drift,
            hidden=max(cell.hidden - 1, 0),
        )
        divides, vanishes = rng.random(2) < (settings.division_rate, settings.gap_rate)
        if divides and not now.hidden and now.radius_px > 0.5 * settings.radius_um / settings.pixel_size_um:
            for side in (-1, 1):
                n_cells += 1
                parents[n_cells] = cell.number
                away = side * 0.62 * now.radius_px * np.array([math.sin(now.angle), math.cos(now.angle)])
                daughter = _new_cell(n_cells, now.centre + away, 1.0, replace(settings, ruggedness=0.3), rng)
                moved.append(replace(daughter, radius_px=0.66 * now.radius_px, velocity=0.1 * away))
            continue
        if vanishes and not cell.hidden and not now.hidden:
            now = replace(now, hidden=int(rng.integers(1, settings.longest_gap + 1)))
        moved.append(now)
    return moved, n_cells


def _draw(
    cells: list[_Cell], offset: NDArray[np.int64], sheet: NDArray[np.float64], settings: PhaseFilmSettings
) -> tuple[NDArray[np.uint16], NDArray[np.float64]]:
    """Numbers of the cells (H, W), and the map of phase, with a margin so that cells may be cut by the edge."""
    halo = math.ceil(3 * settings.halo_um / settings.pixel_size_um)
    height, width = settings.height + 2 * halo, settings.width + 2 * halo
    phase, deepest = np.zeros((height, width)), np.zeros((height, width))
    numbers = np.zeros((height, width), np.uint16)
    for cell in cells:
        if cell.hidden:
            continue
        centre = cell.centre + offset + halo
        half = math.ceil(_LARGEST * cell.radius_px)
        top, left = (max(int(c) - half, 0) for c in centre)
        bottom, right = (min(int(c) + half + 1, n) for c, n in zip(centre, (height, width), strict=True))
        if top >= bottom or left >= right:
            continue
        y, x = np.ogrid[top:bottom, left:right]
        own = (y - round(centre[0]) + cell.texture[0]) % _SHEET_PX, (x - round(centre[1]) + cell.texture[1]) % _SHEET_PX
        thickness, depth_px = _thickness(cell, y - centre[0], x - centre[1], sheet[own], settings)
        window = np.s_[top:bottom, left:right]
        phase[window] += thickness
        # Where cells overlap, a pixel belongs to the one that is deeper there.
        above = depth_px > deepest[window]
        numbers[window][above] = cell.number
        deepest[window][above] = depth_px[above]
    return numbers[halo:-halo, halo:-halo], phase


def _thickness(
    cell: _Cell, y: NDArray[Any], x: NDArray[Any], granules: NDArray[np.float64], settings: PhaseFilmSettings
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Phase of a cell in its window, and how far from its outline each pixel lies, positive inside."""
    cosine, sine = math.cos(cell.angle), math.sin(cell.angle)
    along, across = x * cosine + y * sine, y * cosine - x * sine
    along, across = along / math.sqrt(cell.elongation), across * math.sqrt(cell.elongation)
    distance, direction = np.hypot(along, across), np.arctan2(across, along)
    outline = np.zeros_like(distance)
    for k, (amplitude, shift) in enumerate(cell.waves, 2):
        outline += amplitude * np.cos(k * direction + shift)
    outline = np.exp(outline)
    for angle, half_width, length in cell.processes:
        apart = np.angle(np.exp(1j * (direction - angle)))
        outline += length * np.exp(-((apart / half_width) ** 2))
    outline = cell.radius_px * np.minimum(outline, _LARGEST / math.sqrt(cell.elongation))
    depth_px = outline - distance
    inside = depth_px > 0
    lamella = settings.lamella * np.clip(depth_px / _EDGE_PX, 0, 1)
    # Ruffles make the edge thicker than the lamella behind it, here and there.
    ruffle = 0.6 * settings.lamella * np.exp(-(((depth_px - 2.5) / 2.0) ** 2)) * (1 + np.cos(3 * direction)) / 2
    body = 0.4 * cell.thickness * np.exp(-((distance / (0.42 * cell.radius_px)) ** 2))
    nucleus = 0.07 * np.exp(-(((distance - 0.3 * cell.radius_px) / 1.5) ** 2))
    texture = granules * (0.18 * settings.lamella + 0.10 * body)
    return np.where(inside, lamella + ruffle + body + nucleus + texture, 0.0), depth_px


def _picture(
    phase: NDArray[np.float64],
    debris: NDArray[np.float64],
    offset: NDArray[np.int64],
    settings: PhaseFilmSettings,
    rng: np.random.Generator,
) -> NDArray[np.uint16]:
    """What the camera sees of a map of phase."""
    reach = settings.halo_um / settings.pixel_size_um
    margin = (phase.shape[0] - settings.height) // 2
    for y, x, size in debris:
        row, column = (int(p * n) + margin + int(d) for p, n, d in zip((y, x), (settings.height, settings.width), offset, strict=True))  # fmt: skip # noqa: E501
        if 2 <= row < phase.shape[0] - 2 and 2 <= column < phase.shape[1] - 2:
            phase[row - 1 : row + 2, column - 1 : column + 2] += 0.25 * size
    sharp = ndimage.gaussian_filter(phase, _PSF_PX)
    ring = 0.5 * (ndimage.gaussian_filter(phase, reach / 2) + ndimage.gaussian_filter(phase, reach))
    seen = (sharp - _RING_SHARE * ring)[margin:-margin, margin:-margin]
    y, x = np.ogrid[-1 : 1 : settings.height * 1j, -1 : 1 : settings.width * 1j]
    light = 110.0 * (1 - _SHADING * ((y - 0.3) ** 2 + (x + 0.2) ** 2) / 2 + 0.06 * x)
    counts = light * (1 - seen) + rng.normal(0, settings.noise, seen.shape)
    return np.rint(np.clip(counts, 0, 65_535)).astype(np.uint16)
