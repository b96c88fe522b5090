"""What a dataset has to keep as a whole: that nothing was lost, that it is fresh, how much is delivered. No engine has to be asked."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Protocol
from unittest.mock import Mock

import pytest

from dataflows.lookup_query import parse_enrichment
from journal.batch import ChangeBatch, Op
from journal.schema import Column, TableSchema
from pipeline.errors import TransientError
from tests.audit_place import AuditPlace

BODY = """\
    properties:
      - {name: id, logicalType: integer, primaryKey: true}
      - {name: amount, logicalType: integer, quality: [{id: positive, type: sql, query: amount > 0, mustBe: true}]}
    customProperties:
      - {property: audit, value: {window: 10}}
"""
TYPES = {"id": "bigint", "amount": "integer"}


class MakePlace(Protocol):
    def __call__(self, body: str = BODY, tail: str = "") -> AuditPlace: ...


@pytest.fixture
def make_place(tmp_path: Path) -> Iterator[MakePlace]:
    made: list[AuditPlace] = []

    def make(body: str = BODY, tail: str = "") -> AuditPlace:
        made.append(AuditPlace(tmp_path, body, TYPES, tail=tail))
        return made[-1]

    yield make
    for place in made:
        assert place.asked == 0, "Great Expectations is not loaded for rules that it does not know"
        place.close()


def orders(place: AuditPlace, first: int, *amounts: int, at: float | None = None) -> ChangeBatch:
    return place.batch([[str(first + n), str(amount)] for n, amount in enumerate(amounts)], at=at)


def test_every_change_is_in_one_window_and_the_audit_goes_on_where_it_was(make_place: MakePlace) -> None:
    place = make_place()
    for n in range(7):
        place.send(orders(place, n * 10, *range(1, 5), -1))
    left = iter([True, False])
    first = place.audit(go_on=lambda: next(left))
    assert (first.windows, first.changes) == (1, 15), "three entries of four, and what was held back among them"
    rest = place.audit()
    assert (rest.windows, rest.changes) == (2, 20)
    assert (place.audit().windows, place.audit(again=True).windows) == (0, 1)
    place.again()
    place.send(orders(place, 100, 5))
    assert (place.audit().windows, place.incidents()) == (1, {})
    known = place.audits.place("orders")
    assert known is not None
    assert (known.passed, known.unaudited) == (29, 0)


def test_rows_that_are_all_held_back_are_looked_at_too(make_place: MakePlace) -> None:
    place = make_place()
    place.send(orders(place, 1, 1))
    place.audit()
    place.send(orders(place, 2, -1, -2))
    assert place.audit().changes == 2
    assert place.audit().changes == 0
    assert place.lines()["positive"].failed == 2


def test_changes_that_were_gone_before_they_could_be_audited_are_counted(make_place: MakePlace) -> None:
    place = make_place()
    place.send(orders(place, 1, 1, 2, 3))
    place.audit()
    place.send(orders(place, 10, 4, 5, -1))
    place.send(orders(place, 20, 6, 7, 8))
    assert place.journal.prune(2) == 2
    place.audit()
    incident = place.incidents()["unaudited", ""]
    assert (incident.detail["changes"], incident.detail["so_far"]) == (2, 2)
    place.send(orders(place, 30, 9))
    assert place.audit().unaudited == 2
    assert place.incidents() == {}


def test_what_was_gone_before_the_first_audit_is_no_incident(make_place: MakePlace) -> None:
    place = make_place()
    place.send(orders(place, 1, 1, 2, 3))
    place.send(orders(place, 10, 4))
    place.journal.prune(1)
    assert place.audit().unaudited == 3
    assert place.incidents() == {}


@pytest.mark.parametrize(
    "tampered, lacking", [("delete from entry where seq = 1", 0), ("update ledger set rows = rows + 2 where rule = ''", 2)]
)
def test_a_ledger_that_does_not_add_up_with_the_entries_is_an_incident(make_place: MakePlace, tampered: str, lacking: int) -> None:
    place = make_place()
    place.send(orders(place, 1, 1, 2, 3))
    place.send(orders(place, 10, 4, -5))
    with closing(sqlite3.connect(place.pipeline.state / "journal.db")) as db:
        db.execute(tampered)
        db.commit()
    place.audit()
    found = place.incidents()
    assert {kind for kind, _ in found} == ({"counts"} if lacking else set())
    if lacking:
        assert found["counts", ""].detail["changes"] == lacking


def test_freshness_is_told_of_when_nothing_comes_any_more(make_place: MakePlace) -> None:
    place = make_place(tail="slaProperties:\n  - {property: freshness, value: 1, unit: h}\n")
    now = time.time()
    place.audit(now)
    place.send(orders(place, 1, 1, at=now - 3000))
    place.audit(now)
    assert place.incidents() == {}
    place.audit(now + 1200)
    incident = place.incidents()["freshness", "freshness"]
    assert incident.detail["promised"] == 3600
    assert "1.17 h" not in incident.detail["message"]
    assert incident.detail["message"] == "the newest change was committed 70 min ago; 60 min are promised"
    place.send(orders(place, 2, 2, at=now + 1100))
    place.audit(now + 1200)
    assert place.incidents() == {}


def test_latency_and_completeness_are_told_of(make_place: MakePlace) -> None:
    promised = "slaProperties:\n  - {property: latency, value: 10, unit: min}\n  - {property: completeness, value: 80, unit: percent}\n"
    place = make_place(tail=promised)
    place.send(orders(place, 1, 1, 2, -3, at=time.time() - 1200))
    place.audit()
    found = place.incidents()
    assert {kind for kind, _ in found} == {"latency", "completeness"}
    assert found["completeness", "completeness"].detail["message"] == "66.67% of the changes of a day were delivered; 80.00% are promised"
    place.send(orders(place, 10, *range(1, 10)))
    place.audit()
    assert place.incidents() == {}


def test_updates_that_carry_part_of_a_row_and_deletes_are_counted_as_they_are(make_place: MakePlace) -> None:
    place = make_place()
    place.send(place.batch([["1", "1"], ["2", "2"]]))
    place.send(place.batch([["1", "3"], ["2", None]], [Op.UPDATE, Op.DELETE]), place.batch([[None, None]], Op.TRUNCATE))
    assert (place.audit().changes, place.incidents()) == (5, {})


def test_an_audit_that_dies_before_its_place_is_kept_is_made_again(make_place: MakePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    place = make_place(
        BODY.replace("    customProperties", "    quality: [{id: many, metric: rowCount, mustBeGreaterThan: 9}]\n    customProperties")
    )
    place.send(orders(place, 1, 1, 2, -3))
    with monkeypatch.context() as patched:
        patched.setattr(place.audits, "keep", Mock(side_effect=TransientError("the disk is full")))
        with pytest.raises(TransientError, match="the disk is full"):
            place.audit()
    assert place.audit().changes == 3
    incident = place.incidents()["rule", "many"]
    assert incident.count == 2
    known = place.audits.place("orders")
    assert known is not None
    assert known.passed == 2


def test_rows_of_two_shapes_are_one_set_and_huge_values_are_cut_off(make_place: MakePlace) -> None:
    longest = "{id: longest, type: sql, query: 'SELECT max(note) FROM orders', mustBe: a}"
    body = BODY.replace(
        "    customProperties", f"    quality: [{{id: five, metric: rowCount, mustBe: 5}}, {longest}]\n    customProperties"
    )
    place = make_place(body.replace("      - {name: amount", "      - {name: note, logicalType: string}\n      - {name: amount"))
    amount = place.schema.columns[1]
    place.schema = TableSchema("orders", (place.schema.columns[0], amount, Column("note", "text", 3)), ("id",))
    place.send(place.batch([["1", "1", "x" * 5000], ["2", "2", None]]))
    place.schema = TableSchema("orders", (place.schema.columns[0], Column("other", "text", 4), Column("note", "text", 3), amount), ("id",))
    place.send(place.batch([["3", "y", "c", "1"], ["4", "y", None, "2"], ["5", None, None, "3"]]))
    place.audit()
    assert set(place.incidents()) == {("rule", "longest")}
    assert len(str(place.incidents()["rule", "longest"].detail)) < 2500
    assert place.lines()["five"].verdict == "passes"


@pytest.mark.parametrize(
    "select, taken",
    [
        ("input.*, p.name AS product FROM input LEFT JOIN products AS p ON p.id = input.product", "id amount"),
        ("i.id, p.amount FROM input i LEFT JOIN products AS p ON p.id = i.product", "id"),
        ("id, upper(amount) AS amount FROM input", "id"),
        ("* EXCLUDE (amount), amount + 1 AS amount FROM input", ""),
        ("input.*, 1 AS amount FROM input", "id product"),
        ("amount AS id, input.amount FROM input", "amount"),
    ],
)
def test_of_a_dataset_that_is_enriched_those_columns_are_judged_that_are_taken_as_they_are(select: str, taken: str) -> None:
    read = parse_enrichment(f"SELECT {select}", Path("enrich.sql"), {"products": ("id",)})
    assert read.passed_through(["id", "amount", "product"]) == set(taken.split())
