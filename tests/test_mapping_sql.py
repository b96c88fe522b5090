"""Maps in SQL: what is refused before anything runs, and what becomes of rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from dataflows.map_answer import Answer
from dataflows.map_query import parse_query
from dataflows.map_sql import SqlMap
from journal.schema import Column, TableSchema
from pipeline.errors import ConfigError

_FILE = Path("maps/orders.sql")
_INPUT = {
    "orderNo": "text",
    "buyer": "jsonb",
    "cents": "bigint",
    "placed": "timestamp with time zone",
    "rate": "numeric",
    "id": "uuid",
    "tags": "text[]",
}
_ORDERS = TableSchema(
    "orders",
    (
        Column("order_id", "text"),
        Column("email", "text"),
        Column("total", "numeric(10,2)"),
        Column("placed_at", "timestamp with time zone"),
        Column("quantity", "integer"),
        Column("day", "date"),
    ),
    ("order_id",),
)


def _map(sql: str, dataset: TableSchema | None = _ORDERS) -> SqlMap:
    return SqlMap(parse_query(sql, _FILE), _INPUT, dataset)


def _run(found: SqlMap, **columns: Sequence[str | None]) -> Answer:
    rows = len(next(iter(columns.values())))
    given = {name: pa.array(columns.get(name, [None] * rows), pa.string()) for name in _INPUT}
    return found.run(given, rows)


def _rows(answer: Answer) -> dict[str, list[str | None]]:
    return {name: column.to_pylist() for name, column in answer.columns.items()}


def _problems(sql: str, dataset: TableSchema | None = _ORDERS) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        _map(sql, dataset)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    "sql, said",
    [
        ("SELECT count(*) AS n FROM input", "aggregate"),
        ("SELECT DISTINCT orderNo FROM input", "DISTINCT"),
        ("SELECT orderNo FROM input GROUP BY orderNo", "GROUP BY"),
        ("SELECT orderNo FROM input GROUP BY ALL", "GROUP BY"),
        ("SELECT orderNo FROM input LIMIT 5", "LIMIT"),
        ("SELECT orderNo FROM input USING SAMPLE 10%", "SAMPLE"),
        ("SELECT orderNo FROM input TABLESAMPLE 10%", "sample"),
        ("SELECT a FROM input AS i(a, b)", "keep their names"),
        ("SELECT orderNo FROM input UNION ALL SELECT orderNo FROM input", "UNION"),
        ("SELECT 1 AS one", "FROM input"),
        ("SELECT orderNo FROM orders", "FROM input"),
        ("SELECT orderNo FROM input, other", "no table `other`"),
        ("SELECT orderNo FROM (VALUES (1)) AS v(a) LEFT JOIN input ON true", "FROM input"),
        ("SELECT orderNo FROM input RIGHT JOIN (VALUES (1)) AS v(a) ON true", "FROM input"),
        ("SELECT unnest([1, 2]) AS n, orderNo FROM input", "makes rows"),
        ("SELECT orderNo, row_number() OVER () AS n FROM input", "window"),
        ("SELECT orderNo FROM input QUALIFY row_number() OVER () = 1", "QUALIFY"),
        ("SELECT orderNo, (SELECT max(cents) FROM input) AS most FROM input", "read twice"),
        ("SELECT orderNo, (SELECT max(cents) FROM query_table('given')) AS most FROM input", "nobody has checked"),
        ("SELECT orderNo, (SELECT * FROM query('SELECT 1')) AS most FROM input", "nobody has checked"),
        ("SELECT orderNo, now() AS at FROM input", "clock"),
        ("SELECT orderNo, current_date AS at FROM input", "clock"),
        ("SELECT orderNo, random() AS r FROM input", "every call"),
        ("SELECT orderNo, ? AS r FROM input", "parameter"),
        ("SELECT lower(orderNo) FROM input", "without a name"),
        ("SELECT orderNo AS _sluice_row FROM input", "Sluice's own"),
        ("SELECT COLUMNS('o.*') FROM input", "name the columns"),
        ("SELECT orderNo, cents AS ORDERNO FROM input", "twice"),
        ("DELETE FROM input", "no map"),
        ("SELECT orderNo FROM input; SELECT 1", "2 statements"),
        ("WITH input AS (SELECT 1 AS orderNo) SELECT orderNo FROM input", "something else"),
    ],
)
def test_sql_that_cannot_give_one_row_for_each_row_is_refused(sql: str, said: str) -> None:
    assert said in "\n".join(_problems(sql, None))


def test_what_is_refused_is_told_with_its_line() -> None:
    assert _problems("SELECT orderNo AS order_id,\n  cents AS nope,\n  true AS day\nFROM input") == [
        "maps/orders.sql:2: the map gives `nope`, which the contract of orders does not have\n"
        "  hint: known: day, email, order_id, placed_at, quantity, total",
        "maps/orders.sql:3: `day` is BOOLEAN, which goes into no column of date\n  hint: CAST it, or make it JSON with to_json()",
    ]
    assert _problems("SELECT\n orderNo AS order_id,\n orderNr AS email FROM input") == [
        "maps/orders.sql:3: the input has no column `orderNr`\n  hint: did you mean orderNo?"
    ]
    assert _problems("SELECT orderNo AS order_id\nFROM input\nWHERE cent > 0")[0].startswith("maps/orders.sql:3: the input has no column")
    assert _problems("SELECT orderNo AS order_id,\n\n upper(cents) AS email FROM input")[0].startswith("maps/orders.sql:3: `email`")
    assert _problems("SELECT orderNo\nFROM input\nWHER 2")[0].startswith("maps/orders.sql:3: this is no map: syntax error")
    assert "`total` is text" in _problems("SELECT orderNo AS order_id, orderNo AS total FROM input")[0]


def test_rows_come_back_as_the_columns_of_the_dataset() -> None:
    found = _map(
        "SELECT orderNo AS order_id, buyer->>'$.email' AS email, cents / 100 AS total, placed AS placed_at, buyer->>'n' AS quantity,"
        " placed::date AS day FROM input"
    )
    answer = _run(
        found,
        orderNo=["a", "b"],
        buyer=['{"email": "x@y", "n": 3}', None],
        cents=["1999", None],
        placed=["2026-01-01 00:00:00+00", "infinity"],
    )
    assert _rows(answer) == {
        "order_id": ["a", "b"],
        "email": ["x@y", None],
        "total": ["19.99", None],
        "placed_at": ["2026-01-01 00:00:00+00", "infinity"],
        "quantity": ["3", None],
        "day": ["2026-01-01", "infinity"],
    }
    assert answer.bad == {}


def test_a_value_that_its_column_would_cut_or_round_is_a_bad_row() -> None:
    found = _map("SELECT orderNo AS order_id, cents / 1000 AS total, buyer->>'n' AS quantity, placed AS day FROM input")
    answer = _run(
        found,
        orderNo=["a", "b", "c", "d"],
        cents=["1990", "1999", "100000000000000", "10"],
        buyer=['{"n": 1}', '{"n": 2}', '{"n": 3}', '{"n": 4.5}'],
        placed=["2026-01-01 00:00:00+00"] * 3 + ["2026-01-01 10:00:00+00"],
    )
    assert {row: (reason.rule, reason.column) for row, reason in answer.bad.items()} == {
        1: ("map", "total"),
        2: ("map", "total"),
        3: ("map", "quantity"),
    }
    assert _rows(answer)["total"] == ["1.99", None, None, "0.01"]


def test_a_row_on_which_the_map_fails_is_found_among_thousands() -> None:
    found = _map("SELECT orderNo AS order_id, CASE WHEN cents = 7777 THEN error('no') ELSE cents END AS quantity FROM input")
    answer = _run(found, orderNo=[f"o{n}" for n in range(10_000)], cents=[str(n) for n in range(10_000)])
    assert list(answer.bad) == [7777]
    assert "no" not in answer.bad[7777].message.split()
    wanted: list[str | None] = [str(n) for n in range(10_000)]
    wanted[7777] = None
    assert _rows(answer)["quantity"] == wanted


def test_a_column_that_is_nothing_but_a_guard_turns_rows_away() -> None:
    found = _map("SELECT orderNo AS order_id, CASE WHEN cents < 0 THEN error('negative') END AS email FROM input")
    answer = _run(found, orderNo=["a", "b"], cents=["1", "-1"])
    assert list(answer.bad) == [1]


def test_rows_that_the_map_leaves_out_or_doubles_are_bad() -> None:
    left_out = _run(_map("SELECT orderNo AS order_id FROM input WHERE cents > 0"), orderNo=["a", "b", "c"], cents=["1", "0", None])
    assert sorted(left_out.bad) == [1, 2]
    assert _rows(left_out) == {"order_id": ["a", None, None]}
    doubled = _run(
        _map(
            "SELECT orderNo AS order_id, r.name AS email FROM input JOIN (VALUES (1, 'x'), (2, 'y'), (2, 'z')) AS r(k, name) ON r.k = cents"
        ),
        orderNo=["a", "b", "c"],
        cents=["1", "2", "3"],
    )
    assert {row: reason.message for row, reason in doubled.bad.items()} == {
        1: "the map gives 2 rows for it",
        2: "the map gives no row for it",
    }
    assert _rows(doubled)["email"] == ["x", None, None]


def test_a_number_that_duckdb_cannot_hold_is_bad_where_it_is_computed_with_and_passes_where_it_is_not() -> None:
    values: list[str | None] = ["1.5", "NaN", "1" * 60, "0.0001"]
    computed = _run(_map("SELECT rate * 2 AS rate FROM input", None), rate=values)
    assert sorted(computed.bad) == [1, 2]
    assert [_rows(computed)["rate"][row] for row in (0, 3)] == ["3.0000", "0.0002"]
    passed = _run(_map("SELECT rate AS rate, orderNo FROM input", None), rate=values, orderNo=["a"] * 4)
    assert not passed.bad
    assert _rows(passed)["rate"] == values


def test_without_a_contract_the_columns_are_what_duckdb_gives() -> None:
    found = _map(
        "SELECT orderNo, cents * 2 AS double, cents / 3 AS third, buyer->'items' AS items, [cents] AS list, id, rate + 1 AS more,"
        " placed > '2026-01-01'::timestamptz AS late, tags FROM input",
        None,
    )
    assert found.columns == {
        "orderNo": "text", "double": "bigint", "third": "double precision", "items": "jsonb", "list": "jsonb", "id": "uuid",
        "more": "numeric", "late": "boolean", "tags": "text[]",
    }  # fmt: skip
    answer = _run(
        found, cents=["5"], buyer=['{"items": [1, {"a": null}]}'], rate=["0.25"], placed=["2026-02-01 00:00:00+00"], tags=["{a,b}"]
    )
    assert _rows(answer) == {
        "orderNo": [None], "double": ["10"], "third": ["1.6666666666666667"], "items": ['[1,{"a":null}]'], "list": ["[5]"], "id": [None],
        "more": ["1.25"], "late": ["t"], "tags": ["{a,b}"],
    }  # fmt: skip


def test_json_of_a_column_is_taken_apart_with_duckdbs_functions() -> None:
    found = _map(
        "SELECT orderNo AS order_id, json_extract_string(buyer, '$.a.b[1]') AS email, json_array_length(buyer->'lines') AS quantity,"
        " (SELECT sum(CAST(line.value->>'price' AS DECIMAL(10,2))) FROM json_each(buyer->'lines') AS line) AS total FROM input"
    )
    answer = _run(found, orderNo=["a"], buyer=['{"a": {"b": ["x", "y"]}, "lines": [{"price": "1.10"}, {"price": 2}]}'])
    assert _rows(answer) == {"order_id": ["a"], "email": ["y"], "quantity": ["2"], "total": ["3.10"]}
    assert not answer.bad


def test_columns_may_build_on_each_other_and_a_star_stands_for_the_inputs() -> None:
    assert _map("SELECT * EXCLUDE (buyer) REPLACE (upper(orderNo) AS orderNo) FROM input", None).names == tuple(
        name for name in _INPUT if name != "buyer"
    )
    found = _map("SELECT cents + 1 AS one, one * 2 AS two, orderNo FROM input", None)
    assert found.reads(["two"]) == {"cents"}
    assert _rows(found.run({"cents": pa.array(["1"])}, 1, ["two"])) == {"two": ["4"]}


def test_only_columns_that_are_computed_with_are_read() -> None:
    found = _map("SELECT orderNo AS order_id, placed AS placed_at, lower(buyer->>'email') AS email FROM input WHERE cents IS NOT NULL")
    assert found.reads(["email"]) == {"buyer", "cents"}
    assert found.reads(["order_id"]) == {"orderNo", "cents"}


def test_a_batch_without_rows_is_a_batch_without_rows() -> None:
    answer = _map("SELECT orderNo AS order_id, cents + 1 AS quantity FROM input").run(
        {name: pa.array([], pa.string()) for name in _INPUT}, 0
    )
    assert _rows(answer) == {"order_id": [], "quantity": []}
