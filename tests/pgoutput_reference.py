"""A decoder of pgoutput that takes one message after the other: slow, plain, and independent of the real one.

It follows the protocol's pages and nothing else; test_pgoutput_decode compares the real decoder with it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

ABSENT = "<absent>"
BAD = "<not utf-8>"
_EPOCH = 946_684_800_000_000


@dataclass(frozen=True)
class Change:
    """One change: values by column name, `old` None where the log carried no old row."""

    op: str
    lsn: int
    nth: int
    time: int
    xid: int
    values: dict[str, Any]
    old: dict[str, Any] | None = None


@dataclass
class Table:
    name: str
    identity: str
    columns: list[tuple[str, bool]]


@dataclass
class Transaction:
    xid: int
    lsn: int = 0
    time: int = 0
    nth: int = 0
    messages: list[tuple[int, bytes]] = field(default_factory=list)  # of a streamed one: (xid of the message, message without it)


@dataclass
class Reference:
    """Changes of each table in order, and the ends of all transactions."""

    changes: dict[str, list[Change]] = field(default_factory=dict)
    ends: list[int] = field(default_factory=list)
    tables: dict[int, Table] = field(default_factory=dict)
    open: Transaction | None = None
    block: int | None = None
    streamed: dict[int, Transaction] = field(default_factory=dict)

    def read(self, stream: bytes) -> None:
        at = 0
        while at < len(stream):
            length = struct.unpack_from(">I", stream, at + 1)[0]
            payload = stream[at + 5 : at + 1 + length]
            at += 1 + length
            if payload[:1] == b"w":
                self._message(payload[25:])

    def _message(self, m: bytes) -> None:
        kind = m[:1]
        if kind == b"S":
            xid, first = struct.unpack_from(">IB", m, 1)
            if first:
                self.streamed[xid] = Transaction(xid)
            self.block = xid
        elif kind == b"E":
            self.block = None
        elif kind == b"A":
            xid, subxid = struct.unpack_from(">II", m, 1)
            if xid == subxid:
                self.streamed.pop(xid, None)
            elif xid in self.streamed:
                kept = [(x, message) for x, message in self.streamed[xid].messages if x != subxid]
                self.streamed[xid].messages = kept
        elif kind == b"c":
            xid, _, lsn, end, time = struct.unpack_from(">IBQQq", m, 1)
            transaction = self.streamed.pop(xid, Transaction(xid))
            transaction.lsn, transaction.time = lsn, time
            for _, message in transaction.messages:
                self._apply(transaction, message)
            self.ends.append(end)
        elif self.block is not None:
            if kind == b"O":
                self.streamed[self.block].messages.append((-1, m))
            else:
                self.streamed[self.block].messages.append((struct.unpack_from(">I", m, 1)[0], kind + m[5:]))
        elif kind == b"B":
            lsn, time, xid = struct.unpack_from(">QqI", m, 1)
            self.open = Transaction(xid, lsn, time)
        elif kind == b"C":
            self.open = None
            self.ends.append(struct.unpack_from(">Q", m, 10)[0])
        else:
            self._apply(self.open, m)

    def _apply(self, transaction: Transaction | None, m: bytes) -> None:
        kind = m[:1]
        if kind == b"R":
            self._describe(m)
        elif kind in (b"I", b"U", b"D"):
            assert transaction is not None
            self._change(transaction, kind.decode(), m)
        elif kind == b"T":
            assert transaction is not None
            count = struct.unpack_from(">I", m, 1)[0]
            for oid in struct.unpack_from(f">{count}I", m, 6):
                table = self.tables[oid]
                self._add(table, transaction, "T", {name: None for name, _ in table.columns}, None)

    def _describe(self, m: bytes) -> None:
        oid = struct.unpack_from(">I", m, 1)[0]
        schema, rest = m[5:].split(b"\0", 1)
        name, rest = rest.split(b"\0", 1)
        identity, count = rest[:1].decode(), struct.unpack_from(">H", rest, 1)[0]
        columns = []
        rest = rest[3:]
        for _ in range(count):
            column, after = rest[1:].split(b"\0", 1)
            columns.append((column.decode(), bool(rest[0] & 1)))
            rest = after[8:]
        self.tables[oid] = Table(f"{schema.decode()}.{name.decode()}", identity, columns)

    def _change(self, transaction: Transaction, op: str, m: bytes) -> None:
        table = self.tables[struct.unpack_from(">I", m, 1)[0]]
        tuples = dict(_tuples(m[5:]))
        old_letter = next((letter for letter in "KO" if letter in tuples), None)
        old = None
        if old_letter is not None:
            named = zip(table.columns, tuples[old_letter], strict=True)
            old = {name: value for (name, key), value in named if old_letter == "O" or key or value is not None}
        if op == "D":
            assert old is not None
            values = {name: old.get(name, ABSENT) for name, _ in table.columns}
            self._add(table, transaction, op, values, None)
            return
        values = {name: value for (name, _), value in zip(table.columns, tuples["N"], strict=True)}
        if old_letter == "O":
            assert old is not None
            values = {name: old[name] if value == ABSENT else value for name, value in values.items()}
        self._add(table, transaction, op, values, old)

    def _add(self, table: Table, transaction: Transaction, op: str, values: dict[str, Any], old: dict[str, Any] | None) -> None:
        change = Change(op, transaction.lsn, transaction.nth, transaction.time + _EPOCH, transaction.xid, values, old)
        transaction.nth += 1
        self.changes.setdefault(table.name, []).append(change)


def _tuples(m: bytes) -> Iterator[tuple[str, list[Any]]]:
    at = 0
    while at < len(m):
        letter = chr(m[at])
        count = struct.unpack_from(">H", m, at + 1)[0]
        at += 3
        values: list[Any] = []
        for _ in range(count):
            kind = m[at : at + 1]
            at += 1
            if kind == b"t":
                length = struct.unpack_from(">I", m, at)[0]
                raw = m[at + 4 : at + 4 + length]
                at += 4 + length
                try:
                    values.append(raw.decode())
                except UnicodeDecodeError:
                    values.append(BAD)
            else:
                values.append(None if kind == b"n" else ABSENT)
        yield letter, values
