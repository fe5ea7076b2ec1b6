import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest

from tasks.errors import OutputConflictError, OutputError
from tasks.output import FovDirectory, Provenance, finished_manifest, read_manifest, verify
from tests.output_worker import SHAPE, content, frames, make_provenance, write_fov


@pytest.fixture
def provenance() -> Provenance:
    return make_provenance()


def test_everything_is_in_place_after_a_commit(tmp_path: Path, provenance: Provenance) -> None:
    assert write_fov(tmp_path, 0, provenance)
    assert [path.name for path in tmp_path.iterdir()] == ["fov_000"]
    assert sorted(path.name for path in (tmp_path / "fov_000").iterdir()) == [
        "film_fov_000_fl_background_ch_1.npy",
        "film_fov_000_pc_ch_0.npy",
        "film_fov_000_traces.csv",
        "manifest.json",
    ]
    np.testing.assert_array_equal(np.load(tmp_path / "fov_000/film_fov_000_pc_ch_0.npy"), frames(0))
    assert verify(tmp_path / "fov_000") == []


def test_manifest_says_what_is_there_and_nothing_of_when_and_where(tmp_path: Path, provenance: Provenance) -> None:
    write_fov(tmp_path, 3, provenance)
    text = (tmp_path / "fov_003/manifest.json").read_text()
    manifest = json.loads(text)
    assert text == json.dumps(manifest, indent=2, sort_keys=True) + "\n"
    assert sorted(manifest) == [
        "files", "fingerprint", "fov", "input", "n_cells", "parameters", "schema", "versions", "warnings",
    ]  # fmt: skip
    assert sorted(manifest["fingerprint"]) == ["input", "parameters", "science_version"]
    assert sorted(manifest["input"]) == ["channel_names", "name", "size_bytes", "sizes"]
    assert (manifest["fov"], manifest["n_cells"], manifest["warnings"]) == (3, 1, ["one warning"])
    assert {"python", "numpy", "numba"} <= manifest["versions"].keys()
    assert str(tmp_path) not in text
    assert os.uname().nodename not in text


def test_the_manifest_can_be_read_again(tmp_path: Path, provenance: Provenance) -> None:
    write_fov(tmp_path, 1234, provenance)
    manifest = read_manifest(tmp_path / "fov_1234")
    assert manifest is not None
    assert manifest.provenance == provenance
    assert manifest.layout.directory == "fov_1234"
    assert manifest == finished_manifest(tmp_path, 1234, provenance.fingerprint)


def test_the_same_work_gives_the_same_bytes(tmp_path: Path, provenance: Provenance) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_fov(tmp_path / name, 0, provenance)
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_permissions_follow_the_umask(tmp_path: Path, provenance: Provenance) -> None:
    before = os.umask(0o002)
    try:
        write_fov(tmp_path, 0, provenance)
    finally:
        os.umask(before)
    assert (tmp_path / "fov_000").stat().st_mode & 0o777 == 0o775
    assert (tmp_path / "fov_000/manifest.json").stat().st_mode & 0o777 == 0o664


def test_nothing_stays_of_an_attempt_that_fails(tmp_path: Path, provenance: Provenance) -> None:
    def fail() -> None:
        with FovDirectory(tmp_path, 0, provenance) as directory:
            directory.stack(directory.layout.phase(0), SHAPE, "uint16").write(0, frames(0)[0])
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_nothing_stays_of_an_attempt_without_a_commit(tmp_path: Path, provenance: Provenance) -> None:
    with FovDirectory(tmp_path, 0, provenance) as directory:
        directory.write_text(directory.layout.traces, ["fov,cell\n"])
    assert list(tmp_path.iterdir()) == []


def test_a_stack_with_a_gap_is_not_committed(tmp_path: Path, provenance: Provenance) -> None:
    with FovDirectory(tmp_path, 0, provenance) as directory:
        directory.stack(directory.layout.phase(0), SHAPE, "uint16").write(0, frames(0)[0])
        with pytest.raises(OutputError, match="frame 1 was never written"):
            directory.commit(n_cells=0)
    assert list(tmp_path.iterdir()) == []


def test_a_finished_fov_stays_and_the_second_attempt_is_thrown_away(tmp_path: Path, provenance: Provenance) -> None:
    write_fov(tmp_path, 0, provenance)
    first = (tmp_path / "fov_000").stat().st_ino
    assert not write_fov(tmp_path, 0, provenance)
    assert (tmp_path / "fov_000").stat().st_ino == first
    assert [path.name for path in tmp_path.iterdir()] == ["fov_000"]


def test_other_parameters_are_a_conflict_before_anything_is_written(tmp_path: Path, provenance: Provenance) -> None:
    write_fov(tmp_path, 0, make_provenance(min_frames=10))
    before = content(tmp_path)
    with pytest.raises(OutputConflictError, match="min_frames is 10 there, 30 was asked for"):
        write_fov(tmp_path, 0, provenance)
    assert content(tmp_path) == before


def test_a_conflict_that_arises_meanwhile_is_found_at_the_commit(tmp_path: Path, provenance: Provenance) -> None:
    with FovDirectory(tmp_path, 0, provenance) as directory:
        write_fov(tmp_path, 0, make_provenance(min_frames=10))
        with pytest.raises(OutputConflictError, match="min_frames"):
            directory.commit(n_cells=0)
    assert [path.name for path in tmp_path.iterdir()] == ["fov_000"]
    assert finished_manifest(tmp_path, 0, make_provenance(min_frames=10).fingerprint)


def test_replacing_leaves_only_the_new(tmp_path: Path, provenance: Provenance) -> None:
    write_fov(tmp_path, 0, make_provenance(recording="other.nd2", content="b"))
    assert write_fov(tmp_path, 0, provenance, replace=True)
    assert [path.name for path in tmp_path.iterdir()] == ["fov_000"]
    assert finished_manifest(tmp_path, 0, provenance.fingerprint)
    assert not list((tmp_path / "fov_000").glob("other*"))


def test_files_of_another_program_are_a_conflict(tmp_path: Path, provenance: Provenance) -> None:
    (tmp_path / "fov_000").mkdir()
    (tmp_path / "fov_000/film_fov_000_traces.csv").write_text("fov\n")
    with pytest.raises(OutputConflictError, match="without a manifest"):
        write_fov(tmp_path, 0, provenance)


def test_a_file_in_place_of_the_directory_is_a_conflict_even_when_replacing(
    tmp_path: Path, provenance: Provenance
) -> None:
    (tmp_path / "fov_000").write_text("precious")
    with pytest.raises(OutputConflictError, match="is a file"):
        write_fov(tmp_path, 0, provenance, replace=True)
    assert (tmp_path / "fov_000").read_text() == "precious"


def test_an_empty_directory_is_not_in_the_way(tmp_path: Path, provenance: Provenance) -> None:
    (tmp_path / "fov_000").mkdir()
    assert write_fov(tmp_path, 0, provenance)


def test_a_damaged_directory_of_the_same_provenance_is_made_again(tmp_path: Path, provenance: Provenance) -> None:
    write_fov(tmp_path, 0, provenance)
    whole = content(tmp_path)
    (tmp_path / "fov_000/film_fov_000_pc_ch_0.npy").unlink()
    assert write_fov(tmp_path, 0, provenance)
    assert content(tmp_path) == whole


def test_an_inspected_table_is_never_replaced(tmp_path: Path, provenance: Provenance) -> None:
    write_fov(tmp_path, 0, make_provenance(min_frames=10))
    (tmp_path / "fov_000/film_fov_000_traces_inspected.csv").write_text("fov\n")
    with pytest.raises(OutputConflictError, match=r"film_fov_000_traces_inspected\.csv, the work of a person"):
        write_fov(tmp_path, 0, provenance, replace=True)
    assert (tmp_path / "fov_000/film_fov_000_traces_inspected.csv").exists()


@pytest.mark.parametrize("old", [None, "min_frames"])
def test_many_attempts_at_once_all_end_well(tmp_path: Path, provenance: Provenance, old: str | None) -> None:
    if old:
        write_fov(tmp_path, 0, make_provenance(min_frames=10))
    (tmp_path / "alone").mkdir()
    write_fov(tmp_path / "alone", 0, provenance)
    n_attempts = 6
    together = Barrier(n_attempts)

    def attempt(_: int) -> bool:
        with FovDirectory(tmp_path, 0, provenance, replace=True) as directory:
            phase = directory.stack(directory.layout.phase(0), SHAPE, "uint16")
            background = directory.stack(directory.layout.background(1), SHAPE, "float32")
            for t, frame in enumerate(frames(0)):
                phase.write(t, frame)
                background.write(t, frame.astype(np.float32) / 3)
            directory.write_text(directory.layout.traces, ["fov,cell\n0,1\n"])
            together.wait(timeout=30)
            return directory.commit(n_cells=1, warnings=["one warning"])

    with ThreadPoolExecutor(n_attempts) as pool:
        won = list(pool.map(attempt, range(n_attempts)))
    assert any(won)
    assert content(tmp_path / "fov_000") == content(tmp_path / "alone/fov_000")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", "fov_000"]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"schema": 2}', "\0"])
def test_a_damaged_manifest_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    assert read_manifest(tmp_path) is None


def test_no_manifest_and_no_directory(tmp_path: Path) -> None:
    assert read_manifest(tmp_path) is None
    assert read_manifest(tmp_path / "nothing") is None


def test_a_shortened_file_is_not_complete(tmp_path: Path, provenance: Provenance) -> None:
    write_fov(tmp_path, 0, provenance)
    os.truncate(tmp_path / "fov_000/film_fov_000_pc_ch_0.npy", 1000)
    assert finished_manifest(tmp_path, 0, provenance.fingerprint) is None


def test_a_directory_under_another_number_is_not_finished(tmp_path: Path, provenance: Provenance) -> None:
    write_fov(tmp_path, 0, provenance)
    (tmp_path / "fov_000").rename(tmp_path / "fov_001")
    assert finished_manifest(tmp_path, 1, provenance.fingerprint) is None


def test_verifying_finds_a_flipped_bit(tmp_path: Path, provenance: Provenance) -> None:
    write_fov(tmp_path, 0, provenance)
    path = tmp_path / "fov_000/film_fov_000_pc_ch_0.npy"
    damaged = bytearray(path.read_bytes())
    damaged[5000] ^= 4
    path.write_bytes(damaged)
    [problem] = verify(tmp_path / "fov_000")
    assert problem.startswith(f"{path} is damaged: its checksum is ")


def test_verifying_names_missing_and_shortened_files(tmp_path: Path, provenance: Provenance) -> None:
    write_fov(tmp_path, 0, provenance)
    os.truncate(tmp_path / "fov_000/film_fov_000_pc_ch_0.npy", 7)
    (tmp_path / "fov_000/film_fov_000_traces.csv").unlink()
    shortened, missing = verify(tmp_path / "fov_000")
    assert "film_fov_000_pc_ch_0.npy has 7 bytes instead of 24128" in shortened
    assert missing.endswith("film_fov_000_traces.csv is missing")


def test_verifying_without_a_manifest(tmp_path: Path) -> None:
    assert verify(tmp_path) == [f"{tmp_path / 'manifest.json'} is missing or damaged"]


def test_a_vanished_output_folder_is_reported(tmp_path: Path, provenance: Provenance) -> None:
    with pytest.raises(OutputError, match="disappeared"), FovDirectory(tmp_path / "gone", 0, provenance):
        pass


def test_a_name_that_is_too_long_is_reported(tmp_path: Path) -> None:
    provenance = make_provenance(recording="x" * 250 + ".nd2")
    with pytest.raises(OutputError, match="name too long"):
        write_fov(tmp_path, 0, provenance)
    assert list(tmp_path.iterdir()) == []
