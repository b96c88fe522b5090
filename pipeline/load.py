"""Reads a pipeline file into a Pipeline: everything that is wrong with it at once, each problem with its line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pipeline.document import Document, Step, read_document
from pipeline.errors import ConfigError, Problem
from pipeline.file import DatasetBlock, FeedBlock, PipelineFile, RouteBlock
from pipeline.kinds import kinds
from pipeline.model import Dataset, Feed, JournalConfig, Pipeline, Route, SinkBlock, SourceBlock
from pipeline.names import is_pattern, join_name, nearest, split_name

Model = TypeVar("Model", bound=BaseModel)
Path_ = tuple[Step, ...]


def load_pipeline(file: Path, environment: Mapping[str, str] | None = None) -> Pipeline:
    """Raises ConfigError with every problem of the file."""
    return _Loading(read_document(file, environment)).pipeline()


class _Loading:
    def __init__(self, document: Document) -> None:
        self.document = document
        self.folder = document.file.resolve().parent
        self.problems: list[Problem] = list(document.problems)

    def report(self, message: str, path: Path_, hint: str | None = None) -> None:
        self.problems.append(Problem(message, self.document.file, self.document.line(path), hint))

    def pipeline(self) -> Pipeline:
        content = self.document.content
        if not isinstance(content, dict):
            raise ConfigError.of([Problem("not a pipeline: `pipeline`, `sources` and `sinks` are expected", self.document.file, 1)])
        written = self.validated(PipelineFile, content, ())
        sources = {name: found for name, block in _mapping(content, "sources") if (found := self.source(name, block))}
        sinks = {name: found for name, block in _mapping(content, "sinks") if (found := self.sink(name, block))}
        if written is None or self.problems:
            raise ConfigError.of(sorted(self.problems, key=lambda problem: problem.line or 0))
        datasets = {name: self.dataset(name, block, sources) for name, block in written.datasets.items()}
        self.agree(sources, datasets, sinks)
        if self.problems:
            raise ConfigError.of(sorted(self.problems, key=lambda problem: problem.line or 0))
        monitoring = {}
        if written.monitoring is not None:
            processes = ["ingest", *(f"deliver:{name}" for name in sinks)]
            monitoring = {process: (written.monitoring.host, written.monitoring.port + i) for i, process in enumerate(processes)}
        return Pipeline(
            name=written.pipeline,
            file=self.document.file.resolve(),
            owner=written.owner,
            state=self.folder / (written.state or Path(".sluice", written.pipeline)),
            journal=JournalConfig(written.journal.max_size, written.journal.retention),
            sources=sources,
            datasets=datasets,
            sinks=sinks,
            monitoring=monitoring,
        )

    def validated(self, model: type[Model], content: object, path: Path_) -> Model | None:
        try:
            return model.model_validate(content, context={"folder": self.folder})
        except ValidationError as error:
            for detail in error.errors(include_url=False, include_input=False):
                self.explain(model, detail, path)
            return None

    def explain(self, model: type[BaseModel], detail: ErrorDetails, path: Path_) -> None:
        loc = tuple(step for step in detail["loc"] if (*path, step) in self.document.lines or step == detail["loc"][-1] or _is_key(step))
        where = ".".join(str(step) for step in (*path, *loc))
        if detail["type"] == "extra_forbidden":
            self.report(f"unknown key `{loc[-1]}`" + (f" in `{'.'.join(map(str, (*path, *loc[:-1])))}`" if len(path) + len(loc) > 1 else ""),
                        (*path, *loc), nearest(str(loc[-1]), _known(model, loc[:-1])))  # fmt: skip
        elif detail["type"] == "missing":
            self.report(f"`{where}` is missing", (*path, *loc[:-1]))
        else:
            message = detail["msg"].removeprefix("Value error, ")
            self.report(f"`{where}`: {message[:1].lower()}{message[1:]}", (*path, *loc))

    def kind(self, group: str, content: object, path: Path_) -> tuple[Any, dict[str, Any]] | None:
        """The class that `type` names, and the block without it."""
        if not isinstance(content, dict):
            self.report(f"`{'.'.join(map(str, path))}` is not a block with a `type`", path)
            return None
        known = kinds(f"sluice.{group}")
        name = content.get("type")
        if name not in known:
            said = "has no `type`" if name is None else f"has an unknown type `{name}`"
            self.report(f"`{'.'.join(map(str, path))}` {said}", (*path, "type"), nearest(str(name), known))
            return None
        return known[name].load(), {key: value for key, value in content.items() if key != "type"}

    def source(self, name: str, content: object) -> SourceBlock | None:
        path: Path_ = ("sources", name)
        found = self.kind("sources", content, path)
        if found is None:
            return None
        config = self.validated(found[0].Config, found[1], path)
        return None if config is None else SourceBlock(name, found[0].kind, config, self.document.line(path))

    def sink(self, name: str, content: object) -> SinkBlock | None:
        path: Path_ = ("sinks", name)
        found = self.kind("sinks", content, path)
        if found is None:
            return None
        rest = {key: value for key, value in found[1].items() if key != "datasets"}
        config = self.validated(found[0].Config, rest, path)
        routes = self.routes(found[1]["datasets"], (*path, "datasets")) if "datasets" in found[1] else None
        return None if config is None else SinkBlock(name, found[0].kind, config, routes, self.document.line(path))

    def routes(self, content: object, path: Path_) -> dict[str, Route]:
        if isinstance(content, list):
            lines = {str(name): self.document.line((*path, i)) for i, name in enumerate(content)}
            return {name: Route(name, line=line) for name, line in lines.items()}
        if not isinstance(content, dict):
            self.report("`datasets` of a sink is a list of names, or a mapping of names to how they go there", path)
            return {}
        routes = {}
        for name, block in content.items():
            written = self.validated(RouteBlock, block or {}, (*path, name))
            if written is not None:
                routes[name] = Route(dataset=name, line=self.document.line((*path, name)), **written.model_dump())
        return routes

    def dataset(self, name: str, block: DatasetBlock, sources: Mapping[str, SourceBlock]) -> Dataset:
        path: Path_ = ("datasets", name)
        written = block.from_ if isinstance(block.from_, list) else [block.from_]
        feeds = [feed for item in written if (feed := self.feed(item, (*path, "from"), sources))]
        if len(written) != 1:
            self.report(
                f"`datasets.{name}.from` must name one table", (*path, "from"), "several sources in one dataset are not offered yet"
            )
        contract = None if block.contract is None else self.folder / block.contract
        if contract is not None and not contract.is_file():
            self.report(f"the contract {block.contract} is not there", (*path, "contract"))
        return Dataset(name, tuple(feeds), tuple(block.key), contract, self.document.line(path))

    def feed(self, item: str | FeedBlock, path: Path_, sources: Mapping[str, SourceBlock]) -> Feed | None:
        text = item if isinstance(item, str) else item.source
        try:
            source, *table = split_name(text)
        except ValueError as error:
            self.report(str(error), path)
            return None
        if source not in sources:
            self.report(f"there is no source `{source}`", path, nearest(source, sources))
            return None
        if not table:
            self.report(f"`{text}` names no table", path, f"write {source}.public.TABLE")
            return None
        return Feed(source, join_name(*(table if len(table) > 1 else ("public", *table))))

    def agree(self, sources: Mapping[str, SourceBlock], datasets: Mapping[str, Dataset], sinks: Mapping[str, SinkBlock]) -> None:
        """Whether names meet: each dataset has one meaning, each route a dataset. Patterns are settled when the source is seen."""
        owners: dict[str, str] = {}
        open_ended = False
        taken = {feed: dataset.name for dataset in datasets.values() for feed in dataset.feeds}
        tables = [(source, table) for source in sources.values() for table in getattr(source.config, "tables", ())]
        for source, table in tables:
            if is_pattern(table):
                open_ended = True
                continue
            try:
                parts = split_name(table)
            except ValueError as error:
                self.report(str(error), ("sources", source.name, "tables"))
                continue
            name = taken.get(Feed(source.name, join_name(*parts)), parts[-1])
            other = owners.setdefault(name, f"{source.name}.{table}")
            if other != f"{source.name}.{table}":
                hint = "name one of them under `datasets`"
                self.report(
                    f"{other} and {source.name}.{table} would both be the dataset `{name}`", ("sources", source.name, "tables"), hint
                )
        known = {*owners, *datasets}
        if open_ended:
            return
        for dataset in datasets.values():
            if dataset.name not in owners:
                feed = dataset.feeds[0] if dataset.feeds else None
                if feed is not None:
                    self.report(f"`tables` of the source `{feed.source}` does not have {feed.table}", ("datasets", dataset.name, "from"))
        for sink in sinks.values():
            for route in (sink.routes or {}).values():
                if route.dataset not in known:
                    path = ("sinks", sink.name, "datasets", route.dataset)
                    self.report(
                        f"the sink `{sink.name}` takes `{route.dataset}`, which is not a dataset", path, nearest(route.dataset, known)
                    )


def _mapping(content: Mapping[str, object], key: str) -> list[tuple[str, object]]:
    found = content.get(key)
    return list(found.items()) if isinstance(found, dict) else []


def _is_key(step: Step) -> bool:
    """Whether pydantic's step is a name in the file, and not the name of a branch of a union."""
    return isinstance(step, int) or step.isidentifier()


def _known(model: type[BaseModel], path: Sequence[Step]) -> set[str]:
    """The keys that the model at `path` knows."""
    found: Any = model
    for step in path:
        if isinstance(found, type) and issubclass(found, BaseModel):
            found = next((f.annotation for n, f in found.model_fields.items() if step in (n, f.alias)), None)
        elif get_origin(found) is dict:
            found = get_args(found)[1]
        if get_origin(found) is Union or type(found).__name__ == "UnionType":
            found = next((arm for arm in get_args(found) if isinstance(arm, type) and issubclass(arm, BaseModel)), None)
    if not (isinstance(found, type) and issubclass(found, BaseModel)):
        return set()
    return {field.alias or name for name, field in found.model_fields.items()}
