"""What an audit says of a window: a line for each rule, and the incidents that it shows, or shows no more."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflows.audit_steps import IN_A_LOOKUP, audited_steps, left_out
from dataflows.audit_windows import Window
from dataflows.judged_by import read
from dataflows.map_answer import MAP
from dataflows.records_as_changes import RecordShapes
from dataflows.trial_rows import narrowed
from journal.audits import Audited
from journal.batch import ChangeBatch, Op
from journal.joining import join
from journal.quarantine import QuarantineRecord
from journal.schema import TableSchema
from journal.sealing import SealedError
from journal.windows import Piece
from pipeline.errors import ConfigError
from quality.auditor import DISAGREEMENT, GATE, NO_VERDICT, RULE, Auditor, Contested, Finding, Trouble
from quality.contract import Contract
from quality.judgement import MASKED
from quality.kernels.gx import Reference
from quality.rules import Rule

Longs = npt.NDArray[np.int64]
Place = Callable[[ChangeBatch, int], str]

_ROWS_TOLD = 20
_LONGEST = 1000  # characters of a value, or of what was observed
_JUDGED = (Op.INSERT, Op.READ, Op.UPDATE)
KINDS = (RULE, DISAGREEMENT, GATE, NO_VERDICT)
"""Kinds of incidents that a window shows, or shows no more."""


@dataclass(frozen=True, slots=True)
class Seen:
    """An incident that a window shows."""

    kind: str
    rule: str
    detail: Mapping[str, Any]


@dataclass(slots=True)
class WindowVerdict:
    """What was found in a window. `well` are the rules of which it shows that there is nothing wrong any more, by kind of incident."""

    window: Window
    lines: list[Audited] = field(default_factory=list)
    seen: dict[tuple[str, str], Seen] = field(default_factory=dict)
    well: dict[str, set[str]] = field(default_factory=lambda: {kind: set() for kind in KINDS})


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an audit has to know of the pipeline around a dataset.

    notes     of a source; see Segment.notes
    place     the position of a change in the words of its source
    shapes    the columns that records of quarantine have
    plain     columns that are what the contract has passed, of a dataset that is enriched; None where all are
    by_gate   whether what the gate said of a row can be told from where the row is
    """

    notes: Callable[[str], Mapping[str, str]]
    place: Place
    shapes: RecordShapes
    plain: Callable[[TableSchema], Collection[str] | None]
    by_gate: bool = True


class DatasetAudit:
    """One dataset under one contract. One thread."""

    def __init__(self, contract: Contract, around: Surroundings, reference: Callable[[], Reference]) -> None:
        self.contract = contract
        self._around = around
        self._reference = reference
        self._auditors: dict[tuple[str, frozenset[str] | None], Auditor] = {}

    def judge(self, window: Window, at: float, *, breaker_let_go: bool = False) -> WindowVerdict:
        """The verdict on a window. `breaker_let_go`: rows were delivered meanwhile though they broke rules."""
        verdict = WindowVerdict(window)
        sampled = self._passed(window, verdict, known=self._around.by_gate and not breaker_let_go)
        sampled += self._held_back(window, verdict)
        self._together(window, verdict)
        self._steps(window, verdict, known=self._around.by_gate and not breaker_let_go)
        batches = [piece.batch for piece in window.fresh]
        ordinals = [int(one) for batch in batches for one in (batch.ordinal.min(), batch.ordinal.max())]
        times = [int(one) for batch in batches for one in (batch.time.min(), batch.time.max())]
        engines = any(kind in (DISAGREEMENT, GATE) for kind, _ in verdict.seen)
        rows = sum(map(len, batches)) + len(window.records)
        whole = Audited(
            window.dataset, window.place.journal, window.place.seq, "", "differs" if engines else "agrees", "", rows, at,
            failed=len(window.records), observed={"sampled": sampled},
            first_ordinal=min(ordinals, default=None), last_ordinal=max(ordinals, default=None),
            first_time=min(times, default=None), last_time=max(times, default=None), contract_version=self.contract.version,
        )  # fmt: skip
        ranges = {name: getattr(whole, name) for name in ("at", "first_ordinal", "last_ordinal", "first_time", "last_time")}
        verdict.lines = [whole, *_merged([replace(one, **ranges) for one in verdict.lines])]
        return verdict

    def _auditor(self, schema: TableSchema, columns: Collection[str] | None) -> Auditor:
        key = (schema.encoded, None if columns is None else frozenset(columns))
        if key not in self._auditors:
            self._auditors[key] = Auditor(self.contract, schema, self._reference, columns)
        return self._auditors[key]

    def _passed(self, window: Window, verdict: WindowVerdict, *, known: bool) -> int:
        """Judges a sample of the rows that the gate let pass. Returns of how many rows."""
        chosen = _sample(window.fresh, self.contract.audit.sample)
        for batch, replayed in chosen:
            auditor = self._auditor(batch.schema, self._around.plain(batch.schema))
            comparable = np.full(len(batch), known and not replayed)
            if comparable.any():
                comparable &= self._by_this_contract(batch)
            for finding in auditor.rows(batch, {}, comparable):
                self._take(verdict, finding, partial(self._told_row, batch))
        return sum(len(batch) for batch, _ in chosen)

    def _by_this_contract(self, batch: ChangeBatch, *, last: bool = False) -> npt.NDArray[np.bool_]:
        """bool[n] of the rows that were judged by the contract as it is now; `last`: and by none other since."""
        lines = read(self._around.notes(batch.source), batch.dataset)
        if not lines:
            return np.zeros(len(batch), np.bool_)
        place = np.searchsorted([line.ordinal for line in lines], batch.ordinal, side="right") - 1
        ours = np.array([line.fingerprint == self.contract.fingerprint for line in lines], np.bool_)
        if last:
            ours[:-1] = False
        return np.asarray((place >= 0) & ours[np.maximum(place, 0)], np.bool_)

    def _held_back(self, window: Window, verdict: WindowVerdict) -> int:
        """Judges again what the gate held back. Returns how many records."""
        judged = 0
        for records, batch in self._changes(window.records):
            judged += len(records)
            broken = {
                rule.id: np.array([any(reason.rule == rule.id for reason in one.reasons) for one in records], np.bool_)
                for rule in self.contract.rules
            }
            comparable = np.array([one.rules_hash == self.contract.fingerprint and one.status == "open" for one in records], np.bool_)
            for finding in self._auditor(batch.schema, None).rows(batch, broken, comparable):
                self._take(verdict, finding, partial(self._told_record, batch, records))
        return judged

    def _made(self, record: QuarantineRecord) -> bool:
        """Whether a row of the dataset could be made of what its source gave, which no rule has judged otherwise."""
        try:
            return not self._around.shapes.given(record)
        except ConfigError:  # the table is not read any more
            return False

    def _changes(self, records: Sequence[QuarantineRecord]) -> list[tuple[Sequence[QuarantineRecord], ChangeBatch]]:
        """The changes of records that a contract judged, as far as they can still be read."""
        readable = [
            one for one in records if one.erased_at is None and one.rules_hash is not None and _by_contract(one) and self._made(one)
        ]
        found: list[tuple[Sequence[QuarantineRecord], ChangeBatch]] = []
        for _, run in groupby(sorted(readable, key=lambda one: (one.source, one.table)), key=lambda one: (one.source, one.table)):
            try:
                found += self._around.shapes.batches(list(run))
            except (ConfigError, SealedError):  # the table is not read any more, or the key is elsewhere
                continue
        return found

    def _together(self, window: Window, verdict: WindowVerdict) -> None:
        """Judges rules over the set on the rows of the window as they stand at its end."""
        if not window.fresh:
            return
        batch = _joined([*window.older, *window.fresh], self.contract)
        batch = batch.slice(max(0, len(batch) - window.size), len(batch))
        auditor = self._auditor(batch.schema, self._around.plain(batch.schema))
        for finding in auditor.sets(batch):
            self._take(verdict, finding, partial(self._told_row, batch, placed=False))

    def _steps(self, window: Window, verdict: WindowVerdict, *, known: bool) -> None:
        """Judges rules over steps on the changes of the window, as far as what they come after is in it, and names what is not judged."""

        def current(batch: ChangeBatch) -> npt.NDArray[np.bool_]:
            return self._by_this_contract(batch, last=True) if known else np.zeros(len(batch), np.bool_)

        def told(row: int) -> dict[str, Any]:
            assert found.batch is not None  # noqa: S101  (rows are of it)
            return self._told_row(found.batch, row, placed=False)

        found = audited_steps(self.contract, window, current, lambda batch: self._around.plain(batch.schema))
        others = [left_out(rule, IN_A_LOOKUP) for rule in self.contract.rules if rule.lookup is not None]
        for finding in (*found.findings, *others):
            self._take(verdict, finding, told)

    def _take(self, verdict: WindowVerdict, finding: Finding, told: Callable[[int], dict[str, Any]]) -> None:
        """Adds what was found of a rule."""
        window, rule = verdict.window, finding.rule
        line = Audited(
            window.dataset, window.place.journal, window.place.seq, rule.id, finding.verdict, finding.engine, finding.rows, 0.0,
            failed=finding.failed, observed=_short(finding.observed), contract_version=self.contract.version,
        )  # fmt: skip
        if not rule.generated or finding.verdict != "agrees":  # a property states many rules, of which there is seldom anything to say
            verdict.lines.append(line)
        for trouble in finding.troubles:
            known = verdict.seen.get((trouble.kind, rule.id))
            verdict.seen[trouble.kind, rule.id] = Seen(trouble.kind, rule.id, self._detail(rule, finding, trouble, told, known))
        if finding.rows:
            shown = {trouble.kind for trouble in finding.troubles}
            for kind in KINDS:
                if kind not in shown and (kind != DISAGREEMENT or finding.verdict != "none"):
                    verdict.well[kind].add(rule.id)

    def _detail(
        self, rule: Rule, finding: Finding, trouble: Trouble, told: Callable[[int], dict[str, Any]], known: Seen | None
    ) -> dict[str, Any]:
        rows = [] if known is None else list(known.detail.get("rows", []))
        for contested in trouble.rows[: _ROWS_TOLD - len(rows)]:
            rows.append(told(contested.row) | self._values(rule, told, contested))
        detail: dict[str, Any] = {"message": trouble.message, "says": rule.says, "contract_version": self.contract.version}
        if finding.observed is not None:
            detail["observed"] = _short(finding.observed)
        if trouble.count:
            detail["count"] = trouble.count + (0 if known is None else int(known.detail.get("count", 0)))
        if rows:
            detail["rows"] = [{name: value for name, value in row.items() if name != "all"} for row in rows]
        return detail

    def _values(self, rule: Rule, told: Callable[[int], dict[str, Any]], contested: Contested) -> dict[str, Any]:
        """The values that the rule reads, and what everybody says of the row."""
        row = told(contested.row)["all"]
        verdicts = {"gate": contested.gate, "ours": contested.ours, "reference": contested.reference}
        return {"values": {name: row[name] for name in rule.columns if name in row}, **verdicts}

    def _told_row(self, batch: ChangeBatch, row: int, *, placed: bool = True) -> dict[str, Any]:
        shown = {name: self._shown(name, column[row].as_py()) for name, column in zip(batch.schema.names, batch.columns, strict=True)}
        position = {"position": self._around.place(batch, row)} if placed else {}
        return {"ordinal": int(batch.ordinal[row]), **position, "key": {name: shown[name] for name in batch.schema.key}, "all": shown}

    def _told_record(self, batch: ChangeBatch, records: Sequence[QuarantineRecord], row: int) -> dict[str, Any]:
        return self._told_row(batch, row, placed=False) | {"id": records[row].id, "position": records[row].position}

    def _shown(self, name: str, value: str | None) -> str | None:
        prop = self.contract.columns.get(name)
        if value is not None and prop is not None and prop.sensitive:
            return MASKED
        return value if value is None or len(value) <= _LONGEST else value[:_LONGEST] + "…"


def _short(observed: object) -> object:
    """What was observed, as text cut off where it is very much."""
    text = json.dumps(observed, default=str)
    return observed if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def _by_contract(record: QuarantineRecord) -> bool:
    """Whether it is the contract's rules that it broke, and a row could be made of it."""
    return all(reason.rule not in (MAP, "lookup") for reason in record.reasons)


def _merged(lines: Sequence[Audited]) -> list[Audited]:
    """One line for each rule: what was found of it under several shapes, or of passed rows and held ones, put together."""
    found: dict[str, Audited] = {}
    for line in lines:
        known = found.get(line.rule)
        if known is None:
            found[line.rule] = line
            continue
        worst = min(known.verdict, line.verdict, key=("differs", "fails", "none", "agrees", "passes", "left-out").index)
        found[line.rule] = replace(known, verdict=worst, rows=known.rows + line.rows, failed=known.failed + line.failed)
    return list(found.values())


def _sample(pieces: Sequence[Piece], size: int) -> list[tuple[ChangeBatch, bool]]:
    """So many of the rows that were written, always the same ones of the same pieces, in batches of one shape."""
    written = [np.flatnonzero(np.isin(piece.batch.op, _JUDGED)) for piece in pieces]
    starts = np.cumsum([0, *map(len, written)])
    total = int(starts[-1])
    if not total or not size:
        return []
    chance = np.random.default_rng(int(pieces[0].batch.ordinal[0]))
    chosen = np.sort(chance.choice(total, size=min(size, total), replace=False))
    grouped: dict[tuple[str, str, str, bool], list[ChangeBatch]] = {}
    for place, piece in enumerate(pieces):
        mine = chosen[(chosen >= starts[place]) & (chosen < starts[place + 1])] - starts[place]
        if len(mine):
            batch = piece.batch.take(written[place][mine])
            grouped.setdefault((batch.schema.encoded, batch.source, batch.table, piece.replayed), []).append(batch)
    return [(join(batches), replayed) for (*_, replayed), batches in grouped.items()]


def _joined(pieces: Sequence[Piece], contract: Contract) -> ChangeBatch:
    """All pieces as one batch. Where their columns differ, with those that the contract has, or the key; and where these do, without the
    pieces that are not of the newest shape."""
    batches = [replace(piece.batch, source="", table="", payloads=None, traces=None) for piece in pieces]
    if len({batch.schema.encoded for batch in batches}) > 1:
        batches = [narrowed(batch, contract.columns) for batch in batches]
    newest = batches[-1].schema.encoded
    return join([batch for batch in batches if batch.schema.encoded == newest])
