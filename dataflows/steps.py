"""What owners do with records: fix, approve, discard, replay. Each is a generator that does a piece, commits it, and gives way.

A piece and the line of the audit trail that tells of it are one transaction, and the line names the request: one that is begun again after
a death goes on behind what the trail says is done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataflows.given import resume_from
from dataflows.in_turn import Turns
from dataflows.pace import Pace
from dataflows.records_as_changes import RecordShapes
from journal import audit_trail, evidence, four_eyes, handling
from journal.audit_trail import Step
from journal.handling import MENDABLE, Standing
from journal.inbox import Request
from journal.local import JournalWriter
from journal.quarantine import UNRESOLVED, QuarantineRecord
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from dataflows.maps import Maps
    from dataflows.replay import Replay
    from quality.contract import Contract

_LONGEST_NAME = 200
_NAMED = 20  # records of a group that are named where they could not be done

Answer = dict[str, Any]
Doing = Generator[None, None, Answer]
Refusal = Callable[[Standing], str | None]


@dataclass(frozen=True, slots=True, eq=False)
class Desk:
    """What the steps work with. `home` says why a record of a table cannot go on in this pipeline, if it cannot."""

    journal: JournalWriter
    contracts: Mapping[str, Contract]
    maps: Maps
    home: Callable[[str, str, str], str | None]
    replay: Replay
    seconds: float
    """That a piece of work may take, about."""
    folder: Path
    """The pipeline's state."""

    @property
    def shapes(self) -> RecordShapes:
        return RecordShapes(self.maps, lambda source: resume_from(self.journal.resume(source)).schemas)


@dataclass(slots=True, eq=False)
class _Count:
    """What was done for a request, and what could not be: id, status and why, of a group the first of them. `any`: also none is right."""

    named: bool
    any: bool
    done: int = 0
    refused: int = 0
    why: list[Answer] = field(default_factory=list)

    def refuse(self, one: Standing, why: str) -> None:
        self.refused += 1
        if self.named or len(self.why) < _NAMED:
            self.why.append({"id": one.id, "status": one.status, "why": why})

    def answer(self, **more: object) -> Answer:
        code = 1 if (self.refused and self.named) or not (self.done or self.any) else 0
        return {"code": code, "done": self.done, "could_not": self.refused, "records": self.why, **more}


def begun(desk: Desk, request: Request) -> tuple[int, int, int | None]:
    """How far a request is that was begun before: its last record, how many are done, and up to which it goes; 0, 0, None for a new one."""
    with desk.journal.view() as db:
        return audit_trail.progress(db, request.id)


def selected(desk: Desk, request: Request, statuses: Sequence[str], upto: int, after: int, pace: Pace) -> Iterator[list[Standing]]:
    """The records that a request means, piece by piece. Raises ConfigError for one that is named and not there."""
    content = request.content
    if (ids := content.get("ids")) is not None:
        with desk.journal.view() as db:
            found = handling.named(db, ids)
        missing = sorted(set(ids) - {one.id for one in found})
        if missing:
            more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
            raise ConfigError(f"there is no record {missing[0]}{more} in quarantine", hint="`sluice quarantine list` lists them")
        found = [one for one in found if one.ordinal > after]
        while found:
            some, found = found[: pace.size], found[pace.size :]
            yield some
        return
    group, dataset = content.get("group"), content.get("dataset")
    with desk.journal.view() as db:
        if group is not None and not handling.counted(db, group):
            raise ConfigError(f"there is no group {group} in quarantine", hint="`sluice quarantine list` has each record's group")
    while True:
        with desk.journal.view() as db:
            if group is not None:
                some = handling.of_group(db, group, statuses, after, upto, pace.size)
            else:
                some = handling.approved(db, dataset, after, upto, pace.size)
        if not some:
            return
        after = some[-1].ordinal
        yield some


def upto_of(desk: Desk, known: int | None) -> int:
    """Records that come while a request is worked on are not meant."""
    with desk.journal.view() as db:
        return handling.newest(db) if known is None else known


def by_whom(request: Request) -> str:
    """Who does it, as the request names them. Raises ConfigError where it names nobody, or nobody could have that name."""
    name = str(request.content.get("by") or "").strip()
    if not name:
        raise ConfigError("nobody is named who does it", hint="--by NAME")
    if len(name) > _LONGEST_NAME:
        raise ConfigError(f"that is no name: it has {len(name)} characters", hint=f"--by NAME, of {_LONGEST_NAME} at most")
    return name


def tell(
    desk: Desk, request: Request, by: str, upto: int, some: Sequence[Standing], over: Mapping[int, bytes] | None = None, /, **detail: object
) -> None:
    """A line of the trail for each dataset, inside the open transaction. `over`: digests of records that the step has changed, as they
    were before, by ordinal."""
    content = request.content
    told = {"request": request.id, "upto": upto, **detail}
    if content.get("group") is not None:
        told["group"] = content["group"]
    by_dataset: dict[str, list[int]] = {}
    for one in some:
        by_dataset.setdefault(one.dataset, []).append(one.ordinal)
    with desk.journal.changing() as db:
        for dataset, ordinals in by_dataset.items():
            step = Step(request.action, by, dataset, ordinals, told, content.get("system_user"))
            if over is not None:
                step = replace(step, digests=evidence.of(db, ordinals), over=b"".join([over[ordinal] for ordinal in ordinals]))
            audit_trail.add(db, step)


def _each(
    desk: Desk,
    request: Request,
    refusal: Refusal,
    do: Callable[[Sequence[Standing]], None],
    by: str,
    look: Callable[[Sequence[Standing]], None] = lambda some: None,
    **detail: object,
) -> Doing:
    """Does the same with every record of a request that may be, and says of the others why not."""
    after, done, known = begun(desk, request)
    upto = upto_of(desk, known)
    count = _Count("ids" in request.content, request.content.get("group") is None, done)
    pace = Pace(desk.seconds)
    for some in selected(desk, request, UNRESOLVED, upto, after, pace):
        began = time.monotonic()
        good: list[Standing] = []
        look(some)
        for one in some:
            why = refusal(one)
            if why is None:
                good.append(one)
            else:
                count.refuse(one, why)
        if good:
            with desk.journal.changing():
                tell(desk, request, by, upto, good, **detail)
                do(good)
            desk.journal.commit_beside()
            count.done += len(good)
        pace.took(len(some), time.monotonic() - began)
        yield
    return count.answer()


def no_approval(desk: Desk, one: Standing | QuarantineRecord, by: str, *, unchanged: bool = False) -> str | None:
    """Why somebody may not approve a record; None where they may. `unchanged`: the rules that it broke are as they were."""
    if one.status == "approved":
        return f"it is approved already, by {one.approved_by}"
    if (why := not_now(one.status)) is not None:
        return why
    if unchanged:
        return "nothing about it has changed: fix it, or change its contract"
    contract = desk.contracts.get(one.dataset)
    return four_eyes.refusal(one.patched_by, by, "four-eyes" if contract is None else contract.approval)


def approve(desk: Desk, request: Request) -> Doing:
    """Records may be replayed, says somebody who is not the one that set their columns."""
    by = by_whom(request)
    rules = {name: frozenset(rule.id for rule in contract.rules) for name, contract in desk.contracts.items()}

    def refusal(one: Standing) -> str | None:
        unchanged = one.status in ("open", "failed-again") and bool(one.rules & rules.get(one.dataset, frozenset()))
        return no_approval(desk, one, by, unchanged=unchanged)

    def do(good: Sequence[Standing]) -> None:
        with desk.journal.changing() as db:
            handling.approve(db, [one.ordinal for one in good], by)

    own = sorted(name for name, contract in desk.contracts.items() if contract.approval == "self")
    return (yield from _each(desk, request, refusal, do, by, own=own))


def discard(desk: Desk, request: Request) -> Doing:
    """Records are given up, for a reason."""
    by, why = by_whom(request), why_given_up(request)
    turns, now = Turns(desk.journal, desk.contracts), time.time()

    def do(good: Sequence[Standing]) -> None:
        ordinals = [one.ordinal for one in good]
        with desk.journal.changing() as db:
            records = handling.records(db, ordinals, desk.journal.seal)
            desk.journal.sitting.remove(records)
            handling.settle(db, ordinals, "discarded", why, now)
            turns.let_go(records)

    return (yield from _each(desk, request, lambda one: not_now(one.status), do, by, why=audit_trail.digest(why), ended=now))


def why_given_up(request: Request) -> str:
    """The reason that a request to discard names. Raises ConfigError where it names none."""
    why = str(request.content.get("why") or "").strip()
    if not why:
        raise ConfigError("it is not said why they are given up", hint="--why TEXT")
    return why


def not_now(status: str) -> str | None:
    """Why a record in this state cannot be mended, nor given up; None where it can."""
    if status in MENDABLE:
        return None
    return "it is being replayed" if status == "replaying" else f"it is {status}"


def replay(desk: Desk, request: Request) -> Doing:
    """Approved records go on. Those that have to wait are `replaying` from here on: what becomes of them comes later."""
    by = str(request.content.get("by") or "").strip() or str(request.content.get("system_user") or audit_trail.SELF)
    homes: dict[tuple[str, str, str], str | None] = {}
    sealed: dict[int, str] = {}

    def refusal(one: Standing) -> str | None:
        if one.status == "replaying":
            return "it is being replayed already"
        if one.status != "approved":
            return f"it is {one.status}, and not approved"
        place = (one.source, one.table, one.dataset)
        if place not in homes:
            homes[place] = desk.home(*place)
        return homes[place] or sealed.get(one.ordinal)

    def look(some: Sequence[Standing]) -> None:
        """Which of the records that are worked on next nobody can read."""
        sealed.clear()
        with desk.journal.view() as db:
            sealed.update(handling.unreadable(db, [one.ordinal for one in some], desk.journal.seal))

    def number() -> int | None:
        """That of the first line of the trail which tells of the request."""
        with desk.journal.view() as db:
            return audit_trail.first_of(db, request.id)

    def do(good: Sequence[Standing]) -> None:
        if (found := number()) is not None:  # as has just been told
            desk.replay.at_once(good, found)

    answer = yield from _each(desk, request, refusal, do, by, look)
    return {**answer, "number": number()}
