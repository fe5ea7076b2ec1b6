"""Following cells by btrack (Ulicna, Vallardi, Charras and Lowe 2021): a Kalman filter, then the whole film at once.

It sees the centroids alone, in the coordinates of the first frame, so that the stage does not count. All frames are
kept back until the film is over: memory grows by the tables of regions, some tens of kilobytes for each frame.
"""

import logging
from typing import Any

import numpy as np

from tasks.errors import ProcessingError
from tasks.linking import Cells, Shift, check_number_of_cells
from tasks.methods import BtrackParameters
from tasks.regions import LabelledFrame

_SPREAD = 15.0
"""Standard deviation of a cell's velocity between frames, in pixels."""


class BtrackLinker:
    """Numbers the cells of a film when it is over, in order of appearance.

    Raises
    ------
    ProcessingError
        Where btrack is not installed, or does not work on this machine.
    """

    def __init__(self, parameters: BtrackParameters) -> None:
        self._btrack = _import()
        self.parents: dict[int, int] = {}
        self._parameters = parameters
        self._offset = np.zeros(2)
        self._n_regions: list[int] = []
        self._places: list[tuple[float, float, int]] = []

    def link(self, frame: LabelledFrame, shift: Shift) -> list[Cells]:
        """Take the next frame; it is kept back."""
        self._offset += shift
        t = len(self._n_regions)
        self._n_regions.append(len(frame))
        for x, y in frame.regions.centroids.tolist():
            self._places.append((x - self._offset[1], y - self._offset[0], t))
        return []

    def finish(self) -> list[Cells]:
        """Number the cells of all frames."""
        tracks = self._track() if self._places else []
        cell_of = np.zeros(len(self._places), np.int32)
        identities = np.full(len(self._places), -1, np.int64)
        for track in tracks:
            identities[[ref for ref in track.refs if ref >= 0]] = track.ID
        # Regions that btrack takes for false are cells of one frame.
        alone = np.flatnonzero(identities < 0)
        identities[alone] = -1 - alone
        known, first, inverse = np.unique(identities, return_index=True, return_inverse=True)
        number = np.empty(len(known), np.int32)
        number[np.argsort(first)] = np.arange(1, len(known) + 1, dtype=np.int32)
        check_number_of_cells(len(known))
        cell_of = number[inverse]
        number_of = dict(zip(known.tolist(), number.tolist(), strict=True))
        for track in tracks:
            if track.parent != track.ID and track.parent in number_of and track.ID in number_of:
                self.parents[number_of[track.ID]] = number_of[track.parent]
        return list(np.split(cell_of, np.cumsum(self._n_regions)[:-1]))

    def _track(self) -> list[Any]:
        btrack, p = self._btrack, self._parameters
        objects = [
            btrack.btypes.PyTrackObject.from_dict(
                {"ID": number, "x": x, "y": y, "z": 0.0, "t": t, "label": 0, "dummy": False}
            )
            for number, (x, y, t) in enumerate(self._places)
        ]
        places = np.array(self._places)
        low, high = places.min(axis=0) - 1, places.max(axis=0) + 1
        with btrack.BayesianTracker(verbose=False) as tracker:
            tracker.configure(_configuration(btrack, p))
            tracker.append(objects)
            tracker.volume = ((low[0], high[0]), (low[1], high[1]), (-1e5, 1e5))
            tracker.track(step_size=len(self._n_regions))
            tracker.optimise()
            return list(tracker.tracks)


def _import() -> Any:  # noqa: ANN401 - a module without types
    remedy = "or choose the method 'overlap'"
    try:
        import btrack
        import btrack.btypes
    except ImportError as error:
        raise ProcessingError(
            f"the tracking method 'btrack' needs packages that are not there ({error}); "
            f"install them with pip install 'pyama-backend[btrack]', {remedy}"
        ) from error
    logging.getLogger("btrack").setLevel(logging.WARNING)
    try:
        btrack.libwrapper.get_library()
    except Exception as error:  # it raises a bare one, whose cause says what is wrong
        raise ProcessingError(
            f"btrack's compiled library cannot be loaded on this machine ({error.__cause__ or error}); "
            f"install a version that was built for it, {remedy}"
        ) from error
    return btrack


def _configuration(btrack: Any, p: BtrackParameters) -> Any:  # noqa: ANN401
    """Cells that move on at about their velocity, as in btrack's own example for cells."""
    steady, unit = np.eye(6) + np.eye(6, k=3), np.eye(3, 6)
    change = _SPREAD * np.array([[0.5, 0.5, 0.5, 1.0, 1.0, 1.0]])
    hypotheses = ["P_FP", "P_init", "P_term", "P_link"] + ["P_branch"] * p.divisions
    return btrack.config.TrackerConfig(
        motion_model=btrack.models.MotionModel(
            measurements=3, states=6, A=steady, H=unit, P=0.1 * np.diag([1.0, 1, 1, 10, 10, 10]), R=5 * np.eye(3),
            G=change, dt=1.0, accuracy=7.5, max_lost=p.max_gap, prob_not_assign=0.1,
        ),
        hypothesis_model=btrack.models.HypothesisModel(
            hypotheses=hypotheses, lambda_time=5.0, lambda_dist=3.0, lambda_link=10.0, lambda_branch=50.0, eta=1e-10,
            theta_dist=20.0, theta_time=5.0, dist_thresh=p.max_distance, time_thresh=p.max_gap + 1.0, apop_thresh=5,
            segmentation_miss_rate=0.1, apoptosis_rate=0.001, relax=True,
        ),
        max_search_radius=p.max_distance,
        optimizer_options={"tm_lim": 60_000, "msg_lev": "GLP_MSG_OFF"},
    )  # fmt: skip
