"""Batches of all shapes, what they must look like when they come back, and a little stream to write."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from journal.batch import ChangeBatch, CopyMarker, Op
from journal.local import JournalReader, JournalWriter
from journal.quarantine import QuarantineRecord, Reason, record_id
from journal.schema import Column, TableSchema
from pipeline.model import JournalConfig

ORDERS = TableSchema(
    "orders", (Column("id", "integer", 1, nullable=False), Column("note", "text", 2), Column("amount", "numeric", 3)), ("id",)
)
LINES = TableSchema("lines", (Column("id", "integer", 1, nullable=False), Column("sku", "text", 2)), ("id",))
SOURCE = "portal"


def table_of(schema: TableSchema) -> str:
    return f"public.{schema.dataset}"


def changes(
    first: int, rows: int = 3, *, schema: TableSchema = ORDERS, op: Op = Op.INSERT, sink: str | None = None, width: int = 5
) -> ChangeBatch:
    """Rows whose values say their ordinal, so that a row in the wrong place shows. The ordinals count from `first`."""
    ordinals = np.arange(first, first + rows, dtype=np.int64)
    texts = [str(ordinal) for ordinal in ordinals]
    columns = [texts, *([f"{name} {text}".ljust(width, "x") for text in texts] for name in schema.names[1:])]
    return ChangeBatch(
        schema=schema,
        source=SOURCE,
        table=table_of(schema),
        op=np.full(rows, op, np.uint8),
        lsn=ordinals * 8,
        nth=np.arange(rows, dtype=np.int64),
        time=ordinals * 1_000,
        ordinal=ordinals,
        columns=tuple(pa.array(column, pa.string()) for column in columns),
        sink=sink,
    )


def marker(phase: str, ordinal: int = 1, *, schema: TableSchema = ORDERS, first: bool = False, sink: str | None = None) -> CopyMarker:
    return CopyMarker(schema, SOURCE, table_of(schema), phase, ordinal, first, sink)


def record(
    journal: str, ordinal: int, *, value: str | None = "-3", rule: str = "amount-positive", sink: str | None = None
) -> QuarantineRecord:
    return QuarantineRecord(
        id=record_id(journal, ordinal, sink),
        dataset="orders",
        source=SOURCE,
        table="public.orders",
        operation="insert",
        key={"id": str(ordinal)},
        position="0/16B3748",
        ordinal=ordinal,
        committed_at=1_700_000_000_000_000,
        raw={"id": str(ordinal), "note": None, "amount": b"\xff\x00"},
        before=None,
        after={"id": str(ordinal), "note": None, "amount": value},
        reasons=(Reason(rule, "amount", "is not positive", value), Reason("other", None, "two columns disagree")),
        quarantined_at=1_700_000_000.5 + ordinal,
        contract="orders-contract",
        contract_version="1.2.0",
        rules_hash="abc",
        sink=sink,
        owner="orders@example.com",
    )


def opened(folder: Path, *, max_bytes: int = 1 << 40, retention: float = 0.0) -> JournalWriter:
    return JournalWriter.open(folder, "commerce", JournalConfig(max_bytes, retention))


def reading(folder: Path) -> JournalReader:
    return JournalReader.open(folder, "commerce")


def write(writer: JournalWriter, rows: int = 3, *, schema: TableSchema = ORDERS, sink: str | None = None, width: int = 5) -> int:
    """One committed transaction of inserts; the watermark is the last ordinal. Returns the seq."""
    batch = changes(writer.next_ordinal, rows, schema=schema, sink=sink, width=width)
    writer.append(batch)
    if sink is None:
        writer.count(schema.dataset, source=SOURCE, rows=rows, first_ordinal=int(batch.ordinal[0]), last_ordinal=int(batch.ordinal[-1]))
    return writer.commit(SOURCE, watermark(int(batch.ordinal[-1])))


def watermark(ordinal: int) -> str:
    return json.dumps({"ordinal": ordinal})


def everything(reader: JournalReader, sink: str = "out", max_bytes: int = 1 << 20) -> list[ChangeBatch | CopyMarker]:
    """All entries for a sink."""
    found: list[ChangeBatch | CopyMarker] = []
    after = 0
    while (stretch := reader.read(after, max_bytes=max_bytes, sink=sink)).last > after:
        found += [entry for _, entry in stretch.entries]
        after = stretch.last
    return found


def ordinals(entries: list[ChangeBatch | CopyMarker]) -> list[int]:
    return [int(ordinal) for entry in entries if isinstance(entry, ChangeBatch) for ordinal in entry.ordinal]


def assert_same(found: ChangeBatch, meant: ChangeBatch) -> None:
    """Every field, bit for bit; a presence that is all PRESENT may be left out, as may old values that are all null."""
    for name in ("schema", "source", "table", "sink", "defects"):
        assert getattr(found, name) == getattr(meant, name)
    for name in ("op", "lsn", "nth", "time", "ordinal"):
        assert getattr(found, name).dtype == getattr(meant, name).dtype
        assert (getattr(found, name) == getattr(meant, name)).all(), name
    assert len(found.columns) == len(meant.columns)
    for one, other in zip(found.columns, meant.columns, strict=True):
        assert one.type == pa.string()
        assert one.to_pylist() == other.to_pylist()
        one.validate(full=True)
    assert _told(found.presence) == _told(meant.presence)
    assert {c: values.to_pylist() for c, values in found.old.items()} == {c: values.to_pylist() for c, values in meant.old.items()}
    assert (found.traces is None) == (meant.traces is None)
    if found.traces is not None and meant.traces is not None:
        assert found.traces.to_pylist() == meant.traces.to_pylist()
    assert (found.has_old is None) == (meant.has_old is None)
    if found.has_old is not None and meant.has_old is not None:
        assert found.has_old.dtype == np.bool_
        assert (found.has_old == meant.has_old).all()


def _told(presence: Mapping[int, np.ndarray]) -> dict[int, list[int]]:
    return {column: codes.tolist() for column, codes in presence.items()}
