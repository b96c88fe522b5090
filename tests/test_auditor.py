"""The auditor: it judges the journal a second time, and says where anybody disagrees. A correct gate gives it nothing to say."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import pytest

from journal.batch import Op
from quality.frame import Frame
from quality.judgement import MASKED
from quality.kernels.gx import Reference, Refusal
from quality.kernels.rule import Check
from tests.audit_place import AuditPlace

pytestmark = pytest.mark.timeout(300)

GX = "type: custom, engine: greatExpectations, implementation"
BODY = f"""\
    properties:
      - {{name: id, logicalType: integer, primaryKey: true}}
      - name: email
        logicalType: string
        classification: confidential
        required: true
        quality:
          - {{id: looks-right, {GX}: {{type: expect_column_values_to_match_regex, kwargs: {{regex: '@'}}}}}}
      - name: amount
        logicalType: number
        quality:
          - {{id: in-range, {GX}: {{type: ExpectColumnValuesToBeBetween, kwargs: {{min_value: 0, max_value: 1000}}}}}}
          - {{id: mean, {GX}: {{type: expect_column_mean_to_be_between, kwargs: {{min_value: 10, max_value: 100}}}}}}
          - {{id: odd, type: sql, query: amount <> 7, mustBe: true, customProperties: [{{property: action, value: warn}}]}}
      - name: region
        logicalType: string
        quality: [{{id: known, metric: invalidValues, arguments: {{validValues: [EU, US]}}, mustBe: 0}}]
    quality:
      - {{id: enough, metric: rowCount, mustBeGreaterThan: 2}}
      - {{id: total, type: sql, query: 'SELECT sum(amount) FROM orders', mustBeLessThan: 1000000}}
    customProperties:
      - {{property: audit, value: {{every: 5s, window: 50, sample: 40}}}}
"""
TYPES = {"id": "bigint", "email": "text", "amount": "numeric(12,2)", "region": "text"}


class MakePlace(Protocol):
    def __call__(self, body: str = BODY, tail: str = "", **types: str) -> AuditPlace: ...


@pytest.fixture
def make_place(tmp_path: Path, reference: Reference) -> Iterator[MakePlace]:
    made: list[AuditPlace] = []

    def make(body: str = BODY, tail: str = "", **types: str) -> AuditPlace:
        made.append(AuditPlace(tmp_path, body, types or TYPES, reference, tail))
        return made[-1]

    yield make
    for place in made:
        place.close()


def rows(first: int, count: int, **values: str | None) -> list[list[str | None]]:
    """Good rows, but for some values."""
    good = {"email": "ann@example.com", "amount": "50.00", "region": "EU"}
    return [[str(first + n), *(values.get(name, value) for name, value in good.items())] for n in range(count)]


def test_a_correct_gate_gives_no_incident(make_place: MakePlace) -> None:
    place = make_place()
    bad = [*rows(20, 2, amount="-5.00"), *rows(22, 1, email=None), *rows(23, 2, email="nobody"), *rows(25, 1, region="XX")]
    place.send(place.batch([*rows(1, 10), *bad, *rows(30, 2, amount=None), *rows(40, 3, amount="7.00")]))
    place.send(place.batch([*rows(1, 3), *rows(4, 1)], [Op.UPDATE, Op.UPDATE, Op.DELETE, Op.DELETE]))
    done = place.audit()
    assert place.incidents() == {}
    assert (done.windows, done.changes, done.unaudited) == (1, 25, 0)
    found = place.lines()
    assert {
        name: (line.verdict, line.engine) for name, line in found.items() if not name.startswith(("id-", "email-", "amount-", "region-"))
    } == {
        "": ("agrees", ""),
        "looks-right": ("agrees", "gx"),
        "in-range": ("agrees", "gx"),
        "mean": ("passes", "gx"),
        "odd": ("agrees", "arrow"),
        "known": ("agrees", "arrow"),
        "enough": ("passes", "arrow"),
        "total": ("passes", "duckdb"),
    }
    assert (found["in-range"].rows, found["in-range"].failed) == (23, 2)
    assert found[""].observed == {"sampled": 23}
    assert found["mean"].rows == 13, "rows as they stand at the end: not those that were deleted, nor overtaken"


def test_rules_over_the_set_that_do_not_hold_are_incidents_until_they_do(make_place: MakePlace) -> None:
    place = make_place()
    place.send(place.batch(rows(1, 2, amount="500.00")))
    place.audit()
    shown = place.incidents()
    assert set(shown) == {("rule", "mean"), ("rule", "enough")}
    assert shown["rule", "mean"].detail["observed"] == pytest.approx(500)
    assert "500" in shown["rule", "mean"].detail["message"]
    assert shown["rule", "enough"].detail["observed"] == 2
    place.send(place.batch(rows(10, 40, amount="20.00")))
    place.audit()
    assert place.incidents() == {}
    assert len(place.audits.incidents("orders", open_only=False)) == 2


def test_a_kernel_that_is_wrong_is_found_with_the_rows_and_both_verdicts(make_place: MakePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    place = make_place()
    with monkeypatch.context() as patched:
        patched.setattr("quality.kernels.ranges.within", lambda *bounds: lambda column: column.doubles > -100)
        place.send(place.batch([*rows(1, 10), *rows(11, 1, amount="-5.00")]))
        place.audit()
    incident = place.incidents()["disagreement", "in-range"]
    [row] = incident.detail["rows"]
    assert row == {
        "ordinal": 11, "position": "0/1", "key": {"id": "11"}, "values": {"amount": "-5.00"},
        "gate": "passes", "ours": "passes", "reference": "fails",
    }  # fmt: skip
    assert place.lines()["in-range"].verdict == "differs"


def test_a_gate_that_lets_a_row_go_or_holds_one_back_without_reason_is_found(
    make_place: MakePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = make_place()
    with monkeypatch.context() as patched:
        patched.setattr("quality.checks._filled", lambda flags, missing: np.ones(len(flags), np.bool_))
        place.send(place.batch([*rows(1, 3), *rows(4, 1, region="XX")]))
    with monkeypatch.context() as patched:
        patched.setattr("quality.kernels.ranges.within", lambda *bounds: lambda column: np.zeros(len(column), np.bool_))
        place.again()
        place.send(place.batch(rows(10, 1)))
    place.audit()
    incidents = place.incidents()
    assert set(incidents) == {("gate", "known"), ("gate", "in-range")}
    [let] = incidents["gate", "known"].detail["rows"]
    assert (let["ordinal"], let["gate"], let["ours"], let["reference"]) == (4, "passes", "fails", None)
    [held] = incidents["gate", "in-range"].detail["rows"]
    assert (held["id"].endswith("-5"), held["gate"], held["ours"], held["reference"]) == (True, "fails", "passes", "passes")
    place.again()
    place.send(place.batch(rows(20, 5)))
    place.audit()
    assert place.incidents() == {}


class Failing:
    """Great Expectations, when it is broken."""

    def judge(self, frame: Frame, asked: Sequence[object], form: str = "nullable") -> list[Refusal]:
        return [Refusal("KeyError: nobody@example.com") for _ in asked]


def test_an_error_of_great_expectations_is_no_failure_of_the_data_and_shows_no_value(make_place: MakePlace) -> None:
    more = [
        f"{{id: as-one-of, {GX}: {{type: expect_column_values_to_be_in_set, kwargs: {{value_set: [ann@example.com]}}}}}}",
        f"{{id: sum, {GX}: {{type: expect_column_sum_to_be_between, kwargs: {{column: amount, min_value: 1}}}}}}",
    ]
    body = BODY.replace("          - {id: looks-right", f"          - {more[0]}\n          - {{id: looks-right")
    place = make_place(body.replace("    quality:\n      - {id: enough", f"    quality:\n      - {more[1]}\n      - {{id: enough"))
    sound, place._reference = place._reference, cast(Reference, Failing())
    place.send(place.batch(rows(1, 5)))
    place.audit()
    incidents = place.incidents()
    assert set(incidents) == {("no-verdict", "as-one-of"), ("no-verdict", "sum")}
    assert "KeyError" in incidents["no-verdict", "sum"].detail["message"]
    assert "nobody" not in incidents["no-verdict", "as-one-of"].detail["message"]
    found = place.lines()
    assert (found["sum"].verdict, found["sum"].engine) == ("passes", "arrow"), "by the kernel alone"
    assert found["in-range"].verdict == "none", "there is more than Great Expectations can tell, so this is no incident, and no agreement"
    place._reference = sound
    place.audit(again=True)
    assert place.incidents() == {}
    assert place.lines()["in-range"].verdict == "agrees"


def test_confidential_values_are_masked_wherever_an_incident_tells_of_a_row(make_place: MakePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    place = make_place()
    with monkeypatch.context() as patched:
        patched.setattr(
            "quality.kernels.rule.MapKernel._check", lambda kernel, types: Check(lambda columns: np.ones(len(columns[0]), np.bool_))
        )
        place.send(place.batch(rows(1, 1, email="nobody")))
        place.audit()
    [row] = place.incidents()["disagreement", "looks-right"].detail["rows"]
    assert row["values"] == {"email": MASKED}
    assert "nobody" not in json.dumps([one.detail for one in place.audits.incidents("orders")])


def test_rows_of_an_older_contract_are_no_fault_of_the_gate(make_place: MakePlace) -> None:
    place = make_place(BODY.replace("[EU, US]", "[EU, US, XX]"))
    place.send(place.batch([*rows(1, 3), *rows(4, 1, region="XX"), *rows(5, 1, region="YY")]))
    place.again(BODY)
    place.send(place.batch(rows(10, 3)))
    place.audit()
    assert place.incidents() == {}
    assert place.lines()["known"].failed == 2
