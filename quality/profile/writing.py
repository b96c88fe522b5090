"""A draft as YAML that people read: strings that YAML or SQL could take for something else are quoted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_HEAD = """\
# A draft, made from data by `sluice profile`. Every rule below held on all the rows that were looked at.
# That does not make it right: take out what held by chance, add what you know, name an owner, and set the status to active.
"""
_SIMPLE = re.compile(r"[A-Za-z][A-Za-z0-9_]*([ -][A-Za-z0-9_]+)*")
_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n", "nan", "inf"})
_UNSAFE = re.compile(r'["\\]|[^\x20-\x7e\xa0-\u2027\u2030-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]')
_SHORT = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def as_yaml(draft: Mapping[str, Any]) -> str:
    """The whole file. What `load_contract` reads of it is what `draft` holds."""
    return _HEAD + "".join(f"{line}\n" for line in _mapping(draft, ""))


def _mapping(node: Mapping[str, Any], indent: str) -> Iterator[str]:
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield f"{indent}{_scalar(key)}:"
            yield from _mapping(value, f"{indent}  ")
        elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
            yield f"{indent}{_scalar(key)}:"
            for item in value:
                first, *rest = _mapping(item, f"{indent}    ")
                yield f"{indent}  - {first.lstrip()}"
                yield from rest
        else:
            yield f"{indent}{_scalar(key)}: {_scalar(value)}"


def _scalar(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_scalar, value))}]"
    if isinstance(value, Mapping):
        return "{}"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        simple = _SIMPLE.fullmatch(value) and value.lower() not in _WORDS
        return value if simple else f'"{_UNSAFE.sub(_escaped, value)}"'
    return repr(value)


def _escaped(found: re.Match[str]) -> str:
    sign = found[0]
    code = ord(sign)
    return _SHORT.get(sign) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
