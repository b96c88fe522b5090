"""A contract says what its owner wrote, in every version of the standard and every spelling that it allows."""

from __future__ import annotations

from pathlib import Path

import pytest

from quality.contract import AuditSettings, Breaker, Contact, Contract
from quality.contract_reading import load_contract
from quality.rules import Action, Scope
from tests.contract_text import one_column, only_problem, problems, write_contract

FULL = """\
    physicalName: orders_v2
    description: One row per order.
    customProperties:
      - {property: breaker, value: {share: 0.05, window: 500, action: warn}}
      - {property: order, value: strict}
      - {property: approval, value: self}
      - {property: audit, value: {every: 5m, sample: 0}}
      - {property: somethingOfOthers, value: 1}
    properties:
      - name: tenant
        logicalType: string
        primaryKey: true
        primaryKeyPosition: 2
      - name: number
        physicalName: order_no
        logicalType: integer
        required: true
        primaryKey: true
        primaryKeyPosition: 1
      - name: email
        logicalType: string
        classification: restricted
        quality:
          - {id: has-at, type: sql, query: "email LIKE '%@%'", mustBe: true, severity: error, description: An address has an at sign}
          - {metric: nullValues, mustBe: 0, customProperties: [{property: action, value: warn}, {property: on, value: [insert]}]}
    quality:
      - {metric: rowCount, mustBeGreaterThan: 0}
      - {type: text, description: Orders are never deleted.}
team:
  name: checkout
  members:
    - {username: ann, role: steward}
    - {username: ben, role: Owner, name: Ben}
support:
  - {channel: '#orders', tool: slack, url: 'https://chat.example.com/orders'}
slaProperties:
  - {property: freshness, value: 24, unit: h, element: orders.email}
"""


@pytest.fixture
def full(tmp_path: Path) -> Contract:
    return load_contract(write_contract(tmp_path, FULL))


def test_a_contract_says_who_owns_what_and_how_to_reach_them(full: Contract) -> None:
    assert (full.id, full.version, full.status) == ("orders", "1.0.0", "active")
    assert (full.dataset, full.table, full.description) == ("orders", "orders_v2", "One row per order.")
    assert full.owner == "Ben"
    assert full.contacts == (Contact("#orders", "slack", "https://chat.example.com/orders"),)
    (level,) = full.service_levels
    assert (level.property, level.value, level.unit) == ("freshness", 24, "h")
    assert (full.breaker, full.order, full.approval) == (Breaker(0.05, 500, "warn"), "strict", "self")
    assert full.audit == AuditSettings(every=300.0, window=10_000, sample=0)


def test_columns_go_by_their_physical_names_and_keys_by_their_positions(full: Contract) -> None:
    assert list(full.columns) == ["tenant", "order_no", "email"]
    assert full.key == ("order_no", "tenant")
    assert full.columns["email"].sensitive
    assert not full.columns["tenant"].sensitive


def test_rules_have_the_ids_lines_and_settings_that_were_written_or_stable_ones(full: Contract) -> None:
    found = {rule.id: rule for rule in full.rules}
    assert list(found) == [
        "tenant-type-1",
        "tenant-primaryKey-1",
        "number-type-1",
        "number-required-1",
        "email-type-1",
        "orders-primaryKey-1",
        "has-at",
        "email-nullValues-1",
        "orders-rowCount-1",
    ]
    at = found["has-at"]
    assert (at.severity, at.says, at.columns, at.action) == ("error", "An address has an at sign", ("email",), Action.QUARANTINE)
    assert at.line == 31
    nulls = found["email-nullValues-1"]
    assert (nulls.action, nulls.on, nulls.scope) == (Action.WARN, frozenset({"insert"}), Scope.ROW)
    assert found["orders-primaryKey-1"].scope is Scope.BATCH
    assert (found["orders-rowCount-1"].scope, found["orders-rowCount-1"].action) == (Scope.SET, Action.WARN)


def test_a_made_id_never_takes_one_that_was_given(tmp_path: Path) -> None:
    quality = "{metric: nullValues, mustBe: 0}\n{id: a-nullValues-1, metric: nullValues, mustBe: 0}\n{metric: nullValues, mustBe: 0}"
    contract = load_contract(write_contract(tmp_path, one_column("a", "string", quality=quality)))
    assert [rule.id for rule in contract.rules] == ["a-type-1", "a-nullValues-2", "a-nullValues-1", "a-nullValues-3"]


def test_the_fingerprint_changes_with_what_decides_a_verdict_and_with_nothing_else(tmp_path: Path) -> None:
    one = load_contract(write_contract(tmp_path, one_column("a", "string")))
    same = load_contract(write_contract(tmp_path, one_column("a", "string") + "tags: [x]\n"))
    other = load_contract(write_contract(tmp_path, one_column("a", "string", more="\n        required: true")))
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_variables_are_only_text(tmp_path: Path) -> None:
    contract = load_contract(write_contract(tmp_path, one_column("a", "string") + 'name: "${NOT_SET}"\n'))
    assert contract.name == "${NOT_SET}"


def test_anchors_are_welcome(tmp_path: Path) -> None:
    quality = "&no_nulls {metric: nullValues, mustBe: 0}\n*no_nulls"
    contract = load_contract(write_contract(tmp_path, one_column("a", "string", quality=quality)))
    assert [rule.id for rule in contract.rules] == ["a-type-1", "a-nullValues-1", "a-nullValues-2"]


@pytest.mark.parametrize("version", ["v3.0.0", "v3.0.1", "v3.0.2", "v3.1.0", "v3.2.0"])
def test_every_version_from_3_0_to_3_2_is_read(tmp_path: Path, version: str) -> None:
    assert load_contract(write_contract(tmp_path, one_column("a", "string"), version=version)).dataset == "orders"


def test_the_old_spelling_of_3_0_is_read_and_only_there(tmp_path: Path) -> None:
    quality = (
        "{rule: nullCheck}\n{rule: duplicateCount, mustBeLessThan: 1, unit: percent}\n{type: library, rule: validValues, validValues: [x]}"
    )
    contract = load_contract(write_contract(tmp_path, one_column("a", "string", quality=quality), version="v3.0.2"))
    assert [(rule.kind, rule.scope) for rule in contract.rules[1:]] == [
        ("nullValues", Scope.ROW),
        ("duplicateValues", Scope.SET),
        ("invalidValues", Scope.ROW),
    ]
    newer = problems(write_contract(tmp_path, one_column("a", "string", quality=quality)))
    assert {problem.line for problem in newer} == {12, 13, 14}


def test_exclusive_limits_are_read_in_both_spellings(tmp_path: Path) -> None:
    old = load_contract(
        write_contract(tmp_path, one_column("a", "integer", options="minimum: 1, exclusiveMinimum: true"), version="v3.0.2")
    )
    new = load_contract(write_contract(tmp_path, one_column("a", "integer", options="exclusiveMinimum: 1")))
    assert [rule.id for rule in old.rules] == [rule.id for rule in new.rules] == ["a-type-1", "a-exclusiveMinimum-1"]


def test_a_measure_is_no_column(tmp_path: Path) -> None:
    body = "    properties:\n      - {name: revenue, logicalType: number, semanticType: measure}\n      - {name: a, logicalType: string}\n"
    assert list(load_contract(write_contract(tmp_path, body, version="v3.2.0")).columns) == ["a"]
    refused = body.replace("measure}", "measure, required: true}")
    assert "is a measure, not a column" in only_problem(write_contract(tmp_path, refused, version="v3.2.0")).message


def test_a_contract_with_very_many_columns_is_read(tmp_path: Path) -> None:
    body = "    properties:\n" + "".join(f"      - {{name: c{i}, logicalType: integer, required: true}}\n" for i in range(400))
    assert len(load_contract(write_contract(tmp_path, body)).rules) == 800
