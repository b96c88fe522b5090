"""Where a folder has been read to, and what the journal notes of each file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

_NOTE = "file:"


@dataclass(frozen=True, slots=True)
class Watermark:
    """The newest file that was begun, by its number (0: none), how many of its records are done, and the place of the last of them.

    whole   nothing of that file is left
    since   whatever was there then (seconds since 1970), and has not changed since, has been read
    """

    file: int = 0
    records: int = 0
    place: int = 0
    whole: bool = True
    since: float = 0.0

    def encode(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def decode(cls, text: str) -> Watermark:
        return cls(**json.loads(text))

    @property
    def words(self) -> str:
        """As people see it."""
        return f"file {self.file}" + ("" if self.whole else f", {self.records} records")


@dataclass(frozen=True, slots=True)
class Note:
    """What is known of a file that was begun. `mtime` is in nanoseconds; `rows` are its records as far as it had been read; `unit`
    is what its places count."""

    name: str
    size: int
    mtime: int
    rows: int
    unit: str

    def named(self, number: int) -> dict[str, str]:
        """As a note of the source."""
        return {f"{_NOTE}{number}": json.dumps(asdict(self), separators=(",", ":"))}


def noted(notes: Mapping[str, str]) -> dict[int, Note]:
    """Number -> file, from all notes of a source."""
    return {int(name.removeprefix(_NOTE)): Note(**json.loads(value)) for name, value in notes.items() if name.startswith(_NOTE)}


def place_in(notes: Mapping[str, str], number: int, nth: int) -> str:
    """The place of a record, as JSON. Bytes of a file's name that are no UTF-8 are shown as `\\xff`: JSON has nothing for them."""
    note = Note(**json.loads(notes[f"{_NOTE}{number}"]))
    name = note.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return json.dumps({"file": name, note.unit: nth})
