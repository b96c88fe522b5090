"""Reports of a pipeline as its journal and its state have it: no server, no process."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from msgspec import structs

from cli.main import app
from journal.audit_trail import SELF, Step, add
from journal.audits import Audited, Audits
from journal.quarantine import Reason
from journal.schema import Column
from sinks.base import Counts
from tests.contract_text import contract_of
from tests.journal_cases import ORDERS
from tests.report_place import CONTRACT, Shop, held

HOSTILE = "\"><script>alert('x')</script>"


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path / "shop")


def test_before_anything_was_read_there_is_a_page_that_says_so(shop: Shop) -> None:
    told, page = shop.report()
    assert (told["verdict"], told["rows_in"], told["headline"]) == ("good", 0, "Nothing has been read yet")
    assert "Nothing has been read yet" in page
    assert told["owner"] == "ann@example.com"


def test_one_record_in_quarantine_is_told_with_everything_that_can_be_done(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "it's a $HOME; folder")
    shop.fill(held(100))
    told, page = shop.report()
    assert (told["verdict"], told["headline"], told["statuses"]) == ("attention", "1 record is held back", {"open": 1})
    (cause,) = told["causes"]
    assert (cause["rule"], cause["column"], cause["records"], cause["samples"]) == ("amount-positive", "amount", 1, ["-3"])
    commands = [cause["command"], *(step["command"] for step in cause["steps"])]
    words = [shlex.split(command) for command in commands]
    assert [line[:3] for line in words] == [["sluice", "quarantine", what] for what in ("list", "fix", "discard")]
    assert {line[3] for line in words} == {str(shop.file.resolve())}
    assert "amount=NEW_VALUE" in words[1]
    assert all(cause["group"] in line for line in words)
    assert page.count("<pre") == 3


def test_what_can_be_done_follows_from_the_statuses(shop: Shop) -> None:
    statuses = ("patched", "approved", "approved", "resolved")
    now = time.time()
    shop.fill(*(held(100 + n, status=status, resolved_at=now if status == "resolved" else None) for n, status in enumerate(statuses)))
    told, _ = shop.report()
    (cause,) = told["causes"]
    assert cause["statuses"] == {"patched": 1, "approved": 2}
    assert [step["command"].split()[2] for step in cause["steps"]] == ["replay", "approve", "discard"]
    assert told["open_quarantine"] == 3
    assert told["statuses"] == {"patched": 1, "approved": 2, "resolved": 1}
    (pending,) = told["pending"]
    assert pending["says"] == "1 record was fixed and waits for approval"


def test_a_value_that_became_confidential_after_it_was_quarantined_is_not_shown(shop: Shop) -> None:
    one = held(100, reasons=(Reason("amount-positive", "amount", "is positive, got 4711-secret", "4711-secret"),))
    two = held(101, reasons=(Reason("both", None, "amount > id", json.dumps({"amount": "4711-secret", "id": "8"})),))
    three = held(102, reasons=(Reason("map", None, "cannot be made", "whatever 4711-secret"),))
    shop.fill(one, two, three)
    assert "4711-secret" in shop.report()[1]
    sensitive = CONTRACT.replace("logicalType: number\n", "logicalType: number\n        classification: confidential\n")
    (shop.folder / "orders.yaml").write_text(contract_of(sensitive))
    told, page = shop.report()
    assert "4711-secret" not in page + json.dumps(told)
    assert [cause["samples"] for cause in sorted(told["causes"], key=lambda one: str(one["rule"]))] == [
        ["***"],
        ['{"amount": "***", "id": "8"}'],
        ["***"],
    ]


def test_a_dataset_that_is_no_longer_in_the_pipeline_has_a_page_without_values(shop: Shop) -> None:
    shop.fill(
        structs.replace(held(100), dataset="../returns", reasons=(Reason("known", "why", "is known, got 4711-secret", "4711-secret"),))
    )
    told, page = shop.report("%2E.%2Freturns")
    assert (told["gone"], told["open_quarantine"], told["causes"][0]["samples"]) == (True, 1, [])
    assert "no longer in the pipeline" in page
    assert "4711-secret" not in page + json.dumps(told)
    assert shlex.split(told["list_command"])[-2:] == ["--dataset", "../returns"]


def test_names_and_values_of_any_kind_stay_text(shop: Shop) -> None:
    long, rtl = "x" * 5000, "\u202eשלום 🎉 \ud7ff"
    values = [HOSTILE, long, rtl]
    shop.fill(*(held(100 + n, reasons=(Reason(f"{HOSTILE}-{n}", HOSTILE, value, value),)) for n, value in enumerate(values)))
    told, page = shop.report()
    assert "<script" not in page
    assert page.count("x" * 500) == 0
    assert {cause["column"] for cause in told["causes"]} == {HOSTILE}
    fix = shlex.split(told["causes"][0]["steps"][0]["command"])
    assert f"{HOSTILE}=NEW_VALUE" in fix


def test_more_causes_than_a_page_can_show_are_counted(shop: Shop) -> None:
    shop.fill(*(held(100 + n, reasons=(Reason(f"rule-{n}", "amount", "is so", "1"),)) for n in range(15)), rows=20)
    told, page = shop.report()
    assert (len(told["causes"]), told["causes_left"]) == (12, 3)
    assert "And 3 more causes" in page


def _commands(told: object) -> Iterator[str]:
    """Every command that a report names."""
    if isinstance(told, dict):
        for name, one in told.items():
            if name.endswith("command") and one:
                yield one
            else:
                yield from _commands(one)
    elif isinstance(told, list):
        for one in told:
            yield from _commands(one)


def test_every_command_is_one_that_the_program_understands(shop: Shop) -> None:
    statuses = ("open", "patched", "approved", "rule-changed", "failed-again")
    rules = enumerate(statuses)
    shop.fill(*(held(100 + n, status=status, reasons=(Reason(f"rule {n}", "a b'c", "is", "1"),)) for n, status in rules))
    shop.put_in_force()
    _change_contract(shop, "      - {name: note, logicalType: string}\n", "")
    with closing(Audits.open(shop.pipeline.state)) as audits:
        for kind in ("disagreement", "latency"):
            audits.seen("orders", kind, "", {"message": "so it is"}, time.time())
    found = {command.split()[1] + " " + command.split()[2]: command for command in _commands(shop.report()[0])}
    assert len(found) == 10
    root = typer.main.get_command(app)
    for command in found.values():
        place, words = root, shlex.split(command)[1:]
        while (children := getattr(place, "commands", None)) is not None:
            place = children[words.pop(0)]
        place.make_context(command, words)  # raises for what it does not understand


def test_a_sink_that_has_not_caught_up_says_so_and_one_that_has_lost_rows_is_bad(shop: Shop) -> None:
    shop.fill(held(100))
    shop.sink(Counts(delivered=4), behind=1)
    told, page = shop.report()
    assert (told["sinks"][0]["verdict"], told["verdict"]) == ("on its way", "attention")
    assert "has not caught up yet" in page
    shop.sink(Counts(delivered=8, filtered=1))
    assert shop.report()[0]["sinks"][0]["verdict"] == "balanced"
    shop.sink(Counts(delivered=7, filtered=1))
    told, page = shop.report()
    assert (told["sinks"][0]["verdict"], told["verdict"], told["headline"]) == ("unbalanced", "bad", "The counts do not add up")


def test_the_service_level_is_compared_with_what_is_measured(shop: Shop) -> None:
    shop.fill(*(held(100 + n) for n in range(6)))
    told, _ = shop.report()
    assert {line["property"]: line["state"] for line in told["levels"]} == {"freshness": "met", "completeness": "missed"}
    assert (told["budget"]["target"], told["budget"]["agreed"], told["budget"]["spent"]) == (0.5, True, 6)
    assert told["budget"]["remaining"] == pytest.approx(-0.2)


def test_effectiveness_counts_how_soon_records_were_seen_and_resolved(shop: Shop) -> None:
    now = time.time()
    shop.fill(
        held(100, quarantined_at=now - 100, committed_at=int((now - 110) * 1e6), status="resolved", resolved_at=now - 40),
        held(101, quarantined_at=now - 100, committed_at=int((now - 120) * 1e6), status="discarded", resolved_at=now - 60),
        held(102, quarantined_at=now - 100, committed_at=0),
    )
    told, _ = shop.report()
    day = told["effectiveness"][0]
    assert (day["window"], day["rows"], day["bad"], day["detected"], day["resolved"]) == ("24 hours", 10, 3, 2, 2)
    assert (day["detect"], day["detect_p95"], day["detect_worst"]) == pytest.approx((15, 20, 20))
    assert (day["resolve"], day["resolve_p95"], day["resolve_worst"]) == pytest.approx((50, 60, 60))
    assert day["success"] == pytest.approx(0.7)
    index = json.loads((shop.folder / "out" / "index.json").read_text())
    (owner,) = index["owners"]
    assert (owner["owner"], owner["effectiveness"][0]["resolve"]) == ("ann@example.com", pytest.approx(50))


def test_what_a_single_sink_refused_counts_and_is_told_as_that(shop: Shop) -> None:
    now = time.time()
    reason = Reason("type", "amount", "the sink holds no number of 40 digits", "9" * 40)
    waits, late = held(1, reasons=(reason,)), held(2, reasons=(reason,), quarantined_at=now, status="resolved", resolved_at=now)
    shop.fill(held(100))
    shop.refuse(waits, structs.replace(waits, ordinal=3, status="patched"), late, rows=9)
    shop.sink(Counts(delivered=7, quarantined=2))
    told, page = shop.report()
    assert (told["open_quarantine"], told["statuses"], told["refused"]) == (3, {"open": 2, "patched": 1, "resolved": 1}, 2)
    assert told["pass_rate"] == pytest.approx(0.7)
    cause = next(one for one in told["causes"] if one["sink"] == "lake")
    assert (cause["records"], cause["statuses"]) == (2, {"open": 1, "patched": 1})
    assert [shlex.split(step["command"])[2] for step in cause["steps"]] == ["approve", "fix", "discard"]
    assert "refused by the sink <bdi>lake</bdi> alone" in page
    (sink,) = told["sinks"]
    assert (sink["quarantined"], sink["refused"], sink["verdict"]) == (3, 2, "balanced")
    for over in told["effectiveness"]:
        assert (over["rows"], over["bad"], over["refused"], over["released"], over["resolved"]) == (10, 4, 3, 1, 1)
        assert (over["success"], over["complete"], over["resolve"]) == pytest.approx((0.6, 0.7, 0))
    moments = told["trend"]["moments"]
    assert sum(one["entered"] for one in moments) == 4
    assert sum(one["by_sink"].get("lake", 0) for one in moments) == 3
    assert sum(one["left"] for one in moments) == 1
    assert moments[-1]["open"] == 3
    assert [one["detect_p95"] for one in moments if one["entered"]] == pytest.approx([3], rel=0.01)
    assert '<th scope="col" class="n">refused by lake</th>' in page
    assert told["budget"]["spent"] == 3


def test_a_change_that_several_sinks_refused_counts_once_and_until_all_have_it(shop: Shop) -> None:
    shop.fill()
    file = shop.file.read_text()
    shop.file.write_text(file + "  pond: {type: duckdb, path: pond.duckdb}\n")
    for sink, changed in (("lake", {"status": "resolved", "resolved_at": time.time()}), ("pond", {})):
        shop.refuse(held(1, **changed), held(2, status="resolved", resolved_at=time.time()), sink=sink)
    day = shop.report()[0]["effectiveness"][0]
    assert (day["bad"], day["refused"], day["released"], day["resolved"]) == (2, 2, 1, 3)
    shop.file.write_text(file)  # what a sink refused that is gone is nobody's any more
    assert shop.report()[0]["effectiveness"][0]["released"] == 2


def test_a_step_of_a_person_counts_once_however_many_lines_tell_of_it(shop: Shop) -> None:
    shop.fill(held(100))
    with shop.journal() as writer, writer.changing() as db:
        for by, request in (("ann@example.com", "r1"), ("ann@example.com", "r1"), ("bo@example.com", "r2"), (SELF, "r1")):
            add(db, Step("fix", by, "orders", [100], {"request": request}))
        add(db, Step("discard", "bo@example.com", "orders", [100]))
        writer.commit_beside()
    told, _ = shop.report()
    assert {line["window"]: line["steps"] for line in told["effectiveness"]} == dict.fromkeys(
        ("24 hours", "7 days", "30 days", "since the beginning"), 3
    )


def test_a_disagreement_of_the_engines_is_told_with_both_verdicts_and_without_what_is_confidential(shop: Shop) -> None:
    shop.fill()
    row = {
        "ordinal": 4,
        "position": "0/1",
        "key": {"id": "4"},
        "values": {"amount": "4711-secret"},
        "gate": "passed",
        "reference": "failed",
    }
    line = Audited("orders", "j", 4, "amount-positive", "differs", "gx", rows=50, at=time.time())
    with closing(Audits.open(shop.pipeline.state)) as audits:
        audits.seen("orders", "freshness", "freshness", {"message": "it is old"}, time.time() - 50)
        audits.seen("orders", "disagreement", "amount-positive", {"message": "they differ on 1 row", "rows": [row]}, time.time() - 90)
        audits.keep(
            [line, replace(line, rule="", verdict="passes"), replace(line, last=5, verdict="agrees"), replace(line, last=6, verdict="none")]
        )
    told, page = shop.report()
    assert (told["verdict"], told["headline"]) == ("bad", "Two engines do not agree")
    assert [one["kind"] for one in told["incidents"]] == ["disagreement", "freshness"]
    assert [one["steps"][0]["command"].split()[1] for one in told["incidents"]] == ["audit", "status"]
    assert told["incidents"][0]["samples"] == ["id=4, amount=4711-secret; the gate: passed; Great Expectations: failed"]
    assert {name: told["agreement"][name] for name in ("windows", "rows", "differ", "unjudged")} == {
        "windows": 2, "rows": 100, "differ": 1, "unjudged": 1,
    }  # fmt: skip
    assert "they differ on 1 row" in page
    sensitive = CONTRACT.replace("logicalType: number\n", "logicalType: number\n        classification: restricted\n")
    (shop.folder / "orders.yaml").write_text(contract_of(sensitive))
    told, page = shop.report()
    assert "4711-secret" not in page + json.dumps(told)


def _change_contract(shop: Shop, before: str, after: str, version: str = "2.0.0") -> None:
    file = shop.folder / "orders.yaml"
    assert before in file.read_text()
    file.write_text(file.read_text().replace(before, after).replace("version: 1.0.0", f"version: {version}"))


def test_a_contract_that_waits_for_approval_is_told_with_what_it_breaks(shop: Shop) -> None:
    shop.fill()
    shop.put_in_force()
    _change_contract(shop, "      - {name: note, logicalType: string}\n", "")
    told, page = shop.report()
    (pending,) = told["pending"]
    assert pending["says"].startswith("The contract 2.0.0 breaks what others rely on")
    assert "note" in pending["details"][0]
    assert shlex.split(pending["steps"][-1]["command"])[:5] == ["sluice", "contract", "approve", str(shop.file.resolve()), "orders"]
    assert (told["verdict"], told["contract"], told["contract_written"]) == ("attention", "orders 1.0.0", "2.0.0")
    assert "which is not in force" in page
    shop.put_in_force(by="bo@example.com")
    told, _ = shop.report()
    assert (told["verdict"], told["pending"], told["contract"]) == ("good", [], "orders 2.0.0")
    assert "orders 2.0.0 came into force, approved by bo@example.com" in [change["says"] for change in told["changes"]]


def test_a_contract_that_is_broken_in_its_file_leaves_the_former_one_judging(shop: Shop) -> None:
    shop.fill(held(100))
    shop.put_in_force()
    _change_contract(shop, "kind: DataContract", "kind: DataContrat")
    told, _ = shop.report()
    (pending,) = told["pending"]
    assert "not sound" in pending["says"]
    assert shlex.split(pending["steps"][0]["command"]) == ["sluice", "check", str(shop.folder / "orders.yaml")]
    assert told["contract"] == "orders 1.0.0"


def test_what_will_be_confidential_with_the_next_start_is_hidden_already(shop: Shop) -> None:
    shop.fill(held(100, reasons=(Reason("amount-positive", "amount", "is positive", "4711-secret"),)))
    shop.put_in_force()
    assert "4711-secret" in shop.report()[1]
    _change_contract(shop, "logicalType: number\n", "logicalType: number\n        classification: confidential\n", "1.1.0")
    told, page = shop.report()
    assert "4711-secret" not in page + json.dumps(told)
    assert (told["contract"], told["contract_written"], told["pending"]) == ("orders 1.0.0", "1.1.0", [])


def test_columns_that_come_and_go_are_told(shop: Shop) -> None:
    shop.fill()
    shop.fill(schema=replace(ORDERS, columns=(*ORDERS.columns[:1], Column("remark", "text", 2), Column("vat", "integer", 9))))
    told, _ = shop.report()
    assert {change["says"] for change in told["changes"]} == {
        "portal.public.orders: note is called remark now",
        "portal.public.orders: vat (integer) was added",
        "portal.public.orders: amount (numeric) was dropped",
    }


def test_a_rule_of_any_length_is_told_in_a_few_words(shop: Shop) -> None:
    words = ", ".join(str(n) for n in range(20_000))
    rule = f"{{id: known, metric: invalidValues, mustBe: 0, arguments: {{validValues: [{words}]}}}}"
    shop.write_contract(CONTRACT.replace("          - {id: amount-positive", f"          - {rule}\n          - {{id: amount-positive"))
    shop.fill(held(100))
    told, page = shop.report()
    assert max(len(one["says"]) for one in told["rules"]) <= 401
    assert len(page) < 100_000
