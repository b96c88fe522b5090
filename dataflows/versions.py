"""Rows that carry their own version (`order_by`): one that comes behind a newer one of its key is late, and goes no further.

What counts is the newest version of a key that was let through, over all sources of its dataset. It is kept as lookups are: in memory,
and in the journal, in the transaction that brought it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import structlog

from dataflows.lookup_table import LookupTable
from journal.batch import ChangeBatch, Longs, Mask, Op
from journal.expression import computable
from journal.joining import join
from journal.lookups import LookupLog
from journal.schema import TableSchema
from journal.types import parse_type
from pipeline.errors import ConfigError
from pipeline.model import Dataset, Lookup, Pipeline
from pipeline.names import nearest
from sinks.lineage import Lineage, trace

log = structlog.get_logger("sluice.ingest")

_PREFIX = "order_by:"
_SPARE = 100_000  # overtaken versions that the journal may keep, and as many again as there are keys
_NOTHING = np.zeros(0, np.int64)
_ORDERED = frozenset(
    {"smallint", "integer", "bigint", "oid", "numeric", "real", "double precision", "date", "text", "character varying", "uuid"}
    | {"timestamp without time zone", "timestamp with time zone", "time without time zone"}
)


def kept_name(dataset: str) -> str:
    """What the journal calls the versions of a dataset."""
    return f"{_PREFIX}{dataset}"


def check_version(dataset: Dataset, schema: TableSchema) -> None:
    """Raises ConfigError unless rows of these columns have a key, and what they are ordered by."""
    column = dataset.order_by
    if column is None:
        return
    if not schema.key:
        raise ConfigError(f"`{dataset.name}` has no key, so `order_by` has nothing to order", hint="give the dataset a `key`")
    if column not in schema.types:
        raise ConfigError(f"`order_by`: {dataset.name} has no column `{column}`", hint=nearest(column, schema.names))
    kind = schema.types[column]
    try:
        base = parse_type(kind).base if not parse_type(kind).array else kind
    except ValueError:
        base = kind
    if base not in _ORDERED:
        raise ConfigError(f"`order_by`: `{column}` is {kind}, which has no order", hint="a number, a time, a date, or text")


@dataclass(frozen=True, slots=True, eq=False)
class Sifted:
    """What is left of a batch. `late` rows were dropped (`gone`, their ordinals); `news` are the versions to remember, if there are any."""

    passed: ChangeBatch
    late: int = 0
    gone: Longs = field(default_factory=lambda: _NOTHING)
    news: ChangeBatch | None = None


class Versions:
    """The newest version of each key, of the datasets that are ordered by one. One thread."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._datasets: Mapping[str, Dataset] = {d.name: d for d in pipeline.datasets.values() if d.order_by is not None}
        self._tables: dict[str, LookupTable] = {}

    @property
    def names(self) -> frozenset[str]:
        """What the journal keeps them by."""
        return frozenset(map(kept_name, self._datasets))

    def check(self, schema: TableSchema) -> None:
        """Raises ConfigError; see check_version."""
        if schema.dataset in self._datasets:
            check_version(self._datasets[schema.dataset], schema)

    def sift(self, batch: ChangeBatch) -> Sifted:
        """Without the rows that are late. What passes is remembered, unless it is for one sink. The batch has been checked.

        A delete has no version and comes in the order of its arrival, as does a row without one; a TRUNCATE ends all.
        """
        dataset = self._datasets.get(batch.dataset)
        if dataset is None or dataset.order_by is None or not len(batch):
            return Sifted(batch)
        table = self._table(batch.schema, dataset.order_by)
        late = np.zeros(len(batch), np.bool_)
        news: list[ChangeBatch] = []
        ends = [0, *(np.flatnonzero(batch.op == Op.TRUNCATE) + 1).tolist(), len(batch)]
        for start, stop in pairwise(ends):
            part = batch.slice(start, stop)
            if not len(part):
                continue
            late[start:stop] = _late(part, table, dataset.order_by)
            if batch.sink is None:
                news.append(self._remembered(part.take(~late[start:stop]), table, dataset.order_by))
        passed = batch if not late.any() else batch.take(~late)
        return Sifted(passed, int(late.sum()), batch.ordinal[late], _joined(news))

    def late(self, batch: ChangeBatch) -> Mask:
        """bool[n]: the rows that `sift` would take out, if all of these came to it. Changes nothing."""
        dataset = self._datasets.get(batch.dataset)
        late = np.zeros(len(batch), np.bool_)
        if dataset is None or dataset.order_by is None or dataset.order_by not in batch.schema.types or not batch.schema.key:
            return late
        table = self._table(batch.schema, dataset.order_by)
        ends = [0, *(np.flatnonzero(batch.op == Op.TRUNCATE) + 1).tolist(), len(batch)]
        for start, stop in pairwise(ends):
            if start < stop:
                late[start:stop] = _late(batch.slice(start, stop), table, dataset.order_by)
            if stop < len(batch):
                table = LookupTable(table.lookup)  # a truncate ends all
        return late

    def _table(self, schema: TableSchema, column: str) -> LookupTable:
        table = self._tables.get(schema.dataset)
        if table is None or set(table.lookup.key) != set(schema.key) or (table.schema is not None and column not in table.schema.types):
            table = self._tables[schema.dataset] = LookupTable(Lookup(kept_name(schema.dataset), "", schema.dataset, schema.key))
        return table

    def _remembered(self, passed: ChangeBatch, table: LookupTable, column: str) -> ChangeBatch:
        """Takes the versions of rows, each under the key that the row has now, as what they are: rows of keys and versions."""
        told = (passed.op == Op.TRUNCATE) | ((passed.op != Op.DELETE) & np.asarray(passed.column(column).is_valid()))
        chosen = passed.take(told)
        names = [*chosen.schema.key, *([] if column in chosen.schema.key else [column])]
        columns = tuple(replace(one, attnum=0) for name in names for one in chosen.schema.columns if one.name == name)
        news = replace(
            chosen,
            schema=TableSchema(chosen.dataset, columns, chosen.schema.key),
            source="",
            table=chosen.dataset,
            op=np.where(chosen.op == Op.TRUNCATE, Op.TRUNCATE, Op.INSERT).astype(np.uint8),
            columns=tuple(chosen.column(name) for name in names),
            presence={},
            old={},
            has_old=None,
            payloads=None,
            traces=None,
        )
        if len(news):
            table.take(news)
        return news

    def keep(self, news: ChangeBatch, kept: LookupLog) -> None:
        """Puts what is remembered into the journal, and lays it down anew where most of it has been overtaken."""
        name = kept_name(news.dataset)
        kept.keep(name, news)
        table = self._tables[news.dataset]
        if kept.rows(name) > 2 * len(table) + _SPARE:
            kept.keep_anew(name, table.entries())

    def load(self, kept: LookupLog) -> None:
        """What the journal has of them; of a dataset that is ordered by something else now, or has another key, it is forgotten."""
        for name, dataset in self._datasets.items():
            try:
                for entry in kept.entries(kept_name(name)):
                    table = self._tables.get(name) or self._table(entry.schema, str(dataset.order_by))
                    if dataset.order_by not in entry.schema.types:
                        raise ConfigError(f"{name} is ordered by {dataset.order_by} now")
                    if isinstance(entry, ChangeBatch):
                        table.take(entry)
            except ConfigError as error:
                log.info("versions begin anew", dataset=name, why=error.message)
                self._tables.pop(name, None)
                kept.keep_anew(kept_name(name), ())


def _joined(news: list[ChangeBatch]) -> ChangeBatch | None:
    some = [batch for batch in news if len(batch)]
    return join(some) if some else None


def _late(batch: ChangeBatch, table: LookupTable, column: str) -> Mask:
    """bool[n]: rows behind a newer one of a key that they have or had, in the batch or before it. No truncate has rows behind it."""
    lineage = trace(batch, _NOTHING)
    own, before = _ranks(batch, table, lineage, column)
    touched = lineage.code >= 0
    order = np.lexsort((lineage.order, lineage.code))
    order = order[touched[order]]
    late = np.zeros(len(batch), np.bool_)
    if not len(order):
        return late
    rows, code = lineage.rows[order], lineage.code[order]
    span = int(max(own.max(initial=0), before.max(initial=0))) + 1
    base = code * span  # keeps the keys apart: what is over one of them never reaches into the next
    floor, height = base + before[order], base + own[rows]
    highest = np.maximum.accumulate(np.maximum(floor, height))
    first = np.r_[True, code[1:] != code[:-1]]
    above = np.where(first, floor, np.r_[0, highest[:-1]])
    late[rows[(own[rows] > 0) & (height < above)]] = True
    return late


def _ranks(batch: ChangeBatch, table: LookupTable, lineage: Lineage, column: str) -> tuple[Longs, Longs]:
    """Of the n rows, and of what is known of the keys of the m touches: numbers that compare as the versions do, 0 where there is none."""
    given = batch.column(column)
    given = pc.if_else(pa.array((batch.op == Op.DELETE) | (batch.op == Op.TRUNCATE)), None, given)
    places = dict(zip(batch.schema.key, lineage.keys, strict=True))
    known = pa.nulls(len(lineage.code), pa.string())
    if table.schema is not None and len(table):
        known = table.gather(column, table.find([places[name] for name in table.schema.key]))
    values = computable(pa.concat_arrays([given, known]), batch.schema.types[column]).values
    ranks: Longs = np.asarray(pc.rank(values, sort_keys="ascending", tiebreaker="dense")).astype(np.int64)
    ranks[np.asarray(values.is_null())] = 0
    return ranks[: len(batch)], ranks[len(batch) :]
