"""Recordings that are a pattern or a folder go through the flow as files do."""

from pathlib import Path

import pytest

from tests.flow_runs import film, request, run
from tests.format_writers import film_of, write_nd2, write_tiff_series, write_zarr_05

pytestmark = pytest.mark.usefixtures("prefect_api")


def test_a_pattern_and_a_folder_give_the_traces_of_a_file(tmp_path: Path) -> None:
    made = film_of(film(2, 3), with_times=False, period_min=0)
    write_tiff_series(tmp_path, made)
    recordings = {
        "film": write_nd2(tmp_path, made),
        "img": tmp_path / "img_{fov}_{time}_{channel}_{z}.tif",
        "zarr": write_zarr_05(tmp_path, made),
    }
    tables = {}
    for name, path in recordings.items():
        ended = run(request(path, tmp_path / "out" / name, keep="none"))
        assert ended.message == "2 FOVs finished, 2 cells"
        assert ended.flow_run().name == path.name
        tables[name] = [table.read_bytes() for table in sorted(ended.output_dir.glob("fov_*/*_traces.csv"))]
    assert tables["img"] == tables["zarr"] == tables["film"]
    assert len(tables["film"]) == 2
    again = run(request(recordings["img"], tmp_path / "out" / "img", keep="none"))
    assert again.task_runs() == {}
    other = run(request(recordings["zarr"], tmp_path / "out" / "img", keep="none"))
    assert "another input: img_{fov}_{time}_{channel}_{z}.tif (" in other.message
