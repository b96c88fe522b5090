"""Rows that wait for a lookup: kept back with whatever follows them under their keys, and let go in order once it is there.

What waits is in the journal too, and leaves it in the transaction in which it is let go, or quarantined: a row has one end, whatever is
killed. It is counted then, and not before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import structlog

from dataflows.enriching import BoundDataset, Enrichments
from dataflows.interleaving import Interleaving
from dataflows.lookup_table import joined
from dataflows.lookups import Lookups
from dataflows.mapping import Mapped
from journal.batch import ChangeBatch, CopyMarker, Longs, Mask, Op
from journal.joining import join
from pipeline.errors import ConfigError
from pipeline.model import Pipeline
from sinks.lineage import trace

log = structlog.get_logger("sluice.ingest")

MOST_ROWS = 50_000
"""That wait for the lookups of one table. Of more the oldest do not wait to the end of their time."""

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
    """What waits of one table, in order. `void`: what cannot be let go any more, and why; `forgotten`: what a new copy brings again."""

    parts: list[Part] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    void: list[tuple[Part, str]] = field(default_factory=list)
    forgotten: list[Part] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return sum(len(part.batch) for part in self.parts)

    def spoil(self, why: str) -> None:
        """Nothing of it can be let go any more."""
        self.void += [(part, why) for part in self.parts]
        self.parts, self.keys = [], set()

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
        self._benches: dict[Place, _Bench] = {}
        self._seen = -1
        self._look_at = 0.0
        self._rest_until = 0.0

    def restore(self, kept: Iterable[tuple[int, float, ChangeBatch]]) -> None:
        """What waited when the process ended: number, since when, rows."""
        for number, since, batch in kept:
            self._bench(batch).put([Part(batch, since, number)])

    def _bench(self, of: ChangeBatch | CopyMarker) -> _Bench:
        return self._benches.setdefault((of.source, of.table), _Bench())

    def apply(self, batch: ChangeBatch) -> tuple[Mapped, Part | None] | None:
        """The batch enriched, without the rows that wait, and those; None where its dataset is not enriched. Raises ConfigError.

        Rows of a copy for one sink do not wait: those that would are left out, as the stream brings them once they are let go.
        """
        bound = self.enrichments.bound(batch.schema)
        if bound is None:
            return None
        mapped = bound.feed.apply(batch)
        if batch.sink is not None or not bound.waits:
            return mapped, None
        bench = self._bench(batch)
        if bench.parts and bench.parts[-1].batch.schema.encoded != batch.schema.encoded:
            bench.spoil("it waited for a lookup, and the columns of its table changed meanwhile")
        limits = _limits(bound, mapped, batch)
        cleared = np.flatnonzero(batch.op == Op.TRUNCATE)
        if len(cleared):
            bench.spoil("it waited for a lookup, and its table was truncated meanwhile")
            limits[: cleared[-1]] = np.nan
        stay = ~np.isnan(limits)
        start = int(cleared[-1]) + 1 if len(cleared) else 0
        if bench.parts and not bench.keys.isdisjoint(_keys(batch)):
            before = [part.batch for part in bench.parts]
            known = sum(len(one) for one in before)
            stay = _behind(join([*before, _bare(batch)]), np.concatenate([np.ones(known, np.bool_), stay]))[known:]
        elif stay.any():
            stay[start:] = _behind(batch.slice(start, len(batch)), stay[start:])
        if not stay.any():
            return mapped, None
        part = Part(_bare(batch.take(stay)), self._clock())
        bench.put([part])
        return bound.feed.apply(batch.take(~stay)), part

    def mark(self, marker: CopyMarker) -> None:
        """A copy of a table for everybody begins: it has all that waits."""
        if marker.sink is None and marker.phase == "start" and (marker.source, marker.table) in self._benches:
            bench = self._bench(marker)
            bench.forgotten += [*bench.parts, *(part for part, _ in bench.void)]
            bench.parts, bench.keys, bench.void = [], set(), []

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
        whole = join([part.batch for part in bench.parts])
        try:
            bound = self.enrichments.bound(whole.schema)
        except ConfigError as error:
            log.error("rows that wait cannot be enriched", dataset=whole.dataset, error=error.message)
            parts = bench.parts
            bench.parts, bench.keys = [], set()
            return [_spoiled(part, error.message, number) for part in parts]
        if bound is None:
            stay = np.zeros(len(whole), np.bool_)
        else:
            since = np.repeat([part.since for part in bench.parts], [len(part.batch) for part in bench.parts])
            late = since + np.nan_to_num(_limits(bound, bound.feed.apply(whole), whole), nan=-np.inf) <= self._clock()
            late[: max(0, len(whole) - MOST_ROWS)] = True
            stay = _behind(whole, ~late)
        if stay.all():
            return []
        going = whole.take(~stay)
        first = number(len(going))
        going = replace(going, ordinal=np.arange(first, first + len(going), dtype=np.int64))
        mapped = Mapped(going) if bound is None else bound.feed.apply(going)
        gone, fresh = self._left(bench, stay)
        return [Settled(going, mapped, gone=gone, parts=fresh)]

    def _left(self, bench: _Bench, stay: Mask) -> tuple[list[int], list[Part]]:
        """What stays on a bench: numbers of parts that are not there any more as they were, and parts that are new."""
        parts, at = bench.parts, 0
        gone: list[int] = []
        fresh: list[Part] = []
        bench.parts, bench.keys = [], set()
        for part in parts:
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
    first = number(len(part.batch))
    batch = replace(part.batch, ordinal=np.arange(first, first + len(part.batch), dtype=np.int64))
    return Settled(batch, why=why, gone=[part.number] if part.number else [])


def _bare(batch: ChangeBatch) -> ChangeBatch:
    """As the journal gives it back: without the messages that the rows were received as."""
    return replace(batch, payloads=None)


def _limits(bound: BoundDataset, mapped: Mapped, batch: ChangeBatch) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """float64[n]: seconds that a row may wait for what it lacks; NaN where it lacks nothing, or does not wait for it."""
    limits = np.full(len(batch), np.nan)
    if mapped.failed is not None:
        places: Longs = np.searchsorted(batch.ordinal, mapped.failed.ordinal)
        for row, failed in zip(places, mapped.rows, strict=True):
            found = bound.waits.get(failed.reasons[0].rule)
            if found is not None:
                limits[row] = found.wait_seconds
    return limits


def _behind(batch: ChangeBatch, stay: Mask) -> Mask:
    """bool[n]: rows that stay, and those behind them under a key that they had or have."""
    stay = stay.copy()
    lineage = trace(batch, _NOTHING)
    touched = lineage.code >= 0
    code, rows = lineage.code[touched], lineage.rows[touched]
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
    lineage = trace(batch, _NOTHING)
    return [key for key in joined(lineage.keys).to_pylist() if key is not None]
