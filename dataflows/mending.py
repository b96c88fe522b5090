"""What a fix makes of records: Postgres' text for each column that it sets, checked against the column's type, whole columns at a time."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from dataflows.map_query import Query, parse_query
from dataflows.map_sql import SqlMap
from journal.batch import ChangeBatch
from journal.duckdb_session import quoted
from journal.expression_tree import ExpressionError, parse
from journal.schema import Column, TableSchema
from pipeline.errors import ConfigError
from pipeline.names import nearest
from sources.base import KEY_PREFIX

_NOWHERE = Path("fix")
_GIVEN = "given"
_AT = re.compile(r"^fix(:\d+)?: ")

Texts = Mapping[str, pa.StringArray]


class Fix:
    """Values, by column, and expressions over the row as it is, bound to the columns of a table.

    Raises ConfigError for a column that is not there, a value that is none of its type, and an expression that is not sound.
    """

    def __init__(self, schema: TableSchema, values: Mapping[str, str | None], expressions: Mapping[str, str]) -> None:
        types = {name: kind for name, kind in schema.types.items() if not name.startswith(KEY_PREFIX)}
        for name in (*values, *expressions):
            if name not in types:
                raise ConfigError(f"{schema.dataset} has no column `{name}`", hint=nearest(name, types))
        self._values = {name: self._checked(schema, name, text) for name, text in values.items()}
        self._maps = {name: _expression(schema, types, name, sql) for name, sql in expressions.items()}

    def _checked(self, schema: TableSchema, name: str, text: str | None) -> str | None:
        found, bad = as_typed(schema, name, [text])
        if bad:
            raise ConfigError(f"`{name}` is {schema.types[name]}, which {text!r} is not")
        value: str | None = found[0].as_py()
        return value

    def run(self, batch: ChangeBatch) -> tuple[Texts, dict[int, str]]:
        """What the columns are set to, and rows for which an expression gives nothing that can be: row -> why."""
        rows = len(batch)
        found: dict[str, pa.StringArray] = {name: pa.repeat(pa.scalar(text, pa.string()), rows) for name, text in self._values.items()}
        bad: dict[int, str] = {}
        for name, one in self._maps.items():
            read = one.reads([name])
            for column in read:
                place = batch.schema.index(column)
                for row in np.flatnonzero(batch.absent(place)).tolist():
                    bad.setdefault(row, f"`{name}`: the log did not carry {column}")
            for defect in batch.defects:
                if defect.column in read:
                    bad.setdefault(defect.row, f"`{name}`: what was received for {defect.column} is no text")
            answer = one.run({column: batch.column(column) for column in read}, rows)
            found[name] = answer.columns[name]
            for row, reason in answer.bad.items():
                bad.setdefault(row, f"`{name}`: {_told(reason.message, name, batch.schema.types[name])}")
        return found, bad


def as_typed(schema: TableSchema, name: str, texts: Sequence[str | None]) -> tuple[pa.StringArray, dict[int, str]]:
    """Values that a person wrote as those of a column, and which of them are none: row -> why."""
    kind = schema.types[name]
    ending = [row for row, text in enumerate(texts) if text is not None and "\0" in text]
    given = pa.array([None if row in ending else text for row, text in enumerate(texts)], pa.string())
    query = _query(f"{quoted(_GIVEN)} || ''", name)  # so that it is read as strictly as what is in a message
    answer = SqlMap(query, {_GIVEN: "text"}, TableSchema(schema.dataset, (Column(name, kind),))).run({_GIVEN: given}, len(texts))
    bad = dict.fromkeys((*answer.bad, *ending), f"{name} is {kind}, which it is not")
    return answer.columns[name], bad


def _expression(schema: TableSchema, types: Mapping[str, str], name: str, sql: str) -> SqlMap:
    try:
        tree = parse(sql, types)
        if tree.clock:
            raise ExpressionError("it reads the clock, so that it would not be the same when it is looked at again")
        dataset = TableSchema(schema.dataset, tuple(column for column in schema.columns if column.name == name))
        written = tree.with_columns({column: quoted(column) for column in tree.columns})
        return SqlMap(_query(written, name), types, dataset)
    except ConfigError as error:
        raise ConfigError(f"`{name}`: {_AT.sub('', error.message)}", hint=error.hint) from error


def _query(sql: str, name: str) -> Query:
    return parse_query(f"SELECT ({sql}\n) AS {quoted(name)} FROM input", _NOWHERE)


def _told(message: str, name: str, kind: str) -> str:
    return message.replace(f"what the map gives for {name} does not fit {kind}", f"what comes out is no {kind}").replace("the map", "it")
