"""Rules that compare a change with the one before it, against a model of some lines that takes one change after the other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from journal.batch import ChangeBatch, CopyMarker, Op
from tests.history_place import HISTORIES, MESSAGES, RULE_SETS, SCHEMA, Event, Row, RuleSet, Table, contract
from tests.lane_place import Place

_PATTERN = "[a-zZ]*"
_ALLOWED = {("a", "b"), ("b", "c"), ("b", "Z"), ("Z", "a")}
_COLUMNS = ("status", "owner", "n")


@dataclass
class _Model:
    """What ought to become of changes. `passed` has the values that passed last, and when, by key."""

    rules: RuleSet
    passed: dict[str, tuple[int, Row]] = field(default_factory=dict)
    becomes: list[str] = field(default_factory=list)
    broken: list[list[str]] = field(default_factory=list)

    def take(self, entries: Sequence[ChangeBatch | CopyMarker]) -> None:
        begun = 0
        for entry in entries:
            if isinstance(entry, ChangeBatch):
                for row in range(len(entry)):
                    self._change(entry, row)
            elif entry.phase == "start":
                begun = len(self.becomes)
            else:
                self.passed = {key: (at, row) for key, (at, row) in self.passed.items() if at >= begun}

    def _change(self, batch: ChangeBatch, row: int) -> None:
        op = Op(int(batch.op[row]))
        now: Row = {name: column[row].as_py() for name, column in zip(batch.schema.names, batch.columns, strict=True)}
        told = {name for c, name in enumerate(batch.schema.names) if not batch.absent(c)[row]}
        old: Row = {}
        if batch.has_old is not None and batch.has_old[row]:
            old = {batch.schema.names[c]: column[row].as_py() for c, column in batch.old.items()}
        key = now["id"] or ""
        origin = old.get("id") or key
        if op in (Op.TRUNCATE, Op.DELETE):
            if op is Op.TRUNCATE:
                self.passed.clear()
            self.passed.pop(key, None)
            self._end("passes", [])
            return
        last = self.passed.get(origin, (0, {}))[1]
        broken = ["known"] if now["status"] is not None and not re.fullmatch(_PATTERN, now["status"]) else []
        actions = {"known": "quarantine"} | {name: action for name, action, _ in self.rules}
        for name, _, on in self.rules:
            if op is not Op.READ and op.word in on and self._breaks(name, now, told, last, old):
                broken.append(name)
        becomes = {actions[name] for name in broken} - {"warn"}
        if not becomes:
            values = {name: last.get(name) if now[name] is None else now[name] for name in _COLUMNS}
            self.passed.pop(origin, None)
            self.passed[key] = (len(self.becomes), values)
        what = "quarantine" if "quarantine" in becomes else "drop" if becomes else "passes"
        self._end(what, sorted(name for name in broken if actions[name] == "quarantine") if what == "quarantine" else [])

    def _breaks(self, rule: str, now: Row, told: set[str], last: Row, old: Row) -> bool:
        name = {"steps": "status", "stays": "owner", "rises": "n"}[rule]
        value, before = now[name], last.get(name) or old.get(name)
        if name not in told or before is None:
            return False
        if rule == "stays":
            return value != before
        if value is None:
            return False
        return (before, value) not in _ALLOWED and before != value if rule == "steps" else int(value) < int(before)

    def _end(self, becomes: str, broken: list[str]) -> None:
        self.becomes.append(becomes)
        self.broken.append(broken)


@settings(max_examples=15, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(HISTORIES, RULE_SETS, st.booleans(), st.booleans(), st.sampled_from([0, 3]), st.sampled_from([1, 2, 100]))
def test_histories_are_judged_as_if_one_change_came_after_the_other(
    tmp_path_factory: pytest.TempPathFactory,
    history: list[list[Event]],
    rules: RuleSet,
    full: bool,
    database: bool,
    partitions: int,
    lives: int,
) -> None:
    """With old rows in the log and without; `lives` is how many transactions ingest lives for."""
    folder = tmp_path_factory.mktemp("steps")
    text = contract(f"^{_PATTERN}$", rules)
    table, model = Table(full, SCHEMA if database else MESSAGES), _Model(rules)
    place = Place(folder, "newest", contract=text, partitions=partitions)
    for number, events in enumerate(history):
        entries = table.send(events)
        model.take(entries)
        place.take(*entries)
        if number % lives == lives - 1:
            place.close()
            place = Place(folder, "newest", contract=text, partitions=partitions)
    with closing(place):
        records = {one.ordinal: sorted(reason.rule for reason in one.reasons) for one in place.records()}
        passed = set(place.passed())
    count = len(model.becomes)
    found = ["passes" if one in passed else "quarantine" if one in records else "drop" for one in range(1, count + 1)]
    assert found == model.becomes
    assert [records.get(one, []) for one in range(1, count + 1)] == model.broken
