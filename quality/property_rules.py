"""The rules that a property states without calling them rules: its type, required, unique, its key, its options, its values."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from pipeline.names import nearest
from quality.checks import (
    OfType,
    UnfitValueError,
    check_values,
    length_within,
    matching,
    multiple_of,
    no_duplicates,
    not_null,
    one_of,
    within,
)
from quality.contract import Property
from quality.logical_types import Judged
from quality.nested_judge import Shape
from quality.nested_shape import Trail, has_inside, shape_of
from quality.patterns import FORMATS, ecma
from quality.rules import RowJudge, RuleError, Scope, Types

_LIMITS = {"minimum": (False, False), "exclusiveMinimum": (False, True), "maximum": (True, False), "exclusiveMaximum": (True, True)}
_PAIRS = (("minLength", "maxLength"), ("minimum", "maximum"), ("minItems", "maxItems"), ("minProperties", "maxProperties"))
_LARGEST_FLOAT = 3.4028234663852886e38


@dataclass(frozen=True, slots=True)
class Stated:
    """A rule that a property states: what it is called, where in the property it stands, what must hold, and what judges it."""

    metric: str
    part: Trail
    scope: Scope
    says: str
    compile: Callable[[Types], RowJudge]


def stated_rules(node: Mapping[str, Any], prop: Property, alone_in_key: bool) -> Iterator[Stated | tuple[Trail, str, str | None]]:
    """The rules of a property, and problems (trail within the property, message, hint) where one cannot be judged."""
    column, options = prop.column, prop.options
    if (held := prop.held()) is not None and held.known:
        yield Stated(
            "type",
            ("logicalType",),
            Scope.ROW,
            f"a value is of type {prop.logical_type or prop.physical_type}",
            lambda types: of_type(column, types[column]),
        )
    if prop.required:
        yield Stated("required", ("required",), Scope.ROW, "there is a value", lambda _types: not_null(column))
    elif prop.key_position is not None:
        yield Stated("primaryKey", ("primaryKey",), Scope.ROW, "a key has a value", lambda _types: not_null(column))
    if prop.unique or alone_in_key:
        part = "unique" if prop.unique else "primaryKey"
        yield Stated("unique", (part,), Scope.BATCH, "no two rows have the same value", lambda _types: no_duplicates((column,)))
    if options and prop.logical_type is None:
        yield ("logicalTypeOptions",), f"the options of {prop.name} have no meaning without a logicalType", None
        return
    for name, value in options.items():
        if isinstance(value, float) and not math.isfinite(value):
            yield ("logicalTypeOptions", name), f"{name} of {prop.name} is {value}, with which nothing can be compared", "leave it out"
            return
    yield from _inside(node, prop)
    yield from _options(prop)
    if "enum" in node and not has_inside(node):
        allowed = [entry["value"] for entry in node["enum"]]
        yield Stated("enum", ("enum",), Scope.ROW, f"a value is one of {allowed}", lambda types: _among(column, allowed, types[column]))


def of_type(column: str, held: Judged) -> OfType:
    """The judge of a column's type, as its values are held."""
    shape = None
    if not held.read and held.family == "json" and held.logical in ("object", "map", "array", "vector"):
        shape = r"^\s*\{" if held.logical in ("object", "map") else r"^\s*\["
    return OfType(column, whole=held.logical == "integer" and held.family == "number", shape=shape)


def _among(column: str, allowed: list[Any], held: Judged) -> RowJudge:
    try:
        check_values(allowed, held.arrow)
    except UnfitValueError as error:
        raise RuleError(str(error)) from error
    return one_of(column, allowed)


def _inside(node: Mapping[str, Any], prop: Property) -> Iterator[Stated | tuple[Trail, str, str | None]]:
    if not has_inside(node):
        return
    problems: list[tuple[Trail, str]] = []
    schema = shape_of(node, (), problems)
    for trail, message in problems:
        yield trail, message, None
    if problems:
        return

    def build(types: Types) -> RowJudge:
        if types[prop.column].postgres.endswith("[]"):
            raise RuleError(f"the inside of {prop.column} cannot be judged: it is an array of Postgres, not JSON", hint="make it jsonb")
        return _Python(matching(prop.column, Shape(schema)))

    yield Stated(
        "shape",
        ("logicalTypeOptions",) if prop.options else ("properties",),
        Scope.ROW,
        "the inside of the value is as the contract says",
        build,
    )


class _Python:
    """A check that runs in Python, once for each distinct value."""

    engine = "python"

    def __init__(self, check: RowJudge) -> None:
        self.columns = check.columns
        self.judge = check.judge


def _options(prop: Property) -> Iterator[Stated | tuple[Trail, str, str | None]]:
    options, column = prop.options, prop.column
    for low, high in _PAIRS:
        if low in options and high in options and options[low] > options[high]:
            yield (
                ("logicalTypeOptions", high),
                f"no value of {prop.name} can be within {low} {options[low]} and {high} {options[high]}",
                None,
            )
    for name, (upper, exclusive) in _LIMITS.items():
        if name in options:
            yield _limit(prop, name, upper=upper, exclusive=exclusive)
    if "multipleOf" in options:
        step = options["multipleOf"]
        yield Stated(
            "multipleOf", ("logicalTypeOptions", "multipleOf"), Scope.ROW, f"multipleOf {step}", lambda _types: multiple_of(column, step)
        )
    if "minLength" in options:
        least = options["minLength"]
        yield Stated(
            "minLength",
            ("logicalTypeOptions", "minLength"),
            Scope.ROW,
            f"minLength {least}",
            lambda _types: length_within(column, least=least),
        )
    if "maxLength" in options:
        most = options["maxLength"]
        yield Stated(
            "maxLength",
            ("logicalTypeOptions", "maxLength"),
            Scope.ROW,
            f"maxLength {most}",
            lambda _types: length_within(column, most=most),
        )
    if "pattern" in options and prop.logical_type == "string":
        yield _pattern(prop, options["pattern"], "pattern")
    if "format" in options:
        yield from _format(prop)
    if "defaultTimezone" in options:
        try:
            ZoneInfo(prop.zone)
        except (ValueError, OSError, KeyError):
            yield ("logicalTypeOptions", "defaultTimezone"), f"{prop.zone!r} is not a time zone", "such as Europe/Berlin"


def _limit(prop: Property, name: str, *, upper: bool, exclusive: bool) -> Stated | tuple[Trail, str, str | None]:
    where = ("logicalTypeOptions", name)
    limit = prop.options[name]

    def build(types: Types) -> RowJudge:
        held = types[prop.column]
        if prop.logical_type in ("integer", "number") and held.family not in ("integer", "number"):
            raise RuleError(f"{name} cannot be judged for a column that holds {held.family}")
        try:
            return within(prop.column, limit, held, upper=upper, exclusive=exclusive)
        except UnfitValueError as error:
            raise RuleError(f"{name}: {error}") from error

    return Stated(name, where, Scope.ROW, f"{name} {limit}", build)


def _pattern(prop: Property, pattern: str, metric: str) -> Stated | tuple[Trail, str, str | None]:
    where = ("logicalTypeOptions", metric)
    try:
        matches = ecma(pattern)
    except ValueError as error:
        return where, str(error), None
    says = f"{metric} {prop.options[metric]}"
    return Stated(metric, where, Scope.ROW, says, lambda _types: matching(prop.column, matches))


def _format(prop: Property) -> Iterator[Stated | tuple[Trail, str, str | None]]:
    where = ("logicalTypeOptions", "format")
    written = str(prop.options["format"])
    if prop.logical_type == "string":
        if written not in FORMATS:
            yield (
                where,
                f"format {written!r} of {prop.name} is not known",
                nearest(written, FORMATS) or f"known: {', '.join(FORMATS)}; or write a pattern",
            )
        elif (pattern := FORMATS[written]) is not None:
            yield _pattern(prop, pattern, "format")
    elif prop.logical_type == "integer":
        signed, bits = written[0] == "i", int(written[1:])
        least, most = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        yield _range(prop, least, most)
    elif prop.logical_type == "number" and written == "f32":
        yield _range(prop, -_LARGEST_FLOAT, _LARGEST_FLOAT)
    elif prop.logical_type in ("date", "timestamp", "time"):
        letters = "the letters are those of Java's DateTimeFormatter: yyyy-MM-dd HH:mm:ss"
        if not re.search("[A-Za-z]", written):
            yield where, f"format {written!r} says nothing of a {prop.logical_type}", letters
            return
        try:
            _ = prop.format
        except ValueError as error:
            yield where, str(error), letters


def _range(prop: Property, least: float, most: float) -> Stated:
    def build(types: Types) -> RowJudge:
        low = within(prop.column, least, types[prop.column], upper=False, exclusive=False)
        high = within(prop.column, most, types[prop.column], upper=True, exclusive=False)
        return low.also(high)

    return Stated("format", ("logicalTypeOptions", "format"), Scope.ROW, f"format {prop.options['format']}", build)
