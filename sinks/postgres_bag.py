"""Writing into a mirror table without a key, where equal rows are counted."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import pyarrow as pa

from journal.batch import ChangeBatch, Longs
from sinks.base import RefusedRow
from sinks.bookkeeping import DELETED_AT, POSITION
from sinks.multiset import BagNet, Removals, bag_effect
from sinks.postgres_copy import moments, params
from sinks.postgres_mirror import FEW
from sinks.postgres_session import Command, Session, quoted
from sinks.postgres_sql import TableSql
from sinks.postgres_stage import Staging, copy_rows, run_each
from sinks.postgres_table import append, refused_rows, truncate
from sinks.row_hash import ROW, row_hashes
from sinks.rows import Rows


class BagWriter:
    """One table without a key, in one session."""

    def __init__(self, session: Session, staging: Staging, sql: TableSql) -> None:
        self._session = session
        self._staging = staging
        self._sql = sql

    def write(self, batch: ChangeBatch, leaving: Longs) -> Sequence[RefusedRow]:
        """Writes a batch; see Sink.write."""
        net = bag_effect(self._sql.target, batch, leaving, row_hashes)
        if net.truncate is not None:
            truncate(self._session, self._sql.table, net.truncate)
        few = len(net.removals) + len(net.marked) + len(net.rows) <= FEW
        return [*net.refused, *(self._each(net) if few else self._many(net))]

    def _cells(self, rows: Rows) -> list[pa.Array]:
        """The columns of `TableSql.own`."""
        cells = [*rows.columns, rows.row_hash, pa.array(rows.position)]
        if self._sql.soft:
            cells.append(pa.nulls(len(rows), pa.string()) if rows.deleted is None else moments(rows.deleted))
        return cells

    def _each(self, net: BagNet) -> list[RefusedRow]:
        commands = [Command(self._remove, values) for values in params(_removal_cells(net.removals, timed=False))]
        commands += [Command(self._mark, values) for values in params(_removal_cells(net.marked, timed=True))]
        rows = params(self._cells(net.rows)) if len(net.rows) else []
        commands += [Command(self._sql.insert, values, int(row)) for values, row in zip(rows, net.rows.rows, strict=True)]
        _, refusals = run_each(self._session, commands)
        return refused_rows(refusals, [command.row for command in commands])

    def _many(self, net: BagNet) -> list[RefusedRow]:
        for removals, statement in ((net.removals, self._remove_staged), (net.marked, self._mark_staged)):
            if len(removals):
                self._staging.empty(self._sql.keys_table, "h text, n bigint, p bigint, d timestamptz")
                copy_rows(self._session, self._sql.keys_table, "h, n, p, d", _removal_cells(removals, timed=True))
                self._session.execute(statement)
        return append(self._session, self._staging, self._sql, self._cells(net.rows), net.rows) if len(net.rows) else []

    @cached_property
    def _live(self) -> str:
        return f" AND t.{quoted(DELETED_AT)} IS NULL" if self._sql.soft else ""

    @cached_property
    def _chosen(self) -> str:
        """Rows of one kind, oldest first. Parameters: hash, count, position."""
        found = f"t.{quoted(ROW)} = $1 AND t.{quoted(POSITION)} < $3{self._live}"
        return f"ARRAY(SELECT t.ctid FROM {self._sql.table} t WHERE {found} ORDER BY t.{quoted(POSITION)} LIMIT $2)"

    @cached_property
    def _remove(self) -> str:
        return f"DELETE FROM {self._sql.table} WHERE ctid = ANY ({self._chosen})"

    @cached_property
    def _mark(self) -> str:
        """Parameters: those of `_chosen`, and the time."""
        return f"UPDATE {self._sql.table} SET {quoted(DELETED_AT)} = $4 WHERE ctid = ANY ({self._chosen})"

    @cached_property
    def _ranked(self) -> str:
        rank = f"row_number() OVER (PARTITION BY t.{quoted(ROW)} ORDER BY t.{quoted(POSITION)})"
        found = f"t.{quoted(ROW)} = s.h AND t.{quoted(POSITION)} < s.p{self._live}"
        return f"(SELECT t.ctid AS at, s.n, s.d, {rank} AS r FROM {self._sql.keys_table} s JOIN {self._sql.table} t ON {found}) f"

    @cached_property
    def _remove_staged(self) -> str:
        return f"DELETE FROM {self._sql.table} WHERE ctid = ANY (ARRAY(SELECT f.at FROM {self._ranked} WHERE f.r <= f.n))"

    @cached_property
    def _mark_staged(self) -> str:
        chosen = f"(SELECT f.at, f.d FROM {self._ranked} WHERE f.r <= f.n) c"
        return f"UPDATE {self._sql.table} t SET {quoted(DELETED_AT)} = c.d FROM {chosen} WHERE t.ctid = c.at"


def _removal_cells(removals: Removals, timed: bool) -> list[pa.Array]:
    cells = [removals.row_hash, pa.array(removals.count), pa.array(removals.position)]
    return [*cells, moments(removals.time)] if timed else cells
