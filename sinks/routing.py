"""What a sink gets of a dataset: the rows that its `where` lets through, with columns dropped, masked and cast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from journal.batch import Bytes, ChangeBatch, Longs, Mask, Op
from journal.expression import RowExpression
from journal.schema import Column, TableSchema
from pipeline.errors import ConfigError, Problem
from pipeline.model import Route
from sinks import columns
from sinks.base import NO_ROWS, RefusedRow, Target
from sinks.casts import ColumnCast
from sinks.lineage import completed
from sinks.mask_key import mask_key
from sinks.masks import masked
from sinks.route_check import route_problems

__all__ = ["Routed", "Router", "mask_key", "route_problems"]


@dataclass(frozen=True, slots=True, eq=False)
class Routed:
    """What a batch is for one sink.

    batch     the rows that go there, under the target's schema
    rows      int64[len(batch)], the row of the original batch that each of them was
    leaving   int64[], indices (of `batch`) of updates that no longer match: a row with their key must go
    filtered  rows of the original that do not go there; those that leave are among them
    refused   rows of the original batch that cannot be judged or cast
    """

    batch: ChangeBatch
    rows: Longs
    leaving: Longs
    filtered: int
    refused: Sequence[RefusedRow]


class Router:
    """Routes the batches of one dataset under one schema into one sink.

    Deletes and truncates always pass, as what they remove may be there. Raises ConfigError (with the route's line, and the file if
    given) for a route that does not fit the schema.
    """

    def __init__(self, route: Route, schema: TableSchema, mask_key: bytes, file: Path | None = None) -> None:
        problems = route_problems(route, schema, file)
        if problems:
            raise ConfigError.of(problems)
        self._key = mask_key
        self._where = None if route.where is None else RowExpression(route.where, schema.types, table=route.dataset)
        self._actions = {schema.index(name): columns.parse_action(text) for name, text in route.columns.items()}
        self._kept = tuple(c for c in range(len(schema.columns)) if not isinstance(self._actions.get(c), columns.Drop))
        self._casts = {c: ColumnCast(schema.columns[c].type, a.type) for c, a in self._actions.items() if isinstance(a, columns.Cast)}
        self._masks = {c: a.kind for c, a in self._actions.items() if isinstance(a, columns.Mask)}
        self._as_it_is = not self._actions
        target = (
            schema
            if self._as_it_is
            else replace(schema, columns=tuple(self._column(c, schema.columns[c], route, file) for c in self._kept))
        )
        self.target = Target(
            dataset=route.dataset,
            table=route.table or route.dataset,
            schema=target,
            mode=route.mode,
            on_delete=route.on_delete,
            on_truncate=route.on_truncate,
            filtered=route.where is not None,
        )

    @property
    def filters_by(self) -> frozenset[str]:
        """The columns that decide which rows come here."""
        return frozenset() if self._where is None else frozenset(self._where.references)

    def route(self, batch: ChangeBatch) -> Routed:
        """Never raises for a row: what cannot be judged or cast is refused and the others go on."""
        rows = np.arange(len(batch))
        leaving = NO_ROWS
        filtered = 0
        refused: list[RefusedRow] = []
        if self._where is not None:
            matching, errors = self._judged(self._where, batch)
            refused += [RefusedRow(row, None, f"the filter fails: {message}") for row, message in errors.items()]
            update = batch.op == Op.UPDATE
            away = ~matching & update
            away[[*errors]] = False
            rows = np.flatnonzero(matching | away)
            filtered = len(batch) - len(rows) - len(errors) + int(np.count_nonzero(away))
            leaving = np.flatnonzero(away[rows])
            batch = batch.take(rows)
        if self._as_it_is:
            return Routed(batch, rows, leaving, filtered, refused)
        batch, failed = self._changed(batch, leaving)
        if failed:
            refused += [replace(one, row=int(rows[one.row])) for one in failed]
            good = np.ones(len(batch), np.bool_)
            good[[one.row for one in failed]] = False
            gone = np.zeros(len(batch), np.bool_)
            gone[leaving] = True
            batch, rows, leaving = batch.take(good), rows[good], np.flatnonzero(gone[good])
        return Routed(batch, rows, leaving, filtered, refused)

    def _judged(self, where: RowExpression, batch: ChangeBatch) -> tuple[Mask, dict[int, str]]:
        """Rows that pass, and those on which the filter fails. An unknown value is null, and null is no."""
        judged = (batch.op != Op.DELETE) & (batch.op != Op.TRUNCATE)
        whole = completed(batch) if any(name in where.references for name in self._absent(batch)) else batch
        truth = where.evaluate({name: whole.column(name) for name in where.references}, len(batch))
        return truth.true | ~judged, {row: message for row, message in sorted(truth.errors.items()) if judged[row]}

    @staticmethod
    def _absent(batch: ChangeBatch) -> list[str]:
        return [batch.schema.names[c] for c in batch.presence]

    def _changed(self, batch: ChangeBatch, leaving: Longs) -> tuple[ChangeBatch, list[RefusedRow]]:
        """The batch under the target's schema, and the rows that cannot be cast.

        What is deleted or leaves is never refused: a key that cannot be cast was never there.
        """
        written = np.isin(batch.op, (Op.INSERT, Op.UPDATE, Op.READ))
        written[leaving] = False
        refused: dict[int, RefusedRow] = {}
        made: list[pa.StringArray] = []
        for c in self._kept:
            values, failed = self._column_of(c, batch.columns[c])
            made.append(values)
            for row in np.flatnonzero(failed & written):
                refused.setdefault(int(row), RefusedRow(int(row), batch.schema.names[c], self._failure(c)))
        places = {c: place for place, c in enumerate(self._kept)}
        presence: dict[int, Bytes] = {places[c]: codes for c, codes in batch.presence.items() if c in places}
        old = {places[c]: self._column_of(c, values)[0] for c, values in batch.old.items() if c in places}
        changed = replace(batch, schema=self.target.schema, columns=tuple(made), presence=presence, old=old)
        return changed, [refused[row] for row in sorted(refused)]

    def _column_of(self, c: int, text: pa.StringArray) -> tuple[pa.StringArray, Mask]:
        """A column as it goes there, and bool[n] of the values that cannot be cast."""
        if c in self._casts:
            return self._casts[c].apply(text)
        values = masked(text, self._masks[c], self._key) if c in self._masks else text
        return values, np.zeros(len(text), np.bool_)

    def _failure(self, c: int) -> str:
        # the value itself may be somebody's secret; whoever may see it finds it in the record
        return f"the value does not fit cast({self._casts[c].target})"

    def _column(self, c: int, column: Column, route: Route, file: Path | None) -> Column:
        """What the column is in the target."""
        default = None
        if column.default is not None:
            values, failed = self._column_of(c, pa.array([column.default], pa.string()))
            default = values[0].as_py()
            if failed.any():
                message = f"the default of {column.name!r} in rows that were there before it does not fit cast({self._casts[c].target})"
                raise ConfigError.of([Problem(message, file, route.line or None)])
        kind = "text" if c in self._masks else str(self._casts[c].target) if c in self._casts else column.type
        return replace(column, type=kind, default=default)
