"""What a person says of the cells of a FOV: good or bad, kept beside the table that was computed.

`..._traces_inspected.csv` is the table with `good` as it was set, which merges use in place of `..._traces.csv`;
`..._traces_inspected.json` tells who set what, and when. Nothing is removed from either.
"""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tasks.errors import InvalidParametersError, OutputError, TraceFileError
from tasks.fov_table import FovTable
from tasks.output.atomic import placing_text
from tasks.output.inspecting import inspecting
from tasks.output.layout import FovLayout
from tasks.output.os_errors import told

_MOST_NAMED = 10


@dataclass(frozen=True)
class Inspection:
    """Some cells that somebody has marked at once."""

    who: str
    when: str
    """ISO 8601, UTC."""
    cells: dict[int, bool]
    """Whether each is good, by its number."""


_HISTORY = TypeAdapter(list[Inspection])


def table_in_use(directory: Path, layout: FovLayout) -> Path:
    """The table as a person has corrected it, or else as it was computed."""
    inspected = directory / layout.inspected
    return inspected if inspected.exists() else directory / layout.traces


def read_history(directory: Path, layout: FovLayout) -> list[Inspection]:
    """Who has marked cells, the first one first; empty where the table was corrected by other means, or by nobody.

    Raises
    ------
    OutputError
        Where it cannot be read.
    """
    path = directory / layout.inspection_history
    with told("read", path):
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return []
    try:
        return _HISTORY.validate_json(text)
    except ValidationError as error:
        raise OutputError(f"{path} is damaged: it is no history of inspections; move it away") from error


def mark_cells(directory: Path, layout: FovLayout, marks: Mapping[int, bool], who: str) -> dict[int, bool]:
    """Say of some cells whether they are good; all others stay as they are.

    Several people can do so at once: one after the other is let in, and each builds on what is there.

    Parameters
    ----------
    directory
        Directory of a FOV that is done.
    marks
        Whether each cell is good, by its number.
    who
        Who says so.

    Returns
    -------
    dict
        Whether each cell of the table is good, by its number.

    Raises
    ------
    InvalidParametersError
        Naming cells that are not in the table.
    TraceFileError
        Where the table cannot be understood.
    OutputError
        Where it cannot be read or written; nothing is changed then.
    """
    with inspecting(directory):
        path = table_in_use(directory, layout)
        with told("read", path):
            good = FovTable(path).good()
            unknown = sorted(marks.keys() - good.keys())
            if unknown:
                raise InvalidParametersError(_unknown(layout.fov, unknown))
            text = _marked(path, marks)
        done = Inspection(who, datetime.now(UTC).isoformat(timespec="seconds"), dict(sorted(marks.items())))
        history = [*read_history(directory, layout), done]
        with (
            placing_text(directory / layout.inspected, text),
            placing_text(directory / layout.inspection_history, _history_text(history)),
        ):
            # The history gets its place first: nothing in the table lacks its author, whatever happens in between.
            pass
    return good | dict(marks)


def _marked(path: Path, marks: Mapping[int, bool]) -> str:
    """Text of a table with `good` set in the rows of some cells; all other fields as they are, to the digit."""
    written = io.StringIO(newline="")
    writer = csv.writer(written, lineterminator="\n")
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            rows = csv.reader(file)
            header = [name.strip() for name in next(rows)]
            cell, good = header.index("cell"), header.index("good")
            writer.writerow(header)
            for row in rows:
                if not row:
                    continue
                mark = marks.get(int(row[cell]))
                if mark is not None:
                    row[good] = str(mark)
                writer.writerow(row)
        except (csv.Error, UnicodeDecodeError, ValueError, IndexError) as error:
            raise TraceFileError(f"{path.name} cannot be read: {error}") from error
    return written.getvalue()


def _history_text(history: list[Inspection]) -> str:
    content: Any = _HISTORY.dump_python(history, mode="json")
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _unknown(fov: int, cells: list[int]) -> str:
    named = ", ".join(map(str, cells[:_MOST_NAMED]))
    more = f" and {len(cells) - _MOST_NAMED} more" if len(cells) > _MOST_NAMED else ""
    return f"cells: the table of FOV {fov} has no cell {named}{more}; nothing was marked"
