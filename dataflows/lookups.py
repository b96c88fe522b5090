"""The lookups of a pipeline: what they hold, which tables they are made of, and which sources are read before others for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping

import structlog

from dataflows.build import declared_schema
from dataflows.lookup_table import LookupTable, check_key
from dataflows.maps import declared_input
from journal.batch import ChangeBatch, CopyMarker
from journal.lookups import LookupLog
from journal.schema import Column, TableSchema
from pipeline.errors import ConfigError, SluiceError
from pipeline.model import Lookup, Pipeline
from sources.base import Source

log = structlog.get_logger("sluice.ingest")

_SPARE = 100_000  # overtaken rows of a lookup that the journal may keep, and as many again as the lookup has
_ASK_EVERY = 1.0


class Lookups:
    """What the lookups of a pipeline hold now."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self.lookups: Mapping[str, Lookup] = pipeline.lookups
        self.tables = {name: LookupTable(lookup) for name, lookup in pipeline.lookups.items()}
        self._of: dict[tuple[str, str], tuple[str, ...]] = {}
        for name, lookup in pipeline.lookups.items():
            place = (lookup.source, lookup.table)
            self._of[place] = (*self._of.get(place, ()), name)

    @property
    def version(self) -> int:
        """Another number whenever anything in any of them has changed."""
        return sum(table.version for table in self.tables.values())

    def of(self, source: str, table: str) -> tuple[str, ...]:
        """The lookups that a table is."""
        return self._of.get((source, table), ())

    def check(self, entry: ChangeBatch | CopyMarker) -> None:
        """Raises ConfigError where a lookup could not take what came of its table: its rows are identified by something else."""
        for name in self.of(entry.source, entry.table):
            check_key(self.lookups[name], entry.schema)

    def take(self, entry: ChangeBatch | CopyMarker) -> None:
        """What came of a table, if it is a lookup; it has been checked."""
        for name in self.of(entry.source, entry.table) if entry.sink is None else ():
            self.take_one(name, entry)

    def keep(self, entry: ChangeBatch | CopyMarker, kept: LookupLog) -> None:
        """Puts the same into the journal, and lays a lookup down anew where most of what is kept for it has been overtaken."""
        for name in self.of(entry.source, entry.table) if entry.sink is None else ():
            kept.keep(name, entry)
            if kept.rows(name) > 2 * len(self.tables[name]) + _SPARE:
                kept.keep_anew(name, self.tables[name].entries())

    def load(self, kept: LookupLog, others: Collection[str] = ()) -> None:
        """What the journal has of them, beside `others`. Of lookups that are now another table, or have another key, it is forgotten."""
        kept.forget_but({*self.tables, *others})
        for name, lookup in self.lookups.items():
            began = time.monotonic()
            try:
                for entry in kept.entries(name):
                    if (entry.source, entry.table) != (lookup.source, lookup.table):
                        raise ConfigError(f"the lookup {name} is another table now")
                    self.take_one(name, entry)
            except ConfigError as error:
                log.info("lookup begins anew", lookup=name, why=error.message)
                self.tables[name] = LookupTable(lookup)
                kept.keep_anew(name, ())
            table = self.tables[name]
            if len(table):
                log.info("lookup is loaded", lookup=name, rows=len(table), bytes=table.nbytes, seconds=round(time.monotonic() - began, 2))

    def take_one(self, name: str, entry: ChangeBatch | CopyMarker) -> None:
        """An entry for one lookup."""
        if isinstance(entry, CopyMarker):
            self.tables[name].mark(entry)
        elif len(entry):
            self.tables[name].take(entry)

    def unmade(self, source: str, copied: Collection[str]) -> list[str]:
        """Tables of a source that flow already (`copied`), and have to be copied again: a lookup is new, or lost what it held."""
        found = [t.lookup.table for t in self.tables.values() if t.lookup.source == source and not t.whole and t.lookup.table in copied]
        return list(dict.fromkeys(found))

    def know(self, source: str, table: str, schema: TableSchema) -> None:
        """Tells the columns of a table, for who asks before anything has come. Raises ConfigError where its key is another."""
        for name in self.of(source, table):
            if self.tables[name].schema is None:
                self.tables[name].know(schema)

    def schema(self, name: str) -> TableSchema | None:
        """The columns of a lookup, as far as anything tells them."""
        return self.tables[name].schema or self._declared(self.lookups[name])

    def _declared(self, lookup: Lookup) -> TableSchema | None:
        """What the pipeline file itself tells."""
        block = self._pipeline.sources[lookup.source]
        name = self._pipeline.dataset_of(lookup.source, lookup.table)
        dataset = None if name is None else self._pipeline.datasets[name]
        if dataset is not None and (dataset.enrich is not None or len(dataset.feeds) > 1 or any(feed.map for feed in dataset.feeds)):
            return None if dataset.enrich is not None else declared_schema(dataset)
        contract = None if dataset is None else declared_schema(dataset)
        columns = declared_input(block.config, block.stream is not None, contract)
        if columns is None:
            return contract
        key = (dataset.key if dataset is not None else ()) or (contract.key if contract is not None else ()) or lookup.key
        return TableSchema(lookup.table, tuple(Column(column, kind) for column, kind in columns.items()), key)


class Precedence:
    """Which sources are read now: those of lookups alone, until each lookup has been copied once; then all of them."""

    def __init__(
        self,
        lookups: Lookups,
        streams: Collection[str],
        sources: Mapping[str, Source],
        watermark: Callable[[str], str | None],
        stopped: Callable[[str, str], bool],
    ) -> None:
        """`streams` are sources that are not copied: they have been read once they are where they ended when this began.

        A table that is `stopped` is not waited for.
        """
        self._stopped = stopped
        self._lookups = lookups
        self._streams = streams
        self._sources = sources
        self._watermark = watermark
        self._ready = {
            name
            for name, lookup in lookups.lookups.items()
            if getattr(sources[lookup.source].config, "snapshot", None) == "never"
            or (lookup.source in streams and len(lookups.tables[name]))
        }
        self._told: list[str] = []
        self._heads: dict[str, str] = {}
        self._next = 0.0

    def __call__(self, running: list[str]) -> list[str]:
        """Those of the running sources that are to be read, in the same order."""
        if len(self._ready) == len(self._lookups.lookups):
            return running
        for name, table in self._lookups.tables.items():
            if name not in self._ready and (table.whole or self._is_stopped(table.lookup) or self._read(table.lookup.source)):
                self._ready.add(name)
        lacking = [name for name in self._lookups.lookups if name not in self._ready]
        if lacking != self._told:
            self._told = lacking
            log.info("lookups are read before other sources" if lacking else "lookups are there, every source is read", lookups=lacking)
        waited_for = {self._lookups.lookups[name].source for name in lacking}
        return [name for name in running if name in waited_for] or running

    def _is_stopped(self, lookup: Lookup) -> bool:
        told = self._sources[lookup.source].status().tables.get(lookup.table)
        return (told is not None and told.state == "stopped") or self._stopped(lookup.source, lookup.table)

    def _read(self, source: str) -> bool:
        if source not in self._streams:
            return False
        if source not in self._heads:
            if time.monotonic() < self._next:
                return False
            self._next = time.monotonic() + _ASK_EVERY
            try:
                self._heads[source] = self._sources[source].head()
            except SluiceError as error:
                log.info("a lookup waits for its source", source=source, why=error.message)
                return False
        return self._sources[source].reached(self._watermark(source), self._heads[source])
