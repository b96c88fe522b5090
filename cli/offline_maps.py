"""What `check` finds in maps without any server: that they are maps, and fit their datasets and what the file says of their sources."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from dataflows.build import declared_schema
from dataflows.enriching import Enrichments
from dataflows.lookup_table import check_key
from dataflows.lookups import Lookups
from dataflows.map_query import Query, read_query
from dataflows.maps import Maps, declared_input
from dataflows.versions import check_version
from journal.schema import Column, TableSchema
from pipeline.errors import ConfigError, Problem
from pipeline.load import Reading
from pipeline.model import Dataset, Feed, Lookup, Pipeline
from pipeline.names import nearest


def map_problems(pipeline: Pipeline) -> list[Problem]:
    """Every problem of every map; types and columns of the input as far as its source's block, or a contract, tells them."""
    problems: list[Problem] = []
    maps = Maps(pipeline, problems)
    for dataset in pipeline.datasets.values():
        for feed in dataset.feeds:
            if (feed.source, feed.table) in maps.feeds:
                problems += _feed_problems(pipeline, maps, dataset, feed)
    return problems


def enriched_schemas(pipeline: Pipeline, problems: list[Problem]) -> dict[str, TableSchema | None]:
    """Dataset that is enriched -> its columns, None where only servers know them; and every problem of lookups, and of the SQL."""
    lookups = Lookups(pipeline)
    for lookup in pipeline.lookups.values():
        problems += _lookup_problems(pipeline, lookup, _told(partial(lookups.schema, lookup.name)))
    enrichments = Enrichments(pipeline, lookups, problems)
    found: dict[str, TableSchema | None] = {}
    for name in enrichments.datasets:
        dataset = pipeline.datasets[name]
        found[name] = None
        given = _told(partial(_given, pipeline, dataset))
        joined = [join.lookup for join in enrichments.joins(name)]
        if given is None or not given.key or any(_told(partial(lookups.schema, one)) is None for one in joined):
            continue
        try:
            found[name] = enrichments.schema(given)
        except ConfigError as error:
            problems += [one if one.file else replace(one, file=pipeline.file, line=dataset.line) for one in error.problems]
    return found


def order_problems(reading: Reading, shapes: Mapping[str, TableSchema | None]) -> list[Problem]:
    """What is wrong with `order_by` of datasets, where the file tells their columns; `shapes` are those that are known already."""
    problems: list[Problem] = []
    if reading.pipeline is None:
        return []
    for name, dataset in reading.datasets.items():
        schema = shapes[name] if name in shapes else _told(partial(_given, reading.pipeline, dataset))
        if dataset.order_by is None or schema is None:
            continue
        try:
            check_version(dataset, schema)
        except ConfigError as error:
            line = reading.document.line(("datasets", name, "order_by"))
            problems.append(Problem(error.message, reading.document.file, line, error.hint))
    return problems


def _told(ask: Callable[[], TableSchema | None]) -> TableSchema | None:
    """Columns, where a contract tells them with their types: it need not, of a table, which has them itself."""
    try:
        return ask()
    except ConfigError:
        return None


def _given(pipeline: Pipeline, dataset: Dataset) -> TableSchema | None:
    """What `enrich` of a dataset is given, where the file tells it: its contract, or the block of a source that has no map."""
    contract = declared_schema(dataset)
    feed = dataset.feeds[0] if len(dataset.feeds) == 1 else None
    if feed is None or feed.map is not None:
        return contract
    block = pipeline.sources[feed.source]
    columns = declared_input(block.config, block.stream is not None, contract)
    if columns is None:
        return contract
    key = dataset.key or (contract.key if contract is not None else ())
    return TableSchema(dataset.name, tuple(Column(name, kind) for name, kind in columns.items()), key)


def _lookup_problems(pipeline: Pipeline, lookup: Lookup, schema: TableSchema | None) -> list[Problem]:
    if schema is None:
        return []
    missing = [name for name in lookup.key if name not in schema.names]
    problems = [
        Problem(f"`lookups.{lookup.name}.key`: its table has no column {name!r}", pipeline.file, lookup.line, nearest(name, schema.names))
        for name in missing
    ]
    if not missing and schema.key:
        try:
            check_key(lookup, schema)
        except ConfigError as error:
            problems += [replace(one, file=pipeline.file, line=lookup.line) for one in error.problems]
    return problems


def _feed_problems(pipeline: Pipeline, maps: Maps, dataset: Dataset, feed: Feed) -> list[Problem]:
    block = pipeline.sources[feed.source]
    contract = declared_schema(dataset)
    columns = declared_input(block.config, block.stream is not None, contract)
    if columns is not None:
        given = TableSchema(dataset.name, tuple(Column(name, kind) for name, kind in columns.items()))
        try:
            maps.bound(feed.source, feed.table, given)
        except ConfigError as error:
            line = dataset.line
            return [one if one.file else replace(one, file=pipeline.file, line=line) for one in error.problems]
        return []
    if feed.map is None or isinstance(feed.map, str):
        return []
    return _named(read_query(feed.map), dataset, contract)


def _named(query: Query, dataset: Dataset, contract: TableSchema | None) -> list[Problem]:
    """What the names of its columns alone tell, where the input's columns are known to the server only."""
    if query.names is None:
        return []
    problems = []
    for name, item in zip(query.names, query.tree["select_list"], strict=True):
        if contract is not None and name not in contract.types:
            message = f"the map gives `{name}`, which the contract of {dataset.name} does not have"
            problems.append(query.problem(message, item, nearest(name, contract.names)))
    for name in contract.key if contract is not None else dataset.key:
        if name not in query.names:
            message = f"the map gives no `{name}`, which is in the key of {dataset.name}"
            problems.append(Problem(message, query.file, 1, nearest(name, query.names)))
    return sorted(problems, key=lambda one: one.line or 0)
