"""Marking cells as good or bad: beside the table, whole or not at all, several people at once, and used by merges."""

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.configuration import Configuration, WorkflowRequest
from tasks.errors import InvalidParametersError, OutputConflictError, OutputError, TraceFileError
from tasks.fov_table import FovTable
from tasks.inspection import mark_cells, read_history
from tasks.merge import merge
from tasks.merge_plan import make_merge_plan
from tasks.output import FovDirectory, FovLayout, Provenance
from tasks.output.inspecting import inspecting
from tests.api_server import BASE, api, error_of
from tests.engines import ROOT, wait_until
from tests.flow_runs import film, request
from tests.processed import process_film
from tests.tables import merge_request, table_text, write_table

LAYOUT = FovLayout("film", 3)
CELLS = [3, 7, 12]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A FOV with three cells."""
    return write_table(tmp_path / "results", 3, table_text(3, CELLS)).parent


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with api(tmp_path_factory.mktemp("home")) as client:
        yield client


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A processed FOV, whose table was given three cells."""
    out = process_film(tmp_path, film(1, 2), keep="none")
    write_table(out, 0, (table := table_text(0, CELLS, n_frames=2)))
    manifest = out / "fov_000" / "manifest.json"
    content = json.loads(manifest.read_text())
    content["files"]["film_fov_000_traces.csv"]["bytes"] = len(table)
    manifest.write_text(json.dumps(content))
    return out


def test_marks_are_kept_beside_the_table(directory: Path) -> None:
    table = directory / LAYOUT.traces
    before = table.read_bytes()
    assert mark_cells(directory, LAYOUT, {7: False}, "Ada") == {3: True, 7: False, 12: True}
    assert mark_cells(directory, LAYOUT, {12: False, 7: True}, "Grace") == {3: True, 7: True, 12: False}
    assert table.read_bytes() == before
    expected = before.decode().replace("True", "?")
    lines = (directory / LAYOUT.inspected).read_text()
    assert lines.replace("True", "?").replace("False", "?") == expected
    marked = pd.read_csv(directory / LAYOUT.inspected)
    assert set(marked.query("not good")["cell"]) == {12}
    first, second = read_history(directory, LAYOUT)
    assert (first.who, first.cells, second.who, second.cells) == ("Ada", {7: False}, "Grace", {7: True, 12: False})
    assert first.when <= second.when
    assert first.when.endswith("+00:00")


@settings(max_examples=10)
@given(st.lists(st.dictionaries(st.sampled_from(CELLS), st.booleans(), min_size=1), max_size=6))
def test_the_last_mark_of_each_cell_counts(
    tmp_path_factory: pytest.TempPathFactory, marks: list[dict[int, bool]]
) -> None:
    directory = write_table(tmp_path_factory.mktemp("marked"), 3, table_text(3, CELLS)).parent
    expected = dict.fromkeys(CELLS, True)
    for some in marks:
        expected |= some
        assert mark_cells(directory, LAYOUT, some, "Ada") == expected
    if marks:
        assert FovTable(directory / LAYOUT.inspected).good() == expected


def test_a_table_from_a_spreadsheet_is_built_on(directory: Path) -> None:
    text = table_text(3, CELLS).replace("True", "TRUE").replace("\n", "\r\n")
    lines = text.splitlines(keepends=True)
    lines[1] = lines[1].replace("TRUE", "FALSE")
    (directory / LAYOUT.inspected).write_bytes(("\ufeff" + "".join(lines)).encode())
    assert FovTable(directory / LAYOUT.inspected).good() == {3: False, 7: True, 12: True}
    assert mark_cells(directory, LAYOUT, {7: False}, "Ada") == {3: False, 7: False, 12: True}
    assert (directory / LAYOUT.inspected).read_text().count("TRUE") == 5


def test_cells_that_are_not_there_are_named(directory: Path) -> None:
    with pytest.raises(InvalidParametersError, match=r"FOV 3 has no cell 1, 8; nothing was marked"):
        mark_cells(directory, LAYOUT, {3: False, 8: True, 1: True}, "Ada")
    assert not (directory / LAYOUT.inspected).exists()
    assert read_history(directory, LAYOUT) == []


def test_what_is_damaged_is_not_written_over(directory: Path) -> None:
    history = directory / LAYOUT.inspection_history
    history.write_text("{")
    with pytest.raises(OutputError, match="damaged"):
        mark_cells(directory, LAYOUT, {3: False}, "Ada")
    assert history.read_text() == "{"
    history.unlink()
    (directory / LAYOUT.inspected).write_text("cell,good\n3,maybe\n")
    with pytest.raises(TraceFileError, match="lacks the columns"):
        mark_cells(directory, LAYOUT, {3: False}, "Ada")
    assert (directory / LAYOUT.inspected).read_text() == "cell,good\n3,maybe\n"


def test_without_room_for_the_table_the_history_stays_too(directory: Path) -> None:
    mark_cells(directory, LAYOUT, {7: False}, "Ada")
    before = {path: path.read_bytes() for path in directory.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, limits[1]))
    try:
        with pytest.raises(OutputError, match="file too large"):
            mark_cells(directory, LAYOUT, {3: False}, "Grace")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path: path.read_bytes() for path in directory.iterdir()} == before


def program(text: str, directory: Path) -> "subprocess.Popen[str]":
    """Run a program of its own, which knows the directory of a FOV."""
    beginning = (
        "from pathlib import Path\n"
        "from tasks.inspection import mark_cells\n"
        "from tasks.output import FovLayout\n"
        "from tasks.output.inspecting import inspecting\n"
        f"directory, layout = Path({str(directory)!r}), FovLayout('film', 3)\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", beginning + text], cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_people_who_mark_at_once_lose_nothing(tmp_path: Path) -> None:
    cells = range(1, 25)
    directory = write_table(tmp_path, 3, table_text(3, cells)).parent
    marking = "for cell in range({0}, {0} + 4): mark_cells(directory, layout, {{cell: False}}, f'person {{cell}}')"
    processes = [program(marking.format(first), directory) for first in (1, 5, 9)]

    def mark(cell: int) -> None:
        mark_cells(directory, LAYOUT, {cell: False}, f"person {cell}")

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(mark, cells[12:]))
    for process in processes:
        _, told = process.communicate(timeout=60)
        assert process.returncode == 0, told
    assert not any(FovTable(directory / LAYOUT.inspected).good().values())
    assert {done.who for done in read_history(directory, LAYOUT)} == {f"person {cell}" for cell in cells}


def test_whoever_is_killed_holds_nobody_up(directory: Path) -> None:
    holding = "with inspecting(directory):\n    (directory / 'held').touch()\n    input()"
    process = program(holding, directory)
    wait_until((directory / "held").exists, "the other has its turn")
    process.kill()
    process.communicate()
    assert mark_cells(directory, LAYOUT, {3: False}, "Ada")[3] is False


def test_merges_leave_bad_cells_out(directory: Path, tmp_path: Path) -> None:
    mark_cells(directory, LAYOUT, {7: False}, "Ada")
    (tmp_path / "merged").mkdir()
    merge(make_merge_plan(merge_request(tmp_path, {"all": [3]})))
    assert set(pd.read_csv(tmp_path / "merged" / "all_merged.csv")["cell"]) == {3, 12}


def test_processing_never_replaces_an_inspected_fov(client: httpx.Client, out: Path) -> None:
    answer = client.post(
        f"{BASE}/quality-control/cells", json={"output_dir": str(out), "fov": 0, "cells": {"3": False}, "who": "Ada"}
    )
    assert answer.status_code == 200
    with pytest.raises(OutputConflictError, match=r"the work of a person"):
        process_film(out.parent, film(1, 2), keep="none", min_iou=0.2, overwrite=True)
    assert FovTable(out / "fov_000" / "film_fov_000_traces_inspected.csv").good()[3] is False


def test_a_fov_that_is_marked_while_it_is_computed_anew_stays(out: Path) -> None:
    """Somebody marks cells between the moment a run looks at a FOV and the moment it replaces it."""
    layout = FovLayout("film", 0)
    other = Provenance.of(out.parent / "film.nd2", {}, _configuration(min_iou=0.3))
    with FovDirectory(out, 0, other, replace=True) as attempt:
        attempt.write_text(layout.traces, ["anew\n"])
        mark_cells(out / "fov_000", layout, {3: False}, "Ada")
        with pytest.raises(OutputConflictError, match="the work of a person"):
            attempt.commit(n_cells=0)
    assert FovTable(out / "fov_000" / layout.inspected).good()[3] is False
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == ["fov_000"]


def test_a_mark_never_ends_up_in_another_result(out: Path) -> None:
    """Somebody waits for a turn while the FOV is replaced."""
    layout = FovLayout("film", 0)
    other = Provenance.of(out.parent / "film.nd2", {}, _configuration(min_iou=0.3))
    with ThreadPoolExecutor(1) as threads:
        with inspecting(out / "fov_000"):
            waiting = threads.submit(mark_cells, out / "fov_000", layout, {3: False}, "Ada")
            (out / "fov_000").rename(out / "aside")
            with FovDirectory(out, 0, other) as attempt:
                attempt.write_text(layout.traces, ["anew\n"])
                attempt.commit(n_cells=0)
        with pytest.raises((OutputError, TraceFileError)):
            waiting.result(30)
    assert not (out / "fov_000" / layout.inspected).exists()


def _configuration(**parameters: Any) -> Configuration:
    return WorkflowRequest.parse(**request(Path("/film.nd2"), Path("/out"), **parameters)).configuration()


def ask(client: httpx.Client, out: Path, **changes: Any) -> httpx.Response:
    body = {"output_dir": str(out), "fov": 0, "cells": {"3": False, "7": True}, "who": " Ada ", **changes}
    return client.post(f"{BASE}/quality-control/cells", json=body)


def test_the_api_marks_cells_and_tells_them(client: httpx.Client, out: Path) -> None:
    query: dict[str, Any] = {"output_dir": str(out), "fov": 0}
    before = client.get(f"{BASE}/quality-control/cells", params=query).json()
    assert (before["inspected_by"], before["inspected_at"]) == (None, None)
    assert before["cells"] == [{"cell": cell, "good": True} for cell in CELLS]
    answer = ask(client, out).json()
    assert answer == {
        "success": True,
        "error": None,
        "message": "2 cells of FOV 0 marked: now 2 good, 1 bad",
        "inspected_file": str(out / "fov_000" / "film_fov_000_traces_inspected.csv"),
        "n_good": 2,
        "n_bad": 1,
    }
    after = client.get(f"{BASE}/quality-control/cells", params=query).json()
    assert after["inspected_by"] == "Ada"
    assert after["inspected_at"].endswith("+00:00")
    assert [cell["good"] for cell in after["cells"]] == [False, True, True]
    (fov,) = client.get(f"{BASE}/visualization/folder", params=query).json()["fovs"]
    assert fov["inspected"] is True
    assert fov["traces_file"] == answer["inspected_file"]
    traces = client.get(f"{BASE}/visualization/traces", params=query).json()
    assert [cell["good"] for cell in traces["cells"]] == [False, True, True]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"cells": {"8": False, "1000": True}}, "no cell 8, 1000"),
        ({"cells": {}}, "cells"),
        ({"cells": {"three": False}}, "cells"),
        ({"cells": {"3": "bad"}}, "cells"),
        ({"cells": {"0": True}}, "cells"),
        ({"who": ""}, "who"),
        ({"who": " \t"}, "who"),
        ({"who": "x" * 101}, "who"),
        ({"who": "Ada\nGrace"}, "who"),
        ({"who": "Ada\x1b[2J"}, "who"),
        ({"who": "Ada\n"}, "who"),
        ({"fov": -1}, "fov"),
        ({"why": "because"}, "why"),
    ],
)
def test_wrong_marks_are_refused(client: httpx.Client, out: Path, changes: dict[str, Any], told: str) -> None:
    assert told in error_of(ask(client, out, **changes), 400, "INVALID_PARAMETERS")
    assert not (out / "fov_000" / "film_fov_000_traces_inspected.csv").exists()


def test_only_fovs_that_are_done_can_be_marked(client: httpx.Client, out: Path) -> None:
    assert "FOV 5 is not done" in error_of(ask(client, out, fov=5), 404, "FILE_NOT_FOUND")
    assert "does not exist" in error_of(ask(client, out / "nowhere"), 404, "FILE_NOT_FOUND")
