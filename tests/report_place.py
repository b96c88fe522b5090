"""A pipeline of which the journal is filled by hand, and its reports: no server, no process."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from msgspec import structs

from journal.contracts import put
from journal.local import JournalReader, JournalWriter
from journal.quarantine import QuarantineRecord, record_id
from journal.schema import TableSchema
from journal.state import State
from pipeline.load import load_pipeline
from pipeline.model import Pipeline
from quality.contract_reading import load_contract
from sinks.base import Counts, Cursor
from tests.contract_text import contract_of
from tests.invoking import sluice
from tests.journal_cases import ORDERS, changes, record

_FILE = """
pipeline: shop
owner: integration@example.com
state: .sluice
sources:
  portal: {type: postgres, dsn: "host=127.0.0.1 port=1 dbname=nowhere", tables: [public.orders]}
datasets:
  orders: {from: portal.public.orders, contract: orders.yaml}
sinks:
  lake: {type: duckdb, path: lake.duckdb}
"""
CONTRACT = """    properties:
      - {name: id, logicalType: integer, primaryKey: true}
      - {name: note, logicalType: string}
      - name: amount
        logicalType: number
        quality:
          - {id: amount-positive, type: sql, query: '{property} > 0', mustBe: true}
slaProperties:
  - {property: freshness, value: 1, unit: h}
  - {property: completeness, value: 50, unit: percent}
team: {name: checkout, members: [{username: ann@example.com, role: owner}]}
"""


class Shop:
    """A pipeline in a folder, of which the journal is filled by hand."""

    def __init__(self, folder: Path, contract: str = CONTRACT) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.file = folder / "pipeline.yaml"
        self.file.write_text(_FILE)
        (folder / "orders.yaml").write_text(contract_of(contract))

    @property
    def pipeline(self) -> Pipeline:
        return load_pipeline(self.file)

    @contextmanager
    def journal(self) -> Iterator[JournalWriter]:
        pipeline = self.pipeline
        with closing(JournalWriter.open(pipeline.state, pipeline.name, pipeline.journal)) as writer:
            yield writer

    def fill(self, *records: QuarantineRecord, rows: int = 10, schema: TableSchema = ORDERS) -> None:
        """One commit of so many changes of `orders`, of which these are in quarantine."""
        with self.journal() as writer:
            batch = changes(writer.next_ordinal, rows - len(records), schema=schema)
            writer.append(batch)
            now = int(time.time() * 1e6)
            given = [structs.replace(one, id=one.id.replace("journal", writer.id[:8])) for one in records]
            writer.count(
                "orders", source="portal", rows=rows, quarantined=len(records), failed={"amount-positive": len(records)} if records else {},
                evaluated={"*": rows}, first_ordinal=1, last_ordinal=rows, times=(now - 9_000_000, now - 5_000_000),
            )  # fmt: skip
            writer.quarantine(given)
            writer.commit("portal", "w")

    def write_contract(self, contract: str, version: str = "1.0.0") -> None:
        """The contract's file."""
        (self.folder / "orders.yaml").write_text(contract_of(contract).replace("version: 1.0.0", f"version: {version}"))

    def put_in_force(self, by: str | None = None) -> None:
        """The contract in the file is in force."""
        file = self.folder / "orders.yaml"
        contract = load_contract(file)
        with self.journal() as writer, writer.changing() as db:
            put(db, "orders", (contract.id, contract.version, contract.fingerprint), file.read_text(), writer.next_ordinal, by)
            writer.commit_beside()

    def sink(self, counts: Counts, behind: int = 0, sink: str = "lake") -> None:
        """A sink has settled so much of `orders`, and lacks the last so many entries."""
        pipeline = self.pipeline
        with JournalReader.open(pipeline.state, pipeline.name) as reader, closing(State.open(pipeline.state)) as state:
            seq = reader.last_seq() - behind
            cursor = Cursor(reader.id, seq, counts={"orders": counts}).encode()
            state.sink_progress(sink, state="running", error=None, journal=reader.id, seq=seq, cursor=cursor)

    def refuse(self, *records: QuarantineRecord, rows: int = 10, sink: str = "lake") -> list[str]:
        """A sink has taken so many changes of `orders`, of which it refused these. Returns their ids."""
        pipeline = self.pipeline
        with JournalReader.open(pipeline.state, pipeline.name) as reader, closing(State.open(pipeline.state)) as state:
            given = [structs.replace(one, id=record_id(reader.id, one.ordinal, sink), sink=sink) for one in records]
            state.keep_refused(sink, given, reader.last_seq())
        self.sink(Counts(delivered=rows - len(records), quarantined=len(records)), sink=sink)
        return [one.id for one in given]

    def report(self, dataset: str = "orders") -> tuple[dict[str, Any], str]:
        """The JSON file and the page of a dataset."""
        out = self.folder / "out"
        done = sluice("report", self.file, "--out", out)
        assert done.code == 0, done.err
        return json.loads((out / f"{dataset}.json").read_text("utf-8")), (out / f"{dataset}.html").read_text("utf-8")


def held(ordinal: int, **changed: Any) -> QuarantineRecord:
    """A record that was quarantined just now, 3 s after its commit."""
    now = time.time()
    return structs.replace(record("journal", ordinal), **({"quarantined_at": now, "committed_at": int((now - 3) * 1e6)} | changed))
