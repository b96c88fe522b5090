"""Rows that wait for a lookup: kept back with whatever follows them under their keys, and let go in order once it is there.

What waits is in the journal too, and leaves it in the transaction in which it is let go, or quarantined: a row has one end, whatever is
killed. It is counted then, and not before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import numpy as np
import numpy.typing as npt
import structlog

from dataflows.enriching import BoundDataset, Enrichments
from dataflows.interleaving import Interleaving
from dataflows.lookup_table import joined
from dataflows.lookups import Lookups
from dataflows.mapping import Mapped
from journal.batch import ChangeBatch, CopyMarker, Longs, Mask, Op, Payloads
from journal.joining import join
from pipeline.errors import ConfigError
from pipeline.model import Pipeline
from quality.judgement import QuarantinedRow
from sinks.lineage import trace

log = structlog.get_logger("sluice.ingest")

MOST_ROWS = 50_000
"""Of one dataset that wait. Of more the oldest do not wait to the end of their time."""

_LOOK_EVERY = 0.5
_REST = 5.0  # times what a look took, until the next one
_NOTHING = np.zeros(0, np.int64)

Place = tuple[str, str]


@dataclass(slots=True, eq=False)
class Part:
    """Rows of one table that wait, as their contract passed them. `number` is what the journal calls them by, once it has them."""

    batch: ChangeBatch
    since: float
    number: int = 0

    @property
    def place(self) -> Place:
        return self.batch.source, self.batch.table


@dataclass(frozen=True, slots=True, eq=False)
class Settled:
    """Rows of one table that wait no more.

    batch    the rows, with new ordinals; `mapped` is what became of them, None where they only leave: `why`
    gone     numbers of what the journal is to forget, and `parts` are what it is to keep in place of it
    """

    batch: ChangeBatch | None
    mapped: Mapped | None = None
    why: str = ""
    gone: Sequence[int] = ()
    parts: Sequence[Part] = ()


@dataclass(slots=True, eq=False)
class _Bench:
    """What waits of one dataset, in order. `void`: what cannot be let go any more, and why; `forgotten`: what a new copy brings again."""

    parts: list[Part] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    void: list[tuple[Part, str]] = field(default_factory=list)
    forgotten: list[Part] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return sum(len(part.batch) for part in self.parts)

    def of(self, place: Place) -> list[Part]:
        """What waits of one table."""
        return [part for part in self.parts if part.place == place]

    def spoil(self, place: Place, why: str) -> None:
        """Nothing of a table can be let go any more."""
        self.void += [(part, why) for part in self.of(place)]
        self.keep([part for part in self.parts if part.place != place])

    def forget(self, place: Place) -> None:
        """Nothing of a table is to be let go: it comes again."""
        self.forgotten += [*self.of(place), *(part for part, _ in self.void if part.place == place)]
        self.void = [one for one in self.void if one[0].place != place]
        self.keep([part for part in self.parts if part.place != place])

    def keep(self, parts: Iterable[Part]) -> None:
        """Nothing but these waits."""
        self.parts, self.keys = [], set()
        self.put(parts)

    def put(self, parts: Iterable[Part]) -> None:
        for part in parts:
            self.parts.append(part)
            self.keys.update(_keys(part.batch))


class Waiting:
    """Enriches batches, and keeps back what has to wait. One thread."""

    def __init__(self, pipeline: Pipeline, lookups: Lookups, clock: Callable[[], float]) -> None:
        """`clock` is the journal's, in seconds. Raises ConfigError for SQL that is not sound."""
        enrichments = Enrichments(pipeline, lookups)
        self.in_order = Interleaving(pipeline, lookups, enrichments)
        self.enrichments = enrichments
        self.lookups = lookups
        self._clock = clock
        self._benches: dict[str, _Bench] = {}  # by dataset
        self._seen = -1
        self._look_at = 0.0
        self._rest_until = 0.0

    def restore(self, kept: Iterable[tuple[int, float, ChangeBatch]]) -> None:
        """What waited when the process ended: number, since when, rows."""
        for number, since, batch in kept:
            self._bench(batch).put([Part(batch, since, number)])

    def _bench(self, of: ChangeBatch | CopyMarker) -> _Bench:
        return self._benches.setdefault(of.dataset, _Bench())

    def apply(self, batch: ChangeBatch) -> tuple[Mapped, Part | None] | None:
        """The batch enriched, without the rows that wait, and those; None where its dataset is not enriched. Raises ConfigError.

        Rows of a copy for one sink do not wait. One that waits already is left out, as the stream brings it once it is let go.
        """
        bound = self.enrichments.bound(batch.schema)
        if bound is None:
            return None
        mapped = bound.feed.apply(batch)
        if not bound.waits:
            return mapped, None
        bench, place = self._bench(batch), (batch.source, batch.table)
        if batch.sink is not None:
            return _not_waiting(mapped, bench.keys), None
        if any(part.batch.schema.encoded != batch.schema.encoded for part in bench.of(place)[-1:]):
            bench.spoil(place, "it waited for a lookup, and the columns of its table changed meanwhile")
        limits = _limits(bound, mapped, batch)
        cleared = np.flatnonzero(batch.op == Op.TRUNCATE)
        start = int(cleared[-1]) + 1 if len(cleared) else 0
        if start:
            bench.spoil(place, "it waited for a lookup, and its table was truncated meanwhile")
        stay = ~np.isnan(limits)
        stay[:start] = False
        if bench.keys or stay.any():
            stay[start:] = _behind(batch.slice(start, len(batch)), stay[start:], bench.keys)
        if not stay.any():
            return mapped, None
        part = Part(_alone(batch.take(stay)), self._clock())
        bench.put([part])
        return bound.feed.apply(batch.take(~stay)), part

    def mark(self, marker: CopyMarker) -> None:
        """A copy of a table for everybody begins: it has all that waits."""
        if marker.sink is None and marker.phase == "start" and marker.dataset in self._benches:
            self._benches[marker.dataset].forget((marker.source, marker.table))

    def due(self) -> bool:
        """Whether anything may have to be settled. Cheap."""
        benches = [bench for bench in self._benches.values() if bench.parts or bench.void or bench.forgotten]
        if not benches:
            return False
        if any(bench.void or bench.forgotten or bench.rows > MOST_ROWS for bench in benches):
            return True
        now = time.monotonic()
        return now >= self._rest_until and (self._seen != self.lookups.version or now >= self._look_at)

    def settle(self, number: Callable[[int], int]) -> list[Settled]:
        """Lets go what need not wait any more. `number` gives the first of so many new ordinals."""
        began = time.monotonic()
        self._seen = self.lookups.version
        settled: list[Settled] = []
        for bench in self._benches.values():
            if bench.forgotten:
                settled.append(Settled(None, gone=[part.number for part in bench.forgotten]))
            settled += [_spoiled(part, why, number) for part, why in bench.void]
            bench.forgotten, bench.void = [], []
            if bench.parts:
                settled += self._looked_at(bench, number)
        ended = time.monotonic()
        self._rest_until, self._look_at = ended + _REST * (ended - began), ended + _LOOK_EVERY
        return settled

    def _looked_at(self, bench: _Bench, number: Callable[[int], int]) -> list[Settled]:
        settled: list[Settled] = []
        runs = [list(run) for _, run in groupby(bench.parts, key=lambda part: (part.place, part.batch.schema.encoded))]
        spare = max(0, bench.rows - MOST_ROWS)
        bench.keep(())
        for run in runs:
            whole = join([part.batch for part in run])
            try:
                bound = self.enrichments.bound(whole.schema)
            except ConfigError as error:
                log.error("rows that wait cannot be enriched", dataset=whole.dataset, error=error.message)
                settled += [_spoiled(part, error.message, number) for part in run]
                continue
            late = np.ones(len(whole), np.bool_) if bound is None else self._late(bound, run, whole)
            late[:spare] = True
            spare = max(0, spare - len(whole))
            stay = _behind(whole, ~late, bench.keys)
            gone, fresh = _left(bench, run, stay)
            if stay.all():
                continue
            going = _numbered(whole.take(~stay), number)
            settled.append(Settled(going, Mapped(going) if bound is None else bound.feed.apply(going), gone=gone, parts=fresh))
        return settled

    def _late(self, bound: BoundDataset, run: Sequence[Part], whole: ChangeBatch) -> Mask:
        """bool[n]: rows that need not wait, or have waited long enough."""
        since = np.repeat([part.since for part in run], [len(part.batch) for part in run])
        limits = _limits(bound, bound.feed.apply(whole), whole)
        late: Mask = np.isnan(limits) | (since + limits <= self._clock())
        return late


def _not_waiting(mapped: Mapped, waiting: Collection[str]) -> Mapped:
    """Without rows that failed and wait already."""
    if mapped.failed is None or not waiting:
        return mapped
    failed = mapped.failed
    keys = joined([failed.columns[place] for place in failed.schema.key_indices]).to_pylist()
    kept = [row for row, key in enumerate(keys) if key not in waiting]
    if not kept:
        return Mapped(mapped.passed)
    rows = [QuarantinedRow(place, mapped.rows[row].reasons) for place, row in enumerate(kept)]
    return Mapped(mapped.passed, failed.take(np.array(kept, np.int64)), rows, [mapped.keys[row] for row in kept])


def _left(bench: _Bench, run: Sequence[Part], stay: Mask) -> tuple[list[int], list[Part]]:
    """Puts back what stays: numbers of parts that are not there any more as they were, and parts that are new."""
    gone: list[int] = []
    fresh: list[Part] = []
    at = 0
    for part in run:
        mask = stay[at : at + len(part.batch)]
        at += len(part.batch)
        if mask.all():
            bench.put([part])
            continue
        gone.append(part.number)
        if mask.any():
            fresh.append(Part(part.batch.take(mask), part.since))
            bench.put(fresh[-1:])
    return gone, fresh


def _spoiled(part: Part, why: str, number: Callable[[int], int]) -> Settled:
    return Settled(_numbered(part.batch, number), why=why, gone=[part.number] if part.number else [])


def _numbered(batch: ChangeBatch, number: Callable[[int], int]) -> ChangeBatch:
    first = number(len(batch))
    return replace(batch, ordinal=np.arange(first, first + len(batch), dtype=np.int64))


def _alone(batch: ChangeBatch) -> ChangeBatch:
    """Without what it holds of other rows' messages."""
    if batch.payloads is None:
        return batch
    own = [batch.payloads.row(row) for row in range(len(batch))]
    return replace(batch, payloads=Payloads(own, np.arange(len(own), dtype=np.int64)))


def _limits(bound: BoundDataset, mapped: Mapped, batch: ChangeBatch) -> npt.NDArray[np.float64]:
    """float64[n]: seconds that a row may wait for what it lacks; NaN where it lacks nothing, or does not wait for it."""
    limits = np.full(len(batch), np.nan)
    if mapped.failed is not None:
        places: Longs = np.searchsorted(batch.ordinal, mapped.failed.ordinal)
        for row, failed in zip(places, mapped.rows, strict=True):
            found = bound.waits.get(failed.reasons[0].rule)
            if found is not None:
                limits[row] = found.wait_seconds
    return limits


def _behind(batch: ChangeBatch, stay: Mask, waiting: Collection[str]) -> Mask:
    """bool[n]: rows that stay, and those behind them, or behind what is `waiting`, under a key that they had or have."""
    stay = stay.copy()
    lineage = trace(batch, _NOTHING)
    touched = lineage.code >= 0
    code, rows = lineage.code[touched], lineage.rows[touched]
    if waiting:
        known = np.array([key in waiting for key in joined(lineage.keys).to_pylist()], np.bool_)
        stay[rows[known[touched]]] = True
    first = np.full(int(code.max(initial=-1)) + 1, len(batch), np.int64)
    while True:
        kept = stay[rows]
        np.minimum.at(first, code[kept], rows[kept])
        more = ~kept & (first[code] < rows)
        if not more.any():
            return stay
        stay[rows[more]] = True


def _keys(batch: ChangeBatch) -> list[str]:
    """Every key that a batch touches, as text."""
    return [key for key in joined(trace(batch, _NOTHING).keys).to_pylist() if key is not None]
