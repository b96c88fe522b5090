"""Postgres' text as JSON and back: the way in over whole columns, the way back (for `verify`) one value after the other."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from typing import NoReturn

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from journal.batch import Mask
from journal.duckdb_session import session
from journal.schema import Column
from journal.types import PgType, parse_type, typed

NUMBERS = frozenset({"smallint", "integer", "bigint", "oid", "real", "double precision", "numeric"})
JSONS = frozenset({"json", "jsonb"})
_ZONED = "timestamp with time zone"
_UNZONED = "timestamp without time zone"
_CHECKED = frozenset({"smallint", "integer", "bigint", "oid", "real", "double precision", "date", _ZONED, _UNZONED})

_UUID = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
_NUMBER = "^(?:-?(?:0|[1-9][0-9]*)(?:[.][0-9]+)?|-?Infinity|NaN)$"
_PLAIN_ZONED = r"^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:.]+\+00$"
_PLAIN_UNZONED = "^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:.]+$"
_FAR_YEAR = "^[0-9]{6}-[0-9]{2}-[0-9]{2} "
_SHORT = {8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r"}

Encoded = tuple[pa.StringArray, Mask | None]
"""JSON of a column, null where the value is; and bool[n] of values which do not fit their type (None: all do)."""


def pg_type(written: str) -> PgType:
    """The type of a column; one of an extension that is not written like Postgres' own is text."""
    try:
        return parse_type(written)
    except ValueError:
        return PgType("text")


def objects(columns: Sequence[Column], values: Sequence[pa.StringArray]) -> tuple[pa.StringArray, Mapping[int, Mask]]:
    """One JSON object for each row, and for each column with values that do not fit bool[n] of those."""
    pieces: list[pa.StringArray | str] = []
    bad: dict[int, Mask] = {}
    for c, (column, text) in enumerate(zip(columns, values, strict=True)):
        encoded, wrong = json_column(text, pg_type(column.type))
        if wrong is not None and wrong.any():
            bad[c] = wrong
        pieces += [f"{',' if c else '{'}{name_of(column)}:", encoded.fill_null("null")]
    return pc.binary_join_element_wise(*pieces, "}", ""), bad


def name_of(column: Column) -> str:
    """A column's name as JSON."""
    return json.dumps(column.name, ensure_ascii=False)


def json_column(text: pa.StringArray, kind: PgType) -> Encoded:
    """A column of a type as JSON: numbers in every digit, times as RFC 3339 says, json as it is, bytes in base64, all else as text.

    What JSON has no number for (NaN, infinities) and moments that RFC 3339 cannot write (infinity, before Christ, after the year 9999)
    are Postgres' text, as strings.
    """
    if kind.array:
        return quoted(text), None
    if kind.base in NUMBERS:
        return _numbers(text, kind)
    if kind.base in JSONS:
        return _nested(text)
    match kind.base:
        case "boolean":
            found = typed(text, "boolean")
            return pc.if_else(found.values, "true", "false"), found.malformed
        case "bytea":
            found = typed(text, "bytea")
            encoded = session().over(pa.table({"v": found.values}), "SELECT to_base64(v) AS v FROM given")["v"].cast(pa.string())
            return _in_quotes(_one(encoded)), found.malformed
        case "uuid":
            return quoted(text), _unlike(text, _UUID)
        case "date":
            return _in_quotes(text), _unfit(text, kind)
        case base if base in (_ZONED, _UNZONED):
            return _in_quotes(rfc3339(text, zoned=base == _ZONED)), _unfit(text, kind)
    return quoted(text), None


def _numbers(text: pa.StringArray, kind: PgType) -> Encoded:
    wrong = _unlike(text, _NUMBER) if kind.base == "numeric" and not kind.args else None
    named = np.asarray(pc.match_substring_regex(text, "[NI]").fill_null(False))
    if (kind.base == "numeric" and kind.args) or kind.base in _CHECKED:
        unfit = _unfit(text, kind)
        wrong = None if unfit is None else unfit & ~named if kind.base == "numeric" else unfit
    if named.any():
        text = pc.if_else(pa.array(named), _in_quotes(text), text)
    return text, wrong


def _unfit(text: pa.StringArray, kind: PgType) -> Mask | None:
    found = typed(text, str(kind)).malformed
    if found.any() and kind.base in (_ZONED, _UNZONED):
        found &= ~np.asarray(pc.match_substring_regex(text, _FAR_YEAR).fill_null(False))  # Postgres has more of them than 64 bits hold
    return found if found.any() else None


def _nested(text: pa.StringArray) -> Encoded:
    valid = _one(session().over(pa.table({"v": text}), "SELECT json_valid(v) AS v FROM given")["v"])
    doubtful = np.flatnonzero(~np.asarray(valid.fill_null(True)))
    if not len(doubtful):
        return text, None
    wrong = np.zeros(len(text), np.bool_)
    for row, value in zip(doubtful, text.take(pa.array(doubtful)).to_pylist(), strict=True):
        wrong[row] = not _is_json(value)
    return text, wrong


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return False
    return True


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def rfc3339(text: pa.StringArray, *, zoned: bool) -> pa.StringArray:
    """Postgres' moments as RFC 3339 writes them, as far as it can; others as they are."""
    written = pc.replace_substring(text, " ", "T", max_replacements=1)
    if zoned:
        written = pc.replace_substring(written, "+00", "Z")
    plain = pc.match_substring_regex(text, _PLAIN_ZONED if zoned else _PLAIN_UNZONED)
    return written if plain.false_count == 0 else pc.if_else(plain, written, text)


def quoted(text: pa.StringArray) -> pa.StringArray:
    """JSON strings. Control characters, quotes and backslashes are escaped; all else stays as it is, in UTF-8."""
    data = _bytes(text)
    special = np.bincount(data[(data < 0x20) | (data == 0x22) | (data == 0x5C)], minlength=0x5D) if len(data) else np.zeros(0x5D, int)
    if special[0x5C]:
        text = pc.replace_substring(text, "\\", "\\\\")
    if special[0x22]:
        text = pc.replace_substring(text, '"', '\\"')
    for code in np.flatnonzero(special[:0x20]):
        text = pc.replace_substring(text, chr(code), _SHORT.get(int(code), f"\\u{code:04x}"))
    return _in_quotes(text)


def _in_quotes(text: pa.StringArray) -> pa.StringArray:
    return pc.binary_join_element_wise('"', text, '"', "")


def _bytes(text: pa.StringArray) -> npt.NDArray[np.uint8]:
    """The characters of all values, one after the other."""
    data = text.buffers()[2]
    if data is None or not len(text):
        return np.empty(0, np.uint8)
    ends = np.frombuffer(text.buffers()[1], np.int32)[text.offset : text.offset + len(text) + 1]
    return np.frombuffer(data, np.uint8)[ends[0] : ends[-1]]


def _unlike(text: pa.StringArray, pattern: str) -> Mask | None:
    fits = pc.match_substring_regex(text, pattern)
    return None if fits.false_count == 0 else ~np.asarray(fits.fill_null(True))


def _one(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


_object = msgspec.json.Decoder(dict[str, msgspec.Raw])


def columns_of(columns: Sequence[Column], values: Sequence[bytes]) -> list[pa.StringArray]:
    """The other way: JSON objects as columns of Postgres' text, null where a member is missing."""
    rows = [_members(value) for value in values]
    return [pa.array([_text(row.get(column.name), pg_type(column.type)) for row in rows], pa.string()) for column in columns]


def _members(value: bytes) -> Mapping[str, bytes | msgspec.Raw]:
    try:
        return _object.decode(value)
    except msgspec.DecodeError:  # half of a surrogate pair, which the type json may hold
        return _members_with_halves(value.decode())


def _members_with_halves(text: str) -> dict[str, bytes]:
    """Reads an object as `objects` writes it, without a space between members."""
    decoder = json.JSONDecoder()
    found: dict[str, bytes] = {}
    at = 1
    while text[at : at + 1] == '"':
        name, end = decoder.raw_decode(text, at)
        _, until = decoder.raw_decode(text, end + 1)
        found[name] = text[end + 1 : until].encode()
        at = until + 1
    return found


def _text(raw: bytes | msgspec.Raw | None, kind: PgType) -> str | None:
    if raw is None:
        return None
    written = bytes(raw)
    if written == b"null":
        return None
    if (not kind.array and kind.base in JSONS) or written[:1] != b'"':
        text = written.decode()
        return text[:1] if kind.base == "boolean" and not kind.array else text
    return _back(str(msgspec.json.decode(written)), kind)


def _back(text: str, kind: PgType) -> str:
    if kind.array:
        return text
    match kind.base:
        case "bytea":
            try:
                return "\\x" + base64.b64decode(text, validate=True).hex()
            except binascii.Error:
                return text
        case base if base == _ZONED and text.endswith("Z"):
            return text[:-1].replace("T", " ", 1) + "+00"
        case base if base == _UNZONED and text[10:11] == "T":
            return text.replace("T", " ", 1)
    return text
