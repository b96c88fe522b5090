"""`quarantine list`, `show`, `export` and `status`: what is on disk is told, whether or not anything runs."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from journal.batch import CopyMarker, Op, batch_from_columns
from journal.local import JournalWriter
from journal.locks import ProcessLock
from journal.quarantine import QuarantineRecord, Reason, record_id
from journal.schema import Column, TableSchema
from journal.state import State
from pipeline.model import JournalConfig
from sinks.base import Counts, Cursor
from tests.invoking import sluice
from tests.test_cli_check import CONTRACT, PIPELINE

SCHEMA = TableSchema("orders", (Column("order_id", "bigint"), Column("region", "text"), Column("amount", "numeric(12,2)")), ("order_id",))
MASKED_CONTRACT = CONTRACT.replace("name: region, logicalType: string", "name: region, logicalType: string, classification: restricted")


class Shop:
    """A pipeline with a journal and a state, as its processes would have left them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "pipeline.yaml"
        self.state_folder = folder / ".sluice" / "shop"
        (folder / "orders.odcs.yaml").write_text(MASKED_CONTRACT)
        self.file.write_text(PIPELINE)
        self.state_folder.mkdir(parents=True)
        self.state = State.open(self.state_folder)
        self.journal = JournalWriter.open(self.state_folder, "shop", JournalConfig(1 << 30))

    def record(self, ordinal: int, amount: str | None, *, sink: str | None = None, rule: str = "amount-positive") -> QuarantineRecord:
        row: dict[str, str | bytes | None] = {"order_id": str(ordinal), "region": f"SECRET-{ordinal}", "amount": amount}
        return QuarantineRecord(
            id=record_id(self.journal.id, ordinal, sink),
            dataset="orders",
            source="portal",
            table="public.orders",
            operation="update" if ordinal % 2 else "insert",
            key={"order_id": str(ordinal)},
            position=f"0/{ordinal:X}",
            ordinal=ordinal,
            committed_at=1_700_000_000_000_000 + ordinal,
            raw=row,
            before={"amount": "1.00"} if ordinal % 2 else None,
            after=row,
            reasons=(Reason(rule, "amount", "amount > 0", amount), Reason("second", None, "and more", None)),
            quarantined_at=1_700_000_100.5 + ordinal,
            contract="shop-orders",
            contract_version="1.0.0",
            sink=sink,
            owner="ann",
        )

    def arrive(self, rows: int, bad: list[QuarantineRecord], first: int = 1) -> int:
        """Rows come in, some of them bad; returns the journal's last entry."""
        good = rows - len(bad)
        columns = [pa.array([str(n) for n in range(good)]), pa.array(["EU"] * good), pa.array(["5.00"] * good)]
        if first == 1:
            self.journal.mark(CopyMarker(SCHEMA, "portal", "public.orders", "start", 1, first=True))
        batch = batch_from_columns(SCHEMA, columns, Op.INSERT, source="portal", table="public.orders", first=first + len(bad))
        self.journal.append(batch)
        self.journal.quarantine(bad)
        self.journal.count(
            "orders", source="portal", rows=rows, quarantined=len(bad), dropped={}, first_ordinal=first, last_ordinal=first + rows - 1
        )
        return self.journal.commit("portal", "{}")

    def holds(self, sink: str, seq: int, counts: Counts, state: str = "running", error: str | None = None) -> None:
        """A sink says what its target holds."""
        cursor = Cursor(self.journal.id, seq, counts={"orders": counts})
        self.state.sink_progress(sink, state=state, error=error, journal=self.journal.id, seq=seq, cursor=cursor.encode())

    def refuse(self, sink: str, record: QuarantineRecord, seq: int) -> None:
        self.state.keep_refused(sink, [record], seq)

    def run(self, *arguments: object) -> Any:
        command, *rest = arguments
        return sluice(*str(command).split(), self.file, *rest)

    def list(self, *arguments: object) -> list[dict[str, Any]]:
        done = self.run("quarantine list", "--json", *arguments)
        assert done.code == 0, done.err
        found: list[dict[str, Any]] = done.json
        return found


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    with closing(made.state), closing(made.journal):
        yield made


@pytest.fixture
def bad_shop(shop: Shop) -> Shop:
    """Three records of the gate's and one that the sink eu refused."""
    last = shop.arrive(10, [shop.record(1, "-1.00"), shop.record(2, "-22.00"), shop.record(3, None)])
    shop.refuse("eu", shop.record(5, "5.00", sink="eu", rule="sink"), last)
    shop.holds("warehouse", last, Counts(delivered=7))
    shop.holds("eu", last, Counts(delivered=2, filtered=4, quarantined=1))
    return shop


def test_before_the_first_run_nothing_is_in_quarantine(tmp_path: Path) -> None:
    (tmp_path / "orders.odcs.yaml").write_text(CONTRACT)
    file = tmp_path / "pipeline.yaml"
    file.write_text(PIPELINE)
    assert sluice("quarantine", "list", file, "--json").json == []
    assert "nothing is in quarantine" in sluice("quarantine", "list", file).out
    assert sluice("quarantine", "show", file, "ab-1").code == 2
    assert sluice("quarantine", "export", file, "--out", tmp_path / "o.jsonl").code == 0
    assert (tmp_path / "o.jsonl").read_text() == ""
    assert not (tmp_path / ".sluice").exists()


def test_records_are_listed_in_their_order_wherever_they_were_held_back(bad_shop: Shop) -> None:
    found = bad_shop.list()
    assert [(one["key"], one["sink"]) for one in found] == [
        ({"order_id": 1}, None), ({"order_id": 2}, None), ({"order_id": 3}, None), ({"order_id": 5}, "eu"),
    ]  # fmt: skip
    first = found[0]
    assert first["id"] == record_id(bad_shop.journal.id, 1)
    assert first | {"id": 0, "group": 0} == {
        "id": 0, "dataset": "orders", "source": "portal", "table": "public.orders", "sink": None, "operation": "update",
        "key": {"order_id": 1}, "position": "0/1", "status": "open", "newer": False, "group": 0, "attempts": 0,
        "reasons": [
            {"rule": "amount-positive", "column": "amount", "message": "amount > 0", "value": "-1.00"},
            {"rule": "second", "column": None, "message": "and more", "value": None},
        ],
        "quarantined_at": "2023-11-14T22:15:01.500Z",
    }  # fmt: skip
    assert found[0]["group"] == found[1]["group"] != found[2]["group"]


def test_lists_are_filtered(bad_shop: Shop) -> None:
    group = bad_shop.list()[0]["group"]
    assert len(bad_shop.list("--group", group)) == 2
    assert len(bad_shop.list("--status", "open", "--dataset", "orders")) == 4
    assert bad_shop.list("--status", "resolved") == []
    assert bad_shop.list("--dataset", "other") == []
    assert len(bad_shop.list("--limit", "2")) == 2
    table = bad_shop.run("quarantine list", "--limit", "2")
    assert table.code == 0
    assert "amount-positive +1" in table.out
    assert "and more: " in table.out


def test_long_lists_are_read_whole_and_in_order(shop: Shop) -> None:
    bad = [shop.record(n, f"-{n}") for n in range(1, 1301)]
    last = shop.arrive(1300, bad)
    for n in range(2, 700, 3):
        shop.refuse("eu", shop.record(n, "1", sink="eu"), last)
    shop.holds("eu", last, Counts())
    found = shop.list()
    assert len(found) == 1300 + len(range(2, 700, 3))
    assert [one["key"]["order_id"] for one in found] == sorted(one["key"]["order_id"] for one in found)


def test_a_record_is_shown_whole_with_restricted_columns_masked(bad_shop: Shop) -> None:
    name = bad_shop.list()[0]["id"]
    done = bad_shop.run("quarantine show", name, "--json")
    assert done.code == 0
    assert done.json["raw"] == done.json["after"] == {"order_id": "1", "region": "***", "amount": "-1.00"}
    assert done.json["before"] == {"amount": "1.00"}
    assert (done.json["contract"], done.json["contract_version"], done.json["owner"]) == ("shop-orders", "1.0.0", "ann")
    assert done.json["committed_at"].startswith("2023-11-14T22:13:20")
    assert [step["step"] for step in done.json["audit"]] == ["quarantined"]
    shown = bad_shop.run("quarantine show", name)
    assert "amount > 0" in shown.out
    assert "SECRET" not in shown.out + done.out
    assert bad_shop.run("quarantine show", name, "--json", "--unmasked").json["raw"]["region"] == "SECRET-1"
    refused = bad_shop.list()[3]["id"]
    assert bad_shop.run("quarantine show", refused, "--json").json["audit"][0]["by"] == "eu"


def test_where_the_contract_cannot_be_read_all_values_are_masked(bad_shop: Shop) -> None:
    name = bad_shop.list()[0]["id"]
    (bad_shop.folder / "orders.odcs.yaml").write_text("apiVersion: v3.1.0\nkind: DataContract\n")
    done = bad_shop.run("quarantine show", name, "--json")
    assert done.code == 0
    assert set(done.json["raw"].values()) == {"***"}
    assert "cannot be read" in done.err


def test_an_unknown_record_is_an_error(bad_shop: Shop) -> None:
    for name in ("nothing", "00000000-1", "x-y-z", ""):
        done = bad_shop.run("quarantine show", name)
        assert done.code == 2
        assert "there is no record" in done.err


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _csv(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="") as file:
        return [{name: value or None for name, value in row.items()} for row in csv.DictReader(file)]


@pytest.mark.parametrize("name, read", [("o.jsonl", _lines), ("o.csv", _csv), ("o.PARQUET", lambda path: pq.read_table(path).to_pylist())])
def test_records_are_exported_by_the_ending_of_the_file(bad_shop: Shop, name: str, read: Callable[[Path], list[dict[str, Any]]]) -> None:
    out = bad_shop.folder / name
    done = bad_shop.run("quarantine export", "--out", out)
    assert done.code == 0
    assert f"4 records in {out}" in done.out
    rows = read(out)
    assert [row["id"] for row in rows] == [one["id"] for one in bad_shop.list()]
    raw = [row["raw"] if isinstance(row["raw"], dict) else json.loads(row["raw"]) for row in rows]
    assert raw[1] == {"order_id": "2", "region": "***", "amount": "-22.00"}
    if name != "o.jsonl":
        assert (rows[1]["rule"], rows[1]["value"], rows[2]["value"]) == ("amount-positive", "-22.00", None)
    assert bad_shop.run("quarantine export", "--out", out, "--status", "resolved").code == 0
    assert read(out) == []
    assert {path.name for path in bad_shop.folder.iterdir()} == {".sluice", "orders.odcs.yaml", "pipeline.yaml", name}


def test_an_export_that_cannot_be_written_says_why(bad_shop: Shop) -> None:
    unknown = bad_shop.run("quarantine export", "--out", bad_shop.folder / "o.xls")
    assert unknown.code == 2
    assert ".csv" in unknown.err
    nowhere = bad_shop.run("quarantine export", "--out", bad_shop.folder / "none" / "o.csv")
    assert nowhere.code == 2
    assert "No such file" in nowhere.err


def test_a_journal_of_another_pipeline_is_refused(bad_shop: Shop) -> None:
    bad_shop.file.write_text(PIPELINE.replace("pipeline: shop", "pipeline: other\nstate: .sluice/shop"))
    for command in ("quarantine list", "status"):
        done = bad_shop.run(command)
        assert done.code == 1
        assert "belongs to the pipeline shop" in done.err


def test_before_the_first_run_everything_is_starting(tmp_path: Path) -> None:
    (tmp_path / "orders.odcs.yaml").write_text(CONTRACT)
    file = tmp_path / "pipeline.yaml"
    file.write_text(PIPELINE)
    answer = sluice("status", file, "--json").json
    assert answer["pipeline"] == "shop"
    portal = answer["sources"]["portal"]
    assert portal["tables"] == {"public.orders": {"state": "starting", "error": None}}
    assert {key: portal[key] for key in ("state", "confirmed", "server", "lag_bytes", "lag_seconds", "wal_status", "safe_wal_size")} == {
        "state": "starting", "confirmed": None, "server": None, "lag_bytes": None, "lag_seconds": None, "wal_status": None,
        "safe_wal_size": None,
    }  # fmt: skip
    counts = answer["datasets"]["orders"]
    assert {key: counts[key] for key in ("in", "quarantined", "dropped", "open_quarantine")} == dict.fromkeys(
        ("in", "quarantined", "dropped", "open_quarantine"), 0
    )
    warehouse = answer["sinks"]["warehouse"]
    assert (warehouse["state"], warehouse["error"], warehouse["lag_batches"], warehouse["lag_seconds"]) == ("starting", None, 0, 0.0)
    assert (warehouse["datasets"]["orders"]["delivered"], warehouse["datasets"]["orders"]["filtered"]) == (0, 0)
    assert not (tmp_path / ".sluice").exists()
    assert sluice("status", file).code == 0


def _told(shop: Shop, state: str, table: str, error: str | None = None) -> None:
    status = {"state": state, "confirmed": "0/10", "server": "0/20", "lag_bytes": 16, "lag_seconds": 0.5, "wal_status": "reserved",
              "safe_wal_size": None, "error": None, "reconnects": 1, "bytes_read": 5,
              "tables": {"public.orders": {"state": table, "error": error, "rows_copied": 10}}}  # fmt: skip
    shop.state.source_status("portal", status)


def test_a_running_pipeline_tells_what_its_processes_say(bad_shop: Shop) -> None:
    _told(bad_shop, "streaming", "streaming")
    with (
        ProcessLock(bad_shop.state_folder, "ingest", "ingest"),
        ProcessLock(bad_shop.state_folder, "deliver-warehouse", "deliver"),
        ProcessLock(bad_shop.state_folder, "deliver-eu", "deliver"),
    ):
        bad_shop.holds("eu", 1, Counts(delivered=1), "retrying", "connection refused")
        answer = bad_shop.run("status", "--json").json
        shown = bad_shop.run("status").out
    portal = answer["sources"]["portal"]
    assert (portal["state"], portal["confirmed"], portal["server"], portal["lag_bytes"]) == ("streaming", "0/10", "0/20", 16)
    assert portal["tables"]["public.orders"]["state"] == "streaming"
    counts = answer["datasets"]["orders"]
    assert (counts["in"], counts["quarantined"], counts["dropped"]) == (10, 3, 0)
    warehouse, eu = answer["sinks"]["warehouse"], answer["sinks"]["eu"]
    assert (warehouse["state"], warehouse["lag_batches"], warehouse["datasets"]["orders"]["delivered"]) == ("running", 0, 7)
    assert counts["in"] == counts["quarantined"] + counts["dropped"] + warehouse["datasets"]["orders"]["delivered"]
    assert (eu["state"], eu["error"], eu["lag_batches"]) == ("retrying", "connection refused", 1)
    assert "eu: connection refused" in shown
    assert answer["running"] is True


def test_with_the_service_down_everything_is_stopped_and_counts_stay(bad_shop: Shop) -> None:
    _told(bad_shop, "streaming", "streaming")
    answer = bad_shop.run("status", "--json").json
    assert answer["running"] is False
    assert answer["sources"]["portal"]["state"] == answer["sources"]["portal"]["tables"]["public.orders"]["state"] == "stopped"
    assert answer["sources"]["portal"]["confirmed"] == "0/10"
    eu = answer["sinks"]["eu"]
    assert (eu["state"], eu["error"]) == ("stopped", None)
    assert eu["datasets"]["orders"] == {"delivered": 2, "filtered": 4, "quarantined": 1}
    assert answer["datasets"]["orders"]["open_quarantine"] == 4


def test_a_process_that_is_being_started_again_is_starting_and_one_that_cannot_go_on_is_stopped(bad_shop: Shop) -> None:
    _told(bad_shop, "streaming", "stopped", "a rule says stop")
    with ProcessLock(bad_shop.state_folder, "run", "run"), ProcessLock(bad_shop.state_folder, "ingest", "ingest"):
        bad_shop.holds("eu", 1, Counts(), "stopped", "the table has another shape")
        answer = bad_shop.run("status", "--json").json
    assert answer["sources"]["portal"]["tables"]["public.orders"]["error"] == "a rule says stop"
    assert answer["sources"]["portal"]["tables"]["public.orders"]["state"] == "stopped"
    assert answer["sinks"]["warehouse"]["state"] == "starting"
    assert (answer["sinks"]["eu"]["state"], answer["sinks"]["eu"]["error"]) == ("stopped", "the table has another shape")


def test_a_process_that_has_died_under_its_supervisor_is_retrying(bad_shop: Shop) -> None:
    with ProcessLock(bad_shop.state_folder, "run", "run"):
        _told(bad_shop, "streaming", "streaming")
        bad_shop.holds("eu", 1, Counts(), "running")
        answer = bad_shop.run("status", "--json").json
    assert (answer["sources"]["portal"]["state"], answer["sinks"]["eu"]["state"]) == ("retrying", "retrying")
    assert answer["sources"]["portal"]["tables"]["public.orders"]["state"] == "retrying"
    assert answer["sinks"]["warehouse"]["state"] == "starting"  # nothing was heard of it since


def test_a_sink_that_is_fed_by_another_journal_holds_nothing_of_this_one(bad_shop: Shop) -> None:
    cursor = Cursor("another", 99, counts={"orders": Counts(5)})
    bad_shop.state.sink_progress("eu", state="stopped", error="fed by another journal", journal="another", seq=99, cursor=cursor.encode())
    eu = bad_shop.run("status", "--json").json["sinks"]["eu"]
    assert eu["datasets"]["orders"]["delivered"] == 0
    assert eu["lag_batches"] == 2
