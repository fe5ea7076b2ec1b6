"""Tables into a real database, and as AnnData: what is in the files is what arrives, once and whole."""

import csv
import math
import os
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
import sqlalchemy as sa

from tasks.errors import ExportError, TraceFileError
from tasks.export import database
from tasks.export.anndata_file import write_anndata
from tasks.export.database import export_table, opened_database
from tasks.export.sources import Source, find_sources
from tests.program import mistake, run_pyama
from tests.tables import table_text, write_folder, write_table
from tests.test_merge_plan import make_fov

POSTGRESQL = os.environ.get("PYAMA_TEST_POSTGRESQL", "postgresql+psycopg://postgres@127.0.0.1:5432/postgres")
FIT_TABLE = """\
fov,cell,model_type,success,r_squared,amplitude,rate,offset,amplitude_std_error,rate_std_error,offset_std_error,n_points,at_bound,reason
0,1,maturation,True,0.98,2.5,0.2,0.1,0.01,0.02,,30,offset rate,no error of offset
0,2,maturation,False,,,,,,,,2,,"too few points: 2, 4 are needed"
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/export.db"
        return
    name = f"pyama_test_{uuid.uuid4().hex[:12]}"
    server = sa.create_engine(POSTGRESQL, isolation_level="AUTOCOMMIT")
    try:
        with server.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name}"))
    except sa.exc.OperationalError as error:
        pytest.skip(f"no PostgreSQL server answers at {server.url.render_as_string()}: {error.orig}")
    try:
        yield server.url.set(database=name).render_as_string(hide_password=False)
    finally:
        with server.connect() as connection:
            connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
        server.dispose()


def rows_of(engine: sa.Engine, table: str) -> list[dict[str, Any]]:
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(sa.text(f"SELECT * FROM {table}")).mappings()]


def key(row: Mapping[str, Any]) -> tuple[int, int, int]:
    return int(row["fov"]), int(row["cell"]), int(row["frame"])


def the_table(folder: Path, text: str, name: str = "control_merged.csv") -> Source:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    (source,) = find_sources([folder / name])
    return source


def test_a_merged_table_arrives_as_it_stands(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_ROWS_IN_A_BATCH", 4)  # several batches, the last of them not full
    text = table_text(0, cells=(1, 2, 7)).replace("0,1,2,20.000000,True", "0,1,2,20.000000,False")
    lines = text.splitlines()
    lines[2] = ",".join([*lines[2].split(",")[:-1], ""])  # an undefined intensity
    source = the_table(tmp_path / "merged", "\n".join(lines) + "\n")
    heard: list[int] = []
    with opened_database(url) as engine:
        assert export_table(engine, source, heard.append) == "written"
        observations = rows_of(engine, "pyama_observation")
        measurements = rows_of(engine, "pyama_measurement")
        (table,) = rows_of(engine, "pyama_table")
    assert heard == [4, 8, 9]
    assert (table["experiment"], table["name"], table["kind"], table["n_rows"]) == (
        str(tmp_path / "merged"), "control_merged.csv", "traces", 9,
    )  # fmt: skip
    expected = list(csv.DictReader(lines))
    told = {key(row): row for row in observations}
    assert sorted(told) == [key(row) for row in expected]
    for row in expected:
        found = told[key(row)]
        assert bool(found["good"]) == (row["good"] == "True")
        assert found["time_min"] == float(row["time"])
        assert all(found[name] == float(row[name]) for name in ("position_x", "position_y", "bbox_x0", "bbox_y1"))
        assert found["parent"] is None
    values = {(*key(row), row["feature"], row["channel"]): row["value"] for row in measurements}
    assert values == {
        (*key(row), feature, channel): float(row[column]) if row[column] else None
        for row in expected
        for column, feature, channel in (("area_ch_0", "area", 0), ("intensity_total_ch_1", "intensity_total", 1))
    }


def test_exported_again_a_table_is_left_alone_or_replaced(url: str, tmp_path: Path) -> None:
    source = the_table(tmp_path / "merged", table_text(0))
    with opened_database(url) as engine:
        assert export_table(engine, source) == "written"
        before = rows_of(engine, "pyama_table")
        assert export_table(engine, source) == "unchanged"
        assert rows_of(engine, "pyama_table") == before
        source = the_table(tmp_path / "merged", table_text(0, cells=(5,)))
        assert export_table(engine, source) == "replaced"
        assert {row["cell"] for row in rows_of(engine, "pyama_observation")} == {5}
        assert {row["cell"] for row in rows_of(engine, "pyama_measurement")} == {5}
        other = find_sources([source.path], "another experiment")[0]
        assert export_table(engine, other) == "written"
        assert len(rows_of(engine, "pyama_table")) == 2


def test_an_inspected_table_takes_the_place_of_what_it_corrects(url: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "results", [0])
    with opened_database(url) as engine:
        (before,) = find_sources([folder])
        assert export_table(engine, before) == "written"
        write_table(folder, 0, table_text(0).replace(",True,", ",False,"), inspected=True)
        (after,) = find_sources([folder])
        assert export_table(engine, after) == "replaced"
        assert len(rows_of(engine, "pyama_observation")) == 6
        assert not any(row["good"] for row in rows_of(engine, "pyama_observation"))


def test_a_table_that_does_not_fit_leaves_what_was_there(url: str, tmp_path: Path) -> None:
    source = the_table(tmp_path / "merged", table_text(0))
    with opened_database(url) as engine:
        export_table(engine, source)
        before = [rows_of(engine, name) for name in ("pyama_table", "pyama_observation", "pyama_measurement")]
        twice = table_text(0) + table_text(0).splitlines()[1] + "\n"
        with pytest.raises(ExportError, match=r"control_merged\.csv was not exported: the database .* refuses"):
            export_table(engine, the_table(tmp_path / "merged", twice))
        with pytest.raises(TraceFileError, match=r"line 8, column time: expected a number; found 'x'"):
            export_table(engine, the_table(tmp_path / "merged", table_text(0) + table_text(0).splitlines()[1].replace("0.000000,True", "x,True", 1) + "\n"))  # fmt: skip # noqa: E501
        with pytest.raises(TraceFileError, match=r"line 2, column time: expected a number; found ''"):
            export_table(engine, the_table(tmp_path / "merged", table_text(0).replace(",0.000000,True", ",,True", 1)))
        assert [rows_of(engine, name) for name in ("pyama_table", "pyama_observation", "pyama_measurement")] == before


def test_times_are_stored_in_minutes(url: str, tmp_path: Path) -> None:
    source = the_table(tmp_path / "merged", "# Time units: h\n" + table_text(0, period_min=0.5))
    with opened_database(url) as engine:
        export_table(engine, source)
        assert sorted({row["time_min"] for row in rows_of(engine, "pyama_observation")}) == [0.0, 30.0, 60.0]


def test_fits_arrive_with_their_parameters(url: str, tmp_path: Path) -> None:
    source = the_table(tmp_path / "fits", FIT_TABLE, "control_fitted_maturation.csv")
    with opened_database(url) as engine:
        assert export_table(engine, source) == "written"
        good, failed = sorted(rows_of(engine, "pyama_fit"), key=lambda row: int(row["cell"]))
        parameters = {(row["cell"], row["parameter"]): row for row in rows_of(engine, "pyama_fit_parameter")}
    assert (good["model"], bool(good["success"]), good["r_squared"], good["n_points"]) == ("maturation", True, 0.98, 30)
    assert (bool(failed["success"]), failed["r_squared"], failed["reason"]) == (
        False, None, "too few points: 2, 4 are needed",
    )  # fmt: skip
    assert len(parameters) == 6
    rate, offset = parameters[1, "rate"], parameters[1, "offset"]
    assert (rate["value"], rate["std_error"], bool(rate["at_bound"])) == (0.2, 0.02, True)
    assert (offset["std_error"], bool(offset["at_bound"]), bool(parameters[1, "amplitude"]["at_bound"])) == (
        None, True, False,
    )  # fmt: skip
    assert parameters[2, "rate"]["value"] is None


def test_several_at_once_write_a_table_once(url: str, tmp_path: Path) -> None:
    if url.startswith("sqlite"):
        pytest.skip("SQLite lets one write at a time")
    source = the_table(tmp_path / "merged", table_text(0, cells=range(1, 200)))
    with opened_database(url) as engine:
        with ThreadPoolExecutor(4) as pool:
            outcomes = list(pool.map(lambda _: export_table(engine, source), range(4)))
        assert sorted(outcomes) == ["unchanged"] * 3 + ["written"]
        assert len(rows_of(engine, "pyama_observation")) == 199 * 3


def test_what_is_no_database_is_told_without_the_password(tmp_path: Path) -> None:
    def refused(url: str) -> str:
        with pytest.raises(ExportError) as told, opened_database(url):
            pass
        assert "secret" not in str(told.value)
        return str(told.value)

    assert "cannot be understood" in refused("results.db:secret")
    assert "does not know this kind" in refused("papyrus://me:secret@127.0.0.1/x")
    assert "driver" in refused("mysql+mysqlconnector://me:secret@127.0.0.1/x")
    assert "unable to open database file" in refused(f"sqlite:///{tmp_path}/nowhere/export.db")
    assert "127.0.0.1" in refused("postgresql+psycopg://me:secret@127.0.0.1:1/x")


def test_sources_of_a_processed_folder_are_its_inspected_tables(tmp_path: Path) -> None:
    write_folder(tmp_path / "results", range(3))
    inspected = write_table(tmp_path / "results", 1, table_text(1), inspected=True)
    found = find_sources([tmp_path / "results"])
    assert [source.name for source in found] == [f"film_fov_00{fov}_traces.csv" for fov in range(3)]
    assert found[1].path == inspected
    assert {source.experiment for source in found} == {str(tmp_path / "results")}


def test_tables_of_folders_of_the_same_name_do_not_replace_each_other(url: str, tmp_path: Path) -> None:
    for experiment in ("exp1", "exp2"):
        the_table(tmp_path / experiment / "merged", table_text(0))
    with opened_database(url) as engine:
        for experiment in ("exp1", "exp2"):
            (source,) = find_sources([tmp_path / experiment / "merged"])
            assert export_table(engine, source) == "written"
        assert len(rows_of(engine, "pyama_table")) == 2


def test_a_name_that_a_database_has_no_room_for_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / ("a" * 200) / ("b" * 200)
    folder.mkdir(parents=True)
    (folder / "control_merged.csv").write_text(table_text(0))
    with pytest.raises(TraceFileError, match=r"too long for the name of an experiment.* by --experiment"):
        find_sources([folder])
    assert len(find_sources([folder], "2026-11 siRNA")) == 1


def test_fovs_that_were_not_made_alike_are_refused(tmp_path: Path) -> None:
    make_fov(tmp_path, 0, table_text(0))
    make_fov(tmp_path, 1, table_text(1))
    assert len(find_sources([tmp_path / "results"])) == 2
    make_fov(tmp_path, 2, table_text(2), min_area=77)
    with pytest.raises(TraceFileError, match=r"results: FOV 2: from another recording or with other parameters than"):
        find_sources([tmp_path / "results"])


def test_a_database_that_does_not_return_what_is_inserted_will_do(tmp_path: Path) -> None:
    source = the_table(tmp_path / "merged", table_text(0))
    with opened_database(f"sqlite:///{tmp_path}/export.db") as engine:
        engine.dialect.insert_returning = False  # as MySQL's
        assert export_table(engine, source) == "written"
        assert {row["table_id"] for row in rows_of(engine, "pyama_observation")} == {1}


def test_all_that_cannot_be_exported_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "tidy.csv").write_text("time,fov,cell,value\n0,0,1,2\n")
    (tmp_path / "text.csv").write_text("hello\n")
    paths = [tmp_path / name for name in ("empty", "tidy.csv", "text.csv", "nowhere.csv")]
    with pytest.raises(TraceFileError) as told:
        find_sources(paths)
    for what in (
        "empty holds no table",
        "tidy.csv does not hold all",
        "text.csv is no trace file",
        "nowhere.csv cannot",
    ):
        assert what in str(told.value)
    for folder in ("a", "b"):
        the_table(tmp_path / folder, table_text(0))
    with pytest.raises(TraceFileError, match=r"would both be the table control_merged\.csv of the experiment x"):
        find_sources([tmp_path / "a", tmp_path / "b"], "x")


def test_anndata_holds_all_of_a_table(tmp_path: Path) -> None:
    text = table_text(0) + table_text(3).partition("\n")[2]
    lines = text.splitlines()
    lines[4] = ",".join([*lines[4].split(",")[:-1], ""])
    source = the_table(tmp_path / "merged", "\n".join(lines) + "\n")
    assert write_anndata(source, tmp_path / "control.h5ad") == 12
    data = anndata.read_h5ad(tmp_path / "control.h5ad")
    expected = list(csv.DictReader(lines))
    assert list(data.var_names) == ["area_ch_0", "intensity_total_ch_1"]
    assert list(data.var["unit"]) == ["px", "counts"]
    assert list(data.var["channel"]) == [0, 1]
    values = np.array([[float(row[name]) if row[name] else math.nan for name in data.var_names] for row in expected])
    np.testing.assert_array_equal(data.X, values)
    assert list(data.obs_names) == [f"{row['fov']}-{row['cell']}-{row['frame']}" for row in expected]
    assert list(data.obs["time"]) == [float(row["time"]) for row in expected]
    assert list(data.obs["track"]) == [f"{row['fov']}-{row['cell']}" for row in expected]
    np.testing.assert_array_equal(data.obsm["spatial"][:, 0], [float(row["position_x"]) for row in expected])
    assert data.uns["pyama"]["sample"] == "control"


def test_anndata_of_fits_or_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="holds fits"):
        write_anndata(the_table(tmp_path / "fits", FIT_TABLE, "a_fitted_maturation.csv"), tmp_path / "a.h5ad")
    header = table_text(0).splitlines()[0] + "\n"
    with pytest.raises(TraceFileError, match="no row below its header"):
        write_anndata(the_table(tmp_path / "merged", header), tmp_path / "a.h5ad")
    assert not (tmp_path / "a.h5ad").exists()


def test_the_command_tells_what_became_of_each_table(tmp_path: Path) -> None:
    write_folder(tmp_path / "results", range(2))
    command = ("export", tmp_path / "results", "--experiment", "siRNA")
    variables = {"PYAMA_DATABASE_URL": f"sqlite:///{tmp_path}/export.db"}
    first, again = (run_pyama(*map(str, command), environment=variables) for _ in range(2))
    assert first.returncode == again.returncode == 0, first.stderr
    assert first.stdout.splitlines() == [f"siRNA/film_fov_00{fov}_traces.csv: written" for fov in (0, 1)]
    assert again.stdout.splitlines() == [f"siRNA/film_fov_00{fov}_traces.csv: unchanged" for fov in (0, 1)]
    assert "pyama: 2 of 2 tables (100%)" in first.stderr


def test_mistakes_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(tmp_path / "results", range(2))
    assert "--database URL, or --anndata" in mistake(capsys, "export", tmp_path / "results")
    assert "takes one table; 2" in mistake(capsys, "export", tmp_path / "results", "--anndata", tmp_path / "x.h5ad")
    assert "cannot be read" in mistake(capsys, "export", tmp_path / "nowhere.csv", "--database", "sqlite://")
