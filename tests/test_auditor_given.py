"""A row that no map has made is no row that the gate's rules have judged: the auditor has nothing to say of it."""

from __future__ import annotations

import time
from pathlib import Path

from dataflows.build import contracts
from journal.quarantine import QuarantineRecord, Reason, record_id
from pipeline.load import load_pipeline
from quality.judgement import UNDECODABLE
from tests.audit_place import PIPELINE, AuditPlace

_BODY = """\
    properties:
      - {name: id, logicalType: integer, primaryKey: true}
      - {name: email, logicalType: string, required: true}
"""


def test_a_message_that_could_not_be_read_breaks_no_rule_for_the_auditor(tmp_path: Path) -> None:
    place = AuditPlace(tmp_path, _BODY, {"id": "bigint", "email": "text"})
    try:
        place.send(place.batch([["1", "ann@example.com"], ["2", "bo@example.com"]]))
        ordinal = place.journal.next_ordinal
        unread = QuarantineRecord(
            id=record_id(place.journal.id, ordinal), dataset="orders", source="db", table="public.orders", operation="insert", key={},
            position="0/1", ordinal=ordinal, committed_at=int(time.time() * 1e6), raw={"id": None, "email": None}, before=None, after=None,
            reasons=(Reason(UNDECODABLE, "email", "expected text"),), quarantined_at=time.time(), contract="orders",
            contract_version="1.0.0", rules_hash=contracts(place.pipeline)["orders"].fingerprint, given=1,
        )  # fmt: skip
        place.journal.quarantine([unread])
        place.journal.commit("db", "2")
        place.again()
        place.send(place.batch([["8", "ann@example.com"]]))
        (tmp_path / "orders.sql").write_text("SELECT id, email FROM input")
        place.file.write_text(PIPELINE.replace("{from: db.public.orders,", "{from: {source: db.public.orders, map: orders.sql},"))
        place.pipeline = load_pipeline(place.file)
        place.audit()
        assert [(one.kind, one.rule) for one in place.audits.incidents("orders")] == []
    finally:
        place.close()
