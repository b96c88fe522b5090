"""Whether each sink holds what its source holds, row by row, and whether the counts add up."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence, Set
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from dataflows.build import build_sink, build_source, contracts, router_for
from dataflows.compare import Comparison, Difference
from dataflows.contracts_in_force import in_force
from dataflows.copy_names import CopyNames
from dataflows.enriching import BoundDataset, Enrichments
from dataflows.lookups import Lookups
from dataflows.mapping import FeedMap
from dataflows.maps import Maps
from dataflows.progress import cursor_of
from dataflows.service import resume_of
from dataflows.settled import SettledRows, key_rows, rows_before
from journal.batch import ChangeBatch, Op, batch_from_columns
from journal.ledger import Tally
from journal.local import JournalReader
from journal.opening import catch_up, open_reader
from journal.processes import INGEST, Processes, delivering
from journal.schema import TableSchema
from journal.state import State
from pipeline.errors import ConfigError, TableGone
from pipeline.model import Pipeline, Route
from quality.contract import Contract
from quality.gate import Gate
from quality.judgement import MASKED, undecodable
from quality.rules import Action, Scope
from sinks.base import Counts, Sink, Target
from sinks.routing import Router
from sources.base import Source

_EXAMPLES = 10
_ROUNDS = 8
_PATIENCE = 20.0  # seconds for a sink to pass the position of the first look


@dataclass
class Found:
    """One dataset in one sink. Where rows were not `compared`, `source_rows` are all changes that ever came.

    `patched` are rows that the sink holds as their owners have mended them, in quarantine, until something newer of their key comes.
    """

    source_rows: int = 0
    sink_rows: int = 0
    quarantined: int = 0
    patched: int = 0
    missing: int = 0
    extra: int = 0
    different: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)
    compared: bool = True


def verify(pipeline: Pipeline) -> dict[str, Any]:
    """Compares every dataset in every sink it goes to. Changes nothing; works while the service runs and while it doesn't.

    A dataset whose contract does not fit its table any more is `stopped`, with the reason, and only counted.

    Raises Refused or TransientError where a source or a sink can't be read.
    """
    pipeline = in_force(pipeline)
    rules = contracts(pipeline)
    answer: dict[str, Any] = {"conserved": True, "stopped": {}, "datasets": {}}
    with ExitStack() as held:
        reader = held.enter_context(open_reader(pipeline))
        state = State.open(pipeline.state)
        held.callback(state.close)
        make_router = router_for(pipeline)
        enrichments = _enrichments(pipeline, reader)
        for schema, origins in _datasets(pipeline, held):
            found = answer["datasets"].setdefault(schema.dataset, {})
            contract = rules.get(schema.dataset)
            try:
                gate = None if contract is None else Gate(contract, schema)
            except ConfigError as error:  # the table has lost a column that a rule reads: it is stopped, and the others are not
                answer["stopped"][schema.dataset] = error.message
                gate = None
            enriched = enrichments.bound(schema)
            for sink_name, sink_block in pipeline.sinks.items():
                route = sink_block.route(schema.dataset)
                if route is None:
                    continue
                sink = build_sink(pipeline, sink_block)
                held.callback(sink.close)
                router = make_router(route, schema if enriched is None else enriched.schema)
                look = _Look(pipeline, reader, state, origins, schema, gate, sink, route, router, enriched)
                told = (enriched is None or router.filters_by <= enriched.plain) and not _late(pipeline, schema.dataset)
                told = told and not _drops_steps(contract) and schema.dataset not in answer["stopped"]
                try:
                    here = look.settle() if told and all(origin.source.compared for origin in origins) else look.counted()
                except TableGone:
                    here = look.counted()
                found[sink_name] = vars(here)
        answer["unbalanced"] = _unbalanced(pipeline, reader, state)
        answer["conserved"] = not answer["unbalanced"]
    return answer


def _late(pipeline: Pipeline, dataset: str) -> bool:
    """Whether rows of a dataset may have been late: then nobody knows which of its sources' rows sinks have."""
    found = pipeline.datasets.get(dataset)
    return found is not None and found.order_by is not None


def _drops_steps(contract: Contract | None) -> bool:
    """Whether a rule drops rows for what was before them: then what is at the source does not say which of its rows sinks have."""
    return contract is not None and any(
        rule.action is Action.DROP and (rule.scope is Scope.KEY or rule.lookup is not None) for rule in contract.rules
    )


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """One table of a source whose rows are in a dataset: through `map`, where there is one. `schema` is the source's."""

    source: Source
    table: str
    schema: TableSchema
    map: FeedMap | None


def _datasets(pipeline: Pipeline, held: ExitStack) -> list[tuple[TableSchema, list[Origin]]]:
    """Every dataset that is read, with the columns that it has, and where its rows come from."""
    maps = Maps(pipeline)
    found: dict[str, tuple[TableSchema, list[Origin]]] = {}
    for name, block in pipeline.sources.items():
        source = build_source(pipeline, block)
        held.callback(source.close)
        for table, given in sorted(resume_of(pipeline, name).schemas.items()):
            feed = maps.bound(name, table, given)
            schema = given if feed is None else feed.schema
            found.setdefault(schema.dataset, (schema, []))[1].append(Origin(source, table, given, feed))
    return list(found.values())


def _enrichments(pipeline: Pipeline, reader: JournalReader) -> Enrichments:
    """What is made of datasets behind their contracts. Which columns that is says the journal; what lookups hold is not looked at."""
    lookups = Lookups(pipeline)
    for name in {lookup.source for lookup in pipeline.lookups.values()}:
        for table, schema in reader.resume(name).schemas.items():
            lookups.know(name, table, schema)
    return Enrichments(pipeline, lookups)


def differs(answer: dict[str, Any]) -> bool:
    """Whether the answer of `verify` is no."""
    rows = [found for sinks in answer["datasets"].values() for found in sinks.values()]
    return (
        not answer["conserved"]
        or bool(answer["stopped"])
        or any(found["missing"] or found["extra"] or found["different"] for found in rows)
    )


@dataclass(frozen=True, slots=True)
class _Account:
    """Differences: those that nothing accounts for, and the keys of the others; and keys under which owners have mended a row."""

    counted: Sequence[Difference] = ()
    excused: Set[str] = frozenset()
    mended: Set[str] = frozenset()


class _Look:
    """One dataset in one sink, looked at until what differs stands still."""

    def __init__(
        self,
        pipeline: Pipeline,
        reader: JournalReader,
        state: State,
        origins: Sequence[Origin],
        schema: TableSchema,
        gate: Gate | None,
        sink: Sink,
        route: Route,
        router: Router,
        enriched: BoundDataset | None,
    ) -> None:
        """Of a dataset that is `enriched` the columns are compared that lookups have no part in: what those held then, nobody knows."""
        self._enriched = enriched
        self._pipeline = pipeline
        self._reader = reader
        self._state = state
        self._origins = origins
        self._schema = schema
        self._gate = gate
        self._sink = sink
        self._route = route
        self._router = router
        self._target: Target = router.target
        self._found = Found()
        self._held_back: set[str] = set()  # keys of rows that the gate or the sink does not let in

    def settle(self) -> Found:
        """Reads both sides; then, as long as the service moves, what differs again.

        What counts in the end is what the source held before and after the sink, which had passed the first look, did not.
        """
        key = self._schema.key
        plain = self._target.schema.names if self._enriched is None else self._enriched.plain
        names = [name for name in self._target.schema.names if name in plain]
        with tempfile.TemporaryDirectory(dir=self._pipeline.state) as folder:
            comparison = Comparison([name for name in key if name in names], names, Path(folder))
            self._look(comparison, None)
            pending = comparison.differences()
            account = self._account(comparison, pending)
            moving: set[str] = set()
            for _ in range(_ROUNDS):
                if not self._running or not account.counted:
                    break
                pending, moving = self._again(comparison, pending)
                account = self._account(comparison, pending)
            self._found.sink_rows = comparison.count("sink")
            self._report(account, moving)
            comparison.close()
        return self._found

    def counted(self) -> Found:
        """Where a source cannot tell its rows as they are now: how many changes came, and how many rows the sink has."""
        total = self._reader.totals().get(self._schema.dataset, Tally())
        rows = sum(batch.num_rows for batch in self._sink.read(self._target, None))
        return Found(source_rows=total.rows, sink_rows=rows, quarantined=total.undelivered, compared=False)

    def _look(self, comparison: Comparison, keys: pa.Table | None, *, twice: bool = False) -> None:
        batch = None if keys is None else _key_batch(self._schema, keys)
        for source, head in self._read_source(comparison, "source", batch):
            self._pass(source, head)
        for rows in self._sink.read(self._target, keys):
            comparison.add("sink", rows)
        if twice:
            self._read_source(comparison, "after", batch)

    def _again(self, comparison: Comparison, pending: Sequence[Difference]) -> tuple[list[Difference], set[str]]:
        """What still differs of what did, and what of it is changing. By key; where rows have none that both sides know, all rows."""
        told = not any(origin.map for origin in self._origins)  # behind a map nobody knows by which key the source has a row
        by_key = told and bool(self._schema.key) and not any(name in self._route.columns for name in self._schema.key)
        texts = [one.key for one in pending]
        if by_key:
            comparison.forget(texts)
            self._look(comparison, self._key_table(texts), twice=True)
        else:
            comparison.clear()
            self._look(comparison, None, twice=True)
        before = {(one.key, one.kind) for one in pending}
        found = comparison.differences()
        lasting = found if by_key else [one for one in found if (one.key, one.kind) in before]
        return lasting, comparison.moved([one.key for one in lasting])

    @property
    def _running(self) -> bool:
        processes = Processes(self._pipeline, self._state)
        return processes.alive(INGEST) and processes.alive(delivering(self._sink.name))

    def _read_source(self, comparison: Comparison, side: str, keys: ChangeBatch | None) -> list[tuple[Source, str]]:
        counting = not self._found.source_rows and side == "source"

        def receive(batch: ChangeBatch) -> None:
            if counting:
                self._found.source_rows += len(batch)
            judge(batch)

        def map_and_judge(feed: FeedMap, batch: ChangeBatch) -> None:
            if counting:
                self._found.source_rows += len(batch)
            mapped = feed.apply(batch)
            if mapped.keys and self._schema.key:
                self._held_back.update(comparison.keys(key_rows(self._schema.key, mapped.keys)))
            judge(mapped.passed)

        def judge(batch: ChangeBatch) -> None:
            comparison.add(side, self._through(batch))
            judgement = undecodable(batch) if self._gate is None else self._gate.judge(batch)
            if not judgement.passed.all():
                self._held_back.update(comparison.keys(self._through(batch.take(~judgement.passed))))

        heads = []
        for origin in self._origins:
            taker = receive if origin.map is None else partial(map_and_judge, origin.map)
            heads.append((origin.source, origin.source.read_table(origin.table, origin.schema, keys, taker)))
        return heads

    def _through(self, batch: ChangeBatch) -> pa.Table:
        """Rows of the source as the sink would hold them."""
        if self._enriched is not None:
            nothing = pa.nulls(len(batch), pa.string())
            shape = self._enriched.schema
            columns = tuple(batch.column(name) if name in self._enriched.plain else nothing for name in shape.names)
            batch = replace(batch, schema=shape, columns=columns, presence={}, old={}, has_old=None)
        return self._sink.held(self._target, self._router.route(batch).batch)

    def _pass(self, source: Source, head: str) -> None:
        """Waits until the sink holds what was committed at `head`; not at all where nothing runs."""
        deadline = time.monotonic() + _PATIENCE
        last: int | None = None
        while self._running and time.monotonic() < deadline:
            if last is None and source.reached(resume_of(self._pipeline, source.context.name).watermark, head):
                last = self._reader.last_seq()
            catch_up(self._pipeline)
            progress = self._state.sinks().get(self._sink.name)
            if last is not None and progress is not None and progress.seq >= last:
                return
            time.sleep(0.05)

    def _key_table(self, texts: Sequence[str]) -> pa.Table:
        values = [json.loads(text) for text in texts]
        return pa.table({name: pa.array([value[i] for value in values], pa.string()) for i, name in enumerate(self._schema.key)})

    def _account(self, comparison: Comparison, differences: Sequence[Difference]) -> _Account:
        if not differences:
            return _Account()
        settled = SettledRows(self._reader, self._state, self._sink, self._target, comparison, self._asked(differences))
        mended, held = settled.mended(), self._held_back | self._quarantined_keys(comparison)
        kept = self._route.on_delete == "ignore" or self._route.on_truncate == "ignore"
        rest = [one for one in differences if one.key not in held | mended and not (one.kind == "extra" and kept)]
        if rest:
            given_up = settled.given_up(self._schema.key)
            rest = [one for one in rest if one.key not in given_up]
        return _Account(rest, {one.key for one in differences} - {one.key for one in rest}, mended)

    def _asked(self, differences: Sequence[Difference]) -> pa.Table | None:
        """The keys of differences, for the sink; None where it has other ones."""
        by_key = bool(self._schema.key) and not any(name in self._route.columns for name in self._schema.key)
        return self._key_table([one.key for one in differences]) if by_key else None

    def _quarantined_keys(self, comparison: Comparison) -> set[str]:
        if not self._schema.key:
            return {key for batch in rows_before(self._reader, self._schema) for key in comparison.keys(self._through(batch))}
        records = [*self._reader.quarantined_keys(self._schema.dataset), *self._state.refused_keys(self._sink.name, self._schema.dataset)]
        waiting = [
            pa.table({name: batch.column(name) for name in self._schema.key}) for batch in self._reader.waiting_rows(self._schema.dataset)
        ]
        return {key for rows in (key_rows(self._schema.key, records), *waiting) for key in comparison.keys(rows)}

    def _report(self, account: _Account, moving: Set[str]) -> None:
        """What is `moving` is not told."""
        counted = [one for one in account.counted if one.key not in moving]
        excused = account.excused - moving
        self._found.patched = len(excused & account.mended)
        self._found.quarantined = len(excused) - self._found.patched
        for one in counted:
            setattr(self._found, one.kind, getattr(self._found, one.kind) + one.times)
        names = self._schema.key or self._target.schema.names
        examples = sorted(counted, key=lambda one: (one.kind, one.key))[:_EXAMPLES]
        # without a key the whole row is told, and with it what nobody is to see
        hidden = () if names == self._schema.key or self._gate is None else self._gate.contract.hidden
        for one in examples:
            values = dict(zip(names, json.loads(one.key), strict=True))
            shown = {name: MASKED if name in hidden and value is not None else value for name, value in values.items()}
            self._found.examples.append({"key": shown, "kind": one.kind})


def _key_batch(schema: TableSchema, keys: pa.Table) -> ChangeBatch:
    nothing = pa.nulls(keys.num_rows, pa.string())
    columns = [keys[name].combine_chunks() if name in schema.key else nothing for name in schema.names]
    return batch_from_columns(schema, columns, Op.READ)


def _unbalanced(pipeline: Pipeline, reader: JournalReader, state: State) -> list[str]:
    """Datasets and sinks whose counts do not add up; sinks that are not just where the journal is are left out."""
    wrong = []
    names = CopyNames(pipeline)
    last, totals = reader.balance()
    for sink, progress in state.sinks().items():
        cursor = cursor_of(progress)
        if sink not in pipeline.sinks or cursor is None or cursor.seq != last or cursor.ahead:
            continue
        for dataset, total in totals.items():
            if pipeline.sinks[sink].route(dataset) is None or not cursor.waiting.isdisjoint(names.of(dataset)):
                continue
            counts = cursor.counts.get(dataset, Counts())
            settled = counts.delivered + counts.filtered + counts.quarantined
            if settled + total.undelivered + total.dropped != total.rows:
                wrong.append(
                    f"{dataset} in {sink}: {total.rows} in, {settled} settled, {total.undelivered} quarantined, {total.dropped} dropped"
                )
    return wrong
