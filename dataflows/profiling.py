"""Profiles what a pipeline reads, or one table of a Postgres server: where the data is, and how its rows come from there."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pyarrow as pa

from dataflows.build import build_sink, build_source, dataset_name, router_for
from dataflows.hidden import Hidden
from dataflows.mapping import FeedMap
from dataflows.maps import Maps
from dataflows.service import resume_of
from journal.batch import ChangeBatch
from journal.schema import TableSchema
from journal.types import arrow_type, typed
from pipeline.errors import ConfigError, Refused
from pipeline.model import Pipeline
from pipeline.names import nearest
from quality.profile.batches import UNFIT, Batch, Field
from quality.profile.looking import Known, Look
from quality.profile.profiling import Profiled, profile_rows
from sources.base import Source
from sources.postgres.one_table import OneTable

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class _EnoughError(Exception):
    """The sample is full: reading ends here."""


def profile_table(dsn: str, table: str, sample: int | None = None) -> Profiled:
    """Profiles a table of a Postgres server, in a snapshot that changes nothing. `${NAME}` in the dsn is a variable of the environment.

    Raises ConfigError, Refused or TransientError (exit code 2, all of them).
    """
    found = OneTable(_VARIABLE.sub(_from_environment, dsn), table)

    def give(look: Look) -> None:
        with _until_full():
            found.read(lambda batch: _take(look, batch, found.schema))

    return profile_rows(
        lambda look: _from_schema(look, found.schema, give), Known(found.schema.dataset, found.place, found.schema.key), sample
    )


def profile_dataset(pipeline: Pipeline, dataset: str | None, sample: int | None = None) -> Profiled:
    """Profiles a dataset of a pipeline: the rows of its tables where its sources have such, else those that its first sink holds.

    Columns that are hidden are masked (see Hidden). Raises ConfigError for a dataset that is not there, Refused where
    nobody has its rows yet.
    """
    with ExitStack() as held:
        origins = _origins(pipeline, held)
        name = _chosen(pipeline, dataset, origins)
        schema, feeds = origins.get(name, (None, []))
        found = Hidden(pipeline)(name)
        hidden = frozenset(schema.names if schema is not None else ()) if found is None else found
        if schema is not None and all(source.compared for source, *_ in feeds):
            place = f"{', '.join(table for _, table, *_ in feeds)} of pipeline {pipeline.name}"
            return profile_rows(
                lambda look: _from_schema(look, schema, lambda look: _from_tables(look, schema, feeds)),
                Known(name, place, schema.key, hidden),
                sample,
            )
        if schema is None:
            raise Refused(f"nothing has been read of {name} yet", hint="run `sluice sync` first, or profile a file with --data")
        return _from_sink(pipeline, name, schema, hidden, sample, held)


_Origin = tuple[Source, str, TableSchema, FeedMap | None]


def _origins(pipeline: Pipeline, held: ExitStack) -> dict[str, tuple[TableSchema, list[_Origin]]]:
    """Dataset -> its columns, and where its rows come from: as the journal knows, or, before the first run, as the source tells."""
    maps = Maps(pipeline)
    found: dict[str, tuple[TableSchema, list[_Origin]]] = {}
    for name, block in pipeline.sources.items():
        source = build_source(pipeline, block)
        held.callback(source.close)
        resume = resume_of(pipeline, name)
        tables = resume.schemas
        if not tables and source.compared:
            looked = source.preflight(resume)
            if looked.missing and (refusal := looked.refusal()) is not None:
                raise refusal
            tables = looked.tables
        for table, given in sorted(tables.items()):
            feed = maps.bound(name, table, given)
            schema = given if feed is None else feed.schema
            called = dataset_name(pipeline, name, table)
            found.setdefault(called, (schema, []))[1].append((source, table, given, feed))
    return found


def _chosen(pipeline: Pipeline, dataset: str | None, origins: dict[str, tuple[TableSchema, list[_Origin]]]) -> str:
    known = sorted({*origins, *pipeline.datasets})
    if dataset is None:
        if len(known) == 1:
            return known[0]
        raise ConfigError("a dataset has to be named", hint=f"--dataset with one of: {', '.join(known)}" if known else None)
    if dataset not in known:
        raise ConfigError(f"the pipeline has no dataset {dataset!r}", hint=nearest(dataset, known))
    return dataset


def _from_tables(look: Look, schema: TableSchema, feeds: list[_Origin]) -> None:
    with _until_full():
        for source, table, given, feed in feeds:

            def receive(batch: ChangeBatch, feed: FeedMap | None = feed) -> None:
                _take(look, batch if feed is None else feed.apply(batch).passed, schema)

            source.read_table(table, given, None, receive)


def _from_sink(pipeline: Pipeline, name: str, schema: TableSchema, hidden: frozenset[str], sample: int | None, held: ExitStack) -> Profiled:
    """The rows of a stream that the first sink which takes it holds."""
    routes = {sink: route for sink, block in pipeline.sinks.items() if (route := block.route(name)) is not None}
    if not routes:
        raise Refused(f"{name} is a stream of changes, and no sink holds its rows", hint="profile a file of it with --data")
    called, route = next(iter(routes.items()))
    sink = build_sink(pipeline, pipeline.sinks[called])
    held.callback(sink.close)
    target = router_for(pipeline)(route, schema).target

    def give(look: Look) -> None:
        with _until_full():
            for table in sink.read(target, None):
                for part in table.to_batches():
                    _add(look, target.schema, [part.column(column) for column in target.schema.names], part.num_rows)

    place = f"what the sink {called} of pipeline {pipeline.name} holds"
    return profile_rows(lambda look: _from_schema(look, target.schema, give), Known(name, place, target.schema.key, hidden), sample)


def _from_schema(look: Look, schema: TableSchema, give: Callable[[Look], None]) -> None:
    """Tells the columns first, so that a table without rows has them too."""
    _add(look, schema, [pa.array([], pa.string()) for _ in schema.names], 0)
    give(look)


def _take(look: Look, batch: ChangeBatch, schema: TableSchema) -> None:
    _add(look, schema, [batch.column(name) for name in schema.names], len(batch))


def _add(look: Look, schema: TableSchema, texts: list[pa.Array], rows: int) -> None:
    """Postgres' text as typed columns. What does not fit its Arrow type (numeric's NaN, 24:00) counts as null, and is told."""
    fields = [Field(column.name, "postgres", column.type, column.type) for column in schema.columns]
    columns: list[pa.Array] = []
    kinds: dict[str, frozenset[str]] = {}
    for text, column in zip(texts, schema.columns, strict=True):
        if pa.types.is_string(arrow_type(column.type)):
            columns.append(text)
            continue
        found = typed(text, column.type)
        columns.append(found.values)
        if found.malformed.any():
            kinds[column.name] = frozenset({UNFIT})
    look.take([Batch(fields, columns, rows, kinds)])
    if look.full:
        raise _EnoughError


@contextmanager
def _until_full() -> Iterator[None]:
    try:
        yield
    except _EnoughError:
        return


def _from_environment(found: re.Match[str]) -> str:
    value = os.environ.get(found[1])
    if not value:
        raise ConfigError(f"the environment variable {found[1]} is not set", hint=f"export {found[1]}='postgresql://user@host/database'")
    return value
