"""Random changes in batches of random sizes come to what a plain model says, in every kind of table."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import ClassVar

import pytest

from sinks.base import Target
from tests.sink_model import KEYED, Change, HistoryModel, MirrorModel, SourceTable, batch_of, routed
from tests.sink_place import Hand, Place, counted, history, mirror

_SIZES = (1, 2, 5, 30, 200)


class ModelConformance:
    lacks: ClassVar[Mapping[str, str]]

    def needs(self, capability: str) -> None:
        raise NotImplementedError

    @pytest.mark.parametrize("filtered", [False, True], ids=["everything", "filtered"])
    @pytest.mark.parametrize("on_delete", ["delete", "soft", "ignore"])
    @pytest.mark.parametrize("keyed", [True, False], ids=["keyed", "keyless"])
    def test_a_mirror_follows_random_changes(self, place: Place, hand: Hand, keyed: bool, on_delete: str, filtered: bool) -> None:
        self.needs("soft_delete" if on_delete == "soft" else "transactions")
        self.needs("transactions" if keyed else "keyless")
        for seed in range(3):
            chance = random.Random(seed)
            source = SourceTable(chance, keyed=keyed, filtered=filtered or "looks" in self.lacks)
            target = mirror(source.schema, f"model_{seed}", on_delete=on_delete, filtered=filtered)
            model = MirrorModel(keyed, on_delete)
            for size in chance.choices(_SIZES, k=8):
                changes, leaving = _next(source, size, filtered)
                for i, change in enumerate(changes):
                    model.apply(change, i in leaving, hand.next + i)
                _write(hand, target, changes, leaving)
            alive = [row for row, deleted in model.rows if deleted is None]
            assert counted(hand.live(target)) == hand.as_held(target, alive)
            rows = [{name: row[name] for name in KEYED.names} for row in place.table(target.table)]
            assert counted(rows) == hand.as_held(target, [row for row, _ in model.rows])

    @pytest.mark.parametrize("filtered", [False, True], ids=["everything", "filtered"])
    @pytest.mark.parametrize("keyed", [True, False], ids=["keyed", "keyless"])
    def test_a_history_tells_random_changes(self, place: Place, hand: Hand, keyed: bool, filtered: bool) -> None:
        self.needs("history")
        self.needs("transactions" if keyed else "keyless")
        for seed in range(3):
            chance = random.Random(seed)
            source = SourceTable(chance, keyed=keyed, filtered=filtered)
            target = history(source.schema, f"model_{seed}", filtered=filtered)
            model = HistoryModel(keyed, filtered)
            for size in chance.choices(_SIZES, k=8):
                changes, leaving = _next(source, size, filtered)
                for i, change in enumerate(changes):
                    model.apply(change, i in leaving, hand.next + i)
                _write(hand, target, changes, leaving)
            shown = []
            for row in place.table(target.table):
                values = counted([{name: row[name] for name in KEYED.names}])
                shown.append((int(str(row["_sluice_position"])), row["_op"], values, _old_key(row["_sluice_old_key"], keyed)))
            expected = [(at, op, hand.as_held(target, [row]), old and dict(old)) for op, row, old, at in model.rows]
            assert sorted(shown, key=lambda row: row[0]) == expected
            current = [row for row in source.rows if not filtered or row["region"] == "EU"]
            assert counted(hand.live(target)) == hand.as_held(target, current)


def _next(source: SourceTable, size: int, filtered: bool) -> tuple[list[Change], list[int]]:
    changes = source.changes(size)
    return routed(changes) if filtered else (changes, [])


def _write(hand: Hand, target: Target, changes: list[Change], leaving: list[int]) -> None:
    hand.sink.begin()
    assert not hand.give(target, batch_of(target.schema, changes, hand.next), leaving)
    hand.next += len(changes)
    hand.commit()


def _old_key(text: str | None, keyed: bool) -> dict[str, str] | None:
    """The old key with all its values as text; of a table without a key nothing that anyone reads."""
    return {name: str(value) for name, value in json.loads(text).items()} if text and keyed else None
