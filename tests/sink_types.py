"""Values of every kind that Postgres has, in its own text: what a sink must hold or refuse, and never change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

LONG_NUMBER = "9" * 1000 + "." + "1" * 1000

# type -> texts as the server writes them (datestyle ISO, intervalstyle postgres, timezone UTC, extra_float_digits 3)
VALUES: Mapping[str, Sequence[str]] = {
    "boolean": ("t", "f"),
    "smallint": ("-32768", "32767", "0"),
    "integer": ("-2147483648", "2147483647"),
    "bigint": ("-9223372036854775808", "9223372036854775807"),
    "oid": ("0", "4294967295"),
    "real": ("1.1", "NaN", "Infinity", "-Infinity", "1e-45", "3.4028235e+38", "-0", "0.1"),
    "double precision": ("1.1", "NaN", "Infinity", "-Infinity", "5e-324", "1.7976931348623157e+308", "-0", "0.30000000000000004"),
    "numeric": ("0", "0.00", "1.10", "NaN", "Infinity", "-Infinity", LONG_NUMBER),
    "numeric(10,2)": ("0.00", "-99999999.99", "12.30", "NaN"),
    "numeric(38,10)": ("1234567890123456789012345678.0123456789",),
    "numeric(50,20)": ("123456789012345678901234567890.12345678901234567890",),
    "money": ("$1,234.50", "-$0.01"),
    "text": ("", " ", "é漢🙂", "\\N", "\\.", '"', "'", "a\tb\nc\rd", "\u2028", "NULL", "x" * 10_000),
    "character varying(20)": ("", "twenty characters ok", "é"),
    "character(5)": ("a    ", "     ", "abcde"),
    '"char"': ("a", "", "\\200"),
    "name": ("pg_class",),
    "bytea": ("\\x", "\\x00ff5c27220a", "\\xdeadbeef"),
    "date": ("2024-02-29", "infinity", "-infinity", "0001-01-01", "4713-01-01 BC", "0044-03-15 BC", "5874897-12-31"),
    "timestamp without time zone": (
        "2024-02-29 12:34:56.789012",
        "infinity",
        "-infinity",
        "0044-03-15 12:00:00 BC",
        "294276-12-31 23:59:59.999999",
    ),
    "timestamp with time zone": (
        "2024-02-29 12:34:56+00",
        "infinity",
        "-infinity",
        "4713-11-24 00:00:00+00 BC",
        "294276-12-31 23:59:59.999999+00",
    ),
    "timestamp(3) without time zone": ("2024-02-29 12:34:56.789",),
    "time without time zone": ("00:00:00", "24:00:00", "23:59:59.999999"),
    "time with time zone": ("00:00:00+00", "24:00:00-15:59", "12:34:56.5+05:30"),
    "interval": ("00:00:00", "1 year 2 mons -3 days +04:05:06.789", "-178000000 years", "00:00:00.000001"),
    "uuid": ("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "00000000-0000-0000-0000-000000000000"),
    "json": ('{"a":1,  "a":2}', '"\\ud800"', "null", "[]", "1e400"),
    "jsonb": ('{"a": 2, "b": [1, 2, null]}', "null", '"é\\\\"', "12345678901234567890.123456789"),
    "xml": ("<a>é</a>", "plain"),
    "inet": ("192.168.0.1/24", "::1", "10.0.0.1"),
    "cidr": ("192.168.0.0/24", "::/0"),
    "macaddr": ("08:00:2b:01:02:03",),
    "macaddr8": ("08:00:2b:01:02:03:04:05",),
    "bit(3)": ("101", "000"),
    "bit varying(8)": ("", "10101"),
    "point": ("(1.5,-2)",),
    "line": ("{1,-1,0}",),
    "lseg": ("[(0,0),(1,1)]",),
    "box": ("(1,1),(0,0)",),
    "path": ("((0,0),(1,1))", "[(0,0),(1,1)]"),
    "polygon": ("((0,0),(1,1),(1,0))",),
    "circle": ("<(0,0),1>",),
    "tsvector": ("'a':1A 'b c':2",),
    "tsquery": ("'a' & !'b'",),
    "int4range": ("[1,5)", "empty", "(,)", "[3,)"),
    "numrange": ("[1.10,2.20]",),
    "tstzrange": ('["2024-01-01 00:00:00+00",infinity)',),
    "int4multirange": ("{[1,3),[5,7)}", "{}"),
    "pg_lsn": ("16/B374D848",),
    "txid_snapshot": ("10:20:10,14,15",),
    "jsonpath": ('$."a"[*]',),
    "integer[]": ("{1,2,NULL}", "{}", "{{1,2},{3,4}}", "[0:2]={1,2,3}"),
    "text[]": ('{"",NULL,"NULL","a,b","q\\"q","b\\\\s"}', "{}"),
    "numeric(10,2)[]": ("{1.50,NULL}",),
    "character varying(5)[]": ("{abcde,NULL}",),
    "timestamp with time zone[]": ('{"2024-02-29 12:34:56+00",infinity}',),
    "jsonb[]": ('{"{\\"a\\": 1}",NULL}',),
    "bytea[]": ('{"\\\\x00ff"}',),
    "hstore": ('"a"=>"1", "b"=>NULL',),  # of an extension: its text where the target has it not
}

# A value that no column of the type can hold: a source never sends it, a map or a cast can.
WRONG: Mapping[str, str] = {
    "smallint": "32768",
    "integer": "abc",
    "boolean": "maybe",
    "date": "2024-02-30",
    "numeric(10,2)": "123456789.00",
    "uuid": "not-a-uuid",
}
