"""The life of quarantined records, driven as a person drives it while nothing runs: fix, approve, replay, discard."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from msgspec import structs

from dataflows.records import for_sink
from journal.batch import ChangeBatch
from journal.local import JournalReader
from tests.fix_life import Life


def test_a_record_is_fixed_approved_by_somebody_else_and_delivered_with_the_place_that_it_had(life: Life) -> None:
    first, *_ = life.ids()
    assert life.step("quarantine fix", first, "--set", "amount=1", "--by", "ann@example.com")["fixed"] == 1
    refused = life.step("quarantine approve", first, "--by", " ANN@example.com", code=1)
    assert "somebody else" in refused["records"][0]["why"]
    assert life.step("quarantine approve", first, "--by", "bo@example.com")["approved"] == 1
    answer = life.step("quarantine replay", first)
    assert (answer["replayed"], answer["resolved"], answer["failed_again"], answer["superseded"]) == (1, 1, 0, 0)
    assert answer["records"] == [{"id": first, "status": "resolved"}]
    assert (1, {"order_id": "1", "region": "SECRET-1", "amount": "1.00"}) in life.delivered()
    assert life.counts() | {"in": 10, "quarantined": 2, "open_quarantine": 2} == life.counts()


def test_a_record_tells_its_story_and_the_trail_is_sound(life: Life) -> None:
    first, second, _ = life.ids()
    life.step("quarantine fix", first, second, "--set", "amount=1", "--set", "region=EU", "--by", "ann@example.com")
    life.step("quarantine approve", first, "--by", "bo@example.com")
    life.step("quarantine replay", first)
    told = life.run("quarantine show", first, "--json").json
    assert [(one["step"], one["by"]) for one in told["audit"]][:3] == [
        ("quarantined", "gate"), ("fix", "ann@example.com"), ("approve", "bo@example.com"),
    ]  # fmt: skip
    assert [one["step"] for one in told["audit"]][3:] == ["replay", "resolved"]
    assert told["audit"][1]["columns"] == ["amount", "region"]
    assert (told["patched_by"], told["approved_by"], told["status"]) == ("ann@example.com", "bo@example.com", "resolved")
    assert told["patch"] == {"amount": "1.00", "region": "***"}
    assert told["raw"]["amount"] == "-1.00"
    shown = life.run("quarantine show", first).out
    assert "ann@example.com" in shown
    sound = life.step("audit verify")
    assert (sound["sound"], sound["lines"], sound["records"]) == (True, 5, 3)  # one of how they came
    assert life.step("audit verify", "--head", sound["head"])["sound"]
    assert [line["step"] for line in life.step("audit list")] == ["fix", "approve", "replay", "resolved"]
    assert [line["step"] for line in life.step("audit list", second)] == ["fix"]


def _tamper(life: Life, *statements: str) -> None:
    with closing(sqlite3.connect(life.state_folder / "journal.db")) as db:
        db.execute("drop trigger audit_is_only_added_to")
        db.execute("drop trigger audit_is_never_cut")
        for statement in statements:
            db.execute(statement)
        db.commit()


@pytest.mark.parametrize(
    "statement, said",
    [
        ("update audit set by = 'bo@example.com' where n = 2", "line 2: the line was changed"),
        ("delete from audit where n = 2", "line 2 is missing"),
        ("delete from audit where n = 4", "was cut or written anew"),
        ("update audit set n = 9 where n = 1", "missing"),
        ("update quarantine set status = 'approved' where ordinal = 3", "is approved, and the trail says open"),
        ("update quarantine set status = 'open' where ordinal = 1", "is open, and the trail says discarded"),
        (
            "update quarantine set patched_by = 'bo@example.com' where ordinal = 2",
            "is fixed by bo@example.com, and the trail says by ann@example.com",
        ),
        (
            "update quarantine set approved_by = 'bo@example.com' where ordinal = 2",
            "is approved by bo@example.com, and the trail says by nobody",
        ),
        ("delete from quarantine where ordinal = 2", "the record is gone, and line 1 tells of it"),
    ],
)
def test_whoever_changes_the_trail_or_a_record_behind_its_back_is_found_out(life: Life, statement: str, said: str) -> None:
    for one in life.ids()[:2]:
        life.step("quarantine fix", one, "--set", "amount=1", "--by", "ann@example.com")
    life.step("quarantine discard", life.ids()[0], "--why", "a test", "--by", "ann@example.com")
    head = life.step("audit verify")["head"]
    _tamper(life, statement)
    done = life.run("audit verify")
    assert done.code == 1
    assert said in done.out
    assert life.run("audit verify", "--head", "0" * 63 + "1").code == 1
    assert len(head) == 64


def test_lines_of_the_trail_are_only_added(life: Life) -> None:
    life.step("quarantine discard", life.ids()[0], "--why", "a test", "--by", "ann@example.com")
    with closing(sqlite3.connect(life.state_folder / "journal.db")) as db:
        for statement in ("update audit set by = 'bo'", "delete from audit"):
            with pytest.raises(sqlite3.IntegrityError, match="only added"):
                db.execute(statement)


def _fixed(life: Life, *ids: str, amount: str = "1.00") -> None:
    life.step("quarantine fix", *ids, "--set", f"amount={amount}", "--by", "ann@example.com")
    life.step("quarantine approve", *ids, "--by", "bo@example.com")


def test_a_record_that_is_still_bad_fails_again_and_says_why(life: Life) -> None:
    first, *_ = life.ids()
    _fixed(life, first, amount="-5")
    answer = life.step("quarantine replay", first, code=1)
    assert (answer["replayed"], answer["resolved"], answer["failed_again"]) == (1, 0, 1)
    told = life.run("quarantine show", first, "--json").json
    assert (told["status"], told["attempts"], told["approved_by"], told["patch"]) == ("failed-again", 1, None, {"amount": "-5.00"})
    assert [(one["rule"], one["value"]) for one in told["reasons"]] == [("amount-positive", "-5.00")]
    assert [one["step"] for one in told["audit"]][-1] == "failed-again"
    refused = life.step("quarantine approve", first, "--by", "bo@example.com", code=1)
    assert "nothing about it has changed" in refused["records"][0]["why"]
    _fixed(life, first, amount="5")
    assert life.step("quarantine replay", first)["resolved"] == 1
    assert life.counts()["quarantined"] == 2


def test_a_group_is_fixed_by_an_expression_approved_and_replayed(life: Life) -> None:
    groups = {one["group"] for one in life.list() if one["reasons"][0]["value"] is not None}
    (group,) = groups
    assert life.step("quarantine fix", "--group", group, "--expr", "amount=abs(amount)", "--by", "ann@example.com")["fixed"] == 2
    assert life.step("quarantine approve", "--group", group, "--by", "bo@example.com")["approved"] == 2
    answer = life.step("quarantine replay", "--approved")
    assert (answer["replayed"], answer["resolved"]) == (2, 2)
    assert {(1, "1.00"), (2, "22.00")} <= {(ordinal, row["amount"]) for ordinal, row in life.delivered()}
    assert life.step("quarantine replay", "--approved")["replayed"] == 0


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("fix", "1", "--set", "amount=abc", "--by", "ann"), "`amount` is numeric(12,2), which 'abc' is not"),
        (("fix", "1", "--set", "amout=1", "--by", "ann"), "did you mean amount?"),
        (("fix", "1", "--set", "amount=1", "--null", "amount", "--by", "ann"), "set twice"),
        (("fix", "1", "--by", "ann"), "nothing is said to be set"),
        (("fix", "1", "--set", "amount=1", "--by", " "), "nobody is named"),
        (("fix", "1", "--set", "amount=1", "--by", "a" * 201), "that is no name"),
        (("fix", "1", "--expr", "amount=(select 1)", "--by", "ann"), "a subquery is not an expression over one row"),
        (("fix", "1", "--expr", "amount=amount/0", "--by", "ann"), "what comes out is no numeric(12,2)"),
        (("fix", "1", "zz-99", "--set", "amount=1", "--by", "ann"), "there is no record zz-99"),
        (("fix", "--set", "amount=1", "--by", "ann"), "name records by their ids"),
        (("fix", "--group", "nope", "--set", "amount=1", "--by", "ann"), "there is no group nope"),
        (("discard", "1", "--why", " ", "--by", "ann"), "it is not said why"),
        (("approve", "1", "--by", ""), "nobody is named"),
        (("replay", "1", "--approved"), "name no records beside it"),
    ],
)
def test_what_cannot_be_done_is_refused_and_changes_nothing(life: Life, arguments: tuple[str, ...], said: str) -> None:
    first, second, _ = life.ids()
    command, *rest = arguments
    done = life.run(f"quarantine {command}", *(first if one == "1" else one for one in rest))
    assert (done.code, said in done.err) == (2, True), f"{done.code}: {done.err}"
    assert [one["status"] for one in life.list()] == ["open"] * 3
    assert life.step("audit list") == []
    assert second


def test_who_approves_and_what_is_told_of_what_was_approved_already(life: Life) -> None:
    first, second, third = life.ids()
    assert "nothing about it has changed" in life.step("quarantine approve", second, "--by", "bo", code=1)["records"][0]["why"]
    _fixed(life, first)
    again = life.step("quarantine approve", first, "--by", "cy@example.com", code=1)
    assert again["records"] == [{"id": first, "status": "approved", "why": "it is approved already, by bo@example.com"}]
    some = life.step("quarantine replay", first, third, code=1)
    assert (some["replayed"], some["not_approved"]) == (1, 1)
    assert {one["id"]: one["status"] for one in some["records"]} == {first: "resolved", third: "open"}
    assert life.run("quarantine fix", first, "--set", "amount=2", "--by", "ann").code == 1


def test_a_record_is_given_up_and_stays_counted(life: Life) -> None:
    first, *_ = life.ids()
    assert life.step("quarantine discard", first, "--why", "a test order", "--by", "ann@example.com")["discarded"] == 1
    assert life.counts() | {"quarantined": 3, "open_quarantine": 2} == life.counts()
    told = life.run("quarantine show", first, "--json").json
    assert (told["status"], told["resolution"]) == ("discarded", "a test order")
    assert life.step("quarantine discard", first, "--why", "again", "--by", "ann@example.com", code=1)["discarded"] == 0


def test_records_whose_rule_has_changed_may_be_approved_as_they_are(life: Life) -> None:
    _, second, third = life.ids()
    life.step("quarantine replay", "--approved")  # whoever does the first thing notes the rules
    contract = life.folder / "orders.odcs.yaml"
    contract.write_text(contract.read_text().replace("query: amount > 0", "query: amount > -30"))
    life.step("quarantine replay", "--approved")
    assert {one["status"] for one in life.list()} == {"rule-changed"}
    assert life.step("quarantine approve", second, third, "--by", "ann@example.com")["approved"] == 2
    answer = life.step("quarantine replay", second, third)
    assert answer["resolved"] == 2
    assert (2, "-22.00") in {(ordinal, row["amount"]) for ordinal, row in life.delivered()}
    assert life.step("audit verify")["sound"]


def test_records_of_a_dataset_that_is_not_in_the_pipeline_any_more_can_be_given_up_and_not_replayed(life: Life) -> None:
    first, second, _ = life.ids()
    _fixed(life, first)
    life.file.write_text(life.file.read_text().replace("public.orders", "public.customers").replace("  orders:\n", "  customers:\n"))
    assert len(life.ids()) == 3
    answer = life.step("quarantine replay", first, code=1)
    assert "not in the pipeline any more" in answer["records"][0]["why"]
    assert life.step("quarantine discard", second, "--why", "gone", "--by", "ann@example.com")["discarded"] == 1
    assert life.step("quarantine fix", first, "--set", "amount=3", "--by", "ann@example.com")["fixed"] == 1


def test_a_record_that_came_with_the_copy_for_one_sink_goes_to_that_one_and_is_counted_nowhere(tmp_path: Path) -> None:
    made = Life(tmp_path)
    with closing(made.state):
        with closing(made.journal):
            made.arrive(10, [made.record(1, "-1.00")])
            made.journal.quarantine([for_sink(made.record(30, "-1.00", rule="lookup"), "eu")])
            made.copied()
        name = made.ids()[1]
        _fixed(made, name)
        assert made.step("quarantine replay", name)["resolved"] == 1
        assert made.counts()["quarantined"] == 1
        assert 30 not in {ordinal for ordinal, _ in made.delivered()}
        with JournalReader.open(made.state_folder, "shop") as reader:
            entries = reader.read(0, max_bytes=1 << 30, sink="eu").entries
        assert [entry.ordinal.tolist() for _, entry in entries if isinstance(entry, ChangeBatch) and entry.sink == "eu"] == [[30]]


def test_what_is_sealed_with_a_lost_key_stays_alone_and_can_be_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Life(tmp_path)
    with closing(made.state):
        with closing(made.journal):
            made.arrive(10, [structs.replace(made.record(1, "-1.00"), sensitive=True), made.record(2, "-1.00")])
            made.copied()
        first, second = made.ids()
        _fixed(made, first, second)
        monkeypatch.setenv("SLUICE_ENCRYPTION_KEY", "another key than the one that sealed it")
        answer = made.step("quarantine replay", first, second, code=1)
        assert {one["id"]: one["status"] for one in answer["records"]} == {first: "approved", second: "resolved"}
        (left,) = [one for one in answer["records"] if one["id"] == first]
        assert "sealed with the key" in left["why"]
        assert made.run("quarantine fix", first, "--set", "amount=1", "--by", "ann@example.com").code == 2
        assert made.step("quarantine discard", first, "--why", "its key is lost", "--by", "ann@example.com")["discarded"] == 1


def test_of_a_sealed_record_whose_contract_is_gone_the_key_alone_is_shown(tmp_path: Path) -> None:
    made = Life(tmp_path)
    with closing(made.state):
        with closing(made.journal):
            made.arrive(10, [structs.replace(made.record(1, "-1.00"), sensitive=True), made.record(2, "-22.00")])
            made.copied()
        first, second = made.ids()
        made.file.write_text(made.file.read_text().replace("public.orders", "public.customers").replace("  orders:\n", "  customers:\n"))
        told = made.step("quarantine show", first)
        assert set(told["raw"].values()) | set(told["after"].values()) == {"***"}
        assert told["key"] == {"order_id": 1}
        assert made.step("quarantine show", first, "--unmasked")["raw"]["amount"] == "-1.00"
        assert made.step("quarantine show", second)["raw"]["amount"] == "-22.00"


def test_a_group_of_which_nothing_can_be_done_is_no(life: Life) -> None:
    group = life.list()[0]["group"]
    assert life.step("quarantine approve", "--group", group, "--by", "bo@example.com", code=1)["could_not"] == 2
    life.step("quarantine discard", "--group", group, "--why", "a test", "--by", "bo@example.com")
    assert life.step("quarantine discard", "--group", group, "--why", "a test", "--by", "bo@example.com", code=1)["discarded"] == 0
    assert life.run("quarantine fix", "--group", group, "--set", "amount=1", "--by", "ann@example.com").code == 1


def test_nobody_who_has_fixed_a_record_approves_it_whoever_fixed_it_last(life: Life) -> None:
    first, *_ = life.ids()
    life.step("quarantine fix", first, "--set", "amount=1", "--by", "ann")
    life.step("quarantine fix", first, "--set", "region=EU", "--by", "bo")
    life.step("quarantine fix", first, "--set", "region=US", "--by", "bo")
    assert life.step("quarantine show", first)["patched_by"] == "ann, bo"
    for by in ("ann", "BO"):
        assert "ann, bo have fixed it" in life.step("quarantine approve", first, "--by", by, code=1)["records"][0]["why"]
    assert life.step("audit verify")["sound"] is True
    assert life.step("quarantine approve", first, "--by", "cy")["approved"] == 1


def test_a_state_that_no_record_can_be_in_is_named(life: Life) -> None:
    done = life.run("quarantine list", "--status", "aproved")
    assert (done.code, "did you mean approved" in done.err) == (2, True)
