"""What a Relation message means, when the catalogue has moved on since."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from journal.schema import Column, TableSchema
from sources.postgres.relation import Relation, RelationColumn
from sources.postgres.schemas import Meaning, meaning
from sources.postgres.table import Attribute, Table

INT, TEXT, GONE = 23, 25, 0
_NAMES = {INT: "integer", TEXT: "text"}


def _table(*slots: tuple[str, int] | None, primary: tuple[str, ...] = ("id",)) -> Table:
    """The catalogue's columns by number from 1 on; None: dropped."""
    attributes = [
        Attribute(
            attnum=number,
            name=f"........pg.dropped.{number}........" if slot is None else slot[0],
            oid=GONE if slot is None else slot[1],
            typmod=-1,
            type="text" if slot is None else _NAMES[slot[1]],
            written="",
            nullable=True,
            dropped=slot is None,
            generated="",
            missing=None,
            computed=False,
            selectable=True,
        )
        for number, slot in enumerate(slots, 1)
    ]
    return Table(1, "public", "t", "r", "p", "d", "me", True, True, False, tuple(attributes), primary, (), "1")


def _relation(*columns: tuple[str, int], identity: str = "d", key: tuple[str, ...] = ("id",)) -> Relation:
    return Relation(1, "public", "t", identity, tuple(RelationColumn(name, oid, -1, name in key) for name, oid in columns))


def _types(wanted: Sequence[tuple[int, int]]) -> Mapping[tuple[int, int], tuple[str, str]]:
    return {(oid, typmod): (_NAMES[oid], _NAMES[oid]) for oid, typmod in wanted if oid in _NAMES}


def _meaning(relation: Relation, table: Table | None, previous: TableSchema | None = None, key: tuple[str, ...] = ()) -> Meaning:
    return meaning(relation, table, previous, _types, dataset="t", key=key, generated=False)


def _numbers(found: Meaning) -> dict[str, int]:
    return {column.name: column.attnum for column in found.schema.columns}


def _before(**numbers: int) -> TableSchema:
    return TableSchema("t", tuple(Column(name, "integer", number) for name, number in numbers.items()), ("id",))


def test_a_table_that_is_as_the_catalogue_says() -> None:
    found = _meaning(_relation(("id", INT), ("a", TEXT)), _table(("id", INT), None, ("a", TEXT)))
    assert (_numbers(found), found.certain, found.schema.key) == ({"id": 1, "a": 3}, True, ("id",))
    assert found.schema.types == {"id": "integer", "a": "text"}


def test_an_older_name_is_the_column_that_was_renamed_since() -> None:
    found = _meaning(_relation(("id", INT), ("old", INT), ("z", TEXT)), _table(("id", INT), ("new", INT), ("z", TEXT)))
    assert _numbers(found) == {"id": 1, "old": 2, "z": 3}


def test_names_that_were_swapped_since_are_told_apart_by_their_order() -> None:
    found = _meaning(_relation(("id", INT), ("a", INT), ("b", INT)), _table(("id", INT), ("b", INT), ("a", INT)))
    assert _numbers(found) == {"id": 1, "a": 2, "b": 3}


def test_a_column_that_was_dropped_since_keeps_its_number_and_finds_its_type() -> None:
    found = _meaning(_relation(("id", INT), ("gone", TEXT), ("z", INT)), _table(("id", INT), None, ("z", INT)))
    assert _numbers(found) == {"id": 1, "gone": 2, "z": 3}
    assert found.schema.types["gone"] == "text"


def test_a_column_that_was_added_since_is_not_there_yet() -> None:
    found = _meaning(_relation(("id", INT), ("a", INT)), _table(("id", INT), ("a", INT), ("new", INT)))
    assert _numbers(found) == {"id": 1, "a": 2}


def test_a_column_dropped_and_made_again_at_the_end_is_the_older_one_before_another_column() -> None:
    found = _meaning(_relation(("id", INT), ("a", INT), ("z", INT)), _table(("id", INT), None, ("z", INT), ("a", INT)))
    assert (_numbers(found), found.certain) == ({"id": 1, "a": 2, "z": 3}, True)


def test_a_column_made_again_after_the_last_one_is_new() -> None:
    found = _meaning(
        _relation(("id", INT), ("z", INT), ("a", INT)), _table(("id", INT), None, ("z", INT), ("a", INT)), _before(id=1, a=2, z=3)
    )
    assert (_numbers(found), found.certain) == ({"id": 1, "z": 3, "a": 4}, True)


def test_a_column_that_may_be_either_is_the_older_and_not_certain() -> None:
    found = _meaning(_relation(("id", INT), ("a", INT)), _table(("id", INT), None, ("a", INT)), _before(id=1, a=2))
    assert (_numbers(found), found.certain) == ({"id": 1, "a": 2}, False)


def test_a_column_made_again_with_another_type_is_certainly_new() -> None:
    found = _meaning(_relation(("id", INT), ("a", TEXT)), _table(("id", INT), None, ("a", TEXT)), _before(id=1, a=2))
    assert (_numbers(found), found.certain) == ({"id": 1, "a": 3}, True)


def test_several_columns_made_again_are_judged_together() -> None:
    table = _table(("id", INT), None, None, ("a", INT), ("b", INT))
    found = _meaning(_relation(("id", INT), ("a", INT), ("b", INT)), table, _before(id=1, a=2, b=3))
    assert (_numbers(found), found.certain) == ({"id": 1, "a": 2, "b": 3}, False)


def test_once_the_newer_column_is_known_it_is_certain() -> None:
    found = _meaning(_relation(("id", INT), ("a", INT)), _table(("id", INT), None, ("a", INT)), _before(id=1, a=3))
    assert (_numbers(found), found.certain) == ({"id": 1, "a": 3}, True)


def test_a_table_that_is_gone_goes_by_what_was_known() -> None:
    found = _meaning(_relation(("id", INT), ("a", TEXT)), None, _before(id=1, a=2))
    assert found.schema.key == ("id",)
    assert found.schema.types == {"id": "integer", "a": "text"}


def test_the_key_has_the_order_of_the_primary_key() -> None:
    table = _table(("a", INT), ("b", INT), primary=("b", "a"))
    assert _meaning(_relation(("a", INT), ("b", INT), key=("a", "b")), table).schema.key == ("b", "a")


def test_a_whole_row_as_identity_leaves_the_primary_key_as_key() -> None:
    table = _table(("id", INT), ("a", INT))
    assert _meaning(_relation(("id", INT), ("a", INT), identity="f", key=("id", "a")), table).schema.key == ("id",)
    without = _table(("id", INT), ("a", INT), primary=())
    assert _meaning(_relation(("id", INT), ("a", INT), identity="f", key=("id", "a")), without).schema.key == ()


def test_the_key_of_the_pipeline_file_comes_first() -> None:
    found = _meaning(_relation(("id", INT), ("a", INT)), _table(("id", INT), ("a", INT)), key=("a",))
    assert found.schema.key == ("a",)


def test_sixteen_hundred_columns_are_matched_in_good_time() -> None:
    slots: list[tuple[str, int] | None] = [("id", INT), *((f"c{n}", INT) for n in range(2, 1601))]
    slots[700] = None
    columns = [("id", INT), *((f"c{n}", INT) for n in range(2, 1600))]
    found = _meaning(_relation(*columns), _table(*slots))
    assert [column.attnum for column in found.schema.columns] == list(range(1, 1600))
