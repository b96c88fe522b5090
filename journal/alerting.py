"""What is known of alerts, and the messages that tell of them: kept in the state, so that nothing is told twice after a restart.

What was decided to be told and the messages about it are written in one transaction; a message stays until it is known to have been sent.
So each is sent once at least, under an id that never changes.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from journal import state_file as tables
from journal.state_access import StateAccess

KEPT_SECONDS = 30 * 86_400.0
"""For so long messages that are done with are kept, to be listed; of them MOST at most."""
MOST = 1000
_UNSENT = tables.message.c.ended_at.is_(None)


@dataclass(frozen=True, slots=True)
class Kept:
    """What is known of one trouble. Times in seconds since 1970.

    phase       `waiting` to be told, `told` and still there, or `over`
    first_at    when it was first seen, this time
    gone_at     when it was first missed; None while it is there
    told_at     when it was last told; told_count: how many records it concerned then
    held        how often it came and went since without being told
    content     what it is, as JSON
    """

    key: str
    phase: str
    first_at: float
    content: str
    gone_at: float | None = None
    told_at: float | None = None
    told_count: int | None = None
    held: int = 0


@dataclass(frozen=True, slots=True)
class Message:
    """A message for one channel. `target` says who gets it there, `payload` what it says; both are JSON values.

    ended_at   when it was sent, or given up (`sent` says which); None while it is to be sent
    """

    channel: str
    target: Mapping[str, Any]
    payload: Mapping[str, Any]
    created_at: float
    id: str = ""
    attempts: int = 0
    ended_at: float | None = None
    sent: bool | None = None
    error: str | None = None

    @classmethod
    def new(cls, channel: str, target: Mapping[str, Any], payload: Mapping[str, Any], now: float) -> Message:
        """A message with an id of its own, which its payload tells."""
        number = str(uuid.uuid4())
        return cls(channel, target, {"version": payload["version"], "id": number, **payload}, now, number)


class AlertBook(StateAccess):
    """The alerts of a pipeline. Any thread, any number of processes; see StateAccess."""

    def known(self) -> dict[str, Kept]:
        """All that is known, by key."""
        if not self._has(tables.alert):
            return {}
        return {row["key"]: Kept(**row) for row in self._read(sa.select(tables.alert))}

    def decided(self, kept: Sequence[Kept], forgotten: Collection[str], messages: Sequence[Message]) -> None:
        """What has become of alerts, and the messages that are to be sent: all of it, or nothing."""
        if not (kept or forgotten or messages):
            return
        with self._writing() as connection:
            if kept:
                made = insert(tables.alert)
                again = {name: made.excluded[name] for name in Kept.__dataclass_fields__ if name != "key"}
                connection.execute(made.on_conflict_do_update(index_elements=["key"], set_=again), [asdict(one) for one in kept])
            for key in forgotten:
                connection.execute(sa.delete(tables.alert).where(tables.alert.c.key == key))
            if messages:
                connection.execute(sa.insert(tables.message), [_row(message) for message in messages])

    def unsent(self, channel: str) -> list[Message]:
        """The messages that are to be sent by a channel, oldest first."""
        return self._messages(_UNSENT, tables.message.c.channel == channel, order=sa.asc)

    def awaited(self) -> list[str]:
        """The channels by which messages are to be sent."""
        if not self._has(tables.message):
            return []
        return [row["channel"] for row in self._read(sa.select(tables.message.c.channel).where(_UNSENT).distinct())]

    def messages(self) -> list[Message]:
        """All that are remembered, the newest last."""
        return list(reversed(self._messages(order=sa.desc)))

    def _messages(self, *wanted: sa.ColumnElement[bool], order: Callable[[Any], Any]) -> list[Message]:
        if not self._has(tables.message):
            return []
        place = (order(tables.message.c.created_at), order(tables.message.c.id))
        rows = self._read(sa.select(tables.message).where(*wanted).order_by(*place).limit(MOST))
        return [Message(**{**row, "target": json.loads(row["target"]), "payload": json.loads(row["payload"])}) for row in rows]

    def sent(self, message: Message, note: str | None = None) -> None:
        """It has been sent; `note` says what was wrong all the same. Messages that are long done with are forgotten."""
        self._ended(message, {"sent": True, "error": note})

    def given_up(self, message: Message, why: str) -> None:
        """It will not be sent."""
        self._ended(message, {"sent": False, "error": why})

    def failed(self, message: Message, why: str) -> None:
        """It could not be sent, and will be tried again."""
        self._note(message, {"error": why})

    def _ended(self, message: Message, values: Mapping[str, Any]) -> None:
        self._note(message, {"ended_at": time.time(), **values})
        done, at = tables.message.c.ended_at.is_not(None), tables.message.c.created_at
        newest = sa.select(at).where(done).order_by(at.desc()).limit(1).offset(MOST).scalar_subquery()
        with self._writing() as connection:
            connection.execute(sa.delete(tables.message).where(done, sa.or_(at < time.time() - KEPT_SECONDS, at <= newest)))

    def _note(self, message: Message, values: Mapping[str, Any]) -> None:
        with self._writing() as connection:
            chosen = sa.update(tables.message).where(tables.message.c.id == message.id)
            connection.execute(chosen.values(attempts=tables.message.c.attempts + 1, **values))


def _row(message: Message) -> dict[str, Any]:
    return {**asdict(message), "target": json.dumps(message.target), "payload": json.dumps(message.payload)}
