"""From rows that are held back to records in quarantine. The only place where a row becomes a Python object, and only a bad one."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pyarrow as pa

from journal.batch import ChangeBatch, Op, Presence
from journal.quarantine import QuarantineRecord, Reason, Values, record_id
from quality.gate import Gate
from quality.judgement import QuarantinedRow
from sinks.base import RefusedRow

REFUSED = "sink"
"""The rule that a row breaks which its target cannot hold."""


def judged_records(
    journal: str, owner: str | None, batch: ChangeBatch, rows: Sequence[QuarantinedRow], gate: Gate | None
) -> list[QuarantineRecord]:
    """Records of rows that the gate holds back. `owner` is the pipeline's, for a contract that names none."""
    contract = None if gate is None else gate.contract
    return _records(
        journal,
        batch,
        [row.row for row in rows],
        [row.reasons for row in rows],
        owner=(contract.owner if contract else None) or owner,
        contract=contract.id if contract else None,
        contract_version=contract.version if contract else None,
        rules_hash=contract.fingerprint if contract else None,
    )


def refused_records(journal: str, sink: str, batch: ChangeBatch, refused: Sequence[RefusedRow]) -> list[QuarantineRecord]:
    """Records of rows that one sink's target cannot hold."""
    reasons = [(Reason(REFUSED, one.column, f"the sink {sink} cannot hold it: {one.message}", None),) for one in refused]
    return _records(journal, batch, [one.row for one in refused], reasons, sink=sink)


def _records(
    journal: str,
    batch: ChangeBatch,
    rows: Sequence[int],
    reasons: Sequence[tuple[Reason, ...]],
    *,
    sink: str | None = None,
    owner: str | None = None,
    contract: str | None = None,
    contract_version: str | None = None,
    rules_hash: str | None = None,
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
            if c not in batch.presence or batch.presence[c][row] == Presence.PRESENT
        }
        key: Values = {name: values[batch.schema.index(name)][place] for name in batch.schema.key}
        before: Values | None = None
        if batch.has_old is not None and batch.has_old[row]:
            before = {names[c]: column[place] for c, column in old.items()}
        op = Op(int(batch.op[row]))
        lsn = int(batch.lsn[row])
        ordinal = int(batch.ordinal[row])
        records.append(
            QuarantineRecord(
                id=record_id(journal, ordinal, sink),
                dataset=batch.dataset,
                source=batch.source,
                table=batch.table,
                operation=op.word,
                key=key,
                position=f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}",
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
            )
        )
    return records
