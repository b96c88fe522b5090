"""What each message of pgoutput becomes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from journal.batch import Op, Presence
from journal.schema import Column, TableSchema
from sources.postgres.decoder import Idle
from sources.postgres.inbox import CAPACITY
from sources.postgres.relation import Relation, RelationColumn
from tests import pgoutput_wire as wire
from tests.pgoutput_session import (
    FULL,
    PLAIN,
    WIDER,
    Session,
    batches,
    decode,
    describe,
    keys,
    only_batch,
    plain_row,
    stream_commit,
    streamed,
    transaction,
)

# Positions ----------------------------------------------------------------------------------------------------------------------


def test_a_row_has_the_commit_lsn_of_begin_and_the_stretch_the_end_lsn_of_commit(tmp_path: Path) -> None:
    received = decode(transaction(describe(PLAIN), plain_row(1), plain_row(2), lsn=0x1000, time=12), tmp_path)
    batch = only_batch(received)
    assert batch.lsn.tolist() == [0x1000, 0x1000]
    assert batch.nth.tolist() == [0, 1]
    assert batch.time.tolist() == [946684800000012] * 2
    assert received.last_end == 0x1000 + 40


def test_many_transactions_in_one_chunk_each_keep_their_own_position_time_and_xid(tmp_path: Path) -> None:
    stream = transaction(describe(PLAIN))
    stream += b"".join(transaction(plain_row(i), plain_row(-i), lsn=1000 * i, time=i, xid=i) for i in range(2, 2000))
    ((batch, xids),) = [decoded for stretch in decode(stream, tmp_path).stretches for decoded in stretch.batches]
    expected = np.repeat(np.arange(2, 2000), 2)
    assert (batch.lsn == 1000 * expected).all()
    assert (xids == expected).all()
    assert (batch.nth == np.tile([0, 1], 1998)).all()
    assert (batch.time - 946684800000000 == expected).all()


def test_the_ordinal_counts_the_changes_of_all_tables_wanted_or_not(tmp_path: Path) -> None:
    unwanted = (20000, "unwanted", "d", (("id", True),))
    stream = transaction(
        *map(describe, (PLAIN, FULL, unwanted)),
        plain_row(1),
        wire.insert(unwanted[0], [b"1"]),
        wire.insert(FULL[0], [b"1", b"2"]),
        wire.truncate([FULL[0], unwanted[0], PLAIN[0]]),
        plain_row(2),
    )
    received = decode(stream, tmp_path)
    assert {table: [change.nth for change in rows] for table, rows in received.changes.items()} == {
        "public.plain": [0, 5, 6],
        "public.full": [2, 3],
    }


def test_an_ordinal_goes_on_where_a_transaction_is_cut_into_chunks(tmp_path: Path) -> None:
    session = Session(tmp_path)
    stream = transaction(describe(PLAIN), *(plain_row(i) for i in range(10)))
    received = session.run(stream[i : i + 40] for i in range(0, len(stream), 40))
    assert [change.nth for change in received.changes["public.plain"]] == list(range(10))
    assert [stretch.end for stretch in received.stretches][:-1] == [None] * (len(received.stretches) - 1)


def test_a_transaction_from_before_the_start_is_dropped(tmp_path: Path) -> None:
    stream = transaction(describe(PLAIN), plain_row(1), lsn=1000) + transaction(plain_row(2), lsn=2000)
    stream += streamed(701, describe(PLAIN, 701), plain_row(3, 701)) + stream_commit(701, lsn=2500)
    stream += transaction(plain_row(4), wire.truncate([PLAIN[0]]), lsn=2600) + transaction(plain_row(5), lsn=3000)
    assert keys(batches(decode(stream, tmp_path, start=2600))) == ["4", None, "5"]


def test_a_stretch_without_an_end_is_followed_by_the_rest_of_its_transaction(tmp_path: Path) -> None:
    session = Session(tmp_path)
    stream = transaction(describe(PLAIN), plain_row(1), plain_row(2))
    last_commit = len(stream) - 40
    session.run([stream[:last_commit]])
    assert [stretch.end for stretch in session.received.stretches] == [None]
    session.run([stream[last_commit:] + wire.keepalive(1100)])
    assert session.decoder.idle == Idle(1100, urgent=True), "whoever holds the rows must not wait for the end"


# Keepalives ---------------------------------------------------------------------------------------------------------------------


def test_trap_04_a_keepalive_is_an_end_only_when_nothing_is_open(tmp_path: Path) -> None:
    session = Session(tmp_path)
    session.run([wire.keepalive(500)])
    assert session.decoder.idle is not None
    assert session.decoder.idle.end == 500
    session.run([wire.xlog(wire.begin(1000, 0, 700)) + wire.keepalive(900)])
    assert session.decoder.idle.end == 500
    session.run([wire.xlog(wire.commit(1000, 1040, 0)) + wire.xlog(wire.stream_start(701, first=True)) + wire.keepalive(1070)])
    assert session.decoder.idle.end == 1040
    session.run([wire.xlog(wire.stream_stop()) + wire.keepalive(1100, answer=True)])
    assert session.decoder.idle.end == 1100
    assert session.decoder.idle.urgent


def test_a_keepalive_while_a_streamed_transaction_waits_for_its_commit_is_an_end(tmp_path: Path) -> None:
    session = Session(tmp_path)
    session.run([streamed(701, describe(PLAIN, 701), plain_row(1, 701)) + wire.keepalive(5000)])
    assert session.decoder.idle is not None
    assert session.decoder.idle.end == 5000
    assert keys(batches(session.run([stream_commit(701)]))) == ["1"]


def test_trap_03_messages_with_lsn_zero_do_not_move_the_end_backwards(tmp_path: Path) -> None:
    session = Session(tmp_path)
    session.run([transaction(describe(PLAIN), plain_row(1), lsn=5000), wire.xlog(describe(PLAIN), lsn=0), wire.keepalive(0)])
    assert session.received.last_end == 5040
    assert session.decoder.idle is None or session.decoder.idle.end == 5040


# Tuples -------------------------------------------------------------------------------------------------------------------------


def test_trap_15_an_unchanged_value_is_absent_and_not_null(tmp_path: Path) -> None:
    stream = transaction(describe(PLAIN), plain_row(1), wire.update(PLAIN[0], [b"1", wire.UNCHANGED, None]))
    batch = only_batch(decode(stream, tmp_path))
    assert batch.columns[1].to_pylist() == ["note", None]
    assert {c: codes.tolist() for c, codes in batch.presence.items()} == {1: [Presence.PRESENT, Presence.ABSENT]}
    assert batch.has_old is None


def test_trap_15_an_unchanged_value_is_filled_from_a_whole_old_row(tmp_path: Path) -> None:
    stream = transaction(
        describe(FULL),
        wire.update(FULL[0], [b"new", wire.UNCHANGED], [b"old", b"kept"]),
        wire.update(FULL[0], [b"new", wire.UNCHANGED], [b"old", None]),
        wire.update(FULL[0], [b"new", wire.UNCHANGED]),
        wire.insert(FULL[0], [b"in", b"serted"]),
    )
    batch = only_batch(decode(stream, tmp_path))
    assert batch.columns[1].to_pylist() == ["kept", None, None, "serted"]
    assert {c: codes.tolist() for c, codes in batch.presence.items()} == {1: [0, 0, 1, 0]}
    assert batch.old[0].to_pylist() == ["old", "old", None, None]
    assert batch.has_old is not None
    assert batch.has_old.tolist() == [True, True, False, False]


def test_trap_15_a_null_of_a_key_tuple_is_absent_where_the_column_is_not_of_the_key(tmp_path: Path) -> None:
    stream = transaction(describe(PLAIN), wire.delete(PLAIN[0], [b"1", None, None]), plain_row(2))
    batch = only_batch(decode(stream, tmp_path))
    assert batch.op.tolist() == [Op.DELETE, Op.INSERT]
    assert batch.columns[0].to_pylist() == ["1", "2"]
    assert {c: codes.tolist() for c, codes in batch.presence.items()} == {1: [1, 0], 2: [1, 0]}


def test_a_null_of_a_whole_old_row_is_null(tmp_path: Path) -> None:
    batch = only_batch(decode(transaction(describe(FULL), wire.delete(FULL[0], [b"1", None], b"O")), tmp_path))
    assert batch.columns[1].to_pylist() == [None]
    assert batch.presence == {}


def test_trap_16_an_update_of_the_key_carries_the_old_key_and_others_do_not(tmp_path: Path) -> None:
    stream = transaction(
        describe(PLAIN),
        wire.update(PLAIN[0], [b"2", b"x", b"y"], [b"1", None, None], b"K"),
        wire.update(PLAIN[0], [b"2", b"x", b"z"]),
    )
    batch = only_batch(decode(stream, tmp_path))
    assert {c: array.to_pylist() for c, array in batch.old.items()} == {0: ["1", None]}
    assert batch.has_old is not None
    assert batch.has_old.tolist() == [True, False]
    assert batch.columns[0].to_pylist() == ["2", "2"]


def test_trap_20_a_value_that_is_not_utf8_marks_its_row_and_leaves_its_neighbours(tmp_path: Path) -> None:
    rows = [wire.insert(PLAIN[0], [b"%d" % i, b"caf\xc3\xa9" if i != 5 else b"caf\xe9", None]) for i in range(9)]
    batch = only_batch(decode(transaction(describe(PLAIN), *rows), tmp_path))
    assert [(d.row, d.column, d.raw) for d in batch.defects] == [(5, "note", b"caf\xe9")]
    assert batch.columns[1].to_pylist() == ["café"] * 5 + [None] + ["café"] * 3


def test_a_bad_value_in_an_old_row_marks_the_row_too(tmp_path: Path) -> None:
    stream = transaction(describe(FULL), wire.insert(FULL[0], [b"a", b"b"]), wire.update(FULL[0], [b"a", b"b"], [b"\xff", b"b"]))
    batch = only_batch(decode(stream, tmp_path))
    assert [(d.row, d.column, d.raw) for d in batch.defects] == [(1, "a", b"\xff")]


def test_characters_cut_by_the_border_of_two_values_are_bad_though_together_they_would_be_good(tmp_path: Path) -> None:
    rows = [wire.insert(PLAIN[0], [b"1", b"\xc3", None]), wire.insert(PLAIN[0], [b"2", b"\xa9", None])]
    assert len(only_batch(decode(transaction(describe(PLAIN), *rows), tmp_path)).defects) == 2


def test_a_row_of_1600_columns_and_one_of_none(tmp_path: Path) -> None:
    wide = (30000, "wide", "n", tuple((f"c{i}", False) for i in range(1600)))
    none = (30001, "none", "n", ())
    stream = transaction(describe(wide), describe(none), wire.insert(30000, [b"%d" % i for i in range(1600)]), wire.insert(30001, []))
    first, second = batches(decode(stream, tmp_path))
    assert [column[0].as_py() for column in first.columns] == [str(i) for i in range(1600)]
    assert (len(second), second.columns) == (1, ())


def test_a_row_larger_than_the_buffers(tmp_path: Path) -> None:
    large = b"x" * (CAPACITY + 12345)
    stream = transaction(describe(PLAIN), plain_row(1), wire.insert(PLAIN[0], [b"2", large, b""]), plain_row(3))
    received = Session(tmp_path).run(stream[i : i + 1_000_000] for i in range(0, len(stream), 1_000_000))
    assert keys(batches(received)) == ["1", "2", "3"]
    assert received.changes["public.plain"][1].values["note"] == large.decode()


@pytest.mark.parametrize("size", [255, 256, 65_535, 65_536, 70_000])
def test_lengths_of_one_two_and_four_bytes(tmp_path: Path, size: int) -> None:
    stream = transaction(describe(PLAIN), plain_row(1), wire.insert(PLAIN[0], [b"k" * size, None, b"end"]), plain_row(3))
    assert keys(batches(decode(stream, tmp_path))) == ["1", "k" * size, "3"]


# Tables -------------------------------------------------------------------------------------------------------------------------


def test_tables_that_take_turns_become_one_batch_each_in_the_order_of_their_first_rows(tmp_path: Path) -> None:
    rows = [message for i in range(50) for message in (wire.insert(FULL[0], [b"%d" % i, b"f"]), plain_row(i))]
    full, plain = batches(decode(transaction(describe(PLAIN), describe(FULL), *rows), tmp_path))
    assert (full.table, plain.table) == ("public.full", "public.plain")
    assert keys([full]) == keys([plain]) == [str(i) for i in range(50)]


def test_trap_21_a_table_that_changes_in_mid_chunk_gets_two_batches(tmp_path: Path) -> None:
    added = wire.insert(PLAIN[0], [b"2", b"note", None, b"new"])
    stream = transaction(describe(PLAIN), plain_row(1), wire.insert(PLAIN[0], [b"x", b"", b""]), describe(WIDER), added)
    first, second = batches(decode(stream, tmp_path))
    assert (first.schema.names, keys([first])) == (("id", "note", "amount"), ["1", "x"])
    assert (second.schema.names, second.columns[3].to_pylist()) == (("id", "note", "amount", "added"), ["new"])


def test_a_table_that_is_described_again_as_it_was_stays_one_batch(tmp_path: Path) -> None:
    seen: list[Relation] = []

    def resolve(relation: Relation) -> TableSchema:
        seen.append(relation)
        return TableSchema("plain", tuple(Column(column.name, "text") for column in relation.columns))

    stream = transaction(describe(PLAIN), plain_row(1), describe(PLAIN), plain_row(2))
    assert keys([only_batch(decode(stream, tmp_path, resolve=resolve))]) == ["1", "2"]
    assert seen == [Relation(16384, "public", "plain", "d", tuple(RelationColumn(name, 25, -1, key) for name, key in PLAIN[3]))] * 2


def test_columns_of_the_schema_are_found_by_name(tmp_path: Path) -> None:
    def resolve(_: Relation) -> TableSchema:
        return TableSchema("plain", (Column("amount", "text"), Column("gone", "text"), Column("id", "text")), ("id",))

    stream = transaction(
        describe(PLAIN),
        wire.insert(PLAIN[0], [b"1", b"\xff", b"9"]),
        wire.update(PLAIN[0], [b"2", None, wire.UNCHANGED], [b"1", None, None], b"K"),
    )
    batch = only_batch(decode(stream, tmp_path, resolve=resolve))
    assert [column.to_pylist() for column in batch.columns] == [["9", None], [None, None], ["1", "2"]]
    assert {c: codes.tolist() for c, codes in batch.presence.items()} == {0: [0, 1], 1: [1, 1]}
    assert {c: array.to_pylist() for c, array in batch.old.items()} == {2: [None, "1"]}
    assert batch.defects == (), "the bad value is in a column that nobody wants"


def test_names_that_need_quotes_are_written_with_them(tmp_path: Path) -> None:
    odd = wire.relation(1, 'Sales "2"', "my.table", "d", [('a "b"', 25, -1, True)])
    batch = only_batch(decode(transaction(odd, wire.insert(1, [b"x"])), tmp_path))
    assert batch.table == '"Sales ""2"""."my.table"'
    assert batch.schema.names == ('a "b"',)


def test_trap_24_a_truncate_of_several_tables_keeps_its_place_in_each(tmp_path: Path) -> None:
    stream = transaction(
        describe(PLAIN),
        describe(FULL),
        plain_row(1),
        wire.insert(FULL[0], [b"1", b""]),
        wire.truncate([PLAIN[0], FULL[0]], flags=3),
        plain_row(2),
        wire.insert(FULL[0], [b"2", b""]),
    )
    received = decode(stream, tmp_path)
    assert {table: [change.op for change in rows] for table, rows in received.changes.items()} == {
        "public.plain": ["I", "T", "I"],
        "public.full": ["I", "T", "I"],
    }
    assert [change.values for change in received.changes["public.plain"]][1] == {"id": None, "note": None, "amount": None}


def test_a_truncate_of_a_table_without_other_changes(tmp_path: Path) -> None:
    batch = only_batch(decode(transaction(describe(PLAIN), wire.truncate([PLAIN[0]])), tmp_path))
    assert (batch.op.tolist(), batch.nth.tolist()) == ([Op.TRUNCATE], [0])


def test_messages_that_carry_no_changes_are_passed_over(tmp_path: Path) -> None:
    stream = wire.xlog(wire.logical_message(b"outside of any transaction"))
    stream += transaction(wire.origin("elsewhere"), wire.type_message(99), describe(PLAIN), wire.logical_message(b"inside"), plain_row(1))
    assert keys([only_batch(decode(stream, tmp_path))]) == ["1"]
