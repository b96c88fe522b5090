"""Simple conditions without DuckDB: comparisons of columns with constants or with each other, IN, BETWEEN, IS NULL, AND, OR, NOT.

Only for text, whole numbers, decimals, dates and timestamps, for which Arrow and DuckDB agree to the letter (a property test says
so). Floating point is left out: DuckDB holds that NaN equals itself. Everything else gives None, and DuckDB does it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from journal.expression_tree import Node, Tree, resolve_name
from journal.types import arrow_type, parse_type

Mask = npt.NDArray[np.bool_]
Values = Mapping[str, pa.Array]
Step = Callable[[Values], pa.BooleanArray]

_COMPARISONS: Mapping[str, Callable[[Any, Any], pa.BooleanArray]] = {
    "COMPARE_EQUAL": pc.equal,
    "COMPARE_NOTEQUAL": pc.not_equal,
    "COMPARE_LESSTHAN": pc.less,
    "COMPARE_LESSTHANOREQUALTO": pc.less_equal,
    "COMPARE_GREATERTHAN": pc.greater,
    "COMPARE_GREATERTHANOREQUALTO": pc.greater_equal,
}
_TEXT = frozenset({"text", "character varying"})
_WHOLE = frozenset({"smallint", "integer", "bigint", "oid"})
_MOMENT = frozenset({"date", "timestamp without time zone", "timestamp with time zone"})
_NUMBER = re.compile(r"-?\d{1,18}(\.\d{1,15})?")


class _NotSimpleError(Exception):
    """Something only DuckDB can do."""


class ArrowExpression:
    """A condition that Arrow evaluates."""

    def __init__(self, step: Step, types: Mapping[str, str]) -> None:
        self._step = step
        self._types = types

    @classmethod
    def of(cls, tree: Tree, types: Mapping[str, str]) -> ArrowExpression | None:
        """The same condition in Arrow, or None where it is not simple enough. `types`: column -> Postgres type."""
        if not tree.references:
            return None
        try:
            return cls(_Compiler(types).condition(tree.root), types)
        except _NotSimpleError:
            return None

    def evaluate(self, values: Values, rows: int) -> tuple[Mask, Mask] | None:
        """(true, null), bool[rows] each; None if the values are not of the types that were promised."""
        if any(_family(values[name].type) != _promised(kind) for name, kind in self._types.items()):
            return None
        try:
            answer = self._step(values)
        except pa.ArrowInvalid:  # decimals too wide for a common type
            return None
        null = np.asarray(pc.is_null(answer)) if answer.null_count else np.zeros(rows, np.bool_)
        return np.asarray(pc.fill_null(answer, False)), null


class _Compiler:
    def __init__(self, types: Mapping[str, str]) -> None:
        self._types = types

    def condition(self, node: Node) -> Step:
        kind = node["type"]
        if kind in ("CONJUNCTION_AND", "CONJUNCTION_OR"):
            steps = [self.condition(child) for child in node["children"]]
            join = pc.and_kleene if kind == "CONJUNCTION_AND" else pc.or_kleene
            return lambda values: _joined(join, [step(values) for step in steps])
        if kind == "OPERATOR_NOT":
            inner = self.condition(node["children"][0])
            return lambda values: pc.invert(inner(values))
        if kind in ("OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL"):
            name = self._column(node["children"][0])
            test = pc.is_null if kind == "OPERATOR_IS_NULL" else pc.is_valid
            return lambda values: test(values[name])
        if kind in _COMPARISONS:
            return self._comparison(_COMPARISONS[kind], node["left"], node["right"])
        if kind == "COMPARE_BETWEEN":
            low = self._comparison(pc.greater_equal, node["input"], node["lower"])
            high = self._comparison(pc.less_equal, node["input"], node["upper"])
            return lambda values: pc.and_kleene(low(values), high(values))
        if kind in ("COMPARE_IN", "COMPARE_NOT_IN"):
            return self._membership(node["children"], negated=kind == "COMPARE_NOT_IN")
        raise _NotSimpleError

    def _comparison(self, compare: Callable[[Any, Any], pa.BooleanArray], left: Node, right: Node) -> Step:
        if left["class"] == "COLUMN_REF" and right["class"] == "COLUMN_REF":
            a, b = self._column(left), self._column(right)
            families = {_promised(self._types[a]), _promised(self._types[b])}
            if len(families) != 1 or families == {"decimal"}:
                raise _NotSimpleError
            return lambda values: compare(values[a], values[b])
        if left["class"] == "COLUMN_REF":
            name = self._column(left)
            scalar = self._constant(right, name)
            return lambda values: compare(values[name], scalar)
        name = self._column(right)
        scalar = self._constant(left, name)
        return lambda values: compare(scalar, values[name])

    def _membership(self, children: list[Node], *, negated: bool) -> Step:
        name = self._column(children[0])
        tests = [self._constant(child, name) for child in children[1:]]
        if not tests or len(tests) > 64:
            raise _NotSimpleError

        def among(values: Values) -> pa.BooleanArray:
            found = _joined(pc.or_kleene, [pc.equal(values[name], test) for test in tests])
            return pc.invert(found) if negated else found

        return among

    def _column(self, node: Node) -> str:
        if node["class"] != "COLUMN_REF":
            raise _NotSimpleError
        for written in node["column_names"][:2]:
            name = resolve_name(written, self._types)
            if name is not None and node["column_names"][-1] == written:
                if _promised(self._types[name]) is None:
                    raise _NotSimpleError
                return name
        raise _NotSimpleError

    def _constant(self, node: Node, column: str) -> pa.Scalar:
        """The constant in a type that compares with the column as DuckDB would compare them."""
        literal = _literal(node)
        family = _promised(self._types[column])
        if family == "text" and literal["kind"] == "STRING":
            return pa.scalar(literal["text"], pa.string())
        if family in ("whole", "decimal") and literal["kind"] in ("INTEGER", "DECIMAL", "NUMERIC") and _NUMBER.fullmatch(literal["text"]):
            number = Decimal(literal["text"])
            if family == "whole":
                if number != int(number):
                    raise _NotSimpleError
                return pa.scalar(int(number), pa.int64())
            return pa.scalar(number)
        raise _NotSimpleError


def _literal(node: Node) -> dict[str, Any]:
    if node["class"] == "CONSTANT" and "literal" in node and "text" in node["literal"]:
        literal: dict[str, Any] = node["literal"]
        return literal
    if node["class"] == "FUNCTION" and node["function_name"] == "-" and len(node["arguments"]) == 1:
        literal = dict(_literal(node["arguments"][0]["expression"]))
        if literal["kind"] != "STRING":
            return literal | {"text": "-" + literal["text"]}
    raise _NotSimpleError


def _joined(join: Callable[[Any, Any], pa.BooleanArray], parts: list[pa.BooleanArray]) -> pa.BooleanArray:
    whole = parts[0]
    for part in parts[1:]:
        whole = join(whole, part)
    return whole


def _promised(kind: str) -> str | None:
    """The family of values that a column of a Postgres type arrives in; None for types that are left to DuckDB."""
    parsed = parse_type(kind)
    if parsed.array:
        return None
    if parsed.base in _TEXT:
        return "text"
    if parsed.base in _WHOLE:
        return "whole"
    if parsed.base == "numeric":
        return "decimal"
    return str(arrow_type(kind)) if parsed.base in _MOMENT else None


def _family(kind: pa.DataType) -> str | None:
    if pa.types.is_string(kind):
        return "text"
    if pa.types.is_integer(kind):
        return "whole"
    if pa.types.is_decimal(kind):
        return "decimal"
    return str(kind) if pa.types.is_date32(kind) or pa.types.is_timestamp(kind) else None
