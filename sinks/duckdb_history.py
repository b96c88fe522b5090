"""Writing into a history table, and reading what it says is live."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from journal.batch import ChangeBatch, Longs, Mask
from journal.types import duckdb_type
from sinks.base import RefusedRow
from sinks.bookkeeping import POSITION
from sinks.duckdb_session import literal, quoted
from sinks.duckdb_table import Table, placed, spread
from sinks.duckdb_values import incoming, postgres_words, row_hashes
from sinks.history import COMMITTED_AT, OLD_KEY, OP, Log, bag_log_of, log_of
from sinks.mirror import lacking
from sinks.row_hash import ROW

_POSITION, _OP, _OLD_KEY, _ROW = map(quoted, (POSITION, OP, OLD_KEY, ROW))
_EVER = 2**63 - 1
_MOMENT = pa.timestamp("us", "UTC")


class HistoryWriter:
    """One history table."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._history = HistorySql(table)

    def write(self, batch: ChangeBatch, leaving: Longs) -> Sequence[RefusedRow]:
        """Writes a batch; see Sink.write."""
        target = self._table.target
        batch, leaving, index, _, refused = self._table.sound(batch, leaving)
        if target.schema.key:
            log, columns, lost = self._filled(log_of(target, batch, leaving))
        else:
            log, lost = bag_log_of(target, batch, leaving, self._hashes, self._count_live), []
            columns = incoming(self._table.kinds, log.rows.columns)[0]
        if len(log.rows):
            rows = log.rows
            own = {OP: log.op, OLD_KEY: log.old_key, COMMITTED_AT: pa.array(rows.time).cast(_MOMENT)}
            if not target.schema.key:
                own[ROW] = rows.row_hash
            self._table.insert(columns, rows.position, own, look=self._table.late(rows.position))
        return refused + placed([*log.refused, *lost], index)

    def _hashes(self, columns: Sequence[pa.StringArray]) -> pa.StringArray:
        return row_hashes(self._table.kinds, incoming(self._table.kinds, columns)[0])

    def _filled(self, log: Log) -> tuple[Log, list[pa.Array], list[RefusedRow]]:
        """The log with unchanged values from older rows of the table, and without deletes of rows that it never had."""
        rows = log.rows
        columns = incoming(self._table.kinds, rows.columns)[0]
        asking = np.flatnonzero(rows.partial | log.if_held)
        if not len(asking) or rows.base is None:
            return log, columns, []
        some = rows.take(asking)
        held, values = self._newest(self._table.typed_key(some.base or ()), some.position, sorted(rows.missing))
        found = np.zeros(len(rows), np.bool_)
        found[asking] = held
        place = np.full(len(rows), -1, np.int64)
        place[asking] = np.arange(len(asking))
        index = pa.array(place, mask=place < 0)
        for c, mask in rows.missing.items():
            columns[c] = pc.if_else(pa.array(mask & found), values[c].take(index).cast(columns[c].type), columns[c])
        lost = ~found & ~rows.recallable
        kept = ~lost & (~log.if_held | found)
        at = pa.array(np.flatnonzero(kept))
        return log.take(kept), [column.take(at) for column in columns], lacking(self._table.target, rows, np.flatnonzero(lost))

    def _newest(self, keys: Sequence[pa.Array], position: Longs, columns: Sequence[int]) -> tuple[Mask, dict[int, pa.Array]]:
        rows = {f"k{i}": array for i, array in enumerate(keys)} | {"p": pa.array(position), "n": pa.array(np.arange(len(position)))}
        found = self._table.session.table(self._history.newest(columns), keys_in=pa.table(rows))
        return spread(found, len(position), columns)

    def _count_live(self, hashes: pa.StringArray) -> Longs:
        rows = pa.table({"h": hashes, "n": pa.array(np.arange(len(hashes)))})
        found = self._table.session.table(self._history.count_live, keys_in=rows)
        counts = np.zeros(len(hashes), np.int64)
        counts[found["n"].to_numpy()] = found["live"].to_numpy()
        return counts

    def sweep(self, position: int) -> None:
        """Tells of what a copy no longer found: a delete for each live row that is older than `position`."""
        schema = self._table.target.schema
        carried = [self._table.names.column(name) for name in schema.key] or [
            *(self._table.names.column(name) for name in schema.names),
            _ROW,
        ]
        into = ", ".join([*carried, _OP, _POSITION, quoted(COMMITTED_AT)])
        gone = f"SELECT {', '.join(f'h.{name}' for name in carried)}, 'delete', {position}, now() FROM {self._history.live(position)}"
        self._table.session.execute(f"INSERT INTO {self._table.name} ({into}) {gone}")
        self._table.seen(position)

    def flush(self) -> None:
        """Nothing waits."""

    def forget(self) -> None:
        """Nothing waits."""


class HistorySql:
    """What a history table says, in SQL. A row is live if it is the newest of its key, no delete, and the key was not left since."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._key = table.target.schema.key

    def _lives(self, among: str = "") -> str:
        """A relation of the rows of `t` that satisfy `among`, with `until`: where their key is next told of, or left, or all is emptied."""
        keys = [self._table.names.column(key) for key in self._key]
        listed = ", ".join(f"t.{key}" for key in keys)
        words = ", ".join(
            f"{postgres_words(duckdb_type(kind), f't.{key}')} AS w{i}"
            for i, (kind, key) in enumerate(zip(self._table.key_kinds, keys, strict=True))
        )
        left = ", ".join(f"json_extract_string({_OLD_KEY}, {literal('/' + _pointer(key))}) AS w{i}" for i, key in enumerate(self._key))
        told = (
            f"SELECT t.*, {words}, lead(t.{_POSITION}) OVER (PARTITION BY {listed} ORDER BY t.{_POSITION}) AS next"
            f" FROM {self._table.name} t WHERE t.{_OP} <> 'truncate'{among}"
        )
        moved = f"SELECT {left}, {_POSITION} AS p FROM {self._table.name} WHERE {_OLD_KEY} IS NOT NULL"
        emptied = f"SELECT {_POSITION} AS p FROM {self._table.name} WHERE {_OP} = 'truncate'"
        same = " AND ".join(f"t.w{i} = m.w{i}" for i in range(len(keys)))
        until = ", ".join(f"coalesce({end}, {_EVER})" for end in ("t.next", "m.p", "e.p"))
        return (
            f"SELECT t.*, least({until}) AS until FROM ({told}) t"
            f" ASOF LEFT JOIN ({moved}) m ON {same} AND t.{_POSITION} < m.p"
            f" ASOF LEFT JOIN ({emptied}) e ON t.{_POSITION} < e.p"
        )

    def newest(self, columns: Sequence[int]) -> str:
        """Keys come in as keys_in (k0 …, p, n). Gives the place of each key that was live just before p, and the given columns."""
        listed = "".join(f", {self._table.given_back(c, 't')} AS c{c}" for c in columns)
        among = self._lives(f" AND EXISTS (SELECT 1 FROM keys_in g WHERE {self._table.same('t', 'g')})")
        live = f"t.{_OP} <> 'delete' AND t.{_POSITION} < g.p AND t.until >= g.p"
        return f"SELECT g.n{listed} FROM keys_in g JOIN ({among}) t ON {self._table.same('t', 'g')} AND {live}"

    @cached_property
    def _emptied(self) -> str:
        return f"coalesce((SELECT max({_POSITION}) FROM {self._table.name} WHERE {_OP} = 'truncate'), -1)"

    @cached_property
    def _steps(self) -> str:
        """Of a dataset without a key: how each change moves the count of rows with its hash."""
        after = f"{_POSITION} > {self._emptied}"
        table = self._table.name
        own = f"SELECT {_ROW} AS h, CASE WHEN {_OP} = 'delete' THEN -1 ELSE 1 END AS step, {_POSITION} AS p FROM {table} WHERE {after}"
        left = f"SELECT json_extract_string({_OLD_KEY}, '/{ROW}'), -1, {_POSITION} FROM {table} WHERE {_OLD_KEY} IS NOT NULL AND {after}"
        return f"{own} UNION ALL {left}"

    @cached_property
    def count_live(self) -> str:
        """Hashes come in as keys_in (h, n). Gives the place of each and how many live rows have it."""
        return f"SELECT g.n, CAST(sum(s.step) AS BIGINT) AS live FROM keys_in g JOIN ({self._steps}) s ON s.h = g.h GROUP BY g.n"

    def live(self, before: int | None = None) -> str:
        """FROM item `h`: the live rows, with all columns of the table; of a dataset without a key each as often as it is there.

        With `before` only rows whose position is lower.
        """
        older = "" if before is None else f" AND {_POSITION} < {before}"
        if self._key:
            return f"(SELECT * FROM ({self._lives()}) WHERE {_OP} <> 'delete' AND until = {_EVER}{older}) h"
        older = "" if before is None else f" WHERE p < {before}"
        counts = f"SELECT h, CAST(sum(step) AS BIGINT) AS n FROM ({self._steps}){older} GROUP BY h HAVING sum(step) > 0"
        one = (
            f"SELECT DISTINCT ON ({_ROW}) * FROM {self._table.name} WHERE {_OP} NOT IN ('delete', 'truncate')"
            f" AND {_POSITION} > {self._emptied} ORDER BY {_ROW}, {_POSITION}"
        )
        return f"(SELECT r.* FROM ({one}) r JOIN ({counts}) c ON c.h = r.{_ROW} CROSS JOIN LATERAL (SELECT unnest(range(c.n)))) h"


def _pointer(name: str) -> str:
    """A name within a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")
