"""A fit in chunks that can be computed anywhere, in any order, and are not computed twice.

The traces are put into a hidden folder once, arranged as arrays, from which each chunk reads its cells; there, too,
each chunk leaves what came out. The folder lasts until the results are written, so that a fit that was interrupted
goes on with the chunks that are missing. It belongs to one content of the trace file and one request: with others,
it is emptied.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from tasks.fitting.fit import FIT_VERSION, Block, CellListener, FitTable, fit_block, make_blocks
from tasks.fitting.request import FitSpecification, FittingRequest
from tasks.output import LOCK_FILE
from tasks.output.atomic import durable, replacing, sync_folder, write_text_atomically
from tasks.output.os_errors import told
from tasks.trace_files import TraceSet

_PLAN_FILE = "plan.json"
_FEWEST_CELLS = 4000
"""Cells of a chunk: at 0.05 ms for each, several times as long as it takes to start one."""
_MOST_CHUNKS = 32


@dataclass(frozen=True)
class Chunk:
    """Cells from `first` to before `stop`, in the order of the blocks that they are arranged in."""

    number: int
    first: int
    stop: int

    @property
    def n_cells(self) -> int:
        """How many they are."""
        return self.stop - self.first


@dataclass(frozen=True)
class FitWork:
    """A fit that is being computed; small, and fit to be sent to other processes."""

    folder: Path
    specification: FitSpecification
    fingerprint: str
    """SHA-256 of the trace file and of all that changes what comes out."""
    chunks: tuple[Chunk, ...]

    @property
    def n_cells(self) -> int:
        """Cells of all chunks."""
        return sum(chunk.n_cells for chunk in self.chunks)

    @classmethod
    def prepare(cls, folder: Path, traces: TraceSet, request: FittingRequest) -> "FitWork":
        """Arrange the traces in a folder, or find them there with what is finished.

        Raises
        ------
        OutputError
            Where the folder cannot be written.
        """
        specification = request.specification()
        fingerprint = _fingerprint(Path(request.csv_path), traces.column, specification)
        with told("write", folder):
            chunks = _read_plan(folder, fingerprint)
            if chunks is None:
                _empty(folder)
                _write_blocks(folder, make_blocks(traces.times_h, traces.values, traces.offsets, traces.fovs))
                sync_folder(folder)  # before there is a plan that vouches for what is in it
                chunks = _cut(traces.n_cells)
                plan = {"fingerprint": fingerprint, "chunks": [asdict(chunk) for chunk in chunks]}
                write_text_atomically(folder / _PLAN_FILE, json.dumps(plan))
        return cls(folder, specification, fingerprint, tuple(chunks))

    def is_finished(self, chunk: Chunk) -> bool:
        """Whether a chunk has left what came out."""
        return self._result(chunk).exists()

    def fit(self, chunk: Chunk, on_cells: CellListener | None = None) -> None:
        """Fit the cells of a chunk, unless that is done.

        Raises
        ------
        OutputError
            Where the result cannot be written.
        """
        if self.is_finished(chunk):
            return
        table = FitTable.empty(self.specification, chunk.n_cells)
        cells = np.empty(chunk.n_cells, np.int64)
        done = 0
        for block in _read_blocks(self.folder, chunk):
            part = slice(done, done + len(block.cells))
            listener = (lambda n, before=done: on_cells(before + n)) if on_cells is not None else None
            table.put(part, fit_block(block, self.specification, listener))
            cells[part] = block.cells
            done = part.stop
        result = self._result(chunk)
        # A result that is there counts as complete, also after a power failure.
        with told("write", result), replacing(result) as temporary, durable(temporary) as file:
            np.savez(file, allow_pickle=False, cells=cells, **table.arrays())

    def collect(self) -> FitTable:
        """Put together what all chunks have left."""
        table = FitTable.empty(self.specification, self.n_cells)
        for chunk in self.chunks:
            with told("read", self._result(chunk)), np.load(self._result(chunk)) as arrays:
                table.put(arrays["cells"], FitTable.of(self.specification, arrays))
        return table

    def remove(self) -> None:
        """Remove the folder, once the results are written; the plan first, so that no part of the rest counts."""
        with suppress(OSError):
            (self.folder / _PLAN_FILE).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _result(self, chunk: Chunk) -> Path:
        return self.folder / f"chunk_{chunk.number:04d}.npz"


def _cut(n_cells: int) -> list[Chunk]:
    size = max(_FEWEST_CELLS, -(-n_cells // _MOST_CHUNKS))
    return [Chunk(number, first, min(first + size, n_cells)) for number, first in enumerate(range(0, n_cells, size))]


def _write_blocks(folder: Path, blocks: list[Block]) -> None:
    """Write the arrays of all blocks one after the other, and how long they are."""
    for name, array in (
        ("lengths", np.array([[len(block.times_h), len(block.cells)] for block in blocks])),
        ("times", np.concatenate([block.times_h for block in blocks])),
        ("values", np.concatenate([block.values.ravel() for block in blocks])),
        ("cells", np.concatenate([block.cells for block in blocks])),
    ):
        with durable(folder / f"{name}.npy") as file:
            np.save(file, array)


def _read_blocks(folder: Path, chunk: Chunk) -> Iterator[Block]:
    """Read the cells of a chunk, block by block, and nothing else."""
    lengths = np.load(folder / "lengths.npy")
    times, values, cells = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("times", "values", "cells"))
    n_times, n_cells = lengths.T
    time_offsets, cell_offsets = np.append(0, np.cumsum(n_times)), np.append(0, np.cumsum(n_cells))
    value_offsets = np.append(0, np.cumsum(n_times * n_cells))
    first_block = int(np.searchsorted(cell_offsets, chunk.first, "right")) - 1
    stop_block = int(np.searchsorted(cell_offsets, chunk.stop, "left"))
    for block in range(first_block, stop_block):
        n = int(n_times[block])
        first, stop = max(chunk.first, cell_offsets[block]), min(chunk.stop, cell_offsets[block + 1])
        skipped, taken = int(first - cell_offsets[block]), int(stop - first)
        begin = int(value_offsets[block]) + skipped * n
        yield Block(
            np.array(times[time_offsets[block] : time_offsets[block + 1]]),
            np.array(values[begin : begin + taken * n]).reshape(taken, n),
            np.array(cells[first:stop]),
        )


def _fingerprint(path: Path, column: str, specification: FitSpecification) -> str:
    """SHA-256 of the file and of all that changes what comes out."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    asked = {"column": column, "fit_version": FIT_VERSION, **asdict(specification)}
    digest.update(json.dumps(asked, sort_keys=True).encode())
    return digest.hexdigest()


def _read_plan(folder: Path, fingerprint: str) -> list[Chunk] | None:
    try:
        plan = json.loads((folder / _PLAN_FILE).read_text())
        return [Chunk(**chunk) for chunk in plan["chunks"]] if plan["fingerprint"] == fingerprint else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _empty(folder: Path) -> None:
    """Remove everything but the lock, the plan first: without it the rest counts for nothing."""
    for path in [folder / _PLAN_FILE, *folder.iterdir()]:
        if path.name != LOCK_FILE:
            path.unlink(missing_ok=True)
