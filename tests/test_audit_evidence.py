"""Whoever changes a held record, what was done with it, or the trail that tells of it, behind Sluice's back is found out."""

from __future__ import annotations

import base64
import json
import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dataflows import erasing
from journal import audit_trail, evidence, store
from journal.audit_check import Checked, Finding, Head, check
from journal.audit_trail import Step
from journal.opening import open_writer
from journal.quarantine import COLUMNS as COLUMNS_OF_RECORDS
from journal.quarantine import QuarantineRecord
from pipeline.errors import ConfigError
from pipeline.load import load_pipeline
from tests.journal_cases import SOURCE, opened, record
from tests.lane_place import Change, Place, copied, delete, marker, put, update

COLUMNS = (evidence.SALT, *evidence.STEPS, *evidence.CONTENT)


@contextmanager
def _file(folder: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(folder / store.FILE, isolation_level=None)) as db:
        yield db


def _checked(folder: Path, kept: tuple[int, str] | None = None, noted: Head | None = None) -> Checked:
    with _file(folder) as db:
        return check(db, kept, noted)


def _by_hand(db: sqlite3.Connection, *statements: str) -> list[Finding]:
    """What is found where somebody has done this to the file."""
    db.execute("begin")
    try:
        for statement in statements:
            db.execute(statement)
        return check(db).findings
    finally:
        db.execute("rollback")


def _other(column: str, value: object) -> str:
    """A value that a column might have and has not, as SQL."""
    if isinstance(value, bytes):
        return "randomblob(16)"
    if isinstance(value, (int, float)):
        return repr(value + 1000)
    words = {"status": "resolved" if value == "open" else "open", "raw": '{"id": "z"}', "key": '{"id": "z"}', "reasons": "[]"}
    return f"'{words.get(column, 'another')}'"


def _assert_every_edit_is_found(folder: Path) -> None:
    """Any one column of any record."""
    assert _checked(folder).findings == []
    with _file(folder) as db:
        rows = db.execute(f"select id, ordinal, {', '.join(COLUMNS)} from quarantine").fetchall()
        for name, ordinal, *values in rows:
            for column, value in zip(COLUMNS, values, strict=True):
                to = [_other(column, value), *(["null"] if value is not None and column in _MAY_BE_NULL else [])]
                for new in to:
                    found = _by_hand(db, f"update quarantine set {column} = {new} where ordinal = {ordinal}")
                    assert name in [one.record for one in found], f"{column} of {name}: {value!r} -> {new}"
            assert name in [one.record for one in _by_hand(db, f"delete from quarantine where ordinal = {ordinal}")]


_MAY_BE_NULL = (
    *("salt", "before", "after", "message", "contract", "contract_version"),
    *("rules_hash", "owner", "patch", "patched_by", "erased_at"),
)


def test_every_column_is_digested_or_told_by_lines() -> None:
    assert sorted((*evidence.CONTENT, *evidence.STEPS)) == sorted(COLUMNS_OF_RECORDS)


def _erase(place: Place, *ordinals: int) -> None:
    erasing._erase(place.journal, ordinals, Step("erase", audit_trail.SELF, "orders", ordinals), erasing.OVER)


def test_any_column_of_a_record_that_was_changed_by_hand_is_found_whatever_was_done_with_it(tmp_path: Path) -> None:
    place = Place(tmp_path, "newest")
    with closing(place):
        place.take(marker("start"), [put(key, -1) for key in "abcdefghij"], marker("end"))
        place.take([put("g", 2), delete("x"), update("y", -5, "x")])
        records = {one.key["id"]: one for one in place.records()}
        place.ask("fix", records["b"], set={"amount": "1"})
        place.ask("fix", records["b"], by="cy@example.com", set={"amount": "2"})
        place.mend(records["c"], 3)
        place.mend(records["d"], -4)
        place.ask("fix", records["e"], set={"amount": "1"})
        place.ask("approve", records["e"], by="bo@example.com")
        place.mend(records["g"], 7)
        place.ask("discard", records["f"], why="a test")
        _erase(place, records["f"].ordinal, records["h"].ordinal)
        statuses = [one.status for one in place.records()]
    assert statuses == [
        "open", "patched", "resolved", "failed-again", "approved", "discarded", "superseded", "discarded", "open", "open", "open",
    ]  # fmt: skip
    _assert_every_edit_is_found(tmp_path)


def _owners_do_something(place: Place, chance: random.Random) -> None:
    records = place.records()
    if not records:
        return
    some = chance.sample(records, min(len(records), chance.randrange(1, 4)))
    action = chance.choice(["fix", "approve", "replay", "discard", "erase", "mend", "mend"])
    if action == "erase":
        _erase(place, *sorted(one.ordinal for one in some if one.erased_at is None))
    elif action == "mend" and some[0].status in ("open", "failed-again", "patched", "approved") and not some[0].erased_at:
        place.mend(some[0], chance.randrange(-5, 9))
    elif action == "fix":
        mendable = [one for one in some if one.status in ("open", "failed-again", "patched", "approved") and not one.erased_at]
        if mendable:
            place.ask("fix", *mendable, set={"amount": str(chance.randrange(-5, 9))})
    elif action in ("approve", "replay", "discard"):
        place.ask(action, *some, by="bo@example.com", why="a test")


@pytest.mark.parametrize("order", ["newest", "strict"])
@pytest.mark.parametrize("seed", range(2))
def test_after_any_history_the_trail_is_sound_and_any_edit_is_found(tmp_path: Path, seed: int, order: str) -> None:
    chance = random.Random(f"{seed} {order}")
    place = Place(tmp_path, order)
    place.take(marker("start"), [copied("a", -1), copied("b", 1)], marker("end"))
    for _ in range(12):
        changes: list[Change] = []
        for _ in range(chance.randrange(1, 4)):
            one, other = chance.sample("abc", 2)
            amount = chance.randrange(-6, 6)
            changes.append(chance.choice([put(one, amount), update(one, amount), update(one, amount, other), delete(one)]))
        place.take(changes)
        _owners_do_something(place, chance)
        if chance.random() < 0.2:
            place.close()
            place = Place(tmp_path, order)
        assert _checked(tmp_path).findings == []
    place.close()
    _assert_every_edit_is_found(tmp_path)


def _mend(place: Place, one: QuarantineRecord) -> None:
    place.mend(one, 7)


def _fix(place: Place, one: QuarantineRecord) -> None:
    place.ask("fix", one, set={"amount": "-7"})


def _fail(place: Place, one: QuarantineRecord) -> None:
    place.mend(one, -7)


def _replay(place: Place, one: QuarantineRecord) -> None:
    place.ask("replay", one)


def _approve(place: Place, one: QuarantineRecord) -> None:
    place.ask("approve", one)


@pytest.mark.parametrize(
    "assigned, step, said",
    [
        ("raw = json_set(raw, '$.amount', '5')", _fix, "was changed before line"),
        ("raw = json_set(raw, '$.amount', '5')", _mend, "was changed before line"),
        ("reasons = json_set(reasons, '$[0].message', 'nothing')", _fail, "was changed before line"),
        ('patch = \'{"amount": "5"}\'', _fix, "was changed before line"),
        ("owner = 'nobody'", lambda place, one: _erase(place, one.ordinal), "was changed before line"),
        ("status = 'approved', approved_by = 'bo@example.com'", _replay, "is replay of a record that was patched"),
        ("patched_by = 'cy@example.com'", _approve, "is an approval by ann@example.com, who has fixed the record"),
        ("status = 'resolved', resolved_at = 1.0, resolution = 'delivered'", lambda place, one: None, "and the trail says patched"),
    ],
)
def test_what_was_changed_by_hand_is_found_though_steps_were_done_since(
    tmp_path: Path, assigned: str, step: Callable[[Place, QuarantineRecord], None], said: str
) -> None:
    with closing(Place(tmp_path, "newest")) as place:
        place.take([put("a", -1), put("b", -1)])
        one, _ = place.records()
        place.ask("fix", one, set={"amount": "-2"})
        with place.journal.changing() as db:
            db.execute(f"update quarantine set {assigned} where ordinal = {one.ordinal}")
        place.journal.commit_beside()
        step(place, one)
    found = _checked(tmp_path).findings
    assert {finding.record for finding in found} == {one.id}
    assert any(said in finding.what for finding in found), found


def test_a_record_that_is_gone_or_that_nothing_held_back_is_found_though_no_step_touched_it(tmp_path: Path) -> None:
    with opened(tmp_path) as writer:
        writer.quarantine([record(writer.id, ordinal) for ordinal in (1, 2, 3)])
        writer.commit(SOURCE, "w")
        id = writer.id
    with _file(tmp_path) as db:
        gone = _by_hand(db, "delete from quarantine where ordinal = 2")
        columns = ", ".join(name for name in (evidence.SALT, *COLUMNS_OF_RECORDS) if name != "ordinal")
        forged = _by_hand(db, f"insert into quarantine (ordinal, {columns}) select 9, {columns} from quarantine where ordinal = 1")
        moved = _by_hand(db, "update quarantine set ordinal = 9 where ordinal = 3")
        emptied = _by_hand(db, "delete from quarantine")
    assert gone == [Finding("the record is gone, and line 1 tells of it", record=f"{id[:8]}-2")]
    assert forged == [Finding("no line of the trail says that the record came into quarantine", record=f"{id[:8]}-9")]
    assert {one.record for one in moved} == {f"{id[:8]}-3", f"{id[:8]}-9"}
    assert len(emptied) == 3


def test_steps_with_more_records_than_a_line_tells_of_are_found_out_likewise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_trail, "MOST_RECORDS", 2)
    with closing(Place(tmp_path, "newest")) as place:
        place.take([put(key, -1) for key in "abcde"])
        records = place.records()
        place.ask("fix", *records, set={"amount": "-2"})
        place.ask("approve", *records, by="bo@example.com")
        place.ask("replay", *records)
    found = _checked(tmp_path)
    assert (found.findings, found.n) == ([], 15)
    with _file(tmp_path) as db:
        for one in records:
            edited = _by_hand(db, f"update quarantine set raw = '{{}}' where ordinal = {one.ordinal}")
            assert [finding.record for finding in edited] == [one.id]


def test_what_was_forgotten_cannot_be_guessed_from_the_trail(tmp_path: Path) -> None:
    with closing(Place(tmp_path, "newest")) as place:
        place.take([put("a", -1)])
        with _file(tmp_path) as db:
            (salt, *content), told = _row(db), _digests(db)
            assert evidence.digest(salt, content) == told[0]
        _erase(place, 1)
        with _file(tmp_path) as db:
            (now, *_), told = _row(db), _digests(db)
        assert (now != salt, len(told), told[0] != told[1]) == (True, 2, True)
        assert _checked(tmp_path).findings == []
    for path in tmp_path.glob("journal.db*"):
        assert salt not in path.read_bytes()


def _row(db: sqlite3.Connection) -> tuple[Any, ...]:
    found: tuple[Any, ...] = db.execute(f"select {evidence.SALT}, {', '.join(evidence.CONTENT)} from quarantine").fetchone()
    return found


def _digests(db: sqlite3.Connection) -> list[bytes]:
    rows = db.execute("select json_extract(detail, '$.content') from audit order by n")
    return [base64.b64decode(text) for (text,) in rows if text is not None]


def test_a_trail_that_was_cut_or_emptied_is_found_by_what_is_kept_of_it(tmp_path: Path) -> None:
    with opened(tmp_path) as writer:
        for ordinal in (1, 2, 3):
            writer.quarantine([record(writer.id, ordinal)])
            writer.commit(SOURCE, "w")
        with writer.view() as db:
            head = audit_trail.head(db)
            older = db.execute("select n, hash from audit where n = 2").fetchone()
    assert _checked(tmp_path, head, Head(*head)).findings == []
    assert _checked(tmp_path, older, Head(None, older[1])).findings == []
    assert _checked(tmp_path, (2, head[1])).findings[0].what == "the trail was cut or written anew: line 2 is another one than it was"
    cuts = {
        "delete from audit where n = 3": "it ends at line 2, and had 3 lines",
        "delete from audit": "it ends at line 0, and had 3 lines",
    }
    for statement, said in cuts.items():
        with _file(tmp_path) as db:
            db.execute("begin")
            db.execute("drop trigger audit_is_never_cut")
            db.execute(statement)
            db.execute("delete from quarantine where ordinal > (select count(*) from audit)")  # which would tell of it
            assert check(db).findings == []
            assert [one.what.partition(": ")[2] for one in check(db, head).findings] == [said]
            assert [one.what.partition(": ")[2] for one in check(db, None, Head(*head)).findings] == [said]
            assert check(db, None, Head(None, head[1])).findings[0].what.endswith(f"no line has the hash {head[1]}")
            db.execute("rollback")


@pytest.mark.parametrize("text", ["", "3", "3:", ":", "x:" + "0" * 64, ":" + "0" * 64, "0" * 63, "-1:" + "0" * 64])
def test_what_is_no_head_of_a_trail_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not the head of an audit trail"):
        Head.read(text)


def test_a_head_is_read_with_and_without_its_number() -> None:
    assert Head.read(" 12:" + "A" * 64) == Head(12, "a" * 64)
    assert Head.read("a" * 64) == Head(None, "a" * 64)


def test_ingest_keeps_how_far_the_trail_is_though_nobody_asks_for_anything(tmp_path: Path) -> None:
    with closing(Place(tmp_path, "newest")) as place:
        requests = place.requests()
        place.take([put("a", -1)])
        requests.work(0.0)
        assert place.kept_head() == (1, _checked(tmp_path).hash)
        place.take([put("b", -1)])
        requests.work(0.0)
        requests.close()
        assert place.kept_head() == (2, _checked(tmp_path).hash)


def test_a_trail_that_was_cut_is_found_though_ingest_has_gone_on_since(tmp_path: Path) -> None:
    with closing(Place(tmp_path, "newest")) as place:
        for key in "abc":
            place.take([put(key, -1)])
        place.requests().close()
    with _file(tmp_path) as db:
        for statement in ("drop trigger audit_is_never_cut", "delete from audit where n > 1", "delete from quarantine where ordinal > 1"):
            db.execute(statement)
    with closing(Place(tmp_path, "newest")) as place:
        for key in "defg":
            place.take([put(key, -1)])
            place.requests().close()
        found = _checked(tmp_path, place.kept_head())
    assert [one.what for one in found.findings] == ["the trail was cut or written anew: line 3 is another one than it was"]


def _before_digests(folder: Path) -> None:
    """The journal as it was when the trail did not tell how records came."""
    with _file(folder) as db:
        db.execute("drop trigger audit_is_never_cut")
        db.execute("delete from audit")
        db.execute(f"alter table quarantine drop column {evidence.SALT}")


def test_records_of_before_there_were_digests_are_told_so_and_found_where_they_come_or_go_from_then_on(tmp_path: Path) -> None:
    with closing(Place(tmp_path, "newest")) as place:
        place.take([put("a", -1), put("b", -1)])
    _before_digests(tmp_path)
    pipeline = load_pipeline(tmp_path / "pipeline.yaml")
    with open_writer(pipeline):
        pass
    found = _checked(tmp_path)
    assert (found.findings, found.before_digests, found.records) == ([], 2, 2)
    with open_writer(pipeline) as writer, writer.view() as db:
        assert audit_trail.head(db)[0] == 1  # told once
    with closing(Place(tmp_path, "newest")) as place:
        place.take([put("c", -1)])
        one, _, new = place.records()
        place.ask("fix", one, set={"amount": "1"})
    found = _checked(tmp_path)
    assert (found.findings, found.before_digests) == ([], 1)
    with _file(tmp_path) as db:
        for name, statement in (
            (one.id, f"update quarantine set patch = null where ordinal = {one.ordinal}"),
            (new.id, f"update quarantine set raw = '{{}}' where ordinal = {new.ordinal}"),
            (one.id, f"delete from quarantine where ordinal = {one.ordinal}"),
        ):
            assert name in [finding.record for finding in _by_hand(db, statement)]


@pytest.mark.parametrize(
    "detail",
    [
        "[]",
        '{"ordinals": "1-9000000000000000"}',
        '{"ordinals": "99999999999999999999999"}',
        '{"ordinals": "x"}',
        '{"ordinals": "1", "content": "!"}',
        '{"ordinals": "1", "ended": "never"}',
        '{"ordinals": ["1"], "request": {}}',
    ],
)
def test_a_line_that_no_step_wrote_is_told_and_stops_nothing(tmp_path: Path, detail: str) -> None:
    with opened(tmp_path) as writer:
        writer.quarantine([record(writer.id, 1)])
        writer.commit(SOURCE, "w")
        with writer.view() as db:
            n, of = audit_trail.head(db)
    line = audit_trail.Line(n + 1, 1.0, "ann", "ann", "discard", "orders", 1, 1, 1, {}, of, "")
    with _file(tmp_path) as db:
        line = replace(line, detail=json.loads(detail))
        values = (line.n, 1.0, "ann", "ann", "discard", "orders", 1, 1, 1, detail, of, line.expected)
        db.execute(f"insert into audit values ({', '.join('?' * len(values))})", values)
        assert (n + 1, "the line cannot be read") in [(one.line, one.what) for one in check(db).findings]
