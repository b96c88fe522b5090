"""A map in SQL over rows of one shape: what it gives, and the rows that it gives, prepared once.

Only columns that the SQL computes with are cast from Postgres' text; one that a map passes on as it stands is not touched at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import duckdb
import numpy as np
import pyarrow as pa

from dataflows.map_answer import Answer, RowsError, aligned, bad_row, bisected, fitting
from dataflows.map_query import ROW, BoundQuery, Projection, Query
from dataflows.map_types import Conversion, conversion, natural_type, same_text
from journal import duckdb_errors
from journal.batch import Mask
from journal.decimals import exact_decimals
from journal.duckdb_session import quoted, session
from journal.expression import is_numeric
from journal.quarantine import Reason
from journal.schema import TableSchema
from journal.types import TypedColumn, arrow_type, duckdb_type, typed
from pipeline.errors import ConfigError, Problem
from pipeline.names import nearest

_JSON = pa.json_(pa.string())
_PLANS = 16  # that are kept: one for each set of scales that unbounded numbers of a batch need


class SqlMap:
    """A map in SQL, bound to the columns of its input and to those of its dataset.

    columns   name -> Postgres type of what it gives, in its order
    """

    def __init__(self, query: Query, types: Mapping[str, str], dataset: TableSchema | None, *, keep_scale: bool = False) -> None:
        """`types`: column of the input -> Postgres type; `dataset`: the columns that the dataset has, where it has a contract.

        With `keep_scale` an exact number that SQL computes is numeric(p,s), where it is not made of numbers without bounds.

        Raises ConfigError, with the lines, for what the one does not have or the other does not take.
        """
        self._query = query
        self._types = types
        self._keep_scale = keep_scale
        self._likely: dict[str, pa.DataType] = {}
        self._plans: dict[tuple[tuple[str, ...], pa.Schema], tuple[str, frozenset[str]]] = {}
        self._bound = query.bind(types)
        self._by_name = {one.name: one for one in self._bound.projections}
        self.columns = self._fitted(dataset)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.columns)

    def reads(self, names: Iterable[str]) -> frozenset[str]:
        """The columns of the input that the given columns depend on, and whether there is a row at all."""
        return self._bound.everywhere.union(*(self._by_name[name].reads for name in names))

    def source(self, name: str) -> str | None:
        """The column of the input that this one is as it stands, if it is one."""
        return self._by_name[name].source

    @property
    def computed_with(self) -> frozenset[str]:
        """The columns of the input that are cast from Postgres' text."""
        names = [name for name, target in self.columns.items() if not self._as_it_is(self._by_name[name], target)]
        return self.reads(names)

    def _fitted(self, dataset: TableSchema | None) -> dict[str, str]:
        held = self._held()
        found: dict[str, str] = {}
        problems: list[Problem] = []
        for one in self._bound.projections:
            if dataset is not None and one.name not in dataset.types:
                message = f"the map gives `{one.name}`, which the contract of {dataset.dataset} does not have"
                problems.append(Problem(message, self._query.file, one.line, nearest(one.name, dataset.names)))
                continue
            natural = self._types[one.source] if one.source else self._natural(one, held[one.name])
            target = dataset.types[one.name] if dataset is not None else natural
            if target is None or (not self._as_it_is(one, target) and not self._goes(one, held[one.name], target)):
                into = "no column of Postgres" if target is None else f"no column of {target}"
                message = f"`{one.name}` is {self._told(one, held[one.name])}, which goes into {into}"
                problems.append(Problem(message, self._query.file, one.line, "CAST it, or make it JSON with to_json()"))
                continue
            found[one.name] = target
        if problems:
            raise ConfigError.of(problems)
        return found

    def _natural(self, one: Projection, held: str) -> str | None:
        bounded = not any(_unbounded(self._types[name]) for name in one.reads)
        if self._keep_scale and held.startswith("DECIMAL(") and bounded:
            return "numeric" + held.removeprefix("DECIMAL")
        return natural_type(held)

    def _goes(self, one: Projection, held: str, target: str) -> bool:
        """A text column as it stands is none of numbers or times: who means that says so. What SQL takes out of JSON or text is read."""
        literal = one.node["class"] == "CONSTANT" and held == "VARCHAR"
        if (one.source is not None or literal) and held == "VARCHAR" and duckdb_type(target) not in ("VARCHAR", "JSON"):
            return False
        if (one.source is not None or literal) and held == "VARCHAR" and is_numeric(target):
            return one.source is not None and is_numeric(self._types[one.source])
        return conversion(held, target, "x") is not None

    def _told(self, one: Projection, held: str) -> str:
        return self._types[one.source] if one.source is not None else held

    def _as_it_is(self, one: Projection, target: str) -> bool:
        return one.source is not None and self._query.plain and same_text(self._types[one.source], target)

    def _held(self) -> dict[str, str]:
        """Column that the map gives -> DuckDB type. Raises ConfigError with the lines of what DuckDB refuses."""
        try:
            return self._described(self._bound, [one.name for one in self._bound.projections], self._sample())
        except duckdb.Error as error:
            raise ConfigError.of(self._located(error)) from error

    def _located(self, whole: duckdb.Error) -> list[Problem]:
        """The columns that DuckDB refuses on their own; where there are none it is the rest of the statement."""
        problems = []
        for one in self._bound.projections:
            try:
                self._described(self._bound, [one.name], self._sample())
            except duckdb.Error as error:
                problems.append(Problem(f"`{one.name}`: {duckdb_errors.told(error)}", self._query.file, one.line))
        everything = len(problems) == len(self._bound.projections) and len({one.message.partition(": ")[2] for one in problems}) == 1
        return problems if problems and not everything else [Problem(duckdb_errors.told(whole), self._query.file, self._query.line({}))]

    def _sample(self) -> pa.Table:
        """No rows, of the types that rows have."""
        return self._given({name: pa.array([], pa.string()) for name in self._types}, 0)[0]

    def _described(self, bound: BoundQuery, names: Sequence[str], given: pa.Table) -> dict[str, str]:
        asked = ", ".join(f"typeof(mapped.{quoted(name)})" for name in names)
        statement = f"{self._input(given.schema)} SELECT {asked} FROM (SELECT 1) AS one LEFT JOIN ({bound.sql(names)}) AS mapped ON true"
        answer = session().over(given, statement)
        return {name: answer.column(c)[0].as_py() for c, name in enumerate(names)}

    def _input(self, schema: pa.Schema) -> str:
        uuids = [name for name in schema.names if name != ROW and duckdb_type(self._types[name]) == "UUID"]
        casts = ", ".join(f"CAST({quoted(name)} AS UUID) AS {quoted(name)}" for name in uuids)
        return f", input AS (SELECT * REPLACE ({casts}) FROM given)" if uuids else ", input AS (FROM given)"

    def _given(self, columns: Mapping[str, pa.StringArray], rows: int) -> tuple[pa.Table, dict[str, Mask]]:
        """The typed rows with their numbers; and of columns with values that cannot be computed with, which these are."""
        found: dict[str, pa.Array] = {ROW: pa.array(np.arange(rows, dtype=np.int64))}
        malformed: dict[str, Mask] = {}
        for name, text in columns.items():
            column = self._typed(name, text)
            found[name] = column.values
            if column.malformed.any():
                malformed[name] = column.malformed
        return pa.table(found), malformed

    def _typed(self, name: str, text: pa.StringArray) -> TypedColumn:
        kind = self._types[name]
        if duckdb_type(kind) == "JSON":
            return TypedColumn(pa.ExtensionArray.from_storage(_JSON, text), np.zeros(len(text), np.bool_))
        if not _unbounded(kind):
            return typed(text, kind)
        column = exact_decimals(text, self._likely.get(name))
        self._likely[name] = column.values.type
        return column

    def run(self, columns: Mapping[str, pa.StringArray], rows: int, names: Sequence[str] | None = None) -> Answer:
        """What the map gives for these rows: all its columns, or those in `names`. `columns` holds at least what they read."""
        wanted = tuple(self.columns if names is None else names)
        kept = {name: self._by_name[name].source for name in wanted if self._as_it_is(self._by_name[name], self.columns[name])}
        computed = tuple(name for name in wanted if name not in kept)
        found = {name: columns[source] for name, source in kept.items() if source is not None}
        bad: dict[int, Reason] = {}
        if (computed or not self._query.plain) and rows:
            given, malformed = self._given({name: columns[name] for name in self.reads(computed)}, rows)
            found |= self._computed(given, computed, bad)
            for name, mask in malformed.items():
                bad |= not_computable(name, self._types[name], mask)
        elif computed:
            found |= {name: pa.array([], pa.string()) for name in computed}
        return Answer({name: found[name] for name in wanted}, bad)

    def _computed(self, given: pa.Table, names: tuple[str, ...], bad: dict[int, Reason]) -> dict[str, pa.StringArray]:
        statement, strict = self._plan(names, given)

        def attempt(start: int, stop: int) -> pa.Table:
            try:
                return session().over(given.slice(start, stop - start), statement)
            except duckdb.Error as error:
                raise RowsError(duckdb_errors.kind(error)) from error
            except pa.ArrowInvalid as error:
                raise RowsError("what it gives is larger than 2 GiB") from error

        answers, failed = bisected(given.num_rows, attempt)
        bad |= failed
        if not answers:
            return {name: pa.nulls(given.num_rows, pa.string()) for name in names}
        answer = answers[0] if len(answers) == 1 else pa.concat_tables(answers)
        columns = aligned(answer.column(0), answer.columns[1:], given.num_rows, bad)
        texts = dict(zip(names, columns, strict=True))
        return {name: fitting(name, self.columns[name], text, bad) if name in strict else text for name, text in texts.items()}

    def _plan(self, names: tuple[str, ...], given: pa.Table) -> tuple[str, frozenset[str]]:
        """The statement that gives the row's number and each column as text, and the columns whose values may not fit."""
        found = self._plans.get((names, given.schema))
        if found is None:
            if len(self._plans) >= _PLANS:
                self._plans.pop(next(iter(self._plans)))
            found = self._plans[names, given.schema] = self._planned(names, given.slice(0, 0))
        return found

    def _planned(self, names: tuple[str, ...], given: pa.Table) -> tuple[str, frozenset[str]]:
        conversions: dict[str, Conversion] = {}
        try:
            held = self._described(self._bound, names, given) if names else {}
        except duckdb.Error as error:
            raise ConfigError.of(self._located(error)) from error
        for name in names:
            found = conversion(held[name], self.columns[name], f"mapped.{quoted(name)}")
            if found is None:  # numbers that came to be of another type than those of the sample, in a list or the like
                raise ConfigError(f"{self._query.file}: `{name}` is {held[name]}, which goes into no column of {self.columns[name]}")
            conversions[name] = found
        texts = ", ".join(f"{found.sql} AS {quoted(name)}" for name, found in conversions.items())
        chosen = f"mapped.{ROW}" + (f", {texts}" if texts else "")
        statement = f"{self._input(given.schema)} SELECT {chosen} FROM ({self._bound.sql(names)}) AS mapped"
        return statement, frozenset(name for name, found in conversions.items() if found.strict)


def _unbounded(kind: str) -> bool:
    """Whether what numbers of a type need differs from batch to batch."""
    return is_numeric(kind) and not pa.types.is_decimal128(arrow_type(kind))


def not_computable(name: str, kind: str, mask: Mask) -> dict[int, Reason]:
    """Rows whose value no computation takes: they are bad, as it would be null in it and is not."""
    held = "an exact number" if is_numeric(kind) else duckdb_type(kind)
    return {
        int(row): bad_row(f"the map cannot compute with the value of {name}: it is not {held} in DuckDB") for row in np.flatnonzero(mask)
    }
