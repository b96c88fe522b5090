"""Changes of lookups before the rows that are joined with them, and behind those that came first.

A source gives the changes of each table of a stretch together. Where a lookup and a dataset that joins it are both among them, the stretch
is cut, as seldom as can be: only between a row and the next change of what it refers to. Between two cuts the lookups go first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa

from dataflows.enriching import Enrichments
from dataflows.lookup_query import Join
from dataflows.lookup_table import joined
from dataflows.lookups import Lookups
from journal.batch import ChangeBatch, Entry, Longs, Op
from journal.schema import TableSchema
from pipeline.model import Pipeline
from sinks.lineage import codes, trace

_NOTHING = np.zeros(0, np.int64)
_NEVER = np.iinfo(np.int64).max


class Interleaving:
    """Puts the entries of segments into an order in which each row meets lookups as they were at its place."""

    def __init__(self, pipeline: Pipeline, lookups: Lookups, enrichments: Enrichments) -> None:
        self._lookups = lookups
        self._joins: Mapping[str, Sequence[Join]] = {name: enrichments.joins(name) for name in enrichments.datasets}
        self._as_given = {
            name
            for name in enrichments.datasets
            if len(pipeline.datasets[name].feeds) == 1 and pipeline.datasets[name].feeds[0].map is None
        }
        self._input = {name: enrichments.input(name) for name in enrichments.datasets}

    def __call__(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """The same changes; those of one table stay in their order."""
        if len(entries) < 2 or not self._joins:
            return entries
        found: list[Entry] = []
        run: list[ChangeBatch] = []
        for entry in entries:
            if isinstance(entry, ChangeBatch) and entry.sink is None:
                run.append(entry)
                continue
            found += [*self._ordered(run), entry]
            run = []
        return [*found, *self._ordered(run)]

    def _ordered(self, run: Sequence[ChangeBatch]) -> Sequence[ChangeBatch]:
        changing = {name for batch in run for name in self._lookups.of(batch.source, batch.table)}
        if not any(join.lookup in changing for batch in run for join in self._joins.get(batch.dataset, ())):
            return run
        ranks = _ranked(run)
        if any((np.diff(rank) < 0).any() for rank in ranks):
            return run  # of a source that does not tell an order over its tables
        cuts: set[int] = set()
        for name in sorted(changing):
            cuts.update(self._cuts(name, run, ranks))
        borders = [0, *sorted(cuts), _NEVER]
        turns = sorted(range(len(run)), key=lambda place: self._turn(run[place]))
        found: list[ChangeBatch] = []
        for start, stop in pairwise(borders):
            for place in turns:
                a, b = np.searchsorted(ranks[place], [start, stop])
                if a < b:
                    found.append(run[place].slice(int(a), int(b)))
        return found

    def _turn(self, batch: ChangeBatch) -> int:
        """Lookups first, and of those the ones that are joined with others last."""
        return (0 if self._lookups.of(batch.source, batch.table) else 2) + int(batch.dataset in self._joins)

    def _cuts(self, name: str, run: Sequence[ChangeBatch], ranks: Sequence[Longs]) -> list[int]:
        """Places between a row and the next change of what it refers to, one for as many as it serves."""
        keys: list[pa.StringArray] | None = []
        events: list[Longs] = []
        for batch, rank in zip(run, ranks, strict=True):
            if name in self._lookups.of(batch.source, batch.table):
                told = _changed(batch, self._lookups.lookups[name].key)
                rows = np.arange(len(batch)) if told is None else told[1]
                keys = None if told is None or keys is None else [*keys, told[0]]
                events.append(rank[rows])
        changed = np.concatenate(events)
        since: list[Longs] = []
        until: list[Longs] = []
        for batch, rank in zip(run, ranks, strict=True):
            for join in self._joins.get(batch.dataset, ()):
                if join.lookup != name:
                    continue
                referred = self._referred(join, batch)
                after = _next(changed, rank) if keys is None or referred is None else _next_of_key(keys, changed, referred, rank)
                met = after < _NEVER
                since.append(rank[met])
                until.append(after[met])
        return _stabbed(np.concatenate(since), np.concatenate(until)) if since else []

    def _referred(self, join: Join, batch: ChangeBatch) -> pa.StringArray | None:
        """The keys that rows refer to; None where only SQL could tell."""
        if batch.dataset not in self._as_given:
            return None
        columns = []
        for name in sorted(self._lookups.lookups[join.lookup].key):
            written = next((node for column, node in join.on.items() if column.lower() == name.lower()), {})
            names = written.get("column_names", [])
            if not names or (len(names) > 1 and names[0].lower() != self._input[batch.dataset].lower()) or len(names) > 2:
                return None
            if names[-1] not in batch.schema.names:
                return None
            columns.append(batch.column(names[-1]))
        return joined(columns)


def _ranked(run: Sequence[ChangeBatch]) -> list[Longs]:
    """For each batch its rows' places among all rows of the run."""
    lsn, nth = (np.concatenate([getattr(batch, part) for batch in run]) for part in ("lsn", "nth"))
    rank = np.empty(len(lsn), np.int64)
    rank[np.lexsort((nth, lsn))] = np.arange(len(lsn))
    return list(np.split(rank, np.cumsum([len(batch) for batch in run])[:-1]))


def _changed(batch: ChangeBatch, key: Sequence[str]) -> tuple[pa.StringArray, Longs] | None:
    """The keys that changes of a lookup touch, and the rows that do; None where they are not told apart."""
    schema: TableSchema = batch.schema
    if set(schema.key) != set(key) or (batch.op == Op.TRUNCATE).any():
        return None
    lineage = trace(batch, _NOTHING)
    order = [schema.key.index(name) for name in sorted(key)]
    return joined([lineage.keys[place] for place in order]), lineage.rows


def _next(changed: Longs, rank: Longs) -> Longs:
    """The first change behind each row, whatever it is of."""
    changed = np.sort(changed)
    return np.append(changed, _NEVER)[np.searchsorted(changed, rank, side="right")]


def _next_of_key(keys: Sequence[pa.StringArray], changed: Longs, referred: pa.StringArray, rank: Longs) -> Longs:
    """The first change behind each row of the key that it refers to."""
    every = codes((pa.concat_arrays([*keys, referred]),))
    of_change, of_row = every[: len(changed)], every[len(changed) :]
    span = int(max(changed.max(initial=0), rank.max(initial=0))) + 1
    known = of_change >= 0
    order = np.sort(of_change[known] * span + changed[known])
    found = np.append(order, _NEVER)[np.searchsorted(order, of_row * span + rank, side="right")]
    return np.where((of_row >= 0) & (found // span == of_row), found % span, _NEVER)


def _stabbed(since: Longs, until: Longs) -> list[int]:
    """As few places as can be so that one is in each stretch, behind `since` and not behind `until`."""
    cuts: list[int] = []
    last = -1
    for place in np.argsort(until, kind="stable"):
        if last <= since[place]:
            last = int(until[place])
            cuts.append(last)
    return cuts
