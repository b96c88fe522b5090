"""Whether Great Expectations says of a frame what a kernel says of it; with what may differ and be the same answer all the same.

Its verdict can depend on how pandas stores the values: where one of the ways to store them gives ours, either is right. It gives up on
whole columns where a verdict row by row is plain: that is no verdict of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from quality.frame import Frame
from quality.kernels.gx import Answer, Form, Forms, Reference, Refusal
from quality.kernels.registry import ROW_EXPECTATIONS, compile_expectation
from quality.kernels.verdict import Rows, RowVerdict, SetVerdict

Expectation = tuple[str, Mapping[str, Any]]
"""A name of Great Expectations, in its lower case, and its arguments."""

FORMS: tuple[Form, ...] = ("nullable", "plain", "objects", "strings")
EXTENDED: Mapping[str, str] = {
    "expect_column_values_to_match_json_schema": "a value that is no JSON",
    "expect_column_values_to_match_regex": "inline flags of Python's that pandas hands to RE2",
    "expect_column_values_to_not_match_regex": "the same",
    "expect_column_values_to_match_regex_list": "the same",
    "expect_column_values_to_not_match_regex_list": "the same",
    "expect_column_values_to_be_of_type": "a type that nobody knows",
    "expect_column_values_to_be_in_type_list": "the same",
    "expect_column_values_to_be_between": "dates as bounds of times",
    "expect_column_min_to_be_between": "the same",
    "expect_column_max_to_be_between": "the same",
    "expect_column_mean_to_be_between": "the same",
    "expect_column_median_to_be_between": "the same",
    "expect_column_value_z_scores_to_be_less_than": "the deviation of a single time",
}
"""Where Great Expectations gives up on a whole column, and a verdict row by row is plain."""
WITHOUT_PANDAS = frozenset({"unexpected_rows_expectation", *(kind for kind in ROW_EXPECTATIONS if "like_pattern" in kind)})
"""Great Expectations judges them in databases only."""
_MANY = 1000


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """What came of it: `theirs` is the answer that agrees, or else the first that they gave. `refused`: there was none, `extended`:
    nor could there be (see EXTENDED). Of a rule over rows `rows` is bool[n] of those on which they differ however the values are stored."""

    outcome: Literal["agrees", "differs", "refused", "extended"]
    theirs: Answer
    rows: Rows | None = None


def compare(rule: Expectation, ours: RowVerdict | SetVerdict, frame: Frame, reference: Reference) -> Compared:
    """Asks Great Expectations about a frame of which a kernel has said `ours`. Nothing in the frame is malformed or absent."""
    answers: list[Answer] = []
    for form in (*_cheap(ours, frame), *FORMS):
        [answer] = reference.judge(frame, [rule], form)
        if same(ours, answer):
            return Compared("agrees", answer)
        answers.append(answer)
    first = next((answer for answer in answers if not isinstance(answer, Refusal)), answers[0])
    by_row = [answer.failed for answer in answers if isinstance(answer, RowVerdict)]
    rows = np.logical_and.reduce([failed != ours.failed for failed in by_row]) if by_row and isinstance(ours, RowVerdict) else None
    if rows is not None and not rows.any():
        return Compared("agrees", first)
    explained = explanation(rule, ours, frame, answers, reference) is not None
    if isinstance(first, Refusal):
        return Compared("extended" if explained else "refused", first)
    return Compared("agrees" if explained else "differs", first, rows)


def _cheap(ours: RowVerdict | SetVerdict, frame: Frame) -> tuple[Forms, ...]:
    """Decimals as doubles, where there are many of them, or something is computed of them all: Great Expectations takes a millisecond to
    make one of the other, each time."""
    decimals: dict[str, Form] = {name: "plain" for name in frame.columns if frame.column(name).family == "decimal"}
    return (decimals,) if decimals and (isinstance(ours, SetVerdict) or frame.rows > _MANY) else ()


def same(ours: object, theirs: Answer) -> bool:
    """Whether two answers say the same, row by row."""
    if isinstance(ours, RowVerdict) and isinstance(theirs, RowVerdict):
        return ours.evaluated == theirs.evaluated and ours.success == theirs.success and bool((ours.failed == theirs.failed).all())
    # of a type that a column has as a whole, Great Expectations gives one verdict for all rows
    if isinstance(ours, RowVerdict) and isinstance(theirs, SetVerdict):
        return ours.success == theirs.success or (ours.evaluated == 0 and ours.success)
    return isinstance(ours, SetVerdict) and isinstance(theirs, SetVerdict) and ours.success == theirs.success


def explanation(
    rule: Expectation, ours: RowVerdict | SetVerdict, frame: Frame, answers: Sequence[Answer], reference: Reference
) -> str | None:
    """Why verdicts may differ that were given by form: what is said, or None when they may not."""
    kind, arguments = rule
    if all(isinstance(answer, Refusal) for answer in answers):
        if kind == "expect_column_values_to_match_json_schema":
            return "extended" if _same_where_json(rule, ours, frame, reference) else None
        return "extended" if kind in EXTENDED else None
    if "type" in kind and "column" in arguments and frame.rows:  # numpy's integers and booleans have no nulls
        there = ~np.asarray(frame.columns[arguments["column"]].is_null())
        unconditional = (kind, {name: value for name, value in arguments.items() if name not in ("row_condition", "condition_parser")})
        kernel = compile_expectation(*unconditional, {name: array.type for name, array in frame.columns.items()})
        held = kernel.judge(frame.where(there))
        if any(same(held, reference.judge(frame.where(there), [unconditional], form)[0]) for form in ("plain", "nullable")):
            return "held without nulls"
    return next(
        (f"held as {forms}" for forms in _mixed(rule, frame) if same(ours, reference.judge(frame, [rule], forms)[0])),
        None,
    )


def judged_columns(rule: Expectation) -> list[str]:
    """The columns that an expectation is about."""
    arguments = rule[1]
    single = [arguments[name] for name in ("column", "column_A", "column_B") if name in arguments]
    return [*single, *(arguments.get("column_list") or ())]


def _mixed(rule: Expectation, frame: Frame) -> Iterator[dict[str, Form]]:
    """The judged columns in one form and those of a condition in the other."""
    chosen = judged_columns(rule)
    for form in FORMS[1:]:
        yield dict.fromkeys(chosen, form)
        yield {name: form for name in frame.columns if name not in chosen}


def _same_where_json(rule: Expectation, ours: RowVerdict | SetVerdict, frame: Frame, reference: Reference) -> bool:
    readable = np.array([value is None or _is_json(value) for value in frame.columns[rule[1]["column"]].to_pylist()], np.bool_)
    [theirs] = reference.judge(frame.where(readable), [rule])
    if not isinstance(ours, RowVerdict) or not isinstance(theirs, RowVerdict):
        return False
    return bool(ours.failed[~readable].all()) and bool((ours.failed[readable] == theirs.failed).all())


def _is_json(text: str | bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
