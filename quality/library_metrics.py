"""The metrics of the standard's library. With `mustBe: 0` each is a rule over rows; with any other operator or unit, over the set.

    metric            a row counts when                                              arguments
    nullValues        the value is null
    missingValues     the value is one of those that stand for a missing one         missingValues: [null, '', 'N/A']
    invalidValues     the value is not in the set, or does not match the pattern     validValues: [kg, pounds]; pattern: '^[A-Z]{2}'
    duplicateValues   another row has the same value (nulls are left alone)          on the object, properties: [tenant, number]
    rowCount          always

What is measured is the number of rows that count, or their share of all rows in percent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.names import nearest
from quality.checks import Check, UnfitValueError, check_values, matching, no_duplicates, not_missing, not_null, one_of
from quality.frame import Frame
from quality.kernels.verdict import SetVerdict
from quality.operators import Operator
from quality.patterns import ecma
from quality.rules import RuleError, Types

METRICS = ("nullValues", "missingValues", "invalidValues", "duplicateValues", "rowCount")
_ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "nullValues": (),
    "missingValues": ("missingValues",),
    "invalidValues": ("validValues", "pattern"),
    "duplicateValues": ("properties",),
    "rowCount": (),
}

Build = Callable[[Types, float], Check]
"""Types and `mostly` -> the check that finds the rows that count."""


class Measure:
    """How many rows break a check, compared by the operator; without a check, how many rows there are."""

    def __init__(self, check: Check | None, operator: Operator, *, percent: bool) -> None:
        self._check = check
        self._operator = operator
        self._percent = percent
        self.columns: tuple[str, ...] = check.columns if check else ()
        self.engine = "arrow"

    def judge(self, frame: Frame) -> SetVerdict:
        count: int | float = frame.rows if self._check is None else self._check.judge(frame).unexpected
        if self._percent:
            count = count / frame.rows * 100 if frame.rows else 0.0
        return SetVerdict(self._operator.holds(count), count)


def is_percent(unit: object) -> bool:
    """Whether the unit of a check is percent. Raises RuleError for one that is neither that nor rows."""
    if unit in (None, "rows"):
        return False
    if unit in ("percent", "%"):
        return True
    raise RuleError(f"unit {unit!r} cannot be measured", hint="rows or percent", part="unit")


def build_metric(
    metric: str, arguments: Mapping[str, Any], column: str | None, resolve: Callable[[str], str]
) -> tuple[tuple[str, ...], Build | None]:
    """The columns of a metric, and what finds its rows (None: all count). `resolve` turns a property's name into its column.

    Raises RuleError for arguments that the metric does not have, lacks, or that make no sense.
    """
    for name in arguments:
        if name not in _ARGUMENTS[metric]:
            hint = nearest(name, _ARGUMENTS[metric]) or f"{metric} has no arguments"
            raise RuleError(f"{metric} has no argument {name!r}", hint=hint, part="arguments")
    if metric == "rowCount":
        if column is not None:
            raise RuleError("rowCount counts the rows of the whole object", hint="move it to the `quality` of the object", part="metric")
        return (), None
    if metric == "duplicateValues":
        columns = _key(arguments.get("properties"), column, resolve)
        return columns, lambda _types, mostly: no_duplicates(columns, mostly)
    if column is None:
        raise RuleError(f"{metric} is about one property", hint="move it to the `quality` of that property", part="metric")
    return (column,), _of_one_column(metric, arguments, column)


def _of_one_column(metric: str, arguments: Mapping[str, Any], column: str) -> Build:
    if metric == "nullValues":
        return lambda _types, mostly: not_null(column, mostly)
    if metric == "missingValues":
        words = _list(arguments, "missingValues")
        if words is None:
            raise RuleError(
                "missingValues needs the values that stand for a missing one", hint="arguments: {missingValues: [null, '', N/A]}"
            )
        return lambda _types, mostly: not_missing(column, words, mostly)
    allowed, pattern = _list(arguments, "validValues"), arguments.get("pattern")
    if allowed is None and pattern is None:
        raise RuleError("invalidValues needs arguments that say what is valid", hint="validValues: […] or pattern: …", part="arguments")
    matches = None
    if pattern is not None:
        try:
            matches = ecma(str(pattern))
        except ValueError as error:
            raise RuleError(str(error), part="arguments") from error

    def build(types: Types, mostly: float) -> Check:
        found = [] if matches is None else [matching(column, matches, mostly)]
        if allowed is not None:
            try:
                check_values(allowed, types[column].arrow)
            except UnfitValueError as error:
                raise RuleError(str(error), part="arguments") from error
            found.append(one_of(column, allowed, mostly))
        return found[0] if len(found) == 1 else found[0].also(found[1])

    return build


def _key(properties: object, column: str | None, resolve: Callable[[str], str]) -> tuple[str, ...]:
    if column is not None and properties is None:
        return (column,)
    if not isinstance(properties, list) or not properties or not all(isinstance(name, str) for name in properties):
        raise RuleError(
            "duplicateValues needs the properties that make up the key", hint="arguments: {properties: [a, b]}", part="arguments"
        )
    return tuple(resolve(name) for name in properties)


def _list(arguments: Mapping[str, Any], name: str) -> Sequence[Any] | None:
    values = arguments.get(name)
    if values is None:
        return None
    if not isinstance(values, list) or not values or any(isinstance(value, dict | list) for value in values):
        raise RuleError(f"{name} must be a list of values, not {values!r}", part="arguments")
    return values
