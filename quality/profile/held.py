"""What each column is taken for once all rows have been seen: its type in a contract, and how its values are read by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from journal.decimals import exact_decimals
from journal.types import TypedColumn, parse_type
from quality.contract import Property
from quality.logical_types import Family, Judged, family_of
from quality.profile.batches import UNFIT, Field
from quality.profile.texts import Texts
from quality.typed_columns import as_contract_says, family_of_arrow

_LOGICAL: Mapping[str, str] = {
    "text": "string", "uuid": "string", "integer": "integer", "number": "number", "boolean": "boolean", "date": "date",
    "timestamp": "timestamp", "time": "time", "json": "object", "array": "array", "binary": "string", "other": "string",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Held:
    """One column as a contract would have it.

    prop    its name and type; no logicalType where nothing is known, or its values are of several kinds
    family  what its values are, whether or not a contract can say so
    better  whether it is text that is all of a narrower type: its values have to be read
    held    how its values are held while rules judge them; None where nothing is known
    """

    field: Field
    prop: Property
    family: Family
    better: bool
    held: Judged | None

    def read(self, values: pa.Array) -> TypedColumn:
        """Values as they came, as rules see them."""
        if self.field.origin != "postgres" or self.better:
            return as_contract_says(values, self.prop)
        if self.field.postgres is not None and self.family == "number" and pa.types.is_string(values.type):
            return exact_decimals(values)
        return TypedColumn(values, np.zeros(len(values), np.bool_))

    def measured(self, values: pa.Array) -> pa.Array:
        """The same, in types that can be computed with: numbers of more digits than 38 as doubles."""
        read = self.read(values).values
        if pa.types.is_decimal256(read.type) or (self.family == "number" and pa.types.is_string(read.type)):
            return pc.cast(pc.cast(read, pa.string()), pa.float64())
        return read


def settled(field: Field, arrow: pa.DataType, texts: Texts | None, kinds: frozenset[str], sensitive: bool) -> Held:
    """What a column is. `arrow`: the type in which it came; `texts`: what was gathered of text; `kinds`: of JSON values.

    Digits of a sensitive column stay text: a card number is no amount.
    """
    if field.origin == "json":
        return _json(field, texts, kinds)
    if field.origin == "postgres":
        return _postgres(field, texts, kinds, sensitive)
    family = family_of_arrow(arrow)
    if family == "null" or (family == "text" and texts is not None and not texts.values and field.origin == "text"):
        return Held(field, Property(field.name, field.name, 0), "other", False, None)
    if family == "text":
        return _text(field, texts, sensitive, None)
    if family == "other":
        return Held(field, Property(field.name, field.name, 0), "other", False, None)
    physical = "bytea" if family == "binary" else None
    if pa.types.is_timestamp(arrow) and arrow.tz is not None:
        physical = "timestamptz"
    prop = Property(field.name, field.name, 0, logical_type=_LOGICAL[family], physical_type=physical)
    return Held(field, prop, prop.held().family if prop.held() else "other", False, prop.held())  # type: ignore[union-attr]


def _text(field: Field, texts: Texts | None, sensitive: bool, physical: str | None) -> Held:
    guess = None if texts is None else texts.guesses.type
    if guess is not None and sensitive and guess.logical in ("integer", "number"):
        guess = None
    if guess is None or guess.logical == "string":
        options = {} if guess is None else {"format": guess.name}
        prop = Property(field.name, field.name, 0, logical_type="string", physical_type=physical, options=options)
        return Held(field, prop, "text", False, _judged(field, prop))
    options = {} if guess.format is None else {"format": guess.format}
    prop = Property(field.name, field.name, 0, logical_type=guess.logical, physical_type=physical, options=options)
    held = _judged(field, prop)
    assert held is not None  # noqa: S101  (text can hold every type)
    return Held(field, prop, held.family, True, held)


def _json(field: Field, texts: Texts | None, kinds: frozenset[str]) -> Held:
    if kinds == {"text"}:
        return _text(field, texts, False, None)
    whole = kinds in ({"integer"}, {"boolean"}, {"object"}, {"array"})
    logical = next(iter(kinds)) if whole else "number" if kinds and kinds <= {"integer", "number"} else None
    prop = Property(field.name, field.name, 0, logical_type=logical)
    held = prop.held()
    if logical is None or held is None:
        return Held(field, prop, "text" if kinds else "other", False, None)
    return Held(field, prop, held.family, logical in ("integer", "number", "boolean"), held)


def _postgres(field: Field, texts: Texts | None, kinds: frozenset[str], sensitive: bool) -> Held:
    kind = field.postgres or "text"
    family = family_of(kind)
    if family == "text" and parse_type(kind).base in ("text", "character varying", "character", "citext"):
        return _text(field, texts, sensitive, kind)
    if UNFIT in kinds:  # a rule about the type would break for these
        return Held(field, Property(field.name, field.name, 0), family, False, None)
    prop = Property(field.name, field.name, 0, logical_type=_LOGICAL[family], physical_type=kind)
    return Held(field, prop, family, False, prop.held(kind))


def _judged(field: Field, prop: Property) -> Judged | None:
    return prop.held(field.postgres) if field.postgres is not None else prop.held()
