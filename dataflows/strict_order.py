"""Datasets whose contract says `order: strict`: a change waits while an earlier one of its key is in quarantine, in a lane of its own.

A change that waits is a record of quarantine itself, which breaks the rule `order`, and makes the next one wait; one that takes another key
makes that key wait, too. A truncate ends all lanes of its dataset, a copied row that of its key: what they bring is newer than all of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from dataflows.mapping import Mapped
from journal.batch import ChangeBatch, Longs, Mask, Op
from journal.key_hash import Hashes, key_hashes
from journal.quarantine import QuarantineRecord, key_text, record_id, values_of
from journal.queueing import waiting_for
from journal.sitting import SittingKeys, hashes_of, key_texts, keys_of, touched_keys
from quality.judgement import Judgement, QuarantinedRow
from sinks.base import NO_ROWS

if TYPE_CHECKING:
    from dataflows.waiting import Part
    from journal.local import JournalWriter
    from quality.contract import Contract

Waits = Mapping[int, str]
"""Row of a batch -> the id of the record that it waits for."""


class _Lane:
    """Of a key: the ordinals of its newest record, and of the newest change that has ended the lane."""

    __slots__ = ("ended", "last")

    def __init__(self, last: int = 0, ended: int = 0) -> None:
        self.last = last
        self.ended = ended

    def until(self, ordinal: int) -> int:
        """The record that a change with this ordinal waits for; 0: none."""
        return self.last if self.ended < self.last < ordinal else 0


class StrictOrder:
    """Who waits for whom. Of one thread, the one that judges and writes the journal.

    What has been judged and is not in the journal yet is known here: see `written`.
    """

    def __init__(self, journal: str, sitting: SittingKeys, datasets: Collection[str]) -> None:
        """`journal` is the id of the journal, `datasets` are those whose order is strict."""
        self._journal = journal
        self._sitting = sitting
        self._datasets = frozenset(datasets)
        self._fresh: dict[str, dict[str, _Lane]] = {}  # by dataset and key
        self._fresh_hashes: dict[str, set[int]] = {}
        self._cleared: dict[str, int] = {}  # by dataset: its last truncate
        self._judged: dict[str, int] = {}  # by dataset: up to which ordinal

    def applied(
        self, batch: ChangeBatch, judgement: Judgement, others: Sequence[QuarantineRecord] = (), steps: Collection[str] = ()
    ) -> Judgement:
        """The verdict on a batch, of which some rows have to wait, too. `others` are records that came with it and are not in it.

        What rules over `steps` say of a row that waits is left out: what will be before it when its turn comes, nobody knows yet.
        """
        held = np.zeros(len(batch), np.bool_)
        held[[row.row for row in judgement.quarantined]] = True
        gone = np.zeros(len(batch), np.bool_)
        for rule, rows in judgement.dropped.items():
            if rule not in steps:
                gone[rows] = True
        waits = self.waits(batch, held, gone, others)
        if not waits:
            return judgement
        reasons = {row.row: row.reasons for row in judgement.quarantined}
        for row, record in waits.items():
            reasons[row] = (*(one for one in reasons.get(row, ()) if one.rule not in steps), waiting_for(record))
        passed = judgement.passed.copy()
        passed[list(waits)] = False
        left = {rule: rows[~np.isin(rows, list(waits))] for rule, rows in judgement.dropped.items()}
        return replace(
            judgement,
            passed=passed,
            quarantined=tuple(QuarantinedRow(row, reasons[row]) for row in sorted(reasons)),
            dropped={rule: rows for rule, rows in left.items() if len(rows)},
        )

    def enriched(self, batch: ChangeBatch, mapped: Mapped, part: Part | None = None) -> Mapped:
        """What was made of a batch behind its contract, without rows that have to wait. `part` of it waits for a lookup already."""
        failed = NO_ROWS if mapped.failed is None else np.searchsorted(batch.ordinal, mapped.failed.ordinal)
        held = np.zeros(len(batch), np.bool_)
        held[failed] = True
        waits = self.waits(batch, held, None if part is None else np.isin(batch.ordinal, part.batch.ordinal))
        if not waits:
            return mapped
        reasons = {row: one.reasons for row, one in zip(failed.tolist(), mapped.rows, strict=True)}
        for row, record in waits.items():
            reasons[row] = (*reasons.get(row, ()), waiting_for(record))
        rows = np.array(sorted(reasons), np.int64)
        index = pa.array(rows)
        values = zip(*(batch.column(name).take(index).to_pylist() for name in batch.schema.key), strict=True)
        known = dict(zip(failed.tolist(), mapped.keys, strict=True))
        keys = [known.get(row, dict(zip(batch.schema.key, key, strict=True))) for row, key in zip(rows.tolist(), values, strict=True)]
        return Mapped(
            mapped.passed.take(~np.isin(mapped.passed.ordinal, batch.ordinal[rows])),
            replace(batch.take(rows), defects=()),
            [QuarantinedRow(place, reasons[row]) for place, row in enumerate(rows.tolist())],
            keys,
        )

    def waits(self, batch: ChangeBatch, held: Mask, gone: Mask | None = None, others: Sequence[QuarantineRecord] = ()) -> Waits:
        """Which rows of a batch have to wait, those that are `held` back for other reasons among them.

        Rows that are `gone` concern nobody. `others` are records that came with the batch and are not in it. Called again for rows of a
        batch it counts only what is held back besides.
        """
        if batch.dataset not in self._datasets or batch.sink is not None or not batch.schema.key or not len(batch):
            return {}
        if not (held.any() or others or self._sitting.sit(batch.dataset) or self._fresh.get(batch.dataset)):
            return {}
        keys, rows = touched_keys(batch)
        hashes = key_hashes(keys)
        apart = hashes_of([key for record in others for key in keys_of(record)])
        chosen = self._concerned(batch, hashes, rows, held, apart)
        if gone is not None:
            chosen &= ~gone
        cleared = batch.op == Op.TRUNCATE
        if not (chosen.any() or len(others) or cleared.any()):
            return {}
        walk = _Walk(self, batch, _texts(batch, keys, rows, chosen))
        walk.go(np.flatnonzero(chosen | cleared), held, others)
        self._remember(batch, walk)
        return {row: record_id(self._journal, ordinal) for row, ordinal in walk.waits.items()}

    def _concerned(self, batch: ChangeBatch, hashes: Hashes, rows: Longs, held: Mask, apart: Hashes) -> Mask:
        """bool[n]: rows of keys that sit, or may come to sit within the batch; others of the same hashes, too."""
        fresh = np.array(sorted(self._fresh_hashes.get(batch.dataset, ())), np.uint64)
        known = np.concatenate([fresh, apart])
        touched = held[rows]
        touched[self._sitting.candidates(batch.dataset, hashes)] = True
        if len(known):
            touched |= np.isin(hashes, known)
        chosen = np.zeros(len(batch), np.bool_)
        while touched.any():
            chosen[rows[touched]] = True
            spread = np.isin(hashes, hashes[chosen[rows]])  # a row that waits makes all of its keys wait
            if (spread == touched).all():
                break
            touched = spread
        return chosen

    def lane(self, dataset: str, key: str, before: int) -> _Lane:
        """That of a key as it is for changes from the ordinal `before` on, of what was judged earlier."""
        fresh = self._fresh.get(dataset, {}).get(key, _Lane())
        ended = max(fresh.ended, self._cleared.get(dataset, 0))
        last = fresh.last if ended < fresh.last < before else self._sitting.last(dataset, key)
        return _Lane(last if last < before else 0, ended if ended < before else 0)

    def _remember(self, batch: ChangeBatch, walk: _Walk) -> None:
        dataset = batch.dataset
        fresh = self._fresh.setdefault(dataset, {})
        changed = {key: lane for key, lane in walk.lanes.items() if max(lane.last, lane.ended) >= walk.first}
        for key, lane in changed.items():
            known = fresh.setdefault(key, _Lane())
            known.last, known.ended = max(known.last, lane.last), max(known.ended, lane.ended)
        keys = [values_of(key) or {} for key in changed]
        self._fresh_hashes.setdefault(dataset, set()).update(hashes_of(keys).tolist())
        self._cleared[dataset] = max(self._cleared.get(dataset, 0), walk.cleared)
        self._judged[dataset] = max(self._judged.get(dataset, 0), int(batch.ordinal[-1]))

    def written(self, dataset: str, ordinal: int) -> None:
        """The journal has everything of a dataset up to this ordinal."""
        if dataset in self._fresh and ordinal >= self._judged[dataset]:
            del self._fresh[dataset], self._fresh_hashes[dataset]


class _Walk:
    """Goes through the rows of a batch that may wait, one after the other."""

    def __init__(self, order: StrictOrder, batch: ChangeBatch, texts: Mapping[int, Sequence[str]]) -> None:
        self._order = order
        self._batch = batch
        self._texts = texts
        self.first = int(batch.ordinal[0])
        self.lanes: dict[str, _Lane] = {}
        self.cleared = 0
        self.waits: dict[int, int] = {}

    def go(self, rows: Longs, held: Mask, others: Sequence[QuarantineRecord]) -> None:
        """`held` rows, and the `others`, are in quarantine anyway."""
        self.first = min([self.first, *(record.ordinal for record in others)])
        ops, ordinals = self._batch.op[rows].tolist(), self._batch.ordinal[rows].tolist()
        changes = [(ordinal, row, op) for ordinal, row, op in zip(ordinals, rows.tolist(), ops, strict=True)]
        apart = {record.ordinal: [key_text(key) for key in keys_of(record)] for record in others}
        for ordinal, row, op in sorted([*changes, *((ordinal, -1, 0) for ordinal in apart)]):
            if op == Op.TRUNCATE:
                self.cleared = ordinal
                self.lanes = {key: _Lane(0, ordinal) for key in self.lanes}
                continue
            keys = apart[ordinal] if row < 0 else self._texts[row]
            lanes = [self._lane(key) for key in keys]
            before = max((lane.until(ordinal) for lane in lanes), default=0)
            if op == Op.READ:
                before = 0
                for lane in lanes:
                    lane.ended = ordinal - 1 if held[row] else ordinal
            if before and row >= 0:
                self.waits[row] = before
            if before or row < 0 or held[row]:
                for lane in lanes:
                    lane.last = ordinal

    def _lane(self, key: str) -> _Lane:
        if key not in self.lanes:
            self.lanes[key] = _Lane(0, self.cleared) if self.cleared else self._order.lane(self._batch.dataset, key, self.first)
        return self.lanes[key]


def strict_order(journal: JournalWriter, contracts: Mapping[str, Contract]) -> StrictOrder | None:
    """What keeps changes waiting for records of their keys; None where no contract wants it."""
    strict = {name for name, contract in contracts.items() if contract.order == "strict"}
    return StrictOrder(journal.id, journal.sitting, strict) if strict else None


def _texts(batch: ChangeBatch, keys: Sequence[pa.StringArray], rows: Longs, chosen: Mask) -> dict[int, list[str]]:
    """Row -> the keys that it touches, of the chosen rows; one that is not known whole is none."""
    whole = chosen[rows]
    for key in keys:
        whole &= ~np.asarray(key.is_null())
    whole &= batch.op[rows] != Op.TRUNCATE
    found: dict[int, list[str]] = {row: [] for row in np.flatnonzero(chosen).tolist()}
    at = np.flatnonzero(whole)
    for row, text in zip(rows[at].tolist(), key_texts(batch.schema.key, keys, at), strict=True):
        found[row].append(text)
    return found
