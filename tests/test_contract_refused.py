"""A contract that is not sound is refused whole, with every problem at its line and what to write instead."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from quality import odcs_schema
from quality.odcs_parts import is_plain
from tests.contract_text import one_column, only_problem, problems, write_contract
from tests.invoking import sluice


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "the file is empty"),
        (b"# nothing\n", "the file is empty"),
        (b"- a\n- b\n", "a mapping is wanted"),
        (b"just text", "a mapping is wanted"),
        (bytes(range(256)), "not UTF-8"),
        (b"\x00\x01\x02", "not valid YAML"),
        (b"a: [1\nb: }", "not valid YAML"),
        (b"kind: DataContract\nkind: DataContract\n", "there twice"),
        (b"a: &a\n  b: *a\n", "an alias that holds itself"),
        (b"a: 1\n---\nb: 2\n", "second document"),
        (b"kind: DataContract\nid: x\n", "apiVersion is missing"),
        (b"apiVersion: v2.2.2\nkind: DataContract\n", "apiVersion v2.2.2 is not one that Sluice reads"),
        (b"apiVersion: v9.0.0\nkind: DataContract\n", "apiVersion v9.0.0"),
        (b"apiVersion: v3.1.0\n", "kind is missing"),
        (b"apiVersion: v3.1.0\nkind: Pipeline\n", "kind is 'Pipeline'"),
        (b"x" * (5 << 20), "larger than"),
        (b"a: " + b"[" * 3000, "levels deep"),
    ],
)
def test_a_file_that_is_no_contract_says_what_it_is(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_bytes(content)
    assert message in problems(file)[0].message


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    assert "No such file" in problems(tmp_path / "none.yaml")[0].message


def test_aliases_that_would_unfold_for_ever_are_refused(tmp_path: Path) -> None:
    bomb = ["a: &a [x,x,x,x,x,x,x,x,x]"]
    bomb += [f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]" for i in range(12)]
    file = tmp_path / "c.yaml"
    file.write_text("\n".join(bomb))
    assert "too large or too deep" in only_problem(file).message


def test_a_version_without_its_v_is_told_how_to_write_it(tmp_path: Path) -> None:
    problem = only_problem(write_contract(tmp_path, one_column("a", "string"), version="3.1.0"))
    assert (problem.line, problem.hint) == (1, "write v3.1.0")


def test_misspelt_keys_are_all_named_with_the_nearest_known_one(tmp_path: Path) -> None:
    file = write_contract(
        tmp_path,
        one_column("a", "string", options="minLenght: 1", quality="{metrik: nullValues, mustBe: 0}\n{metric: nullValues, mustbe: 0}")
        + "      - {name: b, logicaltype: string}\nteem: x\n",
    )
    found = {(problem.line, problem.message.split("'")[1]): problem.hint for problem in problems(file) if "unknown key" in problem.message}
    assert found == {
        (11, "minLenght"): "did you mean minLength?",
        (13, "metrik"): "did you mean metric?",
        (14, "mustbe"): "did you mean mustBe?",
        (15, "logicaltype"): "did you mean logicalType?",
        (16, "teem"): "did you mean team?",
    }


@pytest.mark.parametrize(
    "quality, message, hint",
    [
        ("{metric: nulValues, mustBe: 0}", "metric cannot be 'nulValues'", "did you mean nullValues?"),
        ("{metric: nullValues}", "has no operator", "one of mustBe"),
        ("{metric: nullValues, mustBe: 0, mustBeLessThan: 5}", "one operator is wanted, not mustBe and mustBeLessThan", "mustBeBetween"),
        ("{metric: nullValues, mustBeBetween: [1]}", "is too short", None),
        ("{metric: nullValues, mustBeBetween: [5, 1]}", "the smaller number first", None),
        ("{metric: nullValues, mustBe: none}", "wants a number, not 'none'", None),
        ("{metric: nullValues, mustBe: 0, unit: permille}", "unit 'permille' cannot be measured", "rows or percent"),
        ("{metric: nullValues, mustBe: 0, query: a > 0}", "'query' has no meaning", None),
        ("{metric: nullValues, mustBe: 0, arguments: {x: 1}}", "nullValues has no argument 'x'", None),
        ("{metric: rowCount, mustBe: 3}", "rowCount counts the rows of the whole object", None),
        ("{metric: missingValues, mustBe: 0}", "missingValues needs the values", None),
        ("{metric: invalidValues, mustBe: 0}", "needs arguments that say what is valid", None),
        ("{metric: invalidValues, mustBe: 0, arguments: {validValues: []}}", "must be a list of values", None),
        ("{metric: invalidValues, mustBe: 0, arguments: {pattern: '('}}", "is not a regular expression", None),
        ("{metric: invalidValues, mustBe: 0, arguments: {validValues: [1]}}", "1 can never be a value of this column", None),
        ("{rule: nullValues, mustBe: 0}", "unknown key 'rule'", "since 3.1 this is called metric"),
        ("{type: sql, metric: nullValues, query: a = '1', mustBe: true}", "metric has no meaning with type: sql", None),
        ("{type: sql, mustBe: true}", "query is missing", None),
        ("{type: sql, query: b = '1', mustBe: true}", 'there is no column "b"', None),
        ("{type: sql, query: a =, mustBe: true}", "ends too early", None),
        ("{type: sql, query: a = '1', mustBe: 1}", "must be true or false", "write mustBe: true"),
        ("{type: sql, query: a = '1', mustBeGreaterThan: 0}", "must be true or false", None),
        ("{type: sql, query: length(a), mustBe: true}", "not a condition that is true or false", None),
        ("{type: sql, query: '${SECRET} = a', mustBe: true}", "${SECRET} is not replaced in a contract", None),
        ("{type: sql, query: SELECT count(*) FROM customers, mustBe: 0}", "reads 'customers'", None),
        ("{type: sql, query: 'SELECT count(*), 1 FROM orders', mustBe: 0}", "gives 2 columns", None),
        ("{type: sql, query: SELECT count(*) = 0 FROM orders, mustBe: 0}", "gives BOOLEAN, which can never be 0", None),
        ("{type: sql, query: SELECT max(a) FROM orders, mustBeLessThan: 3}", "gives VARCHAR", None),
        ("{type: sql, query: SELECT 1; DROP TABLE orders, mustBe: 0}", "one SELECT is wanted", None),
        ("{type: sql, query: SELEC 1 FROM orders, mustBe: 0}", "must be true or false", None),
        ("{type: sql, query: DROP TABLE orders, mustBe: true}", "syntax error", None),
        ("{type: sql, query: SELECT content FROM read_text('/etc/passwd'), mustBe: x}", "disabled", None),
        ("{type: custom, engine: soda, implementation: x}", "engine 'soda' is not one that Sluice can run", None),
        ("{type: custom, implementation: x}", "engine is missing", None),
        ("{type: custom, engine: greatExpectations, implementation: '{'}", "neither YAML nor JSON", None),
        ("{type: custom, engine: greatExpectations, implementation: {kwargs: {}}}", "needs a `type`", None),
        ("{type: custom, engine: greatExpectations, implementation: {type: expect_column_values_to_be_nul}}", "no expectation", "be_null"),
        (
            "{type: custom, engine: greatExpectations, implementation: {type: expect_column_values_to_be_null, kwarg: {}}}",
            "unknown key 'kwarg'",
            "kwargs",
        ),
        (
            "{type: custom, engine: greatExpectations, implementation: {type: expect_column_values_to_be_null, kwargs: {mostli: 1}}}",
            "no argument mostli",
            "mostly",
        ),
        (
            "{type: custom, engine: greatExpectations, implementation: {type: expect_column_values_to_be_null, kwargs: {column: aa}}}",
            "there is no property 'aa'",
            "did you mean a?",
        ),
        ("{type: custom, engine: sluice, implementation: {type: transition, column: a}}", "needs the steps that are allowed", None),
        ("{type: custom, engine: sluice, implementation: {type: sorted}}", "engine sluice has no rule 'sorted'", None),
        (
            "{metric: nullValues, mustBe: 0, customProperties: [{property: action, value: quarentine}]}",
            "is not one of warn",
            "did you mean quarantine?",
        ),
        (
            "{metric: nullValues, mustBe: 0, customProperties: [{property: acton, value: warn}]}",
            "'acton' is not known",
            "did you mean action?",
        ),
        ("{metric: nullValues, mustBe: 0, customProperties: [{property: 'on', value: delete}]}", "on: 'delete'", "deletes are not judged"),
        ("{metric: nullValues, mustBe: 0, customProperties: [{property: mostly, value: 95}]}", "a share between 0 and 1", None),
        ("{metric: nullValues, mustBe: 0, customProperties: [{property: action}]}", "value is missing", None),
        ("{metric: nullValues, mustBeLessThan: 5, customProperties: [{property: action, value: drop}]}", "no rows to drop", None),
        ("{metric: nullValues, mustBeLessThan: 5, customProperties: [{property: 'on', value: insert}]}", "on has no meaning", None),
    ],
)
def test_a_rule_that_cannot_be_judged_is_refused_at_its_line(tmp_path: Path, quality: str, message: str, hint: str | None) -> None:
    problem = only_problem(write_contract(tmp_path, one_column("a", "string", quality=quality)))
    assert message in problem.message
    assert problem.line == 12
    assert hint is None or hint in (problem.hint or "")


@pytest.mark.parametrize(
    "entry, message",
    [("5", "must be a mapping, not 5"), ("true", "must be a mapping"), ("null", "must be a mapping"), ("{}", "says no metric")],
)
def test_an_entry_of_quality_that_says_nothing_is_refused_at_its_line(tmp_path: Path, entry: str, message: str) -> None:
    problem = only_problem(write_contract(tmp_path, one_column("a", "string", quality=entry)))
    assert message in problem.message
    assert problem.line == 12


@pytest.mark.parametrize(
    "kind, options, message",
    [
        ("integer", "minimum: 5, maximum: 3", "can be within minimum 5 and maximum 3"),
        ("string", "minLength: 5, maxLength: 3", "can be within minLength 5 and maxLength 3"),
        ("string", "minimum: 5", "unknown key 'minimum'"),
        ("string", "pattern: '['", "is not a regular expression"),
        ("string", "pattern: '\\'", "ends in a backslash"),
        ("string", "format: emial", "format 'emial' of a is not known"),
        ("date", "format: YYYY-QQ", "cannot be read"),
        ("date", "minimum: yesterday", "'yesterday' is not a date"),
        ("timestamp", "defaultTimezone: Mars/Olympus", "is not a time zone"),
        ("integer", "format: i7", "cannot be 'i7'"),
    ],
)
def test_options_that_make_no_sense_are_refused_at_their_line(tmp_path: Path, kind: str, options: str, message: str) -> None:
    problem = problems(write_contract(tmp_path, one_column("a", kind, options=options)))[0]
    assert message in problem.message
    assert problem.line == 11


def test_options_without_a_type_have_no_meaning(tmp_path: Path) -> None:
    file = write_contract(tmp_path, "    properties:\n      - {name: a, logicalTypeOptions: {minimum: 1}}\n")
    assert "no meaning without a logicalType" in only_problem(file).message


def test_two_rules_with_one_id_are_refused(tmp_path: Path) -> None:
    quality = "{id: x, metric: nullValues, mustBe: 0}\n{id: x, metric: nullValues, mustBe: 0}"
    problem = only_problem(write_contract(tmp_path, one_column("a", "string", quality=quality)))
    assert (problem.message, problem.line, problem.hint) == ("two rules have the id 'x'", 13, "the first is in line 12")


def test_two_properties_of_one_name_are_refused(tmp_path: Path) -> None:
    problem = only_problem(write_contract(tmp_path, "    properties:\n      - {name: a}\n      - {name: b, physicalName: a}\n"))
    assert (problem.message, problem.line) == ("there are two properties 'a'", 10)


def test_a_second_schema_object_is_refused_and_a_missing_one_too(tmp_path: Path) -> None:
    two = only_problem(write_contract(tmp_path, "    properties: []\n  - name: other\n"))
    assert (two.line, two.hint) == (9, "write a file for each dataset")
    none = tmp_path / "none.yaml"
    none.write_text("apiVersion: v3.1.0\nkind: DataContract\nid: x\nversion: '1'\nstatus: draft\nschema: []\n")
    assert "no schema object" in only_problem(none).message


def test_every_problem_is_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    quality = "{metric: nullValues, mustbe: 0}\n{type: sql, query: b > 1, mustBe: true}\n{type: custom, engine: dbt, implementation: x}"
    found = problems(write_contract(tmp_path, one_column("a", "string", options="format: emial", quality=quality) + "nmae: x\n"))
    assert [problem.line for problem in found] == [11, 13, 13, 14, 15, 16]


def test_settings_of_the_object_are_checked(tmp_path: Path) -> None:
    def said(value: str) -> str:
        body = f"    customProperties:\n      - {value}\n" + one_column("a", "string")
        return only_problem(write_contract(tmp_path, body)).message

    assert "order 'oldest' is not one of newest, strict" in said("{property: order, value: oldest}")
    assert "breaker has no key 'windows'" in said("{property: breaker, value: {share: 0.1, windows: 5}}")
    assert "share of a breaker" in said("{property: breaker, value: {share: 5}}")
    assert "audit is a mapping" in said("{property: audit, value: 60s}")
    assert "audit has no key 'windw'" in said("{property: audit, value: {windw: 5}}")
    for every in ("soon", "0s", "0.5", "true", "-5s", "[60s]"):
        assert "is no time of a second or more" in said(f"{{property: audit, value: {{every: {every}}}}}")
    for rows in ("0", "1.5", "true", "many", "100000000"):
        assert "audit: window is a number of rows" in said(f"{{property: audit, value: {{window: {rows}}}}}")
    assert "'audti' is not known" in said("{property: audti, value: {every: 60s}}")
    assert "'aproval' is not known" in said("{property: aproval, value: self}")


def test_rules_inside_an_object_that_json_schema_cannot_say_are_refused(tmp_path: Path) -> None:
    body = """\
    properties:
      - name: address
        logicalType: object
        properties:
          - {name: zip, logicalType: string, unique: true}
          - {name: since, logicalType: date, logicalTypeOptions: {minimum: '2020-01-01'}}
          - name: city
            quality: [{metric: duplicateValues, mustBe: 0}]
"""
    assert [(p.line, p.message.split(" ")[0]) for p in problems(write_contract(tmp_path, body))] == [
        (12, "unique"),
        (13, "minimum"),
        (15, "inside"),
    ]


_BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text, said, hint",
    [
        (_BOMB, "too large or too deep", "write out what"),
        ("a: &a [*a]\n", "too large or too deep", "write out what"),
        ("a: &a {<<: *a}\n", "leads back", "another mapping"),
        ("a: *b\n", "no `&b` has named", "quotes"),
        ("[" * 100, "more than 60 levels deep", "nobody closes"),
        ("dataContractSpecification: 1.1.0\n", "another standard", "datacontract export"),
        ("apiVersion: v2.2.2\nkind: DataContract\n", "apiVersion v2.2.2 is not one", "were written otherwise"),
        ("apiVersion: v3.3.0\nkind: DataContract\n", "apiVersion v3.3.0 is not one", "upgrade it"),
        ("apiVersion: v4.0.0\nkind: DataContract\n", "apiVersion v4.0.0 is not one", "upgrade it"),
        ("apiVersion: [v3.1.0]\nkind: DataContract\n", "apiVersion a list is not one", "these are read"),
    ],
)
def test_what_is_no_contract_of_ours_is_said_at_once_with_a_way_out(tmp_path: Path, text: str, said: str, hint: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    problem = only_problem(tmp_path / "bad.yaml")
    assert said in problem.message
    assert hint in (problem.hint or "")
    assert problem.line is not None


def test_a_contract_that_no_person_wrote_is_refused_before_it_is_looked_into(tmp_path: Path) -> None:
    columns = "".join(f"      - {{name: c{n}}}\n" for n in range(2001))
    assert "2001 properties" in only_problem(write_contract(tmp_path, f"    properties:\n{columns}")).message
    rules = "".join("      - {metric: rowCount, mustBe: 1}\n" for _ in range(2001))
    assert "more than 2000 rules" in only_problem(write_contract(tmp_path, f"    quality:\n{rules}")).message
    large = write_contract(tmp_path, f"    description: {'x' * (1 << 20)}\n")
    assert "larger than 1 MB" in only_problem(large).message
    assert sluice("check", large).code == 2


def test_properties_within_properties_are_looked_into_however_deep_they_are(tmp_path: Path) -> None:
    deep = "{name: z, logicalType: object, properties: [" * 20 + "{name: last, logcalType: string}" + "]}" * 20
    problem = only_problem(write_contract(tmp_path, f"    properties:\n      - {deep}\n"))
    assert (problem.line, problem.hint) == (9, "did you mean logicalType?")
    assert "unknown key 'logcalType'" in problem.message


def test_an_implementation_that_explodes_is_no_text_of_a_rule(tmp_path: Path) -> None:
    text = json.dumps(f"type: expect_column_values_to_be_in_set\nkwargs:\n  value_set: {{{_BOMB.replace(chr(10), ',')}}}\n")
    body = one_column("a", "string", quality=f"{{type: custom, engine: greatExpectations, implementation: {text}}}")
    assert "too large or too deep" in only_problem(write_contract(tmp_path, body)).message


def test_a_rule_over_the_set_makes_no_tables_of_its_own(tmp_path: Path) -> None:
    body = one_column("a", "string", quality="{type: sql, query: 'SELECT count(*) FROM range(99999999999), orders', mustBe: 1}")
    assert "reads 'range()'" in only_problem(write_contract(tmp_path, body)).message


@pytest.mark.parametrize("value", ["5", "true", "[a]", "{a: b}", "2024-01-01", "word"])
@pytest.mark.parametrize("key", sorted({"name", "required", "unique", "description", "logicalType", "classification", "examples", "nane"}))
def test_what_is_known_to_be_sound_without_the_schema_is_what_the_schema_says(key: str, value: str) -> None:
    node = {"name": "a", key: YAML(typ="safe", pure=True).load(value)}
    if is_plain(node):
        assert not list(odcs_schema._validator("SchemaProperty").iter_errors(node))
    assert is_plain({"name": "a", "logicalType": "string", "required": True})
