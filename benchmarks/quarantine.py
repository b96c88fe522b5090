"""What a quarantine of a million records costs to look at and to let go: `python -m benchmarks.quarantine [--rows N]`.

The records are made by the gate of the benchmark's contract from changes that break one of its rules, and are put into the journal as
ingest does it. Then the work of each command is done in this process, as while no service runs: list, group, fix, approve, replay.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dataflows.asking import ask
from dataflows.records import judged_records
from journal.batch import CopyMarker, Op, batch_from_columns
from journal.local import JournalReader, JournalWriter
from journal.quarantine import Wanted
from journal.schema import Column, TableSchema
from pipeline.load import load_pipeline
from pipeline.model import JournalConfig, Pipeline
from quality.contract_reading import load_contract
from quality.gate import Gate

_CAUSES = 4
_BATCH = 50_000
_PIPELINE = """\
pipeline: shop
sources:
  shop: {type: postgres, dsn: "host=localhost", tables: [public.orders]}
datasets:
  orders: {from: shop.public.orders, contract: orders.odcs.yaml}
sinks:
  warehouse: {type: duckdb, path: warehouse.duckdb}
"""
_CONTRACT = """\
apiVersion: v3.1.0
kind: DataContract
id: orders
version: 1.0.0
status: active
schema:
  - name: orders
    properties:
      - {name: order_id, logicalType: integer, primaryKey: true}
      - {name: email, logicalType: string, required: true, logicalTypeOptions: {maxLength: 60, format: email}}
      - name: currency
        logicalType: string
        required: true
        quality: [{id: known-currency, metric: invalidValues, arguments: {validValues: [EUR, USD, GBP]}, mustBe: 0}]
      - {name: amount, logicalType: number, required: true, logicalTypeOptions: {minimum: 0, maximum: 1000000}}
      - {name: quantity, logicalType: integer, logicalTypeOptions: {minimum: 1}}
"""
ORDERS = TableSchema(
    "orders",
    (
        Column("order_id", "bigint", 1),
        Column("email", "text", 2),
        Column("currency", "text", 3),
        Column("amount", "numeric(12,2)", 4),
        Column("quantity", "integer", 5),
    ),
    ("order_id",),
)


def fill(pipeline: Pipeline, gate: Gate, rows: int) -> None:
    """A journal in which so many records are in quarantine, of four causes, and nothing else."""
    with closing(JournalWriter.open(pipeline.state, pipeline.name, JournalConfig(1 << 40))) as journal:
        journal.mark(CopyMarker(ORDERS, "shop", "public.orders", "start", 1, first=True))
        journal.mark(CopyMarker(ORDERS, "shop", "public.orders", "end", 1, first=True))
        journal.commit("shop", "{}")
        for first in range(1, rows + 1, _BATCH):
            count = min(_BATCH, rows + 1 - first)
            numbers = np.arange(first, first + count)
            kind = numbers % _CAUSES
            columns = [
                pa.array(numbers.astype(str)),
                pa.array(np.where(kind == 0, "nobody", "ann@example.com")),
                pa.array(np.where(kind == 1, "XXX", "EUR")),
                pa.array(np.where(kind == 2, "-5.00", "5.00")),
                pa.array(np.where(kind == 3, "0", "2")),
            ]
            batch = batch_from_columns(ORDERS, columns, Op.INSERT, source="shop", table="public.orders", first=first)
            judged = gate.judge(batch)
            records = judged_records(journal.id, lambda batch, row: "0/1", None, batch, judged.quarantined, gate)
            journal.quarantine(records)
            journal.count(
                "orders", source="shop", rows=count, quarantined=count, first_ordinal=first, last_ordinal=first + count - 1, dropped={}
            )
            journal.commit("shop", "{}")


def _timed(what: str, work: Callable[[], Any], records: int | None = None) -> Any:
    began, cpu = time.perf_counter(), time.process_time()
    found = work()
    took, used = time.perf_counter() - began, time.process_time() - cpu
    rate = "" if records is None else f"   {records / took:>9,.0f} records/s, {used / records * 1e6:6.1f} µs CPU each"
    print(f"  {what:48} {took:>8.3f} s{rate}", flush=True)
    return found


def main() -> None:
    """Prints how long each takes."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--rows", type=int, default=1_000_000)
    rows = asked.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "orders.odcs.yaml").write_text(_CONTRACT, "utf-8")
        (Path(folder) / "pipeline.yaml").write_text(_PIPELINE, "utf-8")
        pipeline = load_pipeline(Path(folder) / "pipeline.yaml")
        gate = Gate(load_contract(Path(folder) / "orders.odcs.yaml"), ORDERS)
        print(f"{rows:,} records in quarantine, {_CAUSES} causes")
        _timed("judged, and put into the journal", partial(fill, pipeline, gate, rows), rows)
        with JournalReader.open(pipeline.state, pipeline.name) as reader:
            causes = _timed("causes, with how many records each", lambda: reader.causes("orders"))
            _timed("the first 100 records", lambda: reader.quarantined(Wanted(), limit=100))
            _timed("the last 100 records", lambda: reader.quarantined(Wanted(), after=rows - 100, limit=100))
            group = causes[0].group
            _timed("the first 100 records of a cause", lambda: reader.quarantined(Wanted(group=group), limit=100))
            pages = (reader.quarantined(Wanted(), after=after, limit=500) for after in range(0, rows, 500))
            _timed("all records, page by page", lambda: sum(map(len, itertools.islice(pages, 200))), min(rows, 200 * 500))
        fixes = {"amount": {"amount": "abs(amount)"}, "quantity": {"quantity": "1"}, "email": {"email": "'ann@example.com'"}}
        done = 0
        for cause in causes:
            column = cause.reason.column or ""
            if column not in fixes:
                continue
            many, of = cause.records, cause.group
            _timed(f"fix of {many:,} by an expression", partial(_ask, pipeline, "fix", group=of, by="ann", expr=fixes[column]), many)
            _timed(f"approval of {many:,}", partial(_ask, pipeline, "approve", group=of, by="bo"), many)
            answer = _timed(f"replay of {many:,}", partial(_ask, pipeline, "replay", group=of, by="bo"), many)
            done += answer["outcome"]["resolved"]
        with JournalReader.open(pipeline.state, pipeline.name) as reader:
            total = reader.totals()["orders"]
            assert total.released == done == rows - total.undelivered, (total, done)
        print(f"  peak of memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB; {done:,} records went on, each once")


def _ask(pipeline: Pipeline, action: str, **content: object) -> dict[str, Any]:
    answer = ask(pipeline, {"action": action, **content}, timeout=3600.0)
    assert answer["code"] == 0, answer
    return answer


if __name__ == "__main__":
    main()
