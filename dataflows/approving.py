"""A contract that breaks what others rely on comes into force because somebody says so."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from journal import audit_trail
from journal import contracts as kept_contracts
from journal.audit_trail import Step
from journal.inbox import Request
from journal.local import JournalWriter
from pipeline.errors import ConfigError

APPROVE_CONTRACT = "approve-contract"


def approve_contract(journal: JournalWriter, request: Request) -> dict[str, Any]:
    """Puts the text that a request brings into force, from the next change on, and tells the audit trail by whom.

    Raises ConfigError for a contract that is not sound, or when nobody is named.
    """
    from quality.contract_reading import load_contract

    content: Mapping[str, Any] = request.content
    by, dataset = str(content.get("by") or "").strip(), str(content["dataset"])
    if not by:
        raise ConfigError("nobody is named who approves it", hint="--by NAME")
    contract = load_contract(Path(content["file"]), str(content["text"]))
    with journal.view() as db:
        former = kept_contracts.in_force(db).get(dataset)
    if former is not None and former.text == contract.text:
        return _answer(dataset, former.version, former.version, changed=False)
    since = journal.next_ordinal
    detail = {
        "request": request.id,
        "contract": contract.id,
        "version": contract.version,
        "fingerprint": contract.fingerprint,
        "former": None if former is None else former.version,
        "since": since,
    }
    with journal.changing() as db:
        kept_contracts.put(db, dataset, (contract.id, contract.version, contract.fingerprint), contract.text, since, by)
        audit_trail.add(db, Step(APPROVE_CONTRACT, by, dataset, detail=detail, system_user=content.get("system_user")))
    journal.commit_beside()
    return _answer(dataset, None if former is None else former.version, contract.version, changed=True)


def _answer(dataset: str, former: str | None, version: str, *, changed: bool) -> dict[str, Any]:
    return {"code": 0, "dataset": dataset, "former": former, "version": version, "changed": changed}
