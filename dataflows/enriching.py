"""Behind the contracts: the SQL of each dataset that is enriched, bound to its columns and to those of the lookups that it joins."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from dataflows.lookup_map import LookupMap
from dataflows.lookup_query import Enrichment, Join, read_enrichment
from dataflows.lookups import Lookups
from dataflows.mapping import FeedMap
from journal.schema import Column, TableSchema
from pipeline.errors import ConfigError, Problem
from pipeline.model import Lookup, Pipeline


@dataclass(frozen=True, slots=True, eq=False)
class BoundDataset:
    """One dataset that is enriched, under one shape of its rows. `waits`: rule -> lookup that its rows may have to wait for."""

    feed: FeedMap
    rows: LookupMap
    waits: Mapping[str, Lookup]

    @property
    def schema(self) -> TableSchema:
        """What the rows come to."""
        return self.feed.schema

    @property
    def plain(self) -> frozenset[str]:
        """The columns that are what the contract has passed."""
        return frozenset(name for name, source in self.rows.plain.items() if name == source)


class Enrichments:
    """Every dataset of a pipeline that is enriched."""

    def __init__(self, pipeline: Pipeline, lookups: Lookups, problems: list[Problem] | None = None) -> None:
        """Raises ConfigError with every problem of the SQL that can be told without columns.

        Given a list, puts them there instead, and leaves those datasets out.
        """
        self._pipeline = pipeline
        self._lookups = lookups
        self._read: dict[str, Enrichment] = {}
        self._bound: dict[tuple[str, ...], BoundDataset] = {}
        keys = {name: lookup.key for name, lookup in pipeline.lookups.items()}
        found: list[Problem] = []
        for dataset in pipeline.datasets.values():
            if dataset.enrich is None:
                continue
            try:
                self._read[dataset.name] = read_enrichment(dataset.enrich, keys)
            except ConfigError as error:
                found += [one if one.file else replace(one, file=pipeline.file, line=dataset.line) for one in error.problems]
        if problems is not None:
            problems += found
        elif found:
            raise ConfigError.of(found)

    @property
    def datasets(self) -> Collection[str]:
        """The datasets that are enriched."""
        return self._read.keys()

    def joins(self, dataset: str) -> Sequence[Join]:
        """The lookups that a dataset is joined with."""
        return self._read[dataset].joins

    def input(self, dataset: str) -> str:
        """What the SQL of a dataset calls the dataset's own rows."""
        return self._read[dataset].alias

    def bound(self, schema: TableSchema) -> BoundDataset | None:
        """The SQL of a dataset whose rows have these columns; None for one that is not enriched.

        Raises ConfigError with every reason why it does not fit them, or the lookups.
        """
        found = self._read.get(schema.dataset)
        if found is None:
            return None
        schemas = {join.lookup: self._known(join.lookup) for join in found.joins}
        key = (schema.encoded, *(one.encoded for one in schemas.values()))
        if key not in self._bound:
            self._bound[key] = self._bind(found, schema, schemas)
        return self._bound[key]

    def schema(self, schema: TableSchema) -> TableSchema:
        """The columns that a dataset comes to whose contract passes these. Raises ConfigError."""
        bound = self.bound(schema)
        return schema if bound is None else bound.schema

    def _known(self, name: str) -> TableSchema:
        schema = self._lookups.schema(name)
        if schema is None:
            lookup = self._lookups.lookups[name]
            raise ConfigError(
                f"nothing is known yet of the lookup `{name}`",
                hint=f"{lookup.source}.{lookup.table} has to be read first, or its dataset needs a contract",
            )
        return schema

    def _bind(self, found: Enrichment, schema: TableSchema, schemas: Mapping[str, TableSchema]) -> BoundDataset:
        if not schema.key:
            said = f"`{schema.dataset}` has no key, so nobody could say which of its rows a delete means once lookups have changed"
            raise ConfigError.of([Problem(said, found.file, 1, "give the dataset a `key`")])
        lookups = self._lookups
        rows = LookupMap(found, schema.types, lookups.lookups, lookups.tables, schemas)
        problems = []
        for name in schema.key:
            if name not in rows.columns:
                said = f"`enrich` gives no `{name}`, which is in the key of {schema.dataset}"
                problems.append(Problem(said, found.file, 1, "write input.*, or name the column"))
            elif rows.of_lookups((name,)):
                said = f"`{name}` is in the key of {schema.dataset}, and cannot come from a lookup, which changes"
                problems.append(Problem(said, found.file, 1, "take it from input"))
        if problems:
            raise ConfigError.of(problems)
        given = {column.name: column for column in schema.columns}
        columns = tuple(given[name] if rows.plain.get(name) == name else Column(name, kind) for name, kind in rows.columns.items())
        feed = FeedMap(rows, schema, TableSchema(schema.dataset, columns, schema.key), declared=False, merged=False)
        return BoundDataset(feed, rows, rows.waits)
