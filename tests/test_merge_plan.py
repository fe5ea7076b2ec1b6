"""What a merge is held against before it begins: every mistake is told at once, and nothing is written."""

from pathlib import Path
from typing import Any

import pytest

from tasks.configuration import WorkflowRequest
from tasks.errors import InvalidParametersError, OutputBusyError, OutputError, PyamaError
from tasks.merge_plan import make_merge_plan
from tasks.output import MANIFEST_FILE, FovLayout, OutputLock, Provenance
from tasks.output.fov_directory import FovDirectory
from tests.tables import COLUMNS, merge_request, table_text, write_folder, write_table


def problems_of(folder: Path, samples: Any, **fields: Any) -> str:
    """Everything that is wrong, in one error that leaves nothing behind."""
    with pytest.raises(PyamaError) as raised:
        make_merge_plan(merge_request(folder, samples, **fields))
    assert not (folder / "merged").exists()
    return str(raised.value)


def make_fov(folder: Path, fov: int, table: str, **parameters: Any) -> None:
    """A FOV's directory with a manifest, as processing leaves it."""
    recording = folder / "film.nd2"
    recording.write_bytes(b"film")
    request = WorkflowRequest.parse(
        microscopy_path=str(recording),
        output_dir=str(folder),
        channels={"phase": {"channel": 0}},
        parameters=parameters,
    )
    provenance = Provenance.of(recording, {"T": 3}, request.configuration())
    (folder / "results").mkdir(exist_ok=True)
    with FovDirectory(folder / "results", fov, provenance) as directory:
        directory.write_text(FovLayout("film", fov).traces, table)
        directory.commit(n_cells=2)


def test_a_plan_names_the_tables_of_each_sample(tmp_path: Path) -> None:
    results = write_folder(tmp_path / "results", range(6))
    inspected = write_table(results, 4, table_text(4), inspected=True)
    plan = make_merge_plan(merge_request(tmp_path, {"control": "0-2, 4", "drug": [5, 3]}))
    assert plan.columns == COLUMNS
    assert plan.features == ("area_ch_0", "intensity_total_ch_1")
    assert plan.n_fovs == 6
    control, drug = plan.samples
    assert list(control.tables) == [0, 1, 2, 4]
    assert control.tables[1] == results / "fov_001" / "film_fov_001_traces.csv"
    assert control.tables[4] == inspected
    assert list(drug.tables) == [3, 5]
    assert not plan.output_dir.exists()


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    results = write_folder(tmp_path / "results", range(4))
    write_table(results, 1, table_text(1).replace("area_ch_0", "area_ch_5"))
    write_table(results, 2, "a;b\n1;2\n")
    samples = [
        {"name": "control", "fovs": "0-2"},
        {"name": "drug", "fovs": "2-3, 8-9"},
        {"name": "../../pwned", "fovs": "3"},
        {"name": "backwards", "fovs": "5-2"},
        {"name": "Control", "fovs": "0"},
        {"name": "later", "fovs": [12]},
    ]
    told = problems_of(tmp_path, samples)
    for problem in (
        "samples.2.name: a sample name begins with a letter or digit",
        "samples.3.fovs: range '5-2' ends before it starts",
        "sample 'Control' is there twice",
        "samples 'control' and 'drug' overlap: FOV 2 in both",
        "samples 'control' and 'Control' overlap: FOV 0 in both",
        "sample 'drug': there is no traces table of FOVs 8-9 in",
        "sample 'later': there is no traces table of FOV 12 in",
        "film_fov_001_traces.csv has other columns than film_fov_000_traces.csv",
        "not there: area_ch_0; too many: area_ch_5",
        "film_fov_002_traces.csv is no traces table: expected the columns fov, cell, frame, time, good and features",
    ):
        assert problem in told


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        ("samples: [", "samples.yaml is no samples file: line"),
        ("just text", "samples.yaml: request: "),
        ("samples: []", "samples.yaml: samples: List should have at least 1 item"),
        ("sample: 3", "samples.yaml: samples: is missing; sample: unknown field"),
        ("samples: 3", "samples.yaml: samples: "),
        ("samples: [3, {name: a, fovs: 0}]", "samples.yaml: samples.0: "),
        ("samples: [{name: a, fovs: 0-99999}, {name: b, fovs: 0-99999}]", "name 200000 FOVs; at most 100000"),
        ("samples: &x [*x]", "aliases (*) are not allowed"),
    ],
)
def test_a_wrong_samples_file_is_told(tmp_path: Path, samples: str, said: str) -> None:
    write_folder(tmp_path / "results", [0])
    assert said in problems_of(tmp_path, samples)


@pytest.mark.parametrize("name", ["../../pwned", "/etc/pwned", "a/b", "..", ".hidden", "a\0b", "", " a", "a\n", "a\\b"])
def test_a_sample_name_cannot_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    """PyAMA wrote `../../pwned_merged.csv` outside of the output folder."""
    write_folder(tmp_path / "results", [0])
    assert "samples.0.name: a sample name begins with a letter" in problems_of(tmp_path, [{"name": name, "fovs": 0}])


def test_many_problems_are_cut_short(tmp_path: Path) -> None:
    write_folder(tmp_path / "results", [0])
    told = problems_of(tmp_path, {f"sample {number}": number for number in range(1, 100)})
    assert "sample 'sample 20'" in told
    assert "sample 'sample 21'" not in told
    assert told.endswith("; and 79 more problems")


def test_a_huge_range_is_answered(tmp_path: Path) -> None:
    """It kept PyAMA's server busy for seconds."""
    write_folder(tmp_path / "results", range(2))
    assert "no traces table of FOVs 2-99999 in" in problems_of(tmp_path, {"all": "0-99999"})


def test_a_missing_input_folder_and_samples_file_are_told_together(tmp_path: Path) -> None:
    told = problems_of(tmp_path, {"a": 0}, sample_yaml=str(tmp_path / "nothing.yaml"))
    assert "nothing.yaml cannot be read: No such file or directory" in told
    assert f"input_dir: {tmp_path / 'results'} is no folder" in told


def test_samples_whose_files_would_have_the_same_name_are_refused(tmp_path: Path) -> None:
    header = ",".join(COLUMNS).replace("area_ch_0", "b_area_ch_0,area_ch_0")
    for fov in range(2):
        write_table(tmp_path / "results", fov, header + "\n")
    told = problems_of(tmp_path, {"a": 0, "a_b": 1})
    assert told == "samples 'a' and 'a_b' would both write a_b_area_ch_0.csv; rename one"


def test_a_file_whose_name_would_be_too_long_is_refused(tmp_path: Path) -> None:
    column = f"{'x' * 230}_ch_0"
    write_table(tmp_path / "results", 0, ",".join(COLUMNS).replace("area_ch_0", column) + "\n")
    told = problems_of(tmp_path, {"a": 0})
    assert told == f"sample 'a': the name of its file a_{column}.csv is too long; rename the sample, or the column"


def test_tables_of_two_recordings_in_one_folder_are_refused(tmp_path: Path) -> None:
    results = write_folder(tmp_path / "results", [0])
    write_table(results, 0, table_text(0), base_name="another")
    assert "fov_000 holds tables of several recordings (another, film); leave one" in problems_of(tmp_path, {"a": 0})


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    write_table(tmp_path / "results", 0, ",".join(COLUMNS) + ",area_ch_0\n")
    assert "a column is there more than once" in problems_of(tmp_path, {"a": 0})


def test_fovs_that_were_processed_differently_are_refused(tmp_path: Path) -> None:
    for fov in range(4):
        make_fov(tmp_path, fov, table_text(fov), min_frames=2 if fov in {1, 2} else 1)
    told = problems_of(tmp_path, {"a": "0-2", "b": 3})
    assert told.startswith("FOVs 1-2: from another recording or with other parameters than FOV 0")
    assert make_merge_plan(merge_request(tmp_path, {"a": "1-2"})).n_fovs == 2


def test_a_table_that_lacks_bytes_is_refused_unless_a_person_has_inspected_it(tmp_path: Path) -> None:
    make_fov(tmp_path, 0, table_text(0))
    assert (tmp_path / "results" / "fov_000" / MANIFEST_FILE).exists()
    write_table(tmp_path / "results", 0, table_text(0)[:-20])
    told = problems_of(tmp_path, {"a": 0})
    assert f"is damaged: it has {len(table_text(0)) - 20} bytes instead of {len(table_text(0))}" in told
    write_table(tmp_path / "results", 0, table_text(0, cells=[1]), inspected=True)
    assert make_merge_plan(merge_request(tmp_path, {"a": 0})).n_fovs == 1


def test_every_path_is_asked_for_before_it_is_read(tmp_path: Path) -> None:
    results = write_folder(tmp_path / "results", [0])
    elsewhere = write_folder(tmp_path / "elsewhere", [1])
    (results / "fov_001").symlink_to(elsewhere / "fov_001")
    (results / "fov_000" / "film_fov_000_traces_inspected.csv").symlink_to("/etc/passwd")
    asked: list[Path] = []

    def refuse(path: Path) -> None:
        asked.append(path)
        if not path.resolve().is_relative_to(tmp_path):
            raise InvalidParametersError(f"{path} may not be read")

    with pytest.raises(InvalidParametersError, match=r"inspected\.csv may not be read"):
        make_merge_plan(merge_request(tmp_path, {"a": "0-1"}), refuse)
    make_merge_plan(merge_request(tmp_path, {"a": "1"}), refuse)
    assert results / "fov_001" in asked
    assert results / "fov_001" / "film_fov_001_traces.csv" in asked


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "results", [0])
    with OutputLock(tmp_path / "results", "run 7"):
        with pytest.raises(OutputBusyError, match="folder in use by run run 7"):
            make_merge_plan(merge_request(tmp_path, {"a": 0}, output_dir=str(tmp_path / "results")))
        make_merge_plan(merge_request(tmp_path, {"a": 0}))


def test_an_output_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "results", [0])
    with pytest.raises(OutputError, match="is a file, not a folder"):
        make_merge_plan(merge_request(tmp_path, {"a": 0}, output_dir=str(tmp_path / "samples.yaml")))
