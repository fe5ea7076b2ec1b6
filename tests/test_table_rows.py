"""Rows as bytes, held to splitting and joining text."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import TraceFileError
from tasks.table_rows import TableRows, join_rows, split_rows, truths, whole_numbers

FIELD = st.text("0123456789.-eTrue ", max_size=9)


def split(text: str, n_columns: int) -> TableRows:
    return split_rows(np.frombuffer(text.encode(), np.uint8), n_columns)


@given(st.data())
def test_any_columns_of_any_rows_are_joined(data: st.DataObject) -> None:
    n_columns = data.draw(st.integers(2, 5))
    fields = data.draw(st.lists(st.lists(FIELD, min_size=n_columns, max_size=n_columns), max_size=6))
    ends = st.sampled_from(["\n", "\n", "\r\n", "\n\n", "\n\r\n"])
    lines = [data.draw(st.sampled_from(["", "", "\n"])), *(",".join(row) + data.draw(ends) for row in fields)]
    text = "".join(lines)
    rows = split(text.removesuffix("\n") if data.draw(st.booleans()) else text, n_columns)
    assert len(rows) == len(fields)
    everything = data.draw(st.booleans())
    order = list(range(len(fields)))
    columns = list(range(n_columns))
    if not everything and fields:
        order = data.draw(st.lists(st.sampled_from(order), max_size=8))
        columns = data.draw(st.lists(st.sampled_from(columns), min_size=1, max_size=6))
    expected = "".join(",".join(fields[row][column] for column in columns) + "\n" for row in order)
    assert join_rows(rows, np.array(order, np.int64), columns).tobytes().decode() == expected


@pytest.mark.parametrize("text", ["", "\n", "\r\n\n"])
def test_no_rows(text: str) -> None:
    rows = split(text, 3)
    assert len(rows) == 0
    assert join_rows(rows, np.empty(0, np.int64), [0, 1, 2]).size == 0


@pytest.mark.parametrize(
    ("text", "line"), [("1\n", 1), ("1,2\n1,2,3\n", 2), ("1,2\n\n1", 3), ('1,"2"\n', 1), ("1,2\n,\n1,2,\n", 3)]
)
def test_the_first_line_that_does_not_fit_is_named(text: str, line: int) -> None:
    with pytest.raises(TraceFileError, match=f"row {line}: expected 2 fields"):
        split(text, 2)


@given(st.lists(st.integers(-(10**17), 10**17), min_size=1, max_size=9))
def test_whole_numbers_are_read(numbers: list[int]) -> None:
    rows = split("".join(f"x,{number}\n" for number in numbers), 2)
    assert whole_numbers(rows, 1, "cell").tolist() == numbers


@given(st.text("0123456789-+. e", max_size=20))
def test_what_is_no_whole_number_is_refused(text: str) -> None:
    plain = text.removeprefix("-")
    rows = split(f"7,1\n{text},1\n", 2)
    if plain.isdecimal() and len(plain) <= 18:
        assert whole_numbers(rows, 0, "cell").tolist() == [7, int(text)]
        return
    with pytest.raises(TraceFileError, match="row 2, column cell: expected a whole number; found "):
        whole_numbers(rows, 0, "cell")


def test_true_and_false_as_spreadsheets_write_them() -> None:
    rows = split("".join(f"{text},1\n" for text in ("True", "true", "TRUE", "1", "False", "false", "FALSE", "0")), 2)
    assert truths(rows, 0, "good").tolist() == [True] * 4 + [False] * 4


@pytest.mark.parametrize("text", ["", "yes", "True ", "Tru", "Truee", "10", "FaLSE"])
def test_what_is_neither_true_nor_false_is_refused(text: str) -> None:
    with pytest.raises(TraceFileError, match="row 2, column good: expected true or false; found "):
        truths(split(f"1,1\n{text},1\n", 2), 0, "good")
