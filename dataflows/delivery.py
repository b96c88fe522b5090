"""What one sink gets of each journal entry: routed, written, counted, and committed with the cursor."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import structlog

from dataflows.copy_names import CopyNames
from dataflows.observe import DeliverMetrics
from dataflows.records import Place, refused_records
from dataflows.returning import Returning, Rows
from dataflows.worker import ALONE, Turn, Worker, reached, turn
from journal.batch import ChangeBatch, CopyMarker
from journal.lanes import Lanes
from journal.local import JournalReader
from journal.quarantine import QuarantineRecord
from journal.schema import TableSchema
from pipeline.errors import AlreadyRunningError, NotYetError, TerminalError, TransientError
from pipeline.model import Route, SinkBlock
from sinks.base import ANOTHER_JOURNAL, Counts, Cursor, RefusedRow, SharedSink, Sink, Target
from sinks.routing import Router
from sinks.sharing import shared_out, whole

log = structlog.get_logger("sluice.deliver")

_PASS_EVERY = 1.0  # seconds after which a cursor is written even though nothing was for this sink
_HEED_EVERY = 1.0
EVERY = "*"  # in Cursor.routes: the sink takes every dataset as it is


class Delivery:
    """One sink between two commits."""

    def __init__(
        self,
        sink: Sink,
        block: SinkBlock,
        reader: JournalReader,
        router: Callable[[Route, TableSchema], Router],
        metrics: DeliverMetrics,
        ask_copy: Callable[[Sequence[str]], None],
        remind: Callable[[Sequence[str]], None],
        keep: Callable[[Sequence[QuarantineRecord], int], None],
        forget: Callable[[int], None],
        committed: Callable[[Cursor], None],
        place: Place,
        names: CopyNames,
        worker: Worker = ALONE,
        returning: Returning | None = None,
    ) -> None:
        """`ask_copy` asks ingest for a copy of datasets for this sink; `remind` says that it still waits for some; `keep` stores refused
        rows (with their entry's seq) before the commit that passes them; `forget` drops those behind a seq, which the target does not hold
        and will be offered again; `committed` is told each cursor that the target holds; `place` words the position of a change;
        `names` are those of copies; `returning` knows the rows that were refused, and come back."""
        self._returning = returning
        self.worker = worker
        self.sink = sink
        self._block = block
        self._reader = reader
        self._router = router
        self._metrics = metrics
        self._ask_copy = ask_copy
        self._remind = remind
        self._keep = keep
        self._forget = forget
        self._committed = committed
        self._place = place
        self._names = names
        self._routers: dict[str, Router] = {}
        self._prepared: dict[str, str] = {}
        self._open = False
        self._said = 0  # the cursor in the target
        self._last_commit = 0.0
        self._heeded = 0.0
        self.cursor = Cursor(reader.id, 0)

    def open(self) -> int:
        """Connects the sink and settles what it lacks. Returns the journal entry behind which to go on."""
        self._routers.clear()
        self._prepared.clear()
        self._open = False
        if self._returning is not None:
            self._returning.open()
        if self.worker.number:
            with self._giving_way():
                self.cursor = self._shared.join(self._reader.id, self.worker.number, self.worker.of)
            self._said = self.cursor.seq
            self._committed(self.cursor)
            return self.cursor.seq
        held = self.sink.open(self._reader.id)
        if self.worker.of > 1 or (held is not None and held.of > 1):
            new = self._take_over(held)
        else:
            self.cursor, new = self._settled(held)
            self._forget(held.seq if held else 0)
            self._said = held.seq if held else -1
        if new:
            log.info("sink needs a copy", sink=self.sink.name, datasets=sorted(new))
            self._ask_copy(sorted(new))
        if self.cursor.waiting - new:
            self._remind(sorted(self.cursor.waiting - new))
        self._committed(self.cursor)
        return self.cursor.seq

    def _take_over(self, held: Cursor | None) -> frozenset[str]:
        """Makes one cursor of those that workers left behind, and gives each worker of now its own. Returns what is to be copied."""
        others = self._shared.seize()
        cursor, new = self._settled(None if held is None else whole([held, *others]))
        self._forget(max((cursor.seq, *(done.seq for done in cursor.ahead))))  # no worker can have refused a row meanwhile
        cursors = shared_out(cursor, self.worker.of)
        self._shared.hand_out(cursors)
        self.cursor, self._said = cursors[0], cursor.seq
        return new

    @property
    def _shared(self) -> SharedSink:
        if not isinstance(self.sink, SharedSink):
            raise TerminalError(f"the sink {self.sink.name} takes one process", hint="start it without --workers")
        return self.sink

    @property
    def lanes(self) -> Lanes | None:
        """The part of the journal to read; None for all of it."""
        if self.worker.of == 1 and not self.cursor.ahead:
            return None
        return Lanes(self.worker.number, self.worker.of, self.cursor.ahead)

    def meet(self, after: int, entries: Sequence[tuple[int, ChangeBatch | CopyMarker]], last: int) -> Turn:
        """What to do with entries that concern all workers: those behind `after`, up to which this first makes everything visible.

        To `follow`, which this does, is to go on as if they had been written here.
        """
        if self._open or self._said != after:
            self.commit(after, now=True)
        held = self._shared.cursors() if self.worker.of > 1 else [self.cursor]
        now = turn(self.worker, self.cursor, held, last)
        if now == "wait":
            self._heed(held)
        if now == "follow":
            to = min(last, reached(self.worker, self.cursor, held))
            for seq, entry in entries:
                if seq <= to and isinstance(entry, CopyMarker) and self._block.route(entry.dataset) is not None:
                    self._note(entry, self._names.at(entry.source, entry.table))
            self.cursor = self.cursor.at(to)
        return now

    def heed(self) -> None:
        """To be called from time to time while there is nothing to write: raises NotYetError where the first worker has begun anew."""
        if self.worker.number and time.monotonic() - self._heeded >= _HEED_EVERY:
            self._heeded = time.monotonic()
            self._heed(self._shared.cursors())

    def _heed(self, held: Sequence[Cursor]) -> None:
        number = self.worker.number
        settled = time.monotonic() - self._last_commit >= _HEED_EVERY  # a target may not show at once what has been committed
        if number and settled and (len(held) <= number or held[number].seq != self._said):
            raise NotYetError(f"the first worker of the sink {self.sink.name} has begun anew")

    def _settled(self, held: Cursor | None) -> tuple[Cursor, frozenset[str]]:
        """The cursor to go on from, and what a copy is to be asked for: what is new to the sink, or goes there differently now.

        A copy that is on its way already is not that one.
        """
        routes = digests(self._block)
        if held is None:
            if self._reader.first_seq() <= 1:
                return Cursor(self._reader.id, 0, routes=routes), frozenset()
            return self._beginning_anew()
        if held.seq > self._reader.last_seq() and self._reader.copied():  # the sink was fed on another machine meanwhile
            self.sink.close()
            message = f"the sink {self.sink.name} holds more than this folder's copy of the journal, which is to catch up"
            raise TransientError(message, hint=f"if it has caught up already: {ANOTHER_JOURNAL}")
        if held.seq > self._reader.last_seq():
            raise TerminalError(f"the sink {self.sink.name} holds more than the journal ever had", hint=ANOTHER_JOURNAL)
        if held.seq + 1 < self._reader.first_seq():  # it was out of the file for long, or the target was set back to an old state
            return self._beginning_anew()
        routed = [name for name in self._reader.totals() if self._block.route(name) is not None]
        new = self._copies(name for name in routed if _way(held.routes, name) != _way(routes, name))
        return replace(held, routes=routes, waiting=held.waiting | new, begun=held.begun - new), new

    def _beginning_anew(self) -> tuple[Cursor, frozenset[str]]:
        """Nothing is taken of what the journal has held so far, some of which it has forgotten: copies of everything bring it."""
        passed = passed_over(self._reader, self._block)
        whole = self._copies(passed.counts)
        return replace(passed, waiting=whole), whole

    def _copies(self, datasets: Iterable[str]) -> frozenset[str]:
        return frozenset(copy for dataset in datasets for copy in self._names.of(dataset))

    def write(self, seq: int, entry: ChangeBatch | CopyMarker) -> None:
        """Writes one entry inside the open transaction. Raises TransientError or TerminalError, never loses a row."""
        route = self._block.route(entry.dataset)
        if route is None:
            return
        with self._giving_way():
            self._put(seq, route, entry)

    def _put(self, seq: int, route: Route, entry: ChangeBatch | CopyMarker) -> None:
        if not self._open:
            self.sink.begin()
            self._open = True
        copy = self._names.at(entry.source, entry.table)
        if isinstance(entry, CopyMarker):
            self._mark(route, entry, copy)
        elif copy not in self.cursor.waiting or (entry.sink is not None and copy in self.cursor.begun):
            self._write(seq, route, entry)
        elif entry.sink is None:
            self._count(entry.dataset, delivered=len(entry))  # the copy that the sink waits for has it

    def _mark(self, route: Route, marker: CopyMarker, copy: str) -> None:
        if self._note(marker, copy):
            self.sink.mark(self._target(route, marker.schema), marker)
            if self._returning is not None:
                self._returning.marked(marker)

    def _note(self, marker: CopyMarker, copy: str) -> bool:
        """Keeps what a marker says of the copies that the sink waits for. Returns whether it concerns the sink's table."""
        waiting, begun, this = self.cursor.waiting, self.cursor.begun, {copy}
        if marker.sink is None and copy in waiting:
            return False  # of a copy for all, whose rows are passed over too
        if marker.phase == "start" and marker.sink is not None:
            # what the stream brings from here on comes again behind the copy, for this sink
            self.cursor = replace(self.cursor, waiting=waiting | this, begun=begun | this)
        elif copy in waiting - begun:
            return False  # of a copy that began before this target, or this way into it
        if marker.phase != "start" and marker.sink is not None:
            self.cursor = replace(self.cursor, waiting=waiting - this if marker.phase == "end" else waiting, begun=begun - this)
        return True

    def _write(self, seq: int, route: Route, batch: ChangeBatch) -> None:
        target = self._target(route, batch.schema)
        back: Rows = {}
        if self._returning is not None and (back := self._returning.rows(batch)):
            batch, back = self._returning.still_new(batch, back)
        routed = self._routers[batch.schema.encoded].route(batch)
        refused: list[RefusedRow] = list(routed.refused)
        kept = 0
        if len(routed.batch):
            found = self.sink.write(target, routed.batch, routed.leaving)
            refused += [replace(one, row=int(routed.rows[one.row])) for one in found]
            kept = len(routed.batch) - len(routed.leaving) - len(found)
        if first := [one for one in refused if one.row not in back]:
            records = refused_records(self._reader.id, self._place, self.sink.name, batch, first)
            self._keep(records, seq)
            if self._returning is not None:
                self._returning.refused(records)
        if self._returning is not None:
            if back:
                delivered, filtered = self._returning.became(back, routed, refused)
                self._count(batch.dataset, delivered, filtered, -delivered - filtered)
            self._returning.written(batch, refused)
        if batch.sink is None:
            self._count(batch.dataset, kept, routed.filtered, len(refused))
            labels = (self.sink.name, batch.dataset)
            self._metrics.rows.labels(*labels).inc(kept)
            self._metrics.bytes.labels(*labels).inc(routed.batch.nbytes)
            self._metrics.filtered.labels(*labels).inc(routed.filtered)
            self._metrics.refused.labels(*labels).inc(len(refused))

    def _target(self, route: Route, schema: TableSchema) -> Target:
        """The target for a schema; its table is made or altered when the schema is seen for the first time since the last one."""
        router = self._routers.get(schema.encoded)
        if router is None:
            router = self._routers[schema.encoded] = self._router(route, schema)
        if self._prepared.get(schema.dataset) != schema.encoded:
            self.sink.prepare(router.target)
            self._prepared[schema.dataset] = schema.encoded
        return router.target

    def _count(self, dataset: str, delivered: int = 0, filtered: int = 0, quarantined: int = 0) -> None:
        counts = self.cursor.counts.get(dataset, Counts()).plus(delivered, filtered, quarantined)
        self.cursor = replace(self.cursor, counts={**self.cursor.counts, dataset: counts})

    def commit(self, seq: int, *, now: bool = False) -> None:
        """Everything up to and with entry `seq` becomes visible, with the cursor that says so; that alone not each time, unless `now`."""
        self.cursor = self.cursor.at(seq)
        if now or self._open or time.monotonic() - self._last_commit >= _PASS_EVERY:
            self._commit()

    def flush(self) -> None:
        """Lets the target say what it holds where it is behind: after entries in which nothing was for it."""
        if not self._open and self._said != self.cursor.seq:
            self._commit()

    def _commit(self) -> None:
        if not self._open:
            self.sink.begin()
            self._open = True
        began = time.perf_counter()
        with self._giving_way():
            self.sink.commit(self.cursor)
        self._open = False
        self._metrics.commit.labels(self.sink.name).observe(time.perf_counter() - began)
        self._said = self.cursor.seq
        self._last_commit = time.monotonic()
        self._committed(self.cursor)

    @contextmanager
    def _giving_way(self) -> Iterator[None]:
        """A worker that the first one has fenced off begins anew; whether there is another first one, that one finds out itself."""
        try:
            yield
        except AlreadyRunningError as error:
            if not self.worker.number:
                raise
            raise NotYetError(f"the first worker of the sink {self.sink.name} has begun anew") from error

    def abandon(self) -> None:
        """Nothing of the open transaction stays."""
        if self._open:
            self._open = False
            self.sink.rollback()


def passed_over(reader: JournalReader, block: SinkBlock) -> Cursor:
    """The cursor of a sink that takes nothing of what the journal has held so far: copies bring it."""
    last, totals = reader.balance()
    counts = {name: Counts(t.rows - t.undelivered - t.dropped) for name, t in totals.items() if block.route(name) is not None}
    return Cursor(reader.id, last, counts=counts, routes=digests(block))


def digests(block: SinkBlock) -> dict[str, str]:
    """Of each route; see Cursor.routes."""
    return {name: digest(route) for name, route in (block.routes or {EVERY: Route(EVERY)}).items()}


def digest(route: Route) -> str:
    """Equal for routes that put the same rows into the same table."""
    told = repr(replace(route, dataset="", line=0, columns=dict(sorted(route.columns.items()))))
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _way(routes: Mapping[str, str], dataset: str) -> str | None:
    return routes.get(dataset, routes.get(EVERY))
