"""What was simulated is found: every isolated cell away from the edge, once, in all frames, and nothing else."""

import numpy as np
import pandas as pd
import pytest

from tasks.configuration import Channels, FluorescenceChannel, PhaseChannel, WorkflowRequest
from tasks.fov_job import FovJob
from tasks.output import FovLayout, ensure_folder
from tasks.plan import make_plan
from tasks.simulation import SimulationSettings, Truth, simulate

SETTINGS = SimulationSettings(n_fovs=2, n_frames=8, height=640, width=700, n_fluorescence=2, interval_min=60)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> tuple[Truth, dict[int, pd.DataFrame]]:
    """The truth of a simulated film, and the traces table of each of its FOVs."""
    folder = tmp_path_factory.mktemp("truth")
    truth = simulate(SETTINGS, folder / "film.nd2")
    request = WorkflowRequest(
        microscopy_path=str(folder / "film.nd2"),
        output_dir=str(folder / "out"),
        channels=Channels(
            phase=PhaseChannel(channel=0),
            fluorescence=[FluorescenceChannel(channel=1), FluorescenceChannel(channel=2)],
        ),
    )
    job = FovJob.of(make_plan(request))
    ensure_folder(job.output_dir)
    tables = {}
    for fov in range(SETTINGS.n_fovs):
        job.run(fov)
        layout = FovLayout("film", fov)
        tables[fov] = pd.read_csv(job.output_dir / layout.directory / layout.traces)
    return truth, tables


def cells_at(table: pd.DataFrame, centres: "np.ndarray[tuple[int, int], np.dtype[np.float64]]") -> set[int]:
    """Cells whose centroid is within 5 pixels of a centre (y, x) in any frame."""
    expected = centres[table["frame"]]
    near = np.hypot(table["position_y"] - expected[:, 0], table["position_x"] - expected[:, 1]) < 5
    return set(table["cell"][near])


@pytest.mark.parametrize("fov", range(SETTINGS.n_fovs))
def test_every_countable_cell_is_found_once_and_nothing_else(
    film: tuple[Truth, dict[int, pd.DataFrame]], fov: int
) -> None:
    truth, tables = film
    countable = [cell for cell in truth.fovs[fov].cells if cell.countable]
    found = [cells_at(tables[fov], cell.centres) for cell in countable]
    assert len(countable) > 5
    assert [len(cells) for cells in found] == [1] * len(countable)
    assert sorted(cell for cells in found for cell in cells) == sorted(tables[fov]["cell"].unique())
    assert set(tables[fov].groupby("cell")["frame"].count()) == {SETTINGS.n_frames}


@pytest.mark.parametrize("channel", [1, 2])
def test_intensities_are_those_of_the_truth(film: tuple[Truth, dict[int, pd.DataFrame]], channel: int) -> None:
    truth, tables = film
    for fov, table in tables.items():
        for cell in truth.fovs[fov].cells:
            if cell.countable:
                (number,) = cells_at(table, cell.centres)
                measured = table.loc[table["cell"] == number, f"intensity_total_ch_{channel}"].to_numpy()
                simulated = np.asarray(cell.intensities[channel - 1])
                np.testing.assert_allclose(measured, simulated, atol=0.03 * simulated.max(), rtol=0)
