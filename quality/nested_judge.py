"""Judges JSON texts, the values of objects, arrays and maps, by a JSON Schema.

Beyond what JSON Schema has, a schema may say `moment`: the text is a date, timestamp or time, written as a column of text may write it.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

_DATE = r"\d{4}-\d{2}-\d{2}"
_CLOCK = r"\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?"
_MOMENTS = {
    "date": re.compile(_DATE, re.ASCII),
    "timestamp": re.compile(rf"{_DATE}([T ]{_CLOCK}(Z|[+-]\d{{2}}(:?\d{{2}})?)?)?", re.ASCII),
    "time": re.compile(_CLOCK, re.ASCII),
}
_READERS = {"date": dt.date.fromisoformat, "timestamp": dt.datetime.fromisoformat, "time": dt.time.fromisoformat}
_BELOW_MICROSECONDS = re.compile(r"(\.\d{6})\d+")


class Shape:
    """Judges JSON texts by a schema, each distinct text once. One that is nested deeper than can be read does not fit."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._validator = _Validator(schema)

    def __call__(self, texts: pa.Array) -> npt.NDArray[np.bool_]:
        pair = texts.dictionary_encode()
        fits = np.array([self._fits(text) for text in pair.dictionary.to_pylist()] + [True])
        return np.asarray(fits[np.asarray(pc.fill_null(pair.indices, -1))])

    def _fits(self, text: str) -> bool:
        try:
            return bool(self._validator.is_valid(json.loads(text)))
        except (ValueError, RecursionError):
            return False


def _multiple_of(validator: Any, step: float, value: Any, _schema: object) -> Iterator[ValidationError]:
    """As the numbers are written: 0.3 is a multiple of 0.1, though no double is."""
    if validator.is_type(value, "number") and not _is_multiple(value, step):
        yield ValidationError(f"{value!r} is no multiple of {step}")


def _is_multiple(value: float, step: float) -> bool:
    exact = _exact(value)
    divisor = _exact(step)
    return exact is not None and divisor is not None and exact % divisor == 0


def _exact(number: Any) -> Fraction | None:
    """A number as it is written, None for NaN and the infinities. A long integer has more digits than Python writes."""
    if isinstance(number, int):
        return Fraction(number)
    return Fraction(repr(number)) if math.isfinite(number) else None


def _moment(validator: Any, kind: str, value: Any, _schema: object) -> Iterator[ValidationError]:
    if validator.is_type(value, "string") and not _is_moment(value, kind):
        yield ValidationError(f"{value!r} is no {kind}")


def _is_moment(text: str, kind: str) -> bool:
    if not _MOMENTS[kind].fullmatch(text):
        return False
    try:
        _READERS[kind](_BELOW_MICROSECONDS.sub(r"\1", text))
    except ValueError:
        return False
    return True


_Validator: Any = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator, {"multipleOf": _multiple_of, "moment": _moment}
)
