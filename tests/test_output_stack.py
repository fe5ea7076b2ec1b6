import multiprocessing
import resource
import subprocess
import sys
import zlib
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tasks.errors import OutputError
from tasks.output import NpyStackWriter
from tests.namespaces import mount_namespace

ROOT = Path(__file__).parents[1]


def random_stack(shape: tuple[int, int, int], dtype: str, seed: int = 0) -> NDArray[Any]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 2, shape).astype(dtype) if dtype == "bool" else rng.integers(0, 250, shape).astype(dtype)


@given(
    shape=st.tuples(st.integers(0, 7), st.integers(0, 9), st.integers(0, 9)),
    dtype=st.sampled_from(["uint8", "uint16", ">u2", "float32", "float64", "bool"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_checksum_and_content_in_any_order_of_frames(shape: tuple[int, int, int], dtype: str, seed: int) -> None:
    stack = random_stack(shape, dtype, seed)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "stack.npy"
        writer = NpyStackWriter(path, shape, dtype)
        for t in np.random.default_rng(seed).permutation(shape[0]):
            writer.write(int(t), stack[t])
        (record,) = writer.close().values()
        content = path.read_bytes()
        loaded = np.load(path)
    assert (record.bytes, record.crc32) == (len(content), zlib.crc32(content))
    assert loaded.dtype == stack.dtype
    np.testing.assert_array_equal(loaded, stack)


def test_file_is_the_one_that_numpy_writes(tmp_path: Path) -> None:
    stack = random_stack((4, 5, 6), "uint16")
    np.save(tmp_path / "numpy.npy", stack)
    writer = NpyStackWriter(tmp_path / "stack.npy", stack.shape, stack.dtype)
    for t, frame in enumerate(stack):
        writer.write(t, frame)
    writer.close()
    assert (tmp_path / "stack.npy").read_bytes() == (tmp_path / "numpy.npy").read_bytes()


def test_many_threads_write_one_stack(tmp_path: Path) -> None:
    stack = random_stack((200, 64, 64), "uint16")
    writer = NpyStackWriter(tmp_path / "stack.npy", stack.shape, stack.dtype)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(writer.write, reversed(range(200)), reversed(stack)))
    (record,) = writer.close().values()
    assert record.crc32 == zlib.crc32((tmp_path / "stack.npy").read_bytes())
    np.testing.assert_array_equal(np.load(tmp_path / "stack.npy"), stack)


def test_stack_larger_than_the_write_back_interval(tmp_path: Path) -> None:
    frame = random_stack((1, 2048, 2048), "float32")[0]
    writer = NpyStackWriter(tmp_path / "stack.npy", (5, *frame.shape), frame.dtype)
    for t in range(5):
        writer.write(t, frame + t)
    (record,) = writer.close().values()
    assert record.crc32 == zlib.crc32((tmp_path / "stack.npy").read_bytes())


def test_frames_that_are_not_contiguous(tmp_path: Path) -> None:
    wide = random_stack((2, 8, 20), "uint16")
    writer = NpyStackWriter(tmp_path / "stack.npy", (2, 8, 10), "uint16")
    for t in range(2):
        writer.write(t, wide[t, :, ::2])
    writer.close()
    np.testing.assert_array_equal(np.load(tmp_path / "stack.npy"), wide[:, :, ::2])


@pytest.fixture
def writer(tmp_path: Path) -> NpyStackWriter:
    return NpyStackWriter(tmp_path / "stack.npy", (3, 4, 5), "uint16")


def test_a_missing_frame_is_an_error(writer: NpyStackWriter) -> None:
    for t in (0, 2):
        writer.write(t, np.zeros((4, 5), np.uint16))
    with pytest.raises(OutputError, match="frame 1 was never written"):
        writer.close()


@pytest.mark.parametrize("t", [-1, 3])
def test_a_frame_outside_the_film_is_refused(writer: NpyStackWriter, t: int) -> None:
    with pytest.raises(ValueError, match="has frames 0 to 2"):
        writer.write(t, np.zeros((4, 5), np.uint16))


def test_a_frame_of_another_shape_is_refused(writer: NpyStackWriter) -> None:
    with pytest.raises(ValueError, match=r"shape \(4, 5\)"):
        writer.write(0, np.zeros((5, 4), np.uint16))


def test_a_frame_of_another_type_is_refused(writer: NpyStackWriter) -> None:
    with pytest.raises(ValueError, match="type uint16"):
        writer.write(0, np.zeros((4, 5), np.float32))


def test_a_frame_that_is_written_again_counts_once(writer: NpyStackWriter, tmp_path: Path) -> None:
    for value in (7, 5):
        for t in range(3):
            writer.write(t, np.full((4, 5), value, np.uint16))
    (record,) = writer.close().values()
    assert record.crc32 == zlib.crc32((tmp_path / "stack.npy").read_bytes())
    assert (np.load(tmp_path / "stack.npy") == 5).all()


def test_another_process_writes_by_way_of_the_sink(writer: NpyStackWriter, tmp_path: Path) -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        for t in range(3):
            writer.record(t, pool.submit(writer.sink.write, t, np.full((4, 5), t, np.uint16)).result())
    (record,) = writer.close().values()
    assert record.crc32 == zlib.crc32((tmp_path / "stack.npy").read_bytes())


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "stack.npy").write_text("precious")
    with pytest.raises(OutputError, match="File exists"):
        NpyStackWriter(tmp_path / "stack.npy", (3, 4, 5), "uint16")
    assert (tmp_path / "stack.npy").read_text() == "precious"


_WRITE_10_MB = """
import sys
from pathlib import Path
import numpy as np
from tasks.errors import OutputError
from tasks.output import NpyStackWriter
writer = NpyStackWriter(Path(sys.argv[1]) / "stack.npy", (10, 1000, 500), "uint16")
try:
    for t in range(10):
        writer.write(t, np.full((1000, 500), t, np.uint16))
    writer.close()
except OutputError as error:
    print(type(error.__cause__).__name__, error.__cause__.errno, error)
"""


def test_a_file_size_limit_is_reported_with_its_reason(tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3_300_000, 3_300_000))

    ended = subprocess.run(
        [sys.executable, "-c", _WRITE_10_MB, tmp_path], cwd=ROOT, preexec_fn=limit, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("OSError 27 cannot write")
    assert "file too large" in ended.stdout
    assert "needs 10.0 MB" in ended.stdout


def test_a_full_disk_is_reported_with_its_reason(tmp_path: Path) -> None:
    script = f'mount -t tmpfs -o size=4m tmpfs "$1" && exec "{sys.executable}" -c "$2" "$1"'
    ended = subprocess.run(
        [*mount_namespace(), "sh", "-c", script, "sh", tmp_path, _WRITE_10_MB],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("OSError 28 cannot write")
    assert "disk full (the file needs 10.0 MB, 0 bytes are free)" in ended.stdout
