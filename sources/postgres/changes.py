"""Inserts, updates and deletes of one table as a batch: the new row, the old one, and what the log did not carry.

    I relation             N tuple
    U relation [K|O tuple] N tuple    K: the old key, which changed or is stored out of line; O: the whole old row
    D relation  K|O tuple

An unchanged value ('u') is absent, not null, unless the old row has it. In a K tuple only the columns of the identity are there;
the nulls of the others mean absent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from journal.batch import ChangeBatch, Defect, Mask, Op, Presence
from journal.schema import TableSchema
from sources.postgres.errors import malformed
from sources.postgres.frames import Bytes, Longs
from sources.postgres.relation import Relation
from sources.postgres.tuples import NULL, UNCHANGED, BadValue, Fields, as_booleans, as_indices, strings, walk

NEW, KEY, OLD = b"NKO"


class Position(NamedTuple):
    """Per row: position and time of the commit (microseconds since 1970), the place in the transaction, and the transaction."""

    lsn: Longs
    nth: Longs
    time: Longs
    xid: npt.NDArray[np.uint32]

    def take(self, rows: Longs | Mask) -> Position:
        return Position(self.lsn[rows], self.nth[rows], self.time[rows], self.xid[rows])


class Table:
    """A table as the stream describes it now, and as it is wanted.

    Columns are matched by name: one of the schema which the stream does not have is absent, one of the stream's which the schema does
    not have is left out.
    """

    def __init__(self, relation: Relation, schema: TableSchema, source: str, name: str) -> None:
        self.relation = relation
        self.schema = schema
        self.source = source
        self.name = name
        self.width = len(relation.columns)
        self.key = np.array([column.key for column in relation.columns], np.bool_)
        places = {column.name: place for place, column in enumerate(relation.columns)}
        self.places = [places.get(column.name) for column in schema.columns]
        self._as_is = self.places == list(range(self.width))

    def same_as(self, other: Table) -> bool:
        """Whether batches of both may be one."""
        return self.relation == other.relation and self.schema == other.schema and self.name == other.name

    def changes(self, a: Bytes, op: Bytes, at: Longs, stops: Longs, position: Position) -> ChangeBatch:
        """A batch of the inserts, updates and deletes whose first tuple's letter stands at `at` and which end at `stops`.

        Raises TerminalError where the messages do not add up.
        """
        n = at.size
        longest = int((stops - at).max()) + 1
        letter = a.take(at)
        inserts = op == Op.INSERT
        has_old: Mask | None = None
        deleted_keys: Mask | None = None
        if inserts.all():
            _expect(letter == NEW)
        else:
            updates, deletes = op == Op.UPDATE, op == Op.DELETE
            is_key = letter == KEY
            is_old = is_key | (letter == OLD)
            _expect(np.where(deletes, is_old, (letter == NEW) | (updates & is_old)))
            has_old = updates & is_old
            deleted_keys = deletes & is_key

        old = _OldRows(self, a, at, has_old, letter, longest) if has_old is not None and has_old.any() else None
        at = at + 1
        if old is not None:
            _expect(a.take(old.fields.ends) == NEW)
            at[old.rows] = old.fields.ends + 1
        fields = walk(a, at, self.width, longest)
        if (fields.ends != stops).any():
            raise malformed(f"a change of {self.name} does not end where its message does")
        columns, bad = strings(a, fields)
        presence: dict[int, Bytes] = {}
        for column, kind in fields.kinds.items():
            absent = kind == UNCHANGED
            if old is not None and absent.any():
                filled = absent & old.has(column)
                columns[column] = pc.if_else(as_booleans(filled), old.columns[column], columns[column])
                absent &= ~filled
            if deleted_keys is not None and not self.key[column]:
                absent |= deleted_keys & (kind == NULL)
            if absent.any():
                presence[column] = absent.astype(np.uint8)
        if old is not None:
            bad = sorted({*bad, *old.bad})
        return self._batch(op, position, columns, presence, {} if old is None else old.carried, has_old if old else None, bad, n)

    def truncate(self, position: Position) -> ChangeBatch:
        """A batch of one truncate: nulls."""
        nulls = tuple(pa.nulls(1, pa.string()) for _ in self.schema.columns)
        return ChangeBatch(
            schema=self.schema,
            source=self.source,
            table=self.name,
            op=np.full(1, Op.TRUNCATE, np.uint8),
            lsn=position.lsn,
            nth=position.nth,
            time=position.time,
            ordinal=np.zeros(1, np.int64),
            columns=nulls,
        )

    def _batch(
        self,
        op: Bytes,
        position: Position,
        columns: Sequence[pa.StringArray],
        presence: dict[int, Bytes],
        old: dict[int, pa.StringArray],
        has_old: Mask | None,
        bad: Sequence[BadValue],
        n: int,
    ) -> ChangeBatch:
        """Turns the stream's columns into the schema's."""
        defects = tuple(
            Defect(found.row, self.relation.columns[found.column].name, "a value is not valid UTF-8", found.raw)
            for found in bad
            if found.column in self.places
        )
        if not self._as_is:
            places = self.places
            missing = np.full(n, Presence.ABSENT, np.uint8)
            presence = {c: missing if p is None else presence[p] for c, p in enumerate(places) if p is None or p in presence}
            old = {c: old[p] for c, p in enumerate(places) if p is not None and p in old}
            columns = [pa.nulls(n, pa.string()) if p is None else columns[p] for p in places]
        return ChangeBatch(
            schema=self.schema,
            source=self.source,
            table=self.name,
            op=op,
            lsn=position.lsn,
            nth=position.nth,
            time=position.time,
            ordinal=np.zeros(n, np.int64),
            columns=tuple(columns),
            presence=presence,
            old=old,
            has_old=has_old,
            defects=defects,
        )


class _OldRows:
    """The old tuples of those updates that have one.

    rows     their places among the n changes;    fields  the old tuples, in the same order
    whole    bool[n]: an O tuple, not a K one;     columns one string array[n] for each column
    carried  those columns that the log carried
    """

    def __init__(self, table: Table, a: Bytes, at: Longs, has_old: Mask, letter: Bytes, longest: int) -> None:
        self.rows = has_old.nonzero()[0]
        self.fields: Fields = walk(a, at[self.rows] + 1, table.width, longest)
        self.whole = has_old & (letter == OLD)
        columns, bad = strings(a, self.fields)
        if self.rows.size < has_old.size:
            spread = as_indices((np.cumsum(has_old) - 1).astype(np.int32), ~has_old)
            columns = [column.take(spread) for column in columns]
        self.columns = columns
        self.bad = [BadValue(int(self.rows[found.row]), found.column, found.raw) for found in bad]
        any_whole = bool(self.whole.any())
        self.carried = {c: column for c, column in enumerate(columns) if any_whole or table.key[c]}

    def has(self, column: int) -> Mask:
        """bool[n]: the old row is there whole, with this column."""
        kind = self.fields.kinds.get(column)
        whole: Mask = self.whole
        if kind is None or not (kind == UNCHANGED).any():
            return whole
        known = whole.copy()
        known[self.rows[kind == UNCHANGED]] = False
        return known


def _expect(fits: Mask) -> None:
    if not fits.all():
        raise malformed("a change whose tuple is neither new, nor old, nor a key")
