"""Rows that single sinks refused, on their way back: what owners have done with them, and what becomes of them at their sink.

Who writes the journal puts a row into it once more, for its sink alone and with the place that it had; the sink's process takes it, and
says what became of it before the target commits. Only when the target holds that entry is a row settled: whoever sees it first does so, and
whatever is killed, it comes to the same. A row of which the sink has written a newer change since is superseded.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from journal import state_file
from journal.batch import ChangeBatch, Op
from journal.evidence import SALT, SIZE
from journal.four_eyes import fixers
from journal.key_hash import HashedKeys, key_hashes
from journal.quarantine import COLUMNS, UNRESOLVED, QuarantineRecord, Reason, encoded, from_row, key_text, reasons_text
from journal.refused_standing import CONTENT, digest
from journal.sealing import Seal, SealedError
from journal.sitting import hashes_of, key_texts, keys_of, touched_keys
from journal.trouble import transaction

_COLUMNS = ", ".join(f"refused.{name}" for name in COLUMNS)
# a refused row counts once its sink has committed what came with it
_SETTLED = """refused join sink on sink.name = refused.sink and substr(sink.journal, 1, 8) = refused.journal and refused.seq <= sink.seq"""
_AMONG = "id in (select value from json_each(?))"

Changes = Mapping[str, Mapping[str, str | None]]
"""Id of a row -> column -> what is to stand there."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a row that came back: resolved, filtered, superseded, or refused (again, for a reason)."""

    what: str
    reason: Reason | None = None


class Returns:
    """The refused rows of a pipeline. One thread at a time. Raises as State does."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / state_file.FILE
        self._seal = Seal(folder)
        state_file.make(self._path)
        with state_file.reported(self._path):
            self._db = state_file.connect(self._path)
            self._db.isolation_level = None
            self._db.execute("pragma secure_delete = on")  # keys may be a person's, and are forgotten

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with state_file.reported(self._path), transaction(self._db):
            yield self._db

    def _records(self, condition: str, given: Sequence[object]) -> list[QuarantineRecord]:
        query = f"select {_COLUMNS}, refused.sink from {_SETTLED} where {condition} order by refused.ordinal, refused.id"
        with state_file.reported(self._path):
            rows = self._db.execute(query, given).fetchall()
        return [from_row(row, self._seal, row[-1]) for row in rows]

    def named(self, ids: Collection[str]) -> list[QuarantineRecord]:
        """The records with these ids; those of none are left out."""
        return self._records("refused.id in (select value from json_each(?))", (json.dumps(list(ids)),))

    def of_group(self, group: str) -> list[QuarantineRecord]:
        """The records of a cause."""
        return self._records("refused.cause = ?", (group,))

    def approved(self, dataset: str | None) -> list[QuarantineRecord]:
        """Those that may be sent back, of one dataset or all."""
        sendable = "(refused.status = 'approved' or refused.id in (select id from returning_row where entry is null))"
        return self._records(f"{sendable} and refused.dataset = coalesce(?, refused.dataset)", (dataset,))

    def unsent(self) -> list[tuple[str, str, int]]:
        """Id, sink and ordinal of what is about to be put into the journal, or was when a process died."""
        with state_file.reported(self._path):
            return self._db.execute("select id, sink, ordinal from returning_row where entry is null").fetchall()

    def fixed(self, records: Sequence[QuarantineRecord], by: str) -> Changes:
        """What a fix makes of rows, by id. Sealed where what was received is."""
        return {one.id: {"patch": self._text(one), "patched_by": fixers(one.patched_by, by)} for one in records}

    def digests(self, ids: Sequence[str], changes: Changes) -> bytes:
        """The digests of rows, in the order of their ids, as they are with some changes; they have salts from now on.

        None at all where the sink's process has just taken one back.
        """
        with self._writing() as db:
            missing = db.execute(f"select id from refused where {_AMONG} and {SALT} is null", (json.dumps(ids),)).fetchall()
            db.executemany(f"update refused set {SALT} = ? where id = ?", [(os.urandom(SIZE), name) for (name,) in missing])
            names = ("id", SALT, *CONTENT)
            found = db.execute(f"select id, {', '.join(names)} from refused where {_AMONG}", (json.dumps(ids),))
            rows = {name: dict(zip(names, row, strict=True)) for name, *row in found}
        return b"".join([digest(rows[name], changes.get(name, {})) for name in ids]) if len(rows) == len(ids) else b""

    def patch(self, changes: Changes) -> None:
        """Rows are as a fix makes them."""
        rows = [(one["patch"], one["patched_by"], name) for name, one in changes.items()]
        with self._writing() as db:
            db.executemany("update refused set patch = ?, patched_by = ?, approved_by = null, status = 'patched' where id = ?", rows)

    def _text(self, record: QuarantineRecord) -> str | None:
        text = encoded(record.patch)
        return self._seal.seal(text, f"{record.id} patch") if text is not None and record.sensitive else text

    def approve(self, ids: Sequence[str], by: str) -> None:
        """They may be sent back."""
        with self._writing() as db:
            db.execute(f"update refused set status = 'approved', approved_by = ? where {_AMONG}", (by, json.dumps(ids)))

    def discard(self, ids: Sequence[str], why: str, at: float) -> None:
        """They are given up, at a time in seconds since 1970."""
        with self._writing() as db:
            query = f"update refused set status = 'discarded', resolution = ?, resolved_at = ? where {_AMONG}"
            db.execute(query, (why, at, json.dumps(ids)))

    def fail(self, reasons: Mapping[str, Sequence[Reason]]) -> None:
        """Records (by id) that the contract does not let pass."""
        rows = [(reasons_text(some), name) for name, some in reasons.items()]
        with self._writing() as db:
            db.executemany(
                "update refused set status = 'failed-again', attempts = attempts + 1, approved_by = null, reasons = ? where id = ?", rows
            )

    def send(self, records: Sequence[QuarantineRecord]) -> None:
        """Records are about to be put into the journal once more: before it commits, so that no sink meets one that it does not know."""
        with self._writing() as db:
            rows = [(one.id, one.sink, one.dataset, one.ordinal) for one in records]
            db.executemany("insert or replace into returning_row values (?, ?, ?, ?, null, null, null)", rows)
            db.execute(f"update refused set status = 'replaying' where {_AMONG}", (json.dumps([one.id for one in records]),))

    def sent(self, ids: Sequence[str], seq: int) -> None:
        """The journal has them, in its entries up to `seq`."""
        with self._writing() as db:
            db.execute(f"update returning_row set entry = ? where {_AMONG}", (seq, json.dumps(ids)))

    def under_way(self, sink: str, ordinals: Sequence[int]) -> dict[int, str]:
        """Ordinal -> id of those rows that come back to a sink."""
        with state_file.reported(self._path):
            found = self._db.execute(
                "select ordinal, id from returning_row where sink = ? and ordinal in (select value from json_each(?))",
                (sink, json.dumps(ordinals)),
            )
            return dict(found.fetchall())

    def became(self, outcomes: Mapping[str, Outcome]) -> None:
        """What becomes of rows (by id), once the target holds what it is about to commit. Harmless when told again."""
        rows = [(one.what, msgspec.json.encode(one.reason).decode() if one.reason else None, name) for name, one in outcomes.items()]
        with self._writing() as db:
            db.executemany("update returning_row set outcome = ?, reason = ? where id = ?", rows)

    def settle(self, sink: str) -> None:
        """Brings rows to their end whose entry the sink's target holds."""
        with state_file.reported(self._path):
            found = self._db.execute(
                """select id, outcome, reason from returning_row where sink = :sink
                   and entry <= (select min(seq) from sink where name = :sink or name like :sink || '/%')""",
                {"sink": sink},  # of several workers the one that is behind
            ).fetchall()
        if not found:
            return
        now = time.time()
        with self._writing() as db:
            told: tuple[str, str | None, str | None, float | None]
            for name, outcome, reason in found:
                if outcome == "refused":
                    told = ("failed-again", json.dumps([json.loads(reason)]), None, None)
                    db.execute("update refused set attempts = attempts + 1, approved_by = null where id = ?", (name,))
                elif outcome is None:  # the sink waits for a copy, and has passed over it: the copy has what is there now
                    told = ("approved", None, None, None)
                else:
                    status = "superseded" if outcome == "superseded" else "resolved"
                    told = (status, None, "delivered" if outcome == "resolved" else outcome, now)
                query = "update refused set status = ?, reasons = coalesce(?, reasons), resolution = ?, resolved_at = ? where id = ?"
                db.execute(query, (*told, name))
            db.execute(f"delete from returning_row where {_AMONG}", (json.dumps([name for name, *_ in found]),))
            left = f"exists (select 1 from refused where sink = :sink and status in {UNRESOLVED})"
            db.execute(f"delete from written_key where sink = :sink and not {left}", {"sink": sink})

    def waiting(self, sink: str) -> list[QuarantineRecord]:
        """The unresolved records of a sink, those that its target does not count yet among them."""
        query = f"select {', '.join(COLUMNS)} from refused where sink = ? and status in {UNRESOLVED}"
        with state_file.reported(self._path):
            rows = self._db.execute(query, (sink,)).fetchall()
        return [from_row(row, self._seal, sink) for row in rows]

    def prune(self, sink: str) -> list[QuarantineRecord]:
        """Forgets the newest changes of keys of which nothing waits any more; returns what waits. What is sealed with a key that is not
        known here may be of any key: then nothing is forgotten."""
        with self._writing() as db:  # what waits, and what is noted of it, as of one moment: other workers of the sink refuse rows, too
            records = self.waiting(sink)
            with suppress(SealedError):
                there = [(one.dataset, key_text(key)) for one in records for key in keys_of(one)]
                waits = "(dataset, key) in (select value ->> 0, value ->> 1 from json_each(?))"
                db.execute(f"delete from written_key where sink = ? and not {waits}", (sink, json.dumps(there)))
        return records

    def prune_all(self) -> None:
        """The same for every sink."""
        with state_file.reported(self._path):
            sinks = [sink for (sink,) in self._db.execute("select distinct sink from written_key").fetchall()]
        for sink in sinks:
            self.prune(sink)

    def raise_keys(self, sink: str, dataset: str, newest: Iterable[tuple[str, int]]) -> None:
        """Notes that changes (ordinals) of keys have been written. Durable before the target commits; harmless when told again."""
        rows = [(sink, dataset, key, ordinal) for key, ordinal in newest]
        with self._writing() as db:
            db.executemany(
                "insert into written_key values (?, ?, ?, ?) on conflict do update set newest = max(newest, excluded.newest)", rows
            )

    def newest(self, sink: str, dataset: str, key: str) -> int:
        """The newest change of a key that the sink has written since it refused one of it; 0: none."""
        with state_file.reported(self._path):
            query = "select newest from written_key where sink = ? and dataset = ? and key = ?"
            found = self._db.execute(query, (sink, dataset, key)).fetchone()
        return 0 if found is None else int(found[0])

    def close(self) -> None:
        with closing(self._db):
            pass


class RefusedKeys:
    """Of one sink: the keys of rows that it refused, in memory, so that what it writes is asked for them by whole columns."""

    def __init__(self, returns: Returns, sink: str) -> None:
        self._returns = returns
        self._sink = sink
        self._known: dict[str, dict[str, None]] = {}
        self._hashes: dict[str, HashedKeys] = {}

    def load(self) -> None:
        """As the state has them, when the sink is opened."""
        self._known, self._hashes = {}, {}
        self.add(self._returns.prune(self._sink))

    def add(self, records: Sequence[QuarantineRecord]) -> None:
        """More are refused."""
        for dataset in {one.dataset for one in records}:
            keys = [key for one in records if one.dataset == dataset for key in keys_of(one)]
            self._known.setdefault(dataset, {}).update(dict.fromkeys(map(key_text, keys)))
            self._hashes.setdefault(dataset, HashedKeys()).add(hashes_of(keys))

    def written(self, batch: ChangeBatch) -> None:
        """The sink has written changes."""
        if batch.dataset not in self._known:
            return
        cleared = batch.ordinal[batch.op == Op.TRUNCATE]
        if len(cleared):
            self.swept(batch.dataset, int(cleared.max()))
        if not batch.schema.key:
            return
        keys, rows = touched_keys(batch)
        found = np.flatnonzero(self._hashes[batch.dataset].has(key_hashes(keys)))
        if len(found):
            texts = zip(key_texts(batch.schema.key, keys, found), batch.ordinal[rows[found]].tolist(), strict=True)
            news = [(key, ordinal) for key, ordinal in texts if key in self._known[batch.dataset]]
            self._returns.raise_keys(self._sink, batch.dataset, news)

    def swept(self, dataset: str, ordinal: int) -> None:
        """Whatever is older than this is not at the source any more."""
        if dataset in self._known:
            self._returns.raise_keys(self._sink, dataset, ((key, ordinal) for key in self._known[dataset]))

    def overtaken(self, batch: ChangeBatch, rows: Collection[int]) -> set[int]:
        """Those rows of a batch (indices) of which the sink has written a newer change."""
        if not batch.schema.key:
            texts = {row: ["{}"] for row in rows}
        else:
            keys, whose = touched_keys(batch)
            chosen = np.flatnonzero(np.isin(whose, np.array(sorted(rows), np.int64)))
            texts = {row: [] for row in rows}
            for row, text in zip(whose[chosen].tolist(), key_texts(batch.schema.key, keys, chosen), strict=True):
                texts[row].append(text)
        newest = {
            row: max((self._returns.newest(self._sink, batch.dataset, key) for key in some), default=0) for row, some in texts.items()
        }
        return {row for row, ordinal in newest.items() if ordinal > int(batch.ordinal[row])}
