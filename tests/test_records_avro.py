from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import ConfigError, Refused, TransientError
from sources.records.base import Payload, RegistryOptions
from tests.fake_registry import FakeRegistry, fake_registry
from tests.records import decode, decoder, one, reasons, refusal, rows

UTC = dt.UTC


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with fake_registry() as found:
        yield found


def record(*fields: tuple[str, Any]) -> dict[str, Any]:
    return {"type": "record", "name": "Order", "fields": [{"name": name, "type": kind} for name, kind in fields]}


def logical(kind: str, name: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "logicalType": name, **more}


def test_every_kind_of_value_becomes_postgres_text(registry: FakeRegistry) -> None:
    fields: tuple[tuple[str, Any, str, Any, str], ...] = (
        ("i", "int", "integer", -5, "-5"),
        ("l", "long", "bigint", 2**63 - 1, "9223372036854775807"),
        ("n", "long", "numeric", 2**53 + 1, "9007199254740993"),
        ("f", "float", "real", 0.5, "0.5"),
        ("d", "double", "double precision", 0.1, "0.1"),
        ("b", "boolean", "boolean", True, "t"),
        ("s", "string", "text", "ü", "ü"),
        ("y", "bytes", "bytea", b"\xde\xad", "\\xdead"),
        ("dec", logical("bytes", "decimal", precision=12, scale=2), "numeric(12,2)", Decimal("-12.50"), "-12.50"),
        ("day", logical("int", "date"), "date", dt.date(2026, 2, 28), "2026-02-28"),
        ("t", logical("int", "time-millis"), "time", dt.time(10, 0, 0, 5000), "10:00:00.005"),
        ("tm", logical("long", "time-micros"), "time", dt.time(10, 0, 0, 5), "10:00:00.000005"),
        ("ts", logical("long", "timestamp-millis"), "timestamptz", dt.datetime(2026, 1, 1, 1, tzinfo=UTC), "2026-01-01 01:00:00+00"),
        (
            "us",
            logical("long", "timestamp-micros"),
            "timestamptz",
            dt.datetime(2026, 1, 1, 1, 0, 0, 5, UTC),
            "2026-01-01 01:00:00.000005+00",
        ),
        ("lo", logical("long", "local-timestamp-micros"), "timestamp", dt.datetime(2026, 1, 1, 1), "2026-01-01 01:00:00"),
        ("u", logical("string", "uuid"), "uuid", UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ("e", {"type": "enum", "name": "E", "symbols": ["A", "B"]}, "text", "B", "B"),
        ("a", {"type": "array", "items": ["null", "string"]}, "text[]", ["x", None, "a b"], '{x,NULL,"a b"}'),
        ("j", {"type": "map", "values": "long"}, "jsonb", {"k": 2**60}, '{"k":1152921504606846976}'),
    )
    registry.add(1, record(*((name, kind) for name, kind, _, _, _ in fields)))
    reader = decoder("avro", {name: kind for name, _, kind, _, _ in fields}, registry=registry.options)
    message = registry.message(1, {name: value for name, _, _, value, _ in fields})
    assert one(reader, message) == {name: text for name, _, _, _, text in fields}


def test_fields_are_found_by_name_and_what_the_writer_lacks_is_null(registry: FakeRegistry) -> None:
    registry.add(1, record(("id", "long"), ("old", "string")))
    registry.add(2, record(("note", ["null", "string"]), ("id", "long")))
    reader = decoder("avro", {"id": "bigint", "note": "text"}, registry=registry.options)
    found = decode(
        reader,
        registry.message(1, {"id": 1, "old": "x"}),
        registry.message(2, {"id": 2, "note": "n"}),
        registry.message(1, {"id": 3, "old": "y"}),
        registry.message(2, {"id": 4, "note": None}),
    )
    assert [row["id"] for row in rows(reader, found)] == ["1", "2", "3", "4"]
    assert [row["note"] for row in rows(reader, found)] == [None, "n", None, None]
    assert found.extra == {"old": 2}
    assert len(registry.asked) == 2, "each schema is asked for once"


def test_each_bad_message_has_its_reason_and_harms_no_neighbour(registry: FakeRegistry) -> None:
    registry.add(1, record(("id", "long"), ("name", "string")))
    registry.add(7, {"type": "string"})
    registry.add(8, {}, schemaType="PROTOBUF")
    good = registry.message(1, {"id": 1, "name": "a"})
    reader = decoder("avro", {"id": "bigint", "name": "varchar(3)"}, registry=registry.options)
    found = decode(
        reader, good, b"", b"\1" + good[1:], good[:3], good[:-1], good + b"!", b"\0\0\0\0\x63" + good[5:], registry.message(7, "x"),
        b"\0\0\0\0\x08abc", registry.message(1, {"id": 2, "name": "long"}), good,
    )  # fmt: skip
    said = {row: messages[0] for row, messages in reasons(found).items()}
    assert sorted(said) == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert said[1] == (None, "the message is empty")
    assert said[2] == (None, "does not begin with the zero byte of the wire format, but with 0x01")
    assert said[3] == (None, "ends within the schema's id")
    assert "cannot be read with schema 1" in said[4][1]
    assert said[5] == (None, "has 1 bytes behind the record")
    assert "99" in said[6][1]
    assert said[7] == (None, "its schema is no record")
    assert "PROTOBUF" in said[8][1]
    assert said[9] == ("name", "has 4 characters, more than character varying(3) holds")
    assert rows(reader, found)[10] == {"id": "1", "name": "a"}


def test_a_registry_that_is_away_is_no_defect(registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.add(1, record(("id", "long")))
    message = registry.message(1, {"id": 1})
    registry.away = True
    reader = decoder("avro", {"id": "bigint"}, registry=registry.options)
    import stamina

    with stamina.set_testing(True, attempts=2), pytest.raises(TransientError, match="cannot be reached"):
        reader.decode([Payload(None, message)])
    registry.away = False
    assert one(reader, message) == {"id": "1"}


def test_wrong_credentials_stop_and_are_not_shown(registry: FakeRegistry) -> None:
    registry.add(1, record(("id", "long")))
    registry.password = "secret-word"
    message = registry.message(1, {"id": 1})
    assert one(decoder("avro", {"id": "bigint"}, registry=registry.options), message) == {"id": "1"}
    wrong = RegistryOptions(f"http://127.0.0.1:{registry.port}", username="me", password="wrong-word")
    with pytest.raises(Refused) as caught:
        decoder("avro", {"id": "bigint"}, registry=wrong).decode([Payload(None, message)])
    assert "wrong-word" not in f"{caught.value}{wrong!r}"


def test_avro_without_a_registry_is_a_mistake_in_the_pipeline_file() -> None:
    with pytest.raises(ConfigError, match="schema_registry"):
        decoder("avro", {"id": "bigint"})


def test_a_schema_that_refers_to_another_is_put_together(registry: FakeRegistry) -> None:
    buyer = {"type": "record", "name": "Buyer", "namespace": "x", "fields": [{"name": "email", "type": "string"}]}
    registry.subjects["buyer", 3] = {"schema": __import__("json").dumps(buyer)}
    registry.add(1, record(("id", "long"), ("buyer", "x.Buyer")), references=[{"name": "x.Buyer", "subject": "buyer", "version": 3}])
    named: dict[str, Any] = {}
    from fastavro import parse_schema

    parse_schema(buyer, named_schemas=named)
    message = registry.message(1, {"id": 1, "buyer": {"email": "a@b"}}, named)
    reader = decoder("avro", {"id": "bigint", "email": "text"}, paths={"email": "buyer.email"}, registry=registry.options)
    assert one(reader, message) == {"id": "1", "email": "a@b"}


def test_keys_are_records_in_the_wire_format_json_or_text(registry: FakeRegistry) -> None:
    registry.add(1, record(("id", "long")))
    registry.add(2, "long")
    reader = decoder("avro", {"id": "bigint", "x": "text"}, ["id"], registry=registry.options)
    keys = (registry.message(1, {"id": 5}), registry.message(2, 6), b'{"id":7}', b"8")
    found = decode(reader, *(Payload(key, None) for key in keys))
    assert not found.defects
    assert [row["id"] for row in rows(reader, found)] == ["5", "6", "7", "8"]


@pytest.mark.parametrize("mode, kept, bad", [("drop", None, 0), ("keep", '{"more":{"deep":1.5}}', 0), ("quarantine", None, 1)])
def test_fields_that_the_schema_lacks(registry: FakeRegistry, mode: str, kept: str | None, bad: int) -> None:
    deep = {"type": "record", "name": "Deep", "fields": [{"name": "deep", "type": "double"}]}
    registry.add(1, record(("id", "long"), ("more", deep)))
    reader = decoder("avro", {"id": "bigint"}, registry=registry.options, extra=mode)
    found = decode(reader, registry.message(1, {"id": 1, "more": {"deep": 1.5}}))
    assert len(found.defects) == bad
    assert found.extra == {"more": 1}
    assert rows(reader, found)[0].get("_extra") == kept


DECIMAL = logical("bytes", "decimal", precision=9, scale=3)


@pytest.mark.parametrize(
    "avro, value, column, message",
    [
        ("string", "5", "bigint", "expected bigint, got the string '5'"),
        ("long", 2**40, "integer", "'1099511627776' is out of range for integer"),
        ("double", 1.5, "bigint", "expected bigint, got the number '1.5'"),
        ("double", float("nan"), "numeric", "expected numeric, got the number 'nan'"),
        ("long", 1, "boolean", "expected boolean, got the number '1'"),
        ("string", "a\0b", "text", "holds a NUL character, which no text in Postgres can"),
        (DECIMAL, Decimal("1.005"), "numeric(9,2)", "'1.005' has more decimals than numeric(9,2) holds"),
        (logical("long", "local-timestamp-micros"), dt.datetime(2026, 1, 1), "timestamptz", "'2026-01-01T00:00:00' has no time zone"),
    ],
)  # fmt: skip
def test_values_that_their_type_does_not_hold(registry: FakeRegistry, avro: Any, value: Any, column: str, message: str) -> None:
    registry.add(1, record(("v", avro)))
    reader = decoder("avro", {"v": column}, registry=registry.options)
    assert refusal(reader, registry.message(1, {"v": value})) == ("v", message)


MICROS = st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(-(10**17), 10**17), st.integers(-(10**9), 10**9))
NUMBERS = st.fixed_dictionaries({
    "us": st.none() | MICROS, "ms": st.none() | MICROS, "day": st.none() | st.integers(-(2**31), 2**31 - 1) | st.integers(-900, 900),
    "dec": st.none() | st.integers(-(10**12), 10**12) | st.integers(-(2**80), 2**80),
})  # fmt: skip


def test_times_and_decimals_are_what_their_numbers_say() -> None:
    kinds = {
        "us": (logical("long", "timestamp-micros"), "timestamptz", 1), "ms": (logical("long", "timestamp-millis"), "timestamp", 1000),
        "day": (logical("int", "date"), "date", 1), "dec": (logical("bytes", "decimal", precision=30, scale=2), "numeric(12,2)", 1),
    }  # fmt: skip
    with fake_registry() as registry:
        registry.add(1, record(*((name, ["null", kind]) for name, (kind, _, _) in kinds.items())))
        registry.add(2, record(*((name, ["null", kind["type"]]) for name, (kind, _, _) in kinds.items())))
        reader = decoder("avro", {name: column for name, (_, column, _) in kinds.items()}, registry=registry.options)

        def expected(name: str, number: int) -> str | None:
            """Text, or None for what does not fit."""
            if name == "dec":
                return f"{Decimal(number).scaleb(-2):f}" if abs(number) < 10**12 else None
            try:
                if name == "day":
                    return (dt.date(1970, 1, 1) + dt.timedelta(number)).isoformat()
                at = dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=number * kinds[name][2])
            except OverflowError:
                return None
            text = at.isoformat(" ", "microseconds").rstrip("0").rstrip(".")
            return text + "+00" if name == "us" else text

        @settings(max_examples=100, deadline=None)
        @given(st.lists(NUMBERS, min_size=1))
        def numbers(records: list[dict[str, int | None]]) -> None:
            raw = [{**one, "dec": None if one["dec"] is None else one["dec"].to_bytes(16, "big", signed=True)} for one in records]
            values = [b"\0\0\0\0\1" + registry.message(2, one)[5:] for one in raw]
            found = decode(reader, *values)
            said = reasons(found)
            for row, (one, texts) in enumerate(zip(records, rows(reader, found), strict=True)):
                wanted = {name: None if number is None else expected(name, number) for name, number in one.items()}
                assert texts == wanted
                bad = [name for name, number in one.items() if number is not None and wanted[name] is None]
                assert sorted(column or "" for column, _ in said.get(row, [])) == sorted(bad)

        numbers()


def test_hostile_bytes_never_raise() -> None:
    with fake_registry() as registry:
        registry.add(
            1, record(("id", "long"), ("s", ["null", "string"]), ("a", {"type": "array", "items": "string"}), ("d", logical("int", "date")))
        )
        reader = decoder("avro", {"id": "bigint", "s": "text", "a": "jsonb", "d": "date"}, ["id"], registry=registry.options)
        good = registry.message(1, {"id": 1, "s": "x", "a": ["y"], "d": dt.date(2026, 1, 1)})

        @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(st.lists(st.binary(max_size=40)))
        def hostile(tails: list[bytes]) -> None:
            values = [struct.pack(">BI", 0, 1) + tail for tail in tails]
            found = decode(reader, *values, good)
            assert rows(reader, found)[-1]["id"] == "1"

        hostile()
