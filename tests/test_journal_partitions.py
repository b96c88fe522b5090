"""A journal with partitions: where changes go, and that one who reads all of them sees what came in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from journal.batch import ChangeBatch, Op
from journal.lanes import Done, Lanes
from journal.local import JournalReader, JournalWriter
from journal.partition import Pieces, spread
from journal.schema import Column, TableSchema
from pipeline.model import JournalConfig

KEYED = TableSchema("items", (Column("id", "text", nullable=False), Column("v", "text")), ("id",))
KEYS = st.lists(st.text(max_size=60), min_size=1, max_size=50)


def changes(schema: TableSchema, keys: list[str], ops: list[Op], first: int = 1, old: list[str | None] | None = None) -> ChangeBatch:
    n = len(keys)
    return ChangeBatch(
        schema=schema,
        source="shop",
        table="items",
        op=np.array(ops, np.uint8),
        lsn=np.zeros(n, np.int64),
        nth=np.arange(n, dtype=np.int64),
        time=np.zeros(n, np.int64),
        ordinal=np.arange(first, first + n, dtype=np.int64),
        columns=(pa.array(keys, pa.string()), pa.array([str(i) for i in range(n)], pa.string())),
        old={} if old is None else {0: pa.array(old, pa.string())},
        has_old=None if old is None else np.array([before is not None for before in old]),
    )


@given(KEYS, st.integers(1, 16))
def test_a_key_is_in_one_partition_whatever_stands_around_it(keys: list[str], partitions: int) -> None:
    batch = changes(KEYED, keys, [Op.INSERT] * len(keys))
    found: dict[str, int] = {}
    ordinals: list[int] = []
    for partition, piece in spread(batch, partitions):
        assert partition is not None
        assert 0 <= partition < partitions
        assert (np.diff(piece.ordinal) > 0).all()
        ordinals += piece.ordinal.tolist()
        for key in piece.column("id").to_pylist():
            assert found.setdefault(key, partition) == partition
    assert sorted(ordinals) == batch.ordinal.tolist()
    for key, partition in found.items():
        alone = changes(KEYED, ["before", key], [Op.INSERT] * 2).slice(1, 2)
        assert [where for where, _ in spread(alone, partitions)] == [partition]


def test_keys_are_spread_evenly() -> None:
    for keys in ([str(i) for i in range(80_000)], [f"customer-{i:040}" for i in range(80_000)], [f"{i:060}-x" for i in range(80_000)]):
        found = [(partition, len(piece)) for partition, piece in spread(changes(KEYED, keys, [Op.INSERT] * 80_000), 8)]
        assert [partition for partition, _ in found] == list(range(8))
        assert all(9_000 < size < 11_000 for _, size in found), found


def test_the_partition_of_a_key_never_changes_between_releases() -> None:
    keys = ["", "1", "42", "0123456789abcdef", "é" * 40]
    where = [next(spread(changes(KEYED, [key], [Op.INSERT]), 8))[0] for key in keys]
    assert where == [0, 3, 1, 1, 6]


def test_keys_that_move_to_another_partition_and_truncates_stand_together_and_alone() -> None:
    ops = [Op.INSERT, Op.UPDATE, Op.UPDATE, Op.UPDATE, Op.TRUNCATE, Op.INSERT]
    before = [None, "a", None, "key-of-another-partition", None, None]
    pieces = list(spread(changes(KEYED, ["a", "a", "a", "b", "a", "a"], ops, old=before), 64))
    assert [(partition is None, piece.ordinal.tolist()) for partition, piece in pieces] == [
        (False, [1, 2, 3]),
        (True, [4, 5]),
        (False, [6]),
    ]


def test_rows_without_a_key_are_all_in_one() -> None:
    schema = replace(KEYED, key=())
    pieces = list(spread(changes(schema, [str(i) for i in range(100)], [Op.INSERT] * 100), 8))
    assert len(pieces) == 1
    assert pieces[0][0] is not None


@pytest.mark.parametrize("partitions", [0, 8])
def test_who_reads_all_of_them_sees_what_came_in(tmp_path: Path, partitions: int) -> None:
    keys = [str(i % 97) for i in range(1_000)]
    batch = changes(KEYED, keys, [Op.INSERT] * 1_000)
    with JournalWriter.open(tmp_path, "p", JournalConfig(1 << 30), partitions=partitions) as journal:
        journal.append(batch)
        last = journal.commit("shop", "1")
        with JournalReader.open(tmp_path, "p") as reader:
            found = reader.read(0, max_bytes=1 << 30, sink="any")
    assert found.last == last
    assert found.whole
    ((_, read),) = found.entries
    assert isinstance(read, ChangeBatch)
    assert read.ordinal.tolist() == batch.ordinal.tolist()
    assert read.columns[0].to_pylist() == keys


def test_the_first_change_under_another_schema_stands_alone() -> None:
    pieces = Pieces(8)
    wide = replace(KEYED, columns=(*KEYED.columns, Column("w", "text")))

    def common(batch: ChangeBatch) -> list[int]:
        return [int(ordinal) for partition, piece in pieces.of(batch) if partition is None for ordinal in piece.ordinal]

    keys, ops = [str(i) for i in range(20)], [Op.INSERT] * 20
    narrow, wider = changes(KEYED, keys, ops), replace(changes(KEYED, keys, ops), schema=wide)
    wider = replace(wider, columns=(*wider.columns, wider.columns[1]))
    assert [common(batch) for batch in (narrow, narrow, wider, wider, narrow)] == [[1], [], [1], [], [1]]


def test_workers_read_everything_between_them_and_what_concerns_all_apart(tmp_path: Path) -> None:
    keys = [str(i) for i in range(400)]
    with JournalWriter.open(tmp_path, "p", JournalConfig(1 << 30), partitions=8) as journal:
        journal.append(changes(KEYED, keys, [Op.INSERT] * 400))
        journal.append(changes(KEYED, keys[:10], [Op.TRUNCATE] * 10, first=401))
        journal.append(changes(KEYED, keys, [Op.INSERT] * 400, first=411))
        last = journal.commit("shop", "1")
        with JournalReader.open(tmp_path, "p") as reader:
            found = [[(common, ordinals) for _, common, ordinals in _stretches(reader, Lanes(worker, 3), last)] for worker in range(3)]
    for stretches in found:
        assert [(common, ordinals) for common, ordinals in stretches if common] == [(True, [1]), (True, list(range(401, 411)))]
        assert all(max(before[1], default=0) < min(after[1], default=1000) for before, after in pairwise(stretches))
    apart = sorted(ordinal for stretches in found for common, ordinals in stretches if not common for ordinal in ordinals)
    assert apart == [*range(2, 401), *range(411, 811)]


def test_a_worker_passes_over_what_the_target_has_of_some_partitions(tmp_path: Path) -> None:
    with JournalWriter.open(tmp_path, "p", JournalConfig(1 << 30), partitions=8) as journal:
        for n in range(20):
            journal.append(changes(KEYED, [str(i) for i in range(50)], [Op.INSERT] * 50, first=1 + 50 * n))
            last = journal.commit("shop", str(n))
        with JournalReader.open(tmp_path, "p") as reader:
            whole = [ordinals for _, _, ordinals in _stretches(reader, Lanes(), last)]
            assert sorted(chain(*whole)) == list(range(1, 1001))
            mine = list(_stretches(reader, Lanes(0, 2), last))
            done, _, _ = mine[len(mine) // 2]
            old = [ordinals for seq, _, ordinals in mine if seq <= done]
            ahead = Lanes(ahead=(Done(0, 2, done),))
            assert ahead.together == done
            rest = [ordinals for seq, common, ordinals in _stretches(reader, ahead, last) if not common or seq > ahead.together]
            assert sorted(chain(*old, *rest)) == sorted(chain(*whole))


def _stretches(reader: JournalReader, lanes: Lanes, last: int) -> Iterator[tuple[int, bool, list[int]]]:
    """Of each stretch where it ends, whether it concerns all, and its ordinals."""
    after = 0
    while after < last:
        found = reader.read(after, max_bytes=10_000, sink="any", lanes=lanes)
        assert found.last > after
        after = found.last
        batches = [entry for _, entry in found.entries if isinstance(entry, ChangeBatch)]
        yield after, found.common, [ordinal for batch in batches for ordinal in batch.ordinal.tolist()]
