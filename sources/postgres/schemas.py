"""What a Relation message means, together with the catalogue.

The message shows names and types at its point of the log, in the order of the columns' numbers, but not the numbers, which tell a
rename from a drop and an addition. The catalogue has the numbers, also those of dropped columns, but shows the state of now.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from journal.schema import Column, TableSchema
from sources.postgres.relation import Relation, RelationColumn
from sources.postgres.table import DEFAULT, FULL, INDEX, Attribute, Table

_NEVER = float("-inf")
Types = Callable[[Sequence[tuple[int, int]]], Mapping[tuple[int, int], tuple[str, str]]]


@dataclass(frozen=True, slots=True)
class Meaning:
    """A Relation message understood.

    `certain` is false where a column was dropped and made again under its name and type, so that the message may mean either one:
    the schema then says the older, and only a new copy puts things right.
    """

    schema: TableSchema
    certain: bool


def meaning(
    relation: Relation,
    table: Table | None,
    previous: TableSchema | None,
    types: Types,
    *,
    dataset: str,
    key: tuple[str, ...],
    generated: bool,
) -> Meaning:
    """The schema at the point of the log where the message stands.

    table      what the catalogue says now; None if the table is gone
    previous   the last schema known of an earlier point
    types      looks types up that the catalogue's columns do not have (any more), see catalogue.read_types
    key        what the pipeline file says, if anything
    """
    streamed = set() if table is None else {attribute.attnum for attribute in table.columns(generated)}
    slots = [] if table is None else [a for a in table.attributes if a.dropped or a.attnum in streamed]
    numbers = _aligned(relation.columns, slots, previous)
    certain = True
    if previous is not None:
        numbers, certain = _unless_made_again(relation.columns, numbers, slots, previous)
    attributes = {a.attnum: a for a in slots if not a.dropped}
    unknown = [(c.type_oid, c.typmod) for c, n in zip(relation.columns, numbers, strict=True) if not _same_type(c, attributes.get(n))]
    looked_up = types(unknown) if unknown else {}
    columns = []
    for column, number in zip(relation.columns, numbers, strict=True):
        attribute = attributes.get(number)
        if attribute is not None and _same_type(column, attribute):
            columns.append(Column(column.name, attribute.type, number, attribute.nullable, attribute.missing))
        else:
            known = None if previous is None else previous.types.get(column.name)
            resolved = looked_up.get((column.type_oid, column.typmod), (known or "text", ""))[0]
            columns.append(Column(column.name, resolved, number, not column.key, None if attribute is None else attribute.missing))
    names = {column.name for column in columns}
    chosen = key or _key(relation, table, previous)
    return Meaning(TableSchema(dataset, tuple(columns), chosen if names.issuperset(chosen) else ()), certain)


def has_identity(relation: Relation) -> bool:
    """Whether an UPDATE or DELETE of the table can be told apart from others, and be made at the source at all."""
    return relation.identity == FULL or (relation.identity in (DEFAULT, INDEX) and any(column.key for column in relation.columns))


def _same_type(column: RelationColumn, attribute: Attribute | None) -> bool:
    return attribute is not None and (column.type_oid, column.typmod) == (attribute.oid, attribute.typmod)


def _key(relation: Relation, table: Table | None, previous: TableSchema | None) -> tuple[str, ...]:
    flagged = tuple(column.name for column in relation.columns if column.key)
    if relation.identity == FULL:
        return table.primary if table is not None else previous.key if previous is not None else ()
    for known in (() if table is None else table.key, () if previous is None else previous.key):
        if set(known) == set(flagged):
            return known
    return flagged


def _aligned(columns: Sequence[RelationColumn], slots: Sequence[Attribute], previous: TableSchema | None) -> list[int]:
    """The number of each column, 0 where it cannot be known."""
    live = [slot for slot in slots if not slot.dropped]
    if [(c.name, c.type_oid) for c in columns] == [(a.name, a.oid) for a in live]:
        return [slot.attnum for slot in live]
    before = {} if previous is None else {column.attnum: column.name for column in previous.columns}
    places = _best(columns, slots, before)
    if places is not None:
        return [slots[place].attnum for place in places]
    by_name = {slot.name: slot.attnum for slot in live}
    earlier = {} if previous is None else {column.name: column.attnum for column in previous.columns}
    return [by_name.get(column.name, earlier.get(column.name, 0)) for column in columns]


def _best(columns: Sequence[RelationColumn], slots: Sequence[Attribute], before: Mapping[int, str]) -> list[int] | None:
    """The likeliest increasing assignment of columns to slots, which keeps every live slot that is not newer than all of them.

    A live slot below the highest one was there at the message's time, so it can be left out only at a high price (it was not
    published then). None if there are more columns than slots.
    """

    ids = {name: number for number, name in enumerate({*(c.name for c in columns), *(a.name for a in slots), *before.values()})}
    names = np.array([-1 if slot.dropped else ids[slot.name] for slot in slots])
    earlier = np.array([ids[before[slot.attnum]] if slot.attnum in before else -1 for slot in slots])
    oids = np.array([slot.oid for slot in slots])
    # what it costs to leave out the slots before each one
    cost = np.concatenate(([0.0], np.cumsum([0.0 if slot.dropped else 20.0 for slot in slots])))
    # scores[j]: the best for columns[i:] in slots[j:]; taken[i][j]: whether that gives column i slot j
    scores = np.zeros(len(slots) + 1)
    taken: list[npt.NDArray[np.bool_]] = []
    for column in reversed(columns):
        likeness = 4.0 * (earlier == ids[column.name]) + 4.0 * (names == ids[column.name]) + ((names >= 0) & (oids == column.type_oid))
        taking = np.append(scores[1:] + likeness, _NEVER)
        scores = cost + np.maximum.accumulate((taking - cost)[::-1])[::-1]
        taken.append(taking >= scores)
    if scores[0] == _NEVER:
        return None
    places, j = [], 0
    for choice in reversed(taken):
        j += int(np.argmax(choice[j:]))
        places.append(j)
        j += 1
    return places


def _unless_made_again(
    columns: Sequence[RelationColumn], numbers: list[int], slots: Sequence[Attribute], previous: TableSchema
) -> tuple[list[int], bool]:
    """Where columns may as well be those of the same name and type that are dropped now: the older numbers, and False."""
    dropped = {slot.attnum for slot in slots if slot.dropped}
    types = {slot.attnum: slot.type for slot in slots}
    earlier = {column.name: column for column in previous.columns}
    older = list(numbers)
    replaced = []
    for i, column in enumerate(columns):
        known = earlier.get(column.name)
        if known is not None and known.attnum != numbers[i] and known.attnum in dropped and known.type == types.get(numbers[i]):
            older[i] = known.attnum
            replaced.append(numbers[i])
    in_order = all(first < second for first, second in pairwise(older))
    if replaced and in_order and min(replaced) > max(older):
        return older, False
    return numbers, True
