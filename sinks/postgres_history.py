"""Writing into a history table, and reading what it says is live."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa

from journal.batch import ChangeBatch, Longs
from sinks.base import RefusedRow
from sinks.bookkeeping import POSITION
from sinks.evolution import parse_type_or_none
from sinks.history import COMMITTED_AT, NUMBERS, OLD_KEY, OP, Log, bag_log_of, log_of
from sinks.mirror import lacking
from sinks.postgres_copy import moments, params
from sinks.postgres_mirror import FEW
from sinks.postgres_session import Command, Session, literal, quoted
from sinks.postgres_sql import TableSql
from sinks.postgres_stage import Staging, run_each
from sinks.postgres_table import append, looked_up, refused_rows
from sinks.row_hash import ROW, row_hashes

_POSITION, _OP, _OLD_KEY, _ROW = map(quoted, (POSITION, OP, OLD_KEY, ROW))


class HistoryWriter:
    """One history table, in one session."""

    def __init__(self, session: Session, staging: Staging, sql: TableSql) -> None:
        self._session = session
        self._staging = staging
        self._sql = sql
        self._history = HistorySql(sql)

    def write(self, batch: ChangeBatch, leaving: Longs) -> Sequence[RefusedRow]:
        """Writes a batch; see Sink.write."""
        target = self._sql.target
        if target.schema.key:
            log, refused = self._filled(log_of(target, batch, leaving))
        else:
            log = bag_log_of(target, batch, leaving, row_hashes, self._count_live)
            refused = []
        refused += log.refused
        return refused + (self._appended(log) if len(log.rows) else [])

    def _filled(self, log: Log) -> tuple[Log, list[RefusedRow]]:
        """The log with unchanged values from older rows of the table, and without deletes of rows that it never had."""
        asking = np.flatnonzero(log.rows.partial | log.if_held)
        if not len(asking):
            return log, []
        columns = sorted(log.rows.missing)
        some = log.rows.take(asking)
        given = [*(some.base or ()), pa.array(some.position)]
        held, values = looked_up(self._session, self._history.newest(columns), given, columns)
        found = np.zeros(len(log.rows), np.bool_)
        found[asking] = held
        spread = np.full(len(found), -1, np.int64)
        spread[asking] = np.arange(len(asking))
        index = pa.array(spread, mask=spread < 0)
        rows, lost = log.rows.filled(found, {c: column.take(index) for c, column in values.items()})
        kept = np.delete(np.arange(len(found)), lost)
        whole = log.take(kept)
        known = ~whole.if_held | found[kept]
        return Log(rows, whole.op, whole.old_key, whole.if_held, log.refused).take(known), lacking(self._sql.target, log.rows, lost)

    def _count_live(self, hashes: pa.StringArray) -> Longs:
        found, counts = looked_up(self._session, self._history.count_live, [hashes], (0,))
        return np.where(found, np.array([int(count or 0) for count in counts[0].to_pylist()], np.int64), 0)

    def _appended(self, log: Log) -> list[RefusedRow]:
        rows = log.rows
        hashes = [] if self._sql.target.schema.key else [rows.row_hash]
        cells = [*rows.columns, log.op, log.old_key, *hashes, pa.array(rows.position), moments(rows.time)]
        if len(rows) <= FEW:
            commands = [Command(self._sql.insert, values, int(row)) for values, row in zip(params(cells), rows.rows, strict=True)]
            _, refusals = run_each(self._session, commands)
            return refused_rows(refusals, rows.rows)
        return append(self._session, self._staging, self._sql, cells, rows)

    def sweep(self, position: int) -> None:
        """Tells of what a copy no longer found: a delete for each live row that is older than `position`."""
        schema = self._sql.target.schema
        carried = [quoted(name) for name in schema.key or (*schema.names, ROW)]
        columns = ", ".join([*carried, _OP, _POSITION, quoted(COMMITTED_AT)])
        gone = f"SELECT {', '.join(f'h.{name}' for name in carried)}, 'delete', {position}, now() FROM {self._history.live(position)}"
        self._session.execute(f"INSERT INTO {self._sql.table} ({columns}) {gone}")


class HistorySql:
    """What a history table says, in SQL. A row is live if it is the newest of its key, no delete, and the key was not left since."""

    def __init__(self, sql: TableSql) -> None:
        self._sql = sql
        self._table = sql.table
        self._key = sql.target.schema.key

    def _old_key(self, alias: str, given: bool) -> str:
        """The JSON that `_sluice_old_key` would hold for the key of a row (or of `k`, where keys are given as text)."""
        parts = []
        for i, name in enumerate(self._key):
            kind = parse_type_or_none(self._sql.target.schema.types[name])
            text = f"k.k{i}" if given else f"concat({alias}.{quoted(name)})"
            number = kind is not None and not kind.array and kind.base in NUMBERS
            parts += [literal(name), f"to_jsonb(({text})::bigint)" if number else f"to_jsonb({text})"]
        return f"jsonb_build_object({', '.join(parts)})"

    def newest(self, columns: Sequence[int]) -> str:
        """Parameters: an array for each key column and one of positions. Gives the place of each key that was live just before its
        position, from 1, and the given columns of its newest row."""
        listed = "".join(f", b.{quoted(self._sql.target.schema.names[c])}" for c in columns)
        position = f"${len(self._key) + 1}::bigint[]"
        newest = (
            f"SELECT * FROM {self._table} t WHERE {self._sql.same('t', self._key)} AND t.{_POSITION} < k.p"
            f" ORDER BY t.{_POSITION} DESC LIMIT 1"
        )
        since = f"m.{_POSITION} > b.{_POSITION} AND m.{_POSITION} < k.p"
        left = f"EXISTS (SELECT 1 FROM {self._table} m WHERE m.{_OLD_KEY} = {self._old_key('b', True)} AND {since})"
        emptied = f"EXISTS (SELECT 1 FROM {self._table} m WHERE m.{_OP} = 'truncate' AND {since})"
        return (
            f"SELECT k.n{listed} FROM {self._sql.given(self._key, more=position)} CROSS JOIN LATERAL ({newest}) b"
            f" WHERE b.{_OP} <> 'delete' AND NOT {left} AND NOT {emptied}"
        )

    @cached_property
    def _emptied(self) -> str:
        return f"coalesce((SELECT max(e.{_POSITION}) FROM {self._table} e WHERE e.{_OP} = 'truncate'), -1)"

    @cached_property
    def count_live(self) -> str:
        """Parameter: an array of hashes. Gives the place of each, from 1, and how many live rows have it."""
        after = f"{_POSITION} > {self._emptied}"
        own = f"SELECT sum(CASE WHEN {_OP} = 'delete' THEN -1 ELSE 1 END) FROM {self._table} WHERE {_ROW} = k.h AND {after}"
        left = f"SELECT count(*) FROM {self._table} WHERE {_OLD_KEY} = jsonb_build_object({literal(ROW)}, k.h) AND {after}"
        return f"SELECT k.n, coalesce(({own}), 0) - ({left}) FROM unnest($1::text[]) WITH ORDINALITY AS k (h, n)"

    def live(self, before: int | None = None) -> str:
        """FROM item `h`: the live rows, with all columns of the table; of a dataset without a key each as often as it is there.

        With `before` only rows whose position is lower.
        """
        older = "" if before is None else f" AND {_POSITION} < {before}"
        after = f"{_POSITION} > {self._emptied}{older}"
        if self._key:
            same = " AND ".join(f"n.{quoted(name)} = r.{quoted(name)}" for name in self._key)
            newer = f"EXISTS (SELECT 1 FROM {self._table} n WHERE {same} AND n.{_POSITION} > r.{_POSITION})"
            told = f"m.{_OLD_KEY} = {self._old_key('r', False)} AND m.{_POSITION} > r.{_POSITION}"
            left = f"EXISTS (SELECT 1 FROM {self._table} m WHERE {told})"
            return (
                f"(SELECT r.* FROM {self._table} r WHERE {_OP} NOT IN ('delete', 'truncate') AND {after} AND NOT {newer} AND NOT {left}) h"
            )
        steps = (
            f"SELECT {_ROW} AS h, CASE WHEN {_OP} = 'delete' THEN -1 ELSE 1 END AS step FROM {self._table} WHERE {after}"
            f" UNION ALL SELECT {_OLD_KEY} ->> {literal(ROW)}, -1 FROM {self._table} WHERE {_OLD_KEY} IS NOT NULL AND {after}"
        )
        counts = f"SELECT h, sum(step) AS n FROM ({steps}) s GROUP BY h HAVING sum(step) > 0"
        one = f"SELECT DISTINCT ON ({_ROW}) * FROM {self._table} WHERE {_OP} <> 'delete' AND {after} ORDER BY {_ROW}, {_POSITION}"
        return f"(SELECT r.* FROM ({one}) r JOIN ({counts}) c ON c.h = r.{_ROW} CROSS JOIN generate_series(1, c.n)) h"
