"""What DuckDB said went wrong: in its own words where it read a statement, by kind alone where it read rows.

Its messages about rows repeat values ("Could not convert string '…' to INT32"), also those that a contract hides.
"""

from __future__ import annotations

import re

import duckdb

_CLASS = re.compile(r"^[A-Z][A-Za-z ]* Error: ")
_DIVISION = "Division by zero"
_KINDS: dict[type[duckdb.Error], str] = {
    duckdb.ConversionException: "a value cannot be converted",
    duckdb.OutOfRangeException: "a value is out of range",
    duckdb.InvalidInputException: "a function does not take a value that it is given",
    duckdb.OutOfMemoryException: "it needs more memory than there is",
}


def told(error: duckdb.Error) -> str:
    """The message in one line, without the name of its class. Only for statements that have read no rows: it can repeat their values."""
    return _CLASS.sub("", str(error).split("\n\nLINE ")[0].strip().replace("\n", " "))


def kind(error: duckdb.Error) -> str:
    """What kind of error it is, in a few words that never hold a value of a row."""
    if told(error).startswith(_DIVISION):
        return "a division by zero"
    return next((words for known, words in _KINDS.items() if isinstance(error, known)), "DuckDB cannot compute it")
