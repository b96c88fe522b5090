"""Records whose rules are others now than those that held them back: they may be approved as they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import structlog

from journal import audit_trail, handling
from journal.audit_trail import Step
from journal.local import JournalWriter

if TYPE_CHECKING:
    from quality.contract import Contract

log = structlog.get_logger("sluice.ingest")

_KEPT = "rules "
"""Before a dataset's name, in what the journal keeps: what the rules in force asked, by id, when records were last looked over."""


def mark_changed(journal: JournalWriter, contracts: Mapping[str, Contract]) -> None:
    """Where the contract in force is another one than before, open records become `rule-changed` that broke a rule which asks something
    else now, or is gone. One transaction; nothing where nothing is new."""
    now = {name: _asked(contract) for name, contract in contracts.items()}
    with journal.view() as db:
        rows = db.execute("select name, value from kept where name between ? and ?", (_KEPT, f"{_KEPT}\U0010ffff"))
        before = {name.removeprefix(_KEPT): dict(json.loads(value)) for name, value in rows}
    if now == before:
        return
    with journal.changing() as db:
        for dataset in sorted(before.keys() | now.keys()):
            old, new = before.get(dataset, {}), now.get(dataset)
            changed = [rule for rule, asked in old.items() if new is None or new.get(rule) != asked]
            ordinals = handling.mark_changed(db, dataset, changed) if changed else []
            if ordinals:
                audit_trail.add(db, Step("rule-changed", audit_trail.SELF, dataset, ordinals, {"rules": sorted(changed)}))
                log.info("rules have changed for records in quarantine", dataset=dataset, records=len(ordinals), rules=sorted(changed))
            if new is None:
                db.execute("delete from kept where name = ?", (_KEPT + dataset,))
            elif new != old:
                db.execute("insert or replace into kept values (?, ?)", (_KEPT + dataset, json.dumps(new)))
    journal.commit_beside()


def _asked(contract: Contract) -> dict[str, str]:
    """Rule -> a digest of all that decides its verdict."""
    return {
        rule.id: audit_trail.digest([rule.kind, rule.columns, rule.action, sorted(rule.on), rule.mostly, repr(rule.asks)])
        for rule in contract.rules
    }
