"""The stacks that a FOV leaves, handled lazily as a whole, agree with its table."""

from pathlib import Path

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from dask_image import ndfilters, ndmeasure

from tasks.acquisition import open_recording
from tasks.configuration import Channels, Configuration, FluorescenceChannel, PhaseChannel, ScienceParameters
from tasks.fov_job import FovJob
from tasks.output import FovLayout, Provenance
from tests.recordings import write_lisca


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of the reference film's FOV, with cells at the border left in the table."""
    folder = tmp_path_factory.mktemp("stacks")
    recording = write_lisca(folder / "lisca.nd2")
    configuration = Configuration(
        channels=Channels(phase=PhaseChannel(channel=0), fluorescence=[FluorescenceChannel(channel=1)]),
        parameters=ScienceParameters(border_margin=0, min_frames=1),
    )
    with open_recording(recording) as film:
        provenance = Provenance.of(recording, film.metadata.sizes, configuration)
    FovJob(recording, folder, configuration, provenance, overwrite=False).run(0)
    return folder / "fov_000"


def stack(results: Path, name: str) -> da.Array:
    frames: da.Array = da.from_array(np.load(results / name, mmap_mode="r"), chunks=(1, -1, -1))
    return frames


LAYOUT = FovLayout("lisca", 0)


def test_areas_are_those_of_the_tracked_stack(results: Path) -> None:
    traces = pd.read_csv(results / LAYOUT.traces)
    tracked = stack(results, LAYOUT.tracked(0))
    for frame, rows in traces.groupby("frame"):
        areas = ndmeasure.area(tracked[frame], tracked[frame], rows["cell"].to_numpy()).compute()
        np.testing.assert_array_equal(areas, rows["area_ch_0"])


def test_intensities_are_those_of_the_raw_and_background_stacks(results: Path) -> None:
    traces = pd.read_csv(results / LAYOUT.traces)
    tracked, raw = stack(results, LAYOUT.tracked(0)), stack(results, LAYOUT.fluorescence(1))
    corrected = raw - stack(results, LAYOUT.background(1))
    for frame, rows in traces.groupby("frame"):
        cells = rows["cell"].to_numpy()
        sums = ndmeasure.sum_labels(corrected[frame], tracked[frame], cells).compute()
        # The stack is rounded to float32, the sums are not.
        most = ndmeasure.sum_labels(raw[frame], tracked[frame], cells).compute()
        np.testing.assert_array_less(np.abs(sums - rows["intensity_total_ch_1"]), 1e-6 * most + 1e-3)


def test_labels_are_those_of_a_lazy_labelling(results: Path) -> None:
    labeled = stack(results, LAYOUT.labeled(0))
    for frame in range(len(labeled)):
        again, n = ndmeasure.label(labeled[frame] > 0)
        assert int(n) == int(labeled[frame].max())
        # The same regions, whatever they are called.
        pairs = np.unique(np.stack([da.ravel(again).compute(), da.ravel(labeled[frame]).compute()]), axis=1)
        assert pairs.shape[1] == int(n) + 1


def test_cells_lie_where_the_phase_stack_varies(results: Path) -> None:
    phase = stack(results, LAYOUT.phase(0)).astype(np.float64)
    mean, square = (ndfilters.uniform_filter(image, size=(1, 3, 3), mode="nearest") for image in (phase, phase**2))
    deviation = da.sqrt(da.maximum(square - mean**2, 0))
    cells = stack(results, LAYOUT.tracked(0)) > 0
    inside, outside = da.compute(deviation[cells].mean(), deviation[~cells].mean())
    assert inside > 3 * outside
