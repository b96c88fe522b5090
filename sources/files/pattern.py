"""Which files of a folder are meant: by their names below it, with `/` between folders."""

from __future__ import annotations

import fnmatch
import re

_UNFINISHED = (".tmp", ".part")


class Pattern:
    """`*` is any text and `?` any character, `[ab]` one of them, all within one name; `**` is any number of folders.

    Never matched: what begins with a dot, is in a folder that does, or ends in .tmp or .part. These are files that somebody still writes.
    """

    def __init__(self, text: str) -> None:
        """Raises ValueError for what no file of the folder can be called."""
        self._parts = text.split("/")
        if not all(self._parts) or {".", ".."} & set(self._parts):
            raise ValueError("a pattern is the name of a file below the folder, such as `*.csv` or `2026-*/*.csv`")
        self._tests = [None if part == "**" else re.compile(fnmatch.translate(part)) for part in self._parts]

    @property
    def depth(self) -> int | None:
        """Of how many parts a name is; None: any number."""
        return None if "**" in self._parts else len(self._parts)

    def matches(self, name: str) -> bool:
        """Whether the file of this name is meant."""
        parts = name.split("/")
        return not name.endswith(_UNFINISHED) and not any(part.startswith(".") for part in parts) and self._fit(parts, 0, 0)

    def _fit(self, parts: list[str], part: int, test: int) -> bool:
        if test == len(self._tests):
            return part == len(parts)
        wanted = self._tests[test]
        if wanted is None:
            return any(self._fit(parts, after, test + 1) for after in range(part, len(parts)))
        return part < len(parts) and wanted.match(parts[part]) is not None and self._fit(parts, part + 1, test + 1)
