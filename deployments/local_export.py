"""Export of tables, from the command line: into a database, or as AnnData."""

from collections.abc import Sequence
from pathlib import Path

from deployments.terminal import Meter
from tasks.errors import InvalidParametersError
from tasks.export.sources import Source, find_sources


def export(
    paths: Sequence[Path], database: str | None, anndata: Path | None, experiment: str | None, meter: Meter
) -> list[str]:
    """Export tables to where is asked for.

    Returns
    -------
    list of str
        What became of each table.

    Raises
    ------
    PyamaError
        Naming what cannot be exported and why. Tables that were exported before stay.
    """
    if database is None and anndata is None:
        raise InvalidParametersError("say where to: --database URL, or --anndata FILE.h5ad")
    sources = find_sources(paths, experiment)
    if anndata is not None and len(sources) != 1:
        raise InvalidParametersError(f"--anndata takes one table; {len(sources)} were given")
    told = []
    if database is not None:
        told += _into_database(sources, database, meter)
    if anndata is not None:
        from tasks.export.anndata_file import write_anndata

        meter.begin("Writing AnnData")
        n_rows = write_anndata(sources[0], anndata.absolute())
        told.append(f"{anndata}: {n_rows} observations")
    return told


def _into_database(sources: Sequence[Source], url: str, meter: Meter) -> list[str]:
    from tasks.export.database import export_table, opened_database

    told = []
    with opened_database(url) as engine:
        meter.begin("Exporting", "tables")
        for n_done, source in enumerate(sources):

            def on_rows(n_rows: int, n_done: int = n_done, name: str = source.name) -> None:
                meter.update(n_done, len(sources), f"{name}: {n_rows} rows")

            outcome = export_table(engine, source, on_rows)
            told.append(f"{source.experiment}/{source.name}: {outcome}")
            meter.update(n_done + 1, len(sources))
    return told
