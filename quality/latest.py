"""Which rows of a batch stand at its end: of several changes of one key the last, unless that is a delete."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from journal.batch import ChangeBatch, Op

Mask = npt.NDArray[np.bool_]


def latest_of_each_key(batch: ChangeBatch) -> Mask:
    """bool[n]. In a table without a key every row that was written stands."""
    n = len(batch)
    written = np.isin(batch.op, [Op.INSERT, Op.READ, Op.UPDATE])
    truncated = np.flatnonzero(batch.op == Op.TRUNCATE)
    if len(truncated):
        written &= np.arange(n) > truncated[-1]
    if not batch.schema.key:
        return written
    now = [batch.columns[index] for index in batch.schema.key_indices]
    # the key that an update took away comes before the one that it gave, as a change of its own
    before = [pc.coalesce(batch.old[i], batch.columns[i]) if i in batch.old else batch.columns[i] for i in batch.schema.key_indices]
    codes, _ = equal_codes([pa.concat_arrays([old, new]) for old, new in zip(before, now, strict=True)])
    order = np.empty(2 * n, np.int64)
    order[0::2], order[1::2] = codes[:n], codes[n:]
    last = np.full(int(codes.max(initial=-1)) + 1, -1, np.int64)
    np.maximum.at(last, order, np.arange(2 * n))
    return np.asarray(written & (last[codes[n:]] == 2 * np.arange(n) + 1), np.bool_)


def equal_codes(columns: Sequence[pa.Array]) -> tuple[npt.NDArray[np.int64], Mask]:
    """Equal keys have equal codes; bool[n]: no part of the key is null."""
    codes = np.zeros(len(columns[0]), np.int64)
    whole = np.ones(len(codes), np.bool_)
    for column in columns:
        pair = column.dictionary_encode()
        own = np.asarray(pc.fill_null(pair.indices, -1), np.int64) + 1
        whole &= own > 0
        codes = np.unique(codes * (len(pair.dictionary) + 1) + own, return_inverse=True)[1].astype(np.int64)
    return codes, whole
