"""What owners ask of the one process that writes the journal, and what it answers: two tables of the state.

A request is there until it is answered, whatever is killed. Who asks and who answers write rows of their own.
"""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from journal import audit_trail, state_file
from journal.erasing import empty_log
from journal.trouble import may_write, transaction
from pipeline.errors import TerminalError

log = structlog.get_logger("sluice.journal")

_KEPT = 1000  # answers, beyond which the oldest are forgotten
_LONG = 86_400.0  # seconds after which an answer may be forgotten


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody wants done: `content` are JSON values, `action` among them, `by` whom and as which user of the system."""

    id: str
    at: float
    content: Mapping[str, Any]

    @property
    def action(self) -> str:
        return str(self.content["action"])


_WITH_VALUES = ("set", "expr", "patches", "columns")
_VALUES = ", ".join(f"'$.{name}'" for name in _WITH_VALUES)
_OPEN = "select id, at, content from owner_request where id not in (select id from owner_answer) order by at, id"


class Inbox:
    """The requests of a pipeline. One thread at a time; its file is made where it is missing. Raises as State does."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / state_file.FILE
        if not may_write(folder):
            raise TerminalError(f"the state folder {folder} cannot be written", hint="ask as a user who may write it")
        state_file.make(self._path)
        with state_file.reported(self._path):
            self._db = state_file.connect(self._path)
            self._db.isolation_level = None
            self._db.execute("pragma secure_delete = on").fetchall()  # values are asked for in requests, and go with their answers

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with state_file.reported(self._path), transaction(self._db):
            yield self._db

    def ask(self, content: Mapping[str, Any]) -> Request:
        """Puts a request, durably."""
        made = Request(uuid.uuid4().hex, time.time(), content)
        with self._writing() as db:
            db.execute("insert into owner_request values (?, ?, ?)", (made.id, made.at, json.dumps(content)))
        return made

    def open(self) -> list[Request]:
        """The requests that nobody has answered, in the order in which they came. Takes some microseconds where there are none."""
        with state_file.reported(self._path):
            return [Request(name, at, json.loads(content)) for name, at, content in self._db.execute(_OPEN).fetchall()]

    def answer(self, request: Request, content: Mapping[str, Any]) -> None:
        """Answers a request, of which no values stay; another answer changes nothing. Forgets old answers, with what they answered."""
        with self._writing() as db:
            db.execute("insert or ignore into owner_answer values (?, ?, ?)", (request.id, time.time(), json.dumps(content)))
            db.execute("update owner_request set content = json_remove(content, " + _VALUES + ") where id = ?", (request.id,))
            kept = "select id from owner_answer order by at desc limit ?"
            old = f"select id from owner_answer where at < ? and id not in ({kept})"
            given = (time.time() - _LONG, _KEPT)
            db.execute(f"delete from owner_request where id in ({old})", given)
            db.execute(f"delete from owner_answer where at < ? and id not in ({kept})", given)
        if any(request.content.get(name) for name in _WITH_VALUES):
            with state_file.reported(self._path):
                empty_log(self._db)

    def answered(self, request: Request) -> dict[str, Any] | None:
        """The answer to a request; None while there is none."""
        with state_file.reported(self._path):
            found = self._db.execute("select content from owner_answer where id = ?", (request.id,)).fetchone()
        return None if found is None else json.loads(found[0])

    def keep_head(self, journal: str, trail: sqlite3.Connection) -> tuple[int, str]:
        """Notes how far the audit trail of a journal (its id and its database, as it is committed) is, and returns that.

        Where the trail is not the one that was noted, what was noted stays: it shows that somebody has cut it, or written it anew.
        """
        n, of = audit_trail.head(trail)
        with state_file.reported(self._path):
            kept = self._db.execute("select n, hash from trail_head where journal = ?", (journal,)).fetchone()
        if kept is not None and not audit_trail.has(trail, *kept):
            log.error("the audit trail was cut or written anew", lines=n, had=kept[0], hint="`sluice audit verify` says more")
        elif kept is None or kept[0] < n:
            with self._writing() as db:
                newer = "on conflict do update set n = excluded.n, hash = excluded.hash where n < excluded.n"
                db.execute(f"insert into trail_head values (?, ?, ?) {newer}", (journal, n, of))
        return n, of

    def close(self) -> None:
        with closing(self._db):
            pass
