"""Nothing that is printed or logged holds a password."""

from __future__ import annotations

import re

_HIDDEN = "***"
_NAMES = r"[\w.-]*(?:password|passwd|passphrase|pwd|secret|token|api_?key|mask_key|credentials?)[\w.-]*"
_ASSIGNED = re.compile(
    rf"""(?P<name>["']?\b{_NAMES}["']?)(?P<sign>\s*[=:]\s*)(?P<value>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s&,;'"}})\]]+)""", re.IGNORECASE
)
_IN_URL = re.compile(r"(?P<head>\b[A-Za-z][\w+.-]*://[^\s:/@]*:)[^\s]*(?=@)")
_NAME = re.compile(rf"(?:{_NAMES}|dsn|conninfo)", re.IGNORECASE)


def redact(text: str) -> str:
    """The text without passwords: those of connection strings, of URLs, and whatever is assigned to a name that speaks of a secret."""
    hidden = _IN_URL.sub(lambda found: found["head"] + _HIDDEN, text)
    return _ASSIGNED.sub(lambda found: found["name"] + found["sign"] + _HIDDEN, hidden)


def is_secret(name: str) -> bool:
    """Whether what stands under this name is never shown."""
    return _NAME.fullmatch(name) is not None
