"""Rows of a trial: changes and records as batches of one shape, joined in the order in which they came."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from journal.batch import ChangeBatch, Defect, Longs, Mask, Op
from journal.joining import join


class Rows(NamedTuple):
    """A batch; and of each of its n rows what it is (see Kind), and whether its source says that it was not there before."""

    batch: ChangeBatch
    kinds: npt.NDArray[np.uint8]
    created: Mask

    @classmethod
    def of(cls, batch: ChangeBatch, kinds: npt.NDArray[np.uint8], columns: Collection[str]) -> Rows:
        """With these columns alone, and the key. A database inserts what was not there; others send rows that may have been."""
        database = any(column.attnum for column in batch.schema.columns)
        created = np.asarray(batch.op == Op.INSERT) if database else np.zeros(len(batch), np.bool_)
        return cls(narrowed(batch, columns), kinds, created)

    def take(self, rows: Longs | Mask) -> Rows:
        return Rows(self.batch.take(rows), self.kinds[rows], self.created[rows])


def narrowed(batch: ChangeBatch, columns: Collection[str]) -> ChangeBatch:
    """The batch with these columns alone, and the key, in the order of their names; without where it came from."""
    names = batch.schema.names
    kept = sorted((n for n, name in enumerate(names) if name in columns or name in batch.schema.key), key=lambda n: names[n])
    # of the columns only what they hold counts here
    chosen = tuple(replace(batch.schema.columns[n], attnum=0, default=None, nullable=True) for n in kept)
    return replace(
        batch,
        schema=replace(batch.schema, columns=chosen),
        source="",
        table="",
        columns=tuple(batch.columns[n] for n in kept),
        presence={place: batch.presence[n] for place, n in enumerate(kept) if n in batch.presence},
        old={place: batch.old[n] for place, n in enumerate(kept) if n in batch.old},
        payloads=None,
        traces=None,
    )


def together(parts: Sequence[Rows]) -> Iterator[Rows]:
    """The rows of all parts, one behind the other, as few batches as their shapes allow."""
    run: list[Rows] = []
    for part in parts:
        if not len(part.batch):
            continue
        if run and run[0].batch.schema.encoded != part.batch.schema.encoded:
            yield _joined(run)
            run = []
        run.append(part)
    if run:
        yield _joined(run)


def in_order(parts: Sequence[Rows]) -> Iterator[Rows]:
    """The rows of all parts in the order of their ordinals, as few batches as their shapes allow."""
    by_shape: dict[str, list[Rows]] = {}
    for part in parts:
        if len(part.batch):
            by_shape.setdefault(part.batch.schema.encoded, []).append(part)
    shapes = [_joined(some) for some in by_shape.values()]
    if not shapes:
        return
    ordinals = np.concatenate([one.batch.ordinal for one in shapes])
    shape = np.repeat(np.arange(len(shapes)), [len(one.batch) for one in shapes])
    row = np.concatenate([np.arange(len(one.batch)) for one in shapes])
    order = np.argsort(ordinals, kind="stable")
    borders = [0, *(np.flatnonzero(np.diff(shape[order])) + 1).tolist(), len(order)]
    for start, stop in pairwise(borders):
        chosen = order[start:stop]
        yield shapes[int(shape[chosen[0]])].take(row[chosen])


def _joined(parts: Sequence[Rows]) -> Rows:
    if len(parts) == 1:
        return parts[0]
    defects: list[Defect] = []
    offset = 0
    for part in parts:
        defects += [replace(defect, row=defect.row + offset) for defect in part.batch.defects]
        offset += len(part.batch)
    batch = replace(join([part.batch for part in parts]), defects=tuple(defects))
    return Rows(batch, np.concatenate([part.kinds for part in parts]), np.concatenate([part.created for part in parts]))
