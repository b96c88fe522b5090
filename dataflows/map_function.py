"""A map in Python: a function that takes a pyarrow.Table of typed columns and returns one with as many rows, in the same order."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from dataflows.map_answer import Answer, RowsError, bisected, fitting, one_array
from dataflows.map_sql import not_computable
from dataflows.map_types import conversion, natural_type
from journal import duckdb_errors
from journal.duckdb_session import quoted, session
from journal.expression import computable
from journal.quarantine import Reason
from journal.schema import TableSchema
from pipeline.errors import ConfigError
from pipeline.names import nearest

Function = Callable[[pa.Table], Any]


def load_function(dotted: str, folder: Path) -> Function:
    """The function of that name, from the folder of the pipeline file or from what is installed. Raises ConfigError."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))  # behind everything else: a file there takes nobody's place
    module, _, name = dotted.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:
        raise ConfigError(
            f"the map {dotted} cannot be imported: {type(error).__name__}: {error}", hint=f"looked for in {folder}"
        ) from error
    if not callable(found):
        raise ConfigError(f"the map {dotted} is no function")
    return found  # type: ignore[no-any-return]


class FunctionMap:
    """A function, bound to the columns of its input and to those of its dataset; see SqlMap.

    It is called once without rows, to see what it gives.
    """

    def __init__(self, dotted: str, function: Function, types: Mapping[str, str], dataset: TableSchema | None) -> None:
        self._dotted = dotted
        self._function = function
        self._types = types
        self._dataset = dataset
        self._statements: dict[pa.Schema, str] = {}
        self.columns: dict[str, str] = {}
        nothing = pa.table({name: computable(pa.array([], pa.string()), kind).values for name, kind in types.items()})
        try:
            given = self._called(nothing)
        except RowsError as error:
            said = f": {error.__cause__}" if error.__cause__ is not None else ""  # of no row, so it repeats no value
            raise ConfigError(f"the map {dotted}, which is called without rows to see what it gives: {error}{said}") from error
        self.columns = self._fitted(given.schema)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.columns)

    def reads(self, names: Iterable[str]) -> frozenset[str]:
        """A function may read every column of the input."""
        return frozenset(self._types)

    def source(self, name: str) -> str | None:
        """Nobody knows which columns a function passes on."""
        return None

    def run(self, columns: Mapping[str, pa.StringArray], rows: int, names: Sequence[str] | None = None) -> Answer:
        """See SqlMap.run."""
        found = {name: computable(columns[name], kind) for name, kind in self._types.items()}
        given = pa.table({name: column.values for name, column in found.items()})
        bad: dict[int, Reason] = {}
        answers, failed = bisected(rows, lambda start, stop: self._texts(given.slice(start, stop - start)))
        bad |= failed
        texts = _spread(answers, self.names, rows, bad)
        for name, column in found.items():
            if column.malformed.any():
                bad |= not_computable(name, self._types[name], column.malformed)
        wanted = self.columns if names is None else names
        return Answer({name: fitting(name, self.columns[name], texts[name], bad) for name in wanted}, bad)

    def _called(self, given: pa.Table) -> pa.Table:
        try:
            answer = self._function(given)
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            own = frames[min(1, len(frames) - 1)]  # the function itself, whatever library it was in
            raise RowsError(f"it raised {type(error).__name__} ({Path(own.filename).name}:{own.lineno})") from error
        if not isinstance(answer, pa.Table):
            raise RowsError(f"it returned {type(answer).__name__}, and no pyarrow.Table")
        if answer.num_rows != given.num_rows:
            raise RowsError(f"it returned {answer.num_rows} rows for {given.num_rows}")
        if len(set(answer.column_names)) < answer.num_columns:
            twice = next(name for name in answer.column_names if answer.column_names.count(name) > 1)
            raise RowsError(f"it returned the column {twice} twice")
        return answer

    def _texts(self, given: pa.Table) -> pa.Table:
        answer = self._called(given)
        missing = [name for name in self.columns if name not in answer.column_names]
        if missing:
            raise RowsError(f"it returned no column {missing[0]}")
        answer = answer.select(self.names)
        try:
            return session().over(answer, self._statement(answer.schema))
        except duckdb.Error as error:
            raise RowsError(duckdb_errors.kind(error)) from error

    def _fitted(self, schema: pa.Schema) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, held in self._held(schema).items():
            if self._dataset is not None and name not in self._dataset.types:
                message = f"the map {self._dotted} gives `{name}`, which the contract of {self._dataset.dataset} does not have"
                raise ConfigError(message, hint=nearest(name, self._dataset.names))
            target = natural_type(held) if self._dataset is None else self._dataset.types[name]
            if target is None or conversion(held, target, "x") is None:
                raise ConfigError(f"`{name}` of the map {self._dotted} is {held}, which goes into no column of {target or 'Postgres'}")
            found[name] = target
        return found

    def _held(self, schema: pa.Schema) -> dict[str, str]:
        asked = ", ".join(f"typeof(given.{quoted(name)})" for name in schema.names)
        try:
            answer = session().over(schema.empty_table(), f"SELECT {asked} FROM (SELECT 1) AS one LEFT JOIN given ON true")
        except duckdb.Error as error:
            raise ConfigError(f"the map {self._dotted}: {duckdb_errors.told(error)}") from error
        return {name: answer.column(c)[0].as_py() for c, name in enumerate(schema.names)}

    def _statement(self, schema: pa.Schema) -> str:
        if schema not in self._statements:
            written = []
            for name, held in self._held(schema).items():
                found = conversion(held, self.columns[name], quoted(name))
                if found is None:
                    raise RowsError(f"what it returned for {name} is {held}, which goes into no column of {self.columns[name]}")
                written.append(f"{found.sql} AS {quoted(name)}")
            self._statements[schema] = f"SELECT {', '.join(written)} FROM given"
        return self._statements[schema]


def _spread(answers: Sequence[pa.Table], names: Sequence[str], rows: int, bad: Mapping[int, Reason]) -> dict[str, pa.StringArray]:
    """The answers, which are in order, with nulls for the rows that have none."""
    if not answers:
        return {name: pa.nulls(rows, pa.string()) for name in names}
    whole = pa.concat_tables(answers)
    if bad:
        there = np.ones(rows, np.bool_)
        there[list(bad)] = False
        whole = whole.take(pa.array(np.cumsum(there) - 1, mask=~there))
    return {name: one_array(whole[name]) for name in names}
