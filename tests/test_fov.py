"""A whole field of view: recording to table and stacks, against its oracle, PyAMA's rows, and by hand."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tasks.acquisition import open_recording
from tasks.configuration import Channels, Configuration, FluorescenceChannel, PhaseChannel, ScienceParameters
from tasks.errors import ProcessingError
from tasks.features import FLUORESCENCE_FEATURES, PHASE_FEATURES
from tasks.fov import FovSummary, process_fov
from tasks.output import FovDirectory, Provenance
from tests import strategies
from tests.oracles import fov as oracle
from tests.oracles.segmentation import Image
from tests.recordings import LISCA_TRACES, lisca_images, write_recording

PERIOD_MIN = 10.0


class Result(NamedTuple):
    """What `process_fov` leaves behind."""

    summary: FovSummary
    table: str
    stacks: dict[str, NDArray[Any]]


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder of its own for each random example."""
    with TemporaryDirectory() as name:
        yield Path(name)


def process(images: Image, configuration: Configuration) -> Result:
    """Write the images (T, C, H, W) as a recording, and process it."""
    with temporary_folder() as folder:
        path = write_recording(folder / "film.nd2", images[np.newaxis], period_min=PERIOD_MIN)
        output_dir = folder / "output"
        output_dir.mkdir()
        with open_recording(path) as recording:
            provenance = Provenance.of(path, recording.metadata.sizes, configuration)
            with FovDirectory(output_dir, 0, provenance) as directory:
                summary = process_fov(recording, 0, configuration, directory)
                directory.commit(n_cells=summary.n_cells, warnings=summary.warnings)
        (made,) = output_dir.glob("fov_*")
        stacks = {file.stem.removeprefix("film_fov_000_"): np.load(file) for file in made.glob("*.npy")}
        return Result(summary, next(made.glob("*_traces.csv")).read_text(), stacks)


def read(table: str) -> pd.DataFrame:
    return pd.read_csv(StringIO(table))


@st.composite
def configurations(draw: st.DrawFn, n_channels: int) -> Configuration:
    """Any roles of the channels, any features, any parameters."""
    order = draw(st.permutations(range(n_channels)))
    used = order[: draw(st.integers(1, n_channels))]
    # Cells are in the first channel; another one as phase is welcome, but rarely has any.
    phase = 0 if draw(st.integers(0, 3)) else used[0]
    fluorescence = [channel for channel in used if channel != phase]
    min_area = draw(st.one_of(st.none(), st.integers(300, 900)))
    return Configuration(
        channels=Channels(
            phase=PhaseChannel(channel=phase, features=draw(subsets(PHASE_FEATURES))),
            fluorescence=[
                FluorescenceChannel(channel=channel, features=draw(subsets(FLUORESCENCE_FEATURES)))
                for channel in fluorescence
            ],
        ),
        parameters=ScienceParameters(
            background_weight=draw(st.sampled_from([0.0, 0.5, 1.0])),
            erosion_size=draw(st.sampled_from([0, 1, 12])),
            min_frames=draw(st.integers(1, 5)),
            border_margin=draw(st.sampled_from([0, 5, 20])),
            min_iou=draw(st.sampled_from([0.1, 0.5, 0.9])),
            min_area=min_area,
            max_area=None if min_area is None else 1200,
            logstd_arithmetic=draw(st.sampled_from(["float32", "exact"])),
        ),
    )


def subsets(features: Iterable[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(list(features)), unique=True)


def simple_configuration(**parameters: Any) -> Configuration:
    return Configuration(
        channels=Channels(phase=PhaseChannel(channel=0), fluorescence=[FluorescenceChannel(channel=1)]),
        parameters=ScienceParameters(**parameters),
    )


def check_against_oracle(images: Image, configuration: Configuration) -> None:
    result = process(images, configuration)
    expected = oracle.process(images, configuration, minutes=PERIOD_MIN * np.arange(len(images), dtype=np.float64))
    check_table(read(result.table), expected.traces, images)
    check_stacks(result.stacks, expected, images, configuration.channels)
    assert result.summary.n_cells == expected.traces["cell"].nunique()
    assert len(result.summary.warnings) == sum(bool(frames) for frames in expected.fully_masked.values())


def check_table(table: pd.DataFrame, expected: pd.DataFrame, images: Image) -> None:
    assert list(table.columns) == list(expected.columns)
    assert len(table) == len(expected)
    # Sums are rounded in proportion to what is added up, and written with six decimals.
    total = float(images.max()) * images[0, 0].size
    for name in table.columns:
        scale = total if name.startswith("intensity_total") else float(images.max())
        tolerance = 1e-10 * scale + 1e-6
        np.testing.assert_allclose(
            table[name].to_numpy(dtype=np.float64),
            expected[name].to_numpy(dtype=np.float64),
            rtol=1e-9,
            atol=tolerance,
            err_msg=name,
        )


def check_stacks(
    stacks: dict[str, NDArray[Any]], expected: oracle.FovResult, images: Image, channels: Channels
) -> None:
    phase, fluorescence = channels.phase.channel, [channel.channel for channel in channels.fluorescence]
    raw = {f"pc_ch_{phase}": phase} | {f"fl_ch_{channel}": channel for channel in fluorescence}
    labels = {f"seg_labeled_ch_{phase}": expected.labelled, f"seg_tracked_ch_{phase}": expected.tracked}
    backgrounds = {f"fl_background_ch_{channel}": channel for channel in fluorescence}
    assert stacks.keys() == raw.keys() | labels.keys() | backgrounds.keys()
    for name, channel in raw.items():
        np.testing.assert_array_equal(stacks[name], images[:, channel])
        assert stacks[name].dtype == images.dtype
    for name, numbers in labels.items():
        np.testing.assert_array_equal(stacks[name], numbers)
        assert stacks[name].dtype == np.uint16
    for name, channel in backgrounds.items():
        values = expected.backgrounds[channel]
        assert stacks[name].dtype == np.float32
        np.testing.assert_allclose(stacks[name], values, rtol=1e-6, atol=1e-7 * float(np.abs(values).max()))


@st.composite
def films_with_configurations(draw: st.DrawFn) -> tuple[Image, Configuration]:
    images = draw(strategies.films())
    return images, draw(configurations(images.shape[1]))


@settings(max_examples=40)
@given(films_with_configurations())
def test_field_of_view_is_that_of_the_oracle(film_and_configuration: tuple[Image, Configuration]) -> None:
    check_against_oracle(*film_and_configuration)


@pytest.mark.parametrize("erosion_size", [0, 3])
def test_reference_film_is_that_of_the_oracle(erosion_size: int) -> None:
    configuration = Configuration(
        channels=Channels(
            phase=PhaseChannel(channel=0, features=list(PHASE_FEATURES)),
            fluorescence=[FluorescenceChannel(channel=1, features=list(FLUORESCENCE_FEATURES))],
        ),
        parameters=ScienceParameters(erosion_size=erosion_size, border_margin=0, background_weight=0.9),
    )
    check_against_oracle(lisca_images()[:2], configuration)


@pytest.fixture(scope="module")
def pyama_rows() -> pd.DataFrame:
    """What PyAMA measures in the first six frames of the reference film."""
    return pd.read_csv(LISCA_TRACES)


def check_parity(traces: pd.DataFrame, pyama: pd.DataFrame) -> None:
    """Same cells in the same frames, same boxes and areas; intensities to 1e-5 of the cell's largest."""
    rows = traces.merge(pyama, on=["fov", "cell", "frame"], suffixes=("", "_pyama"), validate="one_to_one")
    assert len(rows) == len(pyama)
    for name in ("bbox_x0", "bbox_y0", "bbox_x1", "bbox_y1", "area_ch_0"):
        np.testing.assert_array_equal(rows[name], rows[f"{name}_pyama"], err_msg=name)
    largest = rows.groupby("cell")["intensity_total_ch_1_pyama"].transform(lambda values: values.abs().max())
    difference = (rows["intensity_total_ch_1"] - rows["intensity_total_ch_1_pyama"]).abs()
    assert (difference / largest).max() < 1e-5


def test_reference_film_gives_the_rows_of_pyama(pyama_rows: pd.DataFrame) -> None:
    result = process(lisca_images(), simple_configuration())
    traces = read(result.table)
    assert set(traces["cell"]) == set(pyama_rows["cell"])
    check_parity(traces, pyama_rows)


def test_oracle_gives_the_rows_of_pyama(pyama_rows: pd.DataFrame) -> None:
    check_parity(oracle.process(lisca_images(), simple_configuration()).traces, pyama_rows)


def film_of_a_square(n_frames: int = 3) -> NDArray[np.uint16]:
    """One bright textured square of 40 pixels that moves right by 2 pixels a frame over an even background."""
    rng = np.random.default_rng(0)
    images = np.empty((n_frames, 2, 100, 120), dtype=np.uint16)
    images[:, 0] = rng.integers(995, 1005, images[:, 0].shape)
    images[:, 1] = 100
    for t in range(n_frames):
        square = np.s_[30:70, 40 + 2 * t : 80 + 2 * t]
        images[t, 0][square] = rng.integers(0, 2000, (40, 40))
        images[t, 1][square] = 150 + t
    return images


def test_one_moving_cell_is_one_trace() -> None:
    traces = read(process(film_of_a_square(), simple_configuration(border_margin=5)).table)
    assert traces["cell"].tolist() == [1, 1, 1]
    assert traces["frame"].tolist() == [0, 1, 2]
    assert traces["time"].tolist() == [0, PERIOD_MIN, 2 * PERIOD_MIN]
    # The window reaches one pixel beyond the square; where its corners are weak, a pixel may be missing.
    np.testing.assert_allclose(traces["area_ch_0"], 42 * 42, atol=8)
    np.testing.assert_allclose(np.diff(traces["position_x"]), 2, atol=0.1)
    np.testing.assert_allclose(traces["intensity_total_ch_1"], 1600 * np.array([50, 51, 52]), atol=1e-3)


def test_film_without_cells_gives_a_table_without_rows() -> None:
    images = np.full((2, 2, 30, 30), 7, dtype=np.uint16)
    result = process(images, simple_configuration())
    assert result.table.count("\n") == 1
    assert result.summary.n_cells == 0
    assert not result.stacks["seg_tracked_ch_0"].any()


def test_filtered_cells_stay_in_the_tracked_stack() -> None:
    result = process(film_of_a_square(), simple_configuration(border_margin=60))
    assert result.summary.n_cells == 0
    assert result.stacks["seg_tracked_ch_0"].max() == 1


def test_frame_without_background_is_warned_of_by_channel() -> None:
    # The cell reaches so near the edges that its margin covers the image.
    images = np.full((1, 2, 56, 56), 1000, dtype=np.uint16)
    images[0, :, 8:48, 8:48] = np.random.default_rng(0).integers(0, 2000, (40, 40))
    result = process(images, simple_configuration())
    (warning,) = result.summary.warnings
    assert "channel 1" in warning
    np.testing.assert_allclose(result.stacks["fl_background_ch_1"], np.percentile(images[0, 1], 1), rtol=1e-6)


@pytest.mark.parametrize("channel", [0, 1])
def test_non_finite_pixel_names_fov_frame_and_channel(channel: int) -> None:
    images = film_of_a_square().astype(np.float32)
    images[2, channel, 5, 6] = np.nan
    with pytest.raises(ProcessingError, match=f"FOV 0, frame 2.*channel {channel}"):
        process(images, simple_configuration())


@pytest.mark.parametrize("keep", ["labels", "none"])
def test_table_is_the_same_bytes_whatever_is_kept(keep: str) -> None:
    images = film_of_a_square()
    everything = process(images, simple_configuration(border_margin=5, keep="all"))
    less = process(images, simple_configuration(border_margin=5, keep=keep))
    assert less.table == everything.table
    expected = {"seg_labeled_ch_0", "seg_tracked_ch_0"} if keep == "labels" else set()
    assert less.stacks.keys() == expected
