"""A flow: how many cells there are in each FOV of a processed folder, as a table in the Prefect UI.

Put beside the others in `flows/`, with an entry in the `DEPLOYMENTS` of `deployments/deploying.py` and in
`prefect.yaml`, it can be started by its name and on a schedule; run by itself, it does it once:
`python docs/examples/count_cells.py FOLDER`.
"""

import sys
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from tasks.errors import PyamaError
from tasks.output import fov_directories, read_manifest


@flow(name="count-cells", description="Count the cells of a processed folder.", persist_result=False)
def count_cells(folder: str) -> State[Any]:
    """Count the cells of each FOV that is finished.

    Parameters
    ----------
    folder
        Absolute path of the output folder of a run.
    """
    try:
        # What is computed or read is a plain function of `tasks`; the flow only puts it in order and tells of it.
        manifests = [read_manifest(directory) for directory in fov_directories(Path(folder)).values()]
    except PyamaError as error:  # what a user can mend is the run's message, not a traceback
        return Failed(message=str(error))
    rows = [{"FOV": manifest.fov, "cells": manifest.n_cells} for manifest in manifests if manifest is not None]
    get_run_logger().info("%d FOVs in %s", len(rows), folder)
    create_table_artifact(table=rows, key="cells", description=f"Cells of {folder}")
    return Completed(message=f"{sum(row['cells'] for row in rows)} cells in {len(rows)} FOVs")


if __name__ == "__main__":
    print(count_cells(sys.argv[1], return_state=True).message)
