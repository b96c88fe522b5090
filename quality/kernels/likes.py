"""SQL's LIKE. Great Expectations has it for databases only; it is judged here as Postgres judges it.

Case counts, `_` is one character, `%` any number of them, and unless `escape` names another character a backslash makes the next
character mean itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from quality.column import Column, Rows, family, unpacked
from quality.kernels.arguments import Arguments
from quality.kernels.errors import BadExpectation
from quality.kernels.re2_form import Re2Form
from quality.kernels.regexes import find
from quality.kernels.rule import Check, MapKernel, Types, row_kernel

Found = Callable[[Column, bool], Rows]  # of texts, most of which are like it, or not


def _pattern(text: str, escape: str, argument: str) -> Found:
    """What finds the texts that are like a pattern. Raises BadExpectation for one that ends in its escape character."""
    parts: list[str] = [""]  # literals, and between them the wildcards
    characters = iter(text)
    for character in characters:
        if character == escape:
            literal = next(characters, None)
            if literal is None:
                raise BadExpectation(f"{argument} {text!r} ends in its escape character", argument)
            parts[-1] += literal
        elif character in "%_":
            parts += [character, ""]
        else:
            parts[-1] += character
    wild = parts[1::2]
    literals = parts[::2]
    filled = [literal for literal in literals if literal]
    if not wild:
        return lambda texts, usual: unpacked(pc.equal(texts.array, pa.scalar(literals[0], texts.type)))
    if set(wild) == {"%"} and len(filled) <= 1:
        if not filled:
            return lambda texts, usual: np.ones(len(texts), np.bool_)
        if literals[0] and len(wild) == 1:
            return lambda texts, usual: unpacked(pc.starts_with(texts.array, filled[0]))
        if literals[-1] and len(wild) == 1:
            return lambda texts, usual: unpacked(pc.ends_with(texts.array, filled[0]))
        if not literals[0] and not literals[-1]:
            return lambda texts, usual: unpacked(pc.match_substring(texts.array, filled[0]))
    alone = "".join(("(?s:.*)" if part == "%" else "(?s:.)") if at % 2 else _escaped(part) for at, part in enumerate(parts))
    line = "".join(("[^\\n]*" if part == "%" else "[^\\n]") if at % 2 else _escaped(part) for at, part in enumerate(parts))
    form = Re2Form(rf"\A{alone}\z", line if "\n" not in text else None)
    return lambda texts, usual: find(texts, form, usual=usual)


def _escaped(literal: str) -> str:
    return "".join(c if c.isalnum() or ord(c) > 127 else rf"\x{ord(c):02x}" for c in literal)


def _kernel(arguments: Arguments, patterns: Sequence[Found], *, wanted: bool, together: np.ufunc = np.logical_or) -> MapKernel:
    """Texts that are like any, or all, of the patterns, or without `wanted` those that are not."""
    column = arguments.column()

    def choose(types: Types) -> Check:
        if family(types[0]) not in ("text", "null"):
            raise BadExpectation(f"column {column} is of type {types[0]}: LIKE is for text", "column")
        return Check(passes)

    def passes(columns: Sequence[Column]) -> Rows:
        if columns[0].family == "null":
            return np.zeros(len(columns[0]), np.bool_)
        like = np.asarray(together.reduce([found(columns[0], wanted) for found in patterns]), np.bool_)
        return like if wanted else ~like

    return row_kernel(arguments, [column], choose)


def _read(arguments: Arguments, name: str) -> list[Found]:
    escape = "\\"
    if arguments.get("escape") is not None:
        escape = arguments.text("escape")
        if len(escape) != 1:
            raise BadExpectation("escape must be a single character", "escape")
    texts = arguments.texts(name) if name.endswith("_list") else [arguments.text(name)]
    return [_pattern(text, escape, name) for text in texts]


def match(arguments: Arguments) -> MapKernel:
    """Texts that are like the pattern."""
    return _kernel(arguments, _read(arguments, "like_pattern"), wanted=True)


def not_match(arguments: Arguments) -> MapKernel:
    """Texts that are not like the pattern."""
    return _kernel(arguments, _read(arguments, "like_pattern"), wanted=False)


def match_list(arguments: Arguments) -> MapKernel:
    """Texts that are like any, or all, of the patterns."""
    together = np.logical_and if arguments.choice("match_on", ("any", "all"), "any") == "all" else np.logical_or
    return _kernel(arguments, _read(arguments, "like_pattern_list"), wanted=True, together=together)


def not_match_list(arguments: Arguments) -> MapKernel:
    """Texts that are like none of the patterns."""
    return _kernel(arguments, _read(arguments, "like_pattern_list"), wanted=False)


OFFERED: Mapping[str, Callable[[Arguments], MapKernel]] = {
    "expect_column_values_to_match_like_pattern": match,
    "expect_column_values_to_not_match_like_pattern": not_match,
    "expect_column_values_to_match_like_pattern_list": match_list,
    "expect_column_values_to_not_match_like_pattern_list": not_match_list,
}
