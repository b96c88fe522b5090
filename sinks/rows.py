"""What a sink has to do to its target, as columns: rows to write, keys to remove. What mirror.py, multiset.py and history.py work out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from journal.batch import Longs, Mask


@dataclass(frozen=True, slots=True, eq=False)
class Keys:
    """Rows of the target that have to go, m of them: only if they are older (`_sluice_position`) than `position`.

    rows      int64[m], the change in the batch
    columns   one string array[m] for each key column, in the key's order
    position  int64[m]; time int64[m], microseconds since 1970 UTC
    """

    rows: Longs
    columns: tuple[pa.StringArray, ...]
    position: Longs
    time: Longs

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Rows to write, m of them: only over older ones (`_sluice_position`).

    rows      int64[m], the change in the batch: what RefusedRow.row has to say
    columns   one string array[m] for each column of the schema
    position  int64[m]; time int64[m], microseconds since 1970 UTC
    deleted   int64[m], microseconds since 1970 UTC at which the row was softly deleted, -1 while it lives; None: all live
    missing   column -> bool[m]: the value is what the target holds (in the row that `base` names)
    recalled  column -> bool[m]: part of `missing` for which `columns` has a value all the same, to be used where the target lacks the row
    base      the key of the target's row that is continued, if that is not the row's own key: one string array[m] for each key column
    row_hash  of tables without a key: string array[m], see row_hash.py
    """

    rows: Longs
    columns: tuple[pa.StringArray, ...]
    position: Longs
    time: Longs
    deleted: Longs | None = None
    missing: Mapping[int, Mask] = field(default_factory=dict)
    recalled: Mapping[int, Mask] = field(default_factory=dict)
    base: tuple[pa.StringArray, ...] | None = None
    row_hash: pa.StringArray | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: Longs | Mask) -> Rows:
        """The given rows (indices, or a mask), in that order."""
        index = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        if len(index) == len(self) and (index == np.arange(len(self))).all():
            return self
        if not len(index):
            return self.none()
        chosen = pa.array(index)
        return replace(
            self,
            rows=self.rows[index],
            columns=tuple(column.take(chosen) for column in self.columns),
            position=self.position[index],
            time=self.time[index],
            deleted=None if self.deleted is None else self.deleted[index],
            missing={c: mask[index] for c, mask in self.missing.items() if mask[index].any()},
            recalled={c: mask[index] for c, mask in self.recalled.items() if mask[index].any()},
            base=None if self.base is None else tuple(column.take(chosen) for column in self.base),
            row_hash=None if self.row_hash is None else self.row_hash.take(chosen),
        )

    def none(self) -> Rows:
        """No rows, of the same columns."""
        columns = tuple(column.slice(0, 0) for column in self.columns)
        none = np.empty(0, np.int64)
        return Rows(none, columns, none, none, row_hash=None if self.row_hash is None else self.row_hash.slice(0, 0))

    @property
    def recallable(self) -> Mask:
        """bool[m]: rows that can be written even where the target has no such row."""
        out = np.ones(len(self), np.bool_)
        for c, mask in self.missing.items():
            out &= ~mask | self.recalled.get(c, ~mask)
        return out

    @property
    def partial(self) -> Mask:
        """bool[m]: rows with a missing value."""
        out = np.zeros(len(self), np.bool_)
        for mask in self.missing.values():
            out |= mask
        return out

    def groups(self) -> Iterator[tuple[tuple[int, ...], Longs]]:
        """The rows by which columns they miss: (columns, indices of rows)."""
        if not self.missing:
            yield (), np.arange(len(self))
            return
        columns = sorted(self.missing)
        patterns = np.packbits(np.stack([self.missing[c] for c in columns], axis=1), axis=1)
        found, which = np.unique(patterns, axis=0, return_inverse=True)
        for i, pattern in enumerate(found):
            bits = np.unpackbits(pattern)[: len(columns)]
            yield tuple(c for c, bit in zip(columns, bits, strict=True) if bit), np.flatnonzero(which.reshape(-1) == i)

    def forgetting(self) -> Rows:
        """The rows with every recalled value taken as it is; all of them must be `recallable`."""
        return replace(self, missing={}, recalled={}, base=None)

    def filled(self, found: Mask, values: Mapping[int, pa.StringArray]) -> tuple[Rows, Longs]:
        """The rows with their missing values taken from `values` (column -> string array[m]) where the target's row was `found`.

        Returns the whole rows, and the indices (of these rows) of those which can't be filled.
        """
        columns = list(self.columns)
        for c, mask in self.missing.items():
            columns[c] = pc.if_else(pa.array(mask & found), values[c], columns[c])
        able = found | self.recallable
        whole = replace(self, columns=tuple(columns), missing={}, recalled={}, base=None)
        return whole.take(able), np.flatnonzero(~able)


def picked(arrays: Sequence[pa.StringArray], index: Longs) -> tuple[pa.StringArray, ...]:
    """Each array at the given places; a place below 0 is null."""
    if all(len(array) == len(index) for array in arrays) and (index == np.arange(len(index))).all():
        return tuple(arrays)
    if not len(index):
        return tuple(array.slice(0, 0) for array in arrays)
    chosen = pa.array(index, mask=index < 0) if len(index) and int(index.min()) < 0 else pa.array(index)
    return tuple(array.take(chosen) for array in arrays)


def joined(parts: Sequence[Rows]) -> Rows:
    """Rows without anything missing, one after the other."""
    if len(parts) == 1:
        return parts[0]
    return Rows(
        np.concatenate([part.rows for part in parts]),
        tuple(pa.concat_arrays([part.columns[c] for part in parts]) for c in range(len(parts[0].columns))),
        np.concatenate([part.position for part in parts]),
        np.concatenate([part.time for part in parts]),
        deleted=_joined_deleted(parts),
    )


def _joined_deleted(parts: Sequence[Rows]) -> Longs | None:
    if all(part.deleted is None for part in parts):
        return None
    return np.concatenate([np.full(len(part), -1, np.int64) if part.deleted is None else part.deleted for part in parts])
