import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml

from tasks.errors import OutputBusyError, OutputConflictError, OutputError
from tasks.output import (
    FovDirectory,
    OutputLock,
    check_folder,
    ensure_folder,
    finished_fovs,
    prepare_folder,
    remove_leftovers,
    write_index,
)
from tasks.output.atomic import write_text_atomically
from tasks.output.config import read_config, write_config
from tests.namespaces import mount_namespace
from tests.nobody import printed_by
from tests.output_worker import content, make_provenance, make_request, run, write_fov

ROOT = Path(__file__).parents[1]


def test_parents_are_made(tmp_path: Path) -> None:
    ensure_folder(tmp_path / "a/b/c")
    ensure_folder(tmp_path / "a/b/c")
    assert (tmp_path / "a/b/c").is_dir()


def test_a_path_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("precious")
    with pytest.raises(OutputError, match="out is a file, not a folder; choose another output folder"):
        ensure_folder(tmp_path / "out")


def test_a_parent_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("precious")
    with pytest.raises(OutputError, match=re.escape(f"{tmp_path / 'out'} is a file, not a folder")):
        ensure_folder(tmp_path / "out/a/b")


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="name too long"):
        check_folder(tmp_path / ("x" * 300), make_provenance(), [0])


def test_checking_creates_nothing(tmp_path: Path) -> None:
    check_folder(tmp_path / "a/b", make_provenance(), [0, 1])
    assert list(tmp_path.iterdir()) == []


def test_checking_an_empty_folder_changes_nothing(tmp_path: Path) -> None:
    check_folder(tmp_path, make_provenance(), [0, 1])
    assert list(tmp_path.iterdir()) == []


_CHECK = """
import sys
from pathlib import Path
from tasks.errors import OutputError
from tasks.output import ensure_folder
from tests.nobody import become_nobody
if sys.argv[2:] == ["as nobody"]:
    become_nobody()
try:
    ensure_folder(Path(sys.argv[1]))
except OutputError as error:
    print(error)
"""


def test_a_folder_without_permission() -> None:
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        printed = printed_by(_CHECK, f"{folder}/new", "as nobody")
        Path(folder).chmod(0o755)
    assert f"{folder} cannot be written (no permission, or a read-only file system)" in printed


def test_a_read_only_file_system(tmp_path: Path) -> None:
    script = f'mount -t tmpfs -o ro tmpfs "$1" && exec "{sys.executable}" -c "$2" "$1/new"'
    ended = subprocess.run(
        [*mount_namespace(), "sh", "-c", script, "sh", tmp_path, _CHECK],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert f"{tmp_path} cannot be written (no permission, or a read-only file system)" in ended.stdout


def test_a_run_and_its_repetition(tmp_path: Path) -> None:
    run(tmp_path, [0, 1])
    first = content(tmp_path)
    inodes = {path: path.stat().st_ino for path in tmp_path.glob("fov_*/*")}
    run(tmp_path, [0, 1], run_id="run-2")
    assert content(tmp_path) == first
    assert {path: path.stat().st_ino for path in tmp_path.glob("fov_*/*")} == inodes


def test_two_halves_are_the_same_as_one_run(tmp_path: Path) -> None:
    run(tmp_path / "whole", [0, 1, 2])
    run(tmp_path / "halves", [1])
    run(tmp_path / "halves", [0, 2])
    assert content(tmp_path / "halves") == content(tmp_path / "whole")


def test_finished_fovs(tmp_path: Path) -> None:
    run(tmp_path, [0, 2, 1000])
    assert finished_fovs(tmp_path, make_provenance().fingerprint) == {0, 2, 1000}
    assert finished_fovs(tmp_path, make_provenance(min_frames=3).fingerprint) == set()


def test_no_fov_is_finished_where_there_is_no_folder(tmp_path: Path) -> None:
    assert finished_fovs(tmp_path / "nothing", make_provenance().fingerprint) == set()


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ({"min_frames": 10}, "other parameters: min_frames is 30 there, 10 was asked for"),
        ({"keep": "none", "max_area": 9}, 'keep is "all" there, "none" was asked for; max_area is null there, 9'),
        (
            {"recording": "drug.nd2", "content": "b"},
            "another input: film.nd2 (12.3 MB) there, drug.nd2 (12.3 MB) was asked for",
        ),
    ],
)
def test_a_folder_of_something_else_is_refused(tmp_path: Path, other: dict[str, Any], difference: str) -> None:
    run(tmp_path, [0])
    before = content(tmp_path)
    with pytest.raises(OutputConflictError, match=re.escape(difference)) as refused:
        check_folder(tmp_path, make_provenance(**other), [0])
    assert "choose another output folder, or set overwrite" in str(refused.value)
    assert content(tmp_path) == before


def test_a_folder_of_something_else_is_refused_for_fovs_it_does_not_hold(tmp_path: Path) -> None:
    run(tmp_path, [0])
    with pytest.raises(OutputConflictError, match=r"fov_000 comes from other parameters"):
        check_folder(tmp_path, make_provenance(min_frames=10), [5])


def test_a_folder_that_holds_only_the_configuration_of_something_else_is_refused(tmp_path: Path) -> None:
    run(tmp_path, [])
    with pytest.raises(OutputConflictError, match=r"processing_config\.yaml comes from other parameters"):
        check_folder(tmp_path, make_provenance(min_frames=10), [0])


def test_a_configuration_of_another_program_is_refused(tmp_path: Path) -> None:
    (tmp_path / "processing_config.yaml").write_text("channels: {pc: 0}\n")
    with pytest.raises(OutputConflictError, match="cannot be understood"):
        check_folder(tmp_path, make_provenance(), [0])


def test_overwriting_is_allowed_where_it_is_asked_for(tmp_path: Path) -> None:
    run(tmp_path / "new", [0, 1], min_frames=10)
    run(tmp_path / "old", [0, 1])
    check_folder(tmp_path / "old", make_provenance(min_frames=10), [0, 1], overwrite=True)
    run(tmp_path / "old", [0, 1], min_frames=10, overwrite=True)
    written, expected = content(tmp_path / "old"), content(tmp_path / "new")
    assert written == expected


def test_overwriting_spares_what_a_person_has_inspected(tmp_path: Path) -> None:
    run(tmp_path, [0, 1])
    (tmp_path / "fov_001/film_fov_001_traces_inspected.csv").write_text("fov\n")
    with pytest.raises(OutputConflictError, match="fov_001 holds film_fov_001_traces_inspected"):
        check_folder(tmp_path, make_provenance(min_frames=10), [0, 1], overwrite=True)


def test_an_inspected_table_does_not_hinder_the_next_run_of_the_same(tmp_path: Path) -> None:
    run(tmp_path, [0])
    (tmp_path / "fov_000/film_fov_000_traces_inspected.csv").write_text("fov\n")
    run(tmp_path, [0, 1])
    assert finished_fovs(tmp_path, make_provenance().fingerprint) == {0, 1}


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    with OutputLock(tmp_path, "run-7"), pytest.raises(OutputBusyError, match="folder in use by run run-7"):
        check_folder(tmp_path, make_provenance(), [0])


def test_leftovers_go_and_everything_else_stays(tmp_path: Path) -> None:
    run(tmp_path, [0])
    (tmp_path / ".fov_001.0123456789ab.tmp").mkdir()
    (tmp_path / ".fov_001.0123456789ab.tmp/film_fov_001_pc_ch_0.npy").write_text("half")
    (tmp_path / ".processing_config.yaml.0123456789ab.tmp").write_text("half")
    (tmp_path / ".notes.tmp").write_text("mine")
    expected = content(tmp_path)
    expected = {name: data for name, data in expected.items() if data != b"half"}
    remove_leftovers(tmp_path)
    assert content(tmp_path) == expected


def test_what_was_moved_aside_gets_its_name_back(tmp_path: Path) -> None:
    run(tmp_path, [0])
    before = content(tmp_path)
    (tmp_path / "fov_000").rename(tmp_path / ".fov_000.0123456789ab.old")
    remove_leftovers(tmp_path)
    assert content(tmp_path) == before


def test_what_was_moved_aside_goes_where_its_successor_is_in_place(tmp_path: Path) -> None:
    run(tmp_path, [0, 1])
    before = content(tmp_path)
    (tmp_path / "fov_001").rename(tmp_path / ".fov_000.0123456789ab.old")
    write_fov(tmp_path, 1, make_provenance())
    remove_leftovers(tmp_path)
    assert content(tmp_path) == before


def test_configuration_as_given_and_as_resolved(tmp_path: Path) -> None:
    request = make_request(tmp_path, min_frames=10, n_workers=3, fovs="0-3")
    write_config(tmp_path, make_provenance(min_frames=10), request)
    config = yaml.safe_load((tmp_path / "processing_config.yaml").read_text())
    assert config["given"] == {
        "channels": {"phase": {"channel": 0}, "fluorescence": [{"channel": 1}]},
        "parameters": {"min_frames": 10},
    }
    assert config["resolved"]["channels"]["phase"] == {"channel": 0, "features": ["area"]}
    assert config["resolved"]["parameters"]["background_weight"] == 1.0
    assert not {"n_workers", "fovs", "batch_size", "overwrite"} & config["resolved"]["parameters"].keys()
    assert config["input"]["name"] == "film.nd2"
    assert str(tmp_path) not in (tmp_path / "processing_config.yaml").read_text()


def test_configuration_can_be_read_again(tmp_path: Path) -> None:
    provenance = make_provenance(recording="Zelle µ.nd2")
    write_config(tmp_path, provenance, make_request(tmp_path))
    assert read_config(tmp_path) == provenance


def test_preparing_tells_what_is_done(tmp_path: Path) -> None:
    run(tmp_path, [0, 3])
    assert prepare_folder(tmp_path, make_provenance(), make_request(tmp_path), [0, 1]) == {0, 3}


def test_an_unwritten_text_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    with pytest.raises(OutputError, match="folder"):
        write_text_atomically(tmp_path / "index", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def read_index(folder: Path) -> dict[str, Any]:
    index: dict[str, Any] = yaml.safe_load((folder / "processing_results.yaml").read_text())
    return index


def test_index_in_the_shape_of_pyama(tmp_path: Path) -> None:
    run(tmp_path, [10, 2])
    index = read_index(tmp_path)
    assert list(index) == ["output_dir", "channels", "results", "params", "time_units"]
    assert index["channels"] == {"pc": [0, ["area"]], "fl": [[1, ["intensity_total"]]]}
    assert index["time_units"] == "min"
    assert index["params"]["min_frames"] == 30
    assert list(index["results"]) == ["2", "10"]
    assert index["results"]["2"] == {
        "pc": [0, "fov_002/film_fov_002_pc_ch_0.npy"],
        "fl_background": [[1, "fov_002/film_fov_002_fl_background_ch_1.npy"]],
        "traces": "fov_002/film_fov_002_traces.csv",
    }
    assert str(tmp_path) not in (tmp_path / "processing_results.yaml").read_text()


def test_index_points_pyama_at_the_cell_numbers(tmp_path: Path) -> None:
    provenance = make_provenance()
    with FovDirectory(tmp_path, 0, provenance) as directory:
        for name in (directory.layout.labeled(0), directory.layout.tracked(0)):
            directory.stack(name, (0, 4, 4), "uint16")
        directory.commit(n_cells=0)
    write_index(tmp_path, provenance)
    assert read_index(tmp_path)["results"]["0"] == {"seg_labeled": [0, "fov_000/film_fov_000_seg_tracked_ch_0.npy"]}


def test_index_lists_only_what_is_whole_and_of_this_provenance(tmp_path: Path) -> None:
    for fov in range(3):
        write_fov(tmp_path, fov, make_provenance(min_frames=10) if fov == 1 else make_provenance())
    (tmp_path / "fov_002/film_fov_002_pc_ch_0.npy").unlink()
    assert write_index(tmp_path, make_provenance()) == [0]
    assert list(read_index(tmp_path)["results"]) == ["0"]


def test_index_of_nothing(tmp_path: Path) -> None:
    assert write_index(tmp_path, make_provenance()) == []
    assert read_index(tmp_path)["results"] == {}
