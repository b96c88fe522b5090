"""What Kafka Connect and Debezium call types: the logical names of fields, and what their values mean.

https://debezium.io/documentation/reference/stable/connectors/postgresql.html#postgresql-data-types and the types of Connect itself.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from typing import Any

import msgspec

from journal.types import PgType
from sources.records.columns import one_by_one
from sources.records.json_types import JsonType, json_type
from sources.records.json_values import compact
from sources.records.scalars import INTEGERS, JSONS, Unfit, scalar_reader, shown

_CONNECT, _TIME, _DATA = "org.apache.kafka.connect.data.", "io.debezium.time.", "io.debezium.data."
_EPOCH = datetime(1970, 1, 1)  # as the values count, without a zone
_DAY = 86_400_000_000  # microseconds
_ANY = msgspec.json.Decoder(float_hook=str)
_LONGEST = 1700  # bytes of an unscaled number whose digits Python writes

Written = Callable[[Any], str]


def connect_type(description: object, kind: PgType) -> JsonType:
    """How a field that Connect describes is read from JSON; by its Postgres type alone where Connect says nothing of its meaning."""
    name, parameters = _logical(description)
    write = written(name, parameters)
    plain = json_type(kind)
    if write is None or (kind.base in INTEGERS and name.startswith((_CONNECT, _TIME))):
        return plain
    finish = reader(name, kind)

    def read(token: bytes) -> str | None:
        return None if token in (b"", b"null") else finish(write(_ANY.decode(token)))

    return JsonType(msgspec.Raw, one_by_one(lambda raw: read(bytes(raw))), read, raw=True)


def reader(name: str, kind: PgType) -> Callable[[str], str]:
    """What makes Postgres' text of what `written` gives."""
    if kind.base in JSONS:
        return document if name.startswith(_DATA) else string
    read = scalar_reader(kind, loose=True)
    if kind.base == "timestamp with time zone" and name.endswith("Timestamp") and name != _TIME + "ZonedTimestamp":
        return lambda text: read(text + "Z")  # such count from 1970 in UTC
    return read


def document(text: str) -> str:
    """A text that is JSON, compact."""
    try:
        msgspec.json.decode(text)
        return compact(text.encode())
    except (msgspec.DecodeError, RecursionError) as error:
        raise Unfit(f"is not JSON: {error}") from error


def string(text: str) -> str:
    """A text as a JSON string."""
    return msgspec.json.encode(text).decode()


def _logical(description: object) -> tuple[str, Mapping[str, Any]]:
    if not isinstance(description, Mapping):
        return "", {}
    parameters = description.get("parameters")
    return str(description.get("name") or ""), parameters if isinstance(parameters, Mapping) else {}


def described(schema: object) -> dict[str, object]:
    """Field -> Connect's description of it, of a struct's schema."""
    fields = schema.get("fields") if isinstance(schema, dict) else None
    if not isinstance(fields, list):
        return {}
    return {str(field["field"]): field for field in fields if isinstance(field, dict) and "field" in field}


def written(name: str, parameters: Mapping[str, Any]) -> Written | None:
    """A value of the logical type as the text that its meaning has; None where the value says it itself. It raises Unfit."""
    match name:
        case "org.apache.kafka.connect.data.Decimal":
            scale = _whole(parameters.get("scale", 0))
            return lambda value: decimal_text(value, scale)
        case "io.debezium.data.VariableScaleDecimal":
            return _variable
        case "org.apache.kafka.connect.data.Date" | "io.debezium.time.Date":
            return _day
        case "org.apache.kafka.connect.data.Time" | "io.debezium.time.Time":
            return lambda value: _clock(_whole(value) * 1000)
        case "io.debezium.time.MicroTime":
            return lambda value: _clock(_whole(value))
        case "io.debezium.time.NanoTime":
            return lambda value: _clock(_from_nanos(value))
        case "org.apache.kafka.connect.data.Timestamp" | "io.debezium.time.Timestamp":
            return lambda value: _moment(_whole(value) * 1000)
        case "io.debezium.time.MicroTimestamp":
            return lambda value: _moment(_whole(value))
        case "io.debezium.time.NanoTimestamp":
            return lambda value: _moment(_from_nanos(value))
        case "io.debezium.time.MicroDuration":
            return lambda value: _duration(_whole(value))
        case "io.debezium.time.NanoDuration":
            return lambda value: _duration(_from_nanos(value))
        case "io.debezium.time.IsoDate":
            return lambda value: _text(value).removesuffix("Z")
        case "io.debezium.data.Bits":
            length = _whole(parameters.get("length", 0))
            return lambda value: _bits(value, length)
        case "io.debezium.data.Json":
            return _text
    return None


def decimal_text(value: object, scale: int) -> str:
    """A number from its unscaled value: big-endian bytes in two's complement, as they are or in base64."""
    if isinstance(value, int | float) or (isinstance(value, str) and _is_number(value)):
        return str(value)  # decimal.format: NUMERIC
    unscaled = _bytes(value)
    if len(unscaled) > _LONGEST or abs(scale) > 99_999:
        raise Unfit("is a number of too many digits")
    return scalar_reader(PgType("numeric"))(f"{int.from_bytes(unscaled, 'big', signed=True)}e{-scale}")


def _is_number(value: str) -> bool:
    """Whether msgspec made the text of a number with a fraction: no base64 of bytes holds a point."""
    return "." in value


def _variable(value: object) -> str:
    if not isinstance(value, Mapping) or "value" not in value:
        raise Unfit(f"expected scale and value, got {shown(str(value))}")
    return decimal_text(value["value"], _whole(value.get("scale", 0)))


def _bytes(value: object) -> bytes:
    try:
        return value if isinstance(value, bytes) else base64.b64decode(_text(value).encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise Unfit(f"expected base64, got {shown(str(value))}") from error


def _whole(value: object) -> int:
    try:
        if isinstance(value, int | str) and not isinstance(value, bool):
            return int(value)
    except ValueError:
        pass  # said below
    raise Unfit(f"expected a whole number, got {shown(str(value))}")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise Unfit(f"expected a string, got {shown(str(value))}")
    return value


def _from_nanos(value: object) -> int:
    micros, rest = divmod(_whole(value), 1000)
    if rest:
        raise Unfit(f"{value} is finer than a microsecond, which would have to be rounded")
    return micros


def _day(value: object) -> str:
    try:
        return (date(1970, 1, 1) + timedelta(days=_whole(value))).isoformat()
    except OverflowError as error:
        raise Unfit(f"{value} days since 1970 are outside of the years 1 to 9999") from error


def _moment(micros: int) -> str:
    try:
        return (_EPOCH + timedelta(microseconds=micros)).isoformat()
    except OverflowError as error:
        raise Unfit(f"{micros} microseconds since 1970 are outside of the years 1 to 9999") from error


def _clock(micros: int) -> str:
    if not 0 <= micros <= _DAY:
        raise Unfit(f"{micros} microseconds are no time of day")
    return _duration(micros)


def _duration(micros: int) -> str:
    seconds, fraction = divmod(abs(micros), 1_000_000)
    text = f"{'-' * (micros < 0)}{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{text}.{fraction:06}".rstrip("0") if fraction else text


def _bits(value: object, length: int) -> str:
    bits = int.from_bytes(_bytes(value), "little")
    return format(bits, f"0{length}b") if 0 < length <= 8192 else format(bits, "b")
