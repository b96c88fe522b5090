"""CloudEvents 1.0 whose data is a JSON object: https://github.com/cloudevents/spec, its JSON format and Kafka binding.

Structured where the content-type begins with application/cloudevents: the whole event is the message's value. Otherwise binary:
the attributes are headers that begin with ce_, and the value is the data.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

import msgspec

from sources.records.assembling import Careful, Rows, assembled, overruled, unreadable
from sources.records.base import Decoded, DecodeOptions, Decoder, Payload, RecordSchema
from sources.records.json_level import BAD, MISSING, Buffer
from sources.records.json_objects import JsonObjects, not_utf8, slots, unsound
from sources.records.json_values import described
from sources.records.keys import KeyReader
from sources.records.scalars import Unfit, shown

_STRUCTURED = b"application/cloudevents"
_REQUIRED = ("id", "source", "type")
_PLAIN = (None, "application/json")
_Said = Annotated[str, msgspec.Meta(min_length=1)]


class _Event(msgspec.Struct, gc=False):
    """The attributes that are looked at, and the data as it is written."""

    specversion: str
    id: _Said
    source: _Said
    type: _Said
    data: msgspec.Raw = MISSING
    data_base64: str | None = None
    datacontenttype: str | None = None


_event = msgspec.json.Decoder(_Event).decode
_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class CloudEventsDecoder(Decoder):
    """The fields of an event's data are the columns."""

    def __init__(self, schema: RecordSchema, options: DecodeOptions) -> None:
        super().__init__(schema, options)
        self._objects = JsonObjects(slots(schema, options), schema.names, options)
        self._keys = KeyReader(schema, options.paths)

    def decode(self, payloads: Sequence[Payload]) -> Decoded:
        present = [payload for payload in payloads if payload.value is not None]
        return assembled(self.schema, self._keys, payloads, lambda values: self._read(present, values))

    def _read(self, payloads: Sequence[Payload], values: Sequence[bytes]) -> Rows:
        refused: dict[int, Careful] = {}
        width = len(self.schema.fields)
        data: list[Buffer] = []
        broken = not_utf8(values)
        for row, (payload, value) in enumerate(zip(payloads, values, strict=True)):
            headers = dict(payload.headers)
            kind = headers.get("content-type") or b""
            try:
                if broken[row]:
                    raise Unfit(unsound(value) or "is not UTF-8")
                if kind[: len(_STRUCTURED)].lower() != _STRUCTURED:
                    data.append(_binary(value, headers, kind))
                    continue
                event = _event(value)
                sound = event.specversion == "1.0" and event.data_base64 is None and event.data is not MISSING
                data.append(event.data if sound and event.datacontenttype in _PLAIN else _structured(event))
            except BAD:
                refused[row] = unreadable(width, row, _reason(value, kind), value)
                data.append(b"{}")
            except Unfit as error:
                refused[row] = unreadable(width, row, str(error), value)
                data.append(b"{}")
        return overruled(self._objects.read(data), refused)


def _structured(event: _Event) -> Buffer:
    """The data of an event that is the whole value. Raises Unfit."""
    if event.specversion != "1.0":
        raise Unfit(f"expected specversion 1.0, got {shown(event.specversion)}")
    _check_type(event.datacontenttype)
    if event.data_base64 is None:
        return _there(event.data)
    if event.data is not MISSING:
        raise Unfit("the event has both data and data_base64")
    try:
        return base64.b64decode(event.data_base64.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise Unfit("data_base64 is no base64") from error


def _there(data: msgspec.Raw) -> msgspec.Raw:
    if data is MISSING:
        raise Unfit("the event has no data")
    return data


def _reason(value: bytes, kind: bytes) -> str:
    """Why a value is no event."""
    if kind[len(_STRUCTURED) :].lower().startswith(b"-batch"):
        return "is a batch of events, and each message has to be one"
    reason = unsound(value)
    if reason is not None:
        return reason
    try:
        return _odd(value)
    except Unfit as error:
        return str(error)


def _odd(value: bytes) -> str:
    """Why an object is no event; what its attributes lack is raised as Unfit."""
    found = _object(value)

    def attribute(name: str) -> str | None:
        token = bytes(found.get(name, b"null"))
        if token == b"null":
            return None
        if token[:1] != b'"':
            raise Unfit(f"the event's {name} is {described(token)}, not a string")
        return str(msgspec.json.decode(token))

    _check(attribute)
    for name in ("data_base64", "datacontenttype"):
        attribute(name)
    return "is no event"


def _check(attribute: Callable[[str], str | None]) -> None:
    """Raises Unfit where a context attribute that must be there is not."""
    version = attribute("specversion")
    if version is None:
        raise Unfit("the event has no specversion")
    if version != "1.0":
        raise Unfit(f"expected specversion 1.0, got {shown(version)}")
    for name in _REQUIRED:
        if not attribute(name):
            raise Unfit(f"the event has no {name}")


def _binary(value: bytes, headers: Mapping[str, bytes], kind: bytes) -> bytes:
    """The value of a message whose headers are an event's attributes. Raises Unfit."""
    said = headers.get("ce_specversion") == b"1.0" and headers.get("ce_id") and headers.get("ce_source") and headers.get("ce_type")
    if said and value and kind == b"application/json":
        return value
    if not said:
        if not any(name.startswith("ce_") for name in headers):
            raise Unfit("is no event: neither its content-type says so, nor has it headers that begin with ce_")
        _check(lambda name: (headers.get(f"ce_{name}") or b"").decode("utf-8", "backslashreplace") or None)
    _check_type(kind.decode("latin-1"))
    if not value:
        raise Unfit("the event has no data")
    return value


def _check_type(kind: str | None) -> None:
    """Raises Unfit for data that is not JSON."""
    media = (kind or "").partition(";")[0].strip().lower()
    if media and not media.endswith(("/json", "+json")):
        raise Unfit(f"the event's data is {shown(media)}, not JSON")
