"""Rules that compare a change with the one before it, in an audit: asked again of changes whose earlier one is known for certain.

What passed last for a key is in the journal: the change of it before, if that is in the window. The old row in the log is it only where
nothing was ever held back or dropped. What has neither is left out, and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dataflows.audit_windows import Window
from dataflows.earlier_values import EarlierValues
from dataflows.trial_rows import Rows, together
from journal.batch import ChangeBatch, Longs, Mask, Op
from journal.windows import Piece
from pipeline.errors import SluiceError
from quality.auditor import GATE, HOLDS_BACK, Contested, Finding, Trouble, meant_for
from quality.chains import Earlier, holder
from quality.contract import Contract
from quality.gate import Gate
from quality.judgement import Tried
from quality.rules import Action, Rule, Scope

_ROWS_TOLD = 20
IN_A_LOOKUP = "a lookup may hold something else now than it did then"
BEFORE_THE_WINDOW = "what their rows were before came before the window"


@dataclass(frozen=True, slots=True)
class AuditedSteps:
    """What was found of rules over steps, and the changes that rows in it are of."""

    batch: ChangeBatch | None
    findings: Sequence[Finding]


def left_out(rule: Rule, why: str, rows: int | None = None) -> Finding:
    """What is said of a rule that is not asked again."""
    observed: dict[str, Any] = {"not_judged": why} if rows is None else {"not_judged": rows, "why": why}
    return Finding(rule, "left-out", "arrow", 0, observed=observed)


def audited_steps(
    contract: Contract, window: Window, current: Callable[[ChangeBatch], Mask], plain: Callable[[ChangeBatch], Collection[str] | None]
) -> AuditedSteps:
    """Asks the rules of a contract that compare changes again, of what is fresh in a window.

    `current`: bool[n] of the changes that were judged by the contract as it is, and by none other since; `plain` gives the columns that
    are what the gate saw, None for all.
    """
    rules = [rule for rule in contract.rules if rule.scope is Scope.KEY]
    pieces = [piece for piece in (*window.older, *window.fresh) if piece.seq > window.copied]
    if not rules or not pieces:
        return AuditedSteps(None, [left_out(rule, BEFORE_THE_WINDOW, 0) for rule in rules])
    first = min(piece.seq for piece in window.fresh) if window.fresh else 0
    *_, rows = together([_rows(piece, first, contract, current) for piece in pieces])  # the last ones of one shape
    batch = rows.batch
    known = plain(pieces[-1].batch)
    asked = [rule for rule in rules if known is None or set(rule.columns) <= set(known)]
    memory = _Passed(contract, trust_log=window.never_held)
    passing = [replace(rule, action=Action.WARN) for rule in asked]  # all of these changes have passed, whatever is said of them now
    try:
        tried = Gate(replace(contract, rules=passing, breaker=None), batch.schema, memory).tried(batch)
    except SluiceError as error:
        return AuditedSteps(batch, [left_out(rule, error.message) for rule in rules])
    counted = np.asarray((rows.kinds == _FRESH) & memory.certain(rows.created))
    others = [left_out(rule, "the columns are not as the gate saw them") for rule in rules if rule not in asked]
    return AuditedSteps(batch, [*(_finding(rule, batch, tried, counted, rows.kinds == _FRESH) for rule in asked), *others])


_OLDER, _FRESH = 0, 1


def _rows(piece: Piece, first: int, contract: Contract, current: Callable[[ChangeBatch], Mask]) -> Rows:
    """The rows of an entry, with whether they are fresh, and in place of `created` whether they were judged as they would be now."""
    n = len(piece.batch)
    judged = np.zeros(n, np.bool_) if piece.replayed else current(piece.batch)
    kinds = np.full(n, _FRESH if piece.seq >= first else _OLDER, np.uint8)
    return Rows.of(piece.batch, kinds, contract.columns)._replace(created=judged)


class _Passed:
    """What passed before each change of one batch, all of which have passed."""

    def __init__(self, contract: Contract, *, trust_log: bool) -> None:
        self._contract = contract
        self._trust_log = trust_log
        self._parent: Longs = np.zeros(0, np.int64)

    def earlier(self, batch: ChangeBatch, columns: Sequence[str]) -> Earlier:
        """As EarlierValues that remember nothing; all that is before the batch is unknown."""
        found = EarlierValues({batch.dataset: self._contract}).earlier(batch, columns)
        self._parent = found.parent
        nothing = pa.nulls(len(batch), pa.string())
        old = found.old if self._trust_log else dict.fromkeys(columns, nothing)
        return replace(found, old=old, unknown=~found.fresh)

    def late(self, batch: ChangeBatch, kept: Mask) -> Mask:
        """None is: it would not be here."""
        return np.zeros(len(batch), np.bool_)

    def certain(self, current: Mask) -> Mask:
        """bool[n]: changes that are `current`, as are all that they come after."""
        if not len(self._parent):
            return current
        certain: Mask = current & current[holder(self._parent, current)]
        return certain


def _finding(rule: Rule, batch: ChangeBatch, tried: Tried, counted: Mask, fresh: Mask) -> Finding:
    n = len(batch)
    meant = meant_for(rule, batch) & np.isin(batch.op, (Op.INSERT, Op.UPDATE))  # a copied row is compared with nothing
    unknown: Mask = np.zeros(n, np.bool_)
    unknown[tried.unknown.get(rule.id, np.zeros(0, np.int64))] = True
    judged: npt.NDArray[np.bool_] = counted & meant & ~unknown
    failed = np.zeros(n, np.bool_)
    failed[tried.broken.get(rule.id, np.zeros(0, np.int64))] = True
    failed &= judged
    rows = int(np.count_nonzero(judged))
    skipped = int(np.count_nonzero(fresh & meant & ~judged & (batch.op == Op.UPDATE)))  # an insert seldom comes after anything
    observed = {"not_judged": skipped, "why": BEFORE_THE_WINDOW} if skipped else None
    if not rows:
        return left_out(rule, BEFORE_THE_WINDOW, skipped)
    count = int(np.count_nonzero(failed))
    if not count or rule.action not in HOLDS_BACK:
        return Finding(rule, "agrees", "arrow", rows, count, observed)
    said = f"the gate has not judged {count} of {rows} rows by {rule.id} as they are judged now"
    told = [Contested(row, "passes", "fails", None) for row in np.flatnonzero(failed)[:_ROWS_TOLD].tolist()]
    return Finding(rule, "differs", "arrow", rows, count, observed, [Trouble(GATE, said, told, count)])
