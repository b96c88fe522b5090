"""Which change of a batch touches which key, and whose values it continues: whole columns of numbers, no Python object per row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from journal.batch import Bytes, ChangeBatch, Longs, Mask, Op, Presence


class Touch(IntEnum):
    """What a change does to a key."""

    PUT = 0  # the row is there, with these values
    AWAY = 1  # the row is there at the source, but the filter turned it away
    GONE = 2  # the row was deleted
    LEFT = 3  # the row took another key


@dataclass(frozen=True, eq=False)
class Lineage:
    """The touches of a batch of n rows: entry i < n is row i's own key, entries from n on are keys that rows left.

    rows   int64[m], the row of each entry
    keys   one string array[m] for each key column
    code   int64[m], equal where the keys are equal; -1 where no key is touched (a truncate, a null in the key)
    touch  uint8[m] of Touch
    """

    n: int
    rows: Longs
    keys: tuple[pa.StringArray, ...]
    code: Longs
    touch: Bytes

    @cached_property
    def order(self) -> Longs:
        """int64[m], strictly increasing in time: a row leaves its old key before it takes its new one."""
        order = 2 * self.rows
        order[: self.n] += 1
        return order

    @cached_property
    def last(self) -> Longs:
        """Entries after which nothing in the batch touches their key, ascending."""
        touched = self.code >= 0
        if not self.repeats:
            return np.flatnonzero(touched)
        newest = np.full(int(self.code.max(initial=-1)) + 1, -1, np.int64)
        np.maximum.at(newest, self.code[touched], self.order[touched])
        touched[touched] = newest[self.code[touched]] == self.order[touched]
        return np.flatnonzero(touched)

    @cached_property
    def repeats(self) -> bool:
        """Whether any key is touched more than once."""
        return int(np.count_nonzero(self.code >= 0)) != int(self.code.max(initial=-1)) + 1

    @cached_property
    def before(self) -> Longs:
        """int64[m], the entry that touched the same key before; -1 where there is none."""
        before = np.full(len(self.code), -1, np.int64)
        if self.repeats:
            sorted_ = np.lexsort((self.order, self.code))
            same = (self.code[sorted_][1:] == self.code[sorted_][:-1]) & (self.code[sorted_][1:] >= 0)
            before[sorted_[1:][same]] = sorted_[:-1][same]
        return before

    @cached_property
    def origin(self) -> Longs:
        """int64[n], the entry of the key under which the row stood before the change: its own, or the one that it left."""
        origin = np.arange(self.n, dtype=np.int64)
        origin[self.rows[self.n :]] = np.arange(self.n, len(self.rows))
        return origin

    @cached_property
    def parent(self) -> Longs:
        """int64[n], the row whose values the row continues; -1 where the batch has none."""
        parent = self.before[self.origin]
        return np.where((parent >= 0) & (self.touch[parent] <= Touch.AWAY), parent, -1)

    @cached_property
    def orphan(self) -> Mask:
        """bool[n]: the batch says that there was no such row before the change, so what the target holds under its key is another one."""
        return (self.before[self.origin] >= 0) & (self.parent < 0)

    def holder(self, lacking: Mask) -> Longs:
        """int64[n]: for each row itself or the nearest row that it continues which is not `lacking`; where all are, the first of them."""
        at = np.where(lacking & (self.parent >= 0), self.parent, np.arange(self.n))
        while True:
            further = at[at]
            if (further == at).all():
                return at
            at = further

    @cached_property
    def root(self) -> Longs:
        """int64[n]: the first row of the batch that each row continues."""
        return self.holder(np.ones(self.n, np.bool_))

    def continued(self, presence: Bytes, rows: Longs) -> tuple[Longs, Mask, Mask]:
        """Where the values of one column come from, for the given rows.

        Returns the row of the batch that has the value (-1: none), where the log left it out all the way back, and of those where it was
        read again: such a value is pointed at too.
        """
        holder = self.holder(presence != Presence.PRESENT)[rows]
        lost: Mask = presence[holder] != Presence.PRESENT
        near = self.holder(presence == Presence.ABSENT)[rows]
        again: Mask = lost & (presence[near] == Presence.RECALLED)
        return np.where(again, near, np.where(lost, -1, holder)), lost, again


def trace(batch: ChangeBatch, leaving: Longs) -> Lineage:
    """Finds the touches of a batch with a key; `leaving` are the rows that the filter turned away."""
    key = batch.schema.key_indices
    n = len(batch)
    touch = np.full(n, Touch.PUT, np.uint8)
    touch[leaving] = Touch.AWAY
    touch[batch.op == Op.DELETE] = Touch.GONE
    moved = np.flatnonzero(_moved(batch, key))
    keys = tuple(batch.columns[k] for k in key)
    if len(moved):
        chosen = pa.array(moved)
        # an old tuple can lack a key column that the dataset names and the replica identity doesn't: then it did not change
        keys = tuple(pa.concat_arrays([own, (batch.old.get(k, own)).take(chosen)]) for k, own in zip(key, keys, strict=True))
        touch = np.concatenate([touch, np.full(len(moved), Touch.LEFT, np.uint8)])
    code = codes(keys, _untouched(batch, key, len(touch)))
    return Lineage(n, np.concatenate([np.arange(n), moved]), keys, code, touch)


def _untouched(batch: ChangeBatch, key: Sequence[int], m: int) -> Mask:
    """bool[m]: entries which touch no key that is known: truncates, and rows for which the log left out a part of the key."""
    out = np.zeros(m, np.bool_)
    out[: len(batch)] = batch.op == Op.TRUNCATE
    for k in key:
        out[: len(batch)] |= batch.absent(k)
    return out


def _moved(batch: ChangeBatch, key: Sequence[int]) -> Mask:
    moved: Mask = np.zeros(len(batch), np.bool_)
    if batch.has_old is None or not batch.has_old.any():
        return moved
    for k in key:
        if k in batch.old:
            moved |= np.asarray(pc.fill_null(pc.not_equal(batch.old[k], batch.columns[k]), False))
    moved &= batch.has_old & (batch.op == Op.UPDATE)
    return moved


def codes(keys: Sequence[pa.StringArray], none: Mask | None = None) -> Longs:
    """Numbers the distinct keys from 0, in no particular order. -1 where a key column is null or where `none` is set."""
    out = np.zeros(len(keys[0]), np.bool_) if none is None else none.copy()
    dense = np.zeros(len(out), np.int64)
    for i, column in enumerate(keys):
        if column.null_count:
            out |= np.asarray(column.is_null())
        code = _dense(column)
        dense = _dense(pa.array(dense * (int(code.max(initial=0)) + 1) + code)) if i else code
    if out.any():
        renumbered = _dense(pa.array(dense[~out]))
        dense = np.full(len(out), -1, np.int64)
        dense[~out] = renumbered
    return dense


def _dense(column: pa.Array) -> Longs:
    indices = column.dictionary_encode().indices
    if indices.null_count:
        indices = pc.fill_null(indices, 0)
    numbers: npt.NDArray[np.int64] = indices.to_numpy().astype(np.int64)
    return numbers


def completed(batch: ChangeBatch, trust_recalled: bool = False) -> ChangeBatch:
    """The batch with values that the log left out of the new row taken from the old one, where an old tuple carried them.

    A value that is left out as unchanged is never null, so a null in the old tuple says that it did not carry the column.
    With `trust_recalled` values that were read again count as present.
    """
    columns = list(batch.columns)
    presence = {}
    for c, code in batch.presence.items():
        known = np.zeros(len(batch), np.bool_)
        if trust_recalled:
            known |= code == Presence.RECALLED
        if c in batch.old:
            carried = (code != Presence.PRESENT) & ~np.asarray(batch.old[c].is_null())
            columns[c] = pc.if_else(pa.array(carried), batch.old[c], columns[c])
            known |= carried
        code = np.where(known, Presence.PRESENT, code).astype(np.uint8)
        if code.any():
            presence[c] = code
    return replace(batch, columns=tuple(columns), presence=presence) if batch.presence else batch
