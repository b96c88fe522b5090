"""Records of quarantine as the changes that they were: what replays and backtests judge.

The other way round from `records.py`. Values, old values and what the log did not carry come back as they were, patches stand over them.
A value that was read again from the source (recalled) is not in a record: it is absent here, as the log had it.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby

import numpy as np
import pyarrow as pa

from dataflows.map_answer import MAP
from dataflows.maps import Maps
from journal.batch import Bytes, ChangeBatch, Defect, Mask, Op, Payload, Payloads, Presence
from journal.quarantine import QuarantineRecord, Values
from journal.schema import Column, TableSchema
from journal.sealing import SealedValues
from journal.trace_context import Headers, contexts_of
from pipeline.errors import ConfigError
from quality.judgement import UNDECODABLE
from sources.base import KEY_PREFIX

_OPS = {op.word: op for op in Op}
_WHOLE = (_OPS["insert"], _OPS["read"])
"""Operations whose rows a log carries whole."""
_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")


def changes_of(records: Sequence[QuarantineRecord], schema: TableSchema) -> ChangeBatch:
    """The changes of records of one table, in their order, under `schema` (see RecordShapes).

    Of a column that the schema has not any more nothing comes back. One that came since has its default in rows that were copied or
    inserted, and is absent from others. Raises ValueError for records of several tables, or none.
    """
    if len({(one.source, one.table) for one in records}) != 1:
        raise ValueError("records of one table are wanted")
    op = np.array([_OPS[one.operation] for one in records], np.uint8)
    values = [_values(one) for one in records]
    old = [one.before if one.operation == "update" else None for one in records]
    has_old = np.array([row is not None for row in old], np.bool_)
    columns: list[pa.StringArray] = []
    presence: dict[int, Bytes] = {}
    before: dict[int, pa.StringArray] = {}
    for place, column in enumerate(schema.columns):
        if column.name.startswith(KEY_PREFIX):
            handed = column.name.removeprefix(KEY_PREFIX)
            columns.append(_texts([one.key.get(handed) if one.operation == "delete" else None for one in records]))
            continue
        try:
            told: list[str | bytes | None] = [row[column.name] for row in values]
        except KeyError:
            told = [row.get(column.name) for row in values]
            known = np.array([column.name in row for row in values], np.bool_)
            absent = _absent(column, known, op)
            if absent.any():
                presence[place] = np.where(absent, Presence.ABSENT, Presence.PRESENT).astype(np.uint8)
            if column.default is not None:
                lacking = ~known & ~absent & (op != Op.TRUNCATE)
                told = [column.default if lacks else value for value, lacks in zip(told, lacking, strict=True)]
        columns.append(_texts(told))
        if has_old.any() and any(row is not None and column.name in row for row in old):
            before[place] = _texts([None if row is None else row.get(column.name) for row in old])
    positions = [_position(one.position) for one in records]
    return ChangeBatch(
        schema=schema,
        source=records[0].source,
        table=records[0].table,
        op=op,
        lsn=np.array([lsn for lsn, _ in positions], np.int64),
        nth=np.array([nth for _, nth in positions], np.int64),
        time=np.array([one.committed_at for one in records], np.int64),
        ordinal=np.array([one.ordinal for one in records], np.int64),
        columns=tuple(columns),
        presence=presence,
        old=before,
        has_old=has_old if has_old.any() else None,
        defects=tuple(_defects(records, values, schema)),
        payloads=_payloads(records),
        traces=_traces(records),
    )


class RecordShapes:
    """Which columns a record has: its dataset's, or those of its source where a map came first and could not take it."""

    def __init__(self, maps: Maps, known: Callable[[str], Mapping[str, TableSchema]]) -> None:
        """`known` gives the tables of a source as the source has them now: see resume_from."""
        self._maps = maps
        self._known = known
        self._pairs: dict[tuple[str, str], tuple[TableSchema, TableSchema]] = {}

    def of(self, record: QuarantineRecord) -> TableSchema:
        """The columns under which the record was held back. Raises ConfigError where its table, or a map for it, is not there any more."""
        given, made = self._pair(record.source, record.table)
        return given if self.given(record) else made

    def given(self, record: QuarantineRecord) -> bool:
        """Whether the record holds a row as its source gave it, which has to go through its map (again)."""
        if (record.source, record.table) not in self._maps.feeds:
            return False
        if record.given is not None:
            return bool(record.given)
        if not any(one.rule in (MAP, UNDECODABLE) for one in record.reasons):
            return False
        given, made = self._pair(record.source, record.table)
        # what the SQL behind a contract (`enrich`) could not take breaks the same rule, and has the dataset's columns
        return sum(name in given.types for name in record.raw) >= sum(name in made.types for name in record.raw)

    def batches(self, records: Iterable[QuarantineRecord]) -> Iterator[tuple[Sequence[QuarantineRecord], ChangeBatch]]:
        """Records that follow one another in one shape, and their changes. Raises ConfigError as `of` does."""
        for _, run in groupby(records, key=lambda one: (one.source, one.table, self.given(one))):
            some = list(run)
            yield some, changes_of(some, self.of(some[0]))

    def _pair(self, source: str, table: str) -> tuple[TableSchema, TableSchema]:
        if (source, table) not in self._pairs:
            given = self._known(source).get(table)
            if given is None:
                raise ConfigError(
                    f"nothing is known of the table {table} of the source {source}",
                    hint="is it in the pipeline file still?",
                )
            self._pairs[source, table] = given, self._maps.schema(source, table, given)
        return self._pairs[source, table]


def _values(record: QuarantineRecord) -> Values:
    raw, patch = (_opened(record.raw), record.patch and _opened(record.patch)) if record.sensitive else (record.raw, record.patch)
    return raw if not patch else {**raw, **patch}


def _opened(values: Values) -> Values:
    return values.opened if isinstance(values, SealedValues) else values


def _absent(column: Column, known: Mask, op: Bytes) -> Mask:
    """bool[n]: the log did not carry it. A column of a database (it has a number) is in every row that is inserted, unless it is newer."""
    partial = op != Op.TRUNCATE
    if column.attnum:
        partial &= ~np.isin(op, _WHOLE)
    absent: Mask = ~known & partial
    return absent


def _texts(values: Sequence[str | bytes | None]) -> pa.StringArray:
    if bytes in map(type, values):
        values = [None if isinstance(value, bytes) else value for value in values]
    return pa.array(values, pa.string())


def _defects(records: Sequence[QuarantineRecord], values: Sequence[Values], schema: TableSchema) -> Iterator[Defect]:
    """What cannot be held as text, still. A message that could not be read is as good as read once somebody has said its values."""
    for row, (record, told) in enumerate(zip(records, values, strict=True)):
        said = {one.column: one.message for one in record.reasons if one.rule == UNDECODABLE}
        if bytes in map(type, told.values()):
            for name, value in told.items():
                if isinstance(value, bytes) and name in schema.types:
                    yield Defect(row, name, said.get(name, "the value is no text"), value)
        if None in said and not record.patch:
            payload = _payload(record)
            yield Defect(row, None, said[None], b"" if payload is None else payload.value or b"")


def _payload(record: QuarantineRecord) -> Payload | None:
    """The message as it was received, if the record has it."""
    found = {} if record.message is None else json.loads(record.message)
    if "value" not in found:
        return None
    key, value = (None if part is None else base64.b64decode(part) for part in (found["key"], found["value"]))
    return Payload(key, value, _headers(record))


def _payloads(records: Sequence[QuarantineRecord]) -> Payloads | None:
    found = [_payload(one) for one in records]
    if all(one is None for one in found):
        return None
    return Payloads([one or Payload(None, None) for one in found], np.arange(len(found), dtype=np.int64))


def _traces(records: Sequence[QuarantineRecord]) -> pa.StringArray | None:
    return contexts_of([_headers(one) for one in records]) if any(one.message is not None for one in records) else None


def _headers(record: QuarantineRecord) -> Headers:
    told = () if record.message is None else json.loads(record.message).get("headers", ())
    return [(name, base64.b64decode(content)) for name, content in told]


def _position(told: str) -> tuple[int, int]:
    """The two numbers of a position, for people who trace it: what decides which change is newer is the ordinal."""
    if lsn := _LSN.fullmatch(told):
        return int(lsn[1], 16) << 32 | int(lsn[2], 16), 0
    if not told.startswith("{"):
        return 0, 0
    found = json.loads(told)
    return int(found.get("partition", found.get("answer", 0))), int(found.get("offset", found.get("row", 0)))
