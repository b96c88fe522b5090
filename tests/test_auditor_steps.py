"""The auditor asks rules that compare a change with the one before it again, where it knows for certain what was before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journal.batch import ChangeBatch, CopyMarker, Op
from tests.audit_place import AuditPlace
from tests.history_place import HISTORIES, RULE_SETS, Event, RuleSet, Table, contract

_BODY = """\
    properties:
      - {{name: id, logicalType: integer, primaryKey: true}}
      - name: status
        logicalType: string
        quality: [{{id: known, metric: invalidValues, arguments: {{pattern: '^[a-z]*$'}}, mustBe: 0}}]
      - {{name: owner, logicalType: string{secret}}}
    quality:
      - id: steps
        type: custom
        engine: sluice
        implementation: {{type: transition, column: status, allowed: [{{from: a, to: b}}, {{from: b, to: c}}]}}
      - {{id: stays, type: custom, engine: sluice, implementation: {{type: immutable, column: owner}}{more}}}
{there}    customProperties:
      - {{property: audit, value: {{every: 5s, window: 50, sample: 0}}}}
"""
_TYPES = {"id": "bigint", "status": "text", "owner": "text"}
_WARN = ", customProperties: [{property: action, value: warn}]"


_THERE = "      - {id: there, type: custom, engine: sluice, implementation: {type: references, column: owner, lookup: people}}\n"


def _body(*, more: str = "", secret: str = "", there: str = "") -> str:
    return _BODY.format(more=more, secret=secret, there=there)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[AuditPlace]:
    made = AuditPlace(tmp_path, _body(), _TYPES)
    yield made
    made.close()


def _send(place: AuditPlace, *changes: tuple[Op, str, str | None, str | None], old: list[list[str | None]] | None = None) -> None:
    batch = place.batch([[key, status, owner] for _, key, status, owner in changes], [op for op, *_ in changes])
    place.send(batch if old is None else _with_old(batch, old))


def _with_old(batch: ChangeBatch, old: list[list[str | None]]) -> ChangeBatch:
    columns: Any = {c: pa.array([row[c] for row in old], pa.string()) for c in range(3)}
    return replace(batch, old=columns, has_old=np.array([row[0] is not None for row in old]))


def _line(place: AuditPlace, rule: str) -> tuple[str, int, int, object]:
    line = place.lines()[rule]
    return line.verdict, line.rows, line.failed, (line.observed or {}).get("not_judged")


def test_a_gate_that_forgets_what_a_row_was_is_found(place: AuditPlace) -> None:
    _send(place, (Op.INSERT, "1", "a", "x"), (Op.INSERT, "2", "a", "x"))
    _send(place, (Op.UPDATE, "1", "c", "x"), (Op.UPDATE, "2", "b", "x"), (Op.UPDATE, "3", "c", "x"))
    place.audit()
    assert _line(place, "steps") == ("differs", 2, 1, 1), "of the third row nobody knows what it was before"
    assert _line(place, "stays") == ("agrees", 2, 0, 1)
    (incident,) = place.incidents().values()
    assert (incident.kind, incident.rule) == ("gate", "steps")
    (row,) = incident.detail["rows"]
    assert (row["key"], row["values"], row["gate"], row["ours"]) == ({"id": "1"}, {"status": "c"}, "passes", "fails")
    place.again(remembers=True)
    _send(place, (Op.INSERT, "9", "a", "x"))
    _send(place, (Op.UPDATE, "9", "b", "x"))
    place.audit()
    assert place.incidents() == {}


def test_a_correct_gate_gives_no_incident_whatever_it_holds_back(place: AuditPlace) -> None:
    place.again(remembers=True)
    _send(place, (Op.INSERT, "1", "a", "x"), (Op.UPDATE, "1", "c", "x"), (Op.UPDATE, "1", "b", "x"), (Op.UPDATE, "1", "c", None))
    _send(place, (Op.UPDATE, "1", "c", "x"), (Op.DELETE, "1", None, None), (Op.INSERT, "1", "a", "y"), (Op.UPDATE, "1", "Z", "y"))
    _send(place, (Op.UPDATE, "1", "b", "y"), old=[["1", "Z", "y"]])
    place.audit()
    assert place.incidents() == {}
    assert _line(place, "steps") == ("agrees", 4, 0, None)


def test_the_old_row_of_the_log_counts_only_where_nothing_was_ever_held_back(place: AuditPlace) -> None:
    _send(place, (Op.UPDATE, "1", "c", "x"), (Op.UPDATE, "2", "b", "x"), old=[["1", "a", "x"], ["2", "a", "x"]])
    place.audit()
    assert _line(place, "steps") == ("differs", 2, 1, None)
    _send(place, (Op.UPDATE, "3", "Z", "x"))
    _send(place, (Op.UPDATE, "4", "c", "x"), old=[["4", "a", "x"]])
    place.audit(window=1)
    assert _line(place, "steps") == ("left-out", 0, 0, 1)


def test_what_was_judged_by_another_contract_or_came_before_a_copy_is_compared_with_nothing(place: AuditPlace) -> None:
    _send(place, (Op.INSERT, "1", "a", "x"), (Op.INSERT, "2", "a", "x"))
    place.again(_body(more=_WARN), remembers=True)
    _send(place, (Op.UPDATE, "1", "c", "x"))
    place.audit()
    assert place.incidents() == {}
    place.again(_body())
    _send(place, (Op.INSERT, "5", "a", "x"))
    place.send(CopyMarker(place.schema, "db", "public.orders", "end", 0))
    _send(place, (Op.UPDATE, "5", "c", "x"))
    place.audit()
    assert place.incidents() == {}


def test_a_warning_is_no_fault_of_the_gate_and_values_are_masked(tmp_path: Path) -> None:
    place = AuditPlace(tmp_path, _body(more=_WARN, secret=", classification: confidential"), _TYPES)
    _send(place, (Op.INSERT, "1", "a", "x"), (Op.UPDATE, "1", "a", "y"), (Op.UPDATE, "1", "c", "y"))
    place.audit()
    assert _line(place, "stays") == ("agrees", 2, 1, None)
    assert list(place.incidents()) == [("gate", "steps")]
    place.close()


def test_references_are_named_as_not_judged(tmp_path: Path) -> None:
    place = AuditPlace(tmp_path, _body(there=_THERE), _TYPES, lookups="lookups: {people: {source: db.public.people, key: [name]}}\n")
    _send(place, (Op.INSERT, "1", "a", "x"))
    place.audit()
    assert place.lines()["there"].verdict == "left-out"
    assert place.lines()["there"].observed == {"not_judged": "a lookup may hold something else now than it did then"}
    place.close()


@settings(max_examples=15, deadline=None)
@given(HISTORIES, RULE_SETS, st.booleans(), st.sampled_from([1, 2, 10]), st.sampled_from([3, 50]))
def test_whatever_happens_to_rows_a_correct_gate_gives_no_incident(
    tmp_path_factory: pytest.TempPathFactory, history: list[list[Event]], rules: RuleSet, full: bool, every: int, window: int
) -> None:
    text = contract("^[a-zZ]*$", rules)
    types = {"id": "bigint", "status": "text", "owner": "text", "n": "bigint"}
    place = AuditPlace(tmp_path_factory.mktemp("audit"), text, types)
    table = Table(full)
    for number, events in enumerate(history):
        place.again(remembers=True)
        place.send(*(replace(one, source="db") for one in table.send(events)))
        if number % every == 0:
            place.audit(window=window)
    place.audit(window=window)
    assert [one for one in place.incidents() if one[0] == "gate"] == []
    place.close()
