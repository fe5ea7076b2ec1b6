"""The manifest of a FOV's directory: what is in it and how it came about, never when or where."""

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError
from zlib_ng import zlib_ng

from tasks.output.fingerprint import Fingerprint
from tasks.output.layout import MANIFEST_FILE, FovLayout, fov_directory, zarr_name
from tasks.output.os_errors import output_error
from tasks.output.provenance import InputFile, Provenance

_PACKAGES = (
    "pyama-backend",
    "btrack",
    "cellpose",
    "dask",
    "dask-image",
    "nd2",
    "numba",
    "numpy",
    "opencv-python-headless",
    "prefect",
    "scikit-image",
    "scipy",
    "zlib-ng",
)
_CHUNK = 1 << 20


@dataclass(frozen=True)
class FileRecord:
    """Size and checksum of a file."""

    bytes: int
    crc32: int


@dataclass(frozen=True)
class Manifest:
    """Content of `manifest.json`."""

    fov: int
    fingerprint: Fingerprint
    input: InputFile
    parameters: Mapping[str, Any]
    versions: Mapping[str, str]
    """Of Python and of the packages that matter; recorded, never compared."""
    files: Mapping[str, FileRecord]
    """All files but the manifest itself, by name."""
    n_cells: int
    warnings: tuple[str, ...] = ()
    schema: Literal[1] = 1

    @property
    def provenance(self) -> Provenance:
        """What it has in common with the other FOVs of its run."""
        return Provenance(self.fingerprint, self.input, self.parameters)

    @property
    def layout(self) -> FovLayout:
        """Names of the FOV's files."""
        return FovLayout(self.input.base_name, self.fov)

    def stack_files(self, name: str) -> dict[str, FileRecord]:
        """Files of an image stack, by its name as an `.npy` file; none where it was not kept."""
        if name in self.files:
            return {name: self.files[name]}
        folder = zarr_name(name) + "/"
        return {file: record for file, record in self.files.items() if file.startswith(folder)}

    def to_json(self) -> str:
        """Text of `manifest.json`: sorted keys, the same text for the same content."""
        return json.dumps(_ADAPTER.dump_python(self, mode="json"), indent=2, sort_keys=True) + "\n"


_ADAPTER = TypeAdapter(Manifest)


def read_manifest(directory: Path) -> Manifest | None:
    """Manifest of a FOV's directory; None where there is none, or none that can be understood.

    Raises
    ------
    OutputError
        Where there is one, but the system does not let it be read.
    """
    path = directory / MANIFEST_FILE
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise output_error(error, "read", path) from error
    try:
        return _ADAPTER.validate_json(text, strict=True)
    except ValidationError:
        return None


def is_complete(directory: Path, manifest: Manifest) -> bool:
    """Whether all files of a manifest are there in their full size."""
    return not any(_size_problem(directory / name, record) for name, record in manifest.files.items())


def finished_manifest(output_dir: Path, fov: int, fingerprint: Fingerprint) -> Manifest | None:
    """Manifest of a FOV that is done, with this fingerprint and with all its files; None where it is not."""
    directory = output_dir / fov_directory(fov)
    manifest = read_manifest(directory)
    if manifest is None or (manifest.fov, manifest.fingerprint) != (fov, fingerprint):
        return None
    return manifest if is_complete(directory, manifest) else None


def verify(directory: Path) -> list[str]:
    """Read all files of a FOV's directory again and list what does not agree with its manifest."""
    manifest = read_manifest(directory)
    if manifest is None:
        return [f"{directory / MANIFEST_FILE} is missing or damaged"]
    problems = (_problem(directory / name, record) for name, record in sorted(manifest.files.items()))
    return [problem for problem in problems if problem]


@cache
def package_versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that have a part in the results."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def _problem(path: Path, record: FileRecord) -> str | None:
    return _size_problem(path, record) or _content_problem(path, record)


def _size_problem(path: Path, record: FileRecord) -> str | None:
    try:
        size = path.stat().st_size if path.is_file() else None
    except FileNotFoundError:  # another attempt has just moved its directory aside
        size = None
    if size is None:
        return f"{path} is missing"
    if size != record.bytes:
        return f"{path} has {size} bytes instead of {record.bytes}"
    return None


def _content_problem(path: Path, record: FileRecord) -> str | None:
    crc = 0
    try:
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(_CHUNK):
                crc = zlib_ng.crc32(chunk, crc)
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    if crc != record.crc32:
        return f"{path} is damaged: its checksum is {crc:08x} instead of {record.crc32:08x}"
    return None
