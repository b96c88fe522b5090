"""A pipeline of one table in this process: its judge, its journal, and the end of ingest that writes it, without a source or a sink."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dataflows.ingest import IngestState, JournalStep
from dataflows.judging import Judge
from dataflows.observe import IngestMetrics
from dataflows.records import judged_records
from dataflows.strict_order import StrictOrder
from journal.batch import ChangeBatch, CopyMarker, Op, Segment
from journal.bell import Ringer
from journal.local import JournalReader, JournalWriter
from journal.quarantine import QuarantineRecord, Wanted
from journal.schema import Column, TableSchema
from pipeline.model import JournalConfig
from quality.contract import Contract
from quality.contract_reading import load_contract
from quality.gate import Gate
from tests.contract_text import write_contract

SCHEMA = TableSchema("orders", (Column("id", "text", 1), Column("amount", "integer", 2)), ("id",))
SOURCE, TABLE = "portal", "public.orders"
CONTRACT = """\
    properties:
      - {{name: id, logicalType: string, primaryKey: true}}
      - name: amount
        logicalType: integer
        quality:
          - {{id: positive, type: sql, query: amount > 0, mustBe: true}}
    customProperties:
      - {{property: order, value: {order}}}
"""


@dataclass(frozen=True)
class Change:
    """One change: the row's id and amount (of a delete: none), and the id that an update took from it."""

    op: Op
    id: str | None = None
    amount: str | None = None
    old: str | None = None


def put(id: str, amount: int) -> Change:
    return Change(Op.INSERT, id, str(amount))


def update(id: str, amount: int, old: str | None = None) -> Change:
    return Change(Op.UPDATE, id, str(amount), old)


def delete(id: str) -> Change:
    return Change(Op.DELETE, id)


def copied(id: str, amount: int) -> Change:
    return Change(Op.READ, id, str(amount))


TRUNCATE = Change(Op.TRUNCATE)


def batch_of(changes: Sequence[Change]) -> ChangeBatch:
    n = len(changes)
    old = [change.old for change in changes]
    moved = np.array([one is not None for one in old], np.bool_)
    absent = np.array([change.op is Op.DELETE for change in changes], np.uint8)
    return ChangeBatch(
        schema=SCHEMA,
        source=SOURCE,
        table=TABLE,
        op=np.array([change.op for change in changes], np.uint8),
        lsn=np.zeros(n, np.int64),
        nth=np.arange(n, dtype=np.int64),
        time=np.zeros(n, np.int64),
        ordinal=np.zeros(n, np.int64),
        columns=(pa.array([change.id for change in changes], pa.string()), pa.array([change.amount for change in changes], pa.string())),
        presence={1: absent} if absent.any() else {},
        old={0: pa.array(old, pa.string())} if moved.any() else {},
        has_old=moved if moved.any() else None,
    )


class _Source:
    def confirm(self, watermark: str) -> None:
        """Nobody is told."""


class Place:
    """What ingest has between its source and the journal. Made anew after `close` it goes on where it was."""

    def __init__(self, folder: Path, order: str) -> None:
        self.folder = folder
        self.contract: Contract = load_contract(write_contract(folder, CONTRACT.format(order=order)))
        self._held = ExitStack()
        self.journal = self._held.enter_context(JournalWriter.open(folder, "commerce", JournalConfig(1 << 40, 0.0)))
        record = partial(judged_records, self.journal.id, lambda batch, row: "0/1", "orders@example.com")
        strict = StrictOrder(self.journal.id, self.journal.sitting, ["orders"]) if order == "strict" else None
        self.judge = Judge(self.journal.next_ordinal, lambda schema: Gate(self.contract, schema), record, order=strict)
        ringer = Ringer(folder, [])
        self._held.callback(ringer.close)
        nobody: dict[str, Any] = {"copy_requested": lambda *_: None, "copy_done": lambda *_: None, "copy_name": lambda *_: "orders"}
        sources: Any = {SOURCE: _Source()}
        self.step = JournalStep(self.journal, self.judge, sources, IngestState(), IngestMetrics(), ringer, **nobody)

    def take(self, *batches: Sequence[Change] | CopyMarker) -> None:
        """One transaction of the source: its batches, all judged before the first of them is written."""
        entries = [one if isinstance(one, CopyMarker) else batch_of(one) for one in batches]
        self.step.write_batch([self.judge.segment(Segment(SOURCE, entries, "w"))])

    def records(self, status: str | None = None) -> list[QuarantineRecord]:
        with JournalReader.open(self.folder, "commerce") as reader:
            return reader.quarantined(Wanted(status=status))

    def waits(self) -> dict[int, list[str]]:
        """Ordinal of each record -> its rules, and in place of `order` the record that it waits for."""
        return {
            one.ordinal: [reason.message.rpartition("-")[2] if reason.rule == "order" else reason.rule for reason in one.reasons]
            for one in self.records()
        }

    def passed(self) -> list[int]:
        """The ordinals of what went on, in the order in which it did."""
        with JournalReader.open(self.folder, "commerce") as reader:
            found = reader.read(0, max_bytes=1 << 30, sink="out").entries
        return [int(ordinal) for _, entry in found if isinstance(entry, ChangeBatch) for ordinal in entry.ordinal]

    def close(self) -> None:
        self._held.close()


def marker(phase: str) -> CopyMarker:
    return CopyMarker(SCHEMA, SOURCE, TABLE, phase, 0)
