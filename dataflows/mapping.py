"""Changes through the map of their feed: what a source tells of its rows, as changes of the rows of a dataset.

A change stays one change. An insert or an update is the map of the new row. Whose row it is, the map says too: where an old row was
told, it is mapped to the key that it had, so that a key which changes under the map moves the row. A delete brings nothing but the key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import pyarrow as pa

from dataflows.map_answer import Answer, bad_row
from journal.batch import Bytes, ChangeBatch, Longs, Mask, Op, Presence
from journal.quarantine import Reason, Values
from journal.schema import TableSchema
from quality.judgement import UNDECODABLE, QuarantinedRow
from sinks.lineage import completed
from sources.base import KEY_PREFIX

FULL = "the old row does not have it: ALTER TABLE … REPLICA IDENTITY FULL"


class RowMap(Protocol):
    """What makes rows of rows: see SqlMap."""

    columns: dict[str, str]

    def reads(self, names: Iterable[str]) -> frozenset[str]: ...

    def run(self, columns: Mapping[str, pa.StringArray], rows: int, names: Sequence[str] | None = None) -> Answer: ...


@dataclass(frozen=True, slots=True, eq=False)
class Mapped:
    """What became of a batch of n rows.

    passed  the rows that the map made, as changes of the dataset
    failed  the others, as they were given, with why (`rows` in their order) and the key in the dataset as far as it is known
    """

    passed: ChangeBatch
    failed: ChangeBatch | None = None
    rows: Sequence[QuarantinedRow] = ()
    keys: Sequence[Values] = ()


class FeedMap:
    """One feed's way into its dataset, bound to the columns of the one and the other.

    identity     columns of the dataset that say which row it is: its key, or all of them
    identifying  columns of the source that those are made of
    handed       column of the key -> place of the column in which the source hands it over for deletes
    """

    def __init__(self, rows: RowMap, given: TableSchema, dataset: TableSchema, *, declared: bool, merged: bool) -> None:
        """`given`: the columns of the source; `declared`: a contract judges what comes out; `merged`: the dataset has other feeds."""
        self.rows = rows
        self.schema = dataset
        self.index = {name: place for place, name in enumerate(given.names) if not name.startswith(KEY_PREFIX)}
        self.handed = {name: given.names.index(KEY_PREFIX + name) for name in dataset.key if KEY_PREFIX + name in given.names}
        self.identity = tuple(name for name in (dataset.key or dataset.names) if name in rows.columns)
        self.needed = rows.reads(rows.columns)
        self.identifying = rows.reads(self.identity)
        self.declared = declared
        self.merged = merged

    def apply(self, batch: ChangeBatch) -> Mapped:
        """Maps a batch of the source's columns."""
        return _Work(self, completed(batch) if batch.presence else batch).done()


class _Work:
    """One batch on its way."""

    def __init__(self, feed: FeedMap, batch: ChangeBatch) -> None:
        self.feed = feed
        self.batch = batch
        self.n = len(batch)
        self.bad: dict[int, list[Reason]] = {}
        for defect in batch.defects:
            message, value = (defect.unquoted, None) if feed.declared else (defect.message, defect.shown)
            self.bad.setdefault(defect.row, []).append(Reason(UNDECODABLE, defect.column, message, value))
        op = batch.op
        self.sound = np.ones(self.n, np.bool_)
        self.sound[list(self.bad)] = False
        self.deletes = (op == Op.DELETE) & self.sound
        self.truncates = (op == Op.TRUNCATE) & self.sound
        self.new = self.sound & ~self.deletes & ~self.truncates
        nothing = pa.nulls(self.n, pa.string())
        self.columns: dict[str, pa.StringArray] = dict.fromkeys(feed.schema.names, nothing)
        self.presence: dict[str, Bytes] = {}
        self.old: dict[str, pa.StringArray] = {}
        self.has_old: Mask | None = None

    def done(self) -> Mapped:
        self._map_new()
        self._map_old()
        self._map_deletes()
        if self.feed.merged and self.truncates.any():
            said = "a TRUNCATE of one of several sources of a dataset: which of the dataset's rows came from it, nobody knows"
            self._refuse(np.flatnonzero(self.truncates), bad_row(said))
        return self._mapped()

    def _map_new(self) -> None:
        feed, index = self.feed, np.flatnonzero(self.new)
        if not len(index):
            return
        answer = feed.rows.run(self._taken(feed.needed, index), len(index))
        self._note(answer, index)
        absent = {name: codes for name, c in feed.index.items() if (codes := self.batch.presence.get(c)) is not None}
        for name in feed.rows.reads(()) & absent.keys():
            gone = np.flatnonzero(self.new & (absent[name] == Presence.ABSENT))
            self._refuse(gone, bad_row(f"the map needs {name}, which the log left out as unchanged, and the row is gone"))
        for name, text in answer.columns.items():
            self.columns[name] = self._spread(text, index)
            codes = _codes([absent.get(read) for read in feed.rows.reads((name,))])
            if codes is not None and codes[self.new].any():
                self.presence[name] = np.where(self.new, codes, np.uint8(Presence.PRESENT))
        for name in feed.schema.key:
            if name in self.presence:
                self._refuse(
                    np.flatnonzero(self.new & (self.presence[name] == Presence.ABSENT)),
                    bad_row(f"the log left out what {name} is made of", name),
                )
            if not feed.declared and self.columns[name].null_count:
                self._refuse(np.flatnonzero(self.new & np.asarray(self.columns[name].is_null())), bad_row(f"the map gives no {name}", name))

    def _map_old(self) -> None:
        """The keys that updated rows had. One whose old row the map would not take was never in the dataset."""
        feed, batch = self.feed, self.batch
        if batch.has_old is None:
            return
        index = np.flatnonzero(batch.has_old & self.new & (batch.op == Op.UPDATE))
        if not len(index):
            return
        lacking = [name for name in feed.identifying if feed.index[name] not in batch.old]
        if lacking:
            self._refuse(index, bad_row(f"the map makes the key of {lacking[0]}, and {FULL}"))
            return
        chosen = pa.array(index)
        given = {name: batch.old[feed.index[name]].take(chosen) for name in feed.identifying}
        answer = feed.rows.run(given, len(index), feed.identity)
        there = np.ones(len(index), np.bool_)
        there[list(answer.bad)] = False
        self.has_old = np.zeros(self.n, np.bool_)
        self.has_old[index[there]] = True
        self.old = {name: self._spread(text, index) for name, text in answer.columns.items()}
        if not feed.schema.key:  # then the whole old row tells which one it was, and what no map gives was null in it
            self.old |= {name: self.columns[name] for name in feed.schema.names if name not in self.old}

    def _map_deletes(self) -> None:
        """Deletes have their key from the map of the old row where that is known, else as the source hands it."""
        feed = self.feed
        index = np.flatnonzero(self.deletes)
        if not len(index):
            return
        unknown = np.zeros(self.n, np.bool_)
        lacking: dict[str, Mask] = {}
        for name in feed.identifying:
            lacking[name] = self.batch.absent(feed.index[name]) & self.deletes
            unknown |= lacking[name]
        mapped = np.flatnonzero(self.deletes & ~unknown)
        if feed.handed:
            self._hand_keys(np.flatnonzero(unknown))
        else:
            for name, mask in lacking.items():
                self._refuse(np.flatnonzero(mask), bad_row(f"the map makes the key of {name}, and {FULL}"))
        if len(mapped):
            answer = feed.rows.run(self._taken(feed.identifying, mapped), len(mapped), feed.identity)
            self._note(answer, mapped)
            for name, text in answer.columns.items():
                self._put(name, text, mapped)
        for name in feed.schema.names if feed.schema.key else ():
            if name not in feed.identity:
                codes = self.presence.get(name, np.zeros(self.n, np.uint8)).copy()
                codes[index] = Presence.ABSENT
                self.presence[name] = codes
        for name in feed.schema.key:
            null = self.deletes & self.sound & np.asarray(self.columns[name].is_null())
            self._refuse(np.flatnonzero(null), bad_row(f"the delete tells no {name}", name))

    def _hand_keys(self, index: Longs) -> None:
        for name, column in self.feed.handed.items():
            self._put(name, self.batch.columns[column].take(pa.array(index)), index)

    def _mapped(self) -> Mapped:
        feed, batch = self.feed, self.batch
        place = {name: c for c, name in enumerate(feed.schema.names)}
        made = replace(
            batch,
            schema=feed.schema,
            columns=tuple(self.columns[name] for name in feed.schema.names),
            presence={place[name]: codes for name, codes in self.presence.items()},
            old={place[name]: text for name, text in self.old.items()},
            has_old=self.has_old,
            defects=(),
        )
        if not self.bad:
            return Mapped(made)
        failed = np.array(sorted(self.bad), np.int64)
        good = np.ones(self.n, np.bool_)
        good[failed] = False
        rows = [QuarantinedRow(place, tuple(self.bad[int(row)])) for place, row in enumerate(failed)]
        return Mapped(made.take(good), replace(batch.take(failed), defects=()), rows, self._keys(failed))

    def _keys(self, failed: Longs) -> list[Values]:
        """The keys of rows that are held back, as far as the map gives them all the same."""
        feed = self.feed
        found = {name: self.columns[name].take(pa.array(failed)).to_pylist() for name in feed.schema.key}
        asked = np.array(
            [place for place, row in enumerate(failed) if self.new[row] and any(found[name][place] is None for name in found)], np.int64
        )
        if found and len(asked) and set(feed.schema.key) <= set(feed.identity):
            answer = feed.rows.run(self._taken(feed.identifying, failed[asked]), len(asked), feed.identity)
            for name, text in answer.columns.items():
                for place, value in zip(asked, text.to_pylist(), strict=True):
                    found[name][place] = found[name][place] if value is None else value
        return [{name: values[place] for name, values in found.items()} for place in range(len(failed))]

    def _taken(self, names: Iterable[str], index: Longs) -> dict[str, pa.StringArray]:
        columns = {name: self.batch.columns[self.feed.index[name]] for name in names}
        if len(index) == self.n:
            return columns
        chosen = pa.array(index)
        return {name: column.take(chosen) for name, column in columns.items()}

    def _spread(self, text: pa.StringArray, index: Longs) -> pa.StringArray:
        """Values for the rows at `index`; nulls elsewhere."""
        if len(index) == self.n:
            return text
        place = np.full(self.n, -1, np.int64)
        place[index] = np.arange(len(index))
        return text.take(pa.array(place, mask=place < 0))

    def _put(self, name: str, text: pa.StringArray, index: Longs) -> None:
        """Sets the values of the rows at `index`."""
        place = np.arange(self.n)
        place[index] = self.n + np.arange(len(index))
        self.columns[name] = pa.concat_arrays([self.columns[name], text]).take(pa.array(place))

    def _note(self, answer: Answer, index: Longs) -> None:
        for row, reason in answer.bad.items():
            self._refuse(index[row : row + 1], reason)

    def _refuse(self, rows: Longs, reason: Reason) -> None:
        for row in rows:
            self.bad.setdefault(int(row), []).append(reason)
            self.sound[row] = False


def _codes(inputs: Sequence[Bytes | None]) -> Bytes | None:
    """Whether a value is known that was made of others: not where one of those is not.

    Made of nothing but values that were read again it is such a value itself: where a sink has the row, its own value is as right.
    """
    if not any(codes is not None for codes in inputs):
        return None
    some = [codes for codes in inputs if codes is not None]
    absent = np.logical_or.reduce([codes == Presence.ABSENT for codes in some])
    again = (
        np.logical_and.reduce([codes == Presence.RECALLED for codes in some])
        if len(some) == len(inputs)
        else np.zeros(len(some[0]), np.bool_)
    )
    return np.where(absent, Presence.ABSENT, np.where(again, Presence.RECALLED, Presence.PRESENT)).astype(np.uint8)
