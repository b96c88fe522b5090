"""What reading messages costs: `python -m benchmarks.record_decode [--rows N]`, us of CPU a row, best of several rounds.

Beside each format stands what its parser costs alone: msgspec making a Struct of each message, the json and csv modules, fastavro,
ElementTree, and Arrow's and DuckDB's readers over all messages joined by newlines. These last do not do the same work: they
give no reason for a message that is bad, and most of them take what is not sound.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import duckdb
import fastavro
import msgspec
import pyarrow.json
from defusedxml.ElementTree import fromstring

from sources.records.base import DecodeOptions, Field, Payload, RecordSchema, make_decoder
from tests.fake_registry import fake_registry

SCHEMA = RecordSchema(
    (
        Field("order_no", "text", True),
        Field("customer_id", "bigint", True),
        Field("placed_at", "timestamptz"),
        Field("region", "text"),
        Field("currency", "text"),
        Field("amount", "numeric(12,2)"),
        Field("quantity", "integer"),
        Field("gift", "boolean"),
        Field("email", "text"),
        Field("note", "text"),
        Field("weight", "double precision"),
        Field("buyer", "jsonb"),
    ),
    ("order_no",),
)
AVRO: dict[str, Any] = {
    "type": "record", "name": "Order", "fields": [
        {"name": "order_no", "type": "string"}, {"name": "customer_id", "type": "long"},
        {"name": "placed_at", "type": {"type": "long", "logicalType": "timestamp-micros"}}, {"name": "region", "type": "string"},
        {"name": "currency", "type": "string"},
        {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}},
        {"name": "quantity", "type": "int"}, {"name": "gift", "type": "boolean"}, {"name": "email", "type": ["null", "string"]},
        {"name": "note", "type": ["null", "string"]}, {"name": "weight", "type": "double"},
        {"name": "buyer", "type": {"type": "map", "values": "string"}},
    ],
}  # fmt: skip


class Order(msgspec.Struct, gc=False):
    """The same record as a Struct that one would write by hand."""

    order_no: str
    customer_id: int
    placed_at: str
    region: str
    currency: str
    amount: float
    quantity: int
    gift: bool
    email: str | None
    note: str | None
    weight: float
    buyer: msgspec.Raw


def order(n: int) -> dict[str, Any]:
    """One record."""
    return {
        "order_no": f"A-{n:08d}",
        "customer_id": n * 7,
        "placed_at": f"2026-01-{n % 28 + 1:02d}T10:{n % 60:02d}:00.{n % 1000:03d}Z",
        "region": "EU",
        "currency": "EUR",
        "amount": round(n * 1.37, 2),
        "quantity": n % 9,
        "gift": n % 2 == 0,
        "email": f"person{n}@example.com",
        "note": None if n % 3 else "leave at the door",
        "weight": n / 7,
        "buyer": {"name": "Ann", "city": "Bonn"},
    }


def compact(value: object) -> bytes:
    """JSON without spaces."""
    return json.dumps(value, separators=(",", ":")).encode()


def csv_line(record: dict[str, Any]) -> bytes:
    """A record as one line of CSV."""
    stream = io.StringIO()
    values = [
        json.dumps(value) if isinstance(value, dict) else str(value).lower() if isinstance(value, bool) else value
        for value in record.values()
    ]
    csv.writer(stream, lineterminator="").writerow(values)
    return stream.getvalue().encode()


def xml_element(record: dict[str, Any]) -> bytes:
    """A record as one XML document."""
    parts = []
    for name, value in record.items():
        if isinstance(value, dict):
            value = "".join(f"<{inner}>{text}</{inner}>" for inner, text in value.items())
        parts.append("" if value is None else f"<{name}>{str(value).lower() if isinstance(value, bool) else value}</{name}>")
    return f"<order>{''.join(parts)}</order>".encode()


def cost(rows: int, work: Callable[[], object], rounds: int = 5) -> float:
    """Microseconds of CPU a row."""
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best / rows * 1e6


def say(name: str, micros: float) -> None:
    """One line of the table."""
    print(f"{name:<58}{micros:7.2f} us  {1 / micros:6.2f} M rows/s")


def decoding(name: str, format: str, payloads: Sequence[Payload], bad: int = 0, **options: Any) -> None:
    """Measures one decoder."""
    decoder = make_decoder(format, SCHEMA, DecodeOptions(**options))
    found = decoder.decode(payloads)
    assert len({defect.row for defect in found.defects}) == bad, found.defects[:3]
    say(name, cost(len(payloads), lambda: decoder.decode(payloads)))
    decoder.close()


def main() -> None:
    """Prints the table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, default=10_000)
    rows: int = arguments.parse_args().rows
    records = [order(n) for n in range(rows)]
    values = [compact(record) for record in records]
    plain = [Payload(None, value) for value in values]
    print(f"{rows} messages of {len(SCHEMA.fields)} fields, {sum(map(len, values)) // rows} bytes each as JSON\n")

    decoding("json", "json", plain)
    decoding("json, one in 10,000 bad", "json", [Payload(None, b'{"order_no":5}'), *plain[1:]], 1)
    poisoned = [Payload(None, b'{"order_no":5}') if n % 100 == 0 else payload for n, payload in enumerate(plain)]
    decoding("json, one in 100 bad", "json", poisoned, len(range(0, rows, 100)))
    more = [Payload(None, compact({**record, "channel": "web", "campaign": {"id": n}})) for n, record in enumerate(records)]
    decoding("json, two fields more than the schema: drop", "json", more)
    decoding("json, two fields more than the schema: keep", "json", more, extra="keep")
    decoding("json, strict", "json", plain, strict=True)
    struct = msgspec.json.Decoder(Order).decode
    say("  msgspec, a Struct for each message and no columns", cost(rows, lambda: [struct(value) for value in values]))
    say("  json.loads", cost(rows, lambda: [json.loads(value) for value in values]))
    say("  pyarrow.json over all of them", cost(rows, lambda: pyarrow.json.read_json(io.BytesIO(b"\n".join(values)))))
    with duckdb.connect(config={"threads": 1}) as session:
        documents = pyarrow.table({"value": values})
        session.register("documents", documents)
        names = ", ".join(f"json_extract_string(decode(value), '$.{field.name}')" for field in SCHEMA.fields)
        say(
            "  DuckDB, json_extract_string of each field",
            cost(rows, lambda: session.sql(f"SELECT {names} FROM documents").to_arrow_table()),
        )

    head = {"specversion": "1.0", "id": "1", "source": "/orders", "type": "order", "datacontenttype": "application/json"}
    told = [("content-type", b"application/cloudevents+json")]
    decoding("cloudevents, structured", "cloudevents", [Payload(None, compact({**head, "data": record}), told) for record in records])
    headers = [(f"ce_{name}", value.encode()) for name, value in head.items() if name != "datacontenttype"]
    decoding("cloudevents, binary", "cloudevents", [Payload(None, v, [*headers, ("content-type", b"application/json")]) for v in values])
    decoding("debezium, without schema", "debezium", [Payload(None, compact({"before": None, "after": r, "op": "c"})) for r in records])

    lines = [csv_line(record) for record in records]
    decoding("csv", "csv", [Payload(None, line) for line in lines])
    say("  csv module", cost(rows, lambda: list(csv.reader([line.decode() for line in lines], strict=True))))
    elements = [xml_element(record) for record in records]
    decoding("xml", "xml", [Payload(None, element) for element in elements])
    say("  defusedxml", cost(rows, lambda: [fromstring(element, forbid_dtd=True) for element in elements]))

    with fake_registry() as registry:
        registry.add(1, AVRO)
        typed = [{**r, "placed_at": 1767258000_000000 + n, "amount": Decimal(n * 137).scaleb(-2)} for n, r in enumerate(records)]
        wired = [registry.message(1, record) for record in typed]
        decoding("avro", "avro", [Payload(None, value) for value in wired], registry=registry.options)
        parsed = fastavro.parse_schema(AVRO)
        say("  fastavro, a dict for each message and no columns", cost(rows, lambda: [_record(value, parsed) for value in wired]))


def _record(value: bytes, parsed: Any) -> Any:
    stream = io.BytesIO(value)
    stream.seek(5)
    return fastavro.schemaless_reader(stream, parsed, None)


if __name__ == "__main__":
    main()
