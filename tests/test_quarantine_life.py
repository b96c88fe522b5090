"""The life of quarantined records, driven as a person drives it while nothing runs: fix, approve, replay, discard."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from journal.batch import ChangeBatch, CopyMarker
from journal.local import JournalReader
from tests.test_cli_quarantine import SCHEMA, Shop


class Life(Shop):
    """A shop whose ingest has ended: commands do what they ask for themselves."""

    def copied(self) -> None:
        """The first copy of the table comes to its end."""
        self.journal.mark(CopyMarker(SCHEMA, "portal", "public.orders", "end", 1, first=True))
        self.journal.commit("portal", "{}")

    def step(self, *arguments: object, code: int = 0) -> Any:
        done = self.run(*arguments, "--json")
        assert done.code == code, f"{done.code}: {done.out}{done.err}"
        return done.json if done.out else done.err

    def ids(self, **wanted: str) -> list[str]:
        return [one["id"] for one in self.list(*(part for name, value in wanted.items() for part in (f"--{name}", value)))]

    def delivered(self) -> list[tuple[int, dict[str, str | None]]]:
        """What sinks get, in the journal's order."""
        with JournalReader.open(self.state_folder, "shop") as reader:
            entries = reader.read(0, max_bytes=1 << 30, sink="warehouse").entries
        batches = [entry for _, entry in entries if isinstance(entry, ChangeBatch)]
        return [
            (ordinal, dict(zip(batch.schema.names, row, strict=True)))
            for batch in batches
            for ordinal, row in zip(batch.ordinal.tolist(), zip(*(c.to_pylist() for c in batch.columns), strict=True), strict=True)
        ]

    def counts(self) -> dict[str, int]:
        found: dict[str, int] = self.run("status", "--json").json["datasets"]["orders"]
        return found


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    made = Life(tmp_path)
    with closing(made.state):
        with closing(made.journal):
            made.arrive(10, [made.record(1, "-1.00"), made.record(2, "-22.00"), made.record(3, None)])
            made.copied()
        yield made


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
    assert (sound["sound"], sound["lines"], sound["records"]) == (True, 4, 3)
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
        ("delete from audit where n = 3", "was cut or written anew"),
        ("update audit set n = 9 where n = 1", "missing"),
        ("update quarantine set status = 'approved' where ordinal = 3", "is approved, and the trail says open"),
        ("update quarantine set status = 'open' where ordinal = 1", "is open, and the trail says discarded"),
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
