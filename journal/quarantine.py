"""Records that a contract or a sink held back: each with its reasons, its raw payload, and its place in the stream."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from journal.sealing import Seal, SealedError, SealedValues, is_sealed

UNRESOLVED = ("open", "patched", "rule-changed", "approved", "replaying", "failed-again")
RESOLVED = ("resolved", "superseded", "discarded")
STATUSES = (*UNRESOLVED, *RESOLVED)
"""What a record can be: the first of them wait for somebody, or for something."""

TO_REPLAY = "status in ('approved', 'replaying')"
"""The condition of the index over those, word by word as a query has to have it."""

Values = Mapping[str, str | bytes | None]
"""Column -> Postgres' text, None for null, or bytes that are no text. A column which the log did not carry is not in it."""


class Reason(msgspec.Struct, frozen=True, gc=False):
    """A rule that a record broke. `value` is the raw text (of several columns: a JSON object), masked where the contract says so."""

    rule: str
    column: str | None
    message: str
    value: str | None = None


class QuarantineRecord(msgspec.Struct, frozen=True, gc=False):
    """One change that is not delivered. To make a million of them takes a tenth of the time that it would with a dataclass.

    id             from record_id()
    position       the source's own words (Postgres: 0/1A2B3C8); `ordinal` its place in the pipeline
    committed_at   at the source, microseconds since 1970, UTC; resolved_at and quarantined_at: seconds
    sink           the sink that refused it; None: the gate held it back from all
    raw            what was received, by column; before and after: the old and the new row, as far as the log carried them
    sensitive      the contract calls a column confidential or restricted: what was received is sealed where it is kept
    replay         number of the request that it is, or was last, replayed by; erased_at (seconds): when its values were forgotten
    given          1: its row is as its source gave it, before any map, though the reasons do not say so
    message        what was received where the source has messages: JSON of key, value (base64, or null) and headers [[name, base64]];
                   of what only a sink refused the headers of its trace context alone, if it had one
    """

    id: str
    dataset: str
    source: str
    table: str
    operation: str
    key: Values
    position: str
    ordinal: int
    committed_at: int
    raw: Values
    before: Values | None
    after: Values | None
    reasons: Sequence[Reason]
    quarantined_at: float
    contract: str | None = None
    contract_version: str | None = None
    rules_hash: str | None = None
    status: str = "open"
    owner: str | None = None
    attempts: int = 0
    patch: Values | None = None
    patched_by: str | None = None
    approved_by: str | None = None
    resolved_at: float | None = None
    resolution: str | None = None
    replay: int | None = None
    erased_at: float | None = None
    given: int | None = None
    message: str | None = None
    sink: str | None = None
    sensitive: bool = False

    @property
    def pattern(self) -> str:
        """The shape of the value that broke the first rule."""
        return shape_of(self.reasons[0].value)

    @property
    def group(self) -> str:
        """Names the cause: equal for records of a dataset that broke the same rule on the same column with values of the same shape.

        Where there is no value, as of a message that cannot be read, the cause is what is said, without what varies in it.
        """
        first = self.reasons[0]
        said = _VARYING.split(first.message, maxsplit=1)[:1] if first.value is None else []
        told = json.dumps([self.dataset, self.sink, first.rule, first.column, self.pattern, *said])
        return hashlib.sha256(told.encode()).hexdigest()[:8]


@dataclass(frozen=True, slots=True)
class Cause:
    """Unresolved records that have one reason. `first_at` and `last_at` in seconds, when they came into quarantine."""

    group: str
    dataset: str
    sink: str | None
    reason: Reason
    pattern: str
    records: int
    first_at: float
    last_at: float


def record_id(journal: str, ordinal: int, sink: str | None = None) -> str:
    """The id of a record: always the same for one change of one journal (and one sink that refused it)."""
    return "-".join([journal[:8], str(ordinal), *([sink] if sink else [])])


_VARYING = re.compile(r', got |["(]|[0-9]')
"""Behind which a message may tell of one record alone."""
_SHAPES = ((re.compile(r"[0-9]+"), "9"), (re.compile(r"[^\W\d_]+"), "a"), (re.compile(r"\s+"), " "))
_SHAPE_LENGTH = 40


def shape_of(value: str | None) -> str:
    """A value with each run of digits as 9, of letters as a, and of white space as one space; `null` and `empty` say themselves."""
    if value is None:
        return "null"
    if not value:
        return "empty"
    shape = value[: 4 * _SHAPE_LENGTH]
    for runs, letter in _SHAPES:
        shape = runs.sub(letter, shape)
    return shape if len(shape) <= _SHAPE_LENGTH else shape[:_SHAPE_LENGTH] + "…"


_VALUES_OF = ("key", "raw", "before", "after", "patch")
_SEALED = ("raw", "before", "after", "patch", "message")
_STORED = tuple(name for name in QuarantineRecord.__struct_fields__ if name not in ("sink", "sensitive"))
COLUMNS = (*("table_name" if name == "table" else name for name in _STORED), "cause", "pattern")
"""Of a table that holds records. One for refused rows has `sink` and `seq` besides."""


def to_row(record: QuarantineRecord, seal: Seal) -> tuple[Any, ...]:
    """The record by COLUMNS."""
    row = dict(zip(_STORED, msgspec.structs.astuple(record), strict=False))
    raw = encoded(record.raw)
    row |= {
        "key": key_text(record.key),
        "raw": raw,
        "before": raw if record.before is record.raw else encoded(record.before),
        "after": raw if record.after is record.raw else encoded(record.after),
        "patch": encoded(record.patch),
        "reasons": reasons_text(record.reasons),
    }
    if record.sensitive:
        row |= {name: sealed(row[name], record.id, name, seal) for name in _SEALED}
    return *row.values(), record.group, record.pattern


def reasons_text(reasons: Sequence[Reason]) -> str:
    """What stands in a column that holds reasons."""
    return msgspec.json.encode(reasons).decode()


def sealed(text: str | None, record: str, column: str, seal: Seal) -> str | None:
    """What stands in a column of a sensitive record."""
    return None if text is None else seal.seal(text, f"{record} {column}")


def from_row(row: Sequence[Any], seal: Seal, sink: str | None = None) -> QuarantineRecord:
    """The record of which `to_row` made the row. What is sealed of it is opened when it is looked at: see SealedValues."""
    found = [*row[: len(_STORED)], sink, False]
    found[_REASONS] = _reasons.decode(found[_REASONS])
    raw = found[_RAW]
    if is_sealed(raw):
        found[-1] = True
        for name, place in _PLACES:
            found[place] = opened(found[place], row[0], name, seal)
        found[_MESSAGE] = _message(found[_MESSAGE], row[0], seal)
    else:
        found[_RAW] = values = values_of(raw)
        for _, place in _PLACES:
            text = found[place]
            if place != _RAW and text is not None:
                found[place] = values if text == raw else values_of(text)
    return QuarantineRecord(*found)


def opened(text: str | None, record: str, column: str, seal: Seal) -> Values | None:
    """The values in a column of the stored record with this id. What is sealed is opened when it is looked at."""
    if text is None or not is_sealed(text):
        return values_of(text)
    return SealedValues(lambda: values_of(seal.open(text, f"{record} {column}")) or {})


def _message(text: str | None, record: str, seal: Seal) -> str | None:
    """The message, of which nothing is told where it is sealed with a key that is not known here."""
    try:
        return None if text is None else seal.open(text, f"{record} message")
    except SealedError:
        return json.dumps({"headers": []})


def encoded(values: Values | None) -> str | None:
    """What stands in a column that holds values."""
    if values is None:
        return None
    return msgspec.json.encode(_plain(values)).decode()


def _plain(values: Values) -> Mapping[str, object]:
    if bytes not in map(type, values.values()):
        return dict(values)
    return {name: {"hex": value.hex()} if isinstance(value, bytes) else value for name, value in values.items()}


def key_text(key: Values) -> str:
    """A key as the journal's tables have it: always the same for one key."""
    if len(key) == 1:
        [(name, value)] = key.items()
        if type(value) is str and _SIMPLE(name) and _SIMPLE(value):
            return f'{{"{name}": "{value}"}}'  # as below, several times faster
    return json.dumps(_plain(key))


_SIMPLE = re.compile(r"[ !#-\[\]-~]*").fullmatch
"""Texts that stand in JSON as they are."""


def texts_of_keys(names: Sequence[str], columns: Sequence[Sequence[str | bytes | None]]) -> list[str]:
    """The texts of many keys: n values for each of their columns, of which there is one at least."""
    if all(map(_SIMPLE, names)) and all(set(map(type, column)) <= {str} and _SIMPLE(" ".join(column)) for column in columns):  # type: ignore[arg-type]
        template = ", ".join(f'"{name.replace("%", "%%")}": "%s"' for name in names)
        return list(map(f"{{{template}}}".__mod__, zip(*columns, strict=True)))
    return [key_text(dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]


def values_of(text: str | None) -> Values | None:
    """The values that `encoded` was given."""
    if text is None:
        return None
    found: Mapping[str, Any] = _decoded.decode(text)
    if dict not in map(type, found.values()):
        return found
    return {name: bytes.fromhex(value["hex"]) if isinstance(value, dict) else value for name, value in found.items()}


_decoded = msgspec.json.Decoder(dict[str, str | dict[str, str] | None])
_reasons: msgspec.json.Decoder[tuple[Reason, ...]] = msgspec.json.Decoder(tuple[Reason, ...])
_RAW, _REASONS, _MESSAGE = map(_STORED.index, ("raw", "reasons", "message"))
_PLACES = [(name, _STORED.index(name)) for name in _VALUES_OF]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which records to list: those that are all of this."""

    dataset: str | None = None
    status: str | None = None
    group: str | None = None

    @property
    def conditions(self) -> dict[str, str]:
        """Column -> the value it has to have."""
        asked = {"dataset": self.dataset, "status": self.status, "cause": self.group}
        return {column: value for column, value in asked.items() if value is not None}


_WAITS = f"status in {UNRESOLVED}"
_LONGEST = 18  # digits of an ordinal
_SELECT = f"select {', '.join(COLUMNS)} from quarantine"


def listed(db: sqlite3.Connection, wanted: Wanted, after: int, limit: int, seal: Seal) -> list[QuarantineRecord]:
    """Records in the order of the stream, those with an ordinal greater than `after`."""
    condition = "ordinal > :after" + "".join(f" and {column} = :{column}" for column in wanted.conditions)
    given = {**wanted.conditions, "after": after, "limit": limit}
    if wanted.group is None:
        # in the table's own order: all pages together read it once, which no index over a dataset or a status can better
        rows = db.execute(f"{_SELECT} not indexed where {condition} order by ordinal limit :limit", given)
    else:
        # the ordinals first: the index has them, and they are sorted without the records
        found = f"select ordinal from quarantine where {condition} order by ordinal limit :limit"
        rows = db.execute(f"{_SELECT} where ordinal in ({found}) order by ordinal", given)
    return [from_row(row, seal) for row in rows]


def record(db: sqlite3.Connection, name: str, seal: Seal) -> QuarantineRecord | None:
    """The record with this id."""
    ordinal = name.split("-")[1] if "-" in name else ""
    if not ordinal.isdecimal() or len(ordinal) > _LONGEST:
        return None
    row = db.execute(f"{_SELECT} where ordinal = ? and id = ?", (int(ordinal), name)).fetchone()
    return None if row is None else from_row(row, seal)


def records_of(db: sqlite3.Connection, dataset: str, key: Values, seal: Seal) -> list[QuarantineRecord]:
    """The records of a key (its columns in their order), in the order of the stream."""
    rows = db.execute(f"{_SELECT} where dataset = ? and key = ? order by ordinal", (dataset, key_text(key)))
    return [from_row(row, seal) for row in rows]


def causes(db: sqlite3.Connection, dataset: str | None = None) -> list[Cause]:
    """The causes of records that are not resolved, the most frequent first."""
    given = {"dataset": dataset}
    condition = _WAITS + (" and dataset = :dataset" if dataset else "")
    counted = f"select count(*) as records, min(ordinal) as first, max(ordinal) as last from quarantine where {condition} group by cause"
    rows = db.execute(
        f"""select one.cause, one.dataset, one.reasons, one.pattern, records, one.quarantined_at, newest.quarantined_at
            from ({counted}) join quarantine one on one.ordinal = first join quarantine newest on newest.ordinal = last
            order by records desc, first""",
        given,
    )
    return [
        Cause(group, name, None, Reason(**json.loads(reasons)[0]), pattern, records, first, last)
        for group, name, reasons, pattern, records, first, last in rows
    ]


def open_records(db: sqlite3.Connection) -> dict[str, int]:
    """How many records of each dataset are not resolved."""
    return dict(db.execute(f"select dataset, count(*) from quarantine where {_WAITS} group by dataset"))


def with_status(db: sqlite3.Connection, statuses: Sequence[str]) -> dict[str, int]:
    """How many records of each dataset have one of these statuses."""
    places = ", ".join("?" * len(statuses))
    return dict(db.execute(f"select dataset, count(*) from quarantine where status in ({places}) group by dataset", statuses))


def open_keys(db: sqlite3.Connection, dataset: str) -> list[Values]:
    """The keys of a dataset's records that are not resolved."""
    rows = db.execute(f"select key from quarantine where dataset = ? and {_WAITS}", (dataset,))
    return [values_of(key) or {} for (key,) in rows]


def mended(db: sqlite3.Connection, ordinals: Sequence[int]) -> set[int]:
    """Which of these are records that were released with values of their owner's."""
    query = "select ordinal from quarantine where status = 'resolved' and patch is not null and ordinal in (select value from json_each(?))"
    return {ordinal for (ordinal,) in db.execute(query, (json.dumps(ordinals),))}


def discarded(db: sqlite3.Connection, dataset: str) -> list[Mapping[str, Any]]:
    """What tells the keys of a dataset's records that were given up: see sitting.given_up."""
    columns = ("id", "ordinal", "operation", "key", "before")
    rows = db.execute(f"select {', '.join(columns)} from quarantine where dataset = ? and status = 'discarded'", (dataset,))
    return [dict(zip(columns, row, strict=True)) for row in rows]
