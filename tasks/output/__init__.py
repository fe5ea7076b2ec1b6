"""The output folder: each FOV's directory is there whole or not at all, and nothing is computed twice.

A run goes through it in this order::

    provenance = Provenance.of(recording, metadata.sizes, request.configuration())
    ensure_folder(output_dir)
    with OutputLock(output_dir, run_id):
        finished = prepare_folder(output_dir, provenance, request, fovs)
        ...  # every other FOV within a `FovDirectory`
        write_index(output_dir, provenance)
"""

from tasks.output.conflicts import fov_directories, is_fov_directory
from tasks.output.fingerprint import SCIENCE_VERSION, Fingerprint, input_fingerprint, parameter_fingerprint
from tasks.output.folder import (
    check_folder,
    check_free,
    clear_leftovers,
    ensure_folder,
    finished_fovs,
    prepare_folder,
    remove_leftovers,
)
from tasks.output.fov_directory import FovDirectory
from tasks.output.index import write_index
from tasks.output.layout import CONFIG_FILE, INDEX_FILE, LOCK_FILE, MANIFEST_FILE, FovLayout
from tasks.output.lock import OutputLock
from tasks.output.manifest import Manifest, finished_manifest, read_manifest, verify
from tasks.output.npy_stack import NpyStackWriter
from tasks.output.provenance import InputFile, Provenance

__all__ = [
    "CONFIG_FILE",
    "INDEX_FILE",
    "LOCK_FILE",
    "MANIFEST_FILE",
    "SCIENCE_VERSION",
    "Fingerprint",
    "FovDirectory",
    "FovLayout",
    "InputFile",
    "Manifest",
    "NpyStackWriter",
    "OutputLock",
    "Provenance",
    "check_folder",
    "check_free",
    "clear_leftovers",
    "ensure_folder",
    "finished_fovs",
    "finished_manifest",
    "fov_directories",
    "input_fingerprint",
    "is_fov_directory",
    "parameter_fingerprint",
    "prepare_folder",
    "read_manifest",
    "remove_leftovers",
    "verify",
    "write_index",
]
