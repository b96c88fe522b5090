"""From chunks of replication messages to batches in commit order.

Messages are handled by kind over a whole chunk: Python sees single messages only where they are rare (Relation, Truncate, the
borders of streamed transactions). See https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from journal.batch import ChangeBatch, Mask, Op
from journal.schema import TableSchema
from pipeline.names import join_name
from sources.postgres.changes import Position, Table
from sources.postgres.errors import malformed
from sources.postgres.frames import KEEPALIVE, MESSAGE, PAYLOAD, XLOG_DATA, Bytes, Longs, read_i8, read_u4
from sources.postgres.relation import Relation, parse_relation
from sources.postgres.spool import Spool
from sources.postgres.transactions import BEGIN, COMMIT, EPOCH, Transaction, Transactions, positions_within

RELATION, TYPE, ORIGIN, LOGICAL_MESSAGE = b"RYOM"
STREAM_START, STREAM_STOP, STREAM_COMMIT, STREAM_ABORT = b"SEcA"
_TRUNCATE = int(Op.TRUNCATE)
# Fewest bytes of each kind of message; what is not listed is no message.
_SHORTEST = np.full(256, 1 << 31, np.int64)
_SHORTEST[[BEGIN, COMMIT, RELATION, TYPE, ORIGIN, LOGICAL_MESSAGE]] = [21, 26, 10, 7, 10, 15]
_SHORTEST[list(b"IUDT")] = [8, 8, 8, 10]
_SHORTEST[[STREAM_START, STREAM_STOP, STREAM_COMMIT, STREAM_ABORT]] = [6, 1, 30, 9]
_IS_CHANGE = np.zeros(256, np.bool_)
_IS_CHANGE[list(b"IUDT")] = True
_IS_BORDER = np.zeros(256, np.bool_)
_IS_BORDER[[STREAM_START, STREAM_STOP, STREAM_COMMIT, STREAM_ABORT]] = True
_HAS_XID = np.zeros(256, np.bool_)
_HAS_XID[list(b"RYMIUDT")] = True
_LARGE = 1 << 20  # bytes of a streamed transaction that are worth a stretch of their own

Resolve = Callable[[Relation], TableSchema | None]


class Decoded(NamedTuple):
    """A batch, and uint32[n]: the transaction of each row (the topmost one, not a subtransaction)."""

    batch: ChangeBatch
    xid: npt.NDArray[np.uint32]


class Stretch(NamedTuple):
    """Changes in commit order: several batches of one table are in order, those of different tables may be out of it.

    `end` is Commit.end_lsn of the last transaction if none is open at the end: all before it is then in this stretch or an earlier
    one. `received` is time.monotonic() when the last byte was read.
    """

    batches: Sequence[Decoded]
    end: int | None
    received: float


class Chunk(NamedTuple):
    """Whole frames: data[starts:stops] of each; `received` as in Stretch. data has SLACK bytes beyond the last one."""

    data: Bytes
    starts: Longs
    stops: Longs
    received: float


class Idle(NamedTuple):
    """All up to `end` has been read, with no more rows for us. It is urgent if the server, or rows already given, wait for it."""

    end: int
    urgent: bool


class _Messages(NamedTuple):
    """Consecutive messages: their kinds, where each begins in `data`, and where it ends. After a kind come `prefix` bytes of an xid."""

    data: Bytes
    kind: Bytes
    body: Longs
    stops: Longs
    prefix: int = 0

    def take(self, which: Mask | slice) -> _Messages:
        return self._replace(kind=self.kind[which], body=self.body[which], stops=self.stops[which])


class _Described(NamedTuple):
    """From this message on a table looks like this; None: its changes are not wanted."""

    message: int
    table: Table | None


class _Truncated(NamedTuple):
    message: int
    position: Position


class Decoder:
    """The state of one session: known tables, the open transaction, streamed transactions."""

    def __init__(self, resolve: Resolve, source: str, spool: Spool, start: int) -> None:
        self._resolve = resolve
        self._source = source
        self._spool = spool
        self._start = start
        self._tables: dict[int, Table | None] = {}
        self._transactions = Transactions()
        self._streaming: int | None = None
        self._ready: list[Decoded] = []
        self._owing = False  # rows have been given whose transaction has not been said to be over
        self._end = start
        self.idle: Idle | None = None  # for whoever acknowledges, who sets it to None then; a stretch with rows goes further

    def feed(self, chunk: Chunk) -> Iterator[Stretch]:
        """The stretches that a chunk completes; bounded in size, however large a transaction is.

        Raises TerminalError for what is not the protocol, and what `resolve` raises; the session is over then.
        """
        payload = chunk.data.take(chunk.starts + PAYLOAD)
        is_message = payload == XLOG_DATA
        starts, stops = chunk.starts, chunk.stops
        if not is_message.all():
            starts, stops = starts[is_message], stops[is_message]
        body = starts + MESSAGE
        kind = chunk.data.take(body)
        short = stops - body < _SHORTEST.take(kind)
        if short.any():
            raise malformed(f"a message of kind {bytes(kind[short][:1])!r} and {int((stops - body)[short][0])} bytes")
        messages = _Messages(chunk.data, kind, body, stops)
        at = 0
        for border in _IS_BORDER.take(kind).nonzero()[0].tolist():
            self._receive(messages.take(slice(at, border)))
            yield from self._cross(chunk, int(kind[border]), int(body[border]))
            at = border + 1
        self._receive(messages.take(slice(at, None)))
        yield from self._flush(chunk.received)
        self._see_keepalive(chunk, payload)

    def _receive(self, messages: _Messages) -> None:
        """Messages between two borders: into the spool if they belong to a streamed transaction, else decoded."""
        data, kind, body, stops, _ = messages
        if not kind.size:
            return
        if self._streaming is not None:
            self._spool.append(self._streaming, data, body, stops)
            return
        rows = _IS_CHANGE.take(kind).nonzero()[0]
        position, end = self._transactions.assign(data, kind, body, rows, _weights(messages, rows))
        self._decode(messages, rows, position)
        if end is not None:
            self._end = max(self._end, end)

    def _cross(self, chunk: Chunk, kind: int, at: int) -> Iterator[Stretch]:
        """Start, stop, commit or abort of a streamed transaction."""
        numbers = np.array([at])
        if self._transactions.open is not None or (self._streaming is not None) != (kind == STREAM_STOP):
            raise malformed("a streamed transaction begins or ends where it cannot")
        if kind == STREAM_STOP:
            self._streaming = None
            return
        xid = int(read_u4(chunk.data, numbers + 1)[0])
        if kind == STREAM_START:
            if chunk.data[at + 5]:  # the first one: xids come round again
                self._spool.forget(xid)
            self._streaming = xid
        elif kind == STREAM_ABORT:
            self._spool.abort(xid, int(read_u4(chunk.data, numbers + 5)[0]))
        else:
            lsn, end, committed = (int(read_i8(chunk.data, numbers + offset)[0]) for offset in (6, 14, 22))
            if self._spool.size(xid) > _LARGE:
                yield from self._flush(chunk.received)
            yield from self._deliver(Transaction(xid, lsn, committed + EPOCH), chunk.received)
            self._end = max(self._end, end)
            self._spool.forget(xid)

    def _deliver(self, transaction: Transaction, received: float) -> Iterator[Stretch]:
        """Decodes a streamed transaction that has committed."""
        if transaction.lsn < self._start:
            return
        aborted = self._spool.aborted(transaction.xid)
        # Held until the end is known, so that the last of them goes out together with it.
        for block in self._spool.blocks(transaction.xid):
            if self._ready and block.data.nbytes > _LARGE // 2:
                self._owing = True
                yield Stretch(self._taken(), None, received)
            messages = _Messages(block.data, block.data.take(block.body), block.body, block.stops, prefix=4)
            has_xid = _HAS_XID.take(messages.kind)
            if not (has_xid | (messages.kind == ORIGIN)).all():
                raise malformed("a message that cannot be in a streamed transaction")
            if aborted.size:
                messages = messages.take(~(has_xid & np.isin(read_u4(block.data, block.body + 1), aborted)))
            rows = _IS_CHANGE.take(messages.kind).nonzero()[0]
            position, transaction = positions_within(transaction, _weights(messages, rows))
            self._decode(messages, rows, position)

    def _decode(self, messages: _Messages, rows: Longs, position: Position) -> None:
        """Adds the batches of these messages to what is ready; `rows` are those that are changes, and `position` theirs."""
        data, kind, body, stops, prefix = messages
        cuts: dict[int, list[_Described | _Truncated]] = {}
        special = ((kind == RELATION) | (kind == _TRUNCATE)).nonzero()[0]
        for message in special.tolist():
            begin, stop = int(body[message]) + 1 + prefix, int(stops[message])
            if kind[message] == RELATION:
                relation = parse_relation(data[begin:stop].tobytes())
                cuts.setdefault(relation.oid, []).append(_Described(message, self._table(relation)))
                continue
            row = position.take(np.searchsorted(rows, [message]))
            for place, oid in enumerate(_truncated(data, begin, stop)):
                cuts.setdefault(oid, []).append(_Truncated(message, row._replace(nth=row.nth + place)))
        new = position.lsn >= self._start if position.lsn.size and position.lsn[0] < self._start else None
        changes = kind.take(rows) != _TRUNCATE
        kept = changes if new is None else changes & new
        if not kept.all():
            rows, position = rows[kept], position.take(kept)
        for oid, members in _by_table(read_u4(data, body.take(rows) + 1 + prefix)):
            self._decode_table(oid, cuts.pop(oid, []), messages, rows, position, members)
        nothing = np.empty(0, np.int64)
        for oid, own in cuts.items():
            self._decode_table(oid, own, messages, rows, position, nothing)

    def _decode_table(
        self,
        oid: int,
        cuts: Sequence[_Described | _Truncated],
        messages: _Messages,
        rows: Longs,
        position: Position,
        members: Longs | None,
    ) -> None:
        """The rows `members` (None: all) of one table, between its cuts."""
        data, kind, body, stops, prefix = messages
        own_rows = rows if members is None else rows[members]
        known, table = oid in self._tables, self._tables.get(oid)

        def emit(start: int, stop: int) -> None:
            if start == stop:
                return
            if not known:
                raise malformed(f"a change of a table (oid {oid}) that was never described")
            if table is None:
                return
            whole = members is None and start == 0 and stop == rows.size
            chosen = own_rows[start:stop]
            own = position if whole else position.take(np.arange(start, stop) if members is None else members[start:stop])
            batch = table.changes(data, kind.take(chosen), body.take(chosen) + 5 + prefix, stops.take(chosen), own)
            self._ready.append(Decoded(batch, own.xid))

        at = 0
        for cut in cuts:
            if isinstance(cut, _Described) and table is not None and cut.table is not None and table.same_as(cut.table):
                continue
            stop = int(np.searchsorted(own_rows, cut.message))
            emit(at, stop)
            at = stop
            if isinstance(cut, _Described):
                table = self._tables[oid] = cut.table
                known = True
            elif not known:
                raise malformed(f"a truncate of a table (oid {oid}) that was never described")
            elif table is not None and cut.position.lsn[0] >= self._start:
                self._ready.append(Decoded(table.truncate(cut.position), cut.position.xid))
        emit(at, own_rows.size)

    def _table(self, relation: Relation) -> Table | None:
        schema = self._resolve(relation)
        return None if schema is None else Table(relation, schema, self._source, join_name(relation.schema, relation.table))

    def _flush(self, received: float) -> Iterator[Stretch]:
        """What is ready, with the end it reaches; an end without rows is only remembered."""
        is_open = self._transactions.open is not None
        if self._ready:
            self.idle = None
            self._owing = is_open
            yield Stretch(self._taken(), None if is_open else self._end, received)
        elif not is_open:
            self._rest(self._end, urgent=self._owing)
            self._owing = False

    def _taken(self) -> list[Decoded]:
        ready, self._ready = self._ready, []
        return ready

    def _see_keepalive(self, chunk: Chunk, payload: Bytes) -> None:
        """A keepalive that comes last, while no transaction is open, says how far the log has been read."""
        if not payload.size or payload[-1] != KEEPALIVE or self._transactions.open is not None or self._streaming is not None:
            return
        at = chunk.starts[-1:] + PAYLOAD
        end, urgent = int(read_i8(chunk.data, at + 1)[0]), bool(chunk.data[at[0] + 17])
        self._end = max(self._end, end)
        self._rest(self._end, urgent=urgent)

    def _rest(self, end: int, *, urgent: bool) -> None:
        urgent = urgent or (self.idle is not None and self.idle.urgent)
        if self.idle is None or end > self.idle.end or urgent:
            self.idle = Idle(end, urgent)


def _weights(messages: _Messages, rows: Longs) -> Longs:
    """How many changes each of these rows is: one, or as many as a truncate has tables."""
    weights = np.ones(rows.size, np.int64)
    truncates = (messages.kind.take(rows) == _TRUNCATE).nonzero()[0]
    if truncates.size:
        weights[truncates] = read_u4(messages.data, messages.body[rows[truncates]] + 1 + messages.prefix)
    return weights


def _by_table(oids: Longs) -> Iterator[tuple[int, Longs | None]]:
    """Each table's rows in order, tables by their first row; None for all rows."""
    if not oids.size:
        return
    if (oids == oids[0]).all():
        yield int(oids[0]), None
        return
    order = np.argsort(oids, kind="stable")
    borders = np.flatnonzero(np.diff(oids[order])) + 1
    groups = np.split(order, borders)
    for group in sorted(groups, key=lambda members: int(members[0])):
        yield int(oids[group[0]]), group


def _truncated(data: Bytes, begin: int, stop: int) -> list[int]:
    """The tables that a Truncate message lists, each once, in its order."""
    if stop - begin < 5:
        raise malformed(f"a Truncate message of {stop - begin} bytes")
    count = int(read_u4(data, np.array([begin]))[0])
    if stop - begin != 5 + 4 * count:
        raise malformed(f"a Truncate message of {stop - begin} bytes for {count} tables")
    oids: list[int] = read_u4(data, begin + 5 + 4 * np.arange(count)).tolist()
    return oids
