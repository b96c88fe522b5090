"""Batches for sinks, written down row by row: what a test says in a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from journal.batch import ChangeBatch, CopyMarker, Op, Presence
from journal.schema import Column, TableSchema

Row = Mapping[str, str | None]

ORDERS = TableSchema(
    "orders",
    (Column("id", "integer", 1, nullable=False), Column("name", "text", 2), Column("amount", "numeric(10,2)", 3), Column("doc", "text", 4)),
    ("id",),
)
EVENTS = TableSchema("events", (Column("kind", "text", 1), Column("note", "text", 2)), ())


@dataclass(frozen=True)
class Did:
    """One change. `absent` columns were left out as unchanged; `recalled` maps those of them that were read again to their value."""

    op: Op
    row: Row = field(default_factory=dict)
    old: Row | None = None
    absent: Sequence[str] = ()
    recalled: Row = field(default_factory=dict)


def insert(**row: str | None) -> Did:
    return Did(Op.INSERT, row)


def read(**row: str | None) -> Did:
    return Did(Op.READ, row)


def delete(**key: str | None) -> Did:
    return Did(Op.DELETE, key)


def truncate() -> Did:
    return Did(Op.TRUNCATE)


def update(row: Row, *, old: Row | None = None, absent: Sequence[str] = (), recalled: Row | None = None) -> Did:
    """`old` is what the log carried of the old row: its key when that changed, or all of it."""
    return Did(Op.UPDATE, row, old, (*absent, *(recalled or {})), recalled or {})


def changes(schema: TableSchema, *did: Did, first: int) -> ChangeBatch:
    """A batch whose ordinals count from `first`; a change's commit time is its ordinal in seconds."""
    n = len(did)
    columns, presence, old = [], {}, {}
    for c, name in enumerate(schema.names):
        columns.append(pa.array([one.recalled.get(name) if name in one.absent else one.row.get(name) for one in did], pa.string()))
        codes = np.array([_presence(one, name) for one in did], np.uint8)
        if codes.any():
            presence[c] = codes
        if any(one.old is not None for one in did):
            old[c] = pa.array([one.old.get(name) if one.old else None for one in did], pa.string())
    has_old = np.array([one.old is not None for one in did], np.bool_)
    numbers = np.arange(first, first + n, dtype=np.int64)
    return ChangeBatch(
        schema=schema,
        source="test",
        table=f"public.{schema.dataset}",
        op=np.array([one.op for one in did], np.uint8),
        lsn=numbers,
        nth=np.zeros(n, np.int64),
        time=numbers * 1_000_000,
        ordinal=numbers,
        columns=tuple(columns),
        presence=presence,
        old=old,
        has_old=has_old if has_old.any() else None,
    )


def _presence(one: Did, name: str) -> Presence:
    if name in one.recalled:
        return Presence.RECALLED
    lost = name in one.absent or (one.op is Op.DELETE and name not in one.row)
    return Presence.ABSENT if lost else Presence.PRESENT


def many(schema: TableSchema, columns: Sequence[pa.Array], op: Op, *, first: int) -> ChangeBatch:
    """A batch of whole columns (cast to text), each row the same operation."""
    n = len(columns[0])
    numbers = np.arange(first, first + n, dtype=np.int64)
    return ChangeBatch(
        schema=schema,
        source="test",
        table=f"public.{schema.dataset}",
        op=np.full(n, op, np.uint8),
        lsn=numbers,
        nth=np.zeros(n, np.int64),
        time=numbers * 1_000_000,
        ordinal=numbers,
        columns=tuple(column.cast(pa.string()) for column in columns),
    )


def marker(schema: TableSchema, phase: str, ordinal: int, *, first: bool = False) -> CopyMarker:
    return CopyMarker(schema, "test", f"public.{schema.dataset}", phase, ordinal, first)
