"""Keys of unresolved records: which newer changes of them have passed, and which of the records of a key comes before which.

What counts is in two tables of the journal, written in the transaction that holds a record or lets a change pass: `sitting` has the newest
change of each key that has passed since it sits, `lane` the records of each key in their order. A record of an update that changes the key
sits under both keys. In memory there are hashes alone, 8 bytes a key: whoever asks of a batch which of its rows touch such a key pays
nothing while none sits, and finds a few candidates otherwise.

Records of a table without a key sit together under no columns: only a truncate and a copy are newer than they.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import repeat
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from journal.batch import ChangeBatch, CopyMarker, Longs, Op
from journal.key_hash import NO_HASHES, HashedKeys, Hashes, key_hashes
from journal.quarantine import UNRESOLVED, QuarantineRecord, Values, key_text, opened, texts_of_keys, values_of
from journal.sealing import Seal, SealedError

TABLES = (
    """create table if not exists sitting (
        dataset text not null, key text not null, newest integer not null, primary key (dataset, key)) without rowid""",
    """create table if not exists lane (
        dataset text not null, key text not null, ordinal integer not null, primary key (dataset, key, ordinal)) without rowid""",
)
_SIT = "insert or ignore into sitting values (?, ?, 0)"
_STAND = "insert or ignore into lane values (?, ?, ?)"
_RISE = """delete from sitting where dataset = ? and key in (select value from json_each(?))
    and not exists (select 1 from lane where lane.dataset = sitting.dataset and lane.key = sitting.key)"""
_RAISE = "update sitting set newest = max(newest, ?) where dataset = ?"
_UPDATE = Op.UPDATE.word
_KNOWN = {str}
_AT_ONCE = 20_000
_STALE = 4096  # hashes of keys that have gone, from which on the others are read again

Writing = Callable[[], AbstractContextManager[None]]


class Newer(NamedTuple):
    """Newest changes (ordinals; 0: none) that have passed since a record sits: of its key, and of the key that its row had before."""

    key: int
    old_key: int


class SittingKeys:
    """The keys that sit. Writes are part of the journal's open transaction. One thread."""

    def __init__(self, db: sqlite3.Connection, writing: Writing) -> None:
        self._db = db
        self._writing = writing
        self._hashes: dict[str, HashedKeys] | None = None

    def reload(self) -> None:
        """What is in memory is read again when it is asked for next: the transaction was rolled back."""
        self._hashes = None

    @property
    def _known(self) -> dict[str, HashedKeys]:
        if self._hashes is None:
            self._hashes = {dataset: HashedKeys(hashes) for dataset, hashes in _loaded(self._db).items()}
        return self._hashes

    def add(self, records: Sequence[QuarantineRecord]) -> None:
        """Records come into quarantine."""
        if not records:
            return
        known = self._known
        with self._writing():
            _stand(self._db, [(record.dataset, key_text(key), record.ordinal) for record in records for key in keys_of(record)])
        for dataset in {record.dataset for record in records}:
            keys = [key for record in records if record.dataset == dataset for key in keys_of(record)]
            if dataset not in known:
                known[dataset] = HashedKeys()
            known[dataset].add(hashes_of(keys))

    def remove(self, records: Iterable[QuarantineRecord]) -> None:
        """Records are resolved, superseded or discarded. Harmless when told again. Of a sealed one without its key only its own goes."""
        self._leave(_places(records))

    def mended(self, before: Sequence[QuarantineRecord], after: Sequence[QuarantineRecord]) -> None:
        """Records have got patches, by which they may sit under other keys. What has passed of such a key before, nobody knows.

        The same records twice, in one order.
        """
        pairs = [pair for pair in zip(before, after, strict=True) if not all(map(_sits_under_its_own, pair))]
        sides = ([pair[side] for pair in pairs] for side in (0, 1))
        was, now = ({(one.dataset, key_text(key), one.ordinal): key for one in side for key in keys_of(one)} for side in sides)
        come = [place for place in now if place not in was]
        self._leave([place for place in was if place not in now])
        if come:
            known = self._known
            with self._writing():
                _stand(self._db, come)
            for dataset in {dataset for dataset, *_ in come}:
                known.setdefault(dataset, HashedKeys()).add(hashes_of([now[place] for place in come if place[0] == dataset]))

    def _leave(self, places: Sequence[tuple[str, str, int]]) -> None:
        by_dataset: dict[str, set[str]] = {}
        for dataset, key, _ in places:
            by_dataset.setdefault(dataset, set()).add(key)
        with self._writing():
            self._db.executemany("delete from lane where dataset = ? and key = ? and ordinal = ?", places)
            for dataset, keys in by_dataset.items():
                gone = self._db.execute(_RISE, (dataset, msgspec.json.encode(sorted(keys)).decode())).rowcount
                self._let_go(dataset, gone)

    def _let_go(self, dataset: str, gone: int) -> None:
        if self._hashes is not None and (found := self._hashes.get(dataset)) is not None:
            found.gone += gone
            if found.gone > _STALE and found.gone > len(found) // 2:
                self.reload()

    def sit(self, dataset: str) -> bool:
        """Whether any key of a dataset may sit."""
        return dataset in self._known

    def candidates(self, dataset: str, hashes: Hashes) -> Longs:
        """Indices of those of m keys, uint64[m], that may sit; all that do are among them."""
        found = self._known.get(dataset)
        return np.zeros(0, np.int64) if found is None else np.flatnonzero(found.has(hashes))

    def passed(self, batch: ChangeBatch, *, again: bool = False) -> None:
        """Changes have passed, to all sinks: after the records that came with them were added.

        `again`: they are replayed, and sit no more themselves. That is seldom: the hashes of all keys are not read for it.
        """
        if not again and batch.dataset not in self._known:
            return
        cleared = batch.op == Op.TRUNCATE
        if cleared.any():
            with self._writing():
                self._db.execute(_RAISE, (int(batch.ordinal[cleared].max()), batch.dataset))
        if not batch.schema.key:
            return
        keys, rows = touched_keys(batch)
        found = np.arange(len(rows)) if again else self.candidates(batch.dataset, key_hashes(keys))
        if len(found):
            texts = key_texts(batch.schema.key, keys, found)
            news = zip(batch.ordinal[rows[found]].tolist(), texts, strict=True)
            with self._writing():
                self._db.executemany(f"{_RAISE} and key = ?", [(ordinal, batch.dataset, text) for ordinal, text in news])

    def copied(self, marker: CopyMarker) -> None:
        """A copy for all sinks has ended: what its table had before, and the copy did not bring, is not there any more."""
        if marker.dataset not in self._known:
            return
        held = """select lane.key from lane join quarantine on quarantine.ordinal = lane.ordinal
                  where lane.dataset = ? and lane.ordinal < ? and quarantine.source = ? and quarantine.table_name = ?"""
        of = (marker.dataset, marker.ordinal, marker.source, marker.table)
        with self._writing():
            self._db.execute(f"{_RAISE} and key in ({held})", (marker.ordinal, marker.dataset, *of))

    def newest(self, dataset: str, key: Values | str) -> int:
        """The ordinal of the newest change of a key that has passed since it sits; 0: none has, or no record of it is unresolved."""
        text = key if isinstance(key, str) else key_text(key)
        found = self._db.execute("select newest from sitting where dataset = ? and key = ?", (dataset, text)).fetchone()
        return 0 if found is None else int(found[0])

    def newest_of(self, dataset: str, keys: Sequence[str]) -> dict[str, int]:
        """The same of many keys, as text: of those that sit."""
        found: dict[str, int] = {}
        query = "select sitting.key, newest from json_each(?) it cross join sitting on dataset = ? and sitting.key = it.value"
        for start in range(0, len(keys), _AT_ONCE):
            found.update(self._db.execute(query, (msgspec.json.encode(keys[start : start + _AT_ONCE]).decode(), dataset)))
        return found

    def newer(self, record: QuarantineRecord) -> Newer:
        """What has passed of the keys of an unresolved record behind it."""
        found = [self.newest(record.dataset, key) for key in (record.key, old_key(record) or record.key)]
        return Newer(*(ordinal if ordinal > record.ordinal else 0 for ordinal in found))

    def last(self, dataset: str, key: str) -> int:
        """The ordinal of the newest record of a key (as text) that nothing newer has passed; 0: there is none."""
        found = self._db.execute(
            "select max(ordinal), newest from lane join sitting using (dataset, key) where dataset = ? and key = ?", (dataset, key)
        ).fetchone()
        return 0 if found[0] is None or found[0] < found[1] else int(found[0])

    def ahead(self, places: Sequence[tuple[str, str, int]]) -> dict[int, set[int]]:
        """What comes before records in their lanes: (dataset, key, ordinal) of all of their keys -> by ordinal, of each key the ordinal of
        the nearest unresolved record before it, if nothing newer has passed that one.
        """
        query = """select it.value ->> 2 as ours, (select max(ordinal) from lane join sitting using (dataset, key)
            where dataset = it.value ->> 0 and key = it.value ->> 1 and ordinal < it.value ->> 2 and ordinal > newest) as theirs
            from json_each(?) it where theirs is not null"""
        found: dict[int, set[int]] = {}
        for start in range(0, len(places), _AT_ONCE):
            for ordinal, ahead in self._db.execute(query, (msgspec.json.encode(places[start : start + _AT_ONCE]).decode(),)):
                found.setdefault(ordinal, set()).add(ahead)
        return found


def old_key(record: QuarantineRecord) -> Values | None:
    """The key that the row of a record had before, where the change gave it another one."""
    before = None if record.operation != _UPDATE else record.before
    return None if before is None else _before(record.key, before)


def _before(key: Values, before: Values) -> Values | None:
    """What the log did not carry of the old row has not changed."""
    old = {name: value if (known := before.get(name)) is None else known for name, value in key.items()}
    return old if old != key else None


def _sits_under_its_own(record: QuarantineRecord) -> bool:
    """Whether a record has no other key than the one that it came with: most have not. What is sealed may have."""
    patch = record.patch
    return record.operation != _UPDATE and (patch is None or (type(patch) is dict and patch.keys().isdisjoint(record.key)))


def keys_of(record: QuarantineRecord) -> list[Values]:
    """The keys that a record sits under, that of its fix among them: without those that are not known whole."""
    if _sits_under_its_own(record):
        return _whole(record.key)
    fixed = {} if not record.patch else {name: record.patch[name] for name in record.key if name in record.patch}
    found = _whole(record.key, old_key(record), {**record.key, **fixed} if fixed else None)
    return [key for place, key in enumerate(found) if key not in found[:place]]


def _whole(*keys: Values | None) -> list[Values]:
    return [key for key in keys if key is not None and set(map(type, key.values())) <= _KNOWN]


def touched_keys(batch: ChangeBatch) -> tuple[tuple[pa.StringArray, ...], Longs]:
    """The keys of a batch's rows, in their order, and behind them those that updates took from their rows.

    One string array[m] for each column of the key, and int64[m]: whose they are.
    """
    indices = batch.schema.key_indices
    keys: tuple[pa.StringArray, ...] = tuple(batch.columns[index] for index in indices)
    rows = np.arange(len(batch), dtype=np.int64)
    if batch.has_old is None or not batch.has_old.any():
        return keys, rows
    moved = np.zeros(len(batch), np.bool_)
    for index in indices:
        if index in batch.old:
            moved |= np.asarray(pc.fill_null(pc.not_equal(batch.old[index], batch.columns[index]), False))
    left = np.flatnonzero(moved & batch.has_old & (batch.op == Op.UPDATE))
    if not len(left):
        return keys, rows
    chosen = pa.array(left)
    before = [
        pc.coalesce(batch.old[i].take(chosen), key.take(chosen)) if i in batch.old else key.take(chosen)
        for i, key in zip(indices, keys, strict=True)
    ]
    return tuple(pa.concat_arrays(pair) for pair in zip(keys, before, strict=True)), np.concatenate([rows, left])


def key_texts(names: Sequence[str], keys: Sequence[pa.StringArray], chosen: Longs) -> list[str]:
    """Those of the keys that are chosen, as the journal's tables have them."""
    index = pa.array(chosen)
    return texts_of_keys(names, [key.take(index).to_pylist() for key in keys])


def newer_than(db: sqlite3.Connection, records: Sequence[QuarantineRecord]) -> frozenset[str]:
    """The ids of those records of which a newer change has passed, of their key or the one before, as far as that one can be read."""
    places = {record.id: [key_text(key) for key in _readable(record)] for record in records}
    newest: dict[tuple[str, str], int] = {}
    for dataset in {record.dataset for record in records}:
        keys = {key for record in records if record.dataset == dataset for key in places[record.id]}
        found = db.execute(
            "select key, newest from sitting where dataset = ? and key in (select value from json_each(?))",
            (dataset, msgspec.json.encode(sorted(keys)).decode()),
        )
        newest |= {(dataset, key): ordinal for key, ordinal in found}
    behind = (one for one in records if any(newest.get((one.dataset, key), 0) > one.ordinal for key in places[one.id]))
    return frozenset(one.id for one in behind)


def keys(db: sqlite3.Connection, dataset: str) -> list[Values]:
    """The keys of a dataset that sit."""
    return [values_of(key) or {} for (key,) in db.execute("select key from sitting where dataset = ?", (dataset,))]


def given_up(rows: Iterable[Mapping[str, Any]], seal: Seal) -> list[tuple[Values, int]]:
    """Keys and ordinals of stored records that were given up (their `id`, `ordinal`, `operation`, `key` and `before`).

    Of one that changed its row's key the former key, too, unless it is sealed with a key that is not known here.
    """
    found: list[tuple[Values, int]] = []
    for row in rows:
        key = values_of(row["key"]) or {}
        found.append((key, row["ordinal"]))
        before = opened(row["before"], row["id"], "before", seal) if row["operation"] == Op.UPDATE.word else None
        try:
            former = None if before is None else _before(key, before)
        except SealedError:
            continue
        found += [(one, row["ordinal"]) for one in _whole(former)]
    return found


def _places(records: Iterable[QuarantineRecord]) -> list[tuple[str, str, int]]:
    """(dataset, key, ordinal) of all that records sit under, as far as it can be read."""
    places: list[tuple[str, str, int]] = []
    alike: dict[tuple[str, tuple[str, ...]], list[QuarantineRecord]] = {}
    for record in records:
        if record.key and _sits_under_its_own(record):
            alike.setdefault((record.dataset, tuple(record.key)), []).append(record)
        else:
            places += [(record.dataset, key_text(key), record.ordinal) for key in _readable(record)]
    for (dataset, names), some in alike.items():
        texts = texts_of_keys(names, [[one.key[name] for one in some] for name in names])
        places += zip(repeat(dataset), texts, [one.ordinal for one in some], strict=False)
    return places


def _readable(record: QuarantineRecord) -> list[Values]:
    try:
        return keys_of(record)
    except SealedError:
        return _whole(record.key)


def fill(db: sqlite3.Connection) -> None:
    """For a journal of an older version: the keys of the records that are unresolved. What has passed since they came it cannot tell."""
    found = db.execute(f"select dataset, ordinal, key, before, operation from quarantine where status in {UNRESOLVED}")
    while some := found.fetchmany(_AT_ONCE):
        places = []
        for dataset, ordinal, text, old, operation in some:
            key, before = values_of(text) or {}, values_of(old) if operation == Op.UPDATE.word else None
            whole = _whole(key, None if before is None else _before(key, before))
            places += [(dataset, key_text(one), ordinal) for one in whole]
        _stand(db, places)


def _stand(db: sqlite3.Connection, places: Sequence[tuple[str, str, int]]) -> None:
    db.executemany(_SIT, [(dataset, key) for dataset, key, _ in places])
    db.executemany(_STAND, places)


def _loaded(db: sqlite3.Connection) -> Mapping[str, Hashes]:
    """Dataset -> hashes of the keys that sit."""
    found: dict[str, list[Hashes]] = {}
    rows = db.execute("select dataset, key from sitting")
    while some := rows.fetchmany(_AT_ONCE):
        by_dataset: dict[str, list[Values]] = {}
        for dataset, text in some:
            by_dataset.setdefault(dataset, []).append(msgspec.json.decode(text))
        for dataset, keys in by_dataset.items():
            found.setdefault(dataset, []).append(hashes_of(keys))
    return {dataset: np.concatenate(hashes) for dataset, hashes in found.items()}


def hashes_of(keys: Sequence[Values]) -> Hashes:
    """Of keys that know all their values; those without columns have no hash."""
    by_names: dict[tuple[str, ...], list[Values]] = {}
    for key in keys:
        by_names.setdefault(tuple(key), []).append(key)
    found = [
        key_hashes([pa.array([key[name] for key in some], pa.string()) for name in names]) for names, some in by_names.items() if names
    ]
    return np.concatenate([NO_HASHES, *found])
