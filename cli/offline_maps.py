"""What `check` finds in maps without any server: that they are maps, and fit their datasets and what the file says of their sources."""

from __future__ import annotations

from dataclasses import replace

from dataflows.build import declared_schema
from dataflows.map_query import Query, read_query
from dataflows.maps import Maps, declared_input
from journal.schema import Column, TableSchema
from pipeline.errors import ConfigError, Problem
from pipeline.model import Dataset, Feed, Pipeline
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
