from __future__ import annotations

import pytest

from tests.records import decode, decoder, one, rows

BIG = 2**53 + 1


@pytest.mark.parametrize(
    "column, token, text",
    [
        ("bigint", "9223372036854775807", "9223372036854775807"),
        ("bigint", "-9223372036854775808", "-9223372036854775808"),
        ("bigint", str(BIG), str(BIG)),
        ("integer", "-0", "0"),
        ("smallint", "32767", "32767"),
        ("oid", "4294967295", "4294967295"),
        ("numeric(10,2)", "1.5", "1.50"),
        ("numeric(10,2)", '"1.50"', "1.50"),
        ("numeric(10,2)", "1e2", "100.00"),
        ("numeric(10,2)", "7", "7.00"),
        ("numeric(10,2)", "-0.00", "0.00"),
        ("numeric(10,2)", "-0.05", "-0.05"),
        ("numeric(10,2)", "99999999.99", "99999999.99"),
        ("numeric(10,2)", "1.500", "1.50"),
        ("numeric(4,0)", "9999", "9999"),
        ("numeric(3,3)", "0.125", "0.125"),
        ("numeric(3,-2)", "12300", "12300"),
        ("numeric", "1.10", "1.10"),
        ("numeric", "1e3", "1000"),
        ("numeric", "1.5E-3", "0.0015"),
        ("numeric", str(BIG) + ".5", str(BIG) + ".5"),
        ("numeric", "1" * 5000, "1" * 5000),
        ("numeric", '"0.1"', "0.1"),
        ("numeric(38,10)", "1234567890123456789012345678.0123456789", "1234567890123456789012345678.0123456789"),
        ("double precision", "1", "1"),
        ("double precision", "0.1", "0.1"),
        ("double precision", "1e300", "1e+300"),
        ("real", "0.1", "0.1"),
        ("boolean", "true", "t"),
        ("boolean", "false", "f"),
        ("text", '"\\u00fc\\ud83d\\ude00"', "ü😀"),
        ("text", '""', ""),
        ("text", '"null"', "null"),
        ("varchar(2)", '"üü"', "üü"),
        ("char(3)", '"a"', "a  "),
        ("inet", '"10.0.0.1"', "10.0.0.1"),
        ("timestamptz", '"2026-01-01T10:00:00Z"', "2026-01-01 10:00:00+00"),
        ("timestamptz", '"2026-01-01t10:00:00.120z"', "2026-01-01 10:00:00.12+00"),
        ("timestamptz", '"2026-01-01T00:30:00+01:00"', "2025-12-31 23:30:00+00"),
        ("timestamptz", '"9999-12-31T23:59:59Z"', "9999-12-31 23:59:59+00"),
        ("timestamptz", '"2016-12-31T23:59:60Z"', "2017-01-01 00:00:00+00"),
        ("timestamptz", '"0001-01-01T00:00:00Z"', "0001-01-01 00:00:00+00"),
        ("timestamptz", '"2026-01-01T10:00:00.123456000Z"', "2026-01-01 10:00:00.123456+00"),
        ("timestamp", '"2026-01-01T10:00:00.5"', "2026-01-01 10:00:00.5"),
        ("date", '"2024-02-29"', "2024-02-29"),
        ("time", '"10:00:00.50"', "10:00:00.5"),
        ("time", '"24:00:00"', "24:00:00"),
        ("uuid", '"A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"', "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("jsonb", '{"b" : 1.50 , "a":[1, 2e5]}', '{"b":1.50,"a":[1,2e5]}'),
        ("jsonb", '"a  b"', '"a  b"'),
        ("jsonb", str(BIG), str(BIG)),
        ("json", "[ ]", "[]"),
        ("jsonb", '"\\\\u0000"', '"\\\\u0000"'),
        ("bytea", '"3q2+7w=="', "\\xdeadbeef"),
        ("bytea", '""', "\\x"),
        ("integer[]", "[1, 2, null]", "{1,2,NULL}"),
        ("text[]", '["a", "b c", "", "NULL", "q\\"\\\\"]', '{a,"b c","","NULL","q\\"\\\\"}'),
        ("integer[]", "[[1,2],[3,4]]", "{{1,2},{3,4}}"),
        ("text[]", "[]", "{}"),
        ("numeric(5,1)[]", "[1.5,2]", "{1.5,2.0}"),
        ("boolean[]", "[true]", "{t}"),
    ],
)
def test_values_become_postgres_text(column: str, token: str, text: str) -> None:
    reader = decoder("json", {"v": column})
    assert one(reader, f'{{"v":{token}}}') == {"v": text}
    found = decode(reader, *(f'{{"v": {token} }}' for _ in range(5)), '{"v":null}', "{}")
    assert [row["v"] for row in rows(reader, found)] == [text] * 5 + [None, None]


@pytest.mark.parametrize(
    "column, token, message",
    [
        ("bigint", "9223372036854775808", "'9223372036854775808' is out of range for bigint"),
        ("bigint", "5.0", "expected bigint, got '5.0'"),
        ("bigint", "1e3", "expected bigint, got '1e3'"),
        ("bigint", '"5"', 'expected bigint, got a string ("5")'),
        ("bigint", "true", "expected bigint, got true"),
        ("integer", "2147483648", "'2147483648' is out of range for integer"),
        ("smallint", "-32769", "'-32769' is out of range for smallint"),
        ("numeric(10,2)", "12.345", "'12.345' has more decimals than numeric(10,2) holds"),
        ("numeric(4,2)", "100", "'100' is out of range for numeric(4,2)"),
        ("numeric(10,2)", '"1,5"', "expected numeric(10,2), got '1,5'"),
        ("numeric", '"NaN"', "expected numeric, got 'NaN'"),
        ("numeric", '""', "expected numeric, got ''"),
        ("numeric", "[1]", "expected numeric, got an array"),
        ("numeric", '" 1"', "expected numeric, got ' 1'"),
        ("numeric", "1e200000", "'1e200000' is out of range for numeric"),
        ("double precision", "1e999", "'1e999' is out of range for double precision"),
        ("double precision", '"1"', 'expected double precision, got a string ("1")'),
        ("real", "1e39", "'1e39' is out of range for real"),
        ("boolean", "1", "expected boolean, got the number '1'"),
        ("boolean", '"true"', 'expected boolean, got a string ("true")'),
        ("text", "5", "expected text, got the number '5'"),
        ("text", "{}", "expected text, got an object"),
        ("text", '"a\\u0000"', "holds a NUL character, which no text in Postgres can"),
        ("varchar(2)", '"abc"', "has 3 characters, more than character varying(2) holds"),
        ("timestamptz", '"2026-01-01T10:00:00"', "'2026-01-01T10:00:00' has no time zone"),
        ("timestamptz", '"2026-02-30T10:00:00Z"', "'2026-02-30T10:00:00Z' is no moment that there is"),
        ("timestamptz", "1767258000", "expected timestamp with time zone, got the number '1767258000'"),
        ("timestamptz", '"2026-01-01"', "expected timestamp with time zone (RFC 3339), got '2026-01-01'"),
        ("timestamptz", '"2026-01-01T10:00:00+0100"', "expected timestamp with time zone (RFC 3339), got '2026-01-01T10:00:00+0100'"),
        ("timestamptz", '"2026-01-01T25:00:00Z"', "'2026-01-01T25:00:00Z' is no moment that there is"),
        (
            "timestamptz",
            '"2026-01-01T10:00:00.1234567Z"',
            "'2026-01-01T10:00:00.1234567Z' is finer than a microsecond, which would have to be rounded",
        ),
        ("timestamp", '"2026-01-01T10:00:00Z"', "'2026-01-01T10:00:00Z' has a time zone, which timestamp without time zone does not hold"),
        ("date", '"2026-02-29"', "expected date (YYYY-MM-DD), got '2026-02-29'"),
        ("time", '"24:00:01"', "expected time (HH:MM:SS), got '24:00:01'"),
        ("uuid", '"a0eebc999c0b4ef8bb6d6bb9bd380a11"', "expected uuid, got 'a0eebc999c0b4ef8bb6d6bb9bd380a11'"),
        ("bytea", '"xyz"', "expected bytea (base64), got 'xyz'"),
        ("jsonb", '"\\u0000"', "holds \\u0000, which no jsonb in Postgres can"),
        ("integer[]", "[1,2.5]", "expected integer, got '2.5'"),
        ("integer[]", "5", "expected integer[], got the number '5'"),
    ],
)
def test_values_that_their_type_does_not_hold_are_defects(column: str, token: str, message: str) -> None:
    reader = decoder("json", {"v": column, "w": "text"})
    found = decode(reader, '{"w":"a"}', f'{{"w":"b","v":{token}}}', '{"w":"c"}')
    assert [(defect.row, defect.column, defect.message, defect.raw) for defect in found.defects] == [(1, "v", message, token.encode())]
    assert [row["w"] for row in rows(reader, found)] == ["a", "b", "c"], "what else the record holds is there for who mends it"
