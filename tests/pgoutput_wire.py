"""Writes what a walsender sends: pgoutput messages in CopyData frames, one at a time, straight from the protocol's pages."""

from __future__ import annotations

import struct
from collections.abc import Sequence

UNCHANGED = object()  # a value that is stored out of line and was not in the log

Value = bytes | None | object
Column = tuple[str, int, int, bool]  # name, type OID, type modifier, part of the identity


def text(value: str) -> bytes:
    return value.encode() + b"\0"


def frame(payload: bytes) -> bytes:
    return b"d" + struct.pack(">I", len(payload) + 4) + payload


def xlog(message: bytes, lsn: int = 0) -> bytes:
    return frame(b"w" + struct.pack(">QQQ", lsn, lsn, 0) + message)


def keepalive(end: int, *, answer: bool = False) -> bytes:
    return frame(b"k" + struct.pack(">QQ?", end, 0, answer))


def begin(final_lsn: int, time: int, xid: int) -> bytes:
    return b"B" + struct.pack(">QqI", final_lsn, time, xid)


def commit(lsn: int, end: int, time: int) -> bytes:
    return b"C" + struct.pack(">BQQq", 0, lsn, end, time)


def _prefix(xid: int | None) -> bytes:
    return b"" if xid is None else struct.pack(">I", xid)


def relation(oid: int, schema: str, table: str, identity: str, columns: Sequence[Column], xid: int | None = None) -> bytes:
    parts = [b"R", _prefix(xid), struct.pack(">I", oid), text(schema), text(table), identity.encode(), struct.pack(">H", len(columns))]
    for name, type_oid, modifier, key in columns:
        parts.append(struct.pack(">B", key) + text(name) + struct.pack(">Ii", type_oid, modifier))
    return b"".join(parts)


def type_message(oid: int, xid: int | None = None) -> bytes:
    return b"Y" + _prefix(xid) + struct.pack(">I", oid) + text("public") + text("mood")


def origin(name: str) -> bytes:
    return b"O" + struct.pack(">Q", 7) + text(name)


def logical_message(content: bytes, xid: int | None = None) -> bytes:
    return b"M" + _prefix(xid) + struct.pack(">BQ", 1, 9) + text("prefix") + struct.pack(">I", len(content)) + content


def row(values: Sequence[Value]) -> bytes:
    parts = [struct.pack(">H", len(values))]
    for value in values:
        if value is None:
            parts.append(b"n")
        elif value is UNCHANGED:
            parts.append(b"u")
        else:
            assert isinstance(value, bytes)
            parts.append(b"t" + struct.pack(">I", len(value)) + value)
    return b"".join(parts)


def insert(oid: int, new: Sequence[Value], xid: int | None = None) -> bytes:
    return b"I" + _prefix(xid) + struct.pack(">I", oid) + b"N" + row(new)


def update(oid: int, new: Sequence[Value], old: Sequence[Value] | None = None, letter: bytes = b"O", xid: int | None = None) -> bytes:
    before = b"" if old is None else letter + row(old)
    return b"U" + _prefix(xid) + struct.pack(">I", oid) + before + b"N" + row(new)


def delete(oid: int, old: Sequence[Value], letter: bytes = b"K", xid: int | None = None) -> bytes:
    return b"D" + _prefix(xid) + struct.pack(">I", oid) + letter + row(old)


def truncate(oids: Sequence[int], flags: int = 0, xid: int | None = None) -> bytes:
    return b"T" + _prefix(xid) + struct.pack(f">IB{len(oids)}I", len(oids), flags, *oids)


def stream_start(xid: int, *, first: bool) -> bytes:
    return b"S" + struct.pack(">IB", xid, first)


def stream_stop() -> bytes:
    return b"E"


def stream_commit(xid: int, lsn: int, end: int, time: int) -> bytes:
    return b"c" + struct.pack(">IBQQq", xid, 0, lsn, end, time)


def stream_abort(xid: int, subxid: int) -> bytes:
    return b"A" + struct.pack(">II", xid, subxid)
