"""Values are forgotten when their time is over, or when somebody says so: on disk too, while the story of each record stays."""

from __future__ import annotations

import base64
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec import structs

from dataflows.erasing import Retention
from journal import audit_trail, store
from journal.inbox import Inbox
from journal.local import JournalWriter
from journal.quarantine import QuarantineRecord
from journal.state import State
from pipeline.model import JournalConfig
from quality.contract_reading import load_contract
from sinks.base import Counts
from tests.fix_life import Life
from tests.test_cli_check import CONTRACT

_NAME = "cy-was-here@example.com"


class Records(Life):
    """A shop with records of the gate's, and one that a sink refused."""

    def of(self, ordinal: int, region: str, *, sink: str | None = None, age: float = 0.0, raw: bool = True) -> QuarantineRecord:
        record = self.record(ordinal, "-1.00", sink=sink)
        row = {**record.raw, "region": region}
        return structs.replace(record, raw=row if raw else {}, after=row if raw else None, before=None, quarantined_at=time.time() - age)

    def files_with(self, text: str) -> list[str]:
        return [path.name for path in sorted(self.state_folder.rglob("*")) if path.is_file() and text.encode() in path.read_bytes()]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Records]:
    made = Records(tmp_path)
    with closing(made.state):
        with closing(made.journal):
            last = made.arrive(10, [made.of(1, _NAME, age=100.0), made.of(2, "x"), made.of(3, _NAME)])
            made.refuse("eu", made.of(7, _NAME, sink="eu", age=100.0), last)
            made.holds("eu", last, Counts(delivered=6, quarantined=1))
            made.copied()
        yield made


def _statuses(shop: Records) -> list[tuple[str, str]]:
    return [(one["id"].partition("-")[2], one["status"]) for one in shop.list()]


def test_a_person_is_forgotten_wherever_values_of_theirs_are_and_nowhere_else(shop: Records) -> None:
    assert shop.files_with(_NAME)
    done = shop.step("quarantine forget", "--column", f"region={_NAME}", "--by", "ann", "--why", "asked for it")
    assert done["forgotten"] == 3
    assert shop.files_with(_NAME) == []
    assert _statuses(shop) == [("1", "discarded"), ("2", "open"), ("3", "discarded"), ("7-eu", "discarded")]
    first = shop.list()[0]
    shown = shop.step("quarantine show", first["id"])
    assert (shown["raw"], shown["key"], shown["resolution"]) == ({}, {}, "its values were forgotten")
    assert [(one["rule"], one["value"]) for one in shown["reasons"]] == [("amount-positive", None), ("second", None)]
    assert shop.counts() | {"quarantined": 3, "open_quarantine": 1} == shop.counts()


def test_the_trail_tells_of_it_without_a_value_and_stays_sound(shop: Records) -> None:
    shop.step("quarantine forget", "--column", f"region={_NAME}", "--by", "ann", "--why", "asked for it")
    with closing(sqlite3.connect(shop.state_folder / store.FILE)) as db:
        lines = list(audit_trail.lines(db))
    assert [(line.action, line.by, line.records) for line in lines] == [("forget", "ann", 1), ("forget", "ann", 2)]
    assert all(line.hash == line.expected for line in lines)
    assert not any(word in str(line.detail) for line in lines for word in (_NAME, "asked for it"))


def test_named_records_are_forgotten_once(shop: Records) -> None:
    first = shop.list()[0]["id"]
    assert shop.step("quarantine forget", first, "--by", "ann", "--why", "w")["forgotten"] == 1
    assert shop.step("quarantine forget", first, "--by", "ann", "--why", "w", code=1)["forgotten"] == 0
    assert shop.run("quarantine forget", "--column", "region=nobody", "--by", "ann", "--why", "w").code == 1


@pytest.mark.parametrize("given", [["--by", "ann", "--why", " "], ["--by", " ", "--why", "w"], ["--by", "ann"], ["--why", "w"]])
def test_who_and_why_have_to_be_said(shop: Records, given: list[str]) -> None:
    assert shop.run("quarantine forget", "--column", "region=x", *given).code == 2
    assert _statuses(shop)[1] == ("2", "open")


def test_either_records_or_a_person_are_named(shop: Records) -> None:
    for given in ([], ["a-1", "--column", "region=x"], ["a-1", "--dataset", "orders"], ["--column", "region"]):
        assert shop.run("quarantine forget", *given, "--by", "ann", "--why", "w").code == 2


def test_a_message_that_nobody_could_read_is_searched_too(shop: Records) -> None:
    value = base64.b64encode(b'{"region": "' + _NAME.encode() + b'", ').decode()
    with closing(JournalWriter.open(shop.state_folder, "shop", JournalConfig(1 << 30))) as journal:
        bad = structs.replace(shop.of(20, "", raw=False), message=f'{{"key": null, "value": "{value}", "headers": []}}')
        journal.quarantine([bad])
        journal.commit("portal", "{}")
    assert shop.step("quarantine forget", "--column", f"region={_NAME}", "--by", "ann", "--why", "w")["forgotten"] == 4
    assert shop.files_with(value) == []


def test_what_a_request_said_goes_with_its_answer(shop: Records) -> None:
    with closing(Inbox(shop.state_folder)) as inbox:
        asked = inbox.ask({"action": "fix", "ids": ["a"], "set": {"region": "very-private"}})
        assert [one.content for one in inbox.open()] == [asked.content]
        inbox.answer(asked, {"code": 0})
    assert b"very-private" not in (shop.state_folder / "state.db").read_bytes()


def test_records_are_erased_when_their_retention_is_over_and_not_before(shop: Records, tmp_path: Path) -> None:
    file = tmp_path / "short.odcs.yaml"
    file.write_text(CONTRACT + "\nslaProperties: [{property: retention, value: 60, unit: s}]\n")
    rules = {"orders": load_contract(file)}
    with closing(JournalWriter.open(shop.state_folder, "shop", JournalConfig(1 << 30))) as journal:
        Retention(journal, shop.state_folder, {}).tick()
        Retention(journal, shop.state_folder, rules).tick()
        assert journal.open_keys("orders") == [{"order_id": "2"}, {"order_id": "3"}]
    assert _statuses(shop) == [("1", "discarded"), ("2", "open"), ("3", "open"), ("7-eu", "discarded")]
    assert shop.step("quarantine show", shop.list()[0]["id"])["resolution"] == "its retention is over"
    with closing(State.open(shop.state_folder)) as state:
        assert not state.open_refused()
