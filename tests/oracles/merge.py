"""Oracle of merging: every row a dictionary."""

import csv
import io
import re
from collections.abc import Iterable
from pathlib import Path

Row = dict[str, str]


def merge(name: str, tables: Iterable[Path]) -> dict[str, str]:
    """Texts of the files of a sample by name, from the tables of its FOVs in their order."""
    rows: list[Row] = []
    columns: list[str] = []
    for table in tables:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = list(reader.fieldnames or [])
            good = [row for row in reader if row["good"].lower() in {"true", "1"}]
        rows += sorted(good, key=lambda row: (int(row["cell"]), int(row["frame"])))
    files = {f"{name}_merged.csv": _text(columns, columns, rows)}
    for column in columns:
        if re.fullmatch(r"\w+_ch_\d+", column):
            tidy = _text(["time", "fov", "cell", column], ["time", "fov", "cell", "value"], rows)
            files[f"{name}_{column}.csv"] = "# Time units: min\n" + tidy
    return files


def _text(columns: list[str], header: list[str], rows: list[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([row[column] for column in columns] for row in rows)
    return text.getvalue()
