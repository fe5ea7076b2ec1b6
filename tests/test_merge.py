"""Merging, held to its oracle, byte for byte; and that it leaves all files or none."""

import gc
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as arrow_parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import OutputConflictError, TraceFileError
from tasks.merge import MergedSample, merge
from tasks.merge_plan import MergePlan, make_merge_plan
from tasks.output.layout import is_temporary
from tasks.trace_files import describe_traces, read_traces
from tests.namespaces import mount_namespace
from tests.oracles import merge as oracle
from tests.tables import COLUMNS, merge_request, table_text, write_folder, write_table
from tests.test_merge_plan import make_fov

DATA = Path(__file__).parent / "data"
FILES = ("_area_ch_0.csv", "_intensity_total_ch_1.csv", "_merged.csv")


def plan_of(folder: Path, samples: Any, **fields: Any) -> MergePlan:
    plan = make_merge_plan(merge_request(folder, samples, **fields))
    plan.output_dir.mkdir(exist_ok=True)
    return plan


def written(output_dir: Path) -> dict[str, str]:
    return {path.name: path.read_bytes().decode() for path in sorted(output_dir.iterdir())}


def expected(plan: MergePlan) -> dict[str, str]:
    files: dict[str, str] = {}
    for sample in plan.samples:
        files |= oracle.merge(sample.name, sample.tables.values())
    return dict(sorted(files.items()))


@st.composite
def tables(draw: st.DrawFn, fov: int) -> str:
    """A table as a person may have left it: in any order, with bad rows, with any line ends."""
    keys = draw(st.lists(st.tuples(st.integers(1, 400), st.integers(0, 9)), max_size=12, unique=True))
    value = st.one_of(st.floats(-1e9, 1e9).map("{:.6f}".format), st.sampled_from(["", "nan", "0.000000", "1e-3"]))
    lines = [",".join(COLUMNS)]
    for cell, frame in keys:
        good = draw(st.sampled_from(["True", "True", "False", "TRUE", "FALSE", "1", "0"]))
        values = draw(st.lists(value, min_size=8, max_size=8))
        lines.append(",".join([str(fov), str(cell), str(frame), "0.000000", good, *values]))
        lines += draw(st.sampled_from([[], [], [""]]))
    end = draw(st.sampled_from(["\n", "\n", "\r\n"]))
    mark = draw(st.sampled_from(["", "\ufeff"]))
    return mark + end.join(lines) + draw(st.sampled_from(["", end]))


@given(st.data())
def test_merged_files_are_those_of_the_oracle(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("merge")
    for fov in range(3):
        write_table(folder / "results", fov, data.draw(tables(fov)))
        if data.draw(st.booleans()):
            write_table(folder / "results", fov, data.draw(tables(fov)), inspected=True)
    plan = plan_of(folder, {"control": "0, 2", "drug A (1.5 nM)": [1]})
    told: list[int] = []
    summaries = merge(plan, told.append)
    files = written(plan.output_dir)
    assert files == expected(plan)
    assert sorted(plan.files) == list(files)
    assert told == [1, 2, 3]
    for summary in summaries:
        rows = files[f"{summary.name}_merged.csv"].splitlines()[1:]
        assert summary.n_rows == len(rows)
        assert summary.n_cells == len({tuple(row.split(",")[:2]) for row in rows})
        assert set(summary.files) == {summary.name + ending for ending in FILES}


def test_an_inspected_table_takes_the_place_of_its_table(tmp_path: Path) -> None:
    write_folder(tmp_path / "results", [0, 1])
    corrected = table_text(0).replace("0,2,0,0.000000,True", "0,2,0,0.000000,False")
    write_table(tmp_path / "results", 0, corrected, inspected=True)
    (summary,) = merge(plan_of(tmp_path, {"all": "0-1"}))
    assert (summary.n_fovs, summary.n_cells, summary.n_rows) == (2, 4, 11)
    merged = (tmp_path / "merged" / "all_merged.csv").read_text()
    assert "0,2,1,10.000000,True" in merged
    assert "0,2,0,0.000000" not in merged


def test_equal_time_stamps_lose_no_row(tmp_path: Path) -> None:
    """PyAMA keyed rows by their time, and kept one of each cell here."""
    write_table(tmp_path / "results", 0, (DATA / "lisca_frames_0_5.pyama_traces.csv").read_text())
    (summary,) = merge(plan_of(tmp_path, {"all": 0}))
    assert summary.n_rows == 78
    tidy = (tmp_path / "merged" / "all_intensity_total_ch_1.csv").read_text().splitlines()
    assert tidy[:2] == ["# Time units: min", "time,fov,cell,value"]
    assert len(tidy) == 2 + 78
    assert {line.split(",")[0] for line in tidy[2:]} == {"0.000000"}


def test_merged_and_tidy_files_are_trace_files(tmp_path: Path) -> None:
    write_folder(tmp_path / "results", range(3))
    merge(plan_of(tmp_path, {"all": "0-2"}))
    merged = read_traces(tmp_path / "merged" / "all_merged.csv")
    tidy = read_traces(tmp_path / "merged" / "all_intensity_total_ch_1.csv")
    assert merged.column == "intensity_total_ch_1"
    assert merged.values.tolist() == tidy.values.tolist()
    assert describe_traces(merged) == describe_traces(tidy)
    assert describe_traces(tidy)[:4] == (3, 6, 18, 3)


def test_parquet_holds_what_the_csv_files_hold(tmp_path: Path) -> None:
    write_folder(tmp_path / "results", range(3))
    write_table(tmp_path / "results", 3, ",".join(COLUMNS) + "\n4,1,0,0.0,0" + 8 * ",1" + "\n")
    write_table(tmp_path / "results", 4, ",".join(COLUMNS) + "\n4,1,0,0.0,1" + 8 * "," + "\n")
    (summary,) = merge(plan_of(tmp_path, {"all": "0-4"}, parquet=True))
    assert len(summary.files) == 6
    plan = make_merge_plan(merge_request(tmp_path, {"all": "0-4"}, parquet=True))
    assert plan.files == list(summary.files)
    traces = read_traces(tmp_path / "merged" / "all_merged.csv")
    table = arrow_parquet.read_table(tmp_path / "merged" / "all_merged.parquet")
    assert table.column_names == list(COLUMNS)
    assert [str(table.schema.field(name).type) for name in COLUMNS[:6]] == ["int32"] * 3 + ["double", "bool", "double"]
    assert table["time"].to_pylist() == traces.times.tolist()
    assert table["intensity_total_ch_1"].to_pylist()[:-1] == traces.values[:-1].tolist()
    assert table["intensity_total_ch_1"].to_pylist()[-1] is None
    tidy = arrow_parquet.read_table(tmp_path / "merged" / "all_area_ch_0.parquet")
    assert tidy.column_names == ["time", "fov", "cell", "value"]
    assert tidy.schema.metadata[b"time_units"] == b"min"
    assert tidy["value"].to_pylist() == table["area_ch_0"].to_pylist()


def test_a_repeated_merge_replaces_its_files_with_the_same(tmp_path: Path) -> None:
    write_folder(tmp_path / "results", range(2))
    plan = plan_of(tmp_path, {"all": "0-1"})
    first = merge(plan)
    before = written(plan.output_dir)
    assert merge(plan) == first == [MergedSample("all", 2, 4, 12, first[0].files)]
    assert written(plan.output_dir) == before


def test_a_merge_without_parquet_leaves_none_of_an_earlier_one(tmp_path: Path) -> None:
    write_folder(tmp_path / "results", range(2))
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged" / "mine.parquet").write_text("mine")
    merge(plan_of(tmp_path, {"all": "0-1"}, parquet=True))
    merge(plan_of(tmp_path, {"all": "0"}))
    assert [path.name for path in (tmp_path / "merged").glob("*.parquet")] == ["mine.parquet"]


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_merge_to_parquet_that_is_broken_off_says_nothing_more(tmp_path: Path) -> None:
    write_folder(tmp_path / "results", range(2))

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge(plan_of(tmp_path, {"all": "0-1"}, parquet=True), stop)
    gc.collect()
    assert written(tmp_path / "merged") == {}


def test_tables_of_no_cell_are_merged_too(tmp_path: Path) -> None:
    write_table(tmp_path / "results", 0, ",".join(COLUMNS))
    (summary,) = merge(plan_of(tmp_path, {"none": "0"}))
    assert (summary.n_cells, summary.n_rows) == (0, 0)
    assert (tmp_path / "merged" / "none_merged.csv").read_text() == ",".join(COLUMNS) + "\n"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("1,1,0,0.0,True,1,2,3", "row 7: expected 13 fields"),
        ("1,1,0,0.0,True" + 9 * ",1", "row 7: expected 13 fields"),
        ('1,1,0,"0.0",True' + 8 * ",1", "row 7: expected 13 fields, separated by commas and without quotes"),
        ("1,1.5,0,0.0,True" + 8 * ",1", "row 7, column cell: expected a whole number; found '1.5'"),
        ("1,,0,0.0,True" + 8 * ",1", "row 7, column cell: expected a whole number; found ''"),
        ("1,9,-,0.0,True" + 8 * ",1", "row 7, column frame: expected a whole number; found '-'"),
        ("1,9,0,0.0,maybe" + 8 * ",1", "row 7, column good: expected true or false; found 'maybe'"),
        ("2,9,0,0.0,True" + 8 * ",1", "holds rows of FOV 2 where those of FOV 1 are expected"),
        ("1,2,1,0.0,True" + 8 * ",1", "expected one row for each cell and frame; found several of cell 2 in frame 1"),
    ],
)
def test_a_wrong_table_is_named_and_nothing_is_written(tmp_path: Path, row: str, said: str) -> None:
    write_folder(tmp_path / "results", [0])
    path = write_table(tmp_path / "results", 1, table_text(1) + row + "\n")
    plan = plan_of(tmp_path, {"first": 0, "second": 1})
    with pytest.raises(TraceFileError) as raised:
        merge(plan)
    assert str(raised.value).startswith(str(path))
    assert said in str(raised.value)
    assert written(plan.output_dir) == {}


def test_a_table_that_has_changed_since_it_was_looked_at_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "results", [0])
    plan = plan_of(tmp_path, {"all": 0})
    write_table(tmp_path / "results", 0, table_text(0).replace("area_ch_0", "area_ch_1"))
    with pytest.raises(TraceFileError, match="other columns than it had a moment ago"):
        merge(plan)


def test_a_table_of_other_parameters_that_has_come_since_it_was_looked_at_is_refused(tmp_path: Path) -> None:
    for fov in (0, 1):
        make_fov(tmp_path, fov, table_text(fov))
    plan = plan_of(tmp_path, {"all": "0-1"})
    shutil.rmtree(tmp_path / "results" / "fov_001")
    make_fov(tmp_path, 1, table_text(1), min_area=77)
    with pytest.raises(TraceFileError, match=r"film_fov_001_traces\.csv was made anew, from another recording or with"):
        merge(plan)
    assert written(plan.output_dir) == {}


def test_a_folder_in_the_place_of_a_file_keeps_all_files_out(tmp_path: Path) -> None:
    write_folder(tmp_path / "results", range(2))
    plan = plan_of(tmp_path, {"a": "0", "b": "1"})
    (plan.output_dir / "b_merged.csv").mkdir()
    with pytest.raises(OutputConflictError, match=r"b_merged\.csv is a folder where a file is to be"):
        merge(plan)
    assert [path.name for path in plan.output_dir.iterdir()] == ["b_merged.csv"]


def test_a_merge_that_is_broken_off_leaves_nothing(tmp_path: Path) -> None:
    write_folder(tmp_path / "results", range(3))
    plan = plan_of(tmp_path, {"a": "0-1", "b": "2"})
    seen: list[str] = []

    def stop(n_done: int) -> None:
        seen.extend(path.name for path in plan.output_dir.iterdir())
        if n_done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge(plan, stop)
    assert seen
    assert all(is_temporary(name) for name in seen)
    assert written(plan.output_dir) == {}


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    write_table(tmp_path / "results", 0, table_text(0, cells=range(1, 200), n_frames=50))
    request = merge_request(tmp_path, {"all": 0}, output_dir="/mnt/merged")
    program = (
        "import subprocess; from pathlib import Path; from tasks.merge import *; from tasks.merge_plan import *\n"
        "subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=300k', 'tmpfs', '/mnt'], check=True)\n"
        f"plan = make_merge_plan(MergeRequest(**{request.model_dump()!r})); plan.output_dir.mkdir()\n"
        "try: merge(plan)\n"
        "except Exception as error: print(type(error).__name__, error, list(plan.output_dir.iterdir()))\n"
    )
    ended = subprocess.run(
        [*mount_namespace(), sys.executable, "-c", program],
        capture_output=True, text=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert ended.stdout.startswith("OutputError cannot write /mnt/merged/"), ended.stderr
    assert "disk full" in ended.stdout
    assert ended.stdout.endswith(" []\n")
