"""Rows that single sinks refused: whoever changes one, or what was done with it, behind the trail's back is found out, and nobody else."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from dataflows import erasing
from journal import audit_trail, evidence, state_file, store
from journal.audit_check import Finding, check
from journal.audit_trail import Step
from journal.erasing import due_refused
from journal.inbox import Inbox, Request
from journal.quarantine import QuarantineRecord, Reason, Wanted, record_id
from journal.refused_standing import CONTENT, look
from journal.returns import Outcome
from journal.state import State
from tests import journal_cases
from tests.lane_place import SOURCE, TABLE, Place, marker, put

LAST = 8


@dataclass
class Refusing:
    """A place of which the sink `out` has refused the rows 1 to 8, and an inbox."""

    folder: Path

    def __post_init__(self) -> None:
        self.place = Place(self.folder, "newest")
        self.inbox = Inbox(self.folder)

    def refuse(self) -> None:
        self.place.take(marker("start"), [put(str(number), number) for number in range(1, LAST + 1)], marker("end"))
        with closing(State.open(self.folder)) as state:
            state.keep_refused("out", [self._record(number) for number in range(1, LAST + 1)], 3)
        self.holds(3)

    def _record(self, ordinal: int) -> QuarantineRecord:
        row = {"id": str(ordinal), "amount": str(ordinal)}
        return structs.replace(
            journal_cases.record(self.place.journal.id, ordinal, sink="out"),
            id=self.id(ordinal),
            source=SOURCE,
            table=TABLE,
            key={"id": str(ordinal)},
            raw=row,
            after=row,
            reasons=(Reason("sink", "amount", "too large"),),
        )

    def id(self, ordinal: int) -> str:
        return record_id(self.place.journal.id, ordinal, "out")

    def holds(self, seq: int) -> None:
        """The sink's target has everything up to an entry."""
        with closing(State.open(self.folder)) as state:
            state.sink_progress("out", state="running", error=None, journal=self.place.journal.id, seq=seq, cursor="{}")
        self.place.returns.settle("out")

    def ask(self, action: str, *ordinals: int, by: str = "ann@example.com", **content: Any) -> None:
        told = {"action": action, "ids": [self.id(one) for one in ordinals], "by": by, "why": "a test", **content}
        self.carry_out(self.inbox.ask(told))

    def carry_out(self, request: Request) -> dict[str, Any]:
        doing = self.place.refused.step(request)
        assert doing is not None
        while True:
            try:
                next(doing)
            except StopIteration as ended:
                self.inbox.answer(request, ended.value)
                return dict(ended.value)

    def erase(self, *ordinals: int) -> None:
        rows = due_refused(self.folder, ids=[self.id(one) for one in ordinals])
        erasing._erase_refused(self.place.journal, self.folder, rows, Step("erase", audit_trail.SELF), erasing.OVER)

    def came(self, **outcomes: int) -> None:
        """What became of rows at the sink."""
        for what, ordinal in outcomes.items():
            reason = Reason("sink", "amount", "still too large") if what == "refused" else None
            self.place.returns.became({self.id(ordinal): Outcome(what, reason)})
        with self.place.journal.view() as db:
            self.holds(store.last_seq(db))

    def statuses(self) -> list[str]:
        with closing(State.open(self.folder)) as state:
            return [one.status for one in state.refused(Wanted())]

    def found(self, at: float | None = None) -> list[Finding]:
        refused = look(self.folder, time.time() if at is None else at)
        with closing(sqlite3.connect(self.folder / store.FILE)) as db:
            return check(db, None, None, refused).findings

    def after(self, *statements: str) -> list[Finding]:
        """What is found where somebody has done this to the state by hand."""
        path = self.folder / state_file.FILE
        with closing(sqlite3.connect(path)) as db:
            before = db.execute("select * from refused").fetchall()
            for statement in statements:
                db.execute(statement)
            db.commit()
        found = self.found()
        with closing(sqlite3.connect(path)) as db:
            db.execute("delete from refused")
            db.executemany(f"insert into refused values ({', '.join('?' * len(before[0]))})", before)
            db.commit()
        return found

    def close(self) -> None:
        self.inbox.close()
        self.place.close()

    def begin_again(self) -> None:
        self.close()
        self.__post_init__()


@pytest.fixture
def refusing(tmp_path: Path) -> Iterator[Refusing]:
    made = Refusing(tmp_path)
    made.refuse()
    yield made
    made.close()


def _history(refusing: Refusing) -> None:
    """Of each kind of row one."""
    refusing.ask("fix", 2, 3, 4, 5, 6, 7, set={"amount": "9"})
    refusing.ask("fix", 2, by="cy@example.com", set={"amount": "10"})
    refusing.ask("approve", 3, 4, 5, 6, by="bo@example.com")
    refusing.ask("replay", 4, 5, 6, by="bo@example.com")
    refusing.came(resolved=4, refused=5, superseded=6)
    refusing.ask("discard", 7)
    refusing.erase(7, 8)


def test_the_trail_is_sound_whatever_was_done_with_rows(refusing: Refusing) -> None:
    assert refusing.found() == []
    _history(refusing)
    assert refusing.statuses() == ["open", "patched", "approved", "resolved", "failed-again", "superseded", "discarded", "discarded"]
    assert refusing.found() == []


_CHANGED_BY_SINKS = {"reasons", "cause", "pattern", "attempts", "given"}


def test_any_column_that_was_changed_by_hand_is_found_from_the_first_step_on(refusing: Refusing) -> None:
    _history(refusing)
    with closing(sqlite3.connect(refusing.folder / state_file.FILE)) as db:
        columns = ("status", "approved_by", "resolved_at", *CONTENT)
        rows = {one[0]: one[1:] for one in db.execute(f"select ordinal, id, {', '.join(columns)} from refused")}
    assert set(CONTENT) == set(evidence.CONTENT) - _CHANGED_BY_SINKS
    for ordinal, (name, *values) in rows.items():
        for column, value in zip(columns, values, strict=True):
            if ordinal == 1 and column not in ("status", "approved_by", "resolved_at", "patch", "patched_by"):
                continue  # no step has touched it
            if ordinal in (7, 8) and column not in (
                "status",
                "resolved_at",
                "approved_by",
                "patched_by",
                "raw",
                "key",
                "before",
                "after",
                "patch",
            ):
                continue  # of what was erased nothing is left but that it was
            other = repr(value + 1000) if isinstance(value, (int, float)) else "'approved'" if value == "patched" else "'patched'"
            if column in ("id", "ordinal") or (column, ordinal) in (("resolved_at", 4), ("resolved_at", 6)):
                continue  # a row that is not there is one that the sink takes back; when one came to its end there the sink alone knows
            found = refusing.after(f"update refused set {column} = {other} where ordinal = {ordinal}")
            assert [one.record for one in found if one.record == name], f"{column} of {name}: {value!r} -> {other}"
    assert refusing.after("update refused set resolution = 'x' where ordinal = 7")
    assert refusing.after("delete from returning_row", "update refused set status = 'replaying' where ordinal = 4")


class Died(BaseException):
    """In place of SIGKILL."""


def _die(*_: object) -> None:
    raise Died


Deadly = Callable[[Place, pytest.MonkeyPatch], None]


def _before_the_line(place: Place, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(place.journal, "commit_beside", _die)


def _before_the_state(place: Place, patch: pytest.MonkeyPatch) -> None:
    for step in ("patch", "approve", "discard", "sent", "fail"):
        patch.setattr(place.returns, step, _die)


@pytest.mark.parametrize("deadly", [_before_the_line, _before_the_state])
@pytest.mark.parametrize("action, status", [("fix", "patched"), ("approve", "approved"), ("discard", "discarded"), ("replay", "replaying")])
def test_whoever_dies_leaves_a_sound_trail_and_what_was_asked_for_is_done_once_more(
    refusing: Refusing, monkeypatch: pytest.MonkeyPatch, action: str, status: str, deadly: Deadly
) -> None:
    if action != "fix":
        refusing.ask("fix", 1, set={"amount": "9"})
    if action == "replay":
        refusing.ask("approve", 1, by="bo@example.com")
    told = {"action": action, "ids": [refusing.id(1)], "by": "bo@example.com", "why": "a test", "set": {"amount": "7"}}
    request = refusing.inbox.ask(told)
    with monkeypatch.context() as patch:
        deadly(refusing.place, patch)
        with pytest.raises(Died):
            refusing.carry_out(request)
    refusing.begin_again()
    assert refusing.found() == []
    assert refusing.carry_out(request)["done"] == 1
    assert refusing.statuses()[0] == status
    assert refusing.found() == []


def test_what_was_done_in_the_state_and_not_answered_is_answered_as_done(refusing: Refusing, monkeypatch: pytest.MonkeyPatch) -> None:
    refusing.ask("fix", 1, set={"amount": "9"})
    request = refusing.inbox.ask({"action": "approve", "ids": [refusing.id(1)], "by": "bo@example.com"})
    with monkeypatch.context() as patch:
        patch.setattr(refusing.inbox, "answer", _die)
        with pytest.raises(Died):
            refusing.carry_out(request)
    answer = refusing.carry_out(request)
    assert (answer["code"], answer["done"], answer["could_not"]) == (0, 1, 0)
    assert refusing.found() == []


def test_what_an_answered_request_did_cannot_be_taken_back_by_hand(refusing: Refusing) -> None:
    refusing.ask("discard", 1)
    undone = "update refused set status = 'open', resolution = null, resolved_at = null where ordinal = 1"
    assert [one.record for one in refusing.after(undone)] == [refusing.id(1)]


def test_what_somebody_approved_by_hand_is_found_though_it_has_gone_back_since(refusing: Refusing) -> None:
    refusing.ask("fix", 1, set={"amount": "9"})
    with closing(sqlite3.connect(refusing.folder / state_file.FILE)) as db:
        db.execute("update refused set status = 'approved', approved_by = 'bo@example.com' where ordinal = 1")
        db.commit()
    refusing.ask("replay", 1)
    refusing.came(resolved=1)
    assert "is replay of a record that nobody had approved" in refusing.found()[0].what


def test_a_row_that_comes_again_to_a_sink_that_was_put_back_is_as_new(refusing: Refusing) -> None:
    refusing.ask("discard", 1)
    with closing(State.open(refusing.folder)) as state:
        state.forget_refused("out", 2)
    assert refusing.found() == []
    again = structs.replace(refusing._record(1), quarantined_at=time.time() + 1)
    with closing(State.open(refusing.folder)) as state:
        state.keep_refused("out", [again], 3)
    assert refusing.statuses() == ["open"]
    assert refusing.found() == []


def test_a_state_of_before_there_were_digests_is_brought_up_to_date(refusing: Refusing) -> None:
    refusing.close()
    with closing(sqlite3.connect(refusing.folder / state_file.FILE)) as db:
        db.execute(f"alter table refused drop column {evidence.SALT}")
    refusing.begin_again()
    assert refusing.found() == []
    refusing.ask("fix", 1, set={"amount": "9"})
    assert refusing.found() == []
    assert refusing.after("update refused set patch = '{}' where ordinal = 1") != []


@pytest.mark.parametrize("seed", range(3))
def test_after_any_history_the_trail_is_sound(refusing: Refusing, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(25):
        some = chance.sample(range(1, LAST + 1), chance.randrange(1, 4))
        action = chance.choice(["fix", "approve", "discard", "replay", "replay", "erase", "came", "again"])
        statuses = refusing.statuses()
        mendable = [one for one in some if statuses[one - 1] in ("open", "patched", "approved", "failed-again")]
        if action == "fix" and mendable:
            refusing.ask("fix", *mendable, set={"amount": str(chance.randrange(-9, 99))}, by=chance.choice(["ann", "cy"]))
        elif action in ("approve", "discard", "replay"):
            refusing.ask(action, *some, by="bo")
        elif action == "erase" and chance.random() < 0.3:
            refusing.erase(*some)
        elif action == "came":
            refusing.came(**dict(zip(chance.sample(["resolved", "refused", "superseded", "filtered"], len(some)), some, strict=True)))
        elif action == "again":
            refusing.begin_again()
        assert refusing.found() == []
