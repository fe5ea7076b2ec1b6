"""What a FOV leaves in other formats says the same as its `.npy` stacks and its CSV table."""

import json
import os
import shutil
import zlib
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from tasks.configuration import WorkflowRequest
from tasks.errors import OutputError
from tasks.fov_job import FovJob
from tasks.output import finished_manifest, verify, write_index
from tasks.output.stack_reading import open_stack
from tasks.output.zarr_stack import Scale, ZarrStackWriter
from tasks.plan import Plan, make_plan
from tasks.simulation import SimulationSettings, simulate
from tests.output_worker import content
from tests.test_output_stack import random_stack


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "film.nd2"
    simulate(SimulationSettings(n_fovs=1, n_frames=4, height=256, width=288), path)
    return path


def processed(film: Path, output_dir: Path, **parameters: Any) -> Plan:
    output_dir.mkdir(exist_ok=True)
    plan = make_plan(
        WorkflowRequest.parse(
            microscopy_path=str(film),
            output_dir=str(output_dir),
            channels={"phase": {"channel": 0}, "fluorescence": [{"channel": 1}]},
            parameters={"border_margin": 0, **parameters},
        )
    )
    FovJob(film, output_dir, plan.request.configuration(), plan.provenance, overwrite=False).run(0)
    return plan


@given(
    shape=st.tuples(st.integers(0, 4), st.integers(1, 40), st.integers(1, 40)),
    dtype=st.sampled_from(["uint8", "uint16", "float32"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_frames_in_any_order_are_what_the_zarr_library_reads(
    shape: tuple[int, int, int], dtype: str, seed: int
) -> None:
    stack = random_stack(shape, dtype, seed)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "stack.ome.zarr"
        writer = ZarrStackWriter(path, shape, dtype, Scale(10.0, 0.65))
        for t in np.random.default_rng(seed).permutation(shape[0]):
            writer.write(int(t), stack[t])
        files = writer.close()
        there = content(Path(folder))
        loaded = zarr.open_group(path, mode="r")["0"]
        assert isinstance(loaded, zarr.Array)
        assert (loaded.dtype, loaded.shape) == (stack.dtype, shape)
        np.testing.assert_array_equal(np.asarray(loaded[:]), stack)
    assert {name: (record.bytes, record.crc32) for name, record in files.items()} == {
        name: (len(data), zlib.crc32(data)) for name, data in there.items()
    }


def test_metadata_is_that_of_ome_zarr(tmp_path: Path) -> None:
    path = tmp_path / "film_pc_ch_0.ome.zarr"
    ZarrStackWriter(path, (3, 20, 30), "uint16", Scale(5.0, 0.65))
    image = json.loads((path / "zarr.json").read_text())
    assert image["zarr_format"] == 3
    (multiscale,) = image["attributes"]["ome"]["multiscales"]
    assert image["attributes"]["ome"]["version"] == "0.5"
    assert multiscale["name"] == "film_pc_ch_0"
    assert [(axis["name"], axis["type"], axis["unit"]) for axis in multiscale["axes"]] == [
        ("t", "time", "minute"), ("y", "space", "micrometer"), ("x", "space", "micrometer"),
    ]  # fmt: skip
    (dataset,) = multiscale["datasets"]
    assert dataset["coordinateTransformations"] == [{"type": "scale", "scale": [5.0, 0.65, 0.65]}]
    array = json.loads((path / dataset["path"] / "zarr.json").read_text())
    assert array["dimension_names"] == ["t", "y", "x"]
    assert array["chunk_grid"]["configuration"]["chunk_shape"] == [1, 20, 30]


def test_other_processes_write_by_way_of_the_sink(tmp_path: Path) -> None:
    stack = random_stack((6, 30, 20), "uint16")
    writer = ZarrStackWriter(tmp_path / "stack.ome.zarr", (6, 30, 20), "uint16", Scale(1.0, None))
    with ProcessPoolExecutor(2) as pool:
        for t, record in enumerate(pool.map(writer.sink.write, range(6), stack)):
            writer.record(t, record)
    writer.close()
    np.testing.assert_array_equal(np.asarray(zarr.open_array(tmp_path / "stack.ome.zarr" / "0", mode="r")[:]), stack)


def test_a_missing_frame_and_one_that_does_not_fit_are_errors(tmp_path: Path) -> None:
    writer = ZarrStackWriter(tmp_path / "stack.ome.zarr", (2, 4, 5), "uint16", Scale(1.0, None))
    with pytest.raises(ValueError, match=r"stack\.ome\.zarr holds frames of shape \(4, 5\)"):
        writer.write(0, np.zeros((5, 4), np.uint16))
    with pytest.raises(ValueError, match="has frames 0 to 1, not 2"):
        writer.write(2, np.zeros((4, 5), np.uint16))
    writer.write(0, np.zeros((4, 5), np.uint16))
    with pytest.raises(OutputError, match="frame 1 was never written"):
        writer.close()


def test_a_writer_that_was_left_over_brings_nothing_back(tmp_path: Path) -> None:
    writer = ZarrStackWriter(tmp_path / "stack.ome.zarr", (2, 4, 5), "uint16", Scale(1.0, None))
    writer.write(0, np.zeros((4, 5), np.uint16))
    shutil.rmtree(tmp_path / "stack.ome.zarr")
    with pytest.raises(OutputError, match="cannot write"):
        writer.write(1, np.zeros((4, 5), np.uint16))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("image_format", ["npy", "ome-zarr"])
def test_a_stack_that_is_cut_short_while_it_is_looked_at_is_an_error(
    film: Path, tmp_path: Path, image_format: str
) -> None:
    processed(film, tmp_path, image_format=image_format)
    ending = "npy" if image_format == "npy" else "ome.zarr"
    (path,) = (tmp_path / "fov_000").glob(f"*_pc_ch_0.{ending}")
    stack = open_stack(path)
    last = np.asarray(stack[3])
    assert last.shape == (256, 288)
    file = path if path.is_file() else path / "0" / "c" / "3" / "0" / "0"
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises((OSError, ValueError, RuntimeError)):
        np.asarray(stack[3])


def test_a_fov_as_ome_zarr_holds_the_same(film: Path, tmp_path: Path) -> None:
    plain, compressed = tmp_path / "plain", tmp_path / "compressed"
    processed(film, plain)
    plan = processed(film, compressed, image_format="ome-zarr")
    folder = compressed / "fov_000"
    stacks = sorted((plain / "fov_000").glob("*.npy"))
    assert len(stacks) == 5
    for stack in stacks:
        image = zarr.open_group(folder / f"{stack.stem}.ome.zarr", mode="r")["0"]
        assert isinstance(image, zarr.Array)
        expected = np.load(stack)
        assert image.dtype == expected.dtype
        np.testing.assert_array_equal(np.asarray(image[:]), expected)
    assert not list(folder.glob("*.npy"))
    for table in (plain / "fov_000").glob("*.csv"):
        assert (folder / table.name).read_bytes() == table.read_bytes()
    assert verify(folder) == []
    assert finished_manifest(compressed, 0, plan.provenance.fingerprint) is not None
    assert write_index(compressed, plan.provenance) == [0]
    files = content(compressed)
    processed(film, tmp_path / "again", image_format="ome-zarr")
    assert {name: data for name, data in files.items() if name.startswith("fov_")} == content(tmp_path / "again")


def test_a_damaged_image_is_computed_again(film: Path, tmp_path: Path) -> None:
    plan = processed(film, tmp_path, image_format="ome-zarr", keep="labels")
    before = content(tmp_path)
    chunk = next((tmp_path / "fov_000").glob("*seg_tracked*/0/c/2/0/0"))
    chunk.write_bytes(chunk.read_bytes()[:-1])
    assert any("bytes instead of" in problem for problem in verify(tmp_path / "fov_000"))
    assert finished_manifest(tmp_path, 0, plan.provenance.fingerprint) is None
    processed(film, tmp_path, image_format="ome-zarr", keep="labels")
    assert content(tmp_path) == before


def test_the_table_as_parquet_says_the_same(film: Path, tmp_path: Path) -> None:
    processed(film, tmp_path, parquet=True, keep="none")
    (table,) = (tmp_path / "fov_000").glob("*_traces.csv")
    frame = pd.read_parquet(table.with_suffix(".parquet"))
    pd.testing.assert_frame_equal(frame, pd.read_csv(table), check_dtype=False)
    assert pd.api.types.is_bool_dtype(frame.dtypes["good"])
    assert verify(tmp_path / "fov_000") == []


def test_a_table_without_cells_as_parquet_has_its_columns(film: Path, tmp_path: Path) -> None:
    processed(film, tmp_path, parquet=True, keep="none", min_area=100_000)
    (table,) = (tmp_path / "fov_000").glob("*_traces.csv")
    frame = pd.read_parquet(table.with_suffix(".parquet"))
    assert len(frame) == 0
    assert list(frame.columns) == table.read_text().strip().split(",")
