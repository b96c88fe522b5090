"""Records of datasets whose order is strict: which of them go on next, and which have to go back and wait.

Statements on the journal, inside the open transaction of whoever writes it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence

from journal.quarantine import QuarantineRecord, Reason, key_text, reasons_text
from journal.sitting import keys_of

ORDER = "order"
"""The rule that a change breaks which waits for an earlier one of its key."""

_WAITS_BEHIND = "waits behind "
_AT_ONCE = 1000  # records of a key that are let go together


def waiting_for(record: str) -> Reason:
    """Why a change waits for the record with this id."""
    return Reason(ORDER, None, f"{_WAITS_BEHIND}{record}", None)


def waits(reason: Reason) -> bool:
    """Whether that is the reason."""
    return reason.rule == ORDER and reason.column is None and reason.message.startswith(_WAITS_BEHIND)


def let_go(db: sqlite3.Connection, ended: Iterable[QuarantineRecord]) -> dict[str, list[int]]:
    """What comes next under the keys of records that have come to their end is replayed, as far as it only waited: dataset -> ordinals.

    What was to be replayed before its time has the number of that request; the others get theirs from the caller.
    """
    found: dict[str, set[int]] = {}
    reached: dict[tuple[str, str], int] = {}  # by key: how far has been looked
    for record in sorted(ended, key=lambda one: one.ordinal):
        for key in map(key_text, keys_of(record)):
            if record.ordinal < reached.get((record.dataset, key), 0):
                continue
            for ordinal, status, reasons, replay in _behind(db, record, key):
                reached[record.dataset, key] = ordinal
                asked = status == "approved" and replay is not None
                if status != "replaying" and not asked and not (status == "open" and _only_waits(reasons)):
                    break
                if status != "replaying":
                    found.setdefault(record.dataset, set()).add(ordinal)
    return {dataset: sorted(ordinals) for dataset, ordinals in found.items()}


def _behind(db: sqlite3.Connection, record: QuarantineRecord, key: str) -> list[tuple[int, str, str, int | None]]:
    """The next records of a key (as text): ordinal, status, reasons, and by what they are replayed."""
    return db.execute(
        """select lane.ordinal, status, reasons, replay from lane join quarantine on quarantine.ordinal = lane.ordinal
           where lane.dataset = ? and lane.key = ? and lane.ordinal > ? order by lane.ordinal limit ?""",
        (record.dataset, key, record.ordinal, _AT_ONCE),
    ).fetchall()


def _only_waits(reasons: str) -> bool:
    return all(waits(Reason(**reason)) for reason in json.loads(reasons))


def send(db: sqlite3.Connection, ordinals: Sequence[int], number: int) -> None:
    """They are replayed from now on: those that nobody asked for under this number."""
    query = "update quarantine set status = 'replaying', replay = coalesce(replay, ?) where ordinal in (select value from json_each(?))"
    db.execute(query, (number, json.dumps(ordinals)))


def send_back(db: sqlite3.Connection, records: Sequence[QuarantineRecord], behind: Mapping[int, str]) -> None:
    """Records that cannot be replayed before others (`behind`: ordinal -> the id of the one) wait again."""
    rows = []
    for record in records:
        own = [reason for reason in record.reasons if not waits(reason)]
        # what somebody has approved stays so, and goes on by itself when it is its turn
        status = "approved" if record.approved_by is not None else "open"
        reasons = reasons_text([*own, waiting_for(behind[record.ordinal])])
        rows.append((status, reasons, record.ordinal))
    db.executemany("update quarantine set status = ?, reasons = ? where ordinal = ?", rows)
