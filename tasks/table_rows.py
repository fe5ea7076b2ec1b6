"""The rows of a traces table as bytes: split into fields, selected, joined again, without turning them into numbers.

What a table says in six decimals is passed on as it stands, which is exact and many times faster than parsing and
printing. Fields are separated by commas and never quoted, as in all traces tables.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.errors import TraceFileError
from tasks.kernel import kernel
from tasks.trace_files import FALSE_TEXTS, TRUE_TEXTS

Bytes = NDArray[np.uint8]
Indices = NDArray[np.int64]
Offsets = NDArray[np.int32]

_COMMA, _NEWLINE, _RETURN, _QUOTE, _MINUS, _ZERO, _NINE = b',\n\r"-09'
_MOST_DIGITS = 18
_MOST_BYTES = 2**31 - 1
"""Far more than a FOV of 65,535 cells needs; smaller numbers are faster."""


class TableRows(NamedTuple):
    """Where the fields of a table are."""

    text: Bytes
    """(n_bytes,) the rows, without the header."""
    starts: Offsets
    """(n_rows,) where each row begins."""
    ends: Offsets
    """(n_rows, n_columns) where each field ends; the next one begins a byte later."""

    def __len__(self) -> int:
        return len(self.starts)


def split_rows(text: Bytes, n_columns: int) -> TableRows:
    """Find the fields of all rows; empty lines are passed over, and lines may end in either way.

    Parameters
    ----------
    text
        (n_bytes,) the rows, without the header.

    Raises
    ------
    TraceFileError
        Where a row has another number of fields, or a quoted one; or where there are too many of them.
    """
    if len(text) > _MOST_BYTES:
        raise TraceFileError(f"expected at most {_MOST_BYTES} bytes of rows; found {len(text)}")
    starts, ends, fault = _split(text, n_columns)
    if fault >= 0:
        raise TraceFileError(f"row {fault + 1}: expected {n_columns} fields, separated by commas and without quotes")
    return TableRows(text, starts, ends)


def whole_numbers(rows: TableRows, column: int, name: str) -> Indices:
    """Read a column of whole numbers (n_rows,).

    Raises
    ------
    TraceFileError
        Where a field is none.
    """
    numbers, fault = _parse_whole_numbers(rows, column)
    if fault >= 0:
        raise TraceFileError(
            f"row {fault + 1}, column {name}: expected a whole number; found {_field(rows, fault, column)!r}"
        )
    return numbers


def truths(rows: TableRows, column: int, name: str) -> NDArray[np.bool_]:
    """Read a column of true and false (n_rows,).

    Raises
    ------
    TraceFileError
        Where a field is neither.
    """
    texts = [text.encode() for text in (*TRUE_TEXTS, *FALSE_TEXTS)]
    longest = max(map(len, texts))
    options = np.array([list(text.ljust(longest, b"\0")) for text in texts], np.uint8)
    found, fault = _find_options(rows, column, options, np.array([len(text) for text in texts]))
    if fault >= 0:
        raise TraceFileError(
            f"row {fault + 1}, column {name}: expected true or false; found {_field(rows, fault, column)!r}"
        )
    return found < len(TRUE_TEXTS)


def join_rows(rows: TableRows, order: Indices, columns: Sequence[int]) -> Bytes:
    """Put some columns of some rows together, as lines of comma-separated text.

    Parameters
    ----------
    order
        Which rows, in the order in which they are wanted.
    columns
        Which columns, in the order in which they are wanted.
    """
    spans = _spans(columns)
    if len(spans) == 1 and len(columns) == rows.ends.shape[1] and _is_as_it_stands(rows, order):
        return rows.text
    return _join(rows, order, spans)


def _spans(columns: Sequence[int]) -> Indices:
    """First and last column (n, 2) of each stretch of neighbours, which are copied in one go."""
    spans: list[list[int]] = []
    for column in columns:
        if spans and column == spans[-1][1] + 1:
            spans[-1][1] = column
        else:
            spans.append([column, column])
    return np.array(spans, np.int64)


def _is_as_it_stands(rows: TableRows, order: Indices) -> bool:
    """Whether all rows are wanted, and there are no empty lines or foreign line ends among them: the usual case."""
    n_bytes = int((rows.ends[:, -1] - rows.starts).sum()) + len(rows)
    ends_well = not n_bytes or rows.text[-1] == _NEWLINE
    return ends_well and n_bytes == len(rows.text) and np.array_equal(order, np.arange(len(rows)))


def _field(rows: TableRows, row: int, column: int) -> str:
    start = rows.ends[row, column - 1] + 1 if column else rows.starts[row]
    return rows.text[start : rows.ends[row, column]].tobytes().decode("utf-8", "replace")[:80]


@kernel
def _split(text: Bytes, n_columns: int) -> tuple[Offsets, Offsets, int]:
    """Starts and ends; and the line, from 0, that does not fit, or -1."""
    n_lines = 1
    for i in range(text.size):
        n_lines += text[i] == _NEWLINE
    starts, ends = np.empty(n_lines, np.int32), np.empty((n_lines, n_columns), np.int32)
    row, column, line, start = 0, 0, 0, 0
    for i in range(text.size + 1):
        byte = text[i] if i < text.size else _NEWLINE
        if byte > _COMMA:
            continue  # nearly all bytes are digits, dots and letters, which come after all that matters here
        if byte == _COMMA and column < n_columns - 1:
            ends[row, column] = i
            column += 1
        elif byte == _NEWLINE:
            end = i - 1 if i > start and text[i - 1] == _RETURN else i
            if column == n_columns - 1 and (end > start or n_columns > 1):
                starts[row], ends[row, column] = start, end
                row += 1
            elif column > 0 or end > start:
                return starts[:row], ends[:row], line
            line += 1
            start, column = i + 1, 0
        elif byte in (_COMMA, _QUOTE):
            return starts[:row], ends[:row], line
    return starts[:row], ends[:row], -1


@kernel
def _parse_whole_numbers(rows: TableRows, column: int) -> tuple[Indices, int]:
    """Numbers; and the row, from 0, that does not hold one, or -1."""
    numbers = np.empty(rows.starts.size, np.int64)
    for row in range(numbers.size):
        start = rows.ends[row, column - 1] + 1 if column else rows.starts[row]
        end = rows.ends[row, column]
        negative = end > start and rows.text[start] == _MINUS
        start += negative
        if not 0 < end - start <= _MOST_DIGITS:
            return numbers, row
        number = 0
        for i in range(start, end):
            if not _ZERO <= rows.text[i] <= _NINE:
                return numbers, row
            number = 10 * number + (rows.text[i] - _ZERO)
        numbers[row] = -number if negative else number
    return numbers, -1


@kernel
def _find_options(rows: TableRows, column: int, options: Bytes, lengths: Indices) -> tuple[NDArray[np.int8], int]:
    """Which of the options (n_options, longest) each field is; and the row, from 0, that is none, or -1."""
    found = np.empty(rows.starts.size, np.int8)
    for row in range(found.size):
        start = rows.ends[row, column - 1] + 1 if column else rows.starts[row]
        found[row] = -1
        for option in range(lengths.size):
            same = rows.ends[row, column] - start == lengths[option]
            i = 0
            while same and i < lengths[option]:
                same = rows.text[start + i] == options[option, i]
                i += 1
            if same:
                found[row] = option
                break
        if found[row] < 0:
            return found, row
    return found, -1


@kernel
def _join(rows: TableRows, order: Indices, spans: Indices) -> Bytes:
    size = 0
    for row in order:
        for first, last in spans:
            size += rows.ends[row, last] - (rows.ends[row, first - 1] + 1 if first else rows.starts[row]) + 1
    joined = np.empty(size, np.uint8)
    at = 0
    for row in order:
        for first, last in spans:
            start = rows.ends[row, first - 1] + 1 if first else rows.starts[row]
            length = rows.ends[row, last] - start
            for i in range(length):
                joined[at + i] = rows.text[start + i]
            joined[at + length] = _COMMA
            at += length + 1
        joined[at - 1] = _NEWLINE
    return joined
