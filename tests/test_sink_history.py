"""What a batch adds to a history, applied to a list in memory, is what its changes tell one by one."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from journal.batch import Longs
from sinks.base import Target
from sinks.history import Log, bag_log_of, log_of
from sinks.mirror import lacking
from sinks.row_hash import ROW, row_hashes
from tests.sink_model import KEYED, KEYLESS, HistoryModel, SourceTable, batch_of, routed


class History:
    """A history table in memory that appends a Log literally."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.rows: list[dict[str, Any]] = []

    def newest(self, key: tuple[str | None, ...]) -> dict[str, Any] | None:
        for row in reversed(self.rows):
            if row["_op"] == "truncate":
                return None
            if row["_sluice_old_key"] and tuple(str(v) for v in json.loads(row["_sluice_old_key"]).values()) == key:
                return None
            if tuple(row[name] for name in KEYED.key) == key:
                return None if row["_op"] == "delete" else row
        return None

    def count_live(self, hashes: pa.StringArray) -> Longs:
        live: dict[str, int] = {}
        for row in self.rows:
            if row["_op"] == "truncate":
                live.clear()
                continue
            if row["_sluice_old_key"]:
                old = json.loads(row["_sluice_old_key"])[ROW]
                live[old] = max(live.get(old, 0) - 1, 0)
            live[row[ROW]] = max(live.get(row[ROW], 0) + (-1 if row["_op"] == "delete" else 1), 0)
        return np.array([live.get(h, 0) for h in hashes.to_pylist()], np.int64)

    def append(self, log: Log) -> None:
        bases = list(zip(*(b.to_pylist() for b in log.rows.base), strict=True)) if log.rows.base else [()] * len(log.rows)
        held = [self.newest(base) if log.rows.base else None for base in bases]
        found = np.array([row is not None for row in held], np.bool_)
        names = KEYED.names
        rows, lost = log.rows.filled(found, {c: pa.array([row and row[names[c]] for row in held], pa.string()) for c in log.rows.missing})
        assert not lacking(self.target, log.rows, lost)
        kept = np.delete(np.arange(len(log.rows)), lost)
        for i, at in enumerate(kept):
            if not log.if_held[at] or found[at]:
                values = {name: rows.columns[c][i].as_py() for c, name in enumerate(names)}
                own = {"_op": log.op[at].as_py(), "_sluice_old_key": log.old_key[at].as_py(), "at": int(rows.position[i])}
                self.rows.append({**values, **own, ROW: rows.row_hash[i].as_py() if rows.row_hash is not None else None})


@pytest.mark.parametrize("filtered", [False, True], ids=["everything", "filtered"])
@pytest.mark.parametrize("keyed", [True, False], ids=["keyed", "keyless"])
@pytest.mark.parametrize("seed", range(40))
def test_random_changes_tell_what_they_tell_one_by_one(seed: int, keyed: bool, filtered: bool) -> None:
    chance = random.Random(seed)
    source = SourceTable(chance, keyed=keyed, filtered=filtered)
    ignoring = {"on_delete": chance.choice(("delete", "ignore")), "on_truncate": chance.choice(("truncate", "ignore"))} if keyed else {}
    target = Target("model", "model", source.schema, mode="history", filtered=filtered, **ignoring)
    table = History(target)
    model = HistoryModel(keyed, filtered, target.on_delete, target.on_truncate)
    ordinal = 1
    for _ in range(10):
        changes = source.changes(chance.choice((1, 3, 10, 40)))
        leaving: list[int] = []
        if filtered:
            changes, leaving = routed(changes)
        for i, change in enumerate(changes):
            model.apply(change, i in leaving, ordinal + i)
        batch, away = batch_of(source.schema, changes, ordinal), np.array(leaving, np.int64)
        log = log_of(target, batch, away) if keyed else bag_log_of(target, batch, away, row_hashes, table.count_live)
        assert not log.refused
        table.append(log)
        ordinal += len(changes)
        shown = [(row["_op"], {name: row[name] for name in KEYLESS.names}, row["_sluice_old_key"], row["at"]) for row in table.rows]
        if keyed:
            told = [(op, row, old and json.dumps({**old, "id": int(old["id"] or 0)}), at) for op, row, old, at in model.rows]
        else:
            shown = [(op, row, None, at) for op, row, _, at in shown]
            told = [(op, row, None, at) for op, row, _, at in model.rows]
        assert shown == told
