"""Whether the names in a pipeline file meet: each table has one dataset, each route a dataset, each target table one writer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from pipeline.document import Step
from pipeline.model import Dataset, Feed, SinkBlock, SourceBlock
from pipeline.names import is_pattern, join_name, nearest, split_name

Report = Callable[[str, tuple[Step, ...], str | None], None]


@dataclass(frozen=True, slots=True)
class _Tables:
    """What one source's `tables` says: names and patterns, each as parts."""

    names: frozenset[tuple[str, ...]]
    patterns: tuple[tuple[str, ...], ...]

    def holds(self, table: tuple[str, ...]) -> bool:
        return table in self.names or any(_matches(table, pattern) for pattern in self.patterns)


def tables_of(written: Iterable[str]) -> _Tables:
    """What `tables` of a source says."""
    names, patterns = set(), []
    for table in written:
        if is_pattern(table):
            patterns.append(split_name(table))
        else:
            names.add(split_name(table))
    return _Tables(frozenset(names), tuple(patterns))


def _matches(table: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    return len(table) == len(pattern) and all(
        fnmatchcase(name, part.replace("[", "[[]")) for name, part in zip(table, pattern, strict=True)
    )


class Agreement:
    """One look at all names of a file. `complete` says that every block of it could be read, so that what is missing is really missing."""

    def __init__(
        self,
        sources: Mapping[str, SourceBlock],
        datasets: Mapping[str, Dataset],
        sinks: Mapping[str, SinkBlock],
        channels: Mapping[str, Iterable[str]],
        report: Report,
        complete: bool,
    ) -> None:
        """`channels`: name -> the datasets that a channel of alerts is for."""
        self.sources = sources
        self.datasets = datasets
        self.sinks = sinks
        self.channels = channels
        self.report = report
        self.complete = complete
        self.tables = {name: tables_of(source.config.tables) for name, source in sources.items() if hasattr(source.config, "tables")}

    def check(self) -> None:
        """Reports everything that does not meet."""
        taken = self._feeds()
        self._described()
        known = self._owners(taken)
        for sink in self.sinks.values():
            self._routes(sink, known)
        self._targets(known)
        self._told(known)

    def _feeds(self) -> dict[Feed, str]:
        taken: dict[Feed, str] = {}
        for dataset in self.datasets.values():
            for feed in dataset.feeds:
                path = ("datasets", dataset.name, "from")
                other = taken.setdefault(feed, dataset.name)
                if other != dataset.name:
                    message = f"{feed.source}.{feed.table} is in two datasets, `{other}` and `{dataset.name}`"
                    self.report(message, path, "a table is one dataset; a sink can take it under another name with `table`")
                tables = self.tables.get(feed.source)
                if tables is not None and not tables.holds(split_name(feed.table)):
                    known = [join_name(*parts) for parts in tables.names]
                    hint = nearest(feed.table, known) or "add it there"
                    self.report(f"`tables` of the source `{feed.source}` does not have {feed.table}", path, hint)
        return taken

    def _described(self) -> None:
        """A source that has no catalogue, and whose block says no columns either, takes those of its dataset's contract."""
        for name, block in self.sources.items():
            feeds = [
                dataset for dataset in self.datasets.values() for feed in dataset.feeds if (feed.source, feed.table) == (name, block.stream)
            ]
            if self.complete and block.stream is not None and not block.described and not any(dataset.contract for dataset in feeds):
                hint = "write `schema` (field -> Postgres type) in its block, or give its dataset a contract"
                self.report(f"nothing says which fields the records of the source `{name}` have", ("sources", name), hint)

    def _owners(self, taken: Mapping[Feed, str]) -> set[str]:
        """The datasets that are sure to be there; a table that no entry names is one under its bare name."""
        owners: dict[str, str] = {}
        for feed, dataset in taken.items():
            owners.setdefault(dataset, f"{feed.source}.{feed.table}")
        for source, tables in self.tables.items():
            for parts in sorted(tables.names):
                self._own(owners, taken, Feed(source, join_name(*parts)), parts[-1], ("sources", source, "tables"))
        for name, block in self.sources.items():
            if block.stream is not None:
                self._own(owners, taken, Feed(name, block.stream), block.stream, ("sources", name))
        return {*owners, *self.datasets}

    def _own(self, owners: dict[str, str], taken: Mapping[Feed, str], feed: Feed, dataset: str, path: tuple[Step, ...]) -> None:
        if feed in taken:
            return
        label = f"{feed.source}.{feed.table}"
        other = owners.setdefault(dataset, label)
        if other != label:
            self.report(f"{other} and {label} would both be the dataset `{dataset}`", path, "name one of them under `datasets`")

    def _routes(self, sink: SinkBlock, known: set[str]) -> None:
        for route in (sink.routes or {}).values():
            if self._is_none(route.dataset, known):
                path = ("sinks", sink.name, "datasets", route.dataset)
                self.report(f"the sink `{sink.name}` takes `{route.dataset}`, which is not a dataset", path, nearest(route.dataset, known))

    def _is_none(self, dataset: str, known: set[str]) -> bool:
        """Whether there is, and will be, no such dataset."""
        patterns = [parts[-1].replace("[", "[[]") for tables in self.tables.values() for parts in tables.patterns]
        return self.complete and dataset not in known and not any(fnmatchcase(dataset, pattern) for pattern in patterns)

    def _told(self, known: set[str]) -> None:
        for channel, datasets in self.channels.items():
            for dataset in datasets:
                if self._is_none(dataset, known):
                    path = ("alerts", "channels", channel, "datasets")
                    self.report(f"the channel `{channel}` is for `{dataset}`, which is not a dataset", path, nearest(dataset, known))

    def _targets(self, known: set[str]) -> None:
        """Two writers of one table would take turns to undo each other."""
        written: dict[tuple[str, str], list[tuple[SinkBlock, str]]] = defaultdict(list)
        for sink in self.sinks.values():
            for name in sorted(known) if sink.routes is None else sink.routes:
                route = sink.route(name)
                if route is not None:
                    written[sink.type, route.table or route.dataset].append((sink, name))
        for (_, table), writers in written.items():
            for n, (sink, dataset) in enumerate(writers):
                for other, twin in writers[:n]:
                    if other is sink or other.config == sink.config:
                        path = ("sinks", sink.name, "datasets", dataset)
                        whose = f"`{twin}` and `{dataset}`" if other is sink else f"the sinks `{other.name}` and `{sink.name}`"
                        self.report(f"{whose} would both write the table {table}", path, "give one of them another name with `table`")
