"""Changes through a map: whose row it is afterwards, and what becomes of what the map cannot make."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from dataflows.map_function import FunctionMap, load_function
from dataflows.map_query import parse_query
from dataflows.map_sql import SqlMap
from dataflows.mapping import FeedMap, Mapped, RowMap
from journal.batch import ChangeBatch, Defect, Op, Presence, batch_from_columns
from journal.schema import Column, TableSchema
from pipeline.errors import ConfigError

_GIVEN = TableSchema(
    "orders", (Column("id", "bigint"), Column("shop", "text"), Column("note", "text"), Column("n", "integer")), ("id", "shop")
)
_ORDERS = TableSchema(
    "orders", (Column("order_id", "text"), Column("note", "text"), Column("twice", "integer"), Column("more", "text")), ("order_id",)
)
_SQL = "SELECT concat(shop, '-', id) AS order_id, note, n * 2 AS twice FROM input"
_ABSENT, _RECALLED = Presence.ABSENT, Presence.RECALLED


def _feed(sql: str = _SQL, given: TableSchema = _GIVEN, *, merged: bool = False, declared: bool = False) -> FeedMap:
    types = {name: kind for name, kind in given.types.items() if not name.startswith("_sluice_key_")}
    return FeedMap(SqlMap(parse_query(sql, Path("m.sql")), types, _ORDERS), given, _ORDERS, declared=declared, merged=merged)


def _batch(op: Op, *rows: Sequence[str | None], schema: TableSchema = _GIVEN) -> ChangeBatch:
    columns = [pa.array([row[c] for row in rows], pa.string()) for c in range(len(schema.columns))]
    return batch_from_columns(schema, columns, op, source="db", table="public.orders", first=100)


def _with(batch: ChangeBatch, **changed: object) -> ChangeBatch:
    from dataclasses import replace

    return replace(batch, **changed)  # type: ignore[arg-type]


def _values(mapped: Mapped, name: str) -> list[str | None]:
    found: list[str | None] = mapped.passed.column(name).to_pylist()
    return found


def test_inserts_become_rows_of_the_dataset_and_columns_that_the_map_lacks_are_null() -> None:
    mapped = _feed().apply(_batch(Op.INSERT, ("1", "a", "x", "5"), ("2", "b", None, None)))
    assert mapped.failed is None
    assert mapped.passed.schema == _ORDERS
    assert [_values(mapped, name) for name in _ORDERS.names] == [["a-1", "b-2"], ["x", None], ["10", None], [None, None]]
    assert mapped.passed.ordinal.tolist() == [100, 101]


def test_a_row_that_the_map_fails_on_is_held_back_as_it_was_and_keeps_its_place() -> None:
    mapped = _feed().apply(_batch(Op.INSERT, ("1", "a", "x", "5"), ("2", "b", "y", "2000000000"), ("3", "c", "z", "7")))
    assert _values(mapped, "order_id") == ["a-1", "c-3"]
    assert mapped.passed.ordinal.tolist() == [100, 102]
    assert mapped.failed is not None
    assert mapped.failed.schema is _GIVEN
    assert mapped.failed.column("n").to_pylist() == ["2000000000"]
    assert mapped.failed.ordinal.tolist() == [101]
    assert [(row.row, row.reasons[0].rule, row.reasons[0].value) for row in mapped.rows] == [(0, "map", None)]
    assert mapped.keys == [{"order_id": "b-2"}]


def test_a_record_that_could_not_be_read_is_not_mapped() -> None:
    batch = _with(_batch(Op.INSERT, ("1", "a", "x", "5"), (None, None, None, None)), defects=(Defect(1, None, "no JSON", b"{"),))
    mapped = _feed().apply(batch)
    assert _values(mapped, "order_id") == ["a-1"]
    assert [reason.rule for row in mapped.rows for reason in row.reasons] == ["undecodable"]


def test_a_row_without_a_key_behind_the_map_is_held_back_where_no_contract_judges_it() -> None:
    sql = "SELECT note AS order_id FROM input"
    batch = _batch(Op.INSERT, ("1", "a", None, "5"), ("2", "a", "k", "5"))
    assert [row.reasons[0].column for row in _feed(sql).apply(batch).rows] == ["order_id"]
    assert not _feed(sql, declared=True).apply(batch).rows


def test_an_update_whose_old_row_is_told_moves_the_row_from_its_old_key() -> None:
    batch = _with(
        _batch(Op.UPDATE, ("1", "a", "x", "5"), ("2", "b", "y", "6")),
        old={0: pa.array([None, "7"], pa.string()), 1: pa.array([None, "b"], pa.string())},
        has_old=np.array([False, True]),
    )
    mapped = _feed().apply(batch)
    assert _values(mapped, "order_id") == ["a-1", "b-2"]
    assert mapped.passed.has_old is not None
    assert mapped.passed.has_old.tolist() == [False, True]
    assert {c: column.to_pylist() for c, column in mapped.passed.old.items()} == {0: [None, "b-7"]}


def test_a_delete_brings_the_key_that_the_map_makes_of_the_old_row() -> None:
    gone = np.full(2, _ABSENT, np.uint8)
    batch = _with(_batch(Op.DELETE, ("1", "a", None, None), ("2", "b", None, None)), presence={2: gone, 3: gone})
    mapped = _feed().apply(batch)
    assert mapped.failed is None
    assert _values(mapped, "order_id") == ["a-1", "b-2"]
    assert mapped.passed.op.tolist() == [Op.DELETE] * 2
    assert all(mapped.passed.absent(c).all() for c in (1, 2, 3))


def test_a_delete_whose_old_row_lacks_what_the_key_is_made_of_is_held_back() -> None:
    batch = _with(_batch(Op.DELETE, ("1", "a", None, None)), presence={1: np.array([_ABSENT], np.uint8)})
    mapped = _feed().apply(batch)
    assert "REPLICA IDENTITY FULL" in mapped.rows[0].reasons[0].message
    assert _feed().identifying == {"id", "shop"}


def test_a_tombstone_is_taken_by_the_key_that_its_source_hands_over() -> None:
    given = TableSchema("orders", (*_GIVEN.columns, Column("_sluice_key_order_id", "text")))
    gone = np.array([0, _ABSENT, _ABSENT], np.uint8)
    batch = _with(
        _batch(Op.INSERT, ("1", "a", "x", "5", None), (None, None, None, None, "b-9"), (None, None, None, None, None), schema=given),
        op=np.array([Op.INSERT, Op.DELETE, Op.DELETE], np.uint8),
        presence=dict.fromkeys(range(4), gone),
    )
    mapped = _feed(given=given).apply(batch)
    assert _values(mapped, "order_id") == ["a-1", "b-9"]
    assert mapped.passed.op.tolist() == [Op.INSERT, Op.DELETE]
    assert not mapped.passed.absent(0).any()
    assert [mapped.passed.absent(c).tolist() for c in (1, 2, 3)] == [[False, True]] * 3
    assert [row.reasons[0].message for row in mapped.rows] == ["the delete tells no order_id"]


def test_what_the_log_left_out_is_left_out_behind_the_map_too() -> None:
    sql = "SELECT concat(shop, '-', id) AS order_id, note, n AS twice, concat(note, n) AS more FROM input"
    codes = np.array([_ABSENT, _RECALLED, 0], np.uint8)
    batch = _with(_batch(Op.UPDATE, ("1", "a", None, "5"), ("2", "b", "again", "6"), ("3", "c", "z", "7")), presence={2: codes})
    mapped = _feed(sql).apply(batch)
    assert mapped.failed is None
    assert mapped.passed.presence[1].tolist() == [_ABSENT, _RECALLED, 0]
    # made of one value that was read again and of another that changed, it is not what a sink has already
    assert mapped.passed.presence[3].tolist() == [_ABSENT, 0, 0]
    assert mapped.passed.column("more").to_pylist()[1:] == ["again6", "z7"]


def test_a_truncate_passes_where_the_dataset_has_one_source_and_is_held_back_where_it_has_several() -> None:
    batch = _batch(Op.TRUNCATE, (None, None, None, None))
    assert _feed().apply(batch).passed.op.tolist() == [Op.TRUNCATE]
    mapped = _feed(merged=True).apply(batch)
    assert len(mapped.passed) == 0
    assert "TRUNCATE" in mapped.rows[0].reasons[0].message


def test_without_a_key_the_whole_old_row_goes_through_the_map() -> None:
    bag = TableSchema("orders", _ORDERS.columns)
    rows = SqlMap(parse_query(_SQL, Path("m.sql")), _GIVEN.types, bag)
    feed = FeedMap(rows, TableSchema("orders", _GIVEN.columns), bag, declared=True, merged=False)
    batch = _with(
        _batch(Op.UPDATE, ("1", "a", "x", "5"), ("2", "b", "y", "6")),
        op=np.array([Op.UPDATE, Op.DELETE], np.uint8),
        old={c: pa.array([value, None], pa.string()) for c, value in enumerate(("1", "a", "w", "4"))},
        has_old=np.array([True, False]),
    )
    mapped = feed.apply(batch).passed
    assert [column.to_pylist() for column in mapped.columns] == [["a-1", "b-2"], ["x", "y"], ["10", "12"], [None, None]]
    assert {c: column.to_pylist() for c, column in mapped.old.items()} == {
        0: ["a-1", None],
        1: ["w", None],
        2: ["8", None],
        3: [None, None],
    }
    assert not mapped.presence


_FUNCTION = """
import pyarrow as pa
import pyarrow.compute as pc

def orders(rows):
    if pc.any(pc.equal(rows["n"], 13)).as_py():
        raise ValueError("thirteen")
    kept = rows.filter(pc.not_equal(rows["n"], 14)) if rows.num_rows else rows
    return pa.table({
        "order_id": pc.binary_join_element_wise(kept["shop"], kept["id"].cast(pa.string()), "-"),
        "twice": pc.multiply(kept["n"].cast(pa.float64()), 0.5),
    })

def extra(rows):
    return pa.table({"order_id": rows["shop"], "nope": rows["n"]})

def one(rows):
    return 1

def twice(rows):
    return pa.table([rows["shop"], rows["shop"]], names=["order_id", "order_id"])
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import sys

    monkeypatch.setattr(sys, "path", list(sys.path))
    name = f"maps_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(_FUNCTION)
    return tmp_path / name


def _function(folder: Path, name: str) -> RowMap:
    dotted = f"{folder.name}.{name}"
    return FunctionMap(dotted, load_function(dotted, folder.parent), _GIVEN.types, _ORDERS)


def test_a_function_gives_rows_and_those_that_it_fails_on_are_found(folder: Path) -> None:
    feed = FeedMap(_function(folder, "orders"), _GIVEN, _ORDERS, declared=False, merged=False)
    rows = [(str(n), "s", None, str(n)) for n in range(1, 31)]
    mapped = feed.apply(_batch(Op.INSERT, *rows))
    assert mapped.failed is not None
    # odd numbers have no half; 13 raises, and 14 is left out
    assert mapped.failed.column("n").to_pylist() == [str(n) for n in range(1, 31) if n % 2 or n == 14]
    told = {mapped.failed.column("n")[row.row].as_py(): row.reasons[0].message for row in mapped.rows}
    assert "ValueError" in told["13"]
    assert "thirteen" not in told["13"]
    assert "0 rows for 1" in told["14"]
    assert "twice" in told["1"]
    assert _values(mapped, "twice") == [str(n // 2) for n in range(1, 31) if n % 2 == 0 and n != 14]


def test_a_function_that_gives_something_else_is_refused_before_it_is_used(folder: Path) -> None:
    with pytest.raises(ConfigError, match="gives `nope`"):
        _function(folder, "extra")
    with pytest.raises(ConfigError, match="returned int"):
        _function(folder, "one")
    with pytest.raises(ConfigError, match="the column order_id twice"):
        _function(folder, "twice")
    with pytest.raises(ConfigError, match="cannot be imported"):
        _function(folder, "not_there")
