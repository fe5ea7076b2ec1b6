"""Oracle of the trace reader: row by row, in dictionaries."""

import csv
import math
from pathlib import Path

Key = tuple[int, int]
Row = tuple[float, float, float]


def read(path: Path, column: str) -> dict[Key, list[Row]]:
    """Rows (time point, time, value) of the good rows of each cell, the time point being the frame where there is one.

    Cells and rows are sorted.
    """
    with path.open(newline="") as file:
        lines = [line for line in file if not line.startswith("#")]
    cells: dict[Key, list[Row]] = {}
    for row in csv.DictReader(lines):
        if row.get("good", "True").lower() in {"true", "1"}:
            time = float(row["time"])
            value = float(row[column] or "nan")
            cells.setdefault((int(row["fov"]), int(row["cell"])), []).append(
                (float(row.get("frame", time)), time, value)
            )
    return {key: sorted(rows) for key, rows in sorted(cells.items())}


def gaps(cells: dict[Key, list[Row]]) -> int:
    """Time points of a FOV between the first and the last of a cell, at which the cell has no row."""
    missing = 0
    for (fov, _), rows in cells.items():
        seen = {point for key, others in cells.items() if key[0] == fov for point, _, _ in others}
        own = [point for point, _, _ in rows]
        missing += sum(own[0] < point < own[-1] and point not in own for point in seen)
    return missing


def n_non_finite(cells: dict[Key, list[Row]]) -> int:
    """Values that are no finite number."""
    return sum(not math.isfinite(value) for rows in cells.values() for _, _, value in rows)
