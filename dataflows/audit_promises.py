"""What a dataset has to keep as a whole: that nothing was lost, that it is fresh, and how much of it is delivered."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from dataflows.audit_windows import Balance
from journal.audits import AuditPlace, Audits
from journal.reading import JournalReader
from journal.state import State
from journal.windows import Standing
from quality.contract import Contract

COUNTS, UNAUDITED, FRESHNESS, LATENCY, COMPLETENESS = "counts", "unaudited", "freshness", "latency", "completeness"
TRIPPED = "breaker"
"""Kinds of incidents; see docs/auditor.md."""

_DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Promises:
    """Those of one dataset, looked at once, at `now` (seconds since 1970)."""

    audits: Audits
    dataset: str
    contract: Contract
    now: float

    def balanced(self, balance: Balance, place: AuditPlace) -> None:
        """What the ledger says against what is in the journal."""
        if balance.lacking:
            missing = "are not in the journal" if balance.lacking > 0 else "are in the journal and were never counted"
            message = f"{abs(balance.lacking)} changes {missing}: the ledger and the entries do not agree"
            self._seen(COUNTS, "", message, changes=balance.lacking)
        else:
            self._over(COUNTS)
        if balance.gone:
            message = (
                f"{balance.gone} changes were delivered and gone before they were audited; {place.unaudited} so far:"
                " give the journal a longer `retention`, or the audit a shorter `every`"
            )
            self._seen(UNAUDITED, "", message, changes=balance.gone, so_far=place.unaudited)
        else:
            self._over(UNAUDITED)

    def kept(self, reader: JournalReader, standing: Standing) -> None:
        """Freshness, of the newest commit at a source; and the share that was delivered of what came within a day."""
        for level in self.contract.service_levels:
            if level.property == FRESHNESS and standing.tally.last_time:
                age = self.now - standing.tally.last_time / 1e6
                message = f"the newest change was committed {_span(age)} ago; {_span(level.seconds())} are promised"
                self._compared(FRESHNESS, age > level.seconds(), message, observed=round(age, 3), promised=level.seconds())
            if level.property == COMPLETENESS:
                lines = [minute.tally for minute in reader.minutes(self.dataset, self.now - _DAY)]
                rows = sum(one.rows for one in lines)
                lacking = sum(one.undelivered + one.dropped for one in lines)
                share = 1.0 if rows <= 0 else (rows - lacking) / rows
                message = f"{share:.2%} of the changes of a day were delivered; {level.share():.2%} are promised"
                self._compared(COMPLETENESS, share < level.share(), message, observed=share, promised=level.share(), changes=rows)

    def arrived(self, seconds: float | None) -> None:
        """How long after its commit at the source the newest change was in the journal."""
        for level in self.contract.service_levels if seconds is not None else ():
            if level.property == LATENCY and seconds is not None:
                message = f"the newest change was here {_span(seconds)} after its commit; {_span(level.seconds())} are promised"
                self._compared(LATENCY, seconds > level.seconds(), message, observed=round(seconds, 3), promised=level.seconds())

    def _compared(self, kind: str, broken: bool, message: str, **detail: Any) -> None:
        if broken:
            self._seen(kind, kind, message, **detail)
        else:
            self._over(kind)

    def _seen(self, kind: str, rule: str, message: str, **detail: Any) -> None:
        self.audits.seen(self.dataset, kind, rule, {"message": message, "contract_version": self.contract.version, **detail}, self.now)

    def _over(self, kind: str) -> None:
        self.audits.over(self.dataset, kind, self.now)


def breakers(state: State, audits: Audits, datasets: Collection[str], now: float) -> None:
    """What ingest says of the breakers of these datasets, as incidents."""
    tripped: dict[str, str] = {}
    for told in state.sources().values():
        tripped |= told.get("breakers") or {}
    for dataset in datasets:
        if dataset in tripped:
            audits.seen(dataset, TRIPPED, "", {"message": tripped[dataset]}, now)
        else:
            audits.over(dataset, TRIPPED, now)


def tidy(audits: Audits, rules: Mapping[str, Contract], now: float) -> None:
    """Ends the incidents of datasets, rules and promises that there are no more, and forgets what is old."""
    audits.over_but(list(rules), now)
    for name, contract in rules.items():
        known = ["", *(rule.id for rule in contract.rules), *(level.property for level in contract.service_levels)]
        audits.over_unknown(name, known, now)
    audits.forget(now)


def _span(seconds: float) -> str:
    """A length of time for people."""
    for unit, size in (("d", _DAY), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
