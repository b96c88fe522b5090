"""What the tables of a source look like to the source itself, where a map stands between them and the journal.

The journal knows tables by the columns of what it holds: behind a map those of the dataset. A source that resumes has to know its own.
They are kept among the source's notes, which are committed with the changes that they belong to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Protocol

from journal.schema import TableSchema
from sources.base import CopyState, Resume

_OURS = "sluice "  # notes that are not the source's own begin with it
_NOTE = f"{_OURS}given "


class Known(Protocol):
    """What a journal knows of a source; see journal.local.Known."""

    @property
    def watermark(self) -> str | None: ...

    @property
    def copied(self) -> frozenset[str]: ...

    @property
    def begun(self) -> frozenset[str]: ...

    @property
    def schemas(self) -> Mapping[str, TableSchema]: ...

    @property
    def notes(self) -> Mapping[str, str]: ...


def given_note(table: str, given: TableSchema, mapped: TableSchema) -> tuple[str, str]:
    """The note (name, text) that says what a table has, whose rows the journal holds with other columns."""
    return f"{_NOTE}{table}", json.dumps({"given": given.encoded, "mapped": mapped.encoded})


def resume_from(known: Known) -> Resume:
    """Where a source goes on, in its own words. A note counts as long as what the journal holds came through that map."""
    schemas = dict(known.schemas)
    for name, text in known.notes.items():
        table = name.removeprefix(_NOTE)
        if name.startswith(_NOTE) and table in schemas:
            told = json.loads(text)
            if schemas[table].encoded == told["mapped"]:
                schemas[table] = TableSchema.decode(told["given"])
    notes = {name: text for name, text in known.notes.items() if not name.startswith(_OURS)}
    return Resume(known.watermark, CopyState(known.copied, known.begun), schemas, notes)
