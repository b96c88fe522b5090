"""What `trace` says of a journal and a state, as the processes of a pipeline would have left them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from journal.batch import ChangeBatch
from journal.local import JournalWriter
from journal.passages import Passage
from journal.quarantine import QuarantineRecord, Reason, record_id
from journal.schema import Column, TableSchema
from journal.state import State
from journal.trace_context import Traces
from pipeline.model import JournalConfig
from sinks.base import Cursor
from tests.invoking import Ended, sluice
from tests.sink_batches import Did, changes, delete, insert, read, truncate, update

SCHEMA = TableSchema("orders", (Column("id", "bigint"), Column("email", "text"), Column("region", "text")), ("id",))
CONTEXT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 congo=t61rcWkgMzE"

_PIPELINE = """
pipeline: shop
sources:
  portal: {type: postgres, dsn: "host=nowhere", tables: [public.orders, public.lines]}
datasets:
  orders: {from: portal.public.orders, contract: orders.odcs.yaml}
sinks:
  warehouse: {type: duckdb, path: warehouse.duckdb}
  eu: {type: duckdb, path: eu.duckdb, datasets: {orders: {where: "region = 'EU'"}}}
  lines: {type: duckdb, path: lines.duckdb, datasets: [lines]}
"""

_LOOKUPS = """
lookups:
  shops: {source: portal.public.shops, key: [region]}
"""

_CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: shop-orders
version: 1.0.0
status: active
schema:
  - name: orders
    properties:
      - {name: id, logicalType: integer, physicalType: bigint, primaryKey: true, required: true}
      - {name: email, logicalType: string, physicalType: text, classification: confidential}
      - {name: region, logicalType: string, physicalType: text}
"""


class Shop:
    """A pipeline of which nothing runs."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "pipeline.yaml"
        self.file.write_text(_PIPELINE)
        (folder / "orders.odcs.yaml").write_text(_CONTRACT)
        self.folder = folder / ".sluice" / "shop"
        self.folder.mkdir(parents=True)
        self.state = State.open(self.folder)
        self.journal = JournalWriter.open(self.folder, "shop", JournalConfig(1 << 30))

    def batch(self, *did: Did, schema: TableSchema = SCHEMA, **more: Any) -> ChangeBatch:
        made = changes(schema, *did, first=self.journal.next_ordinal)
        return replace(made, source="portal", table=f"public.{schema.dataset}", **more)

    def arrive(self, *did: Did, **more: Any) -> int:
        """A transaction of the source; returns the journal's last entry."""
        self.journal.append(self.batch(*did, **more))
        return self.journal.commit("portal", "{}")

    def holds(self, sink: str, seq: int, at: float | None = None, error: str | None = None, **more: Any) -> None:
        """A sink says what its target holds, and since when."""
        cursor = Cursor(self.journal.id, seq, **more).encode()
        passage = None if at is None else Passage(seq, at, self.journal.next_ordinal - 1)
        state = "retrying" if error else "running"
        self.state.sink_progress(sink, state=state, error=error, journal=self.journal.id, seq=seq, cursor=cursor, passage=passage)

    def refuse(self, sink: str, ordinal: int, seq: int) -> str:
        name = record_id(self.journal.id, ordinal, sink)
        made = QuarantineRecord(
            id=name, dataset="orders", source="portal", table="public.orders", operation="insert", key={"id": "1"}, position="0/1",
            ordinal=ordinal, committed_at=0, raw={}, before=None, after=None, quarantined_at=1.0, sink=sink,
            reasons=(Reason("sink", "region", "the sink eu cannot hold it: too long", None),),
        )  # fmt: skip
        self.state.keep_refused(sink, [made], seq)
        return name

    def trace(self, *key: str, dataset: str = "orders", last: int | None = None, json: bool = True) -> Ended:
        options = [part for one in key for part in ("--key", one)] + ([] if last is None else ["--last", str(last)])
        return sluice("trace", self.file, "--dataset", dataset, *options, *(["--json"] if json else []))

    def changes(self, *key: str, **options: Any) -> list[dict[str, Any]]:
        done = self.trace(*key, **options)
        assert done.code == 0, done.err
        found: list[dict[str, Any]] = done.json["changes"]
        return found


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    with closing(made.state), closing(made.journal):
        yield made


def _statuses(change: Mapping[str, Any]) -> dict[str, str]:
    return {name: one["status"] for name, one in change["sinks"].items()}


def test_every_key_of_the_answer_is_there(shop: Shop) -> None:
    shop.arrive(insert(id="1", email="a@x.com", region="EU"), traces=pa.array([CONTEXT]))
    answer = shop.trace("1").json
    assert answer.keys() == {"pipeline", "dataset", "key", "known", "changes", "gone"}
    assert (answer["pipeline"], answer["dataset"], answer["key"], answer["known"], answer["gone"]) == (
        "shop",
        "orders",
        {"id": "1"},
        True,
        None,
    )
    (change,) = answer["changes"]
    assert change.keys() == {
        "state", "ordinal", "operation", "key", "old_key", "trace_id", "traceparent", "tracestate", "source", "received_at", "judged",
        "row", "before", "sinks",
    }  # fmt: skip
    assert change["source"] == {
        "name": "portal", "table": "public.orders", "position": "0/1", "committed_at": "1970-01-01T00:00:01.000Z",
    }  # fmt: skip
    assert change["judged"].keys() == {"contract", "version", "noted", "rules", "map", "enrich", "lookups", "quarantine"}
    assert (change["judged"]["contract"], change["judged"]["version"], change["judged"]["noted"]) == ("shop-orders", "1.0.0", False)
    assert change["sinks"]["eu"].keys() == {"status", "after", "by", "why", "quarantine"}
    assert (change["trace_id"], change["tracestate"]) == (CONTEXT[3:35], CONTEXT[56:])
    assert change["traceparent"] == CONTEXT[:55]


def test_a_sink_has_had_a_change_or_has_it_not_yet_and_says_why(shop: Shop) -> None:
    first = shop.arrive(insert(id="1", region="EU"))
    second = shop.arrive(update({"id": "1", "region": "US"}))
    assert [_statuses(one)["eu"] for one in shop.changes("1")] == ["pending", "pending"]
    shop.holds("warehouse", first, at=1_700_000_000.25)
    shop.holds("warehouse", second, at=1_700_000_002.0)
    shop.holds("eu", first, error="no route to host")
    done, left = shop.changes("1")
    assert done["sinks"]["warehouse"] == {
        "status": "delivered", "after": None, "by": "2023-11-14T22:13:20.250Z", "why": None, "quarantine": None,
    }  # fmt: skip
    assert left["sinks"]["warehouse"] | {"why": 0} == {
        "status": "delivered", "after": "2023-11-14T22:13:20.250Z", "by": "2023-11-14T22:13:22.000Z", "why": 0, "quarantine": None,
    }  # fmt: skip
    assert (done["sinks"]["eu"]["status"], done["sinks"]["eu"]["by"]) == ("delivered", None)
    assert (left["sinks"]["eu"]["status"], left["sinks"]["eu"]["why"]) == ("pending", "no route to host")
    assert (done["sinks"]["lines"]["status"], done["sinks"]["lines"]["why"]) == ("unrouted", "it does not take orders")
    shop.holds("eu", second)
    assert [_statuses(one)["eu"] for one in shop.changes("1")] == ["delivered", "left"]
    shop.holds("warehouse", second, waiting=frozenset({"orders"}))
    assert _statuses(shop.changes("1")[0])["warehouse"] == "pending"


def test_what_the_filter_or_the_target_turned_away_is_told(shop: Shop) -> None:
    last = shop.arrive(insert(id="1", region="EU"), insert(id="2", region="US"), insert(id="3"))
    name = shop.refuse("eu", 1, last)
    shop.holds("eu", last)
    (refused,), (filtered,), (nowhere,) = (shop.changes(key) for key in "123")
    assert refused["sinks"]["eu"]["status"] == "quarantined"
    assert refused["sinks"]["eu"]["quarantine"] == {"id": name, "status": "open"}
    assert "too long" in refused["sinks"]["eu"]["why"]
    assert _statuses(filtered)["eu"] == _statuses(nowhere)["eu"] == "filtered"
    assert "region = 'EU'" in filtered["sinks"]["eu"]["why"]
    assert "quarantined" in shop.trace("1", json=False).out


def test_a_copy_for_one_sink_is_for_that_one(shop: Shop) -> None:
    last = shop.arrive(read(id="1", region="EU"), sink="eu")
    for sink in ("eu", "warehouse"):
        shop.holds(sink, last)
    assert _statuses(shop.changes("1")[0]) == {"warehouse": "unrouted", "eu": "delivered", "lines": "unrouted"}


def test_the_changes_of_a_key_come_in_order_whatever_they_were(shop: Shop) -> None:
    shop.arrive(insert(id="1", region="EU"), insert(id="2"))
    shop.arrive(update({"id": "1", "region": "US"}, absent=["email"]))
    shop.arrive(delete(id="1"), insert(id="1", region="US"))
    shop.arrive(update({"id": "9", "region": "US"}, old={"id": "1"}))
    shop.arrive(truncate())
    shop.arrive(insert(id="1", region="EU"))
    found = shop.changes("1")
    assert [one["operation"] for one in found] == ["insert", "update", "delete", "insert", "update", "truncate", "insert"]
    assert [one["ordinal"] for one in found] == [1, 3, 4, 5, 6, 7, 8]
    assert found[1]["row"] == {"id": "1", "region": "US"}, "what the log left out is not there"
    assert (found[2]["row"], found[2]["before"]) == (None, {"id": "1"})
    assert (found[4]["key"], found[4]["old_key"]) == ({"id": "9"}, {"id": "1"})
    assert [one["ordinal"] for one in shop.changes("1", last=1)] == [8]
    assert [one["ordinal"] for one in shop.changes("1", last=2)] == [6, 7, 8]
    assert [one["ordinal"] for one in shop.changes("1", last=100)] == [1, 3, 4, 5, 6, 7, 8]
    assert [one["ordinal"] for one in shop.changes("9")] == [6, 7]
    assert [one["ordinal"] for one in shop.changes("2")] == [2, 7]
    shown = shop.trace("1", json=False).out
    assert shown.index("insert id=1") < shown.index("delete id=1") < shown.index("truncate") < shown.index("7 changes")
    assert (shop.trace("3").code, shop.trace("3").json["changes"]) == (1, []), "a truncate makes nothing known that never was"


def test_what_is_held_back_or_waits_is_told(shop: Shop) -> None:
    shop.journal.hold(shop.batch(insert(id="1", region="EU", email="a@x.com")))
    shop.journal.waiting.add(shop.batch(insert(id="1", region="US", email="a@x.com")), 0.0)
    shop.journal.commit("portal", "{}")
    waiting, held = shop.changes("1")
    assert (waiting["state"], held["state"]) == ("waiting", "held")
    assert waiting["row"] == {"id": "1", "email": "***", "region": "US"}
    assert set(held["row"].values()) == {"***"}, "nobody has said what a source's own columns hold"
    assert (held["sinks"], held["ordinal"], held["trace_id"]) == ({}, None, None)
    shown = shop.trace("1", json=False).out
    assert "waits for a lookup" in shown
    assert "held back with its table" in shown


@pytest.mark.parametrize("old", [None, {"id": "1", "email": "old@secret.com", "region": "EU"}])
def test_sensitive_values_are_never_shown(shop: Shop, old: Mapping[str, str | None] | None) -> None:
    shop.arrive(
        update({"id": "1", "email": "new@secret.com", "region": "EU"}, old=old), delete(id="1", email="gone@secret.com", region=None)
    )
    wide = replace(SCHEMA, columns=(*SCHEMA.columns, Column("customer_phone", "text")))
    shop.arrive(insert(id="1", email="x@secret.com", customer_phone="555-1234"), schema=wide)
    for json in (True, False):
        told = shop.trace("1", json=json).out
        assert "secret.com" not in told
        assert "555-1234" not in told, "the contract does not name what a lookup has brought"
        assert "***" in told
    (shop.file.parent / "orders.odcs.yaml").write_text(_CONTRACT.replace("confidential", "public"))
    assert "new@secret.com" in shop.trace("1").out


def test_a_key_is_written_with_or_without_its_column(shop: Shop) -> None:
    text = TableSchema("lines", (Column("name", "text"), Column("n", "integer")), ("name",))
    shop.arrive(insert(name="a=b", n="1"), insert(name="name=c", n="2"), insert(name="ü 'quoted'", n="3"), schema=text)
    for key, n in (("a=b", "1"), ("name=a=b", "1"), ("name=name=c", "2"), ("ü 'quoted'", "3")):
        assert [one["row"]["n"] for one in shop.changes(key, dataset="lines")] == [n]
    assert shop.trace("name=c", dataset="lines").code == 1


def test_rows_without_a_key_are_found_by_any_columns(shop: Shop) -> None:
    bare = TableSchema("lines", (Column("name", "text"), Column("n", "integer")))
    shop.arrive(insert(name="a", n="1"), insert(name="a", n="2"), schema=bare)
    assert len(shop.changes("name=a", dataset="lines")) == 2
    assert len(shop.changes("name=a", "n=2", dataset="lines")) == 1
    refused = shop.trace("a", dataset="lines")
    assert refused.code == 2
    assert "has no key" in refused.err


def test_a_dataset_that_is_not_there_is_answered_with_those_that_are(shop: Shop) -> None:
    refused = shop.trace("1", dataset="ordres")
    assert refused.code == 2
    assert "lines, orders" in refused.err
    assert (shop.trace("1").code, shop.trace("1", dataset="lines").code) == (1, 1)


def test_only_as_much_of_the_journal_is_read_as_is_asked_for(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(600):
        shop.arrive(insert(id=str(n % 3), region="EU"))
    assert len(shop.changes("1")) == 200
    decoded: list[int] = []
    whole = JournalReaderDecoded(decoded)
    monkeypatch.setattr("journal.reading.decode", whole)
    assert [one["ordinal"] for one in shop.changes("1", last=3)] == [593, 596, 599]
    assert len(decoded) < 20


class JournalReaderDecoded:
    """Counts the batches that are taken apart."""

    def __init__(self, counts: list[int]) -> None:
        from journal.codec import decode

        self._decode = decode
        self._counts = counts

    def __call__(self, rows: Any, stream: Any) -> ChangeBatch:
        self._counts.append(len(rows))
        return self._decode(rows, stream)


def test_derived_ids_are_those_of_every_process(shop: Shop) -> None:
    shop.arrive(insert(id="1"), insert(id="2"))
    traces = Traces(shop.journal.id)
    assert [shop.changes(key)[0]["trace_id"] for key in "12"] == [traces.id(1), traces.id(2)]
    parents, _ = traces.spans("any", np.array([1, 2]), np.zeros(2, np.int64), None)
    assert [parent[3:35] for parent in parents.to_pylist()] == [traces.id(1), traces.id(2)]


def test_what_made_and_what_enriched_a_row_is_named(shop: Shop) -> None:
    text = _PIPELINE.replace("contract: orders.odcs.yaml", "contract: orders.odcs.yaml, enrich: maps/enriched.sql")
    shop.file.write_text(text.replace("public.lines]", "public.lines, public.shops]") + _LOOKUPS)
    maps = shop.file.parent / "maps"
    maps.mkdir()
    (maps / "enriched.sql").write_text("SELECT o.*, s.city FROM input AS o LEFT JOIN shops AS s ON s.region = o.region")
    shop.arrive(insert(id="1", region="EU"))
    judged = shop.changes("1")[0]["judged"]
    assert (judged["map"], judged["enrich"], judged["lookups"]) == (None, "maps/enriched.sql", ["shops"])
    assert "maps/enriched.sql with shops" in shop.trace("1", json=False).out


def test_files_that_cannot_be_read_hide_values_and_nothing_else(shop: Shop) -> None:
    shop.arrive(insert(id="1", email="a@secret.com", region="EU"))
    (shop.file.parent / "orders.odcs.yaml").write_text("no contract")
    (change,) = shop.changes("1")
    assert set(change["row"].values()) == {"***"}
    assert (change["judged"]["contract"], change["source"]["position"]) == (None, "0/1")


def test_what_a_source_brought_that_is_not_in_the_file_any_more_is_told_all_the_same(shop: Shop) -> None:
    made = replace(shop.batch(insert(id="1", region="EU")), source="former")
    shop.journal.append(made)
    shop.journal.commit("former", "{}")
    (change,) = shop.changes("1")
    assert (change["source"]["name"], change["source"]["position"]) == ("former", "1:0")
