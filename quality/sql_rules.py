"""Rules in SQL: a condition over the row, or a SELECT over the whole set that gives one value."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from journal import duckdb_errors
from journal.duckdb_session import session
from journal.expression import RowExpression, computable
from journal.types import duckdb_type
from pipeline.names import nearest
from quality.frame import Frame
from quality.kernels.verdict import RowVerdict, SetVerdict
from quality.operators import Measured, Operator
from quality.rules import Place, RuleError, Types

_PLACEHOLDER = re.compile(r"\$?\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-[^}]*)?\}")
_ENDLESS = frozenset({"range", "generate_series", "repeat", "repeat_row"})
"""Functions that make as many rows as they are asked for."""
_OBJECT, _PROPERTY = ("object", "table", "model", "schema"), ("property", "column", "field")


@dataclass(frozen=True, eq=False)
class ExplainedVerdict(RowVerdict):
    """A verdict with what kind of error there was on rows for which there was no answer; they failed."""

    messages: Mapping[int, str] = field(default_factory=dict)


def filled_in(query: str, table: str, column: str | None) -> str:
    """The query with `{object}` and `{property}` (also `${table}`, `${column}`) replaced. Raises RuleError for any other."""

    def name(found: re.Match[str]) -> str:
        word = found["name"]
        if word in _OBJECT and found["default"] is None:
            return _identifier(table)
        if word in _PROPERTY and found["default"] is None:
            if column is None:
                raise RuleError(f"{found[0]} has no meaning outside a property", part="query")
            return _identifier(column)
        raise RuleError(f"{found[0]} is not replaced in a contract", hint="only {object} and {property} are", part="query")

    return _PLACEHOLDER.sub(name, query)


def is_select(query: str) -> bool:
    """Whether a query is a statement rather than a condition."""
    stripped = re.sub(r"^(\s|--[^\n]*(\n|$)|/\*.*?\*/|\()*", "", query, flags=re.DOTALL)
    return re.match(r"(select|with|from)\b", stripped, re.IGNORECASE) is not None


class RowCondition:
    """A condition that every row has to meet; a row for which it is null passes. `negated`: it must be false."""

    def __init__(self, query: str, types: Types, place: Place, *, mostly: float, negated: bool) -> None:
        named = {name: types[column].postgres for name, column in place.names.items() if column in types}
        self._expression = RowExpression(query, named, table=place.tables[0], clock=True)
        self._columns = {name: place.names[name] for name in self._expression.references}
        self._mostly = mostly
        self._negated = negated
        self.columns = tuple(dict.fromkeys(self._columns.values()))
        self.engine = self._expression.engine

    def judge(self, frame: Frame) -> RowVerdict:
        truth = self._expression.evaluate({name: frame.column(column).array for name, column in self._columns.items()}, frame.rows)
        failed = truth.true if self._negated else ~truth.true & ~truth.null
        if truth.errors:
            failed = failed.copy()
            failed[list(truth.errors)] = True
        skipped = frame.skipped(self.columns)
        evaluated = frame.rows
        if skipped is not None:
            failed = failed & ~skipped
            evaluated -= int(np.count_nonzero(skipped))
        verdict = RowVerdict.of(evaluated, failed, self._mostly)
        return ExplainedVerdict(verdict.evaluated, verdict.failed, verdict.success, truth.errors) if truth.errors else verdict


class SelectValue:
    """A SELECT over the set, which it reads under the dataset's names; its one value is compared by the operator."""

    engine = "duckdb"

    def __init__(self, query: str, types: Types, place: Place, operator: Operator) -> None:
        self._query = query
        self._types = {name: types[column] for name, column in place.names.items() if column in types}
        self._columns = place.names
        self._tables = place.tables
        self._operator = operator
        self.columns: tuple[str, ...] = ()
        self._check()

    def judge(self, frame: Frame) -> SetVerdict:
        columns = {name: _exact(frame.column(self._columns[name]).array, held.postgres) for name, held in self._types.items()}
        try:
            rows = self._run(pa.table(columns or {"nothing": pa.nulls(frame.rows)}), f"SELECT * FROM ({self._query}\n) LIMIT 2")
        except duckdb.Error as error:
            return SetVerdict(False, duckdb_errors.kind(error))
        if len(rows) != 1:
            return SetVerdict(False, "the query gave no row" if not rows else "the query gave more than one row")
        measured: Measured = rows[0][0]
        return SetVerdict(self._operator.holds(measured), _written(measured))

    def _check(self) -> None:
        """Lets DuckDB read the statement over an empty table."""
        try:
            answer = json.loads(session().query("SELECT json_serialize_sql(?)", [self._query])[0][0])
        except duckdb.Error as error:
            raise RuleError(duckdb_errors.told(error), part="query") from error
        if answer["error"]:
            message = str(answer["error_message"])
            raise RuleError("one SELECT is wanted" if message.startswith("Only SELECT") else message, part="query")
        if len(answer["statements"]) != 1:
            raise RuleError("one SELECT is wanted, not several statements", part="query")
        strangers = _tables(answer["statements"][0]) - {name.lower() for name in self._tables}
        if strangers:
            known = nearest(min(strangers), self._tables)
            raise RuleError(f"the query reads {min(strangers)!r}; a contract's rules see only its own dataset", hint=known, part="query")
        columns = {name: pa.array([], _arrow_for_duckdb(held.postgres, held.arrow)) for name, held in self._types.items()}
        empty = pa.table(columns or {"nothing": pa.nulls(0)})
        try:
            described = self._run(empty, f"DESCRIBE {self._query}")
        except duckdb.Error as error:
            raise RuleError(duckdb_errors.told(error), part="query") from error
        if len(described) != 1:
            raise RuleError(f"the query gives {len(described)} columns; one value is wanted", part="query")
        kind = str(described[0][1])
        if (kind == "BOOLEAN") != isinstance(self._operator.value, bool) and self._operator.name in ("mustBe", "mustNotBe"):
            raise RuleError(f"the query gives {kind}, which can never be {self._operator.value!r}", part=self._operator.name)
        if self._operator.numeric and kind in ("VARCHAR", "DATE", "TIMESTAMP", "BOOLEAN"):
            raise RuleError(f"the query gives {kind}, and {self._operator} wants a number", part=self._operator.name)

    def _run(self, table: pa.Table, statement: str) -> list[tuple[Any, ...]]:
        shared = session()
        with shared.lock:
            for name in self._tables:
                shared.connection.register(name, table)
            try:
                return shared.connection.execute(statement).fetchall()
            finally:
                for name in self._tables:
                    shared.connection.unregister(name)


def _tables(node: object) -> set[str]:
    """The tables that a statement reads, and functions that make some, without those that it makes itself (WITH)."""
    found: set[str] = set()
    made: set[str] = set()

    def walk(value: object) -> None:
        if isinstance(value, list):
            for item in value:
                walk(item)
        elif isinstance(value, dict):
            if value.get("type") == "BASE_TABLE":
                qualifiers = [part for part in (value.get("catalog_name"), value.get("schema_name")) if part]
                found.add(".".join([*qualifiers, value["table_name"]]).lower())
            if value.get("type") == "TABLE_FUNCTION" and value["function"]["function_name"].lower() in _ENDLESS:
                found.add(f"{value['function']['function_name'].lower()}()")
            if isinstance(value.get("cte_map"), dict):
                made.update(str(entry["key"]).lower() for entry in value["cte_map"]["map"])
            for item in value.values():
                walk(item)

    walk(node)
    return found - made


def _exact(array: pa.Array, kind: str) -> pa.Array:
    """Numbers as decimals if all of them are, so that a sum of prices is what it should be."""
    held = computable(array, kind)
    return array if held.malformed.any() else held.values


def _arrow_for_duckdb(kind: str, arrow: pa.DataType) -> pa.DataType:
    return pa.decimal128(38, 10) if kind == "numeric" and duckdb_type(kind) == "VARCHAR" else arrow


def _identifier(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) else '"' + name.replace('"', '""') + '"'


def _written(value: object) -> object:
    """A measured value as JSON can hold it."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, datetime.date | datetime.time | datetime.timedelta | bytes):
        return str(value)
    return value
