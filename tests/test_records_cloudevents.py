from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journal.batch import Op
from sources.records.base import Payload
from tests.records import decode, decoder, one, reasons, refusal, rows

STRUCTURED = [("content-type", b"application/cloudevents+json; charset=UTF-8")]
BINARY = [("ce_specversion", b"1.0"), ("ce_id", b"1"), ("ce_source", b"/x"), ("ce_type", b"t"), ("content-type", b"application/json")]
EVENT = {"specversion": "1.0", "id": "1", "source": "/x", "type": "t", "datacontenttype": "application/json", "data": {"id": 1, "n": 1.50}}
FIELDS = {"id": "bigint", "n": "numeric"}


def structured(**changed: Any) -> Payload:
    """An event with attributes changed, or gone where they are an ellipsis."""
    event = {name: value for name, value in {**EVENT, **changed}.items() if value is not ...}
    return Payload(None, json.dumps(event).encode(), STRUCTURED)


def binary(value: bytes, **changed: bytes | None) -> Payload:
    headers = {**dict(BINARY), **{name.replace("content_type", "content-type"): value for name, value in changed.items()}}
    return Payload(None, value, [(name, header) for name, header in headers.items() if header is not None])


def test_events_of_both_modes_are_read_in_one_batch() -> None:
    reader = decoder("cloudevents", FIELDS, ["id"])
    found = decode(
        reader,
        structured(),
        binary(b'{"id":2,"n":"2.50"}'),
        structured(data=..., data_base64=base64.b64encode(b'{"id":3}').decode()),
        Payload(b"4", None, BINARY),
        structured(datacontenttype="application/vnd.x+json; v=1", subject="s", data={"id": 5}),
        structured(datacontenttype=..., data={"id": 6}),
        binary(b'{"id":7}', content_type=None),
    )
    assert not found.defects
    assert [row["id"] for row in rows(reader, found)] == ["1", "2", "3", "4", "5", "6", "7"]
    assert [row["n"] for row in rows(reader, found)][:2] == ["1.5", "2.50"]
    assert found.op.tolist()[3] == Op.DELETE


@pytest.mark.parametrize(
    "payload, column, message",
    [
        (structured(specversion="0.3"), None, "expected specversion 1.0, got '0.3'"),
        (structured(specversion="1.1"), None, "expected specversion 1.0, got '1.1'"),
        (structured(specversion=...), None, "the event has no specversion"),
        (structured(specversion=1.0), None, "the event's specversion is the number '1.0', not a string"),
        (structured(id=...), None, "the event has no id"),
        (structured(source=""), None, "the event has no source"),
        (structured(type=None), None, "the event has no type"),
        (structured(data=...), None, "the event has no data"),
        (structured(data=None), None, "expected a JSON object, got null"),
        (structured(data="x"), None, 'expected a JSON object, got a string ("x")'),
        (structured(data_base64="eA=="), None, "the event has both data and data_base64"),
        (structured(data=..., data_base64="%"), None, "data_base64 is no base64"),
        (structured(datacontenttype="text/xml"), None, "the event's data is 'text/xml', not JSON"),
        (structured(data={"id": "x"}), "id", 'expected bigint, got a string ("x")'),
        (Payload(None, b"[]", [("content-type", b"application/cloudevents-batch+json")]), None, "is a batch of events"),
        (Payload(None, b"nope", STRUCTURED), None, "is not JSON: invalid character"),
        (Payload(None, b"", STRUCTURED), None, "the message is empty"),
        (Payload(None, b'{"x":"\xff"}', STRUCTURED), None, "is not UTF-8 (invalid start byte at byte 6)"),
        (binary(b'{"id":1}', ce_specversion=b"2.0"), None, "expected specversion 1.0, got '2.0'"),
        (binary(b'{"id":1}', ce_specversion=None), None, "the event has no specversion"),
        (binary(b'{"id":1}', ce_type=None), None, "the event has no type"),
        (binary(b'{"id":1}', ce_id=b""), None, "the event has no id"),
        (binary(b'{"id":1}', content_type=b"text/csv"), None, "the event's data is 'text/csv', not JSON"),
        (binary(b""), None, "the event has no data"),
        (binary(b'{"id":1'), None, "is not JSON: Input data was truncated"),
        (Payload(None, b'{"id":1}'), None, "is no event: neither its content-type says so, nor has it headers that begin with ce_"),
    ],
)  # fmt: skip
def test_what_is_no_sound_event_is_a_defect_and_harms_no_neighbour(payload: Payload, column: str | None, message: str) -> None:
    reader = decoder("cloudevents", FIELDS)
    found = decode(reader, structured(), payload, structured())
    assert [one[0] for one in reasons(found).get(1, [])] == [column]
    assert reasons(found)[1][0][1].startswith(message)
    assert [row["id"] for row in rows(reader, found)][::2] == ["1", "1"]


def test_what_an_event_holds_beside_its_schema_is_counted_and_kept() -> None:
    reader = decoder("cloudevents", {"id": "bigint"}, extra="keep")
    assert one(reader, structured()) == {"id": "1", "_extra": '{"n":1.5}'}
    assert refusal(decoder("cloudevents", {"id": "bigint"}, extra="quarantine"), structured()) == (
        None,
        "has fields that the schema lacks: n",
    )


NAMES = st.sampled_from(["ce_specversion", "ce_id", "content-type", "x"])
HEADERS = st.lists(st.tuples(NAMES, st.one_of(st.sampled_from([b"1.0", b"application/cloudevents"]), st.binary(max_size=5))))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(HEADERS, st.one_of(st.binary(max_size=20), st.sampled_from([structured().value or b"", b'{"specversion":"1.0"}']))))
)
def test_hostile_messages_never_raise(messages: list[tuple[list[tuple[str, bytes]], bytes]]) -> None:
    reader = decoder("cloudevents", FIELDS, ["id"])
    found = decode(reader, *(Payload(None, value, headers) for headers, value in messages), structured())
    assert rows(reader, found)[-1]["id"] == "1"
