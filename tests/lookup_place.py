"""A pipeline with lookups between a source that a test plays and a real journal, which can be lost at any moment."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import pyarrow as pa

from dataflows.judging import Judge
from dataflows.lookups import Lookups
from dataflows.maps import Maps
from dataflows.records import judged_records
from dataflows.versions import Versions
from dataflows.waiting import Waiting
from journal.batch import ChangeBatch, CopyMarker, Entry, Op, Segment, batch_from_columns
from journal.bell import Ringer
from journal.local import JournalReader, JournalWriter
from journal.quarantine import Wanted
from journal.schema import Column, TableSchema
from pipeline.load import load_pipeline
from pipeline.model import JournalConfig
from tests.played_source import journal_step

PIPELINE = """\
pipeline: shop
state: state
sources:
  shop: {{type: postgres, dsn: "postgresql://localhost:1/x", tables: [public.orders]}}
datasets:
  orders: {{from: shop.public.orders, enrich: enrich.sql}}
lookups:
  products: {{source: shop.public.products, key: [product_id], on_missing: {on_missing}, wait_seconds: 60}}
sinks:
  warehouse: {{type: duckdb, path: warehouse.duckdb}}
"""
ENRICH = "SELECT input.*, p.name AS product, p.price * qty AS total FROM input LEFT JOIN products AS p ON p.product_id = input.product_id"

ORDERS = TableSchema(
    "orders",
    (Column("id", "bigint", 1, nullable=False), Column("product_id", "bigint", 2), Column("qty", "integer", 3)),
    ("id",),
)
PRODUCTS = TableSchema(
    "products",
    (Column("product_id", "bigint", 1, nullable=False), Column("name", "text", 2), Column("price", "numeric(10,2)", 3)),
    ("product_id",),
)

Row = tuple[str | None, ...]


class LookupPlace:
    """Ingest of one pipeline, its journal, and a clock that only the test moves."""

    def __init__(self, folder: Path, on_missing: str = "wait", enrich: str = ENRICH, order_by: str | None = None) -> None:
        self.folder = folder
        written = PIPELINE.format(on_missing=on_missing)
        if order_by is not None:
            written = written.replace("enrich: enrich.sql", f"enrich: enrich.sql, order_by: {order_by}")
        (folder / "pipeline.yaml").write_text(written)
        (folder / "enrich.sql").write_text(enrich)
        self.pipeline = load_pipeline(folder / "pipeline.yaml")
        self.pipeline.state.mkdir(exist_ok=True)
        self.later = 0.0
        self._commits = 0
        self.start()

    def start(self) -> None:
        """As ingest starts."""
        self.journal = JournalWriter.open(self.pipeline.state, "shop", JournalConfig(10**9))
        self.lookups = Lookups(self.pipeline)
        self.waiting = Waiting(self.pipeline, self.lookups, lambda: self.journal.clock + self.later)
        versions = Versions(self.pipeline)
        self.lookups.load(self.journal.lookups, versions.names)
        versions.load(self.journal.lookups)
        self.waiting.restore(self.journal.waiting.all())
        record = partial(judged_records, self.journal.id, lambda batch, row: "0/1", "owner@example.com")
        self.judge = Judge(
            self.journal.next_ordinal, lambda schema: None, record, maps=Maps(self.pipeline), waiting=self.waiting, versions=versions
        )
        self.ringer = Ringer(self.pipeline.state, [])
        self.step = journal_step("shop", self.journal, self.judge, self.ringer, lookups=self.lookups, versions=versions)

    def lose(self) -> None:
        """The process dies, whatever it was at, and is started again."""
        self.close()
        self.start()

    def close(self) -> None:
        self.ringer.close()
        self.journal.close()

    def send(self, *entries: Entry, whole: bool = True, spread: bool = True) -> None:
        """A segment, which ends a transaction of the source unless it is not `whole`. If `spread`, entries came one after the other."""
        self._commits += 1
        if spread:
            entries = tuple(replace(one, lsn=one.lsn + place) if isinstance(one, ChangeBatch) else one for place, one in enumerate(entries))
        self.waiting._rest_until = 0.0  # else it depends on how long the last look took whether there is one now
        segment = Segment("shop", entries, str(self._commits) if whole else None)
        self.step.write_batch([self.judge.segment(segment)])

    def wait(self, seconds: float) -> None:
        """Time goes by, and nothing comes."""
        self.later += seconds
        self.waiting._look_at = self.waiting._rest_until = 0.0
        self.step.look_after_waiting()

    def delivered(self) -> list[tuple[str, Row]]:
        """Operation and row of everything of `orders` that sinks get, in order."""
        with closing(JournalReader.open(self.pipeline.state, "shop")) as reader:
            entries = [entry for _, entry in reader.read(0, max_bytes=1 << 30, sink="warehouse").entries]
        found: list[tuple[str, Row]] = []
        for entry in entries:
            if isinstance(entry, ChangeBatch) and entry.dataset == "orders":
                rows = zip(*(column.to_pylist() for column in entry.columns), strict=True)
                found += [(Op(int(op)).word, row) for op, row in zip(entry.op, rows, strict=True)]
        return found

    def quarantined(self) -> list[tuple[str | None, str]]:
        """Id of the order, and the rule, of what is in quarantine."""
        with closing(JournalReader.open(self.pipeline.state, "shop")) as reader:
            records = reader.quarantined(Wanted())
        return [(cast("str | None", record.key["id"]), record.reasons[0].rule) for record in records]

    def counts(self) -> tuple[int, int, int]:
        """Of `orders`: what came in and was settled, what of it is in quarantine, and what waits."""
        with closing(JournalReader.open(self.pipeline.state, "shop")) as reader:
            total = reader.totals().get("orders")
            waits = reader.waiting().get("orders", 0)
        return (0, 0, waits) if total is None else (total.rows, total.quarantined, waits)


def orders(*rows: Row, op: Op = Op.INSERT) -> ChangeBatch:
    """Changes of orders: id, product, quantity."""
    return _batch(ORDERS, rows, op)


def products(*rows: Row, op: Op = Op.INSERT) -> ChangeBatch:
    """Changes of products: id, name, price."""
    return _batch(PRODUCTS, rows, op)


def moved(row: Row, key: str) -> ChangeBatch:
    """An order that had another id before."""
    batch = orders(row, op=Op.UPDATE)
    return replace(batch, old={0: pa.array([key])}, has_old=batch.op == Op.UPDATE)


def marker(schema: TableSchema, phase: str, *, first: bool = False) -> CopyMarker:
    return CopyMarker(schema, "shop", f"public.{schema.dataset}", phase, 0, first)


def copied(*rows: Row) -> Sequence[Entry]:
    """A first copy of products."""
    return [marker(PRODUCTS, "start", first=True), products(*rows, op=Op.READ), marker(PRODUCTS, "end")]


def _batch(schema: TableSchema, rows: Sequence[Row], op: Op) -> ChangeBatch:
    columns = [pa.array([row[c] for row in rows], pa.string()) for c in range(len(schema.columns))]
    return batch_from_columns(schema, columns, op, source="shop", table=f"public.{schema.dataset}")
