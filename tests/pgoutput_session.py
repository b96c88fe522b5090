"""The columnar decoder behind its inbox, fed with bytes, and what comes out of it row by row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from journal.batch import ChangeBatch, Presence
from journal.schema import Column, TableSchema
from sources.postgres.decoder import Decoded, Decoder, Resolve, Stretch
from sources.postgres.inbox import Inbox
from sources.postgres.relation import Relation
from sources.postgres.spool import Spool
from tests import pgoutput_wire as wire
from tests.pgoutput_reference import ABSENT, BAD, Change

# (oid, name, identity, columns as (name, in the identity))
PLAIN = (16384, "plain", "d", (("id", True), ("note", False), ("amount", False)))
FULL = (16385, "full", "f", (("a", True), ("b", True)))
EMPTY = (16386, "empty", "n", ())
WIDER = (16384, "plain", "d", (("id", True), ("note", False), ("amount", False), ("added", False)))

Description = tuple[int, str, str, tuple[tuple[str, bool], ...]]


def describe(table: Description, xid: int | None = None) -> bytes:
    oid, name, identity, columns = table
    return wire.relation(oid, "public", name, identity, [(column, 25, -1, key) for column, key in columns], xid)


def resolve(relation: Relation) -> TableSchema | None:
    if relation.table == "unwanted":
        return None
    key = tuple(column.name for column in relation.columns if column.key)
    return TableSchema(relation.table, tuple(Column(column.name, "text") for column in relation.columns), key)


@dataclass
class Received:
    """What came out, row by row."""

    changes: dict[str, list[Change]] = field(default_factory=dict)
    stretches: list[Stretch] = field(default_factory=list)
    last_end: int | None = None

    def add(self, stretch: Stretch) -> None:
        self.stretches.append(stretch)
        self.last_end = stretch.end if stretch.end is not None else self.last_end
        for decoded in stretch.batches:
            self.changes.setdefault(decoded.batch.table, []).extend(rows_of(decoded))


def rows_of(decoded: Decoded) -> Iterable[Change]:
    batch, xids = decoded
    assert all(array.validate(full=True) is None for array in (*batch.columns, *batch.old.values()))
    assert {len(batch)} == {len(array) for array in (*batch.columns, *batch.old.values(), xids, batch.lsn, batch.nth, batch.time)}
    bad = {(defect.row, defect.column) for defect in batch.defects}
    for i in range(len(batch)):
        values: dict[str, Any] = {}
        for c, name in enumerate(batch.schema.names):
            values[name] = BAD if (i, name) in bad else batch.columns[c][i].as_py()
            if batch.presence.get(c, np.zeros(len(batch)))[i] == Presence.ABSENT:
                assert values[name] is None
                values[name] = ABSENT
        old = None
        if batch.has_old is not None and batch.has_old[i]:
            old = {batch.schema.names[c]: array[i].as_py() for c, array in batch.old.items()}
        else:
            assert all(array[i].as_py() is None for array in batch.old.values())
        yield Change(chr(batch.op[i]), int(batch.lsn[i]), int(batch.nth[i]), int(batch.time[i]), int(xids[i]), values, old)


class Session:
    """A decoder fed with bytes, in the pieces in which they come."""

    def __init__(self, folder: Path, *, start: int = 0, spool_bytes: int = 1 << 20, resolve: Resolve = resolve) -> None:
        self.inbox = Inbox(1 << 30)
        self.spool = Spool(folder, spool_bytes)
        self.decoder = Decoder(resolve, "shop", self.spool, start)
        self.received = Received()

    def feed(self, piece: bytes) -> None:
        while piece:
            taken = 0

            def read(room: memoryview, piece: bytes = piece) -> int:
                nonlocal taken
                taken = min(len(room), len(piece))
                room[:taken] = piece[:taken]
                return taken

            self.inbox.receive(read)
            self.inbox.publish()
            piece = piece[taken:]

    def decode(self) -> None:
        while (chunk := self.inbox.take(0)) is not None:
            for stretch in self.decoder.feed(chunk):
                self.received.add(stretch)
            chunk.data[:] = 0x55  # the buffer is used again: nothing may still look into it
            self.inbox.recycle(chunk)

    def run(self, pieces: Iterable[bytes]) -> Received:
        for piece in pieces:
            self.feed(piece)
            self.decode()
        return self.received


def decode(stream: bytes, folder: Path, **options: Any) -> Received:
    """What comes out when all bytes come at once."""
    return Session(folder, **options).run([stream])


def transaction(*messages: bytes, lsn: int = 1000, time: int = 5, xid: int = 700) -> bytes:
    return b"".join(map(wire.xlog, (wire.begin(lsn, time, xid), *messages, wire.commit(lsn, lsn + 40, time))))


def streamed(xid: int, *messages: bytes, first: bool = True) -> bytes:
    return b"".join(map(wire.xlog, (wire.stream_start(xid, first=first), *messages, wire.stream_stop())))


def stream_commit(xid: int, lsn: int = 9000) -> bytes:
    return wire.xlog(wire.stream_commit(xid, lsn, lsn + 40, 7))


def plain_row(key: int, xid: int | None = None) -> bytes:
    return wire.insert(PLAIN[0], [b"%d" % key, b"note", None], xid)


def only_batch(received: Received) -> ChangeBatch:
    ((batch, _),) = [decoded for stretch in received.stretches for decoded in stretch.batches]
    return batch


def batches(received: Received) -> list[ChangeBatch]:
    return [decoded.batch for stretch in received.stretches for decoded in stretch.batches]


def keys(batch_list: Sequence[ChangeBatch]) -> list[str | None]:
    return [value for batch in batch_list for value in batch.columns[0].to_pylist()]
