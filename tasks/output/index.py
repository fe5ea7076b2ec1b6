"""`processing_results.yaml`: the index of what is in an output folder, in the shape that PyAMA reads."""

from pathlib import Path
from typing import Any

from tasks.output.atomic import write_text_atomically
from tasks.output.config import to_yaml
from tasks.output.conflicts import fov_directories
from tasks.output.layout import INDEX_FILE
from tasks.output.manifest import Manifest, finished_manifest
from tasks.output.provenance import Provenance


def write_index(output_dir: Path, provenance: Provenance) -> list[int]:
    """Rebuild the index from the manifests of all finished FOVs of a provenance.

    Paths are relative to the folder. Under `seg_labeled` PyAMA expects the stack with the cell numbers, which
    is `seg_tracked` here. Stacks that were not kept are not listed.

    Returns
    -------
    list of int
        The FOVs in the index, sorted.

    Raises
    ------
    OutputError
        Where a manifest cannot be read or the index cannot be written.
    """
    found = (finished_manifest(output_dir, fov, provenance.fingerprint) for fov in fov_directories(output_dir))
    manifests = [manifest for manifest in found if manifest is not None]
    parameters = dict(provenance.parameters)
    channels = parameters.pop("channels")
    phase, fluorescence = channels["phase"], channels["fluorescence"]
    index = {
        "output_dir": ".",
        "channels": {
            "pc": [phase["channel"], list(phase["features"])],
            "fl": [[channel["channel"], list(channel["features"])] for channel in fluorescence],
        },
        "results": {str(manifest.fov): _files(manifest) for manifest in manifests},
        "params": parameters,
        "time_units": "min",
    }
    write_text_atomically(output_dir / INDEX_FILE, to_yaml(index))
    return [manifest.fov for manifest in manifests]


def _files(manifest: Manifest) -> dict[str, Any]:
    layout = manifest.layout
    phase = manifest.parameters["channels"]["phase"]["channel"]
    fluorescence = [channel["channel"] for channel in manifest.parameters["channels"]["fluorescence"]]

    def listed(channel: int, name: str) -> list[list[int | str]]:
        return [[channel, f"{layout.directory}/{name}"]] if name in manifest.files else []

    files: dict[str, Any] = {}
    for key, stacks in (
        ("pc", listed(phase, layout.phase(phase))),
        ("seg_labeled", listed(phase, layout.tracked(phase))),
    ):
        if stacks:
            files[key] = stacks[0]
    for key, name in (("fl", layout.fluorescence), ("fl_background", layout.background)):
        if stacks := [stack for channel in fluorescence for stack in listed(channel, name(channel))]:
            files[key] = stacks
    if layout.traces in manifest.files:
        files["traces"] = f"{layout.directory}/{layout.traces}"
    return files
