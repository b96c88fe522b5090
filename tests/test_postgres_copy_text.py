"""COPY's text format, taken apart by columns."""

from __future__ import annotations

import struct

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from sources.postgres.copy_text import Rows, message_starts, rows_of_lines, rows_of_messages

_ESCAPES = {"\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v", "\\": r"\\"}
_VALUES = st.none() | st.text(
    st.sampled_from("\\nNdt\t\n\bé x") | st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8
)
_TABLES = st.integers(1, 5).flatmap(lambda width: st.lists(st.lists(_VALUES, min_size=width, max_size=width), min_size=1, max_size=12))


def _line(row: list[str | None]) -> bytes:
    fields = (r"\N" if value is None else "".join(_ESCAPES.get(letter, letter) for letter in value) for value in row)
    return ("\t".join(fields) + "\n").encode()


def _message(line: bytes) -> bytes:
    return b"d" + struct.pack(">i", len(line) + 4) + line


def _values(rows: Rows) -> list[list[str | None]]:
    return [list(row) for row in zip(*(column.to_pylist() for column in rows.columns), strict=True)]


@given(_TABLES, st.binary(max_size=12))
@example([["x" * 2655]], b"")  # the length 2660 is 0A 64, which looks like the end of a row and the beginning of the next
@example([["x" * 2655], ["y"], ["z" * 2655]], b"d")
@example([["12345", ""]], b"")  # the length is 9, a tab
@example([["\\", "\\N"], [None, "N"]], b"")
def test_messages_come_back_as_the_rows_that_were_written(table: list[list[str | None]], rest: bytes) -> None:
    whole = b"".join(_message(_line(row)) for row in table)
    # what follows is cut off in the middle of a message, as at the end of a buffer
    cut = _message(b"a much longer line than the bytes that follow it\n")[: len(rest)]
    data = np.frombuffer(bytearray(b"??" + whole + cut), np.uint8)
    starts, end = message_starts(data, 2, len(data))
    assert (len(starts), end) == (len(table), 2 + len(whole))
    rows = rows_of_messages(data, starts, end, len(table[0]))
    assert _values(rows) == table
    assert rows.nbytes == len(whole) - 5 * len(table)


@given(_TABLES)
def test_lines_come_back_as_the_rows_that_were_written(table: list[list[str | None]]) -> None:
    rows = rows_of_lines(np.frombuffer(b"".join(_line(row) for row in table), np.uint8), len(table[0]))
    assert _values(rows) == table


def test_other_messages_end_a_run_of_rows() -> None:
    data = np.frombuffer(_message(b"1\n") + b"c\0\0\0\4" + _message(b"2\n"), np.uint8)
    starts, end = message_starts(data, 0, len(data))
    assert (starts.tolist(), end) == ([0], 7)
    assert message_starts(data, end, len(data))[1] == end


def test_a_value_that_is_not_utf8_is_null_and_keeps_its_bytes() -> None:
    rows = rows_of_lines(np.frombuffer(b"1\tgood\n2\tb\xe4d\n3\t\\N\n", np.uint8), 2)
    assert _values(rows) == [["1", "good"], ["2", None], ["3", None]]
    ((place, defect),) = rows.defects
    assert (place, defect.row, defect.raw) == (1, 1, b"b\xe4d")
    assert "UTF-8" in defect.message


def test_a_table_without_columns_has_rows() -> None:
    assert rows_of_lines(np.frombuffer(b"\n\n\n", np.uint8), 0).count == 3
