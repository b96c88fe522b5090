"""Texts in which a regular expression is found, as Python's re.search finds it."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from quality.column import Column, Rows, unpacked
from quality.kernels.arguments import Arguments
from quality.kernels.distinct import by_distinct
from quality.kernels.errors import BadExpectation
from quality.kernels.re2_form import Re2Form, all_lines, either, some_line, translate
from quality.kernels.rule import Check, MapKernel, row_kernel

_POSIX_CLASS = re.compile(r"\[\[:\^?[a-z]+:\]")
_TRIAL = 1024  # texts that decide how a pattern is searched for
_QUICK, _SLOW = 0.4e-6, 2e-6  # seconds for a text: as is to be expected, and when Python may compete
_AT_ONCE = 32_768  # values that are joined and matched as one text


class Patterns:
    """Regular expressions, any of which is searched for. Raises BadExpectation where Python does not compile one."""

    def __init__(self, patterns: Sequence[str], argument: str) -> None:
        self._searches = [_compiled(pattern, argument) for pattern in patterns]
        forms = [translate(pattern) for pattern in patterns]
        self._form = None if None in forms else either([form for form in forms if form is not None])
        self._tried = self._form is None

    @property
    def engine(self) -> str:
        return "python" if self._form is None else "arrow"

    def found(self, texts: Column, *, usual: bool = True) -> Rows:
        """Whether one of them is found in each text; `usual` is the answer that most texts should have. Undefined where missing."""
        if not self._tried and len(texts) >= _TRIAL:
            self._tried = True
            self._form = self._fastest(texts.array.slice(0, _TRIAL))
        if self._form is None:
            return by_distinct(texts, self._search)
        if texts.ascii:
            return find(texts, self._form, usual=usual)
        plain = unpacked(pc.string_is_ascii(texts.array))
        answer = unpacked(pc.match_substring_regex(texts.array, self._form.alone)).copy()
        other = ~plain if texts.missing is None else ~plain & ~texts.missing
        answer[other] = by_distinct(texts.where(other), self._search)
        return answer

    def _fastest(self, sample: pa.Array) -> Re2Form | None:
        """The form as it is used from now on. Some patterns (`a.{30}b`) have more states than RE2 keeps, and it gets slow with them:
        then each text is searched by itself, or even by Python."""
        if self._form is None or not Column(sample).ascii:
            return self._form
        column = Column(sample)
        joined = _seconds(lambda form: find(column, form), self._form)
        if joined < _QUICK * len(sample):
            return self._form
        alone = replace(self._form, line=None)
        each = _seconds(lambda form: find(column, form), alone)
        if min(each, joined) > _SLOW * len(sample):
            few = [text for text in sample.slice(0, 64).to_pylist() if text is not None]
            if _seconds(lambda form: [self._search(text) for text in few], alone) / max(len(few), 1) < min(each, joined) / len(sample):
                return None
        return self._form if joined < 2 * each else alone

    def _search(self, text: str) -> bool:
        return any(search(text) is not None for search in self._searches)


def _seconds(run: Callable[[Re2Form], object], form: Re2Form) -> float:
    """The shorter of two runs: a busy machine makes single ones long."""
    taken = []
    for _ in range(2):
        start = time.perf_counter()
        run(form)
        taken.append(time.perf_counter() - start)
    return min(taken)


def _compiled(pattern: str, argument: str) -> Callable[[str], object]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            search = re.compile(pattern).search
    except (re.error, OverflowError, RecursionError) as error:
        hint = "regular expressions are those of Python's re"
        raise BadExpectation(f"{argument} {pattern!r} is not a regular expression: {error}", argument, hint=hint) from error
    if _POSIX_CLASS.search(pattern):
        raise BadExpectation(
            f"{argument} {pattern!r} has a class such as [[:alpha:]], which Python's re takes for other characters", argument
        )
    return search


def find(texts: Column, form: Re2Form, *, usual: bool = True) -> Rows:
    """Whether the form is found in each text. Undefined where missing.

    Where every text gives the usual answer, which is the rule, one pass over all of them joined says so: RE2 then needs a
    nanosecond or two a byte and nothing for a row.
    """
    if form.line is None or not texts.one_line:
        return unpacked(pc.match_substring_regex(texts.array, form.alone))
    if texts.missing is not None:
        answer = np.zeros(len(texts), np.bool_)
        answer[~texts.missing] = find(texts.where(~texts.missing), form, usual=usual)
        return answer
    whole = all_lines(form.line) if usual else some_line(form.line)
    pieces = [texts.array.slice(start, _AT_ONCE) for start in range(0, len(texts), _AT_ONCE)]
    answers = [_whole_or_each(piece, whole, form.alone, usual) for piece in pieces]
    return answers[0] if len(answers) == 1 else np.concatenate(answers) if answers else np.zeros(0, np.bool_)


def _whole_or_each(piece: pa.Array, whole: str, alone: str, usual: bool) -> Rows:
    try:
        rows = pa.ListArray.from_arrays(pa.array([0, len(piece)], pa.int32()), piece.cast(pa.string()))
        if pc.match_substring_regex(pc.binary_join(rows, "\n"), whole)[0].as_py() == usual:
            return np.full(len(piece), usual)
    except pa.ArrowInvalid:  # together they are too long for one text
        pass
    return unpacked(pc.match_substring_regex(piece, alone))


def _kernel(arguments: Arguments, column: str, patterns: Sequence[Patterns], *, wanted: bool) -> MapKernel:
    """Texts in which all of the patterns are found, or without `wanted` none."""
    engine = "python" if any(pattern.engine == "python" for pattern in patterns) else "arrow"

    def passes(columns: Sequence[Column]) -> Rows:
        texts = columns[0] if columns[0].family == "text" else Column(columns[0].texts)
        answer = patterns[0].found(texts, usual=wanted)
        for pattern in patterns[1:]:
            answer = answer & pattern.found(texts)
        return answer if wanted else ~answer

    return row_kernel(arguments, [column], lambda types: Check(passes, engine))


def match(arguments: Arguments) -> MapKernel:
    """Texts in which the expression is found."""
    column, pattern = arguments.column(), arguments.text("regex") if arguments.given("regex") else "(?s).*"
    return _kernel(arguments, column, [Patterns([pattern], "regex")], wanted=True)


def not_match(arguments: Arguments) -> MapKernel:
    """Texts in which the expression is not found."""
    column, pattern = arguments.column(), arguments.text("regex")
    return _kernel(arguments, column, [Patterns([pattern], "regex")], wanted=False)


def match_list(arguments: Arguments) -> MapKernel:
    """Texts in which any, or all, of the expressions are found."""
    column, patterns = arguments.column(), arguments.texts("regex_list")
    together = [patterns] if arguments.choice("match_on", ("any", "all"), "any") == "any" else [(pattern,) for pattern in patterns]
    return _kernel(arguments, column, [Patterns(one, "regex_list") for one in together], wanted=True)


def not_match_list(arguments: Arguments) -> MapKernel:
    """Texts in which none of the expressions is found."""
    column, patterns = arguments.column(), arguments.texts("regex_list")
    return _kernel(arguments, column, [Patterns(patterns, "regex_list")], wanted=False)


OFFERED: Mapping[str, Callable[[Arguments], MapKernel]] = {
    "expect_column_values_to_match_regex": match,
    "expect_column_values_to_not_match_regex": not_match,
    "expect_column_values_to_match_regex_list": match_list,
    "expect_column_values_to_not_match_regex_list": not_match_list,
}
