"""Random changes of a few keys, some of them bad, and owners that mend, give up and replay them: what sinks get is in order."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from journal.batch import ChangeBatch, CopyMarker, Op
from journal.quarantine import QuarantineRecord
from tests.lane_place import TRUNCATE, Change, Place, copied, delete, marker, put, update

KEYS = "abcd"
ENDED = ("resolved", "superseded", "discarded")


@dataclass(frozen=True)
class Told:
    """A change at its place, as a sink gets it. A copy begins where `copy` says so."""

    ordinal: int
    change: Change
    copy: bool = False

    @property
    def keys(self) -> set[str]:
        return {key for key in (self.change.id, self.change.old) if key is not None}


class Source:
    """A table that changes at random."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.rows: dict[str, int] = {}

    def amount(self) -> int:
        return self.chance.randrange(1, 1000) * (-1 if self.chance.random() < 0.25 else 1)

    def change(self) -> Change:
        roll, there = self.chance.random(), sorted(self.rows)
        free = [key for key in KEYS if key not in self.rows]
        if roll < 0.02:
            self.rows.clear()
            return TRUNCATE
        if not there or (free and roll < 0.35):
            key = self.chance.choice(free)
            self.rows[key] = self.amount()
            return put(key, self.rows[key])
        key = self.chance.choice(there)
        if roll < 0.5:
            del self.rows[key]
            return delete(key)
        if free and roll < 0.7:
            del self.rows[key]
            new = self.chance.choice(free)
            self.rows[new] = self.amount()
            return update(new, self.rows[new], old=key)
        self.rows[key] = self.amount()
        return update(key, self.rows[key])


def apply(rows: dict[str, int], one: Told) -> None:
    """What a change does to a table."""
    change = one.change
    if one.copy or change.op is Op.TRUNCATE:
        rows.clear()
        return
    for key in one.keys:
        if change.op is Op.DELETE or key == change.old:
            rows.pop(key, None)
    if change.op is not Op.DELETE and change.id is not None and change.amount is not None:
        rows[change.id] = int(change.amount)


class World:
    """A source, a pipeline, its owners, and what happened."""

    def __init__(self, folder: Path, order: str, seed: int) -> None:
        self.chance = random.Random(f"{order} {seed}")
        self.folder, self.order = folder, order
        self.source = Source(self.chance)
        self.place = Place(folder, order)
        self.log: dict[int, Told] = {}
        self._take([marker("start"), marker("end")])

    def arrive(self) -> None:
        """A transaction of the source, in one batch or several; now and then a copy of the table."""
        if self.chance.random() < 0.04:
            rows = [copied(key, amount) for key, amount in sorted(self.source.rows.items())]
            first = self.place.journal.next_ordinal
            self.log[-first] = Told(first, TRUNCATE, copy=True)
            self._take([marker("start"), *([rows] if rows else []), marker("end")])
            return
        self._take([self._batch() for _ in range(self.chance.randrange(1, 3))])

    def _batch(self) -> list[Change]:
        return [self.source.change() for _ in range(self.chance.randrange(1, 6))]

    def _take(self, batches: Sequence[list[Change] | CopyMarker]) -> None:
        ordinal = self.place.journal.next_ordinal
        for batch in batches:
            for change in batch if isinstance(batch, list) else ():
                self.log[ordinal] = Told(ordinal, change)
                ordinal += 1
        self.place.take(*batches)

    def attend(self) -> None:
        """An owner does something with a record; or the process ends and begins again."""
        waiting = [one for one in self.place.records() if one.status not in ENDED]
        if self.chance.random() < 0.1:
            self.place.close()
            self.place = Place(self.folder, self.order)
        elif waiting:
            self.handle(self.chance.choice(waiting))

    def handle(self, record: QuarantineRecord) -> None:
        roll = self.chance.random()
        if roll < 0.25:
            self.place.ask("discard", record, why="not needed")
        elif record.operation == "delete" or roll < 0.35:
            self.place.ask("approve", record, by="bo@example.com")
            self.place.ask("replay", record)
        else:
            good = self.chance.random() < 0.9
            self.place.mend(record, self.chance.randrange(1, 1000) * (1 if good else -1))

    def finish(self) -> None:
        """Everything comes to an end."""
        for _ in range(200):
            waiting = [one for one in self.place.records() if one.status not in ENDED]
            if not waiting:
                return
            self.handle(waiting[0])
        raise AssertionError([(one.ordinal, one.status, [reason.message for reason in one.reasons]) for one in waiting])

    def delivered(self) -> Iterator[Told]:
        """What a sink gets, in the journal's order."""
        for entry in self.place.entries():
            if not isinstance(entry, ChangeBatch):
                if entry.phase == "start":
                    yield Told(entry.ordinal, TRUNCATE, copy=True)
                continue
            for row in range(len(entry)):
                one = entry.slice(row, row + 1)
                old = one.old[0][0].as_py() if 0 in one.old and one.has_old is not None and one.has_old[0] else None
                op = Op(int(one.op[0]))
                amount = None if op is Op.DELETE else one.columns[1][0].as_py()
                yield Told(int(one.ordinal[0]), Change(op, one.columns[0][0].as_py(), amount, old))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("order", ["newest", "strict"])
def test_whatever_is_released_when_the_sinks_end_as_if_it_had_come_in_order(tmp_path: Path, order: str, seed: int) -> None:
    world = World(tmp_path, order, seed)
    for _ in range(25):
        (world.arrive if world.chance.random() < 0.5 else world.attend)()
    world.finish()
    records = {one.ordinal: one for one in world.place.records()}
    delivered = list(world.delivered())
    world.place.close()
    sink: dict[str, int] = {}
    for one in delivered:
        apply(sink, one)
    # the same changes in the order of the source, with those that were overtaken: they make no difference
    came = dict(world.log)
    for ordinal, record in records.items():
        if record.status == "discarded":
            del came[ordinal]
        elif record.patch:
            came[ordinal] = replace(came[ordinal], change=replace(came[ordinal].change, amount=str(record.patch["amount"])))
    meant: dict[str, int] = {}
    for one in sorted(came.values(), key=lambda one: (one.ordinal, not one.copy)):
        apply(meant, one)
    assert sink == meant
    for record in records.values():
        if record.status == "superseded":
            mine = world.log[record.ordinal].keys
            newer = [one for one in delivered if one.ordinal >= record.ordinal and (one.keys & mine or one.change.op is Op.TRUNCATE)]
            # where changes wait for one another only what ends a lane comes before its turn
            assert [one for one in newer if order == "newest" or one.change.op in (Op.TRUNCATE, Op.READ)], record.ordinal
    if order == "strict":
        for key in KEYS:
            places = [one.ordinal for one in delivered if key in one.keys]
            assert places == sorted(places)
