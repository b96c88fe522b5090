"""The rows of a lookup in memory: whatever changes come, it holds what a dictionary would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.lookup_table import LookupTable
from journal.batch import ChangeBatch, CopyMarker, Op, Presence, batch_from_columns
from journal.schema import Column, TableSchema
from pipeline.errors import ConfigError
from pipeline.model import Lookup

SCHEMA = TableSchema("products", (Column("a", "bigint", 1), Column("b", "text", 2), Column("name", "text", 3)), ("a", "b"))
LOOKUP = Lookup("products", "shop", "public.products", ("b", "a"))

Row = tuple[str | None, ...]


def changes(rows: Sequence[tuple[Op, Row, Row | None]], first: int = 1, schema: TableSchema = SCHEMA) -> ChangeBatch:
    """A batch of (operation, row, old key)."""
    columns = [pa.array([row[c] for _, row, _ in rows], pa.string()) for c in range(len(schema.columns))]
    batch = batch_from_columns(schema, columns, Op.INSERT, source="shop", table="public.products", first=first)
    old = {k: pa.array([key[k] if key else None for _, _, key in rows], pa.string()) for k in schema.key_indices}
    moved = np.array([key is not None for _, _, key in rows])
    return replace(batch, op=np.array([op for op, _, _ in rows], np.uint8), old=old, has_old=moved)


def held(table: LookupTable, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str | None]:
    """What the table has for these keys."""
    if not keys:
        return {}
    places = table.find([pa.array([key[i] for key in keys], pa.string()) for i in range(2)])
    names = table.gather("name", places).to_pylist()
    return {key: name for key, name, missing in zip(keys, names, places.missing, strict=True) if not missing}


_KEY = st.tuples(st.sampled_from("123"), st.sampled_from(["x", "y", "1:x"]))
_CHANGE = st.tuples(st.sampled_from([Op.INSERT, Op.UPDATE, Op.DELETE, Op.READ]), _KEY, st.text("pqr", max_size=3), st.none() | _KEY)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.one_of(_CHANGE, st.just(None)), min_size=1, max_size=12), max_size=8), st.booleans())
def test_it_holds_what_a_dictionary_holds(
    batches: list[list[tuple[Op, tuple[str, str], str, tuple[str, str] | None] | None]], again: bool
) -> None:
    table, model, ordinal = LookupTable(LOOKUP), dict[tuple[str, str], str | None](), 1
    for batch in batches:
        rows: list[tuple[Op, Row, Row | None]] = []
        for change in batch:
            if change is None:
                rows.append((Op.TRUNCATE, (None, None, None), None))
                model.clear()
                continue
            op, key, name, before = change
            left = before if op is Op.UPDATE else None
            rows.append((op, (*key, None if op is Op.DELETE else name), left))
            if left is not None:
                model.pop(left, None)
            if op is Op.DELETE:
                model.pop(key, None)
            else:
                model[key] = name
        table.take(changes(rows, ordinal))
        ordinal += len(rows)
    every = [(a, b) for a in "1239" for b in ("x", "y", "1:x", "z")]
    if again:  # laid down and taken up anew
        fresh = LookupTable(LOOKUP)
        for entry in table.entries():
            fresh.take(entry) if isinstance(entry, ChangeBatch) else fresh.mark(entry)
        table = fresh
    assert held(table, every) == model
    assert len(table) == len(model)


def test_a_key_with_a_null_in_it_refers_to_nothing_and_is_not_missing() -> None:
    table = LookupTable(LOOKUP)
    table.take(changes([(Op.INSERT, ("1", "x", "one"), None)]))
    places = table.find([pa.array(["1", None, "2"]), pa.array(["x", "x", "x"])])
    assert places.missing.tolist() == [False, False, True]
    assert table.gather("name", places).to_pylist() == ["one", None, None]


def test_what_a_second_copy_lacks_goes_when_it_ends() -> None:
    table = LookupTable(LOOKUP)
    start = CopyMarker(SCHEMA, "shop", "public.products", "start", 1, first=True)
    table.mark(start)
    assert [table.whole] == [False]
    table.take(changes([(Op.READ, ("1", "x", "one"), None), (Op.READ, ("2", "x", "two"), None)], 1))
    table.mark(replace(start, phase="end"))
    assert [table.whole] == [True]
    table.mark(replace(start, ordinal=3, first=False))
    table.take(changes([(Op.READ, ("2", "x", "deux"), None)], 3))
    table.mark(replace(start, phase="abandoned", ordinal=3, first=False))
    assert held(table, [("1", "x"), ("2", "x")]) == {("1", "x"): "one", ("2", "x"): "deux"}
    table.mark(replace(start, phase="end", ordinal=3, first=False))
    assert held(table, [("1", "x"), ("2", "x")]) == {("2", "x"): "deux"}


def test_columns_follow_the_source() -> None:
    table = LookupTable(LOOKUP)
    table.take(changes([(Op.INSERT, ("1", "x", "one"), None)]))
    altered = TableSchema(
        "products",
        (Column("b", "text", 2), Column("a", "bigint", 1), Column("title", "text", 3), Column("size", "text", 4, default="M")),
        ("b", "a"),
    )
    table.take(changes([(Op.INSERT, ("x", "2", "two", "L"), None)], 2, altered))
    places = table.find([pa.array(["x", "x"]), pa.array(["1", "2"])])
    assert table.gather("title", places).to_pylist() == ["one", "two"]
    assert table.gather("size", places).to_pylist() == ["M", "L"]


def test_a_value_that_the_log_left_out_stays() -> None:
    table = LookupTable(LOOKUP)
    table.take(changes([(Op.INSERT, ("1", "x", "one"), None)]))
    left_out = changes([(Op.UPDATE, ("2", "x", None), ("1", "x", None)), (Op.UPDATE, ("2", "x", None), None)], 2)
    table.take(replace(left_out, presence={2: np.full(2, Presence.ABSENT, np.uint8)}))
    assert held(table, [("1", "x"), ("2", "x")]) == {("2", "x"): "one"}


def test_another_key_than_that_of_its_rows_is_refused() -> None:
    table = LookupTable(replace(LOOKUP, key=("name",)))
    with pytest.raises(ConfigError, match=r"has the key name, and the rows of shop.public.products are identified by a, b"):
        table.take(changes([(Op.INSERT, ("1", "x", "one"), None)]))


def test_many_small_changes_leave_few_parts_and_every_row() -> None:
    table = LookupTable(LOOKUP)
    for n in range(300):
        table.take(changes([(Op.INSERT, (str(n), "x", f"name {n}"), None)], n + 1))
        table.take(changes([(Op.UPDATE, (str(n // 2), "x", f"again {n}"), None)], n + 1000))
    assert len(table) == 300
    assert len(table._parts) <= 10
    found = held(table, [(str(n), "x") for n in range(300)])
    assert found[("299", "x")] == "name 299"
    assert found[("149", "x")] == "again 299"


def test_whole_numbers_are_found_by_themselves() -> None:
    schema = TableSchema("products", (Column("n", "bigint", 1), Column("name", "text", 2)), ("n",))
    table = LookupTable(replace(LOOKUP, key=("n",)))
    numbers = ["0", "-1", "9223372036854775807", "-9223372036854775808", "42"]
    columns = [pa.array(numbers), pa.array([f"name {n}" for n in numbers])]
    table.take(batch_from_columns(schema, columns, Op.INSERT, source="shop", table="public.products", first=1))
    table.take(
        batch_from_columns(schema, [pa.array(["42"]), pa.array(["again"])], Op.UPDATE, source="shop", table="public.products", first=9)
    )
    asked = [*numbers, "1", None, "43"]
    places = table.find([pa.array(asked)])
    assert places.missing.tolist() == [False] * 5 + [True, False, True]
    assert table.gather("name", places).to_pylist() == [*(f"name {n}" for n in numbers[:-1]), "again", None, None, None]
