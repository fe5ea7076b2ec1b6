"""How well and how fast each method follows cells: `python -m benchmarks.tracking_quality`.

The true regions of simulated films are followed: the share of cells seen again that kept their number, the daughters
whose mother is right of all there are, and how many daughters are claimed. Films of 25 frames of 520 x 696 pixels.
"""

from collections.abc import Callable
from time import perf_counter

from tasks.linking import IouLinker, Linker
from tasks.methods import OverlapParameters
from tasks.overlap_tracking import OverlapLinker
from tasks.phase_simulation import PhaseFilmSettings, simulate_phase_film
from tests.following import follow

KINDS = {
    "still": PhaseFilmSettings(n_frames=25, n_cells=12),
    "gaps": PhaseFilmSettings(n_frames=25, n_cells=12, gap_rate=0.05),
    "divisions": PhaseFilmSettings(n_frames=25, n_cells=8, division_rate=0.02),
    "jitter 25 px": PhaseFilmSettings(n_frames=25, n_cells=12, jitter_px=25),
    "small, jitter": PhaseFilmSettings(n_frames=25, n_cells=50, radius_um=6, crowding=2.5, jitter_px=25),
    "all": PhaseFilmSettings(n_frames=25, n_cells=12, gap_rate=0.04, division_rate=0.015, jitter_px=25),
}
"""Kinds of simulated films."""
SEEDS = range(100, 103)
METHODS: dict[str, Callable[[], Linker]] = {
    "iou": lambda: IouLinker(0.1),
    "overlap": lambda: OverlapLinker(OverlapParameters()),
}


def main() -> None:
    print(f"{'':>15}{'method':>9}{'links':>9}{'daughters':>12}{'claimed':>9}{'ms/frame':>10}")
    for kind, settings in KINDS.items():
        films = [simulate_phase_film(PhaseFilmSettings(**{**vars(settings), "seed": seed})) for seed in SEEDS]
        for method, make in METHODS.items():
            follow(films[0], make())  # compiles
            start = perf_counter()
            scores = [follow(film, make()) for film in films]
            per_frame = 1000 * (perf_counter() - start) / sum(len(film.images) for film in films)
            right = sum(score.right_links * score.n_links for score in scores) / sum(s.n_links for s in scores)
            found, there = sum(s.divisions_found for s in scores), sum(len(film.parents) for film in films)
            claimed = sum(score.divisions_claimed for score in scores)
            print(f"{kind:>15}{method:>9}{right:9.4f}{f'{found}/{there}':>12}{claimed:9d}{per_frame:10.1f}")


if __name__ == "__main__":
    main()
