"""A small table with a life of its own, the changes that its log carries, and what each kind of sink should make of them, row by row."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from journal.batch import ChangeBatch, Op, Presence
from journal.schema import Column, TableSchema

Row = dict[str, str | None]

COLUMNS = (
    Column("id", "integer", 1, nullable=False),
    Column("part", "text", 2, nullable=False),
    Column("name", "text", 3),
    Column("doc", "text", 4),  # big values live here: an update that doesn't touch it leaves it out
    Column("notes", "text", 5),  # and here
    Column("region", "text", 6),
)
KEYED = TableSchema("model", COLUMNS, ("id", "part"))
KEYLESS = TableSchema("model", COLUMNS, ())
TOASTED = ("doc", "notes")
TEXTS = (
    "",
    "a",
    "b",
    "it's",
    'say "hi"',
    "back\\slash",
    "\\N",
    "\\.",
    "tab\there",
    "line\nbreak",
    "\r",
    ",",
    "é ü 漢字 🙂",
    "NULL",
    " ",
    None,
)
PARTS = ("x", "y", "Y ", "")
HOME = "EU"  # what the filter of these tests lets through


@dataclass(frozen=True)
class Change:
    """One change: the whole new row and the whole old one, and what the log carried of them."""

    op: Op
    new: Row | None = None
    old: Row | None = None
    absent: frozenset[str] = frozenset()
    old_carried: tuple[str, ...] = ()
    recalled: bool = False


@dataclass
class SourceTable:
    """Holds rows and changes them at random, as a source would; a key is never taken twice."""

    random: random.Random
    keyed: bool
    filtered: bool = False  # absent values are read again, as a source does for tables behind a filter
    rows: list[Row] = field(default_factory=list)

    @property
    def schema(self) -> TableSchema:
        return KEYED if self.keyed else KEYLESS

    def key(self, row: Row) -> tuple[str | None, ...]:
        return tuple(row[name] for name in self.schema.key)

    def changes(self, n: int) -> list[Change]:
        found: list[Change] = []
        while len(found) < n:
            roll = self.random.random()
            if roll < 0.02 and self.rows:
                self.rows.clear()
                found.append(Change(Op.TRUNCATE))
            elif roll < 0.4 or not self.rows:
                found += self._insert()
            elif roll < 0.8:
                found += self._update()
            else:
                found.append(self._delete())
        return found

    def _fresh(self) -> Row:
        row: Row = {column.name: self.random.choice(TEXTS) for column in COLUMNS}
        row["id"] = str(self.random.randrange(6))
        row["part"] = self.random.choice(PARTS[:2] if not self.keyed else PARTS)
        row["region"] = self.random.choice((HOME, HOME, "US", None))
        if not self.keyed:
            row |= {"name": self.random.choice("ab"), "doc": self.random.choice(("d", None)), "notes": None}
        return row

    def _taken(self, row: Row) -> bool:
        return self.keyed and any(self.key(row) == self.key(other) for other in self.rows)

    def _insert(self) -> list[Change]:
        row = self._fresh()
        if self._taken(row):
            return []
        self.rows.append(row)
        return [Change(self.random.choice((Op.INSERT, Op.INSERT, Op.READ)), new=row)]

    def _update(self) -> list[Change]:
        at = self.random.randrange(len(self.rows))
        old = self.rows[at]
        fresh = self._fresh()
        moves = self.random.random() < 0.3
        new: Row = dict(old)
        for name in new:
            if self.random.random() < 0.5 and (moves or name not in self.schema.key):
                new[name] = fresh[name]
        if self.key(new) != self.key(old) and self._taken(new):
            return []
        self.rows[at] = new
        # only what is not null can be stored out of line, and only what did not change is left out
        absent = frozenset(name for name in TOASTED if new[name] == old[name] and new[name] is not None and self.random.random() < 0.7)
        carried = tuple(old) if not self.keyed else self.schema.key if self.key(new) != self.key(old) else ()
        return [Change(Op.UPDATE, new, old, absent if self.keyed else frozenset(), carried, recalled=self.filtered)]

    def _delete(self) -> Change:
        old = self.rows.pop(self.random.randrange(len(self.rows)))
        return Change(Op.DELETE, old=old, old_carried=self.schema.key or tuple(old))


def batch_of(schema: TableSchema, changes: Sequence[Change], first: int) -> ChangeBatch:
    """The batch that the log would carry; ordinals count from `first`, and a change's time is its ordinal in seconds."""
    n = len(changes)
    cells: dict[str, list[str | None]] = {name: [] for name in schema.names}
    olds: dict[str, list[str | None]] = {name: [] for name in schema.names}
    presence = {name: np.zeros(n, np.uint8) for name in schema.names}
    for i, change in enumerate(changes):
        for name in schema.names:
            shown = change.new if change.op is not Op.DELETE else change.old
            value = None if shown is None else shown[name]
            if change.op is Op.DELETE and name not in change.old_carried:
                value, presence[name][i] = None, Presence.ABSENT
            elif name in change.absent:
                presence[name][i] = Presence.RECALLED if change.recalled else Presence.ABSENT
                value = value if change.recalled else None
            cells[name].append(value)
            carried = change.op is Op.UPDATE and name in change.old_carried and change.old is not None
            olds[name].append(change.old[name] if carried and change.old is not None else None)
    has_old = np.array([change.op is Op.UPDATE and bool(change.old_carried) for change in changes], np.bool_)
    return ChangeBatch(
        schema=schema,
        source="model",
        table="public.model",
        op=np.array([change.op for change in changes], np.uint8),
        lsn=np.arange(first, first + n, dtype=np.int64),
        nth=np.zeros(n, np.int64),
        time=np.arange(first, first + n, dtype=np.int64) * 1_000_000,
        ordinal=np.arange(first, first + n, dtype=np.int64),
        columns=tuple(pa.array(cells[name], pa.string()) for name in schema.names),
        presence={schema.index(name): codes for name, codes in presence.items() if codes.any()},
        old={schema.index(name): pa.array(olds[name], pa.string()) for name in schema.names} if has_old.any() else {},
        has_old=has_old if has_old.any() else None,
    )


def routed(changes: Sequence[Change]) -> tuple[list[Change], list[int]]:
    """What the filter leaves of the changes, and which of those it turned away though the sink may hold their row."""
    kept: list[Change] = []
    leaving: list[int] = []
    for change in changes:
        if change.new is not None and change.new["region"] != HOME:
            if change.op is not Op.UPDATE:
                continue
            leaving.append(len(kept))
        kept.append(change)
    return kept, leaving


@dataclass
class MirrorModel:
    """What a mirror table holds: rows with the time of their soft delete (None: alive), one change after the other."""

    keyed: bool
    on_delete: str = "delete"
    on_truncate: str = "truncate"
    rows: list[tuple[Row, int | None]] = field(default_factory=list)

    def apply(self, change: Change, leaves: bool, ordinal: int) -> None:
        if change.op is Op.TRUNCATE:
            if self.on_truncate == "truncate":
                self.rows.clear()
        elif change.op is Op.DELETE:
            if self.on_delete != "ignore":
                self._remove(change.old, ordinal, soft=self.on_delete == "soft")
        else:
            moved = change.op is Op.UPDATE and (not self.keyed or self._key(change.old) != self._key(change.new))
            if leaves:
                self._remove(change.old, ordinal, soft=self.on_delete == "soft")
                if moved and self.keyed:  # a row that is kept though it was deleted once
                    self._remove(change.new, ordinal, soft=self.on_delete == "soft")
            elif moved:
                self._remove(change.old, ordinal, soft=False)  # it lives on, as the new row
            if not leaves and change.new is not None:
                if self.keyed:
                    self.rows = [kept for kept in self.rows if self._key(kept[0]) != self._key(change.new)]
                self.rows.append((change.new, None))

    def _key(self, row: Row | None) -> tuple[str | None, ...]:
        assert row is not None
        return tuple(row[name] for name in (KEYED.key if self.keyed else KEYLESS.names))

    def _remove(self, row: Row | None, ordinal: int, soft: bool) -> None:
        for at, (held, deleted) in enumerate(self.rows):
            if self._key(held) == self._key(row) and (deleted is None or self.keyed):
                if not soft:
                    del self.rows[at]
                elif deleted is None:
                    self.rows[at] = (held, ordinal)
                return


@dataclass
class HistoryModel:
    """What a history table holds: (operation, values, old key, ordinal), one change after the other."""

    keyed: bool
    filtered: bool = False
    on_delete: str = "delete"
    on_truncate: str = "truncate"
    rows: list[tuple[str, Row, Row | None, int]] = field(default_factory=list)
    live: list[tuple[str | None, ...]] = field(default_factory=list)

    def apply(self, change: Change, leaves: bool, ordinal: int) -> None:
        if change.op is Op.TRUNCATE:
            if self.on_truncate == "truncate":
                self.live.clear()
                self.rows.append(("truncate", dict.fromkeys(KEYED.names), None, ordinal))
            return
        had = False
        if change.op is Op.DELETE and self.on_delete == "ignore":
            return
        if change.old is not None and self._key(change.old) in self.live:
            self.live.remove(self._key(change.old))
            had = True
        if change.op is Op.DELETE or leaves:
            if had or not self.filtered:
                carried = change.old_carried if change.op is Op.DELETE else KEYED.key if self.keyed else KEYED.names
                assert change.old is not None
                self.rows.append(("delete", {name: change.old[name] if name in carried else None for name in KEYED.names}, None, ordinal))
            return
        assert change.new is not None
        moved = change.op is Op.UPDATE and self._key(change.old) != self._key(change.new) and self.keyed
        old_key = {name: change.old[name] for name in KEYED.key} if moved and change.old is not None else None
        self.rows.append((change.op.word, change.new, old_key, ordinal))
        if self.keyed and self._key(change.new) in self.live:
            return
        self.live.append(self._key(change.new))

    def _key(self, row: Row | None) -> tuple[str | None, ...]:
        assert row is not None
        return tuple(row[name] for name in (KEYED.key if self.keyed else KEYLESS.names))
