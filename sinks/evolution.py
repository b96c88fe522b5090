"""How a sink's table follows when its dataset's columns change: pure steps, which each sink writes in its own SQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from journal.schema import Column, TableSchema
from journal.types import PgType, parse_type
from pipeline.errors import SinkShapeError


@dataclass(frozen=True, slots=True)
class DropColumn:
    """A column that the dataset has no longer."""

    name: str


@dataclass(frozen=True, slots=True)
class RenameColumn:
    """The same column under another name."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class WidenColumn:
    """A column whose new type holds all that the old one does."""

    name: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class AddColumn:
    """Rows that are already there hold `column.default`."""

    column: Column


Step = DropColumn | RenameColumn | WidenColumn | AddColumn


def steps(old: TableSchema, new: TableSchema, table: str) -> Sequence[Step]:
    """What has to be done, in order, to a table of schema `old` so that it has the columns of `new`. The key is not looked at.

    A column is the same when its attnum is (where both have one), else when its name is. Raises SinkShapeError for a type that the
    values in the table may not fit.
    """
    kept = carried(old, new)
    stay = {before.name for before, _ in kept}
    found: list[Step] = [DropColumn(column.name) for column in old.columns if column.name not in stay]
    found += _renames([(before.name, after.name) for before, after in kept if before.name != after.name], stay)
    for before, after in kept:
        if before.type != after.type and parse_type_or_none(before.type) != parse_type_or_none(after.type):
            _check_wider(before.type, after.type, after.name, table)
            found.append(WidenColumn(after.name, before.type, after.type))
    have = {after.name for _, after in kept}
    return found + [AddColumn(column) for column in new.columns if column.name not in have]


def carried(old: TableSchema, new: TableSchema) -> list[tuple[Column, Column]]:
    """Columns that are in both, as they were and as they are."""
    pairs = [(_same(old, column), column) for column in new.columns]
    return [(before, after) for before, after in pairs if before is not None]


def _same(old: TableSchema, column: Column) -> Column | None:
    if column.attnum:
        found = next((other for other in old.columns if other.attnum == column.attnum), None)
        if found is not None:
            return found
    named = next((other for other in old.columns if other.name == column.name), None)
    return named if named is not None and not (named.attnum and column.attnum) else None


def _renames(wanted: Sequence[tuple[str, str]], names: set[str]) -> list[Step]:
    """Renames in an order in which no name is ever taken twice; a ring goes by way of a name that nobody has."""
    taken = set(names)
    waiting = list(wanted)
    found: list[Step] = []
    while waiting:
        free = next(((old, new) for old, new in waiting if new not in taken), None)
        if free is None:
            old, new = waiting[0]
            between = next(name for name in (f"_sluice_renamed_{i}" for i in range(len(taken) + 1)) if name not in taken)
            free = (old, between)
            waiting.append((between, new))
        waiting = [pair for pair in waiting if pair[0] != free[0]]
        taken = taken - {free[0]} | {free[1]}
        found.append(RenameColumn(*free))
    return found


def _check_wider(old: str, new: str, name: str, table: str) -> None:
    if not widens(old, new):
        raise SinkShapeError(
            f"the column {name!r} of {table} became {new} at the source; in the sink it is {old}, which may hold values that do not fit",
            hint="drop the table in the sink and run `sluice snapshot` for it, or set the type with `cast` in the pipeline file",
        )


_WHOLE = {"smallint": 5, "integer": 10, "bigint": 19}
_SIZED = ("character varying", "bit varying")
_TIMES = ("timestamp without time zone", "timestamp with time zone", "time without time zone", "time with time zone", "interval")


def widens(old: str, new: str) -> bool:
    """Whether every value of type `old` is also one of type `new`, with nothing lost but its spelling."""
    before, after = parse_type_or_none(old), parse_type_or_none(new)
    if before is None or after is None:
        return old == new or new == "text"
    if before == after:
        return True
    if before.array or after.array:
        return before.array and after.array and widens(str(_element(before)), str(_element(after)))
    if after.base == "text" or (after.base == "character varying" and not after.args and before.base in ("text", "character")):
        return True
    if before.base in _WHOLE:
        return _wide_enough(_WHOLE[before.base], before.base, after)
    if before.base == after.base == "numeric":
        return not after.args or (bool(before.args) and _digits(after) >= _digits(before) and _scale(after) >= _scale(before))
    if before.base == after.base and before.base in _SIZED:
        return not after.args or (bool(before.args) and after.args[0] >= before.args[0])
    if before.base == "character" and after.base in ("character", "character varying"):
        return not after.args or after.args[0] >= (*before.args, 1)[0]
    if before.base == after.base and before.base in _TIMES:
        return (*after.args, 6)[0] >= (*before.args, 6)[0]
    return (before.base, after.base) in (("real", "double precision"), ("date", "timestamp without time zone"))


def parse_type_or_none(text: str) -> PgType | None:
    """The type, or None for one of an extension that is not written like Postgres' own."""
    try:
        return parse_type(text)
    except ValueError:
        return None


def _wide_enough(digits: int, base: str, after: PgType) -> bool:
    if after.base in _WHOLE:
        return _WHOLE[after.base] >= digits
    if after.base == "numeric":
        return not after.args or _digits(after) >= digits
    return after.base == "double precision" and base != "bigint"


def _digits(kind: PgType) -> int:
    """Digits before the point."""
    return kind.args[0] - _scale(kind)


def _scale(kind: PgType) -> int:
    return (*kind.args, 0)[1]


def _element(kind: PgType) -> PgType:
    return PgType(kind.base, kind.args)
