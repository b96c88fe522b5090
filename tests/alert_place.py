"""A pipeline with a journal and a state, as its processes leave them, and somebody who watches it under a clock that is set by hand."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pyarrow as pa

from dataflows.alerts.telling import Telling
from dataflows.stopping import Stop
from journal import contracts
from journal.alerting import AlertBook
from journal.batch import Op, batch_from_columns
from journal.local import JournalWriter
from journal.quarantine import QuarantineRecord, Reason, record_id
from journal.schema import Column, TableSchema
from journal.state import State
from pipeline.load import load_pipeline
from pipeline.model import JournalConfig
from quality.contract_reading import load_contract
from sinks.base import Cursor
from tests.http_inbox import Inbox
from tests.waiting import wait_for

NOW = float(int(time.time()))
SCHEMA = TableSchema("orders", (Column("id", "bigint"), Column("email", "text"), Column("amount", "numeric")), ("id",))
PAYLOAD_SCHEMA = json.loads((Path(__file__).parents[1] / "docs" / "alert.schema.json").read_text("utf-8"))
CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: orders
version: 1.0.0
status: active
team: {name: checkout}
schema:
  - name: orders
    properties:
      - {name: id, logicalType: integer, primaryKey: true}
      - {name: email, logicalType: string, classification: confidential, logicalTypeOptions: {format: email}}
      - {name: amount, logicalType: number, logicalTypeOptions: {minimum: 0}}
slaProperties:
  - {property: freshness, value: 1, unit: h}
"""
PIPELINE = """
pipeline: shop
state: .sluice
owner: ann@example.com
sources:
  portal: {type: postgres, dsn: "host=127.0.0.1 port=1 dbname=nowhere", tables: [public.orders, public.customers]}
datasets:
  orders: {from: portal.public.orders, contract: orders.yaml}
sinks:
  lake: {type: duckdb, path: lake.duckdb}
alerts:
  group_wait: 30s
  channels:
    desk: {type: webhook, url: "URL/desk", default: true}
"""


class Shop:
    """A pipeline with a journal and a state, as its processes leave them, and somebody who watches it under a clock set by hand."""

    def __init__(self, folder: Path, web: Inbox) -> None:
        self.folder = folder
        self.web = web
        self.now = NOW
        self.ended = False
        self.file = folder / "the pipeline.yaml"
        self.file.write_text(PIPELINE.replace("URL", web.url))
        (folder / "orders.yaml").write_text(CONTRACT)
        self.pipeline = load_pipeline(self.file, {})
        self.state = State.open(self.pipeline.state)
        self.book = AlertBook.open(self.pipeline.state)
        self.journal = JournalWriter.open(self.pipeline.state, "shop", JournalConfig(1 << 30))
        self._stop = Stop()
        self.telling = self._telling()

    def _telling(self) -> Telling:
        assert self.pipeline.alerts is not None
        return Telling(self.pipeline, self.pipeline.alerts, self._stop)

    def restart(self) -> None:
        """As after `kill -9`: nothing of the old one is left but what is on disk."""
        self._stop.set()
        self._stop = Stop()
        self.telling = self._telling()

    def tick(self, after: float = 0.0) -> list[Any]:
        """Looks once, that much later; returns the payloads of what is told, once they have been sent."""
        self.now += after
        known = {message.id for message in self.book.messages()}
        self.telling.tick(self.now)
        new = [message.id for message in self.book.messages() if message.id not in known]
        wait_for(lambda: not self.book.awaited(), message="messages to be sent")
        sent = {posted.json["id"]: posted.json for posted in self.web.posted}
        return [sent[number] for number in new]

    def told(self) -> list[Any]:
        """What is told once the wait for others is over."""
        self.tick()
        return self.tick(30)

    def arrive(self, rows: int, bad: list[QuarantineRecord], *, first: int = 1) -> None:
        good = rows - len(bad)
        if good:
            columns = [pa.array([str(n) for n in range(good)]), pa.array(["a@b"] * good), pa.array(["5"] * good)]
            at = first + len(bad)
            self.journal.append(batch_from_columns(SCHEMA, columns, Op.INSERT, source="portal", table="public.orders", first=at))
        self.journal.quarantine(bad)
        last = first + rows - 1
        self.journal.count("orders", source="portal", rows=rows, quarantined=len(bad), first_ordinal=first, last_ordinal=last)
        self.journal.commit("portal", "{}")

    def record(self, ordinal: int, *, column: str = "amount", value: str = "-3", rule: str = "amount-minimum-1") -> QuarantineRecord:
        return QuarantineRecord(
            id=record_id(self.journal.id, ordinal),
            dataset="orders",
            source="portal",
            table="public.orders",
            operation="insert",
            key={"id": str(ordinal)},
            position="0/1",
            ordinal=ordinal,
            committed_at=int(NOW * 1e6),
            raw={"id": str(ordinal), "email": "leak@example.com", "amount": value},
            before=None,
            after=None,
            reasons=(Reason(rule, column, f"must hold, got {value!r}", value),),
            quarantined_at=NOW - 60,
        )

    def in_force(self, text: str) -> None:
        """What approval, or a start of ingest, does."""
        contract = load_contract(self.folder / "orders.yaml", text)
        with self.journal.changing() as db:
            contracts.put(db, "orders", (contract.id, contract.version, contract.fingerprint), text, 1)
        self.journal.commit_beside()

    def portal(self, tables: dict[str, Any] | None = None, **status: Any) -> None:
        """What the source says of itself."""
        self.state.source_status("portal", {"state": "streaming", "tables": tables or {}, **status})

    def lake(self, state: str, error: str | None = None, seq: int = 0) -> None:
        cursor = Cursor(self.journal.id, seq).encode() if seq else None
        self.state.sink_progress("lake", state=state, error=error, journal=self.journal.id, seq=seq, cursor=cursor)

    def close(self) -> None:
        self._stop.set()
        self.telling.close()
        if not self.ended:
            self.journal.close()
        self.state.close()
        self.book.close()
