"""The maps of a pipeline: which feed goes through which, read once, and bound anew when the columns of a source change."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dataflows.build import declared_schema
from dataflows.map_function import Function, FunctionMap, load_function
from dataflows.map_query import Query, parse_query, read_query
from dataflows.map_sql import SqlMap
from dataflows.mapping import FeedMap, Mapped
from journal.batch import ChangeBatch
from journal.duckdb_session import quoted
from journal.schema import Column, TableSchema
from pipeline.errors import ConfigError, Problem
from pipeline.model import Dataset, Feed, Pipeline
from pipeline.names import nearest
from sources.base import KEY_PREFIX


@dataclass(frozen=True, slots=True, eq=False)
class _Mapped:
    """One feed that does not go into its dataset as it is."""

    feed: Feed
    dataset: Dataset
    contract: TableSchema | None
    load: Callable[[TableSchema], Query | Function]
    merged: bool


class Maps:
    """Every feed of a pipeline that is mapped: one with a map, and each of several that make up one dataset.

    Of a table without a map in such a dataset the columns that the contract has are taken, under their names.
    """

    def __init__(self, pipeline: Pipeline, problems: list[Problem] | None = None) -> None:
        """Raises ConfigError with every problem of the maps that can be told without the columns of the sources.

        Given a list, puts them there instead, and leaves those maps out.
        """
        self._pipeline = pipeline
        self._feeds: dict[tuple[str, str], _Mapped] = {}
        self._bound: dict[tuple[str, str, str], FeedMap] = {}
        found: list[Problem] = []
        for dataset in pipeline.datasets.values():
            merged = len(dataset.feeds) > 1
            for feed in dataset.feeds:
                if feed.map is None and not merged:
                    continue
                try:
                    contract = declared_schema(dataset)
                    load = _loader(feed.map, pipeline.file, contract)
                except ConfigError as error:
                    found += [one if one.file else replace(one, file=pipeline.file, line=dataset.line) for one in error.problems]
                    continue
                self._feeds[feed.source, feed.table] = _Mapped(feed, dataset, contract, load, merged)
        found = list(dict.fromkeys(found))
        if problems is not None:
            problems += found
        elif found:
            raise ConfigError.of(found)

    @property
    def feeds(self) -> Collection[tuple[str, str]]:
        """(source, table) of every feed that is mapped."""
        return self._feeds.keys()

    def merged(self, source: str, table: str) -> bool:
        """Whether the dataset of a table has other sources too."""
        found = self._feeds.get((source, table))
        return found is not None and found.merged

    def bound(self, source: str, table: str, given: TableSchema) -> FeedMap | None:
        """The map of a table with these columns; None for one that goes into its dataset as it is.

        Raises ConfigError with every reason why the map does not fit its input or its dataset.
        """
        found = self._feeds.get((source, table))
        if found is None:
            return None
        key = (source, table, given.encoded)
        if key not in self._bound:
            self._bound[key] = _bind(found, given)
        return self._bound[key]

    def schema(self, source: str, table: str, given: TableSchema) -> TableSchema:
        """The columns of the dataset that a table with these columns comes to. Raises ConfigError."""
        feed = self.bound(source, table, given)
        return given if feed is None else feed.schema

    def apply(self, batch: ChangeBatch) -> Mapped | None:
        """The batch through its map; None where it has none. Raises ConfigError."""
        feed = self.bound(batch.source, batch.table, batch.schema)
        return None if feed is None else feed.apply(batch)

    def tables(
        self, source: str, given: Mapping[str, TableSchema], old_rows: Mapping[str, Sequence[str]]
    ) -> tuple[dict[str, TableSchema], list[Problem]]:
        """What the tables of a source (`given`) come to, and why some cannot.

        `old_rows`: table -> columns that are told of the old row of an update or delete; of a table that is not in it all are.
        """
        found: dict[str, TableSchema] = {}
        problems: list[Problem] = []
        for table, schema in given.items():
            try:
                found[table] = self.schema(source, table, schema)
            except ConfigError as error:
                problems += error.problems
                continue
            if table in old_rows:
                problems += self._old_rows(source, table, schema, old_rows[table])
        return found, problems

    def _old_rows(self, source: str, table: str, given: TableSchema, told: Sequence[str]) -> list[Problem]:
        """The map has to make keys of old rows."""
        feed = self.bound(source, table, given)
        lacking = sorted(feed.identifying - set(told)) if feed is not None else []
        if not lacking:
            return []
        message = f"{source}.{table}: the map makes the key of {', '.join(lacking)}, which the old row of an UPDATE or DELETE does not have"
        found = self._feeds[source, table]
        return [Problem(message, self._pipeline.file, found.dataset.line, f"ALTER TABLE {table} REPLICA IDENTITY FULL")]


def _loader(written: Path | str | None, file: Path, contract: TableSchema | None) -> Callable[[TableSchema], Query | Function]:
    if written is None:
        assert contract is not None  # noqa: S101  (the loader refuses a merged dataset without)
        return lambda given: _by_name(given, contract, file)
    found: Query | Function = read_query(written) if isinstance(written, os.PathLike) else load_function(written, file.parent)
    return lambda given: found


def _by_name(given: TableSchema, contract: TableSchema, file: Path) -> Query:
    names = [quoted(name) for name in contract.names if name in given.types]
    if not names:
        raise ConfigError(f"no column of {contract.dataset} is in its source", hint="give the source a map")
    return parse_query(f"SELECT {', '.join(names)} FROM input", file)


def _bind(found: _Mapped, given: TableSchema) -> FeedMap:
    dataset, contract = found.dataset, found.contract
    types = {name: kind for name, kind in given.types.items() if not name.startswith(KEY_PREFIX)}
    loaded = found.load(given)
    rows = SqlMap(loaded, types, contract) if isinstance(loaded, Query) else FunctionMap(str(found.feed.map), loaded, types, contract)
    schema = contract
    if schema is None:
        key = dataset.key or (given.key if set(given.key) <= rows.columns.keys() else ())
        if given.key and not key:
            said = f"nothing says which columns identify the rows of `{dataset.name}` behind its map"
            raise ConfigError.of([_at(loaded, said, "name them with `key` in the dataset")])
        schema = TableSchema(dataset.name, tuple(Column(name, kind) for name, kind in rows.columns.items()), key)
    missing = [name for name in schema.key if name not in rows.columns]
    if missing:
        hint = nearest(missing[0], list(rows.columns))
        raise ConfigError.of([_at(loaded, f"the map gives no `{name}`, which is in the key of {dataset.name}", hint) for name in missing])
    return FeedMap(rows, given, schema, declared=contract is not None, merged=found.merged)


def _at(loaded: Query | Function, message: str, hint: str | None) -> Problem:
    return Problem(message, loaded.file, 1, hint) if isinstance(loaded, Query) else Problem(message, hint=hint)


def declared_input(pipeline_source: object, stream: bool, contract: TableSchema | None) -> dict[str, str] | None:
    """The columns of a source as the pipeline file tells them, name -> Postgres type; None where only the source itself knows.

    `pipeline_source` is the block of a source that is one stream (`stream`); without columns of its own it has its contract's.
    """
    if not stream or not hasattr(pipeline_source, "schema_"):
        return None
    written: Mapping[str, str] = getattr(pipeline_source, "schema_", None) or {}
    columns = dict(written) or (None if contract is None else dict(contract.types))
    if columns is not None and getattr(pipeline_source, "extra", None) == "keep":
        columns["_extra"] = "jsonb"
    return columns
