"""Writing into a mirror table without a key, where equal rows are counted."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from journal.batch import ChangeBatch, Longs
from sinks.base import RefusedRow
from sinks.bookkeeping import DELETED_AT, POSITION
from sinks.duckdb_session import quoted
from sinks.duckdb_table import Table, placed
from sinks.duckdb_values import incoming, row_hashes
from sinks.multiset import Removals, bag_effect
from sinks.row_hash import ROW

_MOMENT = pa.timestamp("us", "UTC")


class BagWriter:
    """One table without a key."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._soft = table.target.on_delete == "soft"

    def write(self, batch: ChangeBatch, leaving: Longs) -> Sequence[RefusedRow]:
        """Writes a batch; see Sink.write."""
        batch, leaving, index, _, refused = self._table.sound(batch, leaving)
        net = bag_effect(self._table.target, batch, leaving, self._hashes)
        if net.truncate is not None:
            self._table.truncate(net.truncate)
        self._take("DELETE", net.removals)
        self._take("UPDATE", net.marked)
        rows = net.rows
        if len(rows):
            own = {ROW: rows.row_hash}
            if self._soft:
                mask = None if rows.deleted is None else rows.deleted < 0
                own[DELETED_AT] = pa.nulls(len(rows), _MOMENT) if mask is None else pa.array(rows.deleted, mask=mask).cast(_MOMENT)
            self._table.insert(incoming(self._table.kinds, rows.columns)[0], rows.position, own, look=self._table.late(rows.position))
        return refused + placed(net.refused, index)

    def _hashes(self, columns: Sequence[pa.StringArray]) -> pa.StringArray:
        """Hashes of the values as DuckDB holds them."""
        return row_hashes(self._table.kinds, incoming(self._table.kinds, columns)[0])

    def _take(self, how: str, removals: Removals) -> None:
        """Removes rows, or marks them as deleted: of each kind as many as are told, the oldest first."""
        if not len(removals):
            return
        table, row, position, at = self._table.name, quoted(ROW), quoted(POSITION), quoted(DELETED_AT)
        live = f" AND t.{at} IS NULL" if self._soft else ""
        rank = f"row_number() OVER (PARTITION BY t.{row} ORDER BY t.{position})"
        ranked = f"SELECT t.rowid AS id, g.n, g.d, {rank} AS r FROM {table} t JOIN keys_in g ON t.{row} = g.h AND t.{position} < g.p{live}"
        some = f"(SELECT id, d FROM ({ranked}) WHERE r <= n) AS s"
        where = f"FROM {some} WHERE t.rowid = s.id"
        statement = (
            f"DELETE FROM {table} AS t USING {some} WHERE t.rowid = s.id"
            if how == "DELETE"
            else f"UPDATE {table} AS t SET {at} = s.d {where}"
        )
        rows = {
            "h": removals.row_hash,
            "n": pa.array(removals.count),
            "p": pa.array(removals.position),
            "d": pa.array(removals.time).cast(_MOMENT),
        }
        self._table.session.execute(statement, keys_in=pa.table(rows))

    def flush(self) -> None:
        """Nothing waits."""

    def forget(self) -> None:
        """Nothing waits."""
