"""Texts in which a regular expression is found, as Python's re.search finds it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from quality.column import Column, Rows, unpacked
from quality.kernels.arguments import Arguments
from quality.kernels.distinct import by_distinct
from quality.kernels.errors import BadExpectation
from quality.kernels.re2_form import Re2Form, translate
from quality.kernels.rule import Check, MapKernel, row_kernel

_POSIX_CLASS = re.compile(r"\[\[:\^?[a-z]+:\]")
_AT_ONCE = 32_768  # values that are joined and matched as one text


class Pattern:
    """One regular expression. Raises BadExpectation where Python does not compile it."""

    def __init__(self, pattern: str, argument: str) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)
                self._search = re.compile(pattern).search
        except (re.error, OverflowError, RecursionError) as error:
            hint = "regular expressions are those of Python's re"
            raise BadExpectation(f"{argument} {pattern!r} is not a regular expression: {error}", argument, hint=hint) from error
        if _POSIX_CLASS.search(pattern):
            raise BadExpectation(
                f"{argument} {pattern!r} has a class such as [[:alpha:]], which Python's re takes for other characters", argument
            )
        self._form = translate(pattern)

    @property
    def engine(self) -> str:
        return "python" if self._form is None else "arrow"

    def found(self, texts: Column) -> Rows:
        """Whether the pattern is found in each text. Undefined where missing."""
        if self._form is None:
            return by_distinct(texts, lambda value: self._search(value) is not None)
        if texts.ascii:
            return find_ascii(texts, self._form)
        plain = unpacked(pc.string_is_ascii(texts.array))
        answer = unpacked(pc.match_substring_regex(texts.array, self._form.alone))
        other = ~plain if texts.missing is None else ~plain & ~texts.missing
        if other.any():
            answer = answer.copy()
            answer[other] = by_distinct(texts.where(other), lambda value: self._search(value) is not None)
        return answer


def find_ascii(texts: Column, form: Re2Form) -> Rows:
    """Whether the pattern is found in each ASCII text. Undefined where missing.

    Where every text matches, which is the rule, one pass over all of them joined says so: RE2 then needs a nanosecond or two a
    byte and nothing for a row.
    """
    if form.line is None or not texts.one_line:
        return unpacked(pc.match_substring_regex(texts.array, form.alone))
    if texts.missing is not None:
        answer = np.zeros(len(texts), np.bool_)
        answer[~texts.missing] = find_ascii(texts.where(~texts.missing), form)
        return answer
    whole = rf"\A(?:{form.line}\n)*(?:{form.line})\z"
    pieces = [texts.array.slice(start, _AT_ONCE) for start in range(0, len(texts), _AT_ONCE)]
    answers = [_whole_or_each(piece, whole, form.alone) for piece in pieces]
    return answers[0] if len(answers) == 1 else np.concatenate(answers) if answers else np.zeros(0, np.bool_)


def _whole_or_each(piece: pa.Array, whole: str, alone: str) -> Rows:
    large = pa.types.is_large_string(piece.type)
    offsets = pa.array([0, len(piece)], pa.int64() if large else pa.int32())
    rows = (pa.LargeListArray if large else pa.ListArray).from_arrays(offsets, piece)
    if pc.match_substring_regex(pc.binary_join(rows, "\n"), whole)[0].as_py():
        return np.ones(len(piece), np.bool_)
    return unpacked(pc.match_substring_regex(piece, alone))


def _texts(column: Column) -> Column:
    return column if column.family == "text" else Column(column.texts)


def _kernel(arguments: Arguments, column: str, patterns: Sequence[Pattern], combine: Callable[[Sequence[Rows]], Rows]) -> MapKernel:
    engine = "python" if any(pattern.engine == "python" for pattern in patterns) else "arrow"

    def passes(columns: Sequence[Column]) -> Rows:
        texts = _texts(columns[0])
        return combine([pattern.found(texts) for pattern in patterns])

    return row_kernel(arguments, [column], lambda types: Check(passes, engine))


def match(arguments: Arguments) -> MapKernel:
    """Texts in which the expression is found."""
    column = arguments.column()
    pattern = Pattern(arguments.text("regex") if arguments.given("regex") else "(?s).*", "regex")
    return _kernel(arguments, column, [pattern], lambda found: found[0])


def not_match(arguments: Arguments) -> MapKernel:
    """Texts in which the expression is not found."""
    column, pattern = arguments.column(), Pattern(arguments.text("regex"), "regex")
    return _kernel(arguments, column, [pattern], lambda found: ~found[0])


def match_list(arguments: Arguments) -> MapKernel:
    """Texts in which any, or all, of the expressions are found."""
    column = arguments.column()
    patterns = [Pattern(pattern, "regex_list") for pattern in arguments.texts("regex_list")]
    together = np.logical_and if arguments.choice("match_on", ("any", "all"), "any") == "all" else np.logical_or
    return _kernel(arguments, column, patterns, lambda found: np.asarray(together.reduce(found)))


def not_match_list(arguments: Arguments) -> MapKernel:
    """Texts in which none of the expressions is found."""
    column = arguments.column()
    patterns = [Pattern(pattern, "regex_list") for pattern in arguments.texts("regex_list")]
    return _kernel(arguments, column, patterns, lambda found: ~np.asarray(np.logical_or.reduce(found)))


OFFERED: Mapping[str, Callable[[Arguments], MapKernel]] = {
    "expect_column_values_to_match_regex": match,
    "expect_column_values_to_not_match_regex": not_match,
    "expect_column_values_to_match_regex_list": match_list,
    "expect_column_values_to_not_match_regex_list": not_match_list,
}
