"""By what a flow run is known as a job: the names, tags and labels that the API and the flows share."""

import hashlib
from pathlib import Path

COMMON_TAG = "pyama"
"""Tag of everything that this project runs."""
TOTAL_LABEL = "pyama.total"
"""Label of a run: how many FOVs or cells it is about, known before it begins."""
INPUT_LABEL = "pyama.input"
"""Label of a run: fingerprint of the recording that it is to process."""
TAKEN_UP_LABEL = "pyama.taken_up"
"""Label of a run: when somebody had it taken up again, in ISO format; PYAMA_JOB_TIMEOUT counts from then on."""
SCAN_LABEL = "pyama.scan"
"""Label of a run: the nightly scan that has started it."""
FOUND_LABEL = "pyama.found"
"""Label of such a run: where a later scan has found the same recording, under another name."""

PROCESSING_DEPLOYMENT = "process-acquisition/pyama"
"""Flow and deployment that process a recording, as Prefect names them together."""

FOLDER_TAG_PREFIX = "pyama-folder:"
"""Beginning of the tag of a run that tells its folder."""


def folder_tag(folder: Path) -> str:
    """Tag of all runs that write into a folder, by whatever path they call it; looks at the disk."""
    return f"{FOLDER_TAG_PREFIX}{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:32]}"
