"""What became of single changes in the sinks, as the journal and the state on disk tell it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dataflows.copy_names import CopyNames
from dataflows.progress import cursor_of
from journal.batch import ChangeBatch
from journal.local import JournalReader
from journal.passages import passed_at
from journal.quarantine import QuarantineRecord, record_id
from journal.state import State
from pipeline.errors import ConfigError
from pipeline.model import Pipeline, Route, SinkBlock
from sinks.routing import Router


@dataclass(frozen=True, slots=True)
class AtSink:
    """One change at one sink.

    status  delivered · filtered (the route's `where` turned it away) · left (so was the row after an update: it was taken out) ·
            quarantined (the target could not hold it: `record`) · pending (not there yet) · unrouted (the sink does not take it) · unknown
    after   it was not there then, and by `by` it was, both in seconds since 1970; None where nothing tells
    """

    status: str
    after: float | None = None
    by: float | None = None
    why: str | None = None
    record: QuarantineRecord | None = None


class AtSinks:
    """The sinks of a pipeline. Routes are those of the pipeline file as it is now."""

    def __init__(self, pipeline: Pipeline, reader: JournalReader, state: State) -> None:
        self._pipeline = pipeline
        self._journal = reader.id
        self._state = state
        self._progress = state.sinks()
        self._passages = {name: state.passages(name, reader.id) for name in pipeline.sinks}
        self._names = CopyNames(pipeline)
        self._routers: dict[tuple[str, str], Router] = {}

    def of(self, one: ChangeBatch, seq: int) -> dict[str, AtSink]:
        """What became of a change (a batch of one row) in entry `seq`, by sink."""
        return {name: self._at(block, one, seq) for name, block in self._pipeline.sinks.items()}

    def _at(self, block: SinkBlock, one: ChangeBatch, seq: int) -> AtSink:
        route = block.route(one.dataset)
        if route is None:
            return AtSink("unrouted", why=f"it does not take {one.dataset}")
        if one.sink not in (None, block.name):
            return AtSink("unrouted", why=f"a copy for the sink {one.sink} alone")
        place = self.position(block.name, seq)
        progress = self._progress.get(block.name)
        if place.status != "delivered" or progress is None:
            return place
        cursor = cursor_of(progress)
        if cursor is not None and one.sink is None and self._names.at(one.source, one.table) in cursor.waiting:
            return AtSink("pending", why="the sink waits for a copy, which has it")
        record = self._state.refused_record(record_id(self._journal, int(one.ordinal[0]), block.name))
        if record is not None and record.status != "resolved":
            return replace(place, status="quarantined", why=record.reasons[0].message, record=record)
        return self._routed(block.name, route, one, place)

    def _routed(self, sink: str, route: Route, one: ChangeBatch, place: AtSink) -> AtSink:
        try:
            routed = self._router(sink, route, one).route(one)
        except ConfigError as error:
            return AtSink("unknown", why=f"the route does not fit the columns that it had: {error.message}")
        if len(routed.leaving):
            return replace(place, status="left", why=f"it does not match where: {route.where}")
        return place if len(routed.batch) else replace(place, status="filtered", why=f"it does not match where: {route.where}")

    def _router(self, sink: str, route: Route, one: ChangeBatch) -> Router:
        at = (sink, one.schema.encoded)
        if at not in self._routers:
            self._routers[at] = Router(route, one.schema, b"")  # what a mask makes of values is not asked for
        return self._routers[at]

    def position(self, sink: str, seq: int) -> AtSink:
        """Whether a sink has passed an entry, and when."""
        progress = self._progress.get(sink)
        if progress is None or progress.cursor is None:
            return AtSink("pending", why="nothing is known of the sink here")
        if progress.journal != self._journal:
            return AtSink("unknown", why="the sink counts in another journal")
        if progress.seq < seq:
            return AtSink("pending", why=progress.error or ("the sink is away" if progress.state == "retrying" else None))
        return AtSink("delivered", *passed_at(self._passages[sink], seq))

    def by_ordinal(self, sink: str, ordinal: int) -> float | None:
        """By when a sink had a change whose entry is gone, seconds since 1970."""
        return next((one.at for one in self._passages[sink] if one.ordinal >= ordinal), None)

    def passed(self, dataset: str, seq: int) -> dict[str, AtSink]:
        """The sinks that take a dataset, and whether they have passed an entry."""
        return {name: self.position(name, seq) for name, block in self._pipeline.sinks.items() if block.route(dataset) is not None}
