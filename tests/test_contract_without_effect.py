"""What stands in a contract and would have no effect is refused, in words that say what to write instead; what is others' is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract_text import one_column, only_problem, problems, write_contract
from tests.invoking import sluice


@pytest.mark.parametrize(
    "body, said, hint",
    [
        (
            "    customProperties: [{property: order, value: strict}, {property: order, value: newest}]\n" + one_column("a", "string"),
            "order is there twice",
            "one of them is left out",
        ),
        (
            one_column("a", "string", quality="{metric: nullValues, mustBe: 0, customProperties: [{property: 'on', value: insert}, "
                       "{property: 'on', value: update}]}"),
            "on is there twice",
            "one of them is left out",
        ),
        (
            one_column("a", "string", more="\n        customProperties: [{property: action, value: warn}]"),
            "action is a setting of a rule: nothing comes of it here",
            "an entry of `quality`",
        ),
        (
            one_column("a", "string", quality="{metric: nullValues, mustBe: 0, customProperties: [{property: order, value: strict}]}"),
            "order is a setting of the schema object: nothing comes of it here",
            "beside `properties`",
        ),
        (
            one_column("a", "string") + "customProperties: [{property: approval, value: self}]\n",
            "approval is a setting of the schema object: nothing comes of it here",
            "beside `properties`",
        ),
        (
            one_column("a", "string", more="\n        classification: Confidental"),
            "classification 'Confidental' protects nothing",
            "did you mean confidential?",
        ),
        (
            one_column("a", "string") + "slaProperties: [{property: retenton, value: 30, unit: d}]\n",
            "the service level 'retenton' is not known",
            "did you mean retention?",
        ),
        (
            one_column("a", "string")
            + "slaProperties: [{property: freshness, value: 1, unit: h}, {property: freshness, value: 2, unit: h}]\n",
            "freshness is promised twice",
            "one of them is left out",
        ),
    ],
)  # fmt: skip
def test_what_would_be_lost_without_a_word_is_refused(tmp_path: Path, body: str, said: str, hint: str) -> None:
    problem = only_problem(write_contract(tmp_path, body))
    assert said in problem.message
    assert hint in (problem.hint or "")


@pytest.mark.parametrize(
    "body",
    [
        one_column("a", "string", more="\n        customProperties: [{property: action, value: encrypt}, {property: order, value: 3}]"),
        one_column("a", "string") + "customProperties: [{property: breaker, value: 'CB-12'}, {property: approval, value: [legal]}]\n",
        one_column("a", "string", more="\n        classification: PII"),
        one_column("a", "string") + "slaProperties: [{property: frequency, value: 1, unit: d}, {property: latency, value: 1, unit: d}]\n",
    ],
)
def test_what_others_say_in_a_contract_is_left_alone(tmp_path: Path, body: str) -> None:
    assert sluice("check", write_contract(tmp_path, body), "--no-measure").code == 0


def test_a_key_that_is_written_in_capitals_is_told_how_it_is_written(tmp_path: Path) -> None:
    problem = problems(write_contract(tmp_path, one_column("a", "string", more="\n        REQUIRED: true")))[0]
    assert (problem.message, problem.hint) == ("unknown key 'REQUIRED' in schema[0].properties[0]", "did you mean required?")


def test_a_key_that_the_standard_does_not_have_is_told_where_it_may_stand(tmp_path: Path) -> None:
    problem = problems(write_contract(tmp_path, one_column("a", "string", more="\n        zzz: true")))[0]
    assert problem.hint == "what is nobody's but yours stands under customProperties: [{property: zzz, value: …}]"


def test_what_may_be_of_two_types_says_so_in_words(tmp_path: Path) -> None:
    server = "servers: [{server: s, type: postgres, host: h, port: {}, database: d, schema: s}]\n"
    problem = problems(write_contract(tmp_path, one_column("a", "string") + server))[0]
    assert problem.message == "servers[0].port must be a whole number or text, not a mapping"


@pytest.mark.parametrize(
    "body, said",
    [
        (
            one_column("a", "string", quality="{metric: nullValues, mustBe: 0, customProperties: [{property: 'on', value: []}]}"),
            "on names no operation",
        ),
        (one_column("a", "number", options="minimum: .nan"), "minimum of a is nan, with which nothing can be compared"),
        (one_column("a", "number", options="maximum: .inf"), "maximum of a is inf, with which nothing can be compared"),
        (
            one_column("a", "object", more="\n        properties: [{name: b, logicalType: number, logicalTypeOptions: {minimum: .nan}}]"),
            "minimum is nan, with which nothing can be compared",
        ),
        (one_column("a", "number", quality="{metric: nullValues, mustBeBetween: [.nan, 5]}"), "mustBeBetween wants a number, not nan"),
        (one_column("''", "number"), "the property has no name"),
        (one_column("a", "date", options="format: '2024-01-01'"), "format '2024-01-01' says nothing of a date"),
        (
            one_column("a", "array", more="\n        items: {logicalTypeOptions: {pattern: '^x'}}"),
            "these options have no meaning without a logicalType",
        ),
    ],
)
def test_a_rule_that_could_never_say_anything_is_refused(tmp_path: Path, body: str, said: str) -> None:
    assert said in only_problem(write_contract(tmp_path, body)).message


def test_relationships_are_said_to_be_judged_by_nobody(tmp_path: Path) -> None:
    body = one_column("a", "integer", more="\n        relationships: [{to: customers.id, type: foreignKey}]")
    checked = sluice("check", write_contract(tmp_path, body), "--no-measure", "--json")
    assert checked.code == 0
    assert checked.json["notes"] == ["orders: relationships (line 11) are not judged; a rule `references` of the engine sluice is"]
