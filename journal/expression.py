"""A DuckDB expression over one row, evaluated over whole batches: the `where` of a sink, a rule written in SQL.

Numbers are exact: `numeric` becomes a decimal of as many places as the batch needs, and only rows that no decimal can hold
(NaN, infinities, more than 38 digits) are computed with doubles. An error on one row (a division by zero, a cast) is that row's
own and leaves the others alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from journal import duckdb_errors
from journal.arrow_expression import ArrowExpression
from journal.decimals import exact_decimals
from journal.duckdb_session import Prepared, quoted, session
from journal.expression_tree import ExpressionError, parse
from journal.types import TypedColumn, arrow_type, duckdb_type, parse_type, typed

__all__ = ["ExpressionError", "RowExpression", "Truth", "computable"]

Mask = npt.NDArray[np.bool_]

NAMED_ERRORS = 50  # rows of a batch that are told what kind of error it was; each costs a statement


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What an expression is on each of n rows: true, null, an error (what kind, never the row's values), or false."""

    true: Mask
    null: Mask
    errors: Mapping[int, str] = field(default_factory=dict)


class RowExpression:
    """A condition over the columns of a row, such as `ends_at > starts_at AND status IN ('open', 'paid')`.

    `columns` maps the columns that exist to their Postgres types. `references` are those that the expression reads. Raises
    ExpressionError, with the parser's message and the position, for what is not one boolean expression over these columns; the
    clock (now(), current_date) is refused unless `clock` allows it, because a row would not always get the same answer.
    """

    def __init__(self, sql: str, columns: Mapping[str, str], *, table: str | None = None, clock: bool = False) -> None:
        self.sql = sql
        self._tree = parse(sql, columns, table=table)
        if self._tree.clock and not clock:
            raise ExpressionError("the expression reads the clock, so a row would not always get the same answer")
        self.references = self._tree.columns
        self._types = {name: columns[name] for name in self.references}
        self._names = _distinct(self.references)
        self._prepared: dict[tuple[pa.Schema, bool, bool], Prepared] = {}
        self._check()
        self._arrow = ArrowExpression.of(self._tree, self._types)

    @property
    def engine(self) -> str:
        """What usually evaluates it: `arrow` for simple comparisons, else `duckdb`."""
        return "arrow" if self._arrow else "duckdb"

    def evaluate(self, columns: Mapping[str, pa.Array], rows: int) -> Truth:
        """Judges `rows` rows. `columns` holds at least the references: Postgres' text, or values that are typed already."""
        found = {name: computable(columns[name], self._types[name]) for name in self.references}
        resisting = np.zeros(rows, np.bool_)
        for column in found.values():
            resisting |= column.malformed
        values = {name: column.values for name, column in found.items()}
        if self._arrow is not None and (answer := self._arrow.evaluate(values, rows)) is not None:
            truth = Truth(*answer)
        else:
            truth = self._in_duckdb(values, rows)
        again = resisting.copy()
        again[list(truth.errors)] = True
        return truth if not again.any() else self._once_more(truth, columns, found, again)

    def _check(self) -> None:
        """Lets DuckDB bind the types, and asks for a boolean."""
        empty = {self._names[name]: pa.nulls(0, _sample_type(kind)) for name, kind in self._types.items()} or {
            "nothing": pa.nulls(0, pa.int8())
        }
        try:
            prepared = session().prepare(pa.table(empty).schema, f"typeof({self._written()})")
            one_row = pa.table({name: pa.nulls(1, values.type) for name, values in empty.items()})
            kind = str(prepared.run(one_row)[0])
            if not self.references:
                self._run(one_row, guarded=False)
        except duckdb.Error as error:
            raise ExpressionError(duckdb_errors.told(error)) from error
        if kind != "BOOLEAN":
            raise ExpressionError(f"the expression is {kind}, not a condition that is true or false")

    def _written(self, doubles: bool = False) -> str:
        """The expression with each column in its DuckDB type; `doubles`: cast in DuckDB, which holds more, and numbers as doubles."""
        written = {}
        for name, kind in self._types.items():
            column = quoted(self._names[name])
            target = duckdb_type(kind)
            if doubles:
                target = "DOUBLE" if is_numeric(kind) else target
                column = column if target == "VARCHAR" else f"CAST({column} AS {target})"
            elif target in ("UUID", "JSON"):
                column = f"CAST({column} AS {target})"
            written[name] = column
        return f"({self._tree.with_columns(written)}\n)"

    def _run(self, table: pa.Table, *, guarded: bool, doubles: bool = False) -> npt.NDArray[np.int8]:
        """int8[n]: 1 true, 0 false, 2 null, 3 an error (only if guarded). Raises duckdb.Error (only if not guarded)."""
        key = (table.schema, guarded, doubles)
        prepared = self._prepared.get(key)
        if prepared is None:
            state = f"COALESCE(CAST({self._written(doubles)} AS TINYINT), 2::TINYINT)"
            answer = f"COALESCE(TRY({state}), 3::TINYINT)" if guarded else state
            prepared = self._prepared[key] = session().prepare(table.schema, answer)
        return np.asarray(prepared.run(table), np.int8)

    def _in_duckdb(self, values: Mapping[str, pa.Array], rows: int, doubles: bool = False) -> Truth:
        if rows == 0:
            return Truth(np.zeros(0, np.bool_), np.zeros(0, np.bool_))
        table = pa.table({self._names[name]: array for name, array in values.items()} or {"nothing": pa.nulls(rows, pa.int8())})
        try:
            state = self._run(table, guarded=False, doubles=doubles)
        except duckdb.Error:
            state = self._run(table, guarded=True, doubles=doubles)
        failed = np.flatnonzero(state == 3)
        return Truth(state == 1, state == 2, self._messages(table, failed, doubles))

    def _messages(self, table: pa.Table, failed: npt.NDArray[np.int64], doubles: bool) -> dict[int, str]:
        found: dict[int, str] = {}
        for row in map(int, failed):
            if len(found) == NAMED_ERRORS:
                found.update((int(other), "the expression fails on this row") for other in failed[NAMED_ERRORS:])
                break
            try:
                self._run(table.slice(row, 1), guarded=False, doubles=doubles)
                found[row] = "the expression fails on this row"
            except duckdb.Error as error:
                found[row] = duckdb_errors.kind(error)
        return found

    def _once_more(self, truth: Truth, columns: Mapping[str, pa.Array], found: Mapping[str, TypedColumn], again: Mask) -> Truth:
        """Judges the rows that no decimal holds, or on which decimals overflowed, with doubles."""
        index = np.flatnonzero(again)
        chosen = {}
        for name, column in found.items():
            raw = column.malformed.any() or is_numeric(self._types[name])
            values = (columns[name] if raw else column.values).take(pa.array(index))
            chosen[name] = values.cast(pa.string()) if pa.types.is_decimal256(values.type) else values
        second = self._in_duckdb(chosen, len(index), doubles=True)
        true, null = truth.true.copy(), truth.null.copy()
        true[index], null[index] = second.true, second.null
        return Truth(true, null, {int(index[row]): message for row, message in second.errors.items()})


def _distinct(names: tuple[str, ...]) -> dict[str, str]:
    """Names that differ by more than case, which is all that DuckDB looks at."""
    written: dict[str, str] = {}
    for name in names:
        candidate = name
        while candidate.lower() in {other.lower() for other in written.values()}:
            candidate += "_"
        written[name] = candidate
    return written


def is_numeric(kind: str) -> bool:
    """Whether a Postgres type is numeric, with or without a precision."""
    parsed = parse_type(kind)
    return parsed.base == "numeric" and not parsed.array


def computable(array: pa.Array, kind: str) -> TypedColumn:
    """Values that DuckDB computes with, from Postgres' text or as they are; floating point that stands for `numeric` as decimals."""
    wide = pa.types.is_decimal256(array.type)  # DuckDB has no such type
    if wide or (pa.types.is_floating(array.type) and is_numeric(kind)):
        array = array.cast(pa.string())
    if pa.types.is_string(array.type):
        return exact_decimals(array) if wide or (is_numeric(kind) and not pa.types.is_decimal128(arrow_type(kind))) else typed(array, kind)
    return TypedColumn(array, np.zeros(len(array), np.bool_))


def _sample_type(kind: str) -> pa.DataType:
    found = arrow_type(kind)
    return pa.decimal128(18, 2) if is_numeric(kind) and not pa.types.is_decimal128(found) else found
