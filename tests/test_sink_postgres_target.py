"""What a Postgres target has of its own: grants, constraints, extensions, limits, other people's changes, and processes that are killed."""

from __future__ import annotations

from dataclasses import replace

import psycopg
import pyarrow as pa
import pytest
from psycopg import sql

from journal.batch import Op
from journal.schema import Column, TableSchema
from pipeline.errors import Refused, SinkShapeError, SluiceError, TerminalError, TransientError
from sinks.base import NO_ROWS, Cursor
from sinks.postgres import PostgresConfig, PostgresSink
from sinks.postgres_errors import Asked, RowRefused, from_sqlstate
from tests.fix_postgres import PASSWORD, Database
from tests.postgres_place import PostgresPlace
from tests.sink_batches import ORDERS, delete, insert, many, truncate, update
from tests.sink_place import JOURNAL, Hand, history, mirror


@pytest.fixture
def place(database15: Database) -> PostgresPlace:
    return PostgresPlace(database15, "sales")


@pytest.fixture
def hand(place: PostgresPlace) -> Hand:
    return Hand(place)


def _sink(dsn: str, schema: str = "sales") -> PostgresSink:
    return PostgresSink("out", PostgresConfig.model_validate({"dsn": dsn, "schema": schema}), "test")


# Connecting


def test_a_wrong_password_is_refused_and_no_password_is_told(database15: Database) -> None:
    wrong = database15.dsn.replace(PASSWORD, "another-secret")
    with pytest.raises(Refused) as met:
        _sink(wrong).open(JOURNAL)
    assert met.value.hint
    assert "password" in met.value.hint
    assert "another-secret" not in f"{met.value}{met.value.__cause__}{met.value.__context__}"


def test_a_database_that_is_not_there_is_refused(database15: Database) -> None:
    with pytest.raises(Refused, match="nowhere"):
        _sink(database15.server.dsn_for("nowhere")).open(JOURNAL)


def test_a_server_that_does_not_answer_is_tried_again() -> None:
    with pytest.raises(TransientError) as met:
        _sink(f"host=127.0.0.1 port=1 dbname=x password={PASSWORD}").open(JOURNAL)
    assert PASSWORD not in str(met.value)


def test_a_dsn_that_is_none_is_a_mistake_in_the_file_and_is_not_shown() -> None:
    with pytest.raises(ValueError, match="libpq") as met:
        PostgresConfig.model_validate({"dsn": "host=x passwort=hidden-word"})
    assert "hidden-word" not in str(met.value)
    assert "hidden-word" not in repr(PostgresConfig.model_validate({"dsn": "host=x password=hidden-word"}))


# Rights


@pytest.fixture
def limited(database15: Database) -> str:
    """A role that may only connect; its dsn."""
    database15.execute("DROP ROLE IF EXISTS limited", "CREATE ROLE limited LOGIN PASSWORD 'limited'")
    return database15.server.dsn_for(database15.name, user="limited", password="limited")


def _fill(dsn: str, op: Op) -> None:
    """All that a sink does from nothing to rows."""
    sink = _sink(dsn)
    sink.open(JOURNAL)
    sink.begin()
    sink.prepare(mirror(ORDERS))
    sink.write(mirror(ORDERS), many(ORDERS, [pa.array(range(300))] * 4, op, first=1), NO_ROWS)
    sink.commit(Cursor(JOURNAL, 1))
    sink.close()


def test_the_grant_that_is_missing_is_named(database15: Database, limited: str) -> None:
    def hint(op: Op) -> str:
        with pytest.raises(Refused) as met:
            _fill(limited, op)
        return str(met.value.hint)

    database = database15.name
    assert hint(Op.INSERT).startswith(f'GRANT CREATE ON DATABASE "{database}" TO "limited"')
    database15.execute("CREATE SCHEMA sales")
    assert hint(Op.INSERT) == 'GRANT USAGE, CREATE ON SCHEMA "sales" TO "limited"'
    database15.execute('GRANT USAGE, CREATE ON SCHEMA "sales" TO "limited"', f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC")
    assert hint(Op.UPDATE) == f'GRANT TEMPORARY ON DATABASE "{database}" TO "limited"'
    database15.execute(f'GRANT TEMPORARY ON DATABASE {database} TO "limited"')
    _fill(limited, Op.UPDATE)  # it needs no more
    assert database15.rows("SELECT count(*) FROM sales.orders") == [(300,)]


def test_a_table_that_was_given_to_another_owner_says_so(database15: Database, limited: str) -> None:
    database15.execute("CREATE SCHEMA sales AUTHORIZATION limited")
    _fill(limited, Op.INSERT)
    database15.execute("ALTER TABLE sales.orders OWNER TO postgres")
    sink = _sink(limited)
    sink.open(JOURNAL)
    sink.begin()
    with pytest.raises(Refused) as met:
        sink.write(mirror(ORDERS), many(ORDERS, [pa.array(["1"])] * 4, Op.UPDATE, first=1000), NO_ROWS)
    assert met.value.hint == 'GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON "sales"."orders" TO "limited"'
    sink.rollback()
    sink.begin()
    wider = replace(ORDERS, columns=(*ORDERS.columns, Column("more", "text", 9)))
    with pytest.raises(Refused) as met:
        sink.prepare(mirror(wider))
    assert met.value.hint == 'ALTER TABLE "sales"."orders" OWNER TO "limited"'
    sink.close()


def test_a_server_that_takes_no_writes_is_tried_again(database15: Database) -> None:
    with pytest.raises(TransientError) as met:
        _sink(f"{database15.dsn} options='-c default_transaction_read_only=on'").open(JOURNAL)
    assert "standby" in str(met.value.hint)


# What the target itself demands


@pytest.mark.parametrize("size", [3, 1000])
def test_a_row_against_a_constraint_of_the_target_is_refused_alone(place: PostgresPlace, hand: Hand, size: int) -> None:
    target = mirror(ORDERS)
    hand.write(target, insert(id="0", name="first"))
    place.database.execute("ALTER TABLE sales.orders ADD CONSTRAINT not_two CHECK (id <> 2), ALTER name SET NOT NULL")
    names = pa.array([None if i == 1 else f"n{i}" for i in range(size)])
    ids = pa.array(range(1, size + 1))
    hand.sink.begin()
    refused = hand.give(target, many(ORDERS, [ids, names, ids, ids], Op.UPDATE, first=hand.next))
    hand.commit()
    assert [one.row for one in refused] == [1]
    assert len(hand.live(target)) == size
    place.database.execute("ALTER TABLE sales.orders DROP CONSTRAINT not_two")
    hand.next += size
    hand.sink.begin()
    refused = hand.give(target, many(ORDERS, [ids, names, ids, ids], Op.UPDATE, first=hand.next))
    hand.commit()
    assert [(one.row, one.column) for one in refused] == [(1, "name")]
    assert "null" in refused[0].message


@pytest.mark.parametrize("size", [3, 1000])
@pytest.mark.parametrize(
    "demand, told",
    [
        ("CHECK (name <> 'secret 1')", "check violation (orders_name_check)"),
        ("UNIQUE (name)", "unique violation (orders_name_key)"),
        (None, "invalid text representation"),
        ("TRIGGER", "raise exception"),
    ],
)
def test_why_a_row_is_refused_is_told_without_its_values(
    place: PostgresPlace, hand: Hand, demand: str | None, told: str, size: int
) -> None:
    target = mirror(ORDERS)
    hand.write(target, insert(id="0", name="secret 1" if demand == "UNIQUE (name)" else "7"))
    if demand == "TRIGGER":
        body = "BEGIN IF NEW.name = 'secret 1' THEN RAISE 'not %', NEW.name; END IF; RETURN NEW; END"
        place.database.execute(
            f"CREATE FUNCTION sales.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$",
            "CREATE TRIGGER refuse BEFORE INSERT ON sales.orders FOR EACH ROW EXECUTE FUNCTION sales.refuse()",
        )
    elif demand is not None:
        place.database.execute(f"ALTER TABLE sales.orders ADD {demand}")
    names = pa.array(["secret 1" if i == 1 else str(i) for i in range(size)])
    ids = pa.array(range(1, size + 1))
    hand.sink.begin()
    numbers = ids.cast(pa.string()) if demand else names
    refused = hand.give(target, many(ORDERS, [ids, names, numbers, ids], Op.INSERT, first=hand.next))
    hand.sink.rollback()
    assert [one.row for one in refused] == [1]
    assert refused[0].message == f"the server refuses it: {told}"


def test_a_row_that_other_tables_of_the_target_need_is_not_deleted_and_the_delete_is_refused(place: PostgresPlace, hand: Hand) -> None:
    target = mirror(ORDERS)
    hand.write(target, *(insert(id=str(i)) for i in range(300)))
    place.database.execute("CREATE TABLE sales.lines (of integer REFERENCES sales.orders)", "INSERT INTO sales.lines VALUES (7), (250)")
    refused = hand.write(target, delete(id="6"), delete(id="7"), delete(id="8"))
    assert [one.row for one in refused] == [1]
    refused = hand.write(target, *(delete(id=str(i)) for i in range(100, 300)))
    assert [one.row for one in refused] == [150]
    assert len(hand.live(target)) == 300 - 2 - 199


def test_a_constraint_that_is_checked_at_the_end_stops_the_sink_with_a_reason(place: PostgresPlace, hand: Hand) -> None:
    target = mirror(ORDERS)
    hand.write(target, insert(id="1", name="a"))
    place.database.execute("ALTER TABLE sales.orders ADD UNIQUE (name) DEFERRABLE INITIALLY DEFERRED")
    hand.sink.begin()
    hand.put(target, insert(id="2", name="a"))
    with pytest.raises(TerminalError, match="as a whole"):
        hand.commit()
    assert hand.names(target) == {"1": "a"}


def test_a_truncate_of_a_table_that_others_refer_to_deletes_its_rows(place: PostgresPlace, hand: Hand) -> None:
    target = mirror(ORDERS)
    hand.write(target, insert(id="1"), insert(id="2"))
    place.database.execute("CREATE TABLE sales.lines (of integer REFERENCES sales.orders)")
    hand.write(target, truncate(), insert(id="3"))
    assert [row["id"] for row in hand.live(target)] == ["3"]


def test_a_view_on_a_column_that_must_be_widened_is_named_as_the_reason(place: PostgresPlace, hand: Hand) -> None:
    hand.write(mirror(ORDERS), insert(id="1"))
    place.database.execute("CREATE VIEW sales.amounts AS SELECT amount FROM sales.orders")
    wide = replace(ORDERS, columns=(*ORDERS.columns[:2], replace(ORDERS.columns[2], type="numeric(30,2)"), ORDERS.columns[3]))
    hand.sink.begin()
    with pytest.raises(SinkShapeError) as met:
        hand.sink.prepare(mirror(wide))
    hand.sink.rollback()
    assert "view" in str(met.value.hint)


# Other people's changes


def test_columns_and_indexes_that_others_add_are_none_of_our_business(place: PostgresPlace, hand: Hand) -> None:
    target = mirror(ORDERS)
    hand.write(target, insert(id="1", name="a"))
    place.database.execute("ALTER TABLE sales.orders ADD theirs text DEFAULT 'x'", "CREATE INDEX ON sales.orders (name)")
    hand.sink.open(JOURNAL)
    hand.write(target, *(insert(id=str(i), name="b") for i in range(2, 300)))
    assert {row["theirs"] for row in place.table("orders")} == {"x"}
    assert len(hand.live(target)) == 299


@pytest.mark.parametrize("change", ["ALTER name TYPE varchar(10)", "DROP COLUMN doc", "RENAME name TO other"])
def test_a_table_that_somebody_changed_is_refused_before_anything_is_written(place: PostgresPlace, hand: Hand, change: str) -> None:
    target = mirror(ORDERS)
    hand.write(target, insert(id="1", name="a"))
    place.database.execute(f"ALTER TABLE sales.orders {change}")
    hand.sink.open(JOURNAL)
    hand.sink.begin()
    with pytest.raises(SinkShapeError, match="someone else"):
        hand.sink.prepare(target)
    hand.sink.rollback()


def test_a_table_dropped_under_a_running_sink_stops_it(place: PostgresPlace, hand: Hand) -> None:
    hand.write(mirror(ORDERS), insert(id="1"))
    place.database.execute("DROP TABLE sales.orders")
    hand.sink.begin()
    with pytest.raises(SinkShapeError):
        hand.put(mirror(ORDERS), insert(id="2"))
    hand.sink.rollback()


# Types and limits


def test_a_type_of_an_extension_is_kept_where_the_target_has_it(place: PostgresPlace) -> None:
    schema = TableSchema("tagged", (Column("id", "integer", 1), Column("tags", "hstore", 2), Column("all_tags", "hstore[]", 3)), ("id",))
    if not place.database.rows("SELECT 1 FROM pg_available_extensions WHERE name = 'hstore'"):
        pytest.skip("this server has no hstore")
    row = {"id": "1", "tags": '"a"=>"1"', "all_tags": '{"\\"b\\"=>NULL"}'}
    hand = Hand(place)
    hand.write(mirror(schema, "without"), insert(**row))
    place.database.execute("CREATE SCHEMA extensions", "CREATE EXTENSION hstore SCHEMA extensions")
    hand.sink.open(JOURNAL)
    hand.write(mirror(schema, "with_it"), insert(**row))
    kinds = "SELECT data_type, udt_name FROM information_schema.columns WHERE column_name LIKE '%tags' AND table_name = '{}' ORDER BY 2"
    assert place.database.rows(kinds.format("without")) == [("ARRAY", "_text"), ("text", "text")]
    assert place.database.rows(kinds.format("with_it")) == [("ARRAY", "_hstore"), ("USER-DEFINED", "hstore")]
    assert hand.live(mirror(schema, "without")) == hand.live(mirror(schema, "with_it")) == [row]


def test_a_table_takes_as_many_columns_as_postgres_has(place: PostgresPlace, hand: Hand) -> None:
    def wide(n: int) -> TableSchema:
        return TableSchema("wide", tuple(Column(f"c{i}", "smallint", i + 1) for i in range(n)), ("c0",))

    schema = wide(1599)
    target = mirror(schema)
    rows = [{f"c{i}": str(i % 7 if i else k) for i in range(1599)} for k in range(200)]
    hand.write(target, *(insert(**row) for row in rows))
    hand.write(target, *(update({**row, "c1": "9"}, absent=["c5", "c6"]) for row in rows))
    found = {row["c0"]: row for row in hand.live(target)}
    assert found == {row["c0"]: {**row, "c1": "9"} for row in rows}
    hand.sink.begin()
    with pytest.raises(SinkShapeError, match="1600") as met:
        hand.sink.prepare(mirror(wide(1600), "wider"))
    hand.sink.rollback()
    assert "drop" in str(met.value.hint)


def test_a_row_that_is_too_big_for_a_page_is_refused_alone(hand: Hand) -> None:
    schema = TableSchema("broad", tuple(Column(f"c{i}", "uuid", i + 1) for i in range(600)), ("c0",))
    full = {f"c{i}": f"00000000-0000-4000-8000-{i:012d}" for i in range(600)}
    refused = hand.write(mirror(schema), insert(c0=full["c0"]), insert(**{**full, "c0": full["c1"]}), insert(c0=full["c2"]))
    assert [one.row for one in refused] == [1]
    assert "too big" in refused[0].message


@pytest.mark.parametrize("size", [3, 400])
def test_a_text_with_a_nul_in_it_is_refused_and_never_cut(hand: Hand, size: int) -> None:
    ids = pa.array(range(size))
    names = pa.array(["a\0b" if i == 1 else "whole" for i in range(size)])
    hand.sink.begin()
    refused = hand.give(mirror(ORDERS), many(ORDERS, [ids, names, ids, ids], Op.INSERT, first=1))
    hand.commit()
    assert [one.row for one in refused] == [1]
    assert set(hand.names(mirror(ORDERS)).values()) == {"whole"}


def test_an_old_key_that_the_target_cannot_read_was_never_there(hand: Hand) -> None:
    target = mirror(ORDERS, filtered=True)
    hand.write(target, insert(id="1", doc="d"))
    moves = [update({"id": "5"}, old={"id": "1"}, absent=["doc"]), update({"id": "6"}, old={"id": "x"}, recalled={"doc": "e"})]
    hand.write(target, *moves)
    assert hand.names(target, "doc") == {"5": "d", "6": "e"}


def test_a_table_name_that_postgres_would_cut_is_refused(hand: Hand) -> None:
    hand.sink.begin()
    with pytest.raises(SinkShapeError, match="63"):
        hand.sink.prepare(mirror(ORDERS, "é" * 32))
    hand.sink.rollback()


def test_a_database_in_another_encoding_takes_what_it_can(database15: Database) -> None:
    with database15.server.connect() as connection:
        name = sql.Identifier(f"{database15.name}_latin1")
        connection.execute(sql.SQL("CREATE DATABASE {} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0").format(name))
        try:
            hand = Hand(PostgresPlace(Database(database15.server, f"{database15.name}_latin1"), "sales"))
            refused = hand.write(mirror(ORDERS), insert(id="1", name="é"), insert(id="2", name="漢"), insert(id="3", name="ü"))
            assert [one.row for one in refused] == [1]
            ids = pa.array(range(10, 410))
            hand.sink.begin()
            names = pa.array(["漢" if i == 99 else "é" for i in range(400)])
            refused = hand.give(mirror(ORDERS), many(ORDERS, [ids, names, ids, ids], Op.INSERT, first=hand.next))
            hand.commit()
            assert [one.row for one in refused] == [99]
            assert hand.names(mirror(ORDERS))["3"] == "ü"
            hand.sink.close()
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


# Errors


_KINDS: dict[type[SluiceError], str] = {
    TransientError: "53100 40P01 40001 57P01 55P03 08006 58030 57014",
    RowRefused: "22003 23514 P0001 54000 0A000",
    Refused: "42501 3D000",
    SinkShapeError: "42P01",
    TerminalError: "XX000 25P02",
}


@pytest.mark.parametrize("sqlstate, kind", [(state, kind) for kind, states in _KINDS.items() for state in states.split()])
def test_the_code_decides_who_has_to_act(sqlstate: str, kind: type[SluiceError]) -> None:
    error = from_sqlstate(sqlstate, "Wortlaut in irgendeiner Sprache", Asked("host:1/x"))
    assert type(error) is kind
    assert error.hint or kind in (RowRefused, TerminalError)


def test_a_statement_that_is_cut_off_in_the_middle_is_tried_again(place: PostgresPlace, hand: Hand) -> None:
    hand.write(mirror(ORDERS), insert(id="1", name="a"))
    hand.sink.begin()
    hand.put(mirror(ORDERS), insert(id="2", name="b"))
    place.database.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'sluice%'")
    with pytest.raises(TransientError):
        hand.put(mirror(ORDERS), insert(id="3", name="c"))
    hand.sink.rollback()
    assert hand.sink.open(JOURNAL) is not None
    hand.write(mirror(ORDERS), insert(id="3", name="c"))
    assert hand.names(mirror(ORDERS)) == {"1": "a", "3": "c"}


def test_a_history_is_found_by_key_without_reading_all_of_it(place: PostgresPlace, hand: Hand) -> None:
    hand.write(history(ORDERS), insert(id="1"))
    indexes = [definition for (definition,) in place.database.rows("SELECT indexdef FROM pg_indexes WHERE tablename = 'orders'")]
    assert any("UNIQUE" in one and "(id, _sluice_position)" in one for one in indexes)
    with pytest.raises(psycopg.errors.UniqueViolation):
        place.database.execute("INSERT INTO sales.orders SELECT * FROM sales.orders")
