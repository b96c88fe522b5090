"""JSON lines as typed columns: each value must be what the contract says, and text is not a number."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import TextIO

import numpy as np
import pyarrow as pa

from journal.types import TypedColumn
from pipeline.errors import ConfigError, Problem
from quality.contract import Contract, Property
from quality.logical_types import Family, Judged
from quality.reading import read_values

_CHUNK = 10_000
_LONGEST = 76
_TOO_LARGE = 2**1023
_DECODER = json.JSONDecoder(parse_float=Decimal)


def read_json_lines(file: Path, contract: Contract) -> tuple[dict[str, TypedColumn], int]:
    """Column -> values, in the order in which keys first occur, and the number of records. Raises ConfigError."""
    by_name = {prop.name: prop.column for prop in contract.properties} | {prop.column: prop.column for prop in contract.properties}
    columns: dict[str, list[object]] = {}
    keys: dict[str, str] = {}
    rows = 0
    records = json_records(file)
    while chunk := list(islice(records, _CHUNK)):
        for key in dict.fromkeys(key for record in chunk for key in record):
            name = by_name.get(key, key)
            if keys.setdefault(name, key) != key:
                raise ConfigError(f"the file has both {keys[name]!r} and {key!r}, which are one column of the contract")
            column = columns.setdefault(name, [])
            column.extend([None] * (rows - len(column)))
            column.extend([record.get(key) for record in chunk])
        rows += len(chunk)
    for column in columns.values():
        column.extend([None] * (rows - len(column)))
    return {name: _typed(values, contract.columns.get(name)) for name, values in columns.items()}, rows


def json_records(file: Path) -> Iterator[dict[str, object]]:
    """The objects of a file: one a line, or all in one array."""
    with file.open(encoding="utf-8-sig") as lines:
        if _first_character(lines) == "[":
            yield from _records_of_array(lines, file)
            return
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                record = _DECODER.decode(line)
            except (ValueError, RecursionError) as error:
                raise ConfigError.of([Problem(f"not a line of JSON: {error}", file, number)]) from error
            if not isinstance(record, dict):
                raise ConfigError.of([Problem("one object a line is wanted", file, number)])
            yield record


def _first_character(lines: TextIO) -> str:
    start = lines.tell()
    text = " "
    while text.isspace():
        text = lines.read(1)
    lines.seek(start)
    return text


def _records_of_array(lines: TextIO, file: Path) -> Iterator[dict[str, object]]:
    try:
        records = json.load(lines, parse_float=Decimal)
    except json.JSONDecodeError as error:
        raise ConfigError.of([Problem(f"not JSON: {error.msg}", file, error.lineno)]) from error
    for place, record in enumerate(records):
        if not isinstance(record, dict):
            raise ConfigError.of([Problem(f"element {place} of the array is not an object", file)])
        yield record


def _typed(values: list[object], prop: Property | None) -> TypedColumn:
    held = prop.held() if prop is not None else None
    if prop is None or held is None or not held.known:
        return TypedColumn(_untyped(values), np.zeros(len(values), np.bool_))
    fits = _FITS[held.family]
    good = [value if value is not None and fits(value) else None for value in values]
    wrong = np.array([value is not None and kept is None for value, kept in zip(values, good, strict=True)], np.bool_)
    column = _values(good, held, prop)
    return TypedColumn(column.values, wrong | column.malformed)


def _values(values: list[object], held: Judged, prop: Property) -> TypedColumn:
    none = np.zeros(len(values), np.bool_)
    if held.family == "integer":
        whole = [None if value is None else int(value) for value in values]  # type: ignore[call-overload]  # numbers only
        return read_values(pa.array([None if value is None else str(value) for value in whole], pa.string()), held)
    if held.family == "number":
        if pa.types.is_floating(held.arrow):
            return TypedColumn(pa.array([None if value is None else float(value) for value in values], pa.float64()), none)  # type: ignore[arg-type]
        return read_values(pa.array([None if value is None else _digits(value) for value in values], pa.string()), held)
    if held.family == "boolean":
        return TypedColumn(pa.array(values, pa.bool_()), none)
    if held.family in ("json", "array"):
        return TypedColumn(pa.array([None if value is None else _json(value) for value in values], pa.string()), none)
    return read_values(pa.array(values, pa.string()), held, by=prop.format, zone=prop.zone)


def _is_whole(value: object) -> bool:
    if isinstance(value, Decimal):
        return value.is_finite() and value == value.to_integral_value() and value.adjusted() < 76
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


_FITS: dict[Family, Callable[[object], bool]] = {
    "text": _is_text, "uuid": _is_text, "date": _is_text, "timestamp": _is_text, "time": _is_text, "other": _is_text,
    "binary": lambda value: isinstance(value, str | list),
    "integer": _is_whole, "number": _is_number, "boolean": lambda value: isinstance(value, bool),
    "json": lambda value: isinstance(value, dict), "array": lambda value: isinstance(value, list),
}  # fmt: skip


def json_kind(value: object) -> str:
    """What a value that is not null is, as far as contracts tell kinds apart: integer is a number without a fraction."""
    if isinstance(value, bool):
        return "boolean"
    if _is_whole(value):
        return "integer"
    if _is_number(value):
        return "number"
    return "text" if isinstance(value, str) else "array" if isinstance(value, list) else "object"


def json_text(value: object) -> str:
    """A value that is not null as text: numbers by their digits, objects and arrays as JSON."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal) and abs(value.adjusted()) >= _LONGEST:
        return str(value)  # with its exponent: written out, it could have a billion zeros
    return _digits(value) if _is_number(value) else _json(value)


def _untyped(values: list[object]) -> pa.Array:
    """A column of which the contract says nothing: numbers, booleans or text if it is all of one kind, else JSON."""
    present = [value for value in values if value is not None]
    if all(isinstance(value, bool) for value in present):
        return pa.array(values, pa.bool_())
    if all(_is_whole(value) and isinstance(value, int) and abs(value) < 2**63 for value in present):
        return pa.array(values, pa.int64())
    if all(_is_number(value) and _fits_double(value) for value in present):
        return pa.array([None if value is None else float(value) for value in values], pa.float64())  # type: ignore[arg-type]  # numbers
    if all(isinstance(value, str) for value in present):
        return pa.array(values, pa.string())
    return pa.array([None if value is None else _json(value) for value in values], pa.string())


def _fits_double(value: object) -> bool:
    """Whether a number is not too large for a double; more digits than one has are cut."""
    return not isinstance(value, int) or abs(value) < _TOO_LARGE


def _digits(value: object) -> str:
    return str(value) if not isinstance(value, Decimal) else f"{value:f}"


def _json(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=_number)


def _number(value: object) -> float:
    if isinstance(value, Decimal):
        return float(value)
    raise TypeError(f"{type(value)} is not JSON")
