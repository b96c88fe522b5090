"""Rules that compare a change with the one before it, on trial: on what the journal has, and on what waits in quarantine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from journal.batch import Op, batch_from_columns
from journal.local import JournalReader
from journal.schema import Column, TableSchema
from journal.sealing import FILE
from tests.contract_text import write_contract
from tests.history_place import RULES, SCHEMA, Event, Table, contract
from tests.invoking import sluice
from tests.lane_place import PIPELINE, Place

_BOTH = ["insert", "update"]
_STEPS = ("steps", "quarantine", _BOTH)
_STAYS = ("stays", "quarantine", _BOTH)
_RISES = ("rises", "quarantine", _BOTH)
_BEFORE = "^[a-zY]*$"
_AFTER = "^[a-zZ]*$"


class _Shop:
    """A pipeline whose contract holds back a status Z, and asks nothing else."""

    def __init__(self, folder: Path, *, full: bool = False, order: str = "newest", **more: Any) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.place = Place(folder, order, contract=contract(_BEFORE, order=order), **more)
        self.table = Table(full)

    def send(self, *events: Event) -> None:
        self.place.take(*self.table.send(events))

    def prune(self) -> None:
        """All that has come is forgotten, as all sinks have it."""
        with JournalReader.open(self.folder, "commerce") as reader:
            self.place.journal.prune(reader.last_seq())

    def next(self, *rules: tuple[str, str, Sequence[str]], pattern: str = _BEFORE, more: str = "", order: str = "newest") -> None:
        """Writes the contract that comes next."""
        text = contract(pattern, rules, order)
        write_contract(self.folder, text.replace("    customProperties:", more + "    customProperties:") if more else text)

    def check(self, last: int = 1000) -> dict[str, Any]:
        ended = sluice("check", self.folder / "pipeline.yaml", "--against", "journal", "--last", last, "--json")
        assert ended.code == 0, ended.out + ended.err
        found: dict[str, Any] = ended.json["against"]["journal"]["orders"]
        return found

    def backtest(self, *more: object) -> dict[str, Any]:
        ended = sluice("quarantine", "backtest", self.folder / "pipeline.yaml", *more, "--json")
        assert ended.code == 0, ended.out + ended.err
        found: dict[str, Any] = ended.json["orders"]
        return found


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[_Shop]:
    made = _Shop(tmp_path)
    with closing(made.place):
        yield made


def _broken(found: dict[str, Any]) -> dict[str, list[int]]:
    """Rule -> ordinals of the first changes that would break it."""
    return {one["id"]: [example["ordinal"] for example in one["examples"]] for one in found["rules"] if one["rows"]}


def test_a_new_rule_over_steps_is_tried_on_the_changes_in_their_order(shop: _Shop) -> None:
    shop.send(("I", 1, "a", "x", 1), ("I", 2, "b", "x", 1), ("U", 1, "c", "x", 2))
    shop.send(("U", 1, "b", "y", 1), ("U", 2, "c", "x", 0), ("M", 1, "b", "x", 3))
    shop.next(_STEPS, _STAYS, _RISES)
    found = shop.check()
    assert _broken(found) == {"steps": [3], "stays": [4], "rises": [5]}, "the third was held back, so that 6 comes behind the first"
    assert (found["judged"], found["pass"], found["held_back"], found["not_judged"], found["not_known"]) == (6, 3, 3, [], {})


def test_only_operations_that_a_rule_is_for_are_judged_and_actions_count(shop: _Shop) -> None:
    shop.send(("I", 1, "a", "x", 5), ("U", 1, "a", "y", 5), ("U", 1, "a", "z", 4), ("D", 1, None, None, 0), ("I", 1, "c", "w", 1))
    shop.next(("stays", "quarantine", ["insert"]), ("rises", "warn", _BOTH), _STEPS)
    assert _broken(shop.check()) == {"rises": [3]}
    shop.next(("stays", "drop", ["update"]))
    found = shop.check()
    assert (_broken(found), found["dropped"], found["held_back"]) == ({"stays": [2, 3]}, 2, 0)


def test_what_sits_in_quarantine_takes_part_in_its_place_as_it_would_under_the_new_contract(shop: _Shop) -> None:
    shop.send(("I", 1, "b", "x", 1), ("U", 1, "Z", "x", 2), ("U", 1, "a", "x", 3))
    shop.next(_STEPS, pattern=_AFTER)
    found = shop.check()
    assert (found["judged"], _broken(found), found["between"]) == (2, {}, {"records": 1, "would_pass": 1, "unreadable": 0})
    shop.next(_STEPS)
    found = shop.check()
    assert (_broken(found), found["between"]["would_pass"]) == ({"steps": [3]}, 0), "a record that is held back is no step"
    shop.place.ask("discard", *shop.place.records(), why="nobody needs it")
    assert _broken(shop.check()) == {"steps": [3]}


def test_what_was_released_takes_part_where_it_was_released(shop: _Shop) -> None:
    shop.send(("I", 1, "b", "x", 1), ("I", 2, "Z", "x", 7))
    (record,) = shop.place.records()
    shop.place.ask("fix", record, set={"status": "a"})
    shop.place.ask("approve", record, by="bo@example.com")
    shop.place.ask("replay", record)
    shop.send(("U", 2, "b", "x", 8), ("U", 2, "c", "x", 6), ("U", 1, "a", "x", 9))
    shop.next(_STEPS, _RISES)
    found = shop.check()
    assert (found["judged"], _broken(found)) == (5, {"steps": [5], "rises": [4]})


def test_of_the_last_changes_the_values_before_them_are_known_whatever_key_they_had(shop: _Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataflows.trial_walk._STRETCH", 2)
    shop.send(*(("I", key, "a", "x", key) for key in range(1, 9)))
    shop.send(("M", 8, "b", "x", 8))
    shop.send(("U", 3, "c", "y", 9), ("U", 9, "c", "x", 2))
    shop.next(_STEPS, _STAYS, _RISES)
    found = shop.check(last=2)
    assert _broken(found) == {"steps": [10], "stays": [10], "rises": [11]}


def test_what_a_row_was_before_the_journal_goes_back_to_is_told_as_not_known(tmp_path: Path) -> None:
    for full in (False, True):
        shop = _Shop(tmp_path / str(full), full=full)
        with closing(shop.place):
            shop.send(("I", 1, "a", "x", 1), ("I", 2, "a", "x", 1))
            shop.prune()
            shop.send(("U", 1, "c", "x", 0), ("I", 3, "a", "x", 5), ("U", 3, "b", "x", 4), ("U", 1, "c", "y", 1))
            shop.next(_STEPS, _STAYS, _RISES)
            found = shop.check()
            if full:
                assert (found["not_known"], _broken(found)) == ({}, {"steps": [3], "stays": [6], "rises": [3, 5]})
            else:
                assert (found["not_known"], _broken(found)) == ({"steps": 1, "stays": 1, "rises": 1}, {"stays": [6], "rises": [5]})
                told = sluice("check", shop.folder / "pipeline.yaml", "--against", "journal").out
                assert "steps: unknown for 1 of the changes" in told


def test_with_a_strict_order_what_would_wait_for_a_record_is_held_back_too(tmp_path: Path) -> None:
    shop = _Shop(tmp_path)
    with closing(shop.place):
        shop.send(("I", 1, "b", "x", 1), ("U", 1, "a", "x", 2), ("U", 1, "b", "x", 3), ("I", 2, "Z", "x", 4), ("U", 2, "a", "x", 5))
        shop.send(("U", 1, "b", "x", 6), ("T", 1, None, None, 0), ("I", 1, "a", "x", 1))
        shop.next(_STEPS, order="strict")
        found = shop.check()
        assert _broken(found)["order"] == [3, 5, 6]
        assert (found["held_back"], found["pass"]) == (4, 3)
        shop.place.ask("discard", *shop.place.records(), why="nobody needs it")
        assert _broken(shop.check())["order"] == [3, 6], "nothing waits for what was given up"


_PIPELINE = """\
pipeline: commerce
state: .
sources: {portal: {type: postgres, dsn: host=nowhere, tables: [public.orders, public.customers]}}
datasets: {orders: {from: [portal.public.orders], contract: orders.odcs.yaml}}
lookups: {customers: {source: portal.public.customers, key: [id]}}
sinks: {out: {type: duckdb, path: out.duckdb}}
"""
_THERE = "      - {id: there, type: custom, engine: sluice, implementation: {type: references, column: n, lookup: customers}}\n"
_CUSTOMERS = TableSchema("customers", (Column("id", "bigint", 1),), ("id",))


def test_references_are_looked_for_in_what_the_lookup_holds_now(tmp_path: Path) -> None:
    shop = _Shop(tmp_path, pipeline=_PIPELINE)
    with closing(shop.place):
        shop.send(("I", 1, "a", "x", 1), ("I", 2, "Z", "x", 2), ("I", 3, "a", "x", 3))
        shop.next(_STEPS, more=_THERE)
        found = shop.check()
        assert found["why_not_judged"] == {"there": "nothing of the lookup customers has been read yet"}
        assert (found["not_judged"], found["lookups"]) == (["there"], {})
        rows = batch_from_columns(_CUSTOMERS, [pa.array(["1", "2"])], Op.INSERT, source="portal", table="public.customers")
        shop.place.journal.lookups.keep("customers", rows)
        shop.place.journal.commit_beside()
        found = shop.check()
        assert (_broken(found), found["not_judged"], found["lookups"]) == ({"there": [3]}, [], {"there": "customers"})
        told = sluice("check", tmp_path / "pipeline.yaml", "--against", "journal").out
        assert "there: judged by what the lookup customers holds now" in told
        (group,) = shop.backtest()["groups"]
        assert [rule["id"] for rule in group["failing"]] == ["known"]


def test_a_backtest_compares_records_with_what_would_have_passed_before_them(shop: _Shop) -> None:
    shop.send(("I", 1, "b", "x", 1), ("I", 2, "a", "x", 1), ("I", 3, "Z", "x", 1))
    shop.send(("U", 1, "Z", "x", 2), ("U", 2, "Z", "x", 2), ("U", 1, "a", "x", 3))
    shop.next(_STEPS, pattern=_AFTER)
    found = shop.backtest()
    assert (found["records"], found["would_pass"], found["still_fail"], found["not_known"]) == (3, 2, 1, {})
    (group,) = found["groups"]
    ids = [one.id for one in shop.place.records()]
    assert [(one["id"], one["examples"]) for one in group["failing"]] == [("steps", [ids[2]])], "a may not become Z, b may"
    assert shop.backtest("--last", 1)["records"] == 1
    assert shop.backtest("--last", 1, "--group", group["group"])["still_fail"] == 1
    shop.place.ask("fix", shop.place.records()[2], set={"status": "b"})
    assert shop.backtest()["would_pass"] == 3, "with what was set in it"


def test_of_records_from_before_the_journal_goes_back_to_nobody_knows_what_was_before(shop: _Shop) -> None:
    shop.send(("I", 1, "b", "x", 1), ("U", 1, "Z", "x", 2), ("I", 2, "Z", "x", 0))
    shop.prune()
    shop.send(("U", 1, "Z", "x", 2), ("I", 3, "a", "x", 1))
    shop.next(_STEPS, pattern=_AFTER)
    found = shop.backtest()
    assert (found["would_pass"], found["not_known"]) == (3, {"steps": 2})
    assert "steps: unknown for 2 of the records" in sluice("quarantine", "backtest", shop.folder / "pipeline.yaml").out


def test_rules_over_the_set_are_left_to_the_auditor_and_said_so(shop: _Shop) -> None:
    shop.send(("I", 1, "b", "x", 1))
    shop.next(_STEPS, more="      - {id: enough, metric: rowCount, mustBeGreaterThan: 5}\n")
    found = shop.check()
    assert found["why_not_judged"] == {"enough": "it is about many rows together, which the auditor judges"}
    assert RULES.keys() >= {"steps"}


def test_what_would_be_late_behind_a_record_that_passes_is_dropped(tmp_path: Path) -> None:
    pipeline = PIPELINE.replace("contract: orders.odcs.yaml", "contract: orders.odcs.yaml, order_by: n")
    shop = _Shop(tmp_path, pipeline=pipeline)
    with closing(shop.place):
        shop.send(("I", 1, "b", "x", 5), ("U", 1, "Z", "x", 7), ("U", 1, "c", "x", 6), ("U", 1, "a", "x", 8))
        shop.next(_STEPS, pattern=_AFTER)
        found = shop.check()
        assert (_broken(found), found["dropped"], found["pass"]) == ({"order_by": [3]}, 1, 2), "Z passes, and a follows it"


def test_records_whose_key_of_encryption_is_gone_cannot_take_part(tmp_path: Path) -> None:
    shop = _Shop(tmp_path)
    text = contract(_BEFORE).replace("name: owner, logicalType: string", "name: owner, logicalType: string, classification: restricted")
    shop.place.close()
    shop.place = Place(tmp_path, "", contract=text)
    with closing(shop.place):
        shop.send(("I", 1, "b", "x", 1), ("U", 1, "Z", "x", 2), ("M", 1, "Z", "x", 3), ("U", 2, "c", "y", 4))
        shop.next(_STEPS, _STAYS, pattern=_AFTER, order="strict")
        assert shop.check()["between"] == {"records": 2, "would_pass": 2, "unreadable": 0}
        (tmp_path / FILE).unlink()
        found = shop.check()
        assert found["between"] == {"records": 0, "would_pass": 0, "unreadable": 2}
        assert shop.backtest()["unreadable"] == 2


_NARROW = replace(SCHEMA, columns=SCHEMA.columns[:3])


def test_changes_from_before_a_column_that_the_contract_reads_are_not_looked_at(tmp_path: Path) -> None:
    without = contract(_BEFORE).replace("      - {name: n, logicalType: integer}\n", "")
    shop = _Shop(tmp_path)
    shop.place.close()
    shop.place = Place(tmp_path, "", contract=without)
    with closing(shop.place):
        rows = [pa.array(["1", "2"]), pa.array(["a", "a"]), pa.array(["x", "x"])]
        shop.place.take(batch_from_columns(_NARROW, rows, Op.INSERT, source="portal", table="public.orders"))
        shop.table.rows = {1: {"id": "1", "status": "a", "owner": "x", "n": None}}
        shop.send(("U", 1, "a", "x", 5), ("I", 3, "a", "x", 5), ("U", 3, "Z", "x", 4))
        shop.send(("U", 1, "b", "x", 4), ("U", 3, "c", "x", 6))
        shop.next(_STEPS, _RISES)
        found = shop.check(last=2)
        assert (_broken(found), found["not_known"]) == ({"steps": [7], "rises": [6]}, {})
        assert shop.backtest()["still_fail"] == 1


def test_a_strict_order_means_nothing_where_there_is_no_key(tmp_path: Path) -> None:
    shop = _Shop(tmp_path)
    with closing(shop.place):
        rows = [pa.array(["1", "2"]), pa.array(["a", "b"]), pa.array(["x", "x"]), pa.array(["1", "2"])]
        shop.place.take(batch_from_columns(replace(SCHEMA, key=()), rows, Op.INSERT, source="portal", table="public.orders"))
        shop.next(order="strict", pattern="^b$")
        assert shop.check(last=1)["held_back"] == 0
        assert _broken(shop.check()) == {"known": [1]}
