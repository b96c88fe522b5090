"""One JSON value at a time: a token of a message to Postgres' own text, or why it cannot be. This decides; `json_types.py` is faster."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from journal.types import PgType
from sources.records.scalars import FLOATS, INTEGERS, JSONS, Unfit, scalar_reader, shown

TokenReader = Callable[[bytes], str | None]

_TEXT = msgspec.json.Decoder(str)
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_KINDS = {b'"': "a string", b"{": "an object", b"[": "an array", b"t": "true", b"f": "false", b"n": "null"}


def token_reader(kind: PgType) -> TokenReader:
    """What reads one JSON value of a type, whose syntax has been checked; null is None. It raises Unfit."""
    if kind.array:
        return lambda token: None if token == b"null" else _array(token, kind)
    if kind.base in JSONS:
        return lambda token: None if token == b"null" else compact(token)
    read = scalar_reader(kind)
    numbers = kind.base in INTEGERS or kind.base in FLOATS or kind.base == "numeric"
    strings = not numbers and kind.base != "boolean"

    def read_token(token: bytes) -> str | None:
        if token == b"null":
            return None
        first = token[:1]
        if first == b'"':
            if strings or kind.base == "numeric":
                return read(_TEXT.decode(token))
        elif (numbers and first in b"-0123456789") or (kind.base == "boolean" and first in b"tf"):
            return read(token.decode())
        raise Unfit(f"expected {kind}, got {described(token)}")

    return read_token


def described(token: bytes) -> str:
    """A JSON value for a reason: which kind it is, and what it says where it is short."""
    kind = _KINDS.get(token[:1], "the number")
    if token[:1] in b"tfn{[":
        return kind
    return f"{kind} {shown(token.decode('utf-8', 'replace'))}" if token[:1] != b'"' else f"{kind} ({token[:80].decode('utf-8', 'replace')})"


def compact(token: bytes) -> str:
    """JSON without the space between its parts; numbers and strings stay as they are written."""
    if b"\\u0000" in token and _NUL.search(token):
        raise Unfit("holds \\u0000, which no jsonb in Postgres can")
    return msgspec.json.format(token, indent=-1).decode()


def _array(token: bytes, kind: PgType) -> str:
    """A JSON array as Postgres writes arrays."""
    if token[:1] != b"[":
        raise Unfit(f"expected {kind}, got {described(token)}")
    element = PgType(kind.base, kind.args)
    read = token_reader(element)
    parts: list[str] = []
    for item in map(bytes, _ITEMS.decode(token)):
        if item[:1] == b"[" and element.base not in JSONS:
            parts.append(_array(item, kind))
        else:
            text = read(item)
            parts.append("NULL" if text is None else quoted(text))
    return "{" + ",".join(parts) + "}"


def quoted(text: str) -> str:
    """One element of an array, in the quotes that Postgres would give it."""
    if text and text.lower() != "null" and not re.search(r'[\s{}",\\]', text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
