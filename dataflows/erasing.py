"""Values that are forgotten: of records whose retention is over, and of one person's records, when somebody says so.

A record that is erased keeps its place, its rule and its story; whoever still waited for it is told that it is discarded.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from dataflows.steps import Desk, Doing
from journal import audit_trail, erasing, evidence, handling
from journal.audit_trail import SELF, Step
from journal.erasing import Refused
from journal.inbox import Request
from journal.local import JournalWriter
from journal.quarantine import UNRESOLVED, QuarantineRecord, Wanted
from journal.state import State
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from quality.contract import Contract

log = structlog.get_logger("sluice.ingest")

OVER = "its retention is over"
FORGOTTEN = "its values were forgotten"
_LOOK_EVERY = 30.0  # seconds
_AGAIN = 0.2  # where more is due
_PIECE = 1000  # records that are erased at once


class Retention:
    """Erases, some times a minute, what is in quarantine for longer than its contract's `retention` allows. Of who writes the journal."""

    def __init__(self, journal: JournalWriter, folder: Path, rules: Mapping[str, Contract]) -> None:
        """`folder` is the pipeline's state."""
        self._journal = journal
        self._folder = folder
        self._longest = {name: seconds for name, contract in rules.items() if (seconds := contract.within("retention")) is not None}
        self._done: dict[str, float] = {}  # up to when nothing of a dataset is left to erase
        self._next = 0.0

    def tick(self) -> None:
        """Outside of transactions. Takes microseconds while nothing is due."""
        if time.monotonic() < self._next or not self._longest:
            return
        self._next = time.monotonic() + _LOOK_EVERY
        for dataset, seconds in self._longest.items():
            before = time.time() - seconds
            with self._journal.view() as db:
                ordinals = erasing.due(db, dataset, self._done.get(dataset, 0.0), before, _PIECE)
            if ordinals:
                _erase(self._journal, ordinals, Step("erase", SELF, dataset, ordinals, {"why": OVER}), OVER)
            refused = erasing.due_refused(self._folder, dataset=dataset, before=before)
            _erase_refused(self._journal, self._folder, refused, Step("erase", SELF, detail={"why": OVER}), OVER)
            if ordinals or refused:
                log.info("retention is over", dataset=dataset, erased=len(ordinals) + len(refused))
            if len(ordinals) == _PIECE:
                self._next = time.monotonic() + _AGAIN
            else:
                self._done[dataset] = before


def _erase(journal: JournalWriter, ordinals: Sequence[int], step: Step, why: str) -> None:
    """One transaction, and nothing of it is left in the log."""
    with journal.changing() as db, erasing.overwriting(db):
        records = [one for one in handling.records(db, ordinals, journal.seal) if one.status in UNRESOLVED]
        journal.sitting.remove(records)
        now = time.time()
        handling.settle(db, [one.ordinal for one in records], "discarded", why, now)
        over = evidence.of(db, ordinals)
        erasing.erase(db, ordinals, now)
        told = {**step.detail, "ended": now, "as": why}
        audit_trail.add(db, replace(step, detail=told, digests=evidence.renewed(db, ordinals), over=over))
        journal.commit_beside()
    with journal.view() as db:
        erasing.empty_log(db)


def _erase_refused(journal: JournalWriter, folder: Path, rows: Sequence[Refused], step: Step, why: str) -> None:
    """The same of rows that single sinks refused: the trail says it first, and whoever dies in between does it again."""
    if not rows:
        return
    now = time.time()
    places: dict[tuple[str, str], list[int]] = {}
    for one in rows:
        if journal.id.startswith(one.journal):  # of a former journal there is no trail
            places.setdefault((one.dataset, one.sink), []).append(one.ordinal)
    with journal.changing() as db:
        for (dataset, sink), ordinals in places.items():
            told = {**step.detail, "sink": sink, "ended": now, "as": why}
            audit_trail.add(db, replace(step, dataset=dataset, ordinals=sorted(ordinals), detail=told))
    journal.commit_beside()
    erasing.erase_refused(folder, [one.id for one in rows], why, now)


@dataclass(frozen=True, slots=True)
class Person:
    """Whose records are meant: those that have, or had, all these values in one row."""

    columns: Mapping[str, str]

    def is_of(self, record: QuarantineRecord) -> bool:
        """Also of a message that could not be read, where the values are somewhere in it."""
        rows = (record.key, record.raw, record.before or {}, record.after or {}, {**record.raw, **(record.patch or {})})
        if any(all(row.get(name) == value for name, value in self.columns.items()) for row in rows):
            return True
        return bool(record.message) and all(value.encode() in _payload(str(record.message)) for value in self.columns.values())


def _payload(message: str) -> bytes:
    told = json.loads(message)
    return b"\0".join(base64.b64decode(told[part]) for part in ("key", "value") if told.get(part))


def forget(desk: Desk, request: Request) -> Doing:
    """Erases the values of one person's records, or of those that are named, whatever became of them."""
    content = request.content
    by, why, dataset = str(content.get("by") or "").strip(), str(content.get("why") or "").strip(), content.get("dataset")
    if not by or not why:
        raise ConfigError("it is not said who wants it, and why", hint="--by NAME --why TEXT")
    person = None if content.get("columns") is None else Person(content["columns"])
    told = {"request": request.id, "columns": sorted(person.columns) if person else None, "why": audit_trail.digest(why)}
    refused = _refused(desk, content.get("ids"), person, dataset)
    _erase_refused(desk.journal, desk.folder, refused, Step("forget", by, detail=told, system_user=content.get("system_user")), FORGOTTEN)
    done = len(refused)
    after = 0
    while True:
        with desk.journal.view() as db:
            if person is None:
                ordinals = [one.ordinal for one in handling.named(db, content["ids"]) if one.ordinal > after]
            else:
                ordinals = erasing.kept(db, dataset, after, _PIECE)
            records = handling.records(db, ordinals, desk.journal.seal)
        if not records:
            return {"code": 0 if done else 1, "done": done, "could_not": 0, "records": []}
        after = records[-1].ordinal
        by_dataset: dict[str, list[int]] = {}
        for one in records:
            if one.erased_at is None and one.status != "replaying" and (person is None or person.is_of(one)):
                by_dataset.setdefault(one.dataset, []).append(one.ordinal)
        for name, found in by_dataset.items():
            _erase(desk.journal, found, Step("forget", by, name, found, told, content.get("system_user")), FORGOTTEN)
            done += len(found)
        yield


def _refused(desk: Desk, ids: Sequence[str] | None, person: Person | None, dataset: str | None) -> list[Refused]:
    """What single sinks refused of this."""
    found = list(ids or ())
    if person is not None:
        with closing(State.open(desk.folder)) as state:
            after = (0, "")
            while page := state.refused(Wanted(dataset=dataset), after):
                found += [one.id for one in page if person.is_of(one)]
                after = (page[-1].ordinal, page[-1].id)
    return erasing.due_refused(desk.folder, ids=found) if found else []
