"""Pictures of a run in the Prefect UI: links to those of each FOV, which the API shows.

There are two artifacts for a whole run, made at its end: one for each FOV would cost two requests to Prefect for every
second of computing, and say no more. What is done of a run that goes on is on the API's own page.
"""

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlencode

from prefect.artifacts import create_image_artifact, create_markdown_artifact

from tasks.output import Manifest, Provenance, finished_manifest

PUBLIC_URL_VARIABLE = "PYAMA_PUBLIC_URL"
"""Where browsers find the API."""
_DEFAULT_URL = "http://127.0.0.1:8000"
_PICTURE_ENDINGS = (".jpg", ".png")
_MOST_FOVS = 100
"""FOVs in the artifact: an index of thousands of links would be read by nobody."""

_logger = logging.getLogger(__name__)


def show_pictures(output_dir: Path, provenance: Provenance, fovs: Iterable[int]) -> None:
    """Link the pictures of the FOVs of a run that are done; nothing happens where there are none.

    Whatever ails the Prefect API, it is not worth a run.
    """
    found = (finished_manifest(output_dir, fov, provenance.fingerprint) for fov in fovs)
    manifests = [manifest for manifest in found if manifest is not None and _pictures(manifest)]
    if not manifests:
        return
    name = provenance.input.name
    first = manifests[0]
    try:
        create_image_artifact(
            image_url=_url(output_dir, first.fov, _pictures(first)[0]),
            key="picture",
            description=f"{name}: FOV {first.fov}, first, middle and last frame",
        )
        create_markdown_artifact(
            markdown=_markdown(output_dir, manifests), key="pictures", description=f"Pictures of {name}"
        )
    except Exception as error:
        _logger.warning("The pictures of %s could not be linked: %s", name, error)


def _markdown(output_dir: Path, manifests: list[Manifest]) -> str:
    """Show the pictures of the first FOV, and link those of all."""
    first = manifests[0]
    shown = [f"![{name}]({_url(output_dir, first.fov, name)})" for name in _pictures(first)]
    rows = [
        f"| {manifest.fov} | {manifest.n_cells} | {_links(output_dir, manifest)} |"
        for manifest in manifests[:_MOST_FOVS]
    ]
    more = len(manifests) - len(rows)
    rest = [f"... and {more} more FOVs"] if more else []
    parts = [
        "| FOV | cells | pictures |\n| --- | --- | --- |\n" + "\n".join(rows),
        *rest,
        f"## FOV {first.fov}",
        *shown,
    ]
    return "\n\n".join(parts)


def _links(output_dir: Path, manifest: Manifest) -> str:
    prefix = f"{manifest.layout.base_name}_{manifest.layout.directory}_qc_"
    links = (
        f"[{Path(name).stem.removeprefix(prefix)}]({_url(output_dir, manifest.fov, name)})"
        for name in _pictures(manifest)
    )
    return ", ".join(links)


def _pictures(manifest: Manifest) -> list[str]:
    """Names of the pictures of a FOV; overviews come first."""
    names = [name for name in manifest.files if name.endswith(_PICTURE_ENDINGS)]
    return sorted(names, key=lambda name: ("_overview_" not in name, name))


def _url(output_dir: Path, fov: int, name: str) -> str:
    base = os.environ.get(PUBLIC_URL_VARIABLE, "").strip() or _DEFAULT_URL
    query = urlencode({"output_dir": str(output_dir), "fov": fov, "name": name})
    return f"{base.rstrip('/')}/api/v1/visualization/picture?{query}"
