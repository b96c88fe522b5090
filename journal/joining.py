"""Small batches made into large ones, so that a sink which is behind catches up by columns and not by rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from journal.batch import Bytes, ChangeBatch, Mask, Payload, Payloads


def join(batches: Sequence[ChangeBatch]) -> ChangeBatch:
    """One batch of all rows, in order. The batches have the same schema, source, table and sink, and no defects."""
    if len(batches) == 1:
        return batches[0]
    presence = sorted({column for batch in batches for column in batch.presence})
    old = sorted({column for batch in batches for column in batch.old})
    return replace(
        batches[0],
        op=np.concatenate([batch.op for batch in batches]),
        lsn=np.concatenate([batch.lsn for batch in batches]),
        nth=np.concatenate([batch.nth for batch in batches]),
        time=np.concatenate([batch.time for batch in batches]),
        ordinal=np.concatenate([batch.ordinal for batch in batches]),
        columns=tuple(pa.concat_arrays(parts) for parts in zip(*(batch.columns for batch in batches), strict=True)),
        presence={column: np.concatenate([_presence(batch, column) for batch in batches]) for column in presence},
        old={column: pa.concat_arrays([_old(batch, column) for batch in batches]) for column in old},
        payloads=_payloads(batches) if any(batch.payloads is not None for batch in batches) else None,
        has_old=np.concatenate([_has_old(batch) for batch in batches]) if any(b.has_old is not None for b in batches) else None,
        traces=pa.concat_arrays([_traces(batch) for batch in batches]) if any(b.traces is not None for b in batches) else None,
    )


def _presence(batch: ChangeBatch, column: int) -> Bytes:
    codes = batch.presence.get(column)
    return np.zeros(len(batch), np.uint8) if codes is None else codes


def _old(batch: ChangeBatch, column: int) -> pa.StringArray:
    values = batch.old.get(column)
    return pa.nulls(len(batch), pa.string()) if values is None else values


def _traces(batch: ChangeBatch) -> pa.StringArray:
    return pa.nulls(len(batch), pa.string()) if batch.traces is None else batch.traces


def _payloads(batches: Sequence[ChangeBatch]) -> Payloads:
    nothing = Payload(None, None)
    rows = [nothing if batch.payloads is None else batch.payloads.row(row) for batch in batches for row in range(len(batch))]
    return Payloads(rows, np.arange(len(rows), dtype=np.int64))


def _has_old(batch: ChangeBatch) -> Mask:
    return np.zeros(len(batch), np.bool_) if batch.has_old is None else batch.has_old
