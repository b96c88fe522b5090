"""The values that passed last, by key: what `transition`, `immutable` and `monotonic` compare a change with.

Kept as lookups are: in memory, and in the journal, in the transaction that brought them. Only the columns that such rules read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataflows.kept_values import kept_name
from dataflows.lookup_table import LookupTable
from dataflows.versions import Versions
from journal.batch import ChangeBatch, CopyMarker, Longs, Mask, Op, Presence
from journal.joining import join
from journal.lookups import LookupLog
from journal.schema import TableSchema
from pipeline.model import Lookup
from quality.chains import Earlier
from quality.contract import Contract
from quality.rules import Scope
from sinks.lineage import Lineage, trace

_SPARE = 100_000  # overtaken values that the journal may keep, and as many again as there are keys
_ROWS = 65_536  # that are taken together
_NOTHING = np.zeros(0, np.int64)
_WHOLE = r"^-?[0-9]{1,18}$"
_WHOLE_TYPES = frozenset({"smallint", "integer", "bigint"})


class EarlierValues:
    """What passed last, of the datasets whose contracts compare a change with the one before it. One thread."""

    def __init__(self, contracts: Mapping[str, Contract], versions: Versions | None = None) -> None:
        self._versions = versions
        self._columns: Mapping[str, frozenset[str]] = {
            name: frozenset(column for rule in contract.rules if rule.scope is Scope.KEY for column in rule.columns)
            for name, contract in contracts.items()
            if any(rule.scope is Scope.KEY for rule in contract.rules)
        }
        self._tables: dict[str, LookupTable] = {}
        self._stale: dict[str, Longs] = {}  # by dataset: ordinals of changes after which everything is as it was

    @property
    def names(self) -> frozenset[str]:
        """What the journal keeps them by."""
        return frozenset(kept_name(name) for name in self._columns)

    def earlier(self, batch: ChangeBatch, columns: Sequence[str]) -> Earlier:
        """What the changes of a batch come after: in it, else what passed last, else what the log says of the row before.

        A truncate ends all rows, a delete its own. Where one batch ends and the next begins makes no difference.
        """
        n = len(batch)
        self._stale.pop(batch.dataset, None)
        batch = _keyed(batch)
        parent, fresh = np.full(n, -1, np.int64), np.zeros(n, np.bool_)
        values: dict[str, list[pa.StringArray]] = {name: [] for name in columns}
        for start, stop in _between_truncates(batch):
            part = batch.slice(start, stop)
            lineage = trace(part, _NOTHING)
            found = lineage.parent
            parent[start:stop] = np.where(found >= 0, found + start, -1)
            fresh[start:stop] = lineage.orphan if start == 0 else found < 0
            known = self._known(part, lineage) if start == 0 else {}
            for name in columns:
                values[name].append(known.get(name, pa.nulls(len(part), pa.string())))
        nothing = pa.nulls(n, pa.string())
        old = {name: batch.old.get(batch.schema.index(name), nothing) for name in columns}
        return Earlier(parent, fresh, {name: pa.concat_arrays(pieces) for name, pieces in values.items()}, old)

    def _known(self, batch: ChangeBatch, lineage: Lineage) -> dict[str, pa.StringArray]:
        """Column -> what is known of each row from before the batch. Remembers which changes bring nothing new."""
        wanted = [name for name in batch.schema.names if name in self._columns[batch.dataset]]
        found: dict[str, pa.StringArray] = {}
        table = self._table(batch.schema)
        if table.schema is None or not len(table):
            return found
        origin = pa.array(lineage.origin)
        keys = {name: key.take(origin) for name, key in zip(batch.schema.key, lineage.keys, strict=True)}
        places = table.find([keys[name] for name in table.schema.key])
        same = (places.part >= 0) & ((batch.op == Op.INSERT) | (batch.op == Op.UPDATE)) & _alone(lineage)
        for name in wanted:
            if name not in table.schema.types:
                same[:] = False
                continue
            index, known = batch.schema.index(name), table.gather(name, places)
            silent = batch.absent(index) | np.asarray(batch.columns[index].is_null())
            same &= silent | np.asarray(pc.fill_null(pc.equal(known, batch.columns[index]), False))
            found[name] = known
        self._stale[batch.dataset] = batch.ordinal[same]
        return found

    def late(self, batch: ChangeBatch, kept: Mask) -> Mask:
        """bool[n]: of the changes that are `kept` those that come behind a newer version of their row."""
        late = np.zeros(len(batch), np.bool_)
        if self._versions is not None and kept.any():
            late[kept] = self._versions.late(batch if kept.all() else batch.take(kept))
        return late

    def take(self, passed: ChangeBatch) -> ChangeBatch | None:
        """Remembers the values of what has passed. Returns what the journal has to keep of them, None where that is nothing."""
        if passed.dataset not in self._columns or passed.sink is not None or not len(passed) or not passed.schema.key:
            return None
        table = self._table(passed.schema)
        stale = self._stale.pop(passed.dataset, _NOTHING)
        if len(stale):
            passed = passed.take(~np.isin(passed.ordinal, stale))
        if not len(passed):
            return None
        pieces = [self._projected(passed.slice(start, stop)) for start, stop in _between_truncates(passed)]
        news = join(pieces) if len(pieces) > 1 else pieces[0]
        table.take(news)
        return news

    def _projected(self, batch: ChangeBatch) -> ChangeBatch:
        """The key and the values of changes, under the key that each row has now. A null says nothing of a row that there was."""
        batch = _keyed(batch)
        fresh = trace(batch, _NOTHING).orphan
        wanted = self._columns[batch.dataset]
        names = [name for name in batch.schema.names if name in wanted or name in batch.schema.key]
        columns, presence, old = [], {}, {}
        for place, name in enumerate(names):
            index = batch.schema.index(name)
            columns.append(batch.columns[index])
            if name in batch.schema.key:
                if index in batch.old:
                    old[place] = batch.old[index]
                if index in batch.presence:
                    presence[place] = batch.presence[index]
            else:
                silent = (batch.absent(index) | np.asarray(batch.columns[index].is_null())) & ~fresh
                if silent.any():
                    presence[place] = np.where(silent, Presence.ABSENT, Presence.PRESENT).astype(np.uint8)
        kept = tuple(replace(batch.schema.columns[batch.schema.index(name)], attnum=0) for name in names)
        return replace(
            batch,
            schema=TableSchema(batch.dataset, kept, batch.schema.key),
            source="",
            table=batch.dataset,
            columns=tuple(columns),
            presence=presence,
            old=old,
            defects=(),
            payloads=None,
            traces=None,
        )

    def mark(self, marker: CopyMarker) -> None:
        """A copy of the dataset begins or ends: what it lacked goes when it ends."""
        told = self._told(marker)
        if told is not None:
            self._tables[marker.dataset].mark(told)

    def keep_mark(self, marker: CopyMarker, kept: LookupLog) -> None:
        """Puts the same into the journal."""
        told = self._told(marker)
        if told is not None:
            kept.keep(kept_name(marker.dataset), told)

    def _told(self, marker: CopyMarker) -> CopyMarker | None:
        table = self._tables.get(marker.dataset)
        if table is None or table.schema is None or marker.sink is not None or marker.phase != "end":
            return None
        return replace(marker, schema=table.schema, source="", table=marker.dataset)

    def _table(self, schema: TableSchema) -> LookupTable:
        table = self._tables.get(schema.dataset)
        if table is None or set(table.lookup.key) != set(schema.key):
            table = self._tables[schema.dataset] = LookupTable(Lookup(kept_name(schema.dataset), "", schema.dataset, schema.key))
        return table

    def keep(self, news: ChangeBatch, kept: LookupLog) -> None:
        """Puts what is remembered into the journal, and lays it down anew where most of it has been overtaken."""
        name = kept_name(news.dataset)
        kept.keep(name, news)
        table = self._tables[news.dataset]
        if kept.rows(name) > 2 * len(table) + _SPARE:
            kept.keep_anew(name, table.entries())

    def load(self, kept: LookupLog) -> None:
        """What the journal has of them; what it has under another key than the last is forgotten."""
        for name in self._columns:
            some = _Together()
            for entry in kept.entries(kept_name(name)):
                if isinstance(entry, CopyMarker) or not some.takes(entry):
                    self._load(some)
                    some = _Together()
                if isinstance(entry, CopyMarker):
                    self._table(entry.schema).mark(entry)
                else:
                    some.add(entry)
            self._load(some)

    def _load(self, some: _Together) -> None:
        if some.batches:
            self._table(some.batches[0].schema).take(join(some.batches))


class _Together:
    """Kept changes that are taken as one batch, which is far faster where there were many small ones."""

    def __init__(self) -> None:
        self.batches: list[ChangeBatch] = []
        self._rows = 0
        self._ends = False

    def takes(self, more: ChangeBatch) -> bool:
        """A value that a change leaves as it was may not come behind the end of its row: it would be that of the row before."""
        if self.batches and self.batches[0].schema.encoded != more.schema.encoded:
            return False
        return self._rows + len(more) <= _ROWS and not (more.presence and self._ends)

    def add(self, batch: ChangeBatch) -> None:
        self.batches.append(batch)
        self._rows += len(batch)
        moved = batch.has_old is not None and bool(batch.has_old.any())
        self._ends |= moved or bool(((batch.op == Op.DELETE) | (batch.op == Op.TRUNCATE)).any())


def _between_truncates(batch: ChangeBatch) -> Iterable[tuple[int, int]]:
    """Stretches of rows, each of which ends with a truncate or with the batch."""
    ends = [0, *(np.flatnonzero(batch.op == Op.TRUNCATE) + 1).tolist(), len(batch)]
    return [(start, stop) for start, stop in pairwise(ends) if start < stop]


def _alone(lineage: Lineage) -> Mask:
    """bool[n]: changes whose row no other change of the batch touches, and which leave it its key."""
    alone = np.ones(lineage.n, np.bool_)
    alone[lineage.rows[lineage.n :]] = False
    if lineage.repeats:
        touches = np.bincount(lineage.code[lineage.code >= 0])
        alone &= (lineage.code[: lineage.n] >= 0) & (touches[lineage.code[: lineage.n]] == 1)
    return alone


def _keyed(batch: ChangeBatch) -> ChangeBatch:
    """Without keys that are none: text where there must be a whole number, as a record may have it, is no row's."""
    columns, old = list(batch.columns), dict(batch.old)
    changed = False
    for index in batch.schema.key_indices:
        if batch.schema.columns[index].type not in _WHOLE_TYPES:
            continue
        for held in (columns, old):
            if held is old and index not in old:
                continue
            fits = np.asarray(pc.fill_null(pc.match_substring_regex(held[index], _WHOLE), True))
            if not fits.all():
                held[index] = pc.if_else(pa.array(fits), held[index], None)
                changed = True
    return replace(batch, columns=tuple(columns), old=old) if changed else batch
