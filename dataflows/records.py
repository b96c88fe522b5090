"""From rows that are held back to records in quarantine. The only place where a row becomes a Python object, and only a bad one."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
from msgspec import structs

from dataflows.build import source_kind
from journal.batch import ChangeBatch, Op, Payload, Presence
from journal.quarantine import QuarantineRecord, Reason, Values, record_id
from journal.trace_context import Headers, Traces, contexts_of, headers_of
from pipeline.model import Pipeline
from quality.judgement import QuarantinedRow
from sinks.base import RefusedRow
from sources.base import KEY_PREFIX

if TYPE_CHECKING:
    from quality.gate import Gate

REFUSED = "sink"
"""The rule that a row breaks which its target cannot hold."""


class Places:
    """Positions of changes in the words of their sources."""

    def __init__(self, pipeline: Pipeline, notes: Callable[[str], Mapping[str, str]]) -> None:
        """`notes` gives those of a source; see Segment.notes."""
        self._kinds = {name: source_kind(block) for name, block in pipeline.sources.items()}
        self._notes = notes

    def __call__(self, batch: ChangeBatch, row: int) -> str:
        return self._kinds[batch.source].place(batch.table, int(batch.lsn[row]), int(batch.nth[row]), self._notes(batch.source))


Place = Callable[[ChangeBatch, int], str]


def judged_records(
    journal: str, place: Place, owner: str | None, batch: ChangeBatch, rows: Sequence[QuarantinedRow], gate: Gate | None
) -> list[QuarantineRecord]:
    """Records of rows that the gate holds back. `owner` is the pipeline's, for a contract that names none."""
    contract = None if gate is None else gate.contract
    return _records(
        journal,
        place,
        batch,
        [row.row for row in rows],
        [row.reasons for row in rows],
        owner=(contract.owner if contract else None) or owner,
        contract=contract.id if contract else None,
        contract_version=contract.version if contract else None,
        rules_hash=contract.fingerprint if contract else None,
        sensitive=contract is not None and contract.sensitive,
    )


def refused_records(journal: str, place: Place, sink: str, batch: ChangeBatch, refused: Sequence[RefusedRow]) -> list[QuarantineRecord]:
    """Records of rows that one sink's target cannot hold."""
    reasons = [(Reason(REFUSED, one.column, f"the sink {sink} cannot hold it: {one.message}", None),) for one in refused]
    return _records(journal, place, batch, [one.row for one in refused], reasons, sink=sink)


def _records(
    journal: str,
    place_of: Place,
    batch: ChangeBatch,
    rows: Sequence[int],
    reasons: Sequence[tuple[Reason, ...]],
    *,
    sink: str | None = None,
    owner: str | None = None,
    contract: str | None = None,
    contract_version: str | None = None,
    rules_hash: str | None = None,
    sensitive: bool = False,
) -> list[QuarantineRecord]:
    if not rows:
        return []
    index = pa.array(rows, pa.int64())
    names = batch.schema.names
    values = [column.take(index).to_pylist() for column in batch.columns]
    old = {c: column.take(index).to_pylist() for c, column in batch.old.items()}
    raw_bytes = {(defect.row, defect.column): defect.raw for defect in batch.defects}
    now = time.time()
    records = []
    for place, row in enumerate(rows):
        received: dict[str, str | bytes | None] = {
            name: raw_bytes.get((row, name), values[c][place])
            for c, name in enumerate(names)
            if (c not in batch.presence or batch.presence[c][row] == Presence.PRESENT) and not name.startswith(KEY_PREFIX)
        }
        key: Values = {name: values[batch.schema.index(name)][place] for name in batch.schema.key}
        before: Values | None = None
        if batch.has_old is not None and batch.has_old[row]:
            before = {names[c]: column[place] for c, column in old.items()}
        op = Op(int(batch.op[row]))
        ordinal = int(batch.ordinal[row])
        records.append(
            QuarantineRecord(
                id=record_id(journal, ordinal, sink),
                dataset=batch.dataset,
                source=batch.source,
                table=batch.table,
                operation=op.word,
                key=key,
                position=place_of(batch, row),
                ordinal=ordinal,
                committed_at=int(batch.time[row]),
                raw=received,
                before=received if op is Op.DELETE else before,
                after=None if op is Op.DELETE else received,
                reasons=reasons[place],
                quarantined_at=now,
                contract=contract,
                contract_version=contract_version,
                rules_hash=rules_hash,
                sink=sink,
                owner=owner,
                message=_message(batch, row),
                sensitive=sensitive,
            )
        )
    return records


_FOR, _WITHOUT = "; the copy for the sink ", " is without it"


def for_sink(record: QuarantineRecord, sink: str) -> QuarantineRecord:
    """A record of a row that one sink alone lacks, as it came with a copy for that sink."""
    return structs.replace(
        record, reasons=tuple(structs.replace(one, message=f"{one.message}{_FOR}{sink}{_WITHOUT}") for one in record.reasons)
    )


def meant_for(record: QuarantineRecord) -> str | None:
    """The sink that alone lacks the row of a record; None where all do."""
    _, told, rest = record.reasons[0].message.rpartition(_FOR)
    return rest.removesuffix(_WITHOUT) if told and rest.endswith(_WITHOUT) else None


def _message(batch: ChangeBatch, row: int) -> str | None:
    """See QuarantineRecord.message. What has gone through the journal has only its trace context left."""
    if batch.payloads is not None:
        return _told(batch.payloads.row(row))
    context = None if batch.traces is None else batch.traces[row].as_py()
    return None if context is None else json.dumps({"headers": _headers(headers_of(context))})


def trace_id(traces: Traces, record: QuarantineRecord) -> str:
    """The trace that a record belongs to."""
    received = [] if record.message is None else json.loads(record.message)["headers"]
    contexts = contexts_of([[(name, base64.b64decode(value)) for name, value in received]])
    return traces.id(record.ordinal, None if contexts is None else contexts[0].as_py())


def _told(payload: Payload) -> str:
    key, value = (None if part is None else base64.b64encode(part).decode("ascii") for part in (payload.key, payload.value))
    return json.dumps({"key": key, "value": value, "headers": _headers(payload.headers)})


def _headers(given: Headers) -> list[list[str]]:
    return [[name, base64.b64encode(content).decode("ascii")] for name, content in given]
