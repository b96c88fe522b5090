"""What a changed contract would do, before it is in force: to what has passed, and to what waits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from msgspec import structs

import dataflows.trial_walk
from journal.batch import Op, batch_from_columns
from journal.quarantine import Reason
from tests.invoking import sluice
from tests.test_cli_check import CONTRACT, PIPELINE
from tests.test_cli_quarantine import MASKED_CONTRACT, SCHEMA, Shop

_POSITIVE = "      - {id: amount-positive, type: sql, query: amount > 0, mustBe: true}\n"
_RULE = """\
      - {id: known-region, type: sql, query: "region IN ('EU', 'US')", mustBe: true}
      - {id: small, type: sql, query: amount < 100, mustBe: true, customProperties: [{property: action, value: drop}]}
      - {id: even, type: sql, query: order_id % 2 = 0, mustBe: true, customProperties: [{property: action, value: warn}]}
      - {id: positive, type: sql, query: amount > 0, mustBe: true, customProperties: [{property: action, value: fail}]}
"""


def _contract(version: str, rules: str = _RULE) -> str:
    assert _POSITIVE in MASKED_CONTRACT
    return MASKED_CONTRACT.replace("version: 1.0.0", f"version: {version}").replace(_POSITIVE, rules)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    yield made
    made.journal.close()
    made.state.close()


def _pass(shop: Shop, regions: list[str], amounts: list[str], first: int = 1) -> None:
    ids = [str(first + n) for n in range(len(regions))]
    columns = [pa.array(ids), pa.array(regions), pa.array(amounts)]
    shop.journal.append(batch_from_columns(SCHEMA, columns, Op.INSERT, source="portal", table="public.orders", first=first))
    shop.journal.commit("portal", "{}")


def _rules(found: Any) -> dict[str, int]:
    return {one["id"]: one["rows"] for one in found["rules"] if one["rows"]}


def test_a_check_against_the_journal_says_what_would_become_of_changes_that_have_passed(shop: Shop, tmp_path: Path) -> None:
    _pass(shop, ["EU", "US", "XX", "EU"], ["5", "500", "500", "-1"])
    (tmp_path / "orders.odcs.yaml").write_text(_contract("2.0.0"))
    ended = sluice("check", shop.file, "--against", "journal", "--json")
    assert ended.code == 0, ended.out
    found = ended.json["against"]["journal"]["orders"]
    assert found["contract"]["version"] == "2.0.0", "the one in the file, in force or not"
    assert found["not_judged"] == ["enough"]
    assert {name: found[name] for name in ("judged", "pass", "held_back", "dropped", "warned", "stopping")} == {
        "judged": 4,
        "pass": 1,
        "held_back": 1,
        "dropped": 1,
        "warned": 1,
        "stopping": 1,
    }
    assert _rules(found) == {"known-region": 1, "small": 2, "even": 2, "positive": 1}
    (example,) = [one["examples"] for one in found["rules"] if one["id"] == "known-region"]
    assert example == [{"ordinal": 3, "key": {"order_id": "3"}}]
    shown = sluice("check", shop.file, "--against", "journal").out
    for said in ("on the last 4 changes", "1 would be held back", "known-region", "order_id=3"):
        assert said in shown


def test_the_last_changes_are_the_newest_and_no_more_are_in_memory_than_a_stretch(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataflows.trial_walk, "_STRETCH", 3)
    for first in range(1, 40, 2):
        _pass(shop, ["EU", "XX"], ["5", "5"], first)
    (shop.folder / "orders.odcs.yaml").write_text(_contract("2.0.0"))
    for last, judged, bad in ((5, 5, 3), (40, 40, 20), (1000, 40, 20)):
        found = sluice("check", shop.file, "--against", "journal", "--last", last, "--json").json["against"]["journal"]["orders"]
        assert (found["judged"], found["held_back"], found["last_ordinal"]) == (judged, bad, 40)


def test_a_backtest_says_which_records_would_pass_by_cause(shop: Shop) -> None:
    bad = [shop.record(n, amount) for n, amount in ((1, "-5.00"), (2, "-7.00"), (3, "600.00"), (4, None))]
    shop.arrive(10, bad)
    rules = "      - {id: floor, type: sql, query: amount > -6, mustBe: true}\n"
    (shop.folder / "next.yaml").write_text(_contract("1.1.0", rules))
    ended = sluice("quarantine", "backtest", shop.file, "--contract", shop.folder / "next.yaml", "--dataset", "orders", "--json")
    assert ended.code == 0, ended.err
    found = ended.json["orders"]
    assert (found["records"], found["would_pass"], found["still_fail"]) == (4, 3, 1)
    by_group = {one["group"]: one for one in found["groups"]}
    one = by_group[bad[1].group]
    assert [(rule["id"], rule["rows"], rule["examples"]) for rule in one["failing"]] == [("floor", 1, [bad[1].id])]
    assert one["passing"] == [bad[0].id], "an id, to look at it"
    only = sluice("quarantine", "backtest", shop.file, "--group", bad[1].group, "--json").json["orders"]
    assert [group["group"] for group in only["groups"]] == [bad[1].group]
    newest = sluice("quarantine", "backtest", shop.file, "--last", "1", "--json").json["orders"]
    assert newest["records"] == 1
    shown = sluice("quarantine", "backtest", shop.file, "--contract", shop.folder / "next.yaml", "--dataset", "orders").out
    assert "3 would pass" in shown
    assert "floor 1" in shown
    assert "SECRET" not in shown + ended.out


def test_what_was_set_in_a_record_is_judged_and_what_is_settled_is_not(shop: Shop) -> None:
    mended = structs.replace(shop.record(1, "-5.00"), status="patched", patch={"amount": "5.00"}, patched_by="ann")
    settled = structs.replace(shop.record(2, "-5.00"), status="discarded")
    shop.arrive(10, [mended, settled, shop.record(3, "-5.00")])
    found = sluice("quarantine", "backtest", shop.file, "--json").json["orders"]
    assert (found["records"], found["would_pass"], found["still_fail"]) == (2, 1, 1)


def test_records_that_the_contract_cannot_judge_are_counted_apart(shop: Shop) -> None:
    waits = structs.replace(shop.record(1, "5.00"), reasons=(Reason("lookup:customers", None, "no row"),))
    gone = structs.replace(shop.record(2, "5.00"), table="public.gone")
    shop.arrive(10, [waits, gone, shop.record(3, "5.00")])
    found = sluice("quarantine", "backtest", shop.file, "--json").json["orders"]
    assert {name: found[name] for name in ("would_pass", "other", "unreadable")} == {"would_pass": 1, "other": 1, "unreadable": 1}


def test_there_has_to_be_something_to_try_a_contract_on(tmp_path: Path) -> None:
    (tmp_path / "pipeline.yaml").write_text(PIPELINE)
    (tmp_path / "orders.odcs.yaml").write_text(CONTRACT)
    file = tmp_path / "pipeline.yaml"
    for command in (("check", file, "--against", "journal"), ("quarantine", "backtest", file)):
        ended = sluice(*command)
        assert (ended.code, "nothing has run here yet" in ended.err) == (2, True)
    assert sluice("check", file, "--against", "stars").code == 2
    assert "did you mean orders?" in sluice("quarantine", "backtest", file, "--dataset", "order").err
