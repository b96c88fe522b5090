"""From blocks of a pipeline file to sources and sinks that live."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from journal.schema import Column, TableSchema
from pipeline.errors import ConfigError, Problem
from pipeline.kinds import kinds
from pipeline.model import Dataset, Pipeline, Route, SinkBlock, SourceBlock
from pipeline.names import split_name
from sinks.base import Sink
from sinks.routing import Router, mask_key, route_problems
from sources.base import Source, SourceContext

if TYPE_CHECKING:  # the rules take long to load: only for a pipeline that has contracts
    from quality.chains import Memory
    from quality.contract import Contract
    from quality.gate import Gate
    from quality.references import Lookups


def build_source(pipeline: Pipeline, block: SourceBlock) -> Source:
    """The source of a block; connects to nothing."""
    fed = [(feed, dataset) for dataset in pipeline.datasets.values() for feed in dataset.feeds if feed.source == block.name]
    tables = {feed.table: dataset.name for feed, dataset in fed}
    keys = {dataset.name: dataset.key for dataset in pipeline.datasets.values() if dataset.key}
    for lookup in pipeline.lookups.values() if block.stream is not None else ():
        if lookup.source == block.name and pipeline.dataset_of(lookup.source, lookup.table) is None:
            keys[lookup.table] = lookup.key  # nothing else tells what identifies the records of a stream
    context = SourceContext(
        pipeline=pipeline.name,
        name=block.name,
        state=pipeline.state,
        recall=partial(needs_recall, pipeline, block.name),
        tables=tables,
        keys=keys,
        schemas={} if block.stream is None else {f.table: schema for f, d in fed if (schema := declared_schema(d)) is not None},
        mapped=frozenset(feed.table for feed, _ in fed if feed.map is not None),
        first=frozenset(lookup.table for lookup in pipeline.lookups.values() if lookup.source == block.name),
    )
    return source_kind(block)(block.config, context)


def declared_schema(dataset: Dataset) -> TableSchema | None:
    """The columns that a dataset's contract gives it; None without one. Raises ConfigError where it says no type for one of them."""
    if dataset.contract is None:
        return None
    contract = contract_of(dataset)
    untyped = [prop for prop in contract.properties if prop.physical_type is None and prop.logical_type not in _WRITTEN]
    if untyped:
        said = [Problem(f"the property `{p.name}` has no physicalType", contract.file, p.line, "name its Postgres type") for p in untyped]
        raise ConfigError.of(said)
    columns = [Column(p.column, p.physical_type or _WRITTEN[p.logical_type or ""], nullable=not p.required) for p in contract.properties]
    return TableSchema(dataset.name, tuple(columns), dataset.key or contract.key)


_WRITTEN = {
    "string": "text",
    "integer": "bigint",
    "number": "numeric",
    "boolean": "boolean",
    "date": "date",
    "timestamp": "timestamp with time zone",
    "time": "time without time zone",
    "object": "jsonb",
    "array": "jsonb",
}
"""logicalType -> the Postgres type of a column of it, where a contract says no more."""


def source_kind(block: SourceBlock) -> type[Source]:
    """The class of a source."""
    kind: type[Source] = kinds("sluice.sources")[block.type].load()
    return kind


def build_sink(pipeline: Pipeline, block: SinkBlock) -> Sink:
    """The sink of a block; connects to nothing."""
    return sink_kind(block)(block.name, block.config, pipeline.name)


def sink_kind(block: SinkBlock) -> type[Sink]:
    """The class of a sink."""
    kind: type[Sink] = kinds("sluice.sinks")[block.type].load()
    return kind


def dataset_name(pipeline: Pipeline, source: str, table: str) -> str:
    """What a table is called in the pipeline: its entry under `datasets`, else its bare name (of a source without tables: the stream's)."""
    bare = table if pipeline.sources[source].stream == table else split_name(table)[-1]
    return pipeline.dataset_of(source, table) or bare


def needs_recall(pipeline: Pipeline, source: str, table: str) -> bool:
    """Whether a sink can get an update of a row that it lacks: behind a filter, in a history, when a contract held the row back, or
    because it never looks at what it has; or a map, or a lookup, needs every value of a row."""
    if any((lookup.source, lookup.table) == (source, table) for lookup in pipeline.lookups.values()):
        return True
    name = dataset_name(pipeline, source, table)
    dataset = pipeline.datasets.get(name)
    if dataset is not None and (
        dataset.contract is not None or dataset.enrich is not None or any(feed.map is not None for feed in dataset.feeds)
    ):
        return True
    routes = [(route, sink) for sink in pipeline.sinks.values() if (route := sink.route(name)) is not None]
    return any(route.where is not None or route.mode == "history" or sink_kind(sink).whole_rows for route, sink in routes)


def contracts(pipeline: Pipeline) -> dict[str, Contract]:
    """The contract of each dataset that has one, as it is in force where that is known. Raises ConfigError with every problem."""
    found = {d.name: contract_of(d) for d in pipeline.datasets.values() if d.contract is not None}
    problems = [problem for contract in found.values() for problem in _strange_lookups(contract, pipeline)]
    if problems:
        raise ConfigError.of(problems)
    return found


def _strange_lookups(contract: Contract, pipeline: Pipeline) -> list[Problem]:
    from quality.references import strange_lookups

    return strange_lookups(contract, pipeline.lookups)


def contract_of(dataset: Dataset) -> Contract:
    """The contract of a dataset that has one: the one in force where that is known (see contracts_in_force), else the file's.

    Raises ConfigError.
    """
    from quality.contract_reading import load_contract

    if dataset.in_force is not None:
        return load_contract(*dataset.in_force)
    assert dataset.contract is not None  # noqa: S101  (the caller has looked)
    return load_contract(dataset.contract)


def build_gate(contract: Contract, schema: TableSchema, memory: Memory | None = None, lookups: Lookups | None = None) -> Gate:
    """What judges the rows of a dataset. Raises ConfigError for rules that do not fit its columns."""
    from quality.gate import Gate

    return Gate(contract, schema, memory, lookups)


def check_routes(pipeline: Pipeline, schemas: Mapping[str, TableSchema] | None = None) -> None:
    """Whether the routes of all sinks make sense: on their own, or, for the datasets in `schemas`, with contracts, against these columns.

    Routes of a dataset that is enriched are not looked at then: it has more columns. Raises ConfigError with every problem.
    """
    problems = []
    for sink in pipeline.sinks.values():
        routes = (sink.routes or {}) if schemas is None else {name: route for name in schemas if (route := sink.route(name)) is not None}
        enriched = {name for name in schemas or () if name in pipeline.datasets and pipeline.datasets[name].enrich is not None}
        for name, route in [item for item in routes.items() if item[0] not in enriched]:
            found = route_problems(route, None if schemas is None else schemas[name], pipeline.file)
            problems += [replace(problem, message=f"sink `{sink.name}`, {problem.message}") for problem in found]
    if schemas is not None:
        for name, contract in contracts(pipeline).items():
            try:
                if name in schemas:
                    build_gate(contract, schemas[name])
            except ConfigError as error:
                problems += error.problems
    if problems:
        raise ConfigError.of(problems)


def router_for(pipeline: Pipeline) -> Callable[[Route, TableSchema], Router]:
    """Makes routers with the pipeline's own key for masks."""
    key = mask_key(pipeline.state)
    return lambda route, schema: Router(route, schema, key)
