"""`contract diff`: what breaks others is said to be breaking, and of rules whether they hold back more or less."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from quality.contract_diff import compare
from quality.contract_reading import load_contract
from tests.invoking import sluice

_OLD = """\
apiVersion: v3.2.0
kind: DataContract
id: orders
version: 1.4.0
status: active
team: {name: checkout}
schema:
  - name: orders
    properties:
      - {name: id, logicalType: integer, physicalType: integer, primaryKey: true}
      - {name: email, logicalType: string, classification: confidential, required: true}
      - name: amount
        logicalType: number
        physicalType: numeric(12,2)
        logicalTypeOptions: {minimum: 0}
        quality:
          - {id: small, type: sql, query: amount < 1000, mustBe: true}
      - name: currency
        logicalType: string
        quality:
          - {id: known, metric: invalidValues, arguments: {validValues: [EUR, USD]}, mustBe: 0}
          - id: between
            type: custom
            engine: greatExpectations
            implementation: {type: expect_column_value_lengths_to_be_between, kwargs: {min_value: 3, max_value: 3}}
    quality:
      - {id: enough, metric: rowCount, mustBeGreaterThan: 10}
    customProperties:
      - {property: approval, value: four-eyes}
slaProperties:
  - {property: retention, value: 30, unit: d}
"""
_DROP = ", customProperties: [{property: action, value: drop}]}"
_NEW = "      - {id: new, type: sql, query: id > 0, mustBe: true"
_INSERT = ", customProperties: [{property: on, value: insert}]}"
_WARN = ", customProperties: [{property: action, value: warn}]}"


def _diff(tmp_path: Path, new: str, *, old: str = _OLD) -> tuple[int, Any]:
    """How many changes break, and the answer."""
    (tmp_path / "old.yaml").write_text(old)
    (tmp_path / "new.yaml").write_text(new)
    found = compare(load_contract(tmp_path / "old.yaml"), load_contract(tmp_path / "new.yaml"))
    return len(found.breaking), found.answer()


def _changes(answer: Any) -> list[tuple[str, str, str]]:
    return [(one["kind"], one["subject"], one["effect"]) for one in answer["changes"]]


@pytest.mark.parametrize(
    "was, now, change",
    [
        ("      - {name: email, logicalType: string, classification: confidential, required: true}\n", "", ("column-removed", "email")),
        ("{name: email,", "{name: email, physicalName: mail,", ("column-renamed", "email")),
        ("logicalType: integer, physicalType: integer", "logicalType: integer, physicalType: smallint", ("type-changed", "id")),
        ("logicalType: integer, physicalType: integer", "logicalType: string", ("type-changed", "id")),
        ("numeric(12,2)", "numeric(12,4)", ("type-changed", "amount")),
        ("integer, primaryKey: true", "integer", ("key-changed", "primary key")),
        ("{name: email,", "{name: email, primaryKey: true, primaryKeyPosition: 2,", ("key-changed", "primary key")),
        ("- name: orders", "- name: sales", ("dataset-renamed", "dataset")),
        ("confidential", "internal", ("classification-lowered", "email")),
        (" classification: confidential,", "", ("classification-lowered", "email")),
        ("four-eyes", "self", ("approval-changed", "approval")),
        ("value: 30, unit: d", "value: 29, unit: d", ("retention-shortened", "retention")),
        ("value: 30, unit: d", "value: 719, unit: h", ("retention-shortened", "retention")),
        ("amount < 1000, mustBe: true}", f"amount < 1000, mustBe: true{_DROP}", ("action-changed", "small")),
        ("mustBeGreaterThan: 10}", f"mustBeGreaterThan: 10}}\n{_NEW}{_DROP}", ("rule-added", "new")),
    ],
)  # fmt: skip
def test_what_others_rely_on_breaks(tmp_path: Path, was: str, now: str, change: tuple[str, str]) -> None:
    assert was in _OLD
    code, answer = _diff(tmp_path, _OLD.replace(was, now))
    assert (code > 0, answer["verdict"]) == (True, "breaking")
    assert (*change, "breaking") in _changes(answer)
    assert answer["version"] == {
        "from": "1.4.0",
        "to": "1.4.0",
        "wanted": "major",
        "problem": "the version is 1.4.0 in both: a change like this needs a new major version",
    }
    breaking = [one for one in answer["changes"] if one["breaks"]]
    assert breaking == answer["changes"][: len(breaking)], "what breaks comes first"


@pytest.mark.parametrize(
    "was, now, change",
    [
        (", required: true}", "}", ("rule-removed", "email-required-1", "loosens")),
        ("{name: id, ", "{name: id, unique: true, required: true, ", ("rule-added", "id-required-1", "tightens")),
        ("minimum: 0", "minimum: 1", ("rule-changed", "amount-minimum-1", "tightens")),
        ("minimum: 0", "minimum: -5", ("rule-changed", "amount-minimum-1", "loosens")),
        ("minimum: 0", "minimum: 0, maximum: 9", ("rule-added", "amount-maximum-1", "tightens")),
        ("validValues: [EUR, USD]", "validValues: [EUR, USD, GBP]", ("rule-changed", "known", "loosens")),
        ("validValues: [EUR, USD]", "validValues: [USD]", ("rule-changed", "known", "tightens")),
        ("validValues: [EUR, USD]", "validValues: [USD, GBP]", ("rule-changed", "known", "alters")),
        ("amount < 1000", "amount < 2000", ("rule-changed", "small", "alters")),
        ("max_value: 3", "max_value: 4", ("rule-changed", "between", "loosens")),
        ("min_value: 3, ", "", ("rule-changed", "between", "loosens")),
        ("min_value: 3, max_value: 3", "min_value: 2, max_value: 2", ("rule-changed", "between", "alters")),
        ("id: small", "id: tiny", ("rule-renamed", "tiny", "none")),
        ("amount < 1000, mustBe: true}", f"amount < 1000, mustBe: true{_WARN}", ("action-changed", "small", "loosens")),
        ("amount < 1000, mustBe: true}", f"amount < 1000, mustBe: true{_INSERT}", ("on-changed", "small", "loosens")),
        ("mustBeGreaterThan: 10", "mustBeGreaterThan: 20", ("rule-changed", "enough", "none")),
        ("classification: confidential", "classification: restricted", ("classification-changed", "email", "none")),
        ("value: 30, unit: d", "value: 2, unit: y", ("retention-extended", "retention", "none")),
        ("physicalType: integer", "physicalType: bigint", ("type-widened", "id", "none")),
        ("numeric(12,2)", "numeric(14,2)", ("type-widened", "amount", "none")),
        ("team: {name: checkout}", "team: {name: shop}", ("owner-changed", "owner", "none")),
        ("      - name: currency", "      - {name: note, logicalType: string}\n      - name: currency", ("column-added", "note", "none")),
    ],
)  # fmt: skip
def test_an_owner_may_change_what_rules_ask_and_is_told_what_that_does(
    tmp_path: Path, was: str, now: str, change: tuple[str, str, str]
) -> None:
    assert was in _OLD
    code, answer = _diff(tmp_path, _OLD.replace(was, now))
    assert (code, answer["verdict"]) == (0, "compatible")
    assert change in _changes(answer)


@pytest.mark.parametrize(
    "was, now, breaks",
    [("minimum: 0", "minimum: -5", True), ("amount < 1000", "amount < 2000", True), ("minimum: 0", "minimum: 1", False)],
)
def test_a_contract_can_promise_its_readers_that_nothing_more_comes_through(tmp_path: Path, was: str, now: str, breaks: bool) -> None:
    promised = _OLD.replace("{property: approval, value: four-eyes}", "{property: compatibility, value: readers}")
    code, answer = _diff(tmp_path, promised.replace(was, now), old=promised)
    assert (code, answer["verdict"]) == ((1, "breaking") if breaks else (0, "compatible"))
    withdrawn, _ = _diff(tmp_path, _OLD, old=promised)
    assert withdrawn > 0, "the promise cannot be taken back in silence"


def test_rules_without_ids_are_the_same_wherever_they_stand(tmp_path: Path) -> None:
    two = "      - {metric: rowCount, mustBeLessThan: 9}\n      - {metric: rowCount, mustBe: 5}\n"
    old = _OLD.replace("    customProperties:\n      - {property: approval, value: four-eyes}\n", two)
    _, answer = _diff(tmp_path, old.replace(two.splitlines(keepends=True)[0], ""), old=old)
    assert sorted(one[0] for one in _changes(answer)) == ["rule-removed", "rule-renamed"]


@pytest.mark.parametrize(
    "version, now, problem",
    [
        ("2.0.0", "self", None),
        ("1.5.0", "self", "the version goes from 1.4.0 to 1.5.0: a change like this needs a new major version"),
        ("1.3.0", "self", "the version goes back from 1.4.0 to 1.3.0"),
        ("next", "self", "the version next is not like 1.2.3, so it does not say how much has changed"),
        ("1.4.0", "four-eyes", None),
    ],
)
def test_the_version_should_say_how_much_has_changed(tmp_path: Path, version: str, now: str, problem: str | None) -> None:
    _, answer = _diff(tmp_path, _OLD.replace("four-eyes", now).replace("1.4.0", version))
    assert answer["version"]["problem"] == problem


def test_the_command_tells_scripts_and_people_and_a_contract_that_is_not_sound_has_no_verdict(tmp_path: Path) -> None:
    files = tmp_path / "old.yaml", tmp_path / "new.yaml"
    code, answer = _diff(tmp_path, _OLD + "# a word\n")
    assert (code, answer["verdict"], answer["changes"], answer["version"]["wanted"]) == (0, "compatible", [], None)
    assert sluice("contract", "diff", *files).out == "1.4.0 to 1.4.0: nothing has changed\n"
    _, answer = _diff(tmp_path, _OLD.replace("four-eyes", "self").replace("minimum: 0", "minimum: -1"))
    ended = sluice("contract", "diff", *files, "--json")
    assert (ended.code, ended.json) == (1, answer)
    shown = sluice("contract", "diff", *files)
    assert shown.code == 1
    for said in ("loosens", "amount-minimum-1", "breaking; 1 of 2 changes", "needs a new major version"):
        assert said in shown.out
    files[1].write_text("kind: DataContract\n")
    ended = sluice("contract", "diff", *files, "--json")
    assert (ended.code, ended.out) == (2, "")
    assert "new.yaml:1: apiVersion is missing" in ended.err


_INSIDE = """\
      - name: address
        logicalType: object
        properties:
          - {name: zip, logicalType: integer}
          - {name: lines, logicalType: array, items: {logicalType: object, properties: [{name: text, logicalType: string}]}}
      - name: counts
        logicalType: map
        map: {key: {logicalType: string}, value: {logicalType: integer}}
"""


@pytest.mark.parametrize(
    "before, after, said",
    [
        ("          - {name: zip, logicalType: integer}\n", "", [("part-removed", "address.zip", "breaking")]),
        (
            "{name: zip, logicalType: integer}",
            "{name: code, logicalType: integer}",
            [("part-removed", "address.zip", "breaking"), ("part-added", "address.code", "none")],
        ),
        ("{name: zip, logicalType: integer}", "{name: zip, logicalType: string}", [("type-changed", "address.zip", "breaking")]),
        ("{name: zip, logicalType: integer}", "{name: zip, logicalType: number}", [("type-widened", "address.zip", "none")]),
        (
            "{logicalType: object, properties: [{name: text, logicalType: string}]}",
            "{logicalType: string}",
            [("type-changed", "address.lines[]", "breaking")],
        ),
        ("[{name: text, logicalType: string}]", "[]", [("part-removed", "address.lines[].text", "breaking")]),
        ("value: {logicalType: integer}", "value: {logicalType: boolean}", [("type-changed", "counts{}", "breaking")]),
        ("value: {logicalType: integer}", "value: {logicalType: integer, required: true}", []),
    ],
)
def test_what_becomes_of_the_parts_of_a_column_is_told(tmp_path: Path, before: str, after: str, said: list[tuple[str, str, str]]) -> None:
    old = _OLD.replace("    quality:\n      - {id: enough", f"{_INSIDE}    quality:\n      - {{id: enough")
    assert before in old
    breaking, answer = _diff(tmp_path, old.replace(before, after), old=old)
    told = [(one["kind"], one["subject"], one["effect"]) for one in answer["changes"] if one["kind"].startswith(("part-", "type-"))]
    assert told == said
    assert breaking == sum(effect == "breaking" for *_, effect in said)
