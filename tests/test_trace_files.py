"""The trace reader, held to its oracle; and what it says of files that are none."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import TraceFileError
from tasks.trace_files import TraceSet, describe_traces, read_traces
from tests.oracles import trace_files as oracle

DATA = Path(__file__).parent / "data"
TIDY = "time,fov,cell,value\n"
TABLE = (
    "fov,cell,frame,time,good,position_x,position_y,bbox_x0,bbox_y0,bbox_x1,bbox_y1,"
    "area_ch_0,intensity_total_ch_2,intensity_total_ch_10\n"
)
VALUES = st.one_of(
    st.floats(-1e6, 1e6).map(repr), st.sampled_from(["", "nan", "inf", "-inf", "0", "1e-300", "7", "-0.000001"])
)


def write(folder: Path, text: str, name: str = "traces.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


def as_cells(traces: TraceSet) -> dict[oracle.Key, list[oracle.Row]]:
    points = traces.times if traces.frames is None else traces.frames
    rows = list(zip(points.astype(float).tolist(), traces.times.tolist(), traces.values.tolist(), strict=True))
    bounds = zip(traces.offsets[:-1], traces.offsets[1:], strict=True)
    return {
        (fov, cell): rows[first:last]
        for fov, cell, (first, last) in zip(traces.fovs.tolist(), traces.cells.tolist(), bounds, strict=True)
    }


def same(ours: dict[oracle.Key, list[oracle.Row]], theirs: dict[oracle.Key, list[oracle.Row]]) -> bool:
    """Whether two readings are equal, in their order too, NaN being NaN."""
    return repr(list(ours.items())) == repr(list(theirs.items()))


@st.composite
def files(draw: st.DrawFn) -> tuple[str, bool]:
    """Text of a file in any order, and whether it is a table."""
    is_table = draw(st.booleans())
    keys = draw(
        st.lists(
            st.tuples(st.integers(0, 3), st.integers(1, 4), st.integers(0, 6)), min_size=1, max_size=40, unique=True
        )
    )
    period = draw(st.sampled_from([0.0, 1.0, 2.5])) if is_table else 2.5
    lines = []
    for number, (fov, cell, frame) in enumerate(keys):
        time, value = frame * period + 0.25 * fov, draw(VALUES)
        if is_table:
            good = "True" if number == 0 else draw(st.sampled_from(["True", "False", "TRUE", "1", "0", "false"]))
            lines.append(f"{fov},{cell},{frame},{time},{good},1,2,0,0,3,4,9,{value},5")
        else:
            lines.append(f"{time},{fov},{cell},{value}")
    end = draw(st.sampled_from(["\n", "\r\n"]))
    unit = draw(st.sampled_from(["", "# Time units: h\n"]))
    text = unit + (TABLE if is_table else TIDY) + "\n".join(lines) + draw(st.sampled_from(["", "\n"]))
    return text.replace("\n", end), is_table


@given(files())
def test_a_file_is_read_as_the_oracle_reads_it(
    tmp_path_factory: pytest.TempPathFactory, drawn: tuple[str, bool]
) -> None:
    text, is_table = drawn
    path = write(tmp_path_factory.mktemp("traces"), text)
    traces = read_traces(path)
    cells = oracle.read(path, "intensity_total_ch_2" if is_table else "value")
    assert same(as_cells(traces), cells)
    assert traces.offsets[0] == 0
    assert traces.time_units == ("h" if text.startswith("#") else "min")
    told = describe_traces(traces)
    assert told.n_cells == len(cells)
    assert told.n_fovs == len({fov for fov, _ in cells})
    assert told.n_rows == sum(map(len, cells.values()))
    assert told.n_gaps == oracle.gaps(cells)
    assert told.n_non_finite == oracle.n_non_finite(cells)
    times = [time for rows in cells.values() for _, time, _ in rows]
    assert told.time_range == (min(times), max(times))
    finite = [value for rows in cells.values() for _, _, value in rows if math.isfinite(value)]
    assert told.value_range == ((min(finite), max(finite)) if finite else None)


def test_pyamas_own_table_is_read_although_its_times_are_equal() -> None:
    path = DATA / "lisca_frames_0_5.pyama_traces.csv"
    with path.open() as file:
        rows = list(csv.DictReader(file))
    traces = read_traces(path)
    assert same(as_cells(traces), oracle.read(path, "intensity_total_ch_1"))
    told = describe_traces(traces)
    assert told.n_timepoints == len({row["frame"] for row in rows}) == 6
    assert told.time_range == (0.0, 0.0)


@pytest.mark.parametrize(
    ("line", "unit", "hours"),
    [
        ("", "min", 0.5),
        ("# Time units: min\n", "min", 0.5),
        ("# Time units: s\n", "s", 30 / 3600),
        ("# Time units: h\n", "h", 30.0),
        ("# time unit: Hours\n", "h", 30.0),
        ("\ufeff# Time units: h\n", "h", 30.0),
        ("# Time units: s,,,\r\n", "s", 30 / 3600),
        ("# exported in spring\n# Time units: s\n", "s", 30 / 3600),
    ],
)
def test_the_unit_of_the_time(tmp_path: Path, line: str, unit: str, hours: float) -> None:
    traces = read_traces(write(tmp_path, f"{line}{TIDY}30,0,1,5\n"))
    assert traces.time_units == unit
    assert traces.times_h.tolist() == [hours]
    assert traces.times.tolist() == [30.0]


def test_gaps_and_time_points_are_those_of_the_fov(tmp_path: Path) -> None:
    rows = [(0, 1, 0), (0, 1, 2), (0, 1, 3), (0, 2, 1), (0, 2, 2), (1, 1, 0.5), (1, 1, 1.5), (1, 1, 9)]
    text = TIDY + "".join(f"{time},{fov},{cell},{time}\n" for fov, cell, time in rows)
    told = describe_traces(read_traces(write(tmp_path, text)))
    assert (told.n_gaps, told.n_cells_with_gaps, told.n_timepoints) == (1, 1, 4)


def test_a_large_file_is_read_over_many_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.trace_files._BLOCK_SIZE", 1 << 12)
    rng = np.random.default_rng(0)
    lines = [f"{t},{fov},{cell},{rng.normal():.6f}\n" for fov in range(3) for cell in range(9) for t in range(50)]
    rng.shuffle(lines)
    path = write(tmp_path, TIDY + "".join(lines))
    assert same(as_cells(read_traces(path)), oracle.read(path, "value"))


@pytest.mark.parametrize(
    ("header", "asked", "chosen"),
    [
        (TABLE, None, "intensity_total_ch_2"),
        (TABLE, "area_ch_0", "area_ch_0"),
        (TABLE, "position_x", "position_x"),
        ("fov,cell,frame,time,good,intensity_mean_ch_1\n", None, "intensity_mean_ch_1"),
        ("fov,cell,frame,time,area_ch_0,intensity_total_ch_1\n", None, "intensity_total_ch_1"),
        (TIDY, None, "value"),
        (TIDY, "value", "value"),
        ("time,fov,cell,value,other\n", "other", "other"),
    ],
)
def test_which_column_is_read(tmp_path: Path, header: str, asked: str | None, chosen: str) -> None:
    names = header.strip().split(",")
    fields = ["1" if name == "good" else str(index) for index, name in enumerate(names)]
    traces = read_traces(write(tmp_path, header + ",".join(fields) + "\n"), asked)
    assert traces.column == chosen
    assert traces.values.tolist() == [names.index(chosen)]
    assert traces.columns == tuple(names)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected the columns time, fov, cell, value (a tidy file)"),
        ("a;b\n1;2\n", "found 'a;b'"),
        ("time;fov;cell;value\n", "separated by commas; found 'time;fov;cell;value'"),
        ("fov,cell,model_type,success\n0,1,trivial,True\n", "found 'fov,cell,model_type,success'"),
        ("time,fov,cell,value,value\n", "'value' is there more than once"),
        ("# Time units: days\n" + TIDY, "min, h or s in its first line; found 'days'"),
        (TIDY, "holds no trace: expected a row for each cell and time point; found no row"),
        (TIDY + "\n\n", "found no row below its header"),
        ("fov,cell,frame,time,good,area_ch_0\n0,1,0,0,False,3\n", "found 1 rows, none of them good"),
        (TIDY + "0,0,1,5\n1,0,1,bright\n", "line 3, column value: expected a number; found 'bright'"),
        ("# Time units: h\n" + TIDY + "\n0,0,1,5\n1,0,1.5,3\n", "line 5, column cell: expected a whole number"),
        (TIDY + "0,0,99999999999,5\n", "column cell: expected a whole number"),
        (TIDY + ",0,1,5\n", "line 2, column time: expected a number; found ''"),
        (TIDY + "inf,0,1,5\n", "line 2, column time: expected a number; found 'inf'"),
        (TIDY + "0,,1,5\n", "line 2, column fov: expected a whole number; found ''"),
        (TIDY + "0,0,1,5\n0,0,1\n", "line 3: expected 4 fields, as in the header; found 3"),
        (TIDY + "0,0,1,5,6\n", "line 2: expected 4 fields, as in the header; found 5"),
        ("fov,cell,frame,time,good,area_ch_0\n0,1,0,0,maybe,3\n", "column good: expected true or false; found 'maybe'"),
        ("fov,cell,frame,time,good,area_ch_0\n0,1,0,0,,3\n", "column good: expected true or false; found ''"),
        ("fov,cell,frame,time,good,area_ch_0,perimeter_ch_0\n", "found area_ch_0, perimeter_ch_0; name the column"),
        ("fov,cell,frame,time,good\n", "found no feature"),
        ("time,fov,cell,value\r3,0,1,5\r", "expected the columns time, fov, cell, value"),
        (TIDY + "3,0,1,5\n4,0,1,5\n3,0,1,6\n3,0,1,7\n", "found several of FOV 0, cell 1 at time 3 (2 rows too many"),
        ("fov,cell,frame,time,area_ch_0\n2,7,4,0,1\n2,7,4,9,1\n", "FOV 2, cell 7 at frame 4 (1 rows too many"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_told_what_was_expected_and_found(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(TraceFileError) as raised:
        read_traces(write(tmp_path, text))
    assert str(raised.value).startswith("traces.csv")
    assert said in str(raised.value)


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 99, b"\0" * 200_000, b"\xff\xfe" * 99])
def test_other_kinds_of_files_are_told_in_one_short_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "traces.csv"
    path.write_bytes(content)
    with pytest.raises(TraceFileError, match="is no trace file: expected") as raised:
        read_traces(path)
    assert len(str(raised.value)) < 2000


@pytest.mark.parametrize("asked", ["intensity_total_ch_3", "fov", "time", "good", ""])
def test_a_column_that_is_not_there_is_refused(tmp_path: Path, asked: str) -> None:
    path = write(tmp_path, TABLE + "0,1,0,0,True,1,2,0,0,3,4,9,5,5\n")
    with pytest.raises(TraceFileError, match=r"has no column of values .*; it has position_x.*intensity_total_ch_2"):
        read_traces(path, asked)


def test_a_file_that_is_not_there_is_told_by_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_traces(tmp_path / "nothing.csv")
