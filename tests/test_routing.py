"""Routes: which rows a sink gets, what becomes of their columns, and what is wrong with a route."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from journal.batch import ChangeBatch, Op, Presence
from journal.schema import Column, TableSchema
from pipeline.errors import ConfigError
from pipeline.model import Route
from sinks.masks import REDACTED
from sinks.routing import Routed, Router, route_problems

KEY = b"0123456789abcdef"
SCHEMA = TableSchema(
    "orders",
    (
        Column("id", "bigint", 1, nullable=False),
        Column("email", "text", 2),
        Column("region", "text", 3),
        Column("amount", "numeric", 4, default="0.50"),
        Column("note", "text", 5),
    ),
    ("id",),
)
WORDS = {"I": Op.INSERT, "U": Op.UPDATE, "D": Op.DELETE, "T": Op.TRUNCATE, "R": Op.READ}
Values = Sequence[str | None]


def batch_of(ops: str, columns: Mapping[str, Values] | None = None, schema: TableSchema = SCHEMA, **more: object) -> ChangeBatch:
    n = len(ops)
    given_ = dict(columns or {})
    given_.setdefault("id", [str(i) for i in range(n)])
    return ChangeBatch(
        schema=schema,
        source="portal",
        table="public.orders",
        op=np.array([WORDS[op] for op in ops], np.uint8),
        lsn=np.arange(n, dtype=np.int64),
        nth=np.zeros(n, np.int64),
        time=np.zeros(n, np.int64),
        ordinal=np.arange(100, 100 + n, dtype=np.int64),
        columns=tuple(pa.array(given_.get(name, [None] * n), pa.string()) for name in schema.names),
        **more,  # type: ignore[arg-type]
    )


def routed(batch: ChangeBatch, where: str | None = None, columns: Mapping[str, str] | None = None, **route: object) -> Routed:
    return Router(Route("orders", where=where, columns=columns or {}, **route), batch.schema, KEY).route(batch)  # type: ignore[arg-type]


def problems(
    where: str | None = None, columns: Mapping[str, str] | None = None, schema: TableSchema | None = SCHEMA, **route: object
) -> list[str]:
    made = Route("orders", where=where, columns=columns or {}, line=7, **route)  # type: ignore[arg-type]
    return [str(problem) for problem in route_problems(made, schema, Path("pipeline.yaml"))]


def test_a_route_without_conditions_hands_on_the_very_batch() -> None:
    batch = batch_of("IUDTR")
    found = routed(batch)
    assert found.batch is batch
    assert found.rows.tolist() == [0, 1, 2, 3, 4]
    assert (len(found.leaving), found.filtered, found.refused) == (0, 0, [])


def test_inserts_and_copied_rows_that_do_not_match_are_filtered() -> None:
    found = routed(batch_of("IIRR", {"region": ["EU", "US", "US", "EU"]}), "region = 'EU'")
    assert found.rows.tolist() == [0, 3]
    assert found.batch.column("id").to_pylist() == ["0", "3"]
    assert found.filtered == 2
    assert len(found.leaving) == 0


def test_an_update_that_no_longer_matches_leaves_and_counts_as_filtered() -> None:
    found = routed(batch_of("UUI", {"region": ["EU", "US", "US"]}), "region = 'EU'")
    assert found.rows.tolist() == [0, 1]
    assert found.leaving.tolist() == [1]
    assert found.filtered == 2


def test_an_unknown_condition_is_no() -> None:
    found = routed(batch_of("IU", {"region": [None, None]}), "region = 'EU'")
    assert (found.rows.tolist(), found.leaving.tolist(), found.filtered) == ([1], [0], 2)


def test_deletes_and_truncates_pass_whatever_they_hold() -> None:
    found = routed(batch_of("DTD", {"region": ["US", None, None]}), "region = 'EU'")
    assert (found.rows.tolist(), found.filtered) == ([0, 1, 2], 0)


def test_a_row_on_which_the_filter_fails_is_refused_and_a_delete_is_not() -> None:
    found = routed(batch_of("IIUD", {"note": ["1", "x", "y", "z"]}), "CAST(note AS INTEGER) = 1")
    assert [(one.row, one.column) for one in found.refused] == [(1, None), (2, None)]
    assert {one.message for one in found.refused} == {"the filter fails: a value cannot be converted"}
    assert found.rows.tolist() == [0, 3]
    assert found.filtered == 0


def test_the_condition_sees_columns_that_are_dropped_or_masked() -> None:
    columns = {"region": "drop", "email": "mask(redact)"}
    found = routed(batch_of("II", {"region": ["EU", "US"], "email": ["a@b.c", "x@y.z"]}), "region = 'EU' AND email LIKE 'a%'", columns)
    assert found.rows.tolist() == [0]
    assert found.batch.schema.names == ("id", "email", "amount", "note")
    assert found.batch.column("email").to_pylist() == [REDACTED]


def test_the_condition_takes_unchanged_values_from_the_old_row() -> None:
    batch = batch_of(
        "UU",
        {"region": [None, None]},
        presence={2: np.full(2, Presence.ABSENT, np.uint8)},
        old={2: pa.array(["EU", "US"])},
        has_old=np.array([True, True]),
    )
    found = routed(batch, "region = 'EU'")
    assert found.leaving.tolist() == [1]
    assert found.batch.presence[2].tolist() == [Presence.ABSENT, Presence.ABSENT]  # the sink keeps what it has


def test_dropping_columns_moves_what_belongs_to_the_others() -> None:
    batch = batch_of(
        "UU",
        {"amount": ["1", "2"], "note": [None, "n"]},
        presence={1: np.array([1, 0], np.uint8), 4: np.array([1, 0], np.uint8)},
        old={0: pa.array(["7", None]), 4: pa.array([None, "m"])},
        has_old=np.array([True, True]),
    )
    found = routed(batch, columns={"email": "drop", "region": "drop"}).batch
    assert found.schema.names == ("id", "amount", "note")
    assert {c: codes.tolist() for c, codes in found.presence.items()} == {2: [1, 0]}
    assert {c: values.to_pylist() for c, values in found.old.items()} == {0: ["7", None], 2: [None, "m"]}


def test_a_masked_key_is_masked_in_old_rows_too() -> None:
    batch = batch_of("U", {"id": ["2"]}, old={0: pa.array(["1"])}, has_old=np.array([True]))
    found = routed(batch, columns={"id": "mask(hash)"})
    digests = [hmac.new(KEY, text, hashlib.sha256).hexdigest() for text in (b"2", b"1")]
    assert [found.batch.column("id")[0].as_py(), found.batch.old[0][0].as_py()] == digests
    assert found.batch.schema.types["id"] == "text"
    assert found.batch.schema.key == ("id",)


def test_a_value_that_does_not_fit_its_cast_refuses_its_row_alone() -> None:
    found = routed(batch_of("IIUD", {"amount": ["1.50", "1.505", "NaN", "x"]}), columns={"amount": "cast(numeric(10,2))"})
    assert [(one.row, one.column) for one in found.refused] == [(1, "amount"), (2, "amount")]
    assert found.refused[0].message == "the value does not fit cast(numeric(10,2))"
    assert found.rows.tolist() == [0, 3]
    assert found.batch.column("amount").to_pylist() == ["1.50", None]


def test_rows_keep_their_places_when_filter_and_cast_both_take_some() -> None:
    columns = {"region": ["EU", "US", "EU", "US", "EU", "US"], "amount": ["1", "bad", "bad", "2", "3", "bad"]}
    found = routed(batch_of("IIIUUU", columns), "region = 'EU'", {"amount": "cast(numeric(9,2))"})
    assert found.rows.tolist() == [0, 3, 4, 5]
    assert found.leaving.tolist() == [1, 3]
    assert [one.row for one in found.refused] == [2]
    assert found.filtered == 3


@given(
    st.lists(st.tuples(st.sampled_from("IURDT"), st.sampled_from(["EU", "US", "?", None]), st.sampled_from(["1", "x", None])), max_size=30)
)
def test_every_row_is_delivered_filtered_or_refused(rows: list[tuple[str, str | None, str | None]]) -> None:
    batch = batch_of("".join(op for op, _, _ in rows), {"region": [r for _, r, _ in rows], "amount": [a for _, _, a in rows]})
    where = "CASE WHEN region = '?' THEN CAST(region AS INTEGER) = 1 ELSE region = 'EU' END"
    found = routed(batch, where, {"amount": "cast(numeric(9,2))"})
    refused = {one.row for one in found.refused}
    for i, (op, region, amount) in enumerate(rows):
        if op in "DT":
            expected = "kept"
        elif region == "?":
            expected = "refused"
        elif region != "EU":
            expected = "leaving" if op == "U" else "gone"
        else:
            expected = "refused" if amount == "x" else "kept"
        place = np.flatnonzero(found.rows == i)
        is_ = "refused" if i in refused else "gone" if not len(place) else "leaving" if place[0] in found.leaving else "kept"
        assert is_ == expected
    assert len(batch) == len(found.batch) - len(found.leaving) + found.filtered + len(refused)
    assert found.batch.ordinal.tolist() == [100 + int(i) for i in found.rows]


def test_a_masked_column_of_any_type_becomes_text_and_so_does_its_default() -> None:
    router = Router(Route("orders", columns={"amount": "mask(hash)"}), SCHEMA, KEY)
    column = router.target.schema.columns[3]
    assert column.type == "text"
    assert column.default == hmac.new(KEY, b"0.50", hashlib.sha256).hexdigest()


def test_a_cast_column_has_the_new_type_and_its_default_is_cast() -> None:
    column = Router(Route("orders", columns={"amount": "cast(numeric(6, 3))"}), SCHEMA, KEY).target.schema.columns[3]
    assert (column.type, column.default) == ("numeric(6,3)", "0.500")


def test_a_default_that_does_not_fit_its_cast_is_an_error() -> None:
    with pytest.raises(ConfigError, match="the default of 'amount'"):
        Router(Route("orders", columns={"amount": "cast(integer)"}, line=3), SCHEMA, KEY)


def test_the_target_is_named_as_the_route_says() -> None:
    target = Router(Route("orders", table="orders_eu", where="region = 'EU'", mode="history", on_delete="soft"), SCHEMA, KEY).target
    assert (target.dataset, target.table, target.mode, target.on_delete, target.filtered) == (
        "orders",
        "orders_eu",
        "history",
        "soft",
        True,
    )
    assert Router(Route("orders"), SCHEMA, KEY).target.table == "orders"


@pytest.mark.parametrize(
    "columns, said",
    [
        ({"emial": "drop"}, "there is no column 'emial'\n  hint: did you mean email?"),
        ({"id": "drop"}, "a key column cannot be dropped"),
        ({"id": "mask(redact)"}, "a key column cannot be masked with mask(redact)"),
        ({"id": "mask(partial)"}, "use mask(hash)"),
        ({"email": "mask(tokenize)"}, "mask(tokenize) is not offered"),
        ({"email": "mask(hsh)"}, "there is no mask 'hsh'\n  hint: did you mean hash?"),
        ({"email": "dorp"}, "did you mean drop?"),
        ({"email": "cast()"}, "nothing that can be done with a column"),
        ({"email": "cast(numeric)"}, "does not say how many digits"),
        ({"email": "cast(numeric(50,2))"}, "does not say how many digits"),
        ({"email": "cast(intger)"}, "did you mean integer?"),
        ({"email": "cast(text[])"}, "is not offered"),
        ({"email": "cast(1x)"}, "not a Postgres type"),
        ({"id": "cast(date)"}, "a column of type bigint cannot be cast to date"),
        (dict.fromkeys(SCHEMA.names[1:], "drop") | {"id": "drop"}, "no column is left"),
    ],
)
def test_columns_that_make_no_sense_are_named_with_file_and_line(columns: dict[str, str], said: str) -> None:
    found = problems(columns=columns)
    assert any(said in problem for problem in found)
    assert all(problem.startswith("pipeline.yaml:7: dataset `orders`: ") for problem in found)


@pytest.mark.parametrize(
    "where, said",
    [
        ("regoin = 'EU'", 'there is no column "regoin" (at character 1)\n  hint: did you mean "region"?'),
        ("region = = 'EU'", "(at character 10)"),
        ("region", "not a condition"),
        ("amount > now()", ""),
        ("(SELECT 1)", "a subquery"),
        ("1; DROP TABLE x", "syntax error"),
        ("", "empty"),
    ],
)
def test_a_broken_condition_is_named_with_its_place(where: str, said: str) -> None:
    found = problems(where)
    assert len(found) == 1
    assert found[0].startswith("pipeline.yaml:7: dataset `orders`: `where`: ")
    assert said in found[0]


def test_without_columns_only_what_is_sure_is_reported() -> None:
    assert problems("regoin = 'EU' AND orders.x > 1", {"emial": "mask(hash)", "id": "drop"}, schema=None) == []
    assert len(problems("regoin = = 'EU'", {"emial": "mask(tokenize)", "b": "?"}, schema=None)) == 3


def test_names_that_the_sink_needs_are_refused_unless_dropped() -> None:
    schema = TableSchema("orders", (Column("id", "bigint"), Column("_sluice_position", "bigint"), Column("_op", "text")), ("id",))
    assert len(problems(schema=schema)) == 1
    assert len(problems(schema=schema, mode="history")) == 2
    assert problems(columns={"_sluice_position": "drop"}, schema=schema) == []


def test_a_route_that_does_not_fit_the_columns_stops_with_every_problem() -> None:
    with pytest.raises(ConfigError) as caught:
        Router(Route("orders", where="x = 1", columns={"y": "drop"}, line=9), SCHEMA, KEY, Path("p.yaml"))
    assert [problem.line for problem in caught.value.problems] == [9, 9]
