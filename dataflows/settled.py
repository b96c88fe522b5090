"""Where a sink rightly holds something else than the source: what the owners of the data have mended, or given up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property

import pyarrow as pa

from dataflows.compare import Comparison
from journal.batch import ChangeBatch, Op, batch_from_columns
from journal.local import JournalReader
from journal.quarantine import Values, Wanted
from journal.schema import Column, TableSchema
from journal.state import State
from pipeline.errors import SluiceError
from sinks.base import Sink, Target
from sinks.bookkeeping import POSITION


class SettledRows:
    """Rows of one dataset in one sink, by the positions that they carry there, which are looked up once."""

    def __init__(
        self, reader: JournalReader, state: State, sink: Sink, target: Target, comparison: Comparison, keys: pa.Table | None
    ) -> None:
        """Those under some keys, or all."""
        self._reader = reader
        self._state = state
        self._sink = sink
        self._target = target
        self._comparison = comparison
        self._keys = keys

    def mended(self) -> set[str]:
        """Keys under which the sink holds a row as its owner has mended it, and nothing newer."""
        ordinals = sorted({position for positions in self._positions.values() for position in positions})
        mended = self._reader.mended(ordinals) | self._state.mended(self._sink.name, ordinals)
        return {key for key, positions in self._positions.items() if mended.issuperset(positions)}

    def given_up(self, key: Sequence[str]) -> set[str]:
        """Keys of which a change was discarded that the sink holds nothing newer than."""
        records = [*self._reader.discarded(self._target.dataset), *self._state.discarded(self._sink.name, self._target.dataset)]
        if not records or not key:
            return set()
        last: dict[str, int] = {}
        for text, (_, ordinal) in zip(self._comparison.keys(key_rows(key, [one for one, _ in records])), records, strict=True):
            last[text] = max(ordinal, last.get(text, 0))
        return {text for text, ordinal in last.items() if max(self._positions.get(text, ()), default=0) < ordinal}

    @cached_property
    def _positions(self) -> dict[str, list[int]]:
        """Key -> the positions of the sink's rows; of a sink that does not keep them nothing."""
        told = replace(
            self._target, schema=replace(self._target.schema, columns=(*self._target.schema.columns, Column(POSITION, "bigint")))
        )
        found: dict[str, list[int]] = {}
        try:
            for rows in self._sink.read(told, self._keys):
                texts = self._comparison.keys(rows.drop_columns([POSITION]))
                for text, position in zip(texts, rows[POSITION].to_pylist(), strict=True):
                    found.setdefault(text, []).append(int(position or 0))
        except SluiceError:
            return {}
        return found


def key_rows(key: Sequence[str], records: Sequence[Values]) -> pa.Table:
    """Keys as a table."""
    return pa.table({name: pa.array([record.get(name) for record in records], pa.string()) for name in key})


_AT_ONCE = 1000
_OVER = ("resolved", "superseded")


def rows_before(reader: JournalReader, schema: TableSchema) -> Iterator[ChangeBatch]:
    """What rows of a dataset without a key were before changes that sinks did not get: there they still are so.

    Raises SealedError where records are sealed with a key that is not known here.
    """
    after = 0
    while records := reader.quarantined(Wanted(dataset=schema.dataset), after, _AT_ONCE):
        after = records[-1].ordinal
        rows = [record.before for record in records if record.before and record.status not in _OVER]
        if rows:
            yield batch_from_columns(schema, [pa.array([row.get(name) for row in rows], pa.string()) for name in schema.names], Op.READ)
