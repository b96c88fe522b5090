"""Names of tables as a person writes them: `schema.table`, each part literal, in double quotes where it holds a dot, a space or a quote."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_PART = re.compile(r'\s*("(?:[^"]|"")*"|[^".\s]+)\s*(\.|$)')
_PLAIN = re.compile(r'[^".\s]+')


def split_name(text: str) -> tuple[str, ...]:
    """The parts of a dotted name. Raises ValueError for an empty part or a quote that does not end."""
    parts: list[str] = []
    at = 0
    while True:
        found = _PART.match(text, at)
        if found is None:
            raise ValueError(f"{text!r} is not a name: write schema.table, a part with a dot, space or quote in double quotes")
        part = found[1]
        parts.append(part[1:-1].replace('""', '"') if part.startswith('"') else part)
        at = found.end()
        if not found[2]:
            return tuple(parts)


def join_name(*parts: str) -> str:
    """The one way in which Sluice writes a name; `split_name` reads it back."""
    return ".".join(part if _PLAIN.fullmatch(part) else '"' + part.replace('"', '""') + '"' for part in parts)


def is_pattern(name: str) -> bool:
    """Whether a name matches more than itself: an unquoted `*` or `?`."""
    return any("*" in part or "?" in part for part in re.sub(r'"(?:[^"]|"")*"', "", name).split("."))


def nearest(name: str, known: Iterable[str]) -> str | None:
    """A hint that names the closest of the known names, or lists them if none is close and they are few."""
    names = sorted(known)
    folded = {one.casefold(): one for one in reversed(names)}
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6) or difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.8)
    if close:
        return f"did you mean {folded.get(close[0], close[0])}?"
    return f"known: {', '.join(names)}" if 0 < len(names) <= 12 else None
