"""Reads the entries of `quality` in a contract: what kind of rule each is, over which columns, and what judges it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.document import read_document
from pipeline.errors import ConfigError
from pipeline.names import nearest
from quality.custom_properties import OF_A_RULE, refuse_near_miss, refuse_twice
from quality.kernels import compile_expectation
from quality.kernels.registry import SET_EXPECTATIONS, snake_name
from quality.library_metrics import METRICS, Measure, build_metric, is_percent
from quality.operators import Operator
from quality.own_rules import read_own
from quality.rules import OPERATIONS, Action, Found, Place, RowJudge, RuleError, Scope, SetJudge, Types, arrow_types
from quality.sql_rules import RowCondition, SelectValue, filled_in, is_select

AMONG_OTHERS = frozenset(
    {
        "expect_column_values_to_be_unique",
        "expect_compound_columns_to_be_unique",
        "expect_column_values_to_be_increasing",
        "expect_column_values_to_be_decreasing",
        "expect_column_value_z_scores_to_be_less_than",
        "expect_column_values_to_not_be_outliers",
    }
)
"""Expectations whose answer for a row depends on the other rows."""

# these may name columns that are not there
_ABOUT_THE_TABLE = ("expect_column_to_exist", "expect_table_")
_IMPLEMENTATION = Path("implementation")  # no file: the text of an entry
_COLUMN_ARGUMENTS = ("column", "column_A", "column_B", "column_list")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the customProperties of a rule say."""

    action: Action | None = None
    on: frozenset[str] | None = None
    mostly: float | None = None


def read_check(check: Mapping[str, Any], place: Place, mostly: float | None) -> Found | None:
    """What an entry of `quality` asks; None for text, which is for people. Raises RuleError where it cannot be judged faithfully."""
    kind = check.get("type", "library")
    if kind != "library" and "metric" in check:
        raise RuleError(f"metric has no meaning with type: {kind}", hint="leave type out, or write two entries", part="metric")
    if kind == "text":
        return None
    if kind == "library":
        return _library(check, place, mostly)
    if kind == "sql":
        return _sql(check, place, mostly)
    engine = str(check["engine"])
    plain = engine.lower().replace("-", "").replace("_", "").replace(" ", "")
    if plain in ("greatexpectations", "gx"):
        return _expectation(check["implementation"], place, mostly)
    if plain == "sluice":
        return read_own(_parsed(check["implementation"]), place, 1.0 if mostly is None else mostly)
    raise RuleError(
        f"engine {engine!r} is not one that Sluice can run",
        hint="greatExpectations or sluice, or write the rule as a library metric or in SQL",
        part="engine",
    )


def read_settings(custom: object) -> Settings:
    """The customProperties that Sluice knows, of one rule. Raises RuleError for values it does not, and for near misses of the names."""
    found: dict[str, Any] = {}
    for entry in custom if isinstance(custom, list) else []:
        name, value = entry["property"], entry["value"]
        refuse_near_miss(entry, OF_A_RULE)
        refuse_twice(name, found)
        if name == "action":
            if value not in list(Action):
                raise RuleError(
                    f"action {value!r} is not one of {', '.join(Action)}", hint=nearest(str(value), list(Action)), part="customProperties"
                )
            found[name] = Action(value)
        elif name == "on":
            found[name] = frozenset(_operation(word) for word in (value if isinstance(value, list) else [value]))
            if not found[name]:
                raise RuleError(
                    "on names no operation, so the rule would never be asked",
                    hint=f"{' or '.join(OPERATIONS)}, or leave it out",
                    part="customProperties",
                )
        elif name == "mostly":
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise RuleError(f"mostly is a share between 0 and 1, not {value!r}", part="customProperties")
            found[name] = float(value)
    return Settings(**found)


def _operation(word: object) -> str:
    if word in OPERATIONS:
        return str(word)
    hint = {"delete": "deletes are not judged", "read": "a copied row counts as an insert", "truncate": "a truncate is not judged"}.get(
        str(word)
    )
    raise RuleError(f"on: {word!r} is not one of {', '.join(OPERATIONS)}", hint=hint, part="customProperties")


def _library(check: Mapping[str, Any], place: Place, mostly: float | None) -> Found:
    if "metric" not in check:
        raise RuleError("an entry of quality says no metric", hint=f"metric is one of {', '.join(METRICS)}; or type is sql, custom or text")
    metric = check["metric"]
    if metric not in METRICS:
        raise RuleError(f"there is no metric {metric!r}", hint=nearest(metric, METRICS), part="metric")
    operator = _operator(check)
    if not operator.numeric:
        raise RuleError(f"{operator.name} of a metric wants a number, not {operator.value!r}", part=operator.name)
    percent = is_percent(check.get("unit"))
    if percent and metric == "rowCount":
        raise RuleError("rowCount has no percentage", part="unit")
    arguments = check.get("arguments") or {}
    columns, build = build_metric(metric, arguments, place.column, place.resolve)
    says = " ".join(
        [metric, *(f"{name} {value}" for name, value in arguments.items()), str(operator), "percent" if percent else ""]
    ).strip()
    if build is not None and operator.none_may and not percent:
        scope = Scope.BATCH if metric == "duplicateValues" else Scope.ROW
        return Found(metric, place.column, scope, columns, says, lambda types: build(types, 1.0 if mostly is None else mostly))

    def compiled(types: Types) -> Measure:
        return Measure(build(types, 1.0) if build else None, operator, percent=percent)

    return Found(metric, place.column, Scope.SET, columns, says, compiled)


def _operator(check: Mapping[str, Any]) -> Operator:
    try:
        operator = Operator.of(check)
    except ValueError as error:
        raise RuleError(str(error)) from error
    if operator is None:
        raise RuleError("an operator is missing", hint="mustBe: 0, for one")
    return operator


def _sql(check: Mapping[str, Any], place: Place, mostly: float | None) -> Found:
    query = filled_in(check["query"], place.tables[0], place.column).strip().rstrip(";")
    operator = _operator(check)
    if is_select(query):
        says = f"{' '.join(query.split())} {operator}"
        return Found("sql", place.column, Scope.SET, (), says, lambda types: SelectValue(query, types, place, operator))
    if operator.name != "mustBe" or not isinstance(operator.value, bool):
        raise RuleError(
            f"a condition over the row must be true or false; {operator} says nothing of it",
            hint="write mustBe: true, or a SELECT that gives one value",
            part=operator.name,
        )

    def compiled(types: Types) -> RowCondition:
        return RowCondition(query, types, place, mostly=1.0 if mostly is None else mostly, negated=not operator.value)

    return Found("sql", place.column, Scope.ROW, (), f"{'' if operator.value else 'not '}{' '.join(query.split())}", compiled)


def _expectation(implementation: object, place: Place, mostly: float | None) -> Found:
    body = _parsed(implementation)
    for key in body:
        if key not in ("type", "expectation_type", "kwargs", "meta", "id", "description", "notes", "severity"):
            raise RuleError(
                f"unknown key {key!r} in the implementation", hint=nearest(str(key), ("type", "kwargs", "meta")), part="implementation"
            )
    kinds = [body[key] for key in ("type", "expectation_type") if key in body]
    if len(kinds) != 1 or not isinstance(kinds[0], str):
        raise RuleError("the implementation needs a `type`, the name of an expectation", part="implementation")
    kind = kinds[0]
    kwargs = body.get("kwargs", {})
    if not isinstance(kwargs, Mapping):
        raise RuleError("the kwargs of an expectation are a mapping", part="implementation")
    arguments = _resolved(kind, dict(kwargs), place)
    if mostly is not None and arguments.setdefault("mostly", mostly) != mostly:
        raise RuleError(f"mostly is {mostly} in the customProperties and {arguments['mostly']} in the kwargs", part="implementation")
    about_table = snake_name(kind).startswith(_ABOUT_THE_TABLE)
    sample = {} if about_table else {name: arguments[name] for name in _COLUMN_ARGUMENTS if name in arguments}
    columns = tuple(name for value in sample.values() for name in (value if isinstance(value, list) else [value]))

    def compiled(types: Types) -> RowJudge | SetJudge:
        told = all(types[column].known for column in columns if column in types)
        return compile_expectation(kind, arguments, arrow_types(types) if told else None)

    name = snake_name(kind)
    scope = Scope.SET if name in SET_EXPECTATIONS else Scope.BATCH if name in AMONG_OTHERS else Scope.ROW
    about = columns[0] if columns and "column_list" not in sample else place.column
    given = ", ".join(f"{key}={value!r}" for key, value in arguments.items() if key not in _COLUMN_ARGUMENTS)
    return Found(kind, about, scope, columns, f"{kind}({given})", compiled, expectation=(name, arguments))


def _parsed(implementation: object) -> Mapping[str, Any]:
    if isinstance(implementation, str):
        try:
            implementation = _of_json(implementation) or read_document(_IMPLEMENTATION, fill=False, text=implementation).content
        except ConfigError as error:
            reason = error.problems[0].message.removeprefix("not valid YAML: ")
            raise RuleError(f"the implementation is neither YAML nor JSON: {reason}", part="implementation") from error
    if not isinstance(implementation, Mapping):
        raise RuleError("the implementation is a mapping with `type` and `kwargs`", part="implementation")
    return implementation


def _of_json(text: str) -> object:
    """What a text of JSON says, None where it is none. YAML takes pairs of escapes, and Infinity, for something else."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _resolved(kind: str, arguments: dict[str, Any], place: Place) -> dict[str, Any]:
    """The arguments with names of properties as columns, and the property's own where none is given."""
    name = snake_name(kind)
    single = re.match(r"expect_column_(?!pair_)", name)
    if place.column is not None and single and "column" not in arguments:
        arguments["column"] = place.column
    if name.startswith(_ABOUT_THE_TABLE):
        return arguments
    for argument in _COLUMN_ARGUMENTS:
        value = arguments.get(argument)
        if isinstance(value, str):
            arguments[argument] = place.resolve(value)
        elif isinstance(value, list):
            arguments[argument] = [place.resolve(item) if isinstance(item, str) else item for item in value]
    return arguments
