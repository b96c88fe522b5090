"""Writing into a mirror table with a key.

An update is a delete and an insert: DuckDB takes half a second to update a thousand rows that are scattered over a million, because
it writes every row group that they touch anew, but appends them in a millisecond.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from journal.batch import ChangeBatch, Longs, Mask, Op
from sinks.base import RefusedRow
from sinks.bookkeeping import DELETED_AT, POSITION
from sinks.duckdb_session import quoted
from sinks.duckdb_table import Table, chosen, placed
from sinks.duckdb_values import incoming, refusal
from sinks.lineage import codes
from sinks.mirror import Net, lacking, net_effect, settle
from sinks.rows import Keys, Rows

MOST_ROWS = 131_072  # that wait to be written together, so that the key column is not read for each batch
MOST_BYTES = 48 << 20


class MirrorWriter:
    """One table with a key. `careful`: rows that are new at the source are looked for all the same."""

    def __init__(self, table: Table, careful: bool = False) -> None:
        self._table = table
        self._target = table.target
        self._soft = self._target.on_delete == "soft"
        self._careful = careful or self._target.on_delete != "delete" or self._target.on_truncate != "truncate"
        self._waiting: list[tuple[ChangeBatch, Longs]] = []
        self._rows = 0
        self._bytes = 0

    def write(self, batch: ChangeBatch, leaving: Longs) -> Sequence[RefusedRow]:
        """Writes a batch, at the latest with `flush`; see Sink.write."""
        batch, leaving, index, columns, refused = self._table.sound(batch, leaving)
        batch = _without_needless_presence(batch, leaving)
        if batch.presence:
            self.flush()
            return refused + placed(settle(self._target, batch, leaving, self._apply, _nothing_to_undo), index)
        unkeyed = _unkeyed(batch, leaving)
        if unkeyed:
            refused += placed(unkeyed, index)
            kept = np.delete(np.arange(len(batch)), [one.row for one in unkeyed])
            leaving = np.flatnonzero(np.isin(kept, leaving))
            batch, columns = batch.take(kept), None
        if columns is None:
            columns = incoming(self._table.kinds, batch.columns)[0]
        self._wait(batch, leaving, columns)
        return refused

    def _wait(self, batch: ChangeBatch, leaving: Longs, columns: list[pa.Array]) -> None:
        """Keeps a batch for `flush`, its columns as they come in; but its key, by which the net effect is worked out, as text."""
        if not len(batch):
            return
        key = set(self._target.schema.key_indices)
        batch = replace(batch, columns=tuple(text if c in key else columns[c] for c, text in enumerate(batch.columns)), defects=())
        self._waiting.append((batch, leaving))
        self._rows += len(batch)
        self._bytes += batch.nbytes
        if self._rows >= MOST_ROWS or self._bytes >= MOST_BYTES:
            self.flush()

    def flush(self) -> None:
        """Writes what waits."""
        if not self._waiting:
            return
        batch, leaving = _together(self._waiting, self._target.schema.key_indices)
        self.forget()
        if self._table.filling and (batch.op == Op.READ).all():
            self._table.insert(self._with_key(batch.columns), batch.ordinal, self._own(len(batch), None))
            return
        self._table.filling = False
        net = net_effect(self._target, batch, leaving)
        fresh = (batch.op == Op.INSERT) & _touched_once(batch) if net.squashed else batch.op == Op.INSERT
        self._put(net, [(net.whole, self._with_key(net.whole.columns), fresh[net.whole.rows])])

    def forget(self) -> None:
        """Drops what waits."""
        self._waiting, self._rows, self._bytes = [], 0, 0

    def _with_key(self, columns: Sequence[pa.Array]) -> list[pa.Array]:
        """Columns of which the key is still text, as they come in."""
        key = self._table.typed_key([columns[k] for k in self._target.schema.key_indices])
        typed = dict(zip(self._target.schema.key_indices, key, strict=True))
        return [typed.get(c, column) for c, column in enumerate(columns)]

    def _apply(self, net: Net) -> list[RefusedRow]:
        """Writes a net effect that is still text; nothing of it where rows that stand for others are refused."""
        refused: list[RefusedRow] = []
        ready: list[tuple[Rows, list[pa.Array], Mask]] = []
        for rows in (net.whole, net.moved, net.partial):
            if len(rows):
                kept, columns, more = self._completed(rows, net.truncate)
                refused += more
                ready.append((kept, columns, np.zeros(len(kept), np.bool_)))
        if not (refused and net.squashed):
            self._table.filling = False
            self._put(net, ready)
        return refused

    def _completed(self, rows: Rows, truncate: int | None) -> tuple[Rows, list[pa.Array], list[RefusedRow]]:
        """Rows with what they miss from the table: (rows, their columns as they come in, those that are refused)."""
        columns, bad = incoming(self._table.kinds, rows.columns)
        wrong = np.zeros(len(rows), np.bool_)
        refused = []
        for c, mask in bad.items():
            told = [int(rows.rows[i]) for i in np.flatnonzero(mask & ~wrong)]
            refused += [RefusedRow(row, self._target.schema.names[c], refusal(self._table.kinds[c])) for row in told]
            wrong |= mask
        if rows.missing:
            key = rows.base or tuple(rows.columns[k] for k in self._target.schema.key_indices)
            where = f" AND t.{quoted(DELETED_AT)} IS NULL" if self._soft else ""
            where += "" if truncate is None else f" AND t.{quoted(POSITION)} >= {truncate}"
            found, values = self._table.look_up(self._table.typed_key(key), sorted(rows.missing), where)
            for c, mask in rows.missing.items():
                columns[c] = chosen(mask & found, values[c], columns[c])
            lost = ~found & ~rows.recallable & ~wrong
            refused += lacking(self._target, rows, np.flatnonzero(lost))
            wrong |= lost
        if wrong.any():
            kept = pa.array(np.flatnonzero(~wrong))
            return rows.take(~wrong), [column.take(kept) for column in columns], refused
        return rows, columns, refused

    def _put(self, net: Net, ready: Sequence[tuple[Rows, list[pa.Array], Mask]]) -> None:
        """Writes; of the rows that are `fresh` none is in the table."""
        if net.truncate is not None:
            self._table.truncate(net.truncate)
        if len(net.marked):
            self._mark(net.marked)
        key = self._target.schema.key_indices
        gone: list[tuple[Sequence[pa.Array], Longs]] = []
        if len(net.deletes):
            gone.append((self._table.typed_key(net.deletes.columns), net.deletes.position))
        look = [self._table.late(rows.position) for rows, _, _ in ready]
        for (rows, columns, fresh), late in zip(ready, look, strict=True):
            known = np.zeros(len(rows), np.bool_) if late or self._careful or self._table.keyless else fresh
            if not known.all():
                at = pa.array(np.flatnonzero(~known))
                gone.append(([columns[k].take(at) for k in key], rows.position[~known]))
        if gone:
            keys = [pa.concat_arrays([part[0][i] for part in gone]) for i in range(len(key))]
            self._table.remove(keys, np.concatenate([position for _, position in gone]))
        for (rows, columns, _), late in zip(ready, look, strict=True):
            if len(rows):
                self._table.insert(columns, rows.position, self._own(len(rows), rows.deleted), look=late)

    def _own(self, n: int, deleted: Longs | None) -> dict[str, pa.Array]:
        if not self._soft:
            return {}
        kind = pa.timestamp("us", "UTC")
        return {DELETED_AT: pa.nulls(n, kind) if deleted is None else pa.array(deleted, mask=deleted < 0).cast(kind)}

    def _mark(self, keys: Keys) -> None:
        """Softly deletes rows, but for those that are already."""
        typed = self._table.typed_key(keys.columns)
        rows = {f"k{i}": array for i, array in enumerate(typed)} | {
            "p": pa.array(keys.position),
            "d": pa.array(keys.time).cast(pa.timestamp("us", "UTC")),
        }
        at, position = quoted(DELETED_AT), quoted(POSITION)
        self._table.session.execute(
            f"UPDATE {self._table.name} AS t SET {at} = coalesce(t.{at}, g.d), {position} = g.p"
            f" FROM keys_in AS g WHERE {self._table.same('t', 'g')} AND t.{position} < g.p",
            keys_in=pa.table(rows),
        )
        self._table.seen(int(keys.position.max()))


def _nothing_to_undo() -> None:
    """Nothing is written where rows are refused."""


def _without_needless_presence(batch: ChangeBatch, leaving: Longs) -> ChangeBatch:
    """The batch without word of values that are absent only from rows of which nothing but the key counts."""
    if not batch.presence:
        return batch
    counts = np.isin(batch.op, (Op.INSERT, Op.UPDATE, Op.READ))
    counts[leaving] = False
    key = set(batch.schema.key_indices)
    if any(c in key or codes[counts].any() for c, codes in batch.presence.items()):
        return batch
    return replace(batch, presence={})


def _unkeyed(batch: ChangeBatch, leaving: Longs) -> list[RefusedRow]:
    """Rows with a null in their key."""
    refused: dict[int, RefusedRow] = {}
    for k in batch.schema.key_indices:
        if batch.columns[k].null_count:
            null = np.asarray(batch.columns[k].is_null()) & np.isin(batch.op, (Op.INSERT, Op.UPDATE, Op.READ))
            null[leaving] = False
            name = batch.schema.names[k]
            for row in np.flatnonzero(null):
                refused.setdefault(int(row), RefusedRow(int(row), name, f"the key column {name!r} is null"))
    return list(refused.values())


def _touched_once(batch: ChangeBatch) -> Mask:
    """bool[n]: rows whose key no other row of the batch has, or had."""
    key = batch.schema.key_indices
    own = [batch.columns[k] for k in key]
    left = [batch.old.get(k, pa.nulls(len(batch), pa.string())) for k in key]
    code = codes([pa.concat_arrays(pair) for pair in zip(own, left, strict=True)])
    times = np.bincount(code[code >= 0], minlength=1)
    once: Mask = (code[: len(batch)] >= 0) & (times[code[: len(batch)]] == 1)
    return once


def _together(waiting: Sequence[tuple[ChangeBatch, Longs]], key: Sequence[int]) -> tuple[ChangeBatch, Longs]:
    """Several whole batches as one; of the old rows only the key is kept."""
    batches = [batch for batch, _ in waiting]
    if len(batches) == 1:
        return waiting[0]
    starts = np.cumsum([0, *(len(batch) for batch in batches[:-1])])
    old = {}
    for k in key:
        if any(k in batch.old for batch in batches):
            old[k] = pa.concat_arrays([batch.old.get(k, pa.nulls(len(batch), pa.string())) for batch in batches])
    none = [np.zeros(len(batch), np.bool_) for batch in batches]
    has_old = np.concatenate([mask if batch.has_old is None else batch.has_old for batch, mask in zip(batches, none, strict=True)])
    one = replace(
        batches[0],
        op=np.concatenate([batch.op for batch in batches]),
        lsn=np.concatenate([batch.lsn for batch in batches]),
        nth=np.concatenate([batch.nth for batch in batches]),
        time=np.concatenate([batch.time for batch in batches]),
        ordinal=np.concatenate([batch.ordinal for batch in batches]),
        columns=tuple(pa.concat_arrays([batch.columns[c] for batch in batches]) for c in range(len(batches[0].columns))),
        old=old,
        has_old=has_old if has_old.any() else None,
    )
    return one, np.concatenate([leaving + start for (_, leaving), start in zip(waiting, starts, strict=True)]).astype(np.int64)
