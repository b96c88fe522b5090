"""Texts that can be read as something: times, times of one format, JSON, JSON of one schema."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from dateutil.parser import parse
from jsonschema.exceptions import SchemaError
from jsonschema.validators import validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

from journal.duckdb_session import session
from quality.column import Column, Rows, family
from quality.kernels.arguments import Arguments
from quality.kernels.distinct import by_distinct
from quality.kernels.errors import BadExpectation
from quality.kernels.regexes import find
from quality.kernels.rule import Check, MapKernel, Types, row_kernel
from quality.kernels.time_shapes import ISO_MOMENT, Shape, shape_of

_WORTH = 256  # texts
# DuckDB also takes commas before an end, infinities and NaN in any spelling; Python takes other halves of pairs, and no byte order mark
_READ_OTHERWISE = r"(?i),\s*[\]}]|nan|inf|\\ud[89a-f]|^\x{feff}"
_DEEP = 900  # bytes: longer texts may be deeper, or have longer numbers, than Python reads


def dateutil_parseable(arguments: Arguments) -> MapKernel:
    """Texts that dateutil's parser takes for a time."""
    return _of_times(arguments, arguments.column(), ISO_MOMENT, lambda text: _reads(lambda: parse(text)))


def strftime_format(arguments: Arguments) -> MapKernel:
    """Texts that strptime reads by one format."""
    column, pattern = arguments.column(), arguments.text("strftime_format")
    try:
        dt.datetime.strptime(dt.datetime.now(tz=dt.UTC).strftime(pattern), pattern)
    except ValueError as error:
        raise BadExpectation(f"strftime_format {pattern!r} cannot be used: {error}", "strftime_format") from error
    return _of_times(arguments, column, shape_of(pattern), lambda text: _reads(lambda: dt.datetime.strptime(text, pattern)))


def _of_times(arguments: Arguments, column: str, shape: Shape | None, reads: Callable[[str], bool]) -> MapKernel:
    """Texts of a shape that is known to be read pass at once; Python reads the others, each distinct one once."""

    def passes(columns: Sequence[Column]) -> Rows:
        texts = columns[0]
        if shape is None or not texts.ascii:
            return by_distinct(texts, reads)
        answer = find(texts, shape)
        other = ~answer if texts.missing is None else ~answer & ~texts.missing
        if other.any():
            answer = answer.copy()
            answer[other] = by_distinct(texts.where(other), reads)
        return answer

    def choose(types: Types) -> Check:
        if family(types[0]) == "null":
            return Check(lambda columns: np.zeros(len(columns[0]), np.bool_))
        if family(types[0]) != "text":
            raise BadExpectation(f"column {column} is of type {types[0]}: only text is read as a time", "column")
        return Check(passes, "python")

    return row_kernel(arguments, [column], choose)


def _reads(read: Callable[[], object]) -> bool:
    try:
        read()
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return False
    return True


def json_parseable(arguments: Arguments) -> MapKernel:
    """Texts that Python's json reads: NaN and Infinity are among them. What is no text is no JSON."""

    def choose(types: Types) -> Check:
        if family(types[0]) not in ("text", "binary"):
            return Check(lambda columns: np.zeros(len(columns[0]), np.bool_))
        return Check(_parsed, "duckdb" if family(types[0]) == "text" else "python")

    return row_kernel(arguments, [arguments.column()], choose)


def _parsed(columns: Sequence[Column]) -> Rows:
    """DuckDB says at once of most texts that they are JSON; Python reads the others, each distinct one once."""
    column = columns[0]
    if column.family != "text" or len(column) < _WORTH:
        return by_distinct(column, lambda text: _json(text) is not None)
    table = pa.table({"written": column.array})
    answer = session().prepare(table.schema, "coalesce(json_valid(written), true)").run(table).astype(np.bool_)
    doubtful = np.asarray(pc.fill_null(pc.match_substring_regex(column.array, _READ_OTHERWISE), False))
    doubtful |= np.asarray(pc.fill_null(pc.binary_length(column.array), 0)) > _DEEP
    other = ~answer | doubtful
    if other.any():
        answer[other] = by_distinct(column.where(other), lambda text: _json(text) is not None)
    return answer


def json_schema(arguments: Arguments) -> MapKernel:
    """Texts that are JSON of a schema.

    A text that is no JSON fails, and so does one that is too deep, or has a number too large, to be judged (Great Expectations gives up on
    the whole column there).
    """
    column, schema = arguments.column(), arguments.mapping("json_schema")
    kind = validator_for(schema)
    try:
        kind.check_schema(dict(schema))
    except SchemaError as error:
        raise BadExpectation(f"json_schema is not a JSON Schema: {error.message}", "json_schema") from error
    validator: Any = kind(dict(schema), registry=Registry())  # an empty registry: a schema that lies elsewhere is not fetched

    def suits(text: str | bytes) -> bool:
        read = _json(text)
        try:
            return read is not None and valid(read[0])
        except (RecursionError, OverflowError):
            return False

    def valid(instance: object) -> bool:
        try:
            return bool(validator.is_valid(instance))
        except (Unresolvable, re.error, LookupError, TypeError, ValueError) as error:
            raise BadExpectation(f"json_schema cannot be applied: {error}", "json_schema") from error

    instances: tuple[object, ...] = (None, True, 0, "", [], {})
    try:
        for instance in instances:  # references and expressions that do not hold show before any data does
            valid(instance)
    except RecursionError as error:
        raise BadExpectation("json_schema cannot be applied: it leads back to itself for ever", "json_schema") from error

    def choose(types: Types) -> Check:
        if family(types[0]) == "null":
            return Check(lambda columns: np.zeros(len(columns[0]), np.bool_))
        if family(types[0]) not in ("text", "binary"):
            raise BadExpectation(f"column {column} is of type {types[0]}: only text is JSON", "column")
        return Check(lambda columns: by_distinct(columns[0], suits), "python")

    return row_kernel(arguments, [column], choose)


_scan: Any = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # the C scanner, without what surrounds it in json.loads


def _json(text: str | bytes) -> tuple[object] | None:
    """What a text says, or None for what is no JSON."""
    if isinstance(text, str):
        try:
            value, end = _scan(text, 0)
            if end == len(text):
                return (value,)
        except (RecursionError, StopIteration, ValueError):
            pass  # json.loads also takes white space around it, and knows best what is wrong
    try:
        return (json.loads(text),)
    except (RecursionError, ValueError):
        return None


OFFERED: Mapping[str, Callable[[Arguments], MapKernel]] = {
    "expect_column_values_to_be_dateutil_parseable": dateutil_parseable,
    "expect_column_values_to_match_strftime_format": strftime_format,
    "expect_column_values_to_be_json_parseable": json_parseable,
    "expect_column_values_to_match_json_schema": json_schema,
}
