"""Merging beside its oracle and the plain way: `pytest benchmarks --benchmark-only`."""

from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.merging import FEATURES, make_tables, run_merge, run_row_by_row
from tasks.output.layout import FovLayout
from tests.oracles import merge as oracle

N_FOVS, N_CELLS, N_FRAMES = 4, 100, 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables of 24,000 rows."""
    folder = tmp_path_factory.mktemp("tables")
    make_tables(folder, N_FOVS, N_CELLS, N_FRAMES)
    return folder


def test_merge(benchmark: BenchmarkFixture, folder: Path) -> None:
    benchmark.group = "merge"
    benchmark.pedantic(lambda: run_merge(folder, N_FOVS, False), rounds=10, warmup_rounds=1)
    assert len(list((folder / "merged").iterdir())) == 2 * (1 + len(FEATURES))


def test_row_by_row(benchmark: BenchmarkFixture, folder: Path) -> None:
    benchmark.group = "merge"
    benchmark.pedantic(lambda: run_row_by_row(folder, N_FOVS), rounds=3, warmup_rounds=1)


def test_oracle(benchmark: BenchmarkFixture, folder: Path) -> None:
    layouts = [FovLayout("film", fov) for fov in range(N_FOVS)]
    tables = [folder / "results" / layout.directory / layout.traces for layout in layouts]
    benchmark.group = "merge"
    benchmark.pedantic(lambda: oracle.merge("all", tables), rounds=3, warmup_rounds=1)
