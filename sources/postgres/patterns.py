"""Which tables a list of names and patterns means."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.names import join_name, split_name

_PART = re.compile(r'\s*("(?:[^"]|"")*"|[^".\s]+)\s*(?:\.|$)')


@dataclass(frozen=True, slots=True)
class _Part:
    text: str
    literal: bool

    @property
    def written(self) -> str:
        if not self.literal:
            return self.text
        return '"' + self.text.replace('"', '""') + '"' if set("*?") & set(self.text) else join_name(self.text)

    @property
    def like(self) -> str:
        """The operand of LIKE."""
        escaped = re.sub(r"([\\%_])", r"\\\1", self.text)
        return escaped if self.literal else escaped.replace("*", "%").replace("?", r"_")

    @property
    def regex(self) -> str:
        escaped = re.escape(self.text)
        return escaped if self.literal else escaped.replace(r"\*", ".*").replace(r"\?", ".")


def _parts(name: str) -> tuple[_Part, _Part]:
    """Schema and table of a name or pattern; a name of one part is a table of `public`. Raises ValueError."""
    words = split_name(name)
    if len(words) > 2:
        raise ValueError(f"{name!r} has {len(words)} parts: write schema.table, a part with a dot in double quotes")
    quoted = [found[1].startswith('"') for found in _PART.finditer(name)]
    parts = [_Part(word, literal=quote or not set("*?") & set(word)) for word, quote in zip(words, quoted, strict=True)]
    return (parts[0], parts[1]) if len(parts) == 2 else (_Part("public", literal=True), parts[0])


def canonical(name: str) -> str:
    """A name or pattern with both parts, written in the one way that `join_name` has; a pattern stays one. Raises ValueError."""
    return ".".join(part.written for part in _parts(name))


class TablePatterns:
    """Names and patterns of tables. In a name each part is literal; in a part without quotes `*` is any text and `?` any character."""

    def __init__(self, names: Iterable[str]) -> None:
        """Raises ValueError for what is not a name."""
        found = [_parts(name) for name in names]
        self.literals = tuple((schema.text, table.text) for schema, table in found if schema.literal and table.literal)
        wild = [(schema, table) for schema, table in found if not (schema.literal and table.literal)]
        self.likes = tuple((schema.like, table.like) for schema, table in wild)
        self._literal = frozenset(self.literals)
        self._wild = [(re.compile(schema.regex, re.DOTALL), re.compile(table.regex, re.DOTALL)) for schema, table in wild]

    def matches(self, schema: str, table: str) -> bool:
        """Whether the table is meant. System schemas are only ever meant by their own name."""
        if (schema, table) in self._literal:
            return True
        if schema == "information_schema" or schema.startswith("pg_"):
            return False
        return any(s.fullmatch(schema) and t.fullmatch(table) for s, t in self._wild)
