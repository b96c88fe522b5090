"""Records in quarantine, from wherever they were held back, in the order of the stream; and how they are shown."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from typing import Any

import msgspec

from dataflows.build import contract_of
from dataflows.contracts_in_force import in_force
from dataflows.given import resume_from
from dataflows.hidden import Hidden, shown_reason
from dataflows.map_answer import MAP
from dataflows.records import trace_id
from journal import audit_trail
from journal.opening import find_reader
from journal.quarantine import QuarantineRecord, Reason, Values, Wanted
from journal.sealing import SealedValues
from journal.state import State
from journal.trace_context import Traces
from pipeline.model import Pipeline
from quality.judgement import UNDECODABLE
from sources.base import KEY_PREFIX

MASKED = "***"
SEALED = "(sealed)"
"""Stands for the columns of values whose key is not known here."""
_PAGE = 500
_WHOLE_NUMBERS = ("smallint", "integer", "bigint")

Types = dict[str, str]


class Quarantine:
    """All records of a pipeline: the gate's, which are in its journal, and those that single sinks refused.

    Before the first run there are none. Works beside a running service. Raises JournalError for a journal that cannot be read.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._open = ExitStack()
        self._pipeline = pipeline
        reader = find_reader(pipeline)
        self._reader = None if reader is None else self._open.enter_context(reader)
        self._state = self._open.enter_context(closing(State.open(pipeline.state)))
        self._traces = None if self._reader is None else Traces(self._reader.id)
        self._types: dict[tuple[str, str], Types] = {}
        self._looked_at: dict[str, bool] = {}  # by record, of those that were read last

    def records(self, wanted: Wanted) -> Iterator[QuarantineRecord]:
        """Those that are wanted, read page by page."""
        return heapq.merge(self._judged(wanted), self._refused(wanted), key=lambda one: (one.ordinal, one.id))

    def record(self, name: str) -> QuarantineRecord | None:
        """The record with this id."""
        found = self._reader.record(name) if self._reader is not None else None
        return found or self._state.refused_record(name)

    def _judged(self, wanted: Wanted) -> Iterator[QuarantineRecord]:
        after = 0
        while self._reader is not None:
            page = self._reader.quarantined(wanted, after, _PAGE)
            self._looked_at = self._looked_up(page)
            yield from page
            if len(page) < _PAGE:
                return
            after = page[-1].ordinal

    def _refused(self, wanted: Wanted) -> Iterator[QuarantineRecord]:
        after = (0, "")
        while True:
            page = self._state.refused(wanted, after, _PAGE)
            yield from page
            if len(page) < _PAGE:
                return
            after = (page[-1].ordinal, page[-1].id)

    def types(self, record: QuarantineRecord) -> Types:
        """The types of the columns of the record's table, as far as the journal knows them."""
        if self._reader is None:
            return {}
        at = (record.source, record.table)
        if at not in self._types:
            for table, schema in self._reader.resume(record.source).schemas.items():
                self._types[record.source, table] = schema.types
        return self._types.get(at, {})

    def newer(self, record: QuarantineRecord) -> bool:
        """Whether a newer change of the record's key has passed."""
        if record.id not in self._looked_at:
            self._looked_at = self._looked_up([record])
        return self._looked_at[record.id]

    def _looked_up(self, records: Sequence[QuarantineRecord]) -> dict[str, bool]:
        newer = frozenset() if self._reader is None else self._reader.newer([one for one in records if one.sink is None])
        return {one.id: one.status == "superseded" or one.id in newer for one in records}

    def columns(self, dataset: str | None) -> list[str]:
        """The columns that rows of a dataset, or of any, may have: its own, and those of its sources where maps come first."""
        if self._reader is None:
            return []
        with self._reader.view() as (db, _):
            sources = [source for (source,) in db.execute("select distinct source from tables order by source")]
        names: dict[str, None] = {}
        for known in map(self._reader.resume, sources):
            given = resume_from(known).schemas
            for table, schema in known.schemas.items():
                if dataset in (None, schema.dataset):
                    names |= dict.fromkeys((*schema.names, *given[table].names))
        return [name for name in names if not name.startswith(KEY_PREFIX)]

    def steps(self, record: QuarantineRecord) -> list[dict[str, Any]]:
        """What was done with the record, as the audit trail tells it."""
        if self._reader is None:
            return []
        with self._reader.view() as (db, _):
            lines = audit_trail.of_record(db, record.ordinal, record.sink)
        names = ("columns", "rules", "group", "replay")
        return [
            {"at": moment(line.at), "step": line.action, "by": line.by, "system_user": line.system_user, "line": line.n}
            | {name: line.detail[name] for name in names if line.detail.get(name) is not None}
            for line in lines
        ]

    def trace(self, record: QuarantineRecord) -> str | None:
        """The id of the trace that the record belongs to; None where the journal is gone."""
        return None if self._traces is None else trace_id(self._traces, record)

    def close(self) -> None:
        """Closes journal and state."""
        self._open.close()


class Masks:
    """Which columns are hidden wherever people look: see Hidden.

    Where a contract cannot be read every column is hidden; so are, where any is, those of a row that no map has made a row of the dataset
    of: nobody has said what a source's columns hold. Of a record that is sealed, and whose dataset has no contract any more or is gone,
    the key alone is shown.
    """

    def __init__(self, pipeline: Pipeline, *, off: bool = False) -> None:
        self._off = off
        self._contracts = Hidden(pipeline)
        self._datasets = in_force(pipeline).datasets
        self._mapped = {name for name, dataset in pipeline.datasets.items() if any(feed.map for feed in dataset.feeds)}

    def _hidden(self, dataset: str) -> frozenset[str] | None:
        """Columns of a dataset; None: all of them."""
        return frozenset() if self._off else self._contracts(dataset)

    def _declared(self, name: str) -> frozenset[str]:
        """The columns that a dataset's contract names."""
        dataset = self._datasets.get(name)
        return frozenset() if dataset is None or dataset.contract is None else frozenset(contract_of(dataset).columns)

    def __call__(self, record: QuarantineRecord, values: Values | None) -> dict[str, Any] | None:
        """The values with those of hidden columns masked; null stays null."""
        if values is None:
            return None
        if isinstance(values, SealedValues) and not values.readable and not self._off:
            return {SEALED: MASKED}
        hidden = self._hidden(record.dataset)
        if hidden is None or (self._unsaid(record) and values is not record.key):
            hidden = frozenset(values)
        return {name: MASKED if value is not None and name in hidden else _text(value) for name, value in values.items()}

    def reasons(self, record: QuarantineRecord) -> Sequence[Reason]:
        """Why a record was held back."""
        hidden = None if self._unsaid(record) else self._hidden(record.dataset)
        return [shown_reason(reason, hidden) for reason in record.reasons]

    def row(self, dataset: str, values: Values, *, given: bool = False) -> dict[str, Any]:
        """The values of a row of a dataset. Where any column is hidden, so are those that the contract does not name, of lookups; and
        all of a row as its source has `given` it, before any map."""
        hidden = self._hidden(dataset)
        shown = frozenset(values) - hidden if hidden is not None else frozenset()
        if hidden:
            shown = frozenset() if given else shown & self._declared(dataset)
        return {name: _text(value) if value is None or name in shown else MASKED for name, value in values.items()}

    def message(self, record: QuarantineRecord) -> dict[str, Any] | None:
        """The message as it was received, if it is known; all of it is hidden where any column is."""
        found: dict[str, Any] = json.loads(record.message or "{}")
        if "value" not in found:
            return None
        if self._hidden(record.dataset) == frozenset() and not self._orphaned(record):
            return found
        return {name: MASKED if value else value for name, value in found.items()}

    def _unsaid(self, record: QuarantineRecord) -> bool:
        """Whether something of a record is sensitive, and nobody has said what: what a source has given, before any map, is one such."""
        given = record.dataset in self._mapped and (record.given or any(one.rule in (MAP, UNDECODABLE) for one in record.reasons))
        return bool(given and self._hidden(record.dataset)) or self._orphaned(record)

    def _orphaned(self, record: QuarantineRecord) -> bool:
        """Whether something of a record is sensitive, and there is no contract that says what."""
        return record.sensitive and not self._contracts.governed(record.dataset) and not self._off


def _text(value: str | bytes | None) -> str | None:
    """Bytes that are no text as Postgres writes them."""
    return "\\x" + value.hex() if isinstance(value, bytes) else value


def moment(seconds: float | None) -> str | None:
    """Seconds since 1970 as RFC 3339 writes them, in UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def row_of(record: QuarantineRecord) -> Values:
    """The row of a record as it would be replayed: what was received, with what was set since, as far as that can be read here."""
    if not record.patch or (isinstance(record.raw, SealedValues) and not record.raw.readable):
        return record.raw
    return {**record.raw, **record.patch}


def listed(record: QuarantineRecord, masks: Masks, found: Quarantine) -> dict[str, Any]:
    """A record as `list --json` gives it. `newer`: a newer change of its key has passed."""
    types = found.types(record)
    return {
        "id": record.id,
        "dataset": record.dataset,
        "source": record.source,
        "table": record.table,
        "sink": record.sink,
        "operation": record.operation,
        "key": {name: _typed(value, types.get(name)) for name, value in (masks(record, record.key) or {}).items()},
        "position": json.loads(record.position) if record.position.startswith("{") else record.position,
        "status": record.status,
        "newer": found.newer(record),
        "reasons": [msgspec.structs.asdict(reason) for reason in masks.reasons(record)],
        "group": record.group,
        "attempts": record.attempts,
        "quarantined_at": moment(record.quarantined_at),
    }


def _typed(value: str | None, kind: str | None) -> object:
    """Whole numbers and truth values as JSON has them; everything else is Postgres' text."""
    if value is None or kind is None or value == MASKED:
        return value
    if kind in _WHOLE_NUMBERS and value.lstrip("-").isdecimal():
        return int(value)
    return value == "t" if kind == "boolean" and value in ("t", "f") else value


def shown(record: QuarantineRecord, masks: Masks, found: Quarantine, *, story: bool = True) -> dict[str, Any]:
    """The whole record, as `show --json` gives it: values are Postgres' text. Without its `story` it says less of what was done with it."""
    trace = found.trace(record)
    return {
        **listed(record, masks, found),
        "committed_at": moment(record.committed_at / 1e6),
        "ordinal": record.ordinal,
        "trace_id": trace,
        "raw": masks.message(record) or masks(record, record.raw),
        "before": masks(record, record.before),
        "after": masks(record, record.after),
        "contract": record.contract,
        "contract_version": record.contract_version,
        "rules_hash": record.rules_hash,
        "owner": record.owner,
        "patch": masks(record, record.patch),
        "patched_by": record.patched_by,
        "approved_by": record.approved_by,
        "resolved_at": moment(record.resolved_at),
        "resolution": record.resolution,
        "audit": [
            {"at": moment(record.quarantined_at), "step": "quarantined", "by": record.sink or "gate"},
            *(found.steps(record) if story else ()),
        ],
    }
