"""A pipeline whose gate and journal are real, between a source that a test plays and an audit."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dataflows.auditing import Audit, Auditing
from dataflows.build import contracts
from dataflows.earlier_values import EarlierValues
from dataflows.judged_by import JudgedBy
from dataflows.judging import Judge
from dataflows.records import judged_records
from journal.audits import Audited, Audits, Incident
from journal.batch import ChangeBatch, CopyMarker, Op, Segment, batch_from_columns
from journal.bell import Ringer
from journal.local import JournalReader, JournalWriter
from journal.schema import Column, TableSchema
from pipeline.load import load_pipeline
from pipeline.model import JournalConfig
from quality.gate import Gate
from quality.kernels.gx import Reference
from tests.contract_text import contract_of
from tests.played_source import journal_step

PIPELINE = """\
pipeline: shop
state: state
sources:
  db: {type: postgres, dsn: "postgresql://localhost:1/x", tables: [public.orders, public.people]}
datasets:
  orders: {from: db.public.orders, contract: orders.yaml}
sinks:
  lake: {type: duckdb, path: lake.duckdb}
"""

Row = Sequence[str | None]


class AuditPlace:
    """Ingest of one dataset, `orders`, its journal and its audit. `types`: column -> Postgres type; the first column is the key."""

    def __init__(
        self, folder: Path, body: str, types: dict[str, str], reference: Reference | None = None, tail: str = "", lookups: str = ""
    ) -> None:
        """`body` is the contract's schema object, `tail` what stands behind it, `lookups` those of the pipeline.

        The gate does not remember what a row was before, unless the place is begun again so.
        """
        self.file = folder / "pipeline.yaml"
        self.file.write_text(PIPELINE + lookups)
        self.contract_file = folder / "orders.yaml"
        self.contract_file.write_text(contract_of(body) + tail)
        self.schema = TableSchema(
            "orders", tuple(Column(name, kind, n + 1) for n, (name, kind) in enumerate(types.items())), (next(iter(types)),)
        )
        self.pipeline = load_pipeline(self.file)
        self.pipeline.state.mkdir(exist_ok=True)
        self.audits = Audits.open(self.pipeline.state)
        self._reference = reference
        self.asked = 0
        self.commits = 0
        self.start()

    def start(self, *, remembers: bool = False) -> None:
        """As ingest starts."""
        self.journal = JournalWriter.open(self.pipeline.state, "shop", JournalConfig(10**9))
        rules = contracts(self.pipeline)
        notes = {"db": dict(self.journal.resume("db").notes)}
        record = partial(judged_records, self.journal.id, lambda batch, row: "0/1", "owner@example.com")
        judged_by = JudgedBy(self.journal.next_ordinal, rules, notes.__getitem__)
        self.earlier = EarlierValues(rules) if remembers else None
        if self.earlier is not None:
            self.earlier.load(self.journal.lookups)
        gate = lambda schema: Gate(rules["orders"], schema, self.earlier)  # noqa: E731
        self.judge = Judge(self.journal.next_ordinal, gate, record, judged_by=judged_by, earlier=self.earlier)
        self.ringer = Ringer(self.pipeline.state, [])
        self.step = journal_step("db", self.journal, self.judge, self.ringer, earlier=self.earlier)

    def again(self, body: str | None = None, *, remembers: bool = False) -> None:
        """Ingest ends, and starts again with this contract."""
        if body is not None:
            self.contract_file.write_text(contract_of(body))
        self.ringer.close()
        self.journal.close()
        self.start(remembers=remembers)

    def close(self) -> None:
        self.ringer.close()
        self.journal.close()
        self.audits.close()

    def batch(self, rows: Sequence[Row], ops: Op | Sequence[Op] = Op.INSERT, at: float | None = None) -> ChangeBatch:
        """Changes committed at a time in seconds; now, unless it is said."""
        columns = [pa.array([row[c] for row in rows], pa.string()) for c in range(len(self.schema.columns))]
        made = batch_from_columns(self.schema, columns, Op.INSERT, source="db", table="public.orders", lsn=self.commits + 1)
        moment = int((time.time() if at is None else at) * 1e6)
        op = np.array([ops] * len(rows) if isinstance(ops, Op) else ops, np.uint8)
        return replace(made, op=op, time=np.full(len(rows), moment, np.int64))

    def send(self, *batches: ChangeBatch | CopyMarker) -> None:
        """One transaction of the source."""
        self.commits += 1
        self.step.write_batch([self.judge.segment(Segment("db", batches, str(self.commits)))])
        if self.step._state.ending.error is not None:
            raise self.step._state.ending.error

    def reader(self) -> JournalReader:
        """The journal, for whoever looks at it."""
        return JournalReader.open(self.pipeline.state, "shop")

    def audit(self, now: float | None = None, go_on: Callable[[], bool] = lambda: True, **options: Any) -> Audit:
        """Audits what has come."""
        auditing = Auditing(self.pipeline, self.audits, self._asked)
        contract = contracts(self.pipeline)["orders"]
        with closing(self.reader()) as reader:
            return auditing.dataset(reader, "orders", contract, time.time() if now is None else now, go_on, **options)

    def _asked(self) -> Reference:
        self.asked += 1
        if self._reference is None:
            self._reference = Reference()
        return self._reference

    def lines(self, rule: str | None = None) -> dict[str, Audited]:
        """What was found in the newest window, by rule."""
        found = self.audits.windows("orders", rule=rule)
        last = max((line.last for line in found), default=0)
        return {line.rule: line for line in found if line.last == last}

    def incidents(self) -> dict[tuple[str, str], Incident]:
        """The open ones, by kind and rule."""
        return {(one.kind, one.rule): one for one in self.audits.incidents("orders")}
