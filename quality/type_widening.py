"""Whether every value of one type is a value of another, as contracts write types."""

from __future__ import annotations

from dataclasses import dataclass

from journal.types import PgType, parse_type
from quality.contract import Property

_WHOLE = {"smallint": 5, "integer": 10, "bigint": 19}
"""Whole numbers and the decimal digits that hold all of them."""
_WIDER = {
    "smallint": ("integer", "bigint", "real", "double precision"),
    "integer": ("bigint", "double precision"),
    "real": ("double precision",),
    "date": ("timestamp without time zone", "timestamp with time zone"),
    "json": ("jsonb",),
    "character": ("character varying", "text"),
    "character varying": ("text",),
    "uuid": ("text",),
}
_LOGICAL = {("integer", "number"), ("date", "timestamp")}
_TEXTS = ("character", "character varying")


@dataclass(frozen=True, slots=True)
class WrittenType:
    """What a contract says of a column's type: in the standard's words, and in the database's."""

    logical: str | None
    physical: str | None

    def __str__(self) -> str:
        return self.physical or self.logical or "any"


def type_of(prop: Property) -> WrittenType:
    """The type of a property. Spellings of one type (`int4`, `integer`) are the same."""
    physical = None if prop.physical_type is None else str(_parsed(prop.physical_type) or prop.physical_type)
    return WrittenType(prop.logical_type, physical)


def widens(old: WrittenType, new: WrittenType) -> bool:
    """Whether every old value is a value of the new type, and means the same to who reads it as that."""
    if old.logical is not None and new.logical is not None and old.logical != new.logical and (old.logical, new.logical) not in _LOGICAL:
        return False
    if new.logical is not None and old.logical is None and old.physical is None:
        return False  # anything was allowed
    if old.physical is not None and new.physical is not None:
        was, now = _parsed(old.physical), _parsed(new.physical)
        return old.physical == new.physical or (was is not None and now is not None and _physically(was, now))
    return old.physical is not None or new.physical is None


def _physically(old: PgType, new: PgType) -> bool:
    if old.array != new.array:
        return False
    if new.base == "numeric":
        return _into_numeric(old, new)
    if old.base == new.base:
        if not new.args or old.args == new.args:
            return True
        return old.base in _TEXTS and bool(old.args) and old.args[0] <= new.args[0]
    if new.base not in _WIDER.get(old.base, ()):
        return False
    return new.base != "character varying" or not new.args or (old.args or (1,))[0] <= new.args[0]


def _into_numeric(old: PgType, new: PgType) -> bool:
    if old.base not in (*_WHOLE, "numeric"):
        return False
    if not new.args:
        return True
    precision, scale = (*new.args, 0)[:2]
    if old.base == "numeric":
        if not old.args:
            return False
        digits, decimals = (*old.args, 0)[:2]
        return scale >= decimals and precision - scale >= digits - decimals
    return precision - scale >= _WHOLE[old.base]


def _parsed(text: str) -> PgType | None:
    """None for a type that is not written like one of Postgres'."""
    try:
        return parse_type(text)
    except ValueError:
        return None
