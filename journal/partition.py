"""Which partition of a journal a change belongs to: changes of one key always go into one, so that partitions can be read apart."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from journal.batch import ChangeBatch, Longs, Op
from journal.key_hash import key_hashes

_SHIFT = np.uint64(32)


class Pieces:
    """Batches in pieces, each with its partition, as they come. The first change of a dataset under another schema is a piece that concerns
    all: the sinks' tables change with it."""

    def __init__(self, partitions: int) -> None:
        """`partitions` is 0 where there are none."""
        self._partitions = partitions
        self._schemas: dict[str, str] = {}  # dataset -> that of its newest change, as far as it is known

    def of(self, batch: ChangeBatch) -> Iterator[tuple[int | None, ChangeBatch]]:
        """See `spread`."""
        if not self._partitions:
            yield None, batch
            return
        if self._partitions > 1 and self._schemas.get(batch.dataset) != batch.schema.encoded:
            self._schemas[batch.dataset] = batch.schema.encoded
            yield None, batch.slice(0, 1)
            batch = batch.slice(1, len(batch))
        if len(batch):
            yield from spread(batch, self._partitions)


def parts(batch: ChangeBatch, most_bytes: int) -> Iterator[ChangeBatch]:
    """The batch in pieces that a reader can well have in memory."""
    if batch.nbytes <= most_bytes or len(batch) < 2:
        yield batch
        return
    middle = len(batch) // 2
    yield from parts(batch.slice(0, middle), most_bytes)
    yield from parts(batch.slice(middle, len(batch)), most_bytes)


def spread(batch: ChangeBatch, partitions: int) -> Iterator[tuple[int | None, ChangeBatch]]:
    """A batch in pieces, each with its partition, from 0; within a partition in the batch's order.

    Rows of a table without a key are all in one. None stands for what concerns several at once, a truncate or a key that moves from one
    partition to another: such a piece comes after all changes before it and before all behind it. As everybody waits for it, there is one
    in a batch at most, from the first such row to the last.
    """
    places, common = _places(batch, partitions)
    found = np.flatnonzero(common)
    first, end = (int(found[0]), int(found[-1]) + 1) if len(found) else (len(batch), len(batch))
    yield from _split(batch.slice(0, first), places[:first])
    if first < end:
        yield None, batch.slice(first, end)
    yield from _split(batch.slice(end, len(batch)), places[end:])


def _places(batch: ChangeBatch, partitions: int) -> tuple[Longs, npt.NDArray[np.bool_]]:
    """The partition of each row, and whether it concerns another one too."""
    common = batch.op == Op.TRUNCATE
    key = [batch.schema.index(name) for name in batch.schema.key]
    if not key:
        return np.full(len(batch), zlib.crc32(batch.dataset.encode()) % partitions, np.int64), common
    places = _partition([batch.columns[column] for column in key], partitions)
    if batch.has_old is not None and batch.has_old.any():
        updated = np.flatnonzero(batch.has_old & (batch.op == Op.UPDATE))
        before = _partition(_old_key(batch.columns, batch.old, key, pa.array(updated)), partitions)
        common[updated[before != places[updated]]] = True
    return places, common


def _old_key(
    columns: Sequence[pa.StringArray], old: Mapping[int, pa.StringArray], key: Sequence[int], rows: pa.Array
) -> list[pa.StringArray]:
    """The key that rows had before; what the log did not carry has not changed."""
    new = {column: columns[column].take(rows) for column in key}
    return [pc.coalesce(old[column].take(rows), new[column]) if column in old else new[column] for column in key]


def _split(batch: ChangeBatch, places: Longs) -> Iterator[tuple[int, ChangeBatch]]:
    if not len(batch):
        return
    if (places == places[0]).all():
        yield int(places[0]), batch
        return
    order = np.argsort(places, kind="stable")
    sorted_places = places[order]
    bounds = [0, *(np.flatnonzero(np.diff(sorted_places)) + 1).tolist(), len(order)]
    by_place = batch.take(order)
    for first, end in pairwise(bounds):
        yield int(sorted_places[first]), by_place.slice(first, end)


def _partition(key: Sequence[pa.StringArray], partitions: int) -> Longs:
    """int64[n]: the partition of each key."""
    return ((key_hashes(key) >> _SHIFT) % np.uint64(partitions)).astype(np.int64)
