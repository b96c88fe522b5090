"""Reads a pipeline file into a Pipeline: everything that is wrong with it at once, each problem with its line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from pipeline.agreement import Agreement
from pipeline.alerts import CHANNELS, Alerts, AlertsBlock, Channel
from pipeline.document import Document, Step, read_document
from pipeline.errors import ConfigError, Problem
from pipeline.file import DatasetBlock, FeedBlock, JournalBlock, LookupBlock, MonitoringBlock, PipelineFile, RouteBlock, is_name
from pipeline.kinds import kinds
from pipeline.lookups import read_for_lookups
from pipeline.model import Dataset, Feed, JournalConfig, KafkaJournal, Lookup, Pipeline, Route, SinkBlock, SourceBlock
from pipeline.names import is_pattern, join_name, nearest, split_name
from pipeline.wording import problems_of

Model = TypeVar("Model", bound=BaseModel)
Keys = tuple[Step, ...]

_RETENTION_SECONDS, _RETENTION_BYTES = 3600.0, 256_000_000
_LAST_PORT = 65535
_DOTTED = re.compile(r"(?!.*\.sql$)[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


@dataclass(frozen=True, slots=True)
class Reading:
    """What a pipeline file says, as far as it is sound; `pipeline` only if there are no problems."""

    document: Document
    problems: Sequence[Problem]
    datasets: Mapping[str, Dataset]
    sinks: Mapping[str, SinkBlock]
    pipeline: Pipeline | None


def load_pipeline(file: Path, environment: Mapping[str, str] | None = None) -> Pipeline:
    """Raises ConfigError with every problem of the file."""
    reading = read_pipeline(file, environment)
    if reading.pipeline is None:
        raise ConfigError.of(reading.problems)
    return reading.pipeline


def read_pipeline(file: Path, environment: Mapping[str, str] | None = None) -> Reading:
    """The file with everything that is wrong in it. Raises ConfigError only for what cannot be read at all."""
    return _Loading(read_document(file, environment)).reading()


class _Loading:
    def __init__(self, document: Document) -> None:
        self.document = document
        self.folder = document.file.resolve().parent
        self.problems: list[Problem] = list(document.problems)

    def report(self, message: str, path: Keys, hint: str | None = None) -> None:
        self.problems.append(Problem(message, self.document.file, self.document.line(path), hint))

    def reading(self) -> Reading:
        content = self.document.content
        if not isinstance(content, dict):
            said = "the file is empty" if content is None else "this is not a pipeline"
            raise ConfigError.of([Problem(said, self.document.file, 1, "`sluice new pipeline NAME` writes one to begin with")])
        written = self.validated(PipelineFile, content, ())
        sources = {name: source for name, block in _mapping(content, "sources") if (source := self.source(name, block))}
        datasets = {
            name: dataset for name, block in _mapping(content, "datasets") if (dataset := self.dataset(name, block, sources, content))
        }
        lookups = {name: lookup for name, block in _mapping(content, "lookups") if (lookup := self.lookup(name, block, sources, content))}
        self.not_enriched(lookups, datasets)
        sources, alone = read_for_lookups(sources, lookups, datasets)
        called = written.pipeline if written is not None else ""
        sinks = {name: sink for name, block in _mapping(content, "sinks") if (sink := self.sink(name, block, called))}
        sinks = {name: replace(sink, left_out=alone) for name, sink in sinks.items()}
        complete = not self.problems
        alerts = self.alerts(content["alerts"]) if content.get("alerts") is not None else None
        filters = {} if alerts is None else alerts.filters()
        Agreement(sources, datasets, sinks, filters, self.report, complete).check()
        watched = content.get("alerts") is not None or any(dataset.contract is not None for dataset in datasets.values())
        monitoring = self.monitoring(written.monitoring, sinks, watched) if written is not None and written.monitoring is not None else {}
        problems = list(dict.fromkeys(sorted(self.problems, key=lambda problem: problem.line or 0)))
        if written is None or problems:
            return Reading(self.document, problems, datasets, sinks, None)
        pipeline = Pipeline(
            name=written.pipeline,
            file=self.document.file.resolve(),
            owner=written.owner,
            state=written.state or self.folder / ".sluice" / written.pipeline,
            journal=_journal(written.journal),
            sources=sources,
            datasets=datasets,
            sinks=sinks,
            lookups=lookups,
            monitoring=monitoring,
            alerts=alerts,
        )
        return Reading(self.document, (), datasets, sinks, pipeline)

    def validated(self, model: type[Model], content: object, path: Keys) -> Model | None:
        try:
            return model.model_validate(content, context={"folder": self.folder})
        except ValidationError as error:
            self.problems += problems_of(error, model, self.document, path)
            return None

    def typed(self, content: object, path: Keys, known: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
        """The `type` of a block, one of `known`, and the block without it."""
        where = ".".join(map(str, path))
        if not isinstance(content, dict):
            self.report(f"`{where}` is not a block of keys", path, f"begin with `type`; known: {', '.join(sorted(known))}")
            return None
        name = content.get("type")
        if not isinstance(name, str) or name not in known:
            said = "has no `type`" if name is None else f"has an unknown type `{name}`"
            self.report(f"`{where}` {said}", (*path, "type"), nearest(str(name), known))
            return None
        return name, {key: value for key, value in content.items() if key != "type"}

    def kind(self, group: str, content: object, path: Keys) -> tuple[Any, dict[str, Any]] | None:
        """The class that `type` names, and the block without it."""
        known = kinds(f"sluice.{group}")
        found = self.typed(content, path, known)
        if found is None:
            return None
        name, rest = found
        try:
            return known[name].load(), rest
        except (ImportError, AttributeError) as error:
            said = f"the type `{name}` of `{'.'.join(map(str, path))}` cannot be loaded: {error}"
            self.report(said, (*path, "type"), f"it comes from {known[name].value}")
            return None

    def source(self, name: str, content: object) -> SourceBlock | None:
        path: Keys = ("sources", name)
        found = self.kind("sources", content, path)
        if found is None:
            return None
        config = self.validated(found[0].Config, found[1], path)
        return None if config is None else SourceBlock(name, found[0].kind, config, self.document.line(path))

    def sink(self, name: str, content: object, pipeline: str) -> SinkBlock | None:
        path: Keys = ("sinks", name)
        found = self.kind("sinks", content, path)
        if found is None:
            return None
        rest = {key: value for key, value in found[1].items() if key != "datasets"}
        config = self.validated(found[0].Config, rest, path)
        routes = self.routes(found[1]["datasets"], (*path, "datasets"), found[0].Route) if "datasets" in found[1] else None
        prefix = found[0].prefix(pipeline)
        return None if config is None else SinkBlock(name, found[0].kind, config, routes, self.document.line(path), prefix)

    def routes(self, content: object, path: Keys, model: type[RouteBlock]) -> dict[str, Route]:
        if isinstance(content, str):
            content = [content]
        if isinstance(content, list) and all(isinstance(name, str) for name in content):
            routes: dict[str, Route] = {}
            for i, name in enumerate(content):
                if name in routes:
                    self.report(f"`{name}` is there twice", (*path, i), "keep one of them")
                routes[name] = Route(name, line=self.document.line((*path, i)))
        elif isinstance(content, dict):
            routes = {name: route for name, block in content.items() if (route := self.route(name, block, (*path, name), model))}
        else:
            self.report("`datasets` of a sink is a list of names, or a mapping of names to how they go there", path)
            return {}
        if not content:
            self.report("`datasets` is empty: this sink would get nothing", path, "name some, or leave the key out for all of them")
        return routes

    def route(self, name: str, block: object, path: Keys, model: type[RouteBlock]) -> Route | None:
        written = self.validated(model, {} if block is None else block, path)
        return None if written is None else Route(dataset=name, line=self.document.line(path), **written.model_dump())

    def dataset(self, name: str, block: object, sources: Mapping[str, SourceBlock], content: Mapping[str, object]) -> Dataset | None:
        path: Keys = ("datasets", name)
        written = self.validated(DatasetBlock, block, path)
        if written is None:
            return None
        named = {source for source, _ in _mapping(content, "sources")}
        feeds = [feed for item in written.from_ if (feed := self.feed(item, (*path, "from"), named, sources))]
        if len(written.from_) > 1 and written.contract is None:
            hint = "give the dataset a contract with the columns that all of them come to"
            self.report(f"`datasets.{name}` has several sources, and nothing says which columns it has", (*path, "from"), hint)
        if written.contract is not None and not written.contract.is_file():
            shown = written.contract.relative_to(self.folder) if written.contract.is_relative_to(self.folder) else written.contract
            self.report(f"the contract {shown} is not there", (*path, "contract"), "relative paths count from the folder of this file")
        enrich = None if written.enrich is None else self.sql(written.enrich, "enrich", path)
        return Dataset(name, tuple(feeds), tuple(written.key), written.contract, self.document.line(path), enrich, written.order_by)

    def lookup(self, name: str, block: object, sources: Mapping[str, SourceBlock], content: Mapping[str, object]) -> Lookup | None:
        path: Keys = ("lookups", name)
        written = self.validated(LookupBlock, block, path)
        if not is_name(name) or name.lower() == "input":
            self.report(f"a lookup cannot be called `{name}`", path, "SQL joins it by this name, and `input` is the dataset's own rows")
            return None
        if written is None:
            return None
        named = {source for source, _ in _mapping(content, "sources")}
        feed = self.feed(FeedBlock(source=written.source), (*path, "source"), named, sources)
        if feed is None:
            return None
        line = self.document.line(path)
        return Lookup(name, feed.source, feed.table, tuple(written.key), written.on_missing, written.wait_seconds, line)

    def not_enriched(self, lookups: Mapping[str, Lookup], datasets: Mapping[str, Dataset]) -> None:
        """A lookup holds what came: of rows that wait for another lookup, or for itself, there would be no order."""
        enriched = {(feed.source, feed.table): name for name, one in datasets.items() if one.enrich is not None for feed in one.feeds}
        for lookup in lookups.values():
            dataset = enriched.get((lookup.source, lookup.table))
            if dataset is not None:
                hint = f"join what `{dataset}` is enriched with beside it: LEFT JOIN … ON … = {lookup.name}.COLUMN"
                said = f"the lookup `{lookup.name}` is made of `{dataset}`, whose rows are enriched themselves"
                self.report(said, ("lookups", lookup.name, "source"), hint)

    def feed(self, item: FeedBlock, path: Keys, named: set[str], sources: Mapping[str, SourceBlock]) -> Feed | None:
        """`named` are all sources of the file, `sources` those that are sound."""
        try:
            source, *table = split_name(item.source)
        except ValueError as error:
            self.report(str(error), path)
            return None
        stream = sources[source].stream if source in sources else None
        if source not in named:
            self.report(f"there is no source `{source}`", path, nearest(source, named))
        elif stream is not None:
            if not table:
                return Feed(source, stream, self.map(item.map, path))
            self.report(f"the source `{source}` has no tables", path, f"write `{source}` alone")
        elif not table:
            self.report(f"`{item.source}` names no table", path, f"write {source}.public.TABLE")
        elif is_pattern(item.source):
            self.report(f"`{item.source}` is a pattern", path, "name each table; what a pattern matches are datasets already")
        elif source in sources:
            return Feed(source, join_name(*(table if len(table) > 1 else ("public", *table))), self.map(item.map, path))
        return None

    def map(self, written: str | None, path: Keys) -> Path | str | None:
        """A file of SQL, or the dotted name of a function."""
        if written is None or _DOTTED.fullmatch(written):
            return written
        if not written.endswith(".sql"):
            self.report(
                f"`map: {written}` is neither a file of SQL nor the dotted name of a function", path, "maps/orders.sql, or maps.orders"
            )
            return None
        return self.sql(written, "map", path)

    def sql(self, written: str, key: str, path: Keys) -> Path:
        """A file of SQL that `key` names."""
        file = self.folder / Path(written).expanduser()
        if not file.is_file():
            said = "the map" if key == "map" else f"`{key}`:"
            self.report(
                f"{said} {written} is not there",
                path if key == "map" else (*path, key),
                "relative paths count from the folder of this file",
            )
        return file

    def monitoring(self, block: MonitoringBlock, sinks: Mapping[str, SinkBlock], watched: bool) -> dict[str, tuple[str, int]]:
        watch = ["watch"] if watched else []
        processes = ["ingest", *(f"deliver:{name}" for name in sinks), *watch]
        last = block.port + len(processes) - 1
        if last > _LAST_PORT:
            self.report(f"the {len(processes)} processes need the ports up to {last}", ("monitoring", "port"))
        return {process: (block.host, block.port + i) for i, process in enumerate(processes)}

    def alerts(self, content: object) -> Alerts | None:
        written = self.validated(AlertsBlock, content, ("alerts",))
        blocks = _mapping(content, "channels") if isinstance(content, dict) else []
        channels = {name: channel for name, block in blocks if (channel := self.channel(name, block))}
        if written is None or len(channels) < len(blocks):
            return None
        if not any(channel.default for channel in channels.values()):
            hint = "write `default: true` in one that is for no `owners` and `datasets` alone"
            self.report("no channel of `alerts` is the default: what nobody is named for would reach nobody", ("alerts", "channels"), hint)
        return Alerts(channels, written.group_wait, written.cool_down, written.repeat, written.approval_after)

    def channel(self, name: str, content: object) -> Channel | None:
        path: Keys = ("alerts", "channels", name)
        found = self.typed(content, path, CHANNELS)
        return None if found is None else self.validated(CHANNELS[found[0]], found[1], path)


def _journal(written: JournalBlock) -> JournalConfig:
    kafka = None
    if written.bootstrap_servers is not None:
        kafka = KafkaJournal(written.bootstrap_servers, written.prefix, written.partitions, written.options)
    if written.retention is None:
        return JournalConfig(written.max_size, _RETENTION_SECONDS, _RETENTION_BYTES, kafka)
    return JournalConfig(written.max_size, written.retention, None, kafka)


def _mapping(content: Mapping[str, object], key: str) -> list[tuple[str, object]]:
    found = content.get(key)
    return list(found.items()) if isinstance(found, dict) else []
