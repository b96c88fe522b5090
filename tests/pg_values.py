"""Values of every kind of type that Postgres has, to be carried through copy, stream and sinks."""

from __future__ import annotations

SET_UP = (
    "CREATE EXTENSION hstore",
    "CREATE EXTENSION citext",
    "CREATE EXTENSION ltree",
    "CREATE TYPE mood AS ENUM ('sad', 'gl,ad \"q\"')",
    "CREATE TYPE pair AS (a int, b text)",
    "CREATE TYPE span AS RANGE (subtype = float8)",
    "CREATE DOMAIN amount AS numeric(10,2)",
)

# type -> values as SQL literals; each is cast to the type
VALUES: dict[str, list[str]] = {
    "boolean": ["true", "false"],
    "smallint": ["-32768", "32767"],
    "integer": ["-2147483648", "2147483647"],
    "bigint": ["-9223372036854775808", "9223372036854775807"],
    "oid": ["0", "4294967295"],
    "real": ["'NaN'", "'Infinity'", "'-Infinity'", "1e-45", "3.4028235e38", "0.1", "'-0'"],
    "double precision": ["'NaN'", "'-Infinity'", "5e-324", "1.7976931348623157e308", "0.1", "'-0'", "1.0000000000000002"],
    "numeric": ["'NaN'", "'Infinity'", "'-Infinity'", "repeat('9', 1000)", "'1.' || repeat('0', 500)", "'-0.00'", "1e-300"],
    "numeric(10,2)": ["'NaN'", "-12345678.90", "0"],
    "numeric(38,10)": ["9999999999999999999999999999.9999999999"],
    "amount": ["12.3", "-0.005"],
    "money": ["12345678.9", "-1"],
    "date": ["'infinity'", "'-infinity'", "'4714-11-24 BC'", "'5874897-12-31'", "'2024-02-29'", "'0001-01-01 BC'"],
    "time": ["'24:00:00'", "'00:00:00'", "'12:34:56.789012'"],
    "time with time zone": ["'24:00:00-15:59'", "'12:34:56.7+05:30'"],
    "timestamp": ["'infinity'", "'-infinity'", "'294276-12-31 23:59:59.999999'", "'4714-11-24 00:00:00 BC'", "'2024-01-01 00:00:00.1'"],
    "timestamp with time zone": [
        "'infinity'",
        "'294276-12-31 23:59:59.999999+00'",
        "'4714-11-24 00:00:00+00 BC'",
        "'2024-07-01 12:00:00+02'",
    ],
    "interval": ["'178000000 years'", "'-1 year +2 mons -3 days 04:05:06.789'", "'0'", "'1 day -00:00:00.000001'"],
    "text": ["''", "E'tab\\tnew\\nline\\r\\\\b\\b\\f\\v'", "'\\N'", "'\\\\.'", "'Ωμέγα 🙂 é'", "repeat('x', 100000)", "E'\\x01\\x7f'"],
    "varchar(5)": ["'a b  '", "''"],
    "char(5)": ["'ab'", "''"],
    "bpchar": ["'ab   '"],
    '"char"': ["'x'", "''"],
    "name": ["'a name'"],
    "bytea": ["''", "'\\x00ff5c0a09'", "decode(repeat('ab', 5000), 'hex')"],
    "uuid": ["'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"],
    "json": ['\'{"a": "\\ud800", "b":  [1,2] , "b": null}\'', "'\"\\u0000\"'", "'1.0'"],
    "jsonb": ['\'{"b": 1, "a": [1.10, null, "\\t\\\\"]}\'', "'null'", "'1e400'"],
    "jsonpath": ["'$.a[*] ? (@ > 1)'"],
    "xml": ["'<a b=\"c\">&lt;\n</a>'"],
    "inet": ["'192.168.0.1/24'", "'::1'", "'2001:db8::/32'"],
    "cidr": ["'10.0.0.0/8'"],
    "macaddr": ["'08:00:2b:01:02:03'"],
    "macaddr8": ["'08:00:2b:01:02:03:04:05'"],
    "bit(3)": ["B'101'"],
    "bit varying": ["B''", "B'0101010101'"],
    "point": ["'(1.5,-2)'", "'(NaN,Infinity)'"],
    "line": ["'{1,2,3}'"],
    "lseg": ["'[(0,0),(1,1)]'"],
    "box": ["'((1,2),(3,4))'"],
    "path": ["'[(0,0),(1,1)]'", "'((0,0),(1,1))'"],
    "polygon": ["'((0,0),(1,1),(1,0))'"],
    "circle": ["'<(1,2),3>'"],
    "tsvector": ["'a fat cat:3A'"],
    "tsquery": ["'fat & (rat | cat)'"],
    "pg_lsn": ["'16/B374D848'"],
    "int4range": ["'empty'", "'[1,10)'", "'(,)'"],
    "tstzrange": ["'[2024-01-01 00:00:00+00,infinity)'"],
    "nummultirange": ["'{}'", "'{[1,2),[3.5,)}'"],
    "integer[]": ["'{}'", "'{1,NULL,3}'", "'{{1,2},{3,4}}'", "'[0:2]={1,2,3}'"],
    "text[]": ['\'{"","NULL",NULL,"a\\"b","c,d","{}","back\\\\slash"}\'', "E'{\"new\\nline\"}'"],
    "numeric(10,2)[]": ["'{NaN,1.5}'"],
    "timestamptz[]": ["'{infinity,\"2024-01-01 00:00:00+00\"}'"],
    "jsonb[]": ["array['{\"a\": \"b,c\"}'::jsonb, 'null'::jsonb]"],
    "bytea[]": ["array['\\x00'::bytea]"],
    "mood": ["'sad'", "'gl,ad \"q\"'"],
    "mood[]": ["array['sad', 'gl,ad \"q\"']::mood[]"],
    "pair": ["row(1, 'a,b\"c')", "row(NULL, NULL)"],
    "pair[]": ["array[row(1, 'x')::pair]"],
    "span": ["'[1.5,Infinity]'"],
    "hstore": ['\'a=>1, "b c"=>NULL, d=>"x,y"\''],
    "citext": ["'MiXed'"],
    "ltree": ["'Top.Science'"],
}


def columns() -> dict[str, str]:
    """A name for a column of each type."""
    return {f"c{place}": kind for place, kind in enumerate(VALUES)}


def create(table: str, extra: str = "") -> str:
    """CREATE TABLE with a column of each type after the key `id`."""
    return f"CREATE TABLE {table} (id int PRIMARY KEY, {', '.join(f'{name} {kind}' for name, kind in columns().items())}{extra})"


def insert(table: str, first: int, version: int) -> str:
    """Rows from `first` on: a row for each place in the longest list of values, shorter ones repeated, and one of nulls.

    The binaries of version 18 that tests use cannot make XML.
    """
    values = {kind: ["NULL"] if kind == "xml" and version >= 18 else given for kind, given in VALUES.items()}
    longest = max(len(given) for given in values.values())
    rows = [f"({first + n}, {', '.join(f'({given[n % len(given)]})::{kind}' for kind, given in values.items())})" for n in range(longest)]
    return f"INSERT INTO {table} VALUES {', '.join(rows)}, ({first + longest}, {', '.join('NULL' for _ in values)})"
