"""A merged sample as AnnData, for scanpy and its relatives; needs the extra `anndata`.

An observation is a cell in a frame, a variable a feature of a channel:

`X`
    (n_observations, n_features) float64; NaN where a value is undefined.
`obs`
    `fov`, `cell`, `frame`, `time` (minutes), `good`, `track` (FOV and cell in one, the same in all frames), and the box
    (pixels, inclusive). Its index is FOV, cell and frame, as in `0-12-30`.
`obsm["spatial"]`
    (n_observations, 2) centroid x and y in pixels, where the table has them.
`var`
    `feature`, `channel` and `unit` of each column.
`uns["pyama"]`
    `sample`, `time_units` and `version`.
"""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from tasks.errors import ExportError, TraceFileError
from tasks.export.sources import Source
from tasks.features import FLUORESCENCE_FEATURES, PHASE_FEATURES, feature_columns
from tasks.output.atomic import replacing, sync_file
from tasks.output.os_errors import told
from tasks.trace_files import minutes_per_unit, read_all_columns, read_header

# Text is of type object throughout: anndata does not write pandas' own type for it.
_POSITION = ["position_x", "position_y"]


def write_anndata(source: Source, target: Path) -> int:
    """Write a traces table or a merged one as an `.h5ad` file, in place of one that is there.

    The whole table is in memory.

    Returns
    -------
    int
        Number of observations.

    Raises
    ------
    ExportError
        Where anndata is not installed, or the table is one of fits.
    TraceFileError
        Where the table cannot be understood.
    OutputError
        Where the file cannot be written; the old one stays.
    """
    if source.kind != "traces":
        raise ExportError(f"{source.name} holds fits; as AnnData, a merged table or a traces table can be written")
    try:
        import anndata
    except ModuleNotFoundError as error:
        raise ExportError("anndata is not installed; install pyama-backend[anndata]") from error
    table = _read(source)
    features = feature_columns(table.column_names)
    spatial = [name for name in _POSITION if name in table.column_names]
    values = {name: table.column(name).to_numpy() for name in (*features, *spatial)}
    data = anndata.AnnData(
        X=np.column_stack([values[name] for name in features]),
        obs=_observations(table.drop_columns([*features, *spatial])),
        var=_variables(features),
        obsm={"spatial": np.column_stack([values[name] for name in spatial])} if spatial else {},
        uns={
            "pyama": {
                "sample": source.path.stem.removesuffix("_merged"),
                "time_units": "min",
                "version": version("pyama-backend"),
            }
        },
    )
    with told("write", target), replacing(target) as temporary:
        data.write_h5ad(temporary)
        sync_file(temporary)
    return len(table)


def _read(source: Source) -> pa.Table:
    """The whole table, its times in minutes."""
    header = read_header(source.path)
    with told("read", source.path):
        batches = list(read_all_columns(source.path, header))
    if not batches:
        raise TraceFileError(f"{source.name} holds no row below its header")
    table = pa.Table.from_batches(batches)
    times = pa.array(table.column("time").to_numpy() * minutes_per_unit(header.time_units))
    return table.set_column(table.column_names.index("time"), "time", times)


def _observations(table: pa.Table) -> pd.DataFrame:
    rows: pd.DataFrame = table.to_pandas()
    fov, cell, frame = (rows[name].astype(str).astype(object) for name in ("fov", "cell", "frame"))
    rows["track"] = pd.Categorical(fov + "-" + cell)
    return rows.set_index(fov + "-" + cell + "-" + frame)


def _variables(features: Mapping[str, tuple[str, int]]) -> pd.DataFrame:
    units = {
        **{name: feature.unit for name, feature in PHASE_FEATURES.items()},
        **{name: feature.unit for name, feature in FLUORESCENCE_FEATURES.items()},
    }
    columns = {
        "name": list(features),
        "feature": [name for name, _ in features.values()],
        "channel": [channel for _, channel in features.values()],
        "unit": [units.get(name, "") for name, _ in features.values()],
    }
    return pd.DataFrame(columns).astype(object).astype({"channel": int}).set_index("name")
