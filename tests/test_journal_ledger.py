"""Counts and quarantine in the journal: they are committed with the changes they speak of, and add up for ever."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from journal import ledger
from journal.ledger import Tally
from journal.local import JournalWriter
from journal.quarantine import Reason, Wanted, from_row, key_text, record_id, shape_of, texts_of_keys, to_row
from journal.sealing import Seal
from tests.journal_cases import SOURCE, changes, everything, opened, ordinals, reading, record, write

DAY = 86_400

SEAL = Seal(Path("nowhere"))  # which nothing here needs


def count(
    writer: JournalWriter, rows: int, *, quarantined: int = 0, dropped: int = 0, dataset: str = "orders", source: str = SOURCE
) -> None:
    first = writer.next_ordinal
    writer.count(
        dataset,
        source=source,
        rows=rows,
        quarantined=quarantined,
        dropped={"amount-positive": dropped} if dropped else {},
        warned={"email-shape": 1},
        failed={"amount-positive": dropped + quarantined, "email-shape": 1},
        evaluated={"email-shape": rows},
        first_ordinal=first,
        last_ordinal=first + rows - 1,
        times=(first * 10, (first + rows - 1) * 10),
    )


def test_counts_add_up_over_batches_commits_and_sources(tmp_path: Path) -> None:
    with opened(tmp_path) as writer, reading(tmp_path) as reader:
        count(writer, 10, quarantined=2, dropped=1)
        count(writer, 5)
        writer.commit(SOURCE, "w")
        count(writer, 7, dropped=3, source="aws")
        count(writer, 2, dataset="lines")
        writer.commit("aws", "w")
        assert reader.totals() == {
            "lines": Tally(2, first_ordinal=23, last_ordinal=24, first_time=230, last_time=240),
            "orders": Tally(22, 2, 4, first_ordinal=1, last_ordinal=22, first_time=10, last_time=220),
        }
        rules = reader.rule_totals("orders")
        assert {name: (t.evaluated, t.failed, t.warned, t.dropped) for name, t in rules.items()} == {
            "amount-positive": (0, 6, 0, 4),
            "email-shape": (22, 3, 3, 0),
        }


def test_counts_of_what_was_rolled_back_are_not_counted(tmp_path: Path) -> None:
    with opened(tmp_path) as writer, reading(tmp_path) as reader:
        count(writer, 10)
        writer.rollback()
        count(writer, 3)
        writer.commit(SOURCE, "w")
        assert reader.totals()["orders"].rows == 3


def test_minutes_long_past_become_hours_and_nothing_is_lost(tmp_path: Path) -> None:
    start = 1_700_000_000 // DAY * DAY
    with opened(tmp_path) as writer, reading(tmp_path) as reader:
        book = ledger.Ledger()
        draw = random.Random(5)
        rows = Counter[int]()
        writer._db.execute("begin")
        for minute in range(0, 30 * 24 * 60, 13):
            number = draw.randrange(1, 9)
            rows[minute // 60] += number
            book.count("orders", SOURCE, number, 1, (minute + 1, minute + 2), (minute, minute), {"dropped": {}, "failed": {"r": 1}})
            book.write(writer._db, start + minute * 60)
        writer._db.execute("commit")
        before = (reader.totals(), reader.rule_totals("orders"))
        lines = len(reader.minutes("orders", 0))
        for now in (start + 30 * DAY, start + 30 * DAY + 3600, start + 30 * DAY + 3600):
            writer._db.execute("begin")
            ledger.coarsen(writer._db, now)
            writer._db.execute("commit")
        assert (reader.totals(), reader.rule_totals("orders")) == before
        found = reader.minutes("orders", 0)
        assert len(found) < lines / 2
        hours = Counter[int]()
        for line in found:
            hours[(line.start - start) // 3600] += line.tally.rows
        assert hours == rows
        assert len(reader.minutes("orders", start + 29 * DAY)) == pytest.approx(24 * 60 / 13, abs=1)
        assert reader.minutes("orders", start, "r")[0].tally.failed > 1


def test_the_ledger_is_coarsened_by_pruning(tmp_path: Path) -> None:
    with opened(tmp_path) as writer, reading(tmp_path) as reader:
        book = ledger.Ledger()
        writer._db.execute("begin")
        for minute in range(60):
            book.count("orders", SOURCE, 1, 0, (1, 1), None, {"dropped": {}})
            book.write(writer._db, 1_700_000_000 // 3600 * 3600 + minute * 60)
        writer._db.execute("commit")
        writer.prune(None)
        [line] = reader.minutes("orders", 0)
        assert line.tally.rows == 60


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    with opened(tmp_path) as writer, reading(tmp_path) as reader:
        held = [record(writer.id, 1), record(writer.id, 2, value=None)]
        writer.quarantine(held)
        writer.commit(SOURCE, "w")
        assert reader.quarantined(Wanted()) == held
        assert reader.record(held[1].id) == held[1]
        for unknown in ("", "x", "a-b", f"{writer.id[:8]}-3", f"{writer.id[:8]}-{10**30}", "00000000-1", held[0].id + "-eu"):
            assert reader.record(unknown) is None


def test_records_are_there_with_their_changes_or_not_at_all(tmp_path: Path) -> None:
    with opened(tmp_path) as writer, reading(tmp_path) as reader:
        writer.quarantine([record(writer.id, 1)])
        assert reader.open_quarantine() == {}
        writer.rollback()
        writer.quarantine([record(writer.id, 1, value="7")])
        writer.append(changes(2))
        writer.commit(SOURCE, "w")
        assert reader.open_quarantine() == {"orders": 1}
        assert reader.quarantined(Wanted())[0].reasons[0].value == "7"
        assert reader.quarantined_keys("orders") == [{"id": "1"}]
        assert reader.quarantined_keys("lines") == []


def test_records_are_listed_in_pages_and_by_what_they_are(tmp_path: Path) -> None:
    with opened(tmp_path) as writer, reading(tmp_path) as reader:
        for ordinal in range(1, 301):
            writer.quarantine([record(writer.id, ordinal, value=str(ordinal) if ordinal % 3 else None)])
        writer.commit(SOURCE, "w")
        group = record(writer.id, 3, value=None).group
        found: list[int] = []
        while page := reader.quarantined(Wanted(dataset="orders", status="open"), after=found[-1] if found else 0, limit=70):
            found += [one.ordinal for one in page]
        assert found == [*range(1, 301)]
        assert [one.ordinal for one in reader.quarantined(Wanted(group=group), after=6, limit=2)] == [9, 12]
        assert reader.quarantined(Wanted(dataset="lines")) == []
        assert reader.quarantined(Wanted(status="resolved")) == []


def test_messages_that_cannot_be_read_for_different_reasons_have_different_causes(tmp_path: Path) -> None:
    said = [
        "is not JSON: Input data was truncated",
        "the event has no id",
        'expected bigint, got a string ("1")',
        "expected bigint, got null",
    ]
    with opened(tmp_path) as writer, reading(tmp_path) as reader:
        for ordinal in range(1, 9):
            reason = Reason("undecodable", None, said[ordinal % 4], None)
            writer.quarantine([structs.replace(record(writer.id, ordinal), reasons=[reason])])
        writer.commit(SOURCE, "w")
        assert sorted((cause.reason.message, cause.records) for cause in reader.causes("orders")) == [
            (said[2], 4),  # what was got instead is one record's
            (said[0], 2),
            (said[1], 2),
        ]


def test_causes_are_counted_the_most_frequent_first(tmp_path: Path) -> None:
    with opened(tmp_path) as writer, reading(tmp_path) as reader:
        values = ["-1", "-22", None, "-3.5", "-4.25", "-5"]
        writer.quarantine([record(writer.id, n, value=value) for n, value in enumerate(values, 1)])
        writer.commit(SOURCE, "w")
        causes = reader.causes("orders")
        assert [(cause.pattern, cause.records) for cause in causes] == [("-9", 3), ("-9.9", 2), ("null", 1)]
        assert causes[0].group == record(writer.id, 1).group
        assert causes[0].reason == Reason("amount-positive", "amount", "is not positive", "-1")
        assert (causes[0].first_at, causes[0].last_at) == (1_700_000_001.5, 1_700_000_006.5)
        assert reader.causes("lines") == []
        assert reader.causes() == causes


def test_a_million_records_would_be_found_by_index(tmp_path: Path) -> None:
    with opened(tmp_path) as writer:
        plan = " ".join(
            str(row)
            for row in writer._db.execute(
                "explain query plan select ordinal from quarantine where ordinal > 5 and dataset = 'orders'"
                " and status = 'open' and cause = 'x' order by ordinal limit 10"
            )
        )
        assert "COVERING INDEX quarantine_by_cause (cause=? AND status=? AND dataset=? AND rowid>?)" in plan
        assert "TEMP B-TREE" not in plan


def test_ids_are_those_of_the_change() -> None:
    assert record_id("0123456789", 42) == "01234567-42"
    assert record_id("0123456789", 42, "eu") == "01234567-42-eu"


@pytest.mark.parametrize(
    "value, shape",
    [
        (None, "null"),
        ("", "empty"),
        ("-12.50", "-9.9"),
        ("Jürgen@example.com", "a@a.a"),
        ("2024-01-31 12:00:00+00", "9-9-9 9:9:9+9"),
        ("  x \t y", " a a"),
        ("x_1", "a_9"),
        ("漢字", "a"),
    ],
)
def test_the_shape_of_a_value(value: str | None, shape: str) -> None:
    assert shape_of(value) == shape


@given(st.text())
def test_any_value_has_a_short_shape(value: str) -> None:
    assert 0 < len(shape_of(value)) <= 41


@given(st.dictionaries(st.text(), st.none() | st.text() | st.binary()), st.none() | st.dictionaries(st.text(), st.none() | st.text()))
def test_any_values_come_back(raw: dict[str, str | bytes | None], before: dict[str, str | None] | None) -> None:
    meant = structs.replace(record("0123456789", 1), raw=raw, before=before)
    assert from_row(to_row(meant, SEAL), SEAL) == meant


def test_conservation_holds_after_many_commits(tmp_path: Path) -> None:
    draw = random.Random(3)
    with opened(tmp_path) as writer, reading(tmp_path) as reader:
        for _ in range(50):
            if draw.random() < 0.3:
                count(writer, 4, quarantined=1, dropped=3)
                writer.quarantine([record(writer.id, writer.next_ordinal - 4)])
            if draw.random() < 0.3:
                writer.rollback()
            write(writer, draw.randrange(1, 20))
        total = reader.totals()["orders"]
        delivered = len(ordinals(everything(reader)))
        assert total.rows == delivered + total.quarantined + total.dropped
        assert total.quarantined == reader.open_quarantine().get("orders", 0) > 0


@given(st.dictionaries(st.text(), st.none() | st.text(), min_size=1, max_size=2))
def test_the_text_of_a_key_is_that_of_json(key: dict[str, str | None]) -> None:
    assert key_text(key) == json.dumps(key)


_VALUES = st.none() | st.text() | st.text("aZ09-_ %{}~")


@given(st.lists(st.text() | st.sampled_from(["id", "100%", "%s"]), unique=True, min_size=1, max_size=2), st.data())
def test_the_texts_of_many_keys_are_those_of_each(names: list[str], data: st.DataObject) -> None:
    keys = data.draw(st.lists(st.tuples(*(_VALUES for _ in names)), max_size=4))
    texts = texts_of_keys(names, [[key[column] for key in keys] for column in range(len(names))])
    assert texts == [key_text(dict(zip(names, key, strict=True))) for key in keys]
