"""What a contract would do: to changes that have passed and are still in the journal, and to records that wait in quarantine.

Nothing is changed. Rules that compare a change with earlier ones, or look for values in a lookup, need the stream around it: they are named
and not judged. Rules that compare rows with each other see stretches of some thousand rows, not the batches of the stream.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from dataflows.judging import LATE
from dataflows.lookup_map import RULE as LOOKUP
from dataflows.maps import Maps
from dataflows.records_as_changes import RecordShapes
from journal.batch import ChangeBatch
from journal.quarantine import UNRESOLVED, QuarantineRecord, Wanted
from journal.reading import JournalReader
from journal.schema import TableSchema
from journal.sealing import SealedError
from journal.windows import DatasetEntries
from pipeline.errors import ConfigError
from quality.contract import Contract
from quality.gate import Gate
from quality.judgement import QuarantinedRow
from quality.rules import Action, Rule, Scope

LAST = 100_000
"""Changes, or records, that are judged unless somebody says otherwise."""

_STRETCH = 20_000  # rows that are in memory at once
_PAGE = 2000
_EXAMPLES = 5
_WORST = (Action.FAIL, Action.QUARANTINE, Action.DROP, Action.WARN)
"""What becomes of a row that breaks several rules: the first of these that one of them asks for."""


class Trial:
    """A contract on trial: every rule is asked of every row, whatever its action; the breaker is left out. One thread."""

    def __init__(self, contract: Contract) -> None:
        """Of its rules those that a row can be judged by alone, or with the others of its batch."""
        rules = [replace(rule, action=Action.QUARANTINE) for rule in contract.rules]
        self.contract = contract
        self.actions = {rule.id: rule.action for rule in contract.rules if _judged(rule)}
        self.not_judged = [rule.id for rule in contract.rules if not _judged(rule)]
        self._trial = replace(contract, rules=rules, breaker=None)
        self._gates: dict[str, Gate] = {}

    def judge(self, batch: ChangeBatch) -> Sequence[QuarantinedRow]:
        """The rows that break a rule, with all of those. Raises ConfigError where the contract does not fit the columns."""
        if batch.schema.encoded not in self._gates:
            self._gates[batch.schema.encoded] = Gate(self._trial, batch.schema)
        judgement = self._gates[batch.schema.encoded].judge(batch)
        if judgement.failure is not None:
            raise ConfigError(judgement.failure.message)
        return judgement.quarantined

    def becomes(self, broken: Sequence[str]) -> Action:
        """What would become of a row that breaks these rules."""
        asked = {self.actions.get(rule, Action.QUARANTINE) for rule in broken}
        return next(action for action in _WORST if action in asked)

    def named(self) -> dict[str, Any]:
        told = {name: getattr(self.contract, name) for name in ("id", "version", "fingerprint")}
        return {"file": str(self.contract.file), **told}


def _judged(rule: Rule) -> bool:
    return rule.scope in (Scope.ROW, Scope.BATCH) and rule.lookup is None


@dataclass(slots=True)
class _Tally:
    """Rows by rule, and the first of them."""

    rows: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[Any]] = field(default_factory=dict)

    def add(self, rules: Sequence[str], example: Callable[[], Any]) -> None:
        for rule in dict.fromkeys(rules):
            self.rows[rule] += 1
            found = self.examples.setdefault(rule, [])
            if len(found) < _EXAMPLES:
                found.append(example())

    def answer(self, actions: Mapping[str, Action]) -> list[dict[str, Any]]:
        others = [rule for rule in self.rows if rule not in actions]
        return [
            {
                "id": rule,
                "action": str(actions.get(rule, Action.QUARANTINE)),
                "rows": self.rows[rule],
                "examples": self.examples.get(rule, []),
            }
            for rule in (*actions, *others)
        ]


Shown = Callable[[str, Mapping[str, str | None]], Mapping[str, Any]]
"""A dataset and values of a row of it -> the values, masked where the contract says so."""


def against_journal(reader: JournalReader, dataset: str, contract: Contract, last: int, shown: Shown) -> dict[str, Any]:
    """What the contract would do to the last changes that have passed and are still in the journal, delivered or not.

    Raises ConfigError where it does not fit the columns that they had.
    """
    trial, tally, outcome = Trial(contract), _Tally(), Counter[Action]()
    judged, ordinals = 0, list[int]()
    for batch in _newest(reader, dataset, last):
        judged += len(batch)
        ordinals += [int(batch.ordinal.min()), int(batch.ordinal.max())]
        for row in trial.judge(batch):
            broken = [reason.rule for reason in row.reasons]
            outcome[trial.becomes(broken)] += 1
            tally.add(broken, partial(_example, batch, row.row, shown))
    return {
        "contract": trial.named(),
        "judged": judged,
        "first_ordinal": min(ordinals, default=None),
        "last_ordinal": max(ordinals, default=None),
        "pass": judged - sum(count for action, count in outcome.items() if action is not Action.WARN),
        "held_back": outcome[Action.QUARANTINE],
        "dropped": outcome[Action.DROP],
        "warned": outcome[Action.WARN],
        "stopping": outcome[Action.FAIL],
        "rules": tally.answer(trial.actions),
        "not_judged": trial.not_judged,
    }


def _newest(reader: JournalReader, dataset: str, last: int) -> Iterator[ChangeBatch]:
    """The newest changes, from the end backwards, some thousand at a time."""
    entries = DatasetEntries(reader, dataset)
    before = entries.standing(0).last + 1
    while last > 0:
        pieces = entries.backwards(before, min(last, _STRETCH))
        if not pieces:
            return
        before = pieces[0].seq
        for piece in reversed(pieces):
            batch = piece.batch if len(piece.batch) <= last else piece.batch.slice(len(piece.batch) - last, len(piece.batch))
            last -= len(batch)
            if len(batch):
                yield batch


def _example(batch: ChangeBatch, row: int, shown: Shown) -> dict[str, Any]:
    key = {name: batch.column(name)[row].as_py() for name in batch.schema.key}
    return {"ordinal": int(batch.ordinal[row]), "key": dict(shown(batch.dataset, key))}


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
    dataset: str,
    contract: Contract,
    maps: Maps,
    known: Callable[[str], Mapping[str, TableSchema]],
    *,
    last: int = LAST,
    group: str | None = None,
) -> dict[str, Any]:
    """What the contract would do to the last records of a dataset that wait, with what was set in them.

    Those that wait for something else than the contract (a lookup, a newer version) are `other`; those that cannot be read any more, or do
    not fit its columns, `unreadable`.
    """
    trial, shapes, groups = Trial(contract), RecordShapes(maps, known), dict[str, _Group]()
    counts: Counter[str] = Counter()
    for record, broken in _records(reader, dataset, group, last, trial, shapes, maps):
        found = groups.setdefault(record.group, _Group(record.reasons[0].rule, record.reasons[0].column))
        found.records += 1
        if isinstance(broken, str):
            counts[broken] += 1
            continue
        becomes = trial.becomes(broken) if broken else None
        passes = becomes is None or becomes is Action.WARN
        counts["would_pass" if passes else "dropped" if becomes is Action.DROP else "still_fail"] += 1
        found.passing += passes
        if passes and len(found.examples) < _EXAMPLES:
            found.examples.append(record.id)
        found.tally.add(broken, partial(str, record.id))
    return {
        "contract": trial.named(),
        "records": sum(one.records for one in groups.values()),
        **{name: counts[name] for name in ("would_pass", "still_fail", "dropped", "other", "unreadable")},
        "groups": [_told(name, one, trial) for name, one in sorted(groups.items(), key=lambda item: -item[1].records)],
        "not_judged": trial.not_judged,
    }


def _told(name: str, group: _Group, trial: Trial) -> dict[str, Any]:
    rules = [one for one in group.tally.answer(trial.actions) if one["rows"]]
    told = {"group": name, "rule": group.rule, "column": group.column, "records": group.records, "would_pass": group.passing}
    return {**told, "passing": group.examples, "failing": rules}


Broken = Sequence[str] | str
"""The rules that a record would break, or why nobody can tell."""


def _records(
    reader: JournalReader, dataset: str, group: str | None, last: int, trial: Trial, shapes: RecordShapes, maps: Maps
) -> Iterator[tuple[QuarantineRecord, Broken]]:
    for page in _pages(reader, dataset, group, last):
        told: dict[int, Broken] = {one.ordinal: why for one in page if (why := _untold(one)) is not None}
        rest = sorted((one for one in page if one.ordinal not in told), key=lambda one: (one.source, one.table))
        try:
            told |= _judged_page(rest, trial, shapes, maps)
        except (ConfigError, SealedError):  # of one of them: it is found
            for one in rest:
                try:
                    told |= _judged_page([one], trial, shapes, maps)
                except (ConfigError, SealedError):
                    told[one.ordinal] = "unreadable"
        yield from ((one, told[one.ordinal]) for one in page)


def _untold(record: QuarantineRecord) -> str | None:
    """Why nobody can tell what would become of a record, where that is so."""
    if record.erased_at is not None:
        return "unreadable"
    return "other" if any(one.rule == LATE or one.rule.startswith(LOOKUP.rstrip(":")) for one in record.reasons) else None


def _judged_page(records: Sequence[QuarantineRecord], trial: Trial, shapes: RecordShapes, maps: Maps) -> dict[int, Sequence[str]]:
    found: dict[int, Sequence[str]] = {one.ordinal: () for one in records}
    for some, changes in shapes.batches(records):
        batch = changes
        if shapes.given(some[0]) and (mapped := maps.apply(batch)) is not None:
            if mapped.failed is not None:
                for row, ordinal in zip(mapped.rows, mapped.failed.ordinal, strict=True):
                    found[int(ordinal)] = [reason.rule for reason in row.reasons]
            batch = mapped.passed
        for row in trial.judge(batch):
            found[int(batch.ordinal[row.row])] = [reason.rule for reason in row.reasons]
    return found


def _pages(reader: JournalReader, dataset: str, group: str | None, last: int) -> Iterator[list[QuarantineRecord]]:
    """The last records that wait, in the order of the stream, a page at a time."""
    wanted = Wanted(dataset=dataset, group=group)
    marks = ", ".join("?" * len(UNRESOLVED))
    more = " and cause = ?" if group is not None else ""
    with reader.view() as (db, _):
        oldest = db.execute(
            f"select ordinal from quarantine where dataset = ? and status in ({marks}){more} order by ordinal desc limit 1 offset ?",
            (dataset, *UNRESOLVED, *([group] if group is not None else []), last - 1),
        ).fetchone()
    after = 0 if oldest is None else oldest[0] - 1
    while True:
        page = reader.quarantined(wanted, after, _PAGE)
        if page:
            yield [one for one in page if one.status in UNRESOLVED]
        if len(page) < _PAGE:
            return
        after = page[-1].ordinal
