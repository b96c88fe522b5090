"""What a DuckDB sink's tables look like: types, keys, names, and what becomes of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from journal.batch import ChangeBatch, Op
from journal.schema import Column, TableSchema
from journal.types import duckdb_type
from pipeline.errors import SinkShapeError, TerminalError, TransientError
from sinks.base import NO_ROWS, Cursor
from sinks.duckdb import DuckDBConfig, DuckDBSink
from tests.fix_duckdb import FilePlace, ask, key_of
from tests.sink_batches import ORDERS, delete, insert, many, update
from tests.sink_place import JOURNAL, Hand, counted, history, mirror
from tests.sink_types import VALUES

ID, NAME, AMOUNT, DOC = ORDERS.columns
TARGET = mirror(ORDERS)


@pytest.mark.parametrize(
    "kind, text, held",
    [
        ("boolean", "t", "true"),
        ("smallint", "-32768", "-32768"),
        ("integer", "2147483647", "2147483647"),
        ("bigint", "-9223372036854775808", "-9223372036854775808"),
        ("oid", "4294967295", "4294967295"),
        ("real", "0.1", "0.1"),
        ("real", "NaN", "nan"),
        ("double precision", "-Infinity", "-inf"),
        ("double precision", "5e-324", "5e-324"),
        ("numeric(10,2)", "12.30", "12.30"),
        ("numeric(38,10)", "1234567890123456789012345678.0123456789", "1234567890123456789012345678.0123456789"),
        ("numeric(50,2)", "1.10", "1.10"),
        ("numeric", "1.10", "1.10"),
        ("numeric", "NaN", "NaN"),
        ("date", "2024-02-29", "2024-02-29"),
        ("date", "infinity", "infinity"),
        ("date", "0044-03-15 BC", "0044-03-15 (BC)"),
        ("timestamp without time zone", "2024-02-29 12:34:56.789012", "2024-02-29 12:34:56.789012"),
        ("timestamp without time zone", "-infinity", "-infinity"),
        ("timestamp with time zone", "0044-03-15 12:00:00+00 BC", "0044-03-15 (BC) 12:00:00+00"),
        ("timestamp with time zone", "294246-12-31 23:59:59.999999+00", "294246-12-31 23:59:59.999999+00"),
        ("time without time zone", "24:00:00", "24:00:00"),
        ("uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("bytea", "\\x00ff41", "\\x00\\xFFA"),
        ("json", '{"a":1,  "a":2}', '{"a":1,  "a":2}'),
        ("jsonb", '{"a": 12345678901234567890.123456789}', '{"a": 12345678901234567890.123456789}'),
        ("character(5)", "a    ", "a    "),
        ("interval", "1 year 2 mons -3 days +04:05:06.789", "1 year 2 mons -3 days +04:05:06.789"),
        ("integer[]", "{1,2,NULL}", "{1,2,NULL}"),
        ("geometry(Point,4326)", "0101000020E6", "0101000020E6"),
    ],
)
def test_each_type_arrives_as_the_table_of_types_says(place: FilePlace, hand: Hand, kind: str, text: str, held: str) -> None:
    target = mirror(TableSchema("kinds", (Column("id", "integer", 1), Column("v", kind, 2)), ("id",)))
    assert not hand.write(target, insert(id="1", v=text), insert(id="2", v=None))
    assert ask(hand, place, "SELECT typeof(v), CAST(v AS VARCHAR) FROM kinds ORDER BY id") == [
        (duckdb_type(kind).replace("TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE"), held),
        (duckdb_type(kind).replace("TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE"), None),
    ]
    assert hand.live(target) == [{"id": "1", "v": text}, {"id": "2", "v": None}]


@pytest.mark.parametrize(
    "kind, text",
    [
        ("timestamp without time zone", "294276-12-31 23:59:59.999999"),
        ("timestamp with time zone", "294276-12-31 23:59:59.999999+00"),
        ("numeric(10,2)", "NaN"),
        ("json", '"\\ud800"'),
    ],
)
def test_a_value_that_duckdb_does_not_hold_refuses_its_row_and_is_not_repeated(hand: Hand, kind: str, text: str) -> None:
    target = mirror(TableSchema("kinds", (Column("id", "integer", 1), Column("v", kind, 2)), ("id",)))
    refused = hand.write(target, insert(id="1", v=VALUES[kind][0]), insert(id="2", v=text), insert(id="3", v=None))
    assert [(one.row, one.column) for one in refused] == [(1, "v")]
    assert duckdb_type(kind) in refused[0].message
    assert text not in refused[0].message
    assert sorted(str(row["id"]) for row in hand.live(target)) == ["1", "3"]


def test_names_that_differ_only_in_case_are_told_apart(place: FilePlace, hand: Hand) -> None:
    schema = TableSchema(
        "cased", (Column("id", "integer", 1), Column("Name", "text", 2), Column("name", "text", 3), Column("NAME_2", "text", 4)), ("id",)
    )
    target = mirror(schema)
    hand.write(target, insert(id="1", Name="a", name="b", NAME_2="c"))
    assert hand.live(target) == [{"id": "1", "Name": "a", "name": "b", "NAME_2": "c"}]
    assert list(place.table("cased")[0])[:4] == ["id", "Name", "name_3", "NAME_2"]
    renamed = mirror(replace(schema, columns=(schema.columns[0], replace(schema.columns[1], name="title"), *schema.columns[2:])))
    hand.write(renamed, insert(id="2", title="x", name="y", NAME_2="z"))
    assert counted(hand.live(renamed)) == counted([
        {"id": "1", "title": "a", "name": "b", "NAME_2": "c"}, {"id": "2", "title": "x", "name": "y", "NAME_2": "z"},
    ])  # fmt: skip


def test_tables_that_differ_only_in_case_are_refused(hand: Hand) -> None:
    hand.write(mirror(ORDERS), insert(id="1"))
    hand.sink.begin()
    with pytest.raises(SinkShapeError, match="already holds the dataset orders"):
        hand.sink.prepare(mirror(replace(ORDERS, dataset="ORDERS")))
    hand.sink.rollback()


@pytest.mark.parametrize(
    "columns, key, expected",
    [
        ((ID, replace(NAME, name="id2"), DOC), ("id",), {"id": "1", "id2": "a", "doc": "d"}),
        ((replace(ID, type="bigint"), NAME, AMOUNT, DOC), ("id",), {"id": "1", "name": "a", "amount": "1.50", "doc": "d"}),
        ((ID, NAME, replace(AMOUNT, type="numeric(20,4)"), DOC), ("id",), {"id": "1", "name": "a", "amount": "1.5000", "doc": "d"}),
        ((ID, NAME, replace(AMOUNT, type="text"), DOC), ("id",), {"id": "1", "name": "a", "amount": "1.50", "doc": "d"}),
        ((NAME, AMOUNT, DOC), ("name",), {"name": "a", "amount": "1.50", "doc": "d"}),
        ((ID, NAME, AMOUNT, DOC), ("id", "name"), {"id": "1", "name": "a", "amount": "1.50", "doc": "d"}),
        ((ID, NAME, AMOUNT, DOC), (), {"id": "1", "name": "a", "amount": "1.50", "doc": "d"}),
        (
            (DOC, AMOUNT, NAME, ID, Column("more", "bytea", 9, default="\\x00ff")),
            ("id",),
            {"id": "1", "name": "a", "amount": "1.50", "doc": "d", "more": "\\x00ff"},
        ),
    ],
)
def test_a_table_follows_its_dataset_in_the_middle_of_a_transaction(
    place: FilePlace, hand: Hand, columns: tuple[Column, ...], key: tuple[str, ...], expected: dict[str, str]
) -> None:
    hand.write(TARGET, insert(id="1", name="a", amount="1.50", doc="d"))
    changed = mirror(TableSchema("orders", columns, key))
    hand.sink.begin()
    hand.put(TARGET, insert(id="2", name="b", amount="2.00"), update({"id": "1", "name": "a", "amount": "1.50", "doc": "d"}))
    more = {name: value for name, value in {"id": "3", "name": "c", "id2": "c"}.items() if name in changed.schema.names}
    hand.put(changed, insert(**more))
    hand.commit()
    rows = hand.live(changed)
    assert len(rows) == 3
    assert expected in rows
    assert key_of(hand, place) == list(key)
    if not key:
        hand.write(changed, delete(**{name: expected[name] for name in changed.schema.names}))
        assert len(hand.live(changed)) == 2


def test_a_column_before_the_key_can_go(place: FilePlace, hand: Hand) -> None:
    schema = TableSchema("t", (Column("a", "text", 1), Column("id", "integer", 2), Column("b", "text", 3)), ("id",))
    hand.write(mirror(schema), insert(a="x", id="1", b="y"))
    narrower = mirror(replace(schema, columns=schema.columns[1:]))
    hand.write(narrower, insert(id="2", b="z"))
    assert hand.names(narrower, "b") == {"1": "y", "2": "z"}
    assert key_of(hand, place, "t") == ["id"]


def test_a_key_under_which_rows_are_the_same_is_refused(hand: Hand) -> None:
    hand.write(TARGET, insert(id="1", name="same"), insert(id="2", name="same"))
    hand.sink.begin()
    with pytest.raises(SinkShapeError, match="the same under the new key"):
        hand.sink.prepare(mirror(replace(ORDERS, key=("name",))))
    hand.sink.rollback()
    assert len(hand.live(TARGET)) == 2


def test_columns_and_constraints_of_others_are_respected(place: FilePlace, hand: Hand) -> None:
    hand.write(TARGET, insert(id="1", name="a"))
    hand.sink.rest()
    with duckdb.connect(str(place.path)) as connection:
        connection.execute("ALTER TABLE orders ADD COLUMN mine VARCHAR DEFAULT 'x'")
        connection.execute("CREATE UNIQUE INDEX one_name ON orders (name)")
    hand.write(TARGET, insert(id="2", name="b"))
    assert [row["mine"] for row in place.table("orders")] == ["x", "x"]
    for error in (TransientError, TerminalError):  # at the second try it has looked, so the constraint is not Sluice's
        hand.cursor = hand.sink.open(JOURNAL) or hand.cursor
        hand.sink.begin()
        hand.put(TARGET, insert(id="3", name="b"))
        with pytest.raises(error):
            hand.commit()
        hand.sink.rollback()
    hand.sink.begin()
    with pytest.raises(SinkShapeError, match="'mine'"):
        hand.sink.prepare(mirror(replace(ORDERS, columns=(replace(ID, type="bigint"), *ORDERS.columns[1:]))))
    hand.sink.rollback()


def test_a_default_that_duckdb_cannot_hold_is_refused(hand: Hand) -> None:
    hand.write(TARGET, insert(id="1"))
    hand.sink.begin()
    late = Column("at", "timestamp without time zone", 9, default="294276-12-31 00:00:00")
    with pytest.raises(SinkShapeError, match="'at'"):
        hand.sink.prepare(mirror(replace(ORDERS, columns=(*ORDERS.columns, late))))
    hand.sink.rollback()


def test_sixteen_hundred_columns_go_in(hand: Hand) -> None:
    schema = TableSchema("wide", tuple(Column(f"c{i}", "integer" if i % 2 else "text", i + 1) for i in range(1600)), ("c0",))
    target = mirror(schema)
    hand.write(target, insert(**{f"c{i}": str(i) for i in range(1600)}))
    hand.write(target, update({"c0": "0", "c1": "7"}, absent=[f"c{i}" for i in range(2, 1600)]))
    row = hand.live(target)[0]
    assert (row["c1"], row["c1599"]) == ("7", "1599")


def test_several_threads_write_the_same(tmp_path: Path) -> None:
    sink = DuckDBSink("out", DuckDBConfig(path=tmp_path / "w.duckdb", threads=4), "test")
    sink.open(JOURNAL)
    ids = pa.array(range(300_000))
    sink.begin()
    sink.prepare(TARGET)
    sink.write(TARGET, many(ORDERS, [ids] * 4, Op.INSERT, first=1), NO_ROWS)
    sink.write(TARGET, many(ORDERS, [ids.slice(0, 100_000)] * 4, Op.DELETE, first=300_001), NO_ROWS)
    sink.commit(Cursor(JOURNAL, 1))
    found = pa.concat_tables(sink.read(TARGET, None))
    sink.close()
    assert (found.num_rows, len(found["id"].unique())) == (200_000, 200_000)


def test_a_file_that_was_taken_away_is_filled_anew(place: FilePlace, hand: Hand) -> None:
    hand.write(TARGET, insert(id="1"))
    hand.sink.rest()
    place.path.unlink()
    with pytest.raises(TransientError, match="another file"):
        hand.sink.begin()
    hand.sink.rollback()
    assert hand.sink.open(JOURNAL) is None


def test_two_sinks_can_share_a_file(place: FilePlace, hand: Hand) -> None:
    other = Hand(place, "other")
    hand.write(TARGET, insert(id="1"))
    hand.sink.rest()
    with pytest.raises(SinkShapeError, match="belongs to the sink 'out'"):
        other.write(TARGET, insert(id="1"))
    other.sink.rollback()
    other.write(mirror(ORDERS, "others"), insert(id="1"))
    assert len(other.live(mirror(ORDERS, "others"))) == len(hand.live(TARGET)) == 1


def test_a_history_holds_every_change_with_its_time(place: FilePlace, hand: Hand) -> None:
    target = history(ORDERS)
    hand.write(target, insert(id="1", name="a", doc="d"), update({"id": "2", "name": "b"}, old={"id": "1"}, absent=["doc"]), delete(id="2"))
    rows = ask(
        hand,
        place,
        "SELECT id, name, doc, _op, _sluice_old_key, CAST(_sluice_committed_at AS VARCHAR) FROM orders ORDER BY _sluice_position",
    )
    assert rows == [
        (1, "a", "d", "insert", None, "1970-01-01 00:00:01+00"),
        (2, "b", "d", "update", '{"id": 1}', "1970-01-01 00:00:02+00"),
        (2, None, None, "delete", None, "1970-01-01 00:00:03+00"),
    ]
    assert key_of(hand, place) == []


def test_batches_of_one_transaction_are_written_together(hand: Hand) -> None:
    hand.sink.begin()
    hand.sink.prepare(TARGET)
    batches: list[ChangeBatch] = []
    for i in range(50):
        ids = pa.array(np.arange(i * 100, (i + 1) * 100))
        batches.append(many(ORDERS, [ids] * 4, Op.INSERT, first=i * 200 + 1))
        batches.append(
            many(ORDERS, [ids.slice(0, 50), pa.array(["u"] * 50), ids.slice(0, 50), ids.slice(0, 50)], Op.UPDATE, first=i * 200 + 101)
        )
    for batch in batches:
        assert not hand.sink.write(TARGET, batch, NO_ROWS)
    hand.commit()
    names = hand.names(TARGET)
    assert len(names) == 5000
    assert sum(name == "u" for name in names.values()) == 2500


def test_a_long_transaction_does_not_keep_what_it_has_written(hand: Hand) -> None:
    hand.sink.begin()
    hand.sink.prepare(TARGET)
    before = pa.total_allocated_bytes()
    for i in range(12):
        ids = pa.array(np.arange(i * 70_000, (i + 1) * 70_000))
        batch = many(ORDERS, [ids] * 4, Op.INSERT, first=i * 70_000 + 1)
        once = batch.nbytes
        assert not hand.sink.write(TARGET, batch, NO_ROWS)
        del batch, ids
        assert pa.total_allocated_bytes() - before < 4 * once
    hand.commit()
