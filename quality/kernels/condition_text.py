"""A row_condition, in each of the forms that Great Expectations takes, as one pandas query."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping, Sequence

from quality.kernels.errors import BadExpectation

_PARSERS = ("great_expectations", "great_expectations__experimental__", "pandas", "spark")
_OPERATORS = ("==", "!=", "<", "<=", ">", ">=")
_LEGACY = re.compile(
    r"""\s*col\(\s*"(?P<column>[^"\n]+)"\s*\)\s*
    (?: (?P<notnull>\.notnull\(\))
      | (?P<op>==|!=|<=|>=|<|>)\s*
        (?: (?P<number>[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)
          | (?:date\(\s*)?(?:"(?P<double>[^"']+)"|'(?P<single>[^"']+)')(?:\s*\))?
        )
    )\s*""",
    re.VERBOSE | re.IGNORECASE,
)
_MOST_CONDITIONS = 100


def query_text(given: object, parser: object) -> str | None:
    """The pandas query that a row_condition is, or None for none. Raises BadExpectation."""
    if parser is not None and parser not in _PARSERS:
        raise BadExpectation(f"condition_parser must be one of {', '.join(_PARSERS)}, not {parser!r}", "condition_parser")
    if given is None:
        return None
    if isinstance(given, Mapping):
        if _count(given) > _MOST_CONDITIONS:
            raise _bad(f"has more than {_MOST_CONDITIONS} conditions")
        return _of_object(given)
    if not isinstance(given, str) or not given.strip():
        raise _bad("must be a condition: text, or an object with a type")
    return _of_legacy(given) if parser in _PARSERS[:2] else given


def column_reference(name: str) -> str:
    """A column's name as a pandas query reads it."""
    return name if name.isidentifier() and not keyword.iskeyword(name) else f"`{name}`"


def _bad(what: str) -> BadExpectation:
    return BadExpectation(f"row_condition {what}", "row_condition")


def _of_legacy(text: str) -> str:
    found = _LEGACY.fullmatch(text)
    if found is None:
        raise BadExpectation(
            f"row_condition {text!r} cannot be read",
            "row_condition",
            hint='the parser great_expectations takes one comparison, such as col("amount") > 5, or col("amount").notnull()',
        )
    column = column_reference(found["column"])
    if found["notnull"]:
        return f"~{column}.isnull()"
    if found["number"] is None:
        return f"{column} {found['op']} {(found['double'] or found['single'])!r}"
    number = found["number"]
    return f"{column} {found['op']} {int(number) if re.fullmatch(r'[+-]?[0-9]+', number) else float(number)!r}"


def _count(given: Mapping[str, object]) -> int:
    inner = given.get("conditions")
    return (
        sum(_count(one) for one in inner if isinstance(one, Mapping)) if isinstance(inner, Sequence) and not isinstance(inner, str) else 1
    )


def _of_object(given: Mapping[str, object], inside: str = "") -> str:
    match given.get("type"):
        case "comparison":
            return _comparison(given)
        case "nullity":
            if not isinstance(given.get("is_null"), bool):
                raise _bad("of type nullity needs is_null: true or false")
            column = column_reference(_name(given))
            return f"{column}.isnull()" if given["is_null"] else f"~{column}.isnull()"
        case "and" | "or" as joined:
            if joined == "or" and inside:
                raise _bad(f"cannot hold an or inside an {inside}")
            inner = given.get("conditions")
            if not isinstance(inner, Sequence) or isinstance(inner, str) or not inner or not all(isinstance(one, Mapping) for one in inner):
                raise _bad(f"of type {joined} needs a list of conditions")
            return "(" + f" {joined} ".join(_of_object(one, joined) for one in inner if isinstance(one, Mapping)) + ")"
        case "pass_through":
            text = given.get("pass_through_filter")
            if not isinstance(text, str) or not text.strip():
                raise _bad("of type pass_through needs pass_through_filter")
            return f"({text})" if inside else text
        case other:
            raise _bad(f"has the type {other!r}; it must be comparison, nullity, and, or, or pass_through")


def _name(given: Mapping[str, object]) -> str:
    column = given.get("column")
    name = column.get("name") if isinstance(column, Mapping) else column
    if not isinstance(name, str) or not name:
        raise _bad("needs a column: {name: …}")
    return name


def _comparison(given: Mapping[str, object]) -> str:
    operator, parameter = given.get("operator"), given.get("parameter")
    column = column_reference(_name(given))
    if parameter is None:
        raise _bad("compares with nothing: a nullity condition asks for null")
    if operator in ("IN", "NOT_IN"):
        if not isinstance(parameter, (list, tuple, set, frozenset)):
            raise _bad(f"needs a list of values for {operator}")
        values = list(parameter)
        if not all(type(value) in (int, float) for value in values) and not all(type(value) is str for value in values):
            raise _bad(f"needs values of one type, numbers or texts, for {operator}")
        return f"{column} {'in' if operator == 'IN' else 'not in'} [{', '.join(map(repr, values))}]"
    if operator not in _OPERATORS:
        raise _bad(f"has the operator {operator!r}; it must be one of {', '.join(_OPERATORS)}, IN, NOT_IN")
    if not isinstance(parameter, (bool, int, float, str)):
        raise _bad(f"cannot compare with {parameter!r}: numbers, texts and booleans can be written in a condition")
    return f"{column} {operator} {parameter!r}"
