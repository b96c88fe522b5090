"""Which rows a row_condition chooses, as pandas' DataFrame.query would.

What is common (a column against a constant, lists, null tests, and, or, not) is computed on Arrow and numpy. All else goes to
pandas itself, over the columns that the condition names; nothing outside them can be reached from it.

Missing values are treated as pandas does for nullable integers and booleans, doubles, and objects: a comparison with a missing
integer is unknown, and unknown rows are not chosen; any other missing value equals nothing, differs from all, and is in no list.
"""

from __future__ import annotations

import ast
import io
import operator
import re
import tokenize
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.names import nearest
from quality.column import Column, Rows, unpacked
from quality.frame import Frame
from quality.kernels.arguments import Arguments
from quality.kernels.condition_text import query_text
from quality.kernels.errors import BadExpectation
from quality.pandas_form import PANDAS_ERRORS, series, specimen

_COMPARE: dict[type[ast.cmpop], tuple[Callable[[Any, Any], Any], str]] = {
    ast.Eq: (operator.eq, "equal"),
    ast.NotEq: (operator.ne, "not_equal"),
    ast.Lt: (operator.lt, "less"),
    ast.LtE: (operator.le, "less_equal"),
    ast.Gt: (operator.gt, "greater"),
    ast.GtE: (operator.ge, "greater_equal"),
}
_MIRRORED: dict[type[ast.cmpop], type[ast.cmpop]] = {ast.Lt: ast.Gt, ast.LtE: ast.GtE, ast.Gt: ast.Lt, ast.GtE: ast.LtE}

_ACCESSORS = ("str", "dt")
_METHODS = frozenset({*_ACCESSORS, "abs", "between", "fillna", "isin", "isna", "isnull", "notna", "notnull", "round"})


class _BeyondArrow(Exception):  # noqa: N818  (a signal, not an error)
    """This part of a condition is left to pandas."""


@dataclass(frozen=True)
class _Truth:
    """True, and unknown, for each row."""

    true: Rows
    unknown: Rows | None = None

    @property
    def false(self) -> Rows:
        return ~self.true if self.unknown is None else ~self.true & ~self.unknown

    @staticmethod
    def of(true: Rows, unknown: Rows | None) -> _Truth:
        return _Truth(true if unknown is None else true & ~unknown, unknown)


def read_condition(arguments: Arguments) -> RowCondition | None:
    """The condition that an expectation's arguments set, if any. Raises BadExpectation."""
    text = query_text(arguments.get("row_condition"), arguments.get("condition_parser"))
    return None if text is None else RowCondition(text)


class RowCondition:
    """A pandas query over the columns of a row. Raises BadExpectation for what is not one."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._names: dict[str, str] = {}
        try:
            self._tree = ast.parse(_as_python(text, self._names), mode="eval").body
        except (SyntaxError, tokenize.TokenError) as error:
            raise BadExpectation(f"row_condition {text!r} cannot be read: {error}", "row_condition") from error
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Attribute) and not _is_harmless(node):
                raise BadExpectation(f"row_condition {text!r} uses {node.attr}, which is not for choosing rows", "row_condition")
        functions = {node.func.id for node in ast.walk(self._tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
        found = [node.id for node in ast.walk(self._tree) if isinstance(node, ast.Name) and node.id not in functions]
        self.columns = tuple(dict.fromkeys(self._names.get(name, name) for name in found))
        if not self.columns:
            raise BadExpectation(f"row_condition {text!r} names no column", "row_condition")

    def prepare(self, types: Mapping[str, pa.DataType]) -> None:
        """Raises BadExpectation where the condition cannot be asked of columns of these types."""
        for name in self.columns:
            if name not in types:
                raise BadExpectation(f"row_condition names {name}, and there is no such column", "row_condition", hint=nearest(name, types))
        self.rows(Frame({name: specimen(types[name]) for name in self.columns}, 1))

    def rows(self, frame: Frame) -> Rows:
        """bool[rows] of the rows that are chosen. Raises BadExpectation."""
        try:
            return self._truth(self._tree, frame).true
        except _BeyondArrow:
            return self._by_pandas(frame)

    def _by_pandas(self, frame: Frame) -> Rows:
        import pandas as pd

        table = pd.DataFrame({name: series(self._column(frame, name)) for name in self.columns}, index=pd.RangeIndex(frame.rows))
        try:
            chosen = table.query(self.text, local_dict={}, global_dict={})
        except PANDAS_ERRORS as error:
            raise BadExpectation(f"row_condition {self.text!r} cannot be asked of these columns: {error}", "row_condition") from error
        rows = np.zeros(frame.rows, np.bool_)
        rows[chosen.index.to_numpy()] = True
        return rows

    def _column(self, frame: Frame, name: str) -> Column:
        try:
            return frame.column(name)
        except KeyError:
            hint = nearest(name, frame.columns)
            raise BadExpectation(f"row_condition names {name}, and there is no such column", "row_condition", hint=hint) from None

    def _truth(self, node: ast.expr, frame: Frame) -> _Truth:
        match node:
            case ast.BoolOp(op=joined, values=parts):
                truths = [self._truth(part, frame) for part in parts]
                whole = truths[0]
                for one in truths[1:]:
                    whole = _both(whole, one) if isinstance(joined, ast.And) else _either(whole, one)
                return whole
            case ast.UnaryOp(op=ast.Not() | ast.Invert(), operand=inner):
                truth = self._truth(inner, frame)
                return _Truth(truth.false, truth.unknown)
            case ast.Compare(left=left, ops=ops, comparators=rights):
                sides = [left, *rights]
                whole = self._compare(sides[0], ops[0], sides[1], frame)
                for at in range(1, len(ops)):
                    whole = _both(whole, self._compare(sides[at], ops[at], sides[at + 1], frame))
                return whole
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=attribute), args=[], keywords=[]):
                if attribute in ("isnull", "isna", "notnull", "notna"):
                    missing = self._column(frame, self._names.get(name, name)).missing
                    null = np.zeros(frame.rows, np.bool_) if missing is None else missing
                    return _Truth(null if attribute.startswith("is") else ~null)
            case ast.Name(id=name):
                column = self._column(frame, self._names.get(name, name))
                if column.family == "bool":
                    return _Truth.of(unpacked(column.array), column.missing)
        raise _BeyondArrow

    def _compare(self, left: ast.expr, op: ast.cmpop, right: ast.expr, frame: Frame) -> _Truth:
        if not isinstance(left, ast.Name):
            if not isinstance(right, ast.Name):
                raise _BeyondArrow
            left, right, op = right, left, _MIRRORED.get(type(op), type(op))()
        try:
            constant = ast.literal_eval(right)
        except (ValueError, TypeError):
            raise _BeyondArrow from None
        column = self._column(frame, self._names.get(left.id, left.id))
        if isinstance(constant, (list, tuple)):
            if isinstance(op, (ast.In, ast.Eq)):
                return _Truth(_in_list(column, list(constant)))
            if isinstance(op, (ast.NotIn, ast.NotEq)):
                return _Truth(~_in_list(column, list(constant)))
        elif type(op) in _COMPARE:
            return _against(column, type(op), constant)
        raise _BeyondArrow


def _is_harmless(node: ast.Attribute) -> bool:
    """Whether an attribute only looks at the values of a column: pandas has others that write files."""
    inside = isinstance(node.value, ast.Attribute) and node.value.attr in _ACCESSORS
    return node.attr in _METHODS or (inside and not node.attr.startswith("_"))


def _as_python(text: str, names: dict[str, str]) -> str:
    """The query as a Python expression: & and | are and and or in it, and `quoted names` become identifiers, noted in `names`."""

    def placeholder(found: re.Match[str]) -> str:
        name = f"quoted_{len(names)}_"
        names[name] = found[1]
        return name

    python = re.sub(r"`([^`]*)`", placeholder, text.strip())
    words = {"&": (tokenize.NAME, "and"), "|": (tokenize.NAME, "or")}
    tokens = tokenize.generate_tokens(io.StringIO(python).readline)
    return tokenize.untokenize(words.get(token.string, (token.type, token.string)) for token in tokens)


def _both(one: _Truth, other: _Truth) -> _Truth:
    if one.unknown is None and other.unknown is None:
        return _Truth(one.true & other.true)
    true, false = one.true & other.true, one.false | other.false
    return _Truth(true, ~true & ~false)


def _either(one: _Truth, other: _Truth) -> _Truth:
    if one.unknown is None and other.unknown is None:
        return _Truth(one.true | other.true)
    true, false = one.true | other.true, one.false & other.false
    return _Truth(true, ~true & ~false)


def _against(column: Column, op: type[ast.cmpop], constant: object) -> _Truth:
    compare, arrow = _COMPARE[op]
    missing = column.missing
    if column.family == "text" and isinstance(constant, str):
        answer = unpacked(getattr(pc, arrow)(column.array, pa.scalar(constant, column.type)))
    elif column.family in ("int", "float") and isinstance(constant, (int, float)):
        answer = np.asarray(compare(column.numbers, constant), np.bool_)
        if column.family == "int":
            return _Truth.of(answer, missing)
    elif column.family == "bool" and isinstance(constant, bool) and op in (ast.Eq, ast.NotEq):
        answer = np.asarray(compare(column.numbers, int(constant)), np.bool_)
    else:
        raise _BeyondArrow
    if missing is None:
        return _Truth(answer)
    return _Truth(answer | missing if op is ast.NotEq else answer & ~missing)


def _in_list(column: Column, values: list[object]) -> Rows:
    if column.family == "text" and all(isinstance(value, str) for value in values):
        answer = unpacked(pc.is_in(column.array, pa.array(values, column.type)))
    elif column.family in ("int", "float") and all(type(value) in (int, float) for value in values):
        answer = np.isin(column.doubles if column.family == "float" else column.numbers, np.array(values))
    else:
        raise _BeyondArrow
    return answer if column.missing is None else answer & ~column.missing
