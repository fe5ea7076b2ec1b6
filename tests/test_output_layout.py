import pytest

from tasks.output.layout import (
    FovLayout,
    is_temporary,
    moved_aside_name,
    parse_fov_directory,
    parse_moved_aside,
    temporary_name,
)


def test_names_of_a_fov() -> None:
    layout = FovLayout("film", 7)
    assert layout.directory == "fov_007"
    assert layout.phase(0) == "film_fov_007_pc_ch_0.npy"
    assert layout.fluorescence(1) == "film_fov_007_fl_ch_1.npy"
    assert layout.background(1) == "film_fov_007_fl_background_ch_1.npy"
    assert layout.labeled(0) == "film_fov_007_seg_labeled_ch_0.npy"
    assert layout.tracked(0) == "film_fov_007_seg_tracked_ch_0.npy"
    assert layout.traces == "film_fov_007_traces.csv"
    assert layout.inspected == "film_fov_007_traces_inspected.csv"


@pytest.mark.parametrize("fov", [0, 7, 999, 1000, 123456])
def test_directory_names_can_be_parsed(fov: int) -> None:
    assert parse_fov_directory(FovLayout("film", fov).directory) == fov


@pytest.mark.parametrize("name", ["fov_0", "fov_0001", "fov_00a", "xfov_000", ".fov_000.0123456789ab.tmp", "fov_٠٠٠"])
def test_other_names_are_no_fov_directories(name: str) -> None:
    assert parse_fov_directory(name) is None


def test_four_digits_from_1000_on() -> None:
    assert FovLayout("film", 1000).directory == "fov_1000"


@pytest.mark.parametrize("name", ["fov_000", "fov_1000", "merge", "processing_config.yaml", "processing_results.yaml"])
def test_temporary_names_are_recognised_and_never_repeat(name: str) -> None:
    assert is_temporary(temporary_name(name))
    assert temporary_name(name) != temporary_name(name)


@pytest.mark.parametrize(
    "name", ["fov_000", ".pyama.lock", "processing_config.yaml", ".notes.tmp", ".fov_000.mine.tmp"]
)
def test_other_names_are_not_temporary(name: str) -> None:
    assert not is_temporary(name)


def test_moved_aside_names_tell_the_name_before() -> None:
    assert parse_moved_aside(moved_aside_name("fov_1000")) == "fov_1000"
    assert parse_moved_aside(temporary_name("fov_1000")) is None
