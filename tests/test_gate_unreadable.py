"""The gate and rows of which nothing, or not everything, could be read: what a message had to hold, and what may be told of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from journal.batch import ChangeBatch, Defect
from quality.contract_reading import load_contract
from quality.gate import Gate
from quality.judgement import MASKED, UNDECODABLE
from tests.contract_text import one_column, write_contract
from tests.test_gate import CONTRACT, but, changes, reasons, table

_NOTHING = Defect(1, None, 'expected a JSON object, got a string ("a@b.c")', b'"a@b.c"')


def _gate(folder: Path, action: str, more: str = "") -> Gate:
    check = f"{{id: there, type: sql, query: a IS NOT NULL, mustBe: true, customProperties: [{{property: action, value: {action}}}]}}"
    contract = load_contract(write_contract(folder, one_column("a", "integer", quality=check) + more))
    return Gate(contract, table({"a": "integer"}, ()))


def _rows(*values: str | None, defects: tuple[Defect, ...] = ()) -> ChangeBatch:
    return replace(changes([[value] for value in values], schema=table({"a": "integer"}, ())), defects=defects)


def test_a_message_that_cannot_be_read_breaks_no_rule_and_stops_no_table(tmp_path: Path) -> None:
    for action in ("fail", "drop", "warn", "quarantine"):
        judgement = _gate(tmp_path, action).judge(_rows("1", None, "3", defects=(_NOTHING,)))
        assert judgement.failure is None, action
        assert judgement.passed.tolist() == [True, False, True]
        assert reasons(judgement) == {1: [UNDECODABLE]}
        assert (judgement.judged, dict(judgement.dropped), dict(judgement.warnings)) == (2, {}, {})


def test_a_row_that_lacks_the_value_still_breaks_the_rule(tmp_path: Path) -> None:
    failure = _gate(tmp_path, "fail").judge(_rows("1", None)).failure
    assert failure is not None
    assert failure.rule == "there"
    assert reasons(_gate(tmp_path, "quarantine").judge(_rows("1", None, None, defects=(_NOTHING,)))) == {1: [UNDECODABLE], 2: ["there"]}


def test_messages_that_cannot_be_read_trip_the_breaker(tmp_path: Path) -> None:
    body = "    customProperties:\n      - {property: breaker, value: {share: 0.2, window: 10, action: pause}}\n"
    gate = _gate(tmp_path, "quarantine", body)
    failure = gate.judge(_rows(*[None] * 10, defects=tuple(replace(_NOTHING, row=row) for row in range(3)))).failure
    assert failure is not None
    assert failure.rule == "breaker"


def test_confidential_values_are_in_no_reason(tmp_path: Path) -> None:
    gate = Gate(load_contract(write_contract(tmp_path, CONTRACT)), table())
    batch = changes([but(), but(**dict.fromkeys(("id", "email", "amount", "starts", "ends"))), but(email=None), but(amount=None)])
    defects = (_NOTHING, Defect(2, "email", "'a@b.c' is no text", b"a@b.c"), Defect(3, "amount", "expected numeric, got 'x'", b"x"))
    found = {held.row: held.reasons[0] for held in gate.judge(replace(batch, defects=defects)).quarantined}
    assert (found[1].message, found[1].value) == ("expected a JSON object, got a string", MASKED)
    assert (found[2].message, found[2].value) == ("*** is no text", MASKED)
    assert (found[3].message, found[3].value) == ("expected numeric, got 'x'", "x")
