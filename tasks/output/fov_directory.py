"""One attempt at a FOV's directory, which is there whole or not at all."""

import errno
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from numpy.typing import DTypeLike
from zlib_ng import zlib_ng

from tasks.output.atomic import discard, durable, settle_moved_aside, sync_folder, write_durably
from tasks.output.conflicts import inspected_tables, refuse_fov_conflict, refuse_inspected
from tasks.output.inspecting import inspecting
from tasks.output.layout import MANIFEST_FILE, FovLayout, moved_aside_name, temporary_name
from tasks.output.manifest import FileRecord, Manifest, finished_manifest, package_versions
from tasks.output.npy_stack import NpyStackWriter
from tasks.output.os_errors import output_error, told
from tasks.output.provenance import Provenance
from tasks.output.stack import StackWriter
from tasks.output.write_back import WriteBack
from tasks.output.zarr_stack import Scale, ZarrStackWriter

_TAKEN = {errno.ENOTEMPTY, errno.EEXIST}


class FovDirectory:
    """The directory of one FOV while it is made, under a temporary name; `commit` gives it its own.

    Left without a commit, whether by an error or not, it disappears. Several attempts at the same FOV do not
    disturb each other: the first to commit wins, and the others find the work done.

    Parameters
    ----------
    output_dir
        The output folder; it exists.
    fov
        Number of the FOV.
    provenance
        What the result is made from.
    replace
        Whether a result of other input or parameters, or one that cannot be understood, makes way.

    Raises
    ------
    OutputConflictError
        On entering or committing, where something is in the way that is not to be replaced.
    OutputError
        Where the folder cannot be written.

    Examples
    --------
    ::

        with FovDirectory(output_dir, fov, provenance) as directory:
            phase = directory.stack(directory.layout.phase(0), (n_frames, height, width), "uint16")
            for t, frame in enumerate(frames):
                phase.write(t, frame)
            directory.write_text(directory.layout.traces, [table])
            directory.commit(n_cells=n_cells, warnings=warnings)
    """

    def __init__(self, output_dir: Path, fov: int, provenance: Provenance, *, replace: bool = False) -> None:
        self.layout = FovLayout(provenance.input.base_name, fov)
        self._provenance = provenance
        self._replace = replace
        self._target = output_dir / self.layout.directory
        self._temporary = output_dir / temporary_name(self.layout.directory)
        self._stacks: dict[str, StackWriter] = {}
        self._files: dict[str, FileRecord] = {}
        self._write_back = WriteBack()

    def __enter__(self) -> Self:
        refuse_fov_conflict(self._target, self._provenance, replace=self._replace)
        with told("create", self._temporary):
            self._temporary.mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._write_back.stop()
        for stack in self._stacks.values():
            stack.abandon()
        if self._temporary.exists():
            discard(self._temporary)

    def stack(self, name: str, shape: tuple[int, int, int], dtype: DTypeLike) -> StackWriter:
        """Begin an image stack of shape (T, H, W) as an `.npy` file; `commit` closes it."""
        self._stacks[name] = NpyStackWriter(self._temporary / name, shape, dtype)
        self._write_back.add(self._temporary / name)
        return self._stacks[name]

    def zarr_stack(self, name: str, shape: tuple[int, int, int], dtype: DTypeLike, scale: Scale) -> StackWriter:
        """Begin an image stack of shape (T, H, W) as an OME-Zarr image; `commit` closes it."""
        self._stacks[name] = ZarrStackWriter(self._temporary / name, shape, dtype, scale)
        return self._stacks[name]

    def write_text(self, name: str, pieces: Iterable[str]) -> None:
        """Write a file as UTF-8, piece by piece, line ends as they are."""
        self.write_bytes(name, (piece.encode() for piece in pieces))

    def write_bytes(self, name: str, pieces: Iterable[bytes]) -> None:
        """Write a file, piece by piece."""
        path, n_bytes, crc = self._temporary / name, 0, 0
        with told("write", path), durable(path) as file:
            for content in pieces:
                file.write(content)
                n_bytes, crc = n_bytes + len(content), zlib_ng.crc32(content, crc)
        self._files[name] = FileRecord(n_bytes, crc)

    def write_parquet(self, name: str, header: Sequence[str], pieces: Iterable[str]) -> None:
        """Write lines of CSV as a Parquet file, a row group for each piece."""
        from tasks.parquet_table import ParquetTable  # here, because it is seldom wanted and takes long to import

        path = self._temporary / name
        with told("write", path):
            with durable(path) as file:
                table = ParquetTable(file, header)
                for piece in pieces:
                    table.append(piece.encode())
                table.close()
            content = path.read_bytes()
        self._files[name] = FileRecord(len(content), zlib_ng.crc32(content))

    def commit(self, *, n_cells: int, warnings: Sequence[str] = ()) -> bool:
        """Finish all files and put the directory in place.

        Parameters
        ----------
        n_cells
            Cells in the table.
        warnings
            What a user should know of this FOV; part of the manifest.

        Returns
        -------
        bool
            True where this attempt is now in place; False where an equal result was there already, in which
            case this one is thrown away.

        Raises
        ------
        OutputConflictError
            Where another result is in the way that is not to be replaced.
        OutputError
            Where a stack has gaps, or the disk refuses.
        """
        self._write_back.stop()
        for stack in self._stacks.values():
            self._files.update(stack.close())
        manifest = Manifest(
            fov=self.layout.fov,
            fingerprint=self._provenance.fingerprint,
            input=self._provenance.input,
            parameters=self._provenance.parameters,
            versions=package_versions(),
            files=self._files,
            n_cells=n_cells,
            warnings=tuple(warnings),
        )
        with told("write", self._temporary / MANIFEST_FILE):
            write_durably(self._temporary / MANIFEST_FILE, manifest.to_json().encode())
            sync_folder(self._temporary)
        return self._put_in_place()

    def _put_in_place(self) -> bool:
        """Rename the directory; where others come and go under its final name, look again."""
        fingerprint = self._provenance.fingerprint
        while not self._take_free_place():
            if finished_manifest(self._target.parent, self.layout.fov, fingerprint):
                return False
            refuse_fov_conflict(self._target, self._provenance, replace=self._replace)
            if self._replace_target():
                break
        with told("write", self._target):
            sync_folder(self._target.parent)
        return True

    def _take_free_place(self) -> bool:
        """Rename to the final name; False where a directory with files bears it."""
        try:
            self._temporary.rename(self._target)
        except OSError as error:
            if error.errno in _TAKEN:
                return False
            raise output_error(error, "put in place", self._target) from error
        return True

    def _replace_target(self) -> bool:
        """Move aside what is there and take its place; False where another was faster.

        What was moved aside is removed only once a successor is in place; after a crash in between, it gets its
        name back.
        """
        aside = self._target.with_name(moved_aside_name(self._target.name))
        with told("replace", self._target), suppress(FileNotFoundError):
            self._target.rename(aside)
        try:
            if aside.exists():
                self._refuse_inspected_meanwhile(aside)
            return self._take_free_place()
        finally:
            if (doomed := settle_moved_aside(aside)) is not None:
                discard(doomed)

    def _refuse_inspected_meanwhile(self, aside: Path) -> None:
        """Refuse where a person has begun to mark cells since the directory was looked at."""
        # Whoever is at it now ends before the name is taken, and finds no directory of that name to write into.
        with inspecting(aside), told("read", aside):
            inspected = inspected_tables(aside)
        if inspected:
            refuse_inspected(self._target, inspected)
