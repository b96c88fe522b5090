"""What a contract would do: to changes that have passed and are still in the journal, and to records that wait in quarantine.

Nothing is changed. Rules that compare a change with earlier ones are asked in the order of the stream, as if the contract had been in force
all the time; those that look in a lookup see what it holds now. Rules that compare rows with each other see stretches of some thousand
rows, not the batches of the stream.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from dataflows.given import resume_from
from dataflows.maps import Maps
from dataflows.records_as_changes import RecordShapes
from dataflows.trial import WORST, Outcome, Trial
from dataflows.trial_records import Told, TrialRecords
from dataflows.trial_walk import Asks, Kind, Turn, Walk
from journal.batch import ChangeBatch, CopyMarker, Longs, Mask
from journal.quarantine import UNRESOLVED, QuarantineRecord, Wanted
from journal.reading import JournalReader
from pipeline.model import Pipeline
from quality.contract import Contract
from quality.rules import Action

LAST = 100_000
"""Changes, or records, that are judged unless somebody says otherwise."""

_EXAMPLES = 5

Shown = Callable[[str, Mapping[str, str | None]], Mapping[str, Any]]
"""A dataset and values of a row of it -> the values, masked where the contract says so."""


@dataclass(slots=True)
class _Tally:
    """Rows by rule, and the first of them; and rows that nobody can judge by a rule."""

    rows: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[Any]] = field(default_factory=dict)
    not_known: Counter[str] = field(default_factory=Counter)

    def add(self, rule: str, rows: Longs, example: Callable[[int], Any]) -> None:
        self.rows[rule] += len(rows)
        found = self.examples.setdefault(rule, [])
        found += [example(row) for row in rows[: _EXAMPLES - len(found)].tolist()]

    def answer(self, trial: Trial) -> list[dict[str, Any]]:
        others = [rule for rule in self.rows if rule not in trial.actions]
        return [
            {"id": rule, "action": str(trial.action(rule)), "rows": self.rows[rule], "examples": self.examples.get(rule, [])}
            for rule in (*trial.actions, *others)
        ]


def _of_trial(trial: Trial, not_known: Mapping[str, int]) -> dict[str, Any]:
    """What is to be said of all that a trial was asked."""
    return {
        "not_known": {rule: count for rule, count in not_known.items() if count},
        "lookups": trial.looks_in,
        "not_judged": list(trial.not_judged),
        "why_not_judged": trial.not_judged,
    }


def against_journal(reader: JournalReader, pipeline: Pipeline, dataset: str, contract: Contract, last: int, shown: Shown) -> dict[str, Any]:
    """What the contract would do to the last changes that have passed and are still in the journal, delivered or not.

    Where it compares changes with earlier ones, those that were held back between them take part as they were received, and those that
    were released where they were released. Raises ConfigError where it does not fit the columns that they had.
    """
    trial = Trial(contract, pipeline, dataset, reader)
    unreadable = [0]

    def tell(record: QuarantineRecord, told: Told) -> None:
        unreadable[0] += isinstance(told, str)

    found = _Changes(trial, shown)
    for turn, outcome in outcomes(reader, pipeline, dataset, trial, Asks(changes=last, tell=tell)):
        found.add(turn, outcome)
    return found.answer() | {"between": {**found.between, "unreadable": unreadable[0]}}


def outcomes(reader: JournalReader, pipeline: Pipeline, dataset: str, trial: Trial, asks: Asks) -> Iterator[tuple[Turn, Outcome]]:
    """What a contract on trial makes of the changes of a dataset, as they came."""
    known = cache(lambda source: resume_from(reader.resume(source)).schemas)
    maps = Maps(pipeline)
    records = TrialRecords(RecordShapes(maps, known), maps, trial.fits, as_received=asks.records is None)
    walk = Walk(reader, dataset, records, trial.columns, asks, remembers=trial.remembers)
    if trial.remembers:
        walk.look_back()
        trial.begin(whole=walk.whole)
    for turn in walk:
        if isinstance(turn, CopyMarker):
            trial.mark(turn)
        else:
            yield turn, trial.take(turn)


class _Changes:
    """What became of the changes that are asked about, and of the records between them."""

    def __init__(self, trial: Trial, shown: Shown) -> None:
        self._trial = trial
        self._shown = shown
        self._tally = _Tally()
        self._becomes: Counter[int] = Counter()
        self._first: int | None = None
        self._last: int | None = None
        self.between = {"records": 0, "would_pass": 0}

    def add(self, turn: Turn, outcome: Outcome) -> None:
        asked = turn.kinds == Kind.ASKED
        ordinals = turn.batch.ordinal[asked]
        if len(ordinals):
            self._first = int(ordinals.min()) if self._first is None else min(self._first, int(ordinals.min()))
            self._last = int(ordinals.max()) if self._last is None else max(self._last, int(ordinals.max()))
        self._becomes.update(dict(zip(*(one.tolist() for one in np.unique(outcome.becomes[asked], return_counts=True)), strict=True)))
        for rule, rows in outcome.tried.broken.items():
            self._tally.add(rule, rows[asked[rows]], lambda row: self._example(turn.batch, row))
        for rule, rows in outcome.tried.unknown.items():
            self._tally.not_known[rule] += int(np.count_nonzero(asked[rows]))
        if self._first is not None:
            records: Mask = np.isin(turn.kinds, (Kind.WAITS, Kind.SETTLED)) & (turn.batch.ordinal > self._first)
            self.between["records"] += int(np.count_nonzero(records))
            self.between["would_pass"] += int(np.count_nonzero(records & outcome.passes))

    def _example(self, batch: ChangeBatch, row: int) -> dict[str, Any]:
        key = {name: batch.column(name)[row].as_py() for name in batch.schema.key}
        return {"ordinal": int(batch.ordinal[row]), "key": dict(self._shown(batch.dataset, key))}

    def answer(self) -> dict[str, Any]:
        count = {action: self._becomes[place] for place, action in enumerate(WORST)}
        judged = sum(self._becomes.values())
        return {
            "contract": self._trial.named(),
            "judged": judged,
            "first_ordinal": self._first,
            "last_ordinal": self._last,
            "pass": judged - sum(rows for action, rows in count.items() if action is not Action.WARN),
            "held_back": count[Action.QUARANTINE],
            "dropped": count[Action.DROP],
            "warned": count[Action.WARN],
            "stopping": count[Action.FAIL],
            "rules": self._tally.answer(self._trial),
            **_of_trial(self._trial, self._tally.not_known),
        }


@dataclass(slots=True)
class _Group:
    """One cause of records, and what would become of them."""

    rule: str
    column: str | None
    records: int = 0
    passing: int = 0
    tally: _Tally = field(default_factory=_Tally)
    examples: list[str] = field(default_factory=list)


def against_quarantine(
    reader: JournalReader,
    pipeline: Pipeline,
    dataset: str,
    contract: Contract,
    *,
    last: int = LAST,
    group: str | None = None,
) -> dict[str, Any]:
    """What the contract would do to the last records of a dataset that wait, with what was set in them.

    Those that wait for something else than the contract (a lookup, a newer version) are `other`; those that cannot be read any more, or do
    not fit its columns, `unreadable`. A change is compared with what would have passed before it, in its place.
    """
    trial = Trial(contract, pipeline, dataset, reader)
    after = _before_last(reader, dataset, group, last)
    found = _Records(trial)

    def asked(record: QuarantineRecord) -> bool:
        return record.ordinal > after and record.status in UNRESOLVED and group in (None, record.group)

    def tell(record: QuarantineRecord, told: Told) -> None:
        if asked(record):
            found.add(record, told)

    asks = Asks(records=Wanted(dataset, group=group), of=asked, after=after, tell=tell)
    for turn, outcome in outcomes(reader, pipeline, dataset, trial, asks):
        found.of(turn, outcome)
    return found.answer()


class _Records:
    """What would become of records, by cause."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._groups: dict[str, _Group] = {}
        self._counts: Counter[str] = Counter()
        self._not_known: Counter[str] = Counter()

    def of(self, turn: Turn, outcome: Outcome) -> None:
        """The records among changes."""
        asked = turn.kinds == Kind.ASKED
        broken = outcome.rules(asked)
        for row in np.flatnonzero(asked).tolist():
            self.add(turn.records[int(turn.batch.ordinal[row])], broken.get(row, ()))
        for rule, rows in outcome.tried.unknown.items():
            self._not_known[rule] += int(np.count_nonzero(asked[rows]))

    def add(self, record: QuarantineRecord, broken: Told) -> None:
        """One record: the rules that it would break, or why nobody can tell."""
        found = self._groups.setdefault(record.group, _Group(record.reasons[0].rule, record.reasons[0].column))
        found.records += 1
        if isinstance(broken, str):
            self._counts[broken] += 1
            return
        becomes = max((WORST.index(self._trial.action(rule)) for rule in broken), default=-1)
        passes = becomes <= WORST.index(Action.WARN)
        self._counts["would_pass" if passes else "dropped" if WORST[becomes] is Action.DROP else "still_fail"] += 1
        found.passing += passes
        if passes and len(found.examples) < _EXAMPLES:
            found.examples.append(record.id)
        for rule in dict.fromkeys(broken):
            found.tally.add(rule, np.zeros(1, np.int64), lambda row: record.id)

    def answer(self) -> dict[str, Any]:
        groups = sorted(self._groups.items(), key=lambda item: -item[1].records)
        return {
            "contract": self._trial.named(),
            "records": sum(one.records for _, one in groups),
            **{name: self._counts[name] for name in ("would_pass", "still_fail", "dropped", "other", "unreadable")},
            "groups": [self._told(name, one) for name, one in groups],
            **_of_trial(self._trial, self._not_known),
        }

    def _told(self, name: str, group: _Group) -> dict[str, Any]:
        rules = [one for one in group.tally.answer(self._trial) if one["rows"]]
        told = {"group": name, "rule": group.rule, "column": group.column, "records": group.records, "would_pass": group.passing}
        return {**told, "passing": group.examples, "failing": rules}


def _before_last(reader: JournalReader, dataset: str, group: str | None, last: int) -> int:
    """An ordinal behind which there are the last records that wait, so many of them."""
    marks = ", ".join("?" * len(UNRESOLVED))
    more = " and cause = ?" if group is not None else ""
    with reader.view() as (db, _):
        oldest = db.execute(
            f"select ordinal from quarantine where dataset = ? and status in ({marks}){more} order by ordinal desc limit 1 offset ?",
            (dataset, *UNRESOLVED, *([group] if group is not None else []), last - 1),
        ).fetchone()
    return 0 if oldest is None else int(oldest[0]) - 1
