"""Which contract judged a change is known for good, however often the contract changes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dataflows.given import resume_from
from dataflows.judged_by import Judged, JudgedBy, judged_by, read
from journal.known import Known
from tests.journal_cases import SOURCE, changes


def _contract(version: str) -> Any:
    return SimpleNamespace(id="orders-contract", version=version, fingerprint=f"rules of {version}")


def _run(notes: dict[str, str], first: int, version: str | None) -> dict[str, str]:
    """One process of ingest, whose notes are committed."""
    made = JudgedBy(first, {} if version is None else {"orders": _contract(version)}, {SOURCE: notes}.__getitem__)
    found = made.note(changes(first, 2))
    assert made.note(changes(first + 2, 2)) == {}, "it is said once"
    notes |= found
    return found


def test_a_contract_is_noted_where_it_changes_and_only_there() -> None:
    notes: dict[str, str] = {}
    assert _run(notes, 1, None) == {}
    for first, version in ((10, "1.0.0"), (20, "1.0.0"), (30, "1.1.0"), (40, None), (50, "1.0.0")):
        assert bool(_run(notes, first, version)) == (first != 20)
    assert [(line.ordinal, line.version) for line in read(notes, "orders")] == [(10, "1.0.0"), (30, "1.1.0"), (40, None), (50, "1.0.0")]
    found = [judged_by(notes, "orders", ordinal) for ordinal in (9, 10, 29, 30, 45, 99)]
    assert [one and one.version for one in found] == [None, "1.0.0", "1.0.0", "1.1.0", None, "1.0.0"]
    assert found[0] is None, "before it was noted"
    assert found[4] == Judged(40), "by none"
    assert judged_by(notes, "lines", 10) is None


def test_of_very_many_contracts_the_last_ones_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataflows.judged_by._MOST", 3)
    notes: dict[str, str] = {}
    for number in range(1, 7):
        _run(notes, number * 10, f"1.{number}.0")
    assert [line.ordinal for line in read(notes, "orders")] == [40, 50, 60]


def test_a_source_that_resumes_gets_back_its_own_notes_alone() -> None:
    notes = {"file 1": "its own"}
    _run(notes, 1, "1.0.0")
    assert len(notes) == 2
    known = Known("w", frozenset(), frozenset(), {}, notes)
    assert resume_from(known).notes == {"file 1": "its own"}
