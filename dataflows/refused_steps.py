"""What owners do with rows that single sinks refused: the same commands, for records that are in the state and not in the journal.

The line of the audit trail comes first, and what it tells of is done in the state after it: a request that is begun again after a death
does what is missing. Only what is put into the journal once more goes with its line in one transaction: see returns.py for what follows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dataflows.fixing import Fixing
from dataflows.records_as_changes import changes_of
from dataflows.stages import Stages
from dataflows.steps import Answer, Desk, Doing, by_whom, no_approval, not_now, why_given_up
from journal import audit_trail, store
from journal.audit_trail import Step
from journal.handling import MENDABLE
from journal.inbox import Request
from journal.quarantine import QuarantineRecord, Reason
from journal.returns import Changes, Returns
from journal.schema import TableSchema
from journal.sealing import SealedValues
from pipeline.errors import ConfigError, SluiceError, TerminalError
from quality.judgement import undecodable

if TYPE_CHECKING:
    from quality.contract import Contract

_NAMED = 20  # records of a group that are named where they could not be done

Refusal = Callable[[QuarantineRecord], str | None]


class RefusedSteps:
    """Of the one process, and the thread, that writes the journal. `rules` are the contracts as replays are judged by them."""

    def __init__(self, desk: Desk, returns: Returns, stages: Stages, rules: Mapping[str, Contract], ring: Callable[[], None]) -> None:
        self._desk = desk
        self._returns = returns
        self._stages = stages
        self._rules = rules
        self._ring = ring
        self._steps = {"fix": self._fix, "import": self._fix, "approve": self._approve, "discard": self._discard, "replay": self._replay}

    def step(self, request: Request) -> Doing | None:
        """What a request comes to, if it is about such rows; None where it is not."""
        content, step = request.content, self._steps.get(request.action)
        if step is None:
            return None
        if (ids := content.get("ids")) is not None:
            named = [name for name in ids if name.count("-") > 1]
            if named and len(named) < len(ids):
                raise ConfigError("some of these records are of the gate, others of single sinks", hint="name them one kind at a time")
            return step(request) if named else None
        if (group := content.get("group")) is not None:
            return step(request) if self._returns.of_group(group) else None
        return None

    def replay_approved(self, request: Request, first: Doing) -> Doing:
        """`first`, and then what is approved of refused rows."""
        answer = yield from first
        more = yield from self._replay(request)
        sums = {name: answer[name] + more[name] for name in ("done", "could_not")}
        return {**more, **answer, **sums, "records": [*answer["records"], *more["records"]], "code": max(answer["code"], more["code"])}

    def _meant(self, request: Request) -> list[QuarantineRecord]:
        content = request.content
        if (ids := content.get("ids")) is not None:
            found = self._returns.named(ids)
            missing = sorted(set(ids) - {one.id for one in found})
            if missing:
                raise ConfigError(f"there is no record {missing[0]} in quarantine", hint="`sluice quarantine list` lists them")
            return found
        if (group := content.get("group")) is not None:
            return self._returns.of_group(group)
        return self._returns.approved(content.get("dataset"))

    def _each(self, request: Request, refusal: Refusal, do: Callable[[Sequence[QuarantineRecord]], None]) -> Generator[None, None, Answer]:
        """Does the same with every record that may be, and says of the others why not."""
        good, why, before = [], [], 0
        done = self._done_before(request)
        for one in self._meant(request):
            if (said := refusal(one)) is None:
                good.append(one)
            elif (one.sink, one.ordinal) in done:
                before += 1
            else:
                why.append({"id": one.id, "status": one.status, "why": said})
        if good:
            do(good)
        yield
        named = "ids" in request.content
        code = 1 if why and (named or not (good or before)) else 0
        return {"code": code, "done": len(good) + before, "could_not": len(why), "records": why if named else why[:_NAMED]}

    def _done_before(self, request: Request) -> frozenset[tuple[str | None, int]]:
        """Sinks and ordinals of what the trail tells of a request that was begun before."""
        with self._desk.journal.view() as db:
            lines = [line for line in audit_trail.of_request(db, request.id) if line.action == request.action]
        return frozenset((line.detail.get("sink"), ordinal) for line in lines for ordinal in line.ordinals)

    def _tell(
        self, request: Request, action: str, by: str, records: Sequence[QuarantineRecord], changes: Changes | None = None, **detail: object
    ) -> None:
        """A line for each dataset and sink, inside the open transaction; `changes` are what the step does to what rows are."""
        for (dataset, sink), some in _grouped(records, lambda one: (one.dataset, one.sink)).items():
            told = {"request": request.id, "sink": sink, **detail}
            some.sort(key=lambda one: one.ordinal)
            digests = self._returns.digests([one.id for one in some], changes or {})
            step = Step(action, by, dataset, [one.ordinal for one in some], told, request.content.get("system_user"), digests)
            with self._desk.journal.changing() as db:
                audit_trail.add(db, step)

    def _fix(self, request: Request) -> Doing:
        by, content = by_whom(request), request.content
        fixing = Fixing(self._desk, content.get("set") or {}, content.get("expr") or {}, content.get("patches") or {})
        meant = self._meant(request)
        for one in meant:
            if one.status not in MENDABLE and "ids" in content:
                raise TerminalError(f"{one.id} cannot be fixed: {not_now(one.status)}", hint="`sluice quarantine show` tells its story")
        records = fixing.of([one for one in meant if one.status in MENDABLE], self._schema)
        if not records:
            raise TerminalError("no record of the group waits to be fixed")
        fixed = self._returns.fixed(records, by)
        self._tell(request, request.action, by, records, fixed, columns=sorted(fixing.columns))
        self._desk.journal.commit_beside()
        self._returns.patch(fixed)
        yield
        return {"code": 0, "done": len(records), "could_not": 0, "records": []}

    def _approve(self, request: Request) -> Doing:
        by = by_whom(request)

        def do(records: Sequence[QuarantineRecord]) -> None:
            self._tell(request, "approve", by, records)
            self._desk.journal.commit_beside()
            self._returns.approve([one.id for one in records], by)

        return (yield from self._each(request, lambda one: no_approval(self._desk, one, by), do))

    def _discard(self, request: Request) -> Doing:
        by, why, now = by_whom(request), why_given_up(request), time.time()

        def do(records: Sequence[QuarantineRecord]) -> None:
            self._tell(request, "discard", by, records, why=audit_trail.digest(why), ended=now)
            self._desk.journal.commit_beside()
            self._returns.discard([one.id for one in records], why, now)

        return (yield from self._each(request, lambda one: not_now(one.status), do))

    def _replay(self, request: Request) -> Doing:
        """What its contract lets pass is put into the journal once more, for the sink alone."""
        content = request.content
        by = str(content.get("by") or "").strip() or str(content.get("system_user") or audit_trail.SELF)
        failed: dict[str, Sequence[Reason]] = {}

        unsent = self._unsent(request)

        def refusal(one: QuarantineRecord) -> str | None:
            if one.status == "replaying" and one.id not in unsent:
                return "it is being replayed already"
            if one.status not in ("approved", "replaying"):
                return f"it is {one.status}, and not approved"
            return one.raw.unreadable if isinstance(one.raw, SealedValues) else None

        def do(records: Sequence[QuarantineRecord]) -> None:
            for some in _grouped(records, lambda one: (one.source, one.table, one.sink)).values():
                failed.update(self._again(request, by, some))

        answer = yield from self._each(request, refusal, do)
        told = [{"id": name, "status": "failed-again", "why": reasons[0].message} for name, reasons in failed.items()]
        returning = answer["done"] - len(failed)
        code = 1 if failed and "ids" in content else answer["code"]
        more: dict[str, Any] = {"number": None, "returning": returning, "outcome": {"failed-again": len(failed)}, "seq": self._last()}
        return {**answer, "records": [*told, *answer["records"]], "code": code, **more}

    def _unsent(self, request: Request) -> frozenset[str]:
        """What was about to go back when a process died, and is not in the journal. What is there is told so."""
        found, there = self._returns.unsent(), []
        for name, sink, ordinal in found:
            with self._desk.journal.view() as db:
                lines = audit_trail.of_record(db, ordinal, sink)
            if any(line.action == "replay" and line.detail.get("request") == request.id for line in lines):
                there.append(name)
        self._returns.sent(there, self._last())
        return frozenset(name for name, *_ in found) - frozenset(there)

    def _again(self, request: Request, by: str, records: Sequence[QuarantineRecord]) -> dict[str, Sequence[Reason]]:
        """Records of one table and sink. Returns those that do not pass, with why."""
        journal = self._desk.journal
        records = sorted(records, key=lambda one: one.ordinal)
        try:
            schema = self._schema(records[0])
            batch = changes_of(records, schema)
            gate = self._stages.gate(self._rules, schema)
            judgement = undecodable(batch) if gate is None else gate.judge(batch)
        except SluiceError as error:
            failed: dict[str, Sequence[Reason]] = {one.id: (Reason("replay", None, error.message, None),) for one in records}
        else:
            failed = {records[row.row].id: row.reasons for row in judgement.quarantined}
            for rule, rows in judgement.dropped.items():
                failed |= {records[row].id: (Reason(rule, None, "the contract drops it", None),) for row in rows.tolist()}
        going = [one for one in records if one.id not in failed]
        if going:
            self._returns.send(going)
            journal.append(replace(batch.take(judgement.passed), sink=records[0].sink, payloads=None), again=True)
            self._tell(request, "replay", by, going)
        self._tell(request, "failed-again", by, [one for one in records if one.id in failed])
        seq = journal.commit_beside()
        self._returns.fail(failed)
        self._returns.sent([one.id for one in going], seq)
        self._ring()
        return failed

    def _schema(self, record: QuarantineRecord) -> TableSchema:
        found = self._desk.journal.resume(record.source).schemas.get(record.table)
        if found is None:
            raise ConfigError(f"nothing is known of the table {record.table} of the source {record.source}")
        return found

    def _last(self) -> int:
        with self._desk.journal.view() as db:
            return store.last_seq(db)

    def close(self) -> None:
        with closing(self._returns):
            pass


def _grouped(records: Iterable[QuarantineRecord], by: Callable[[QuarantineRecord], Any]) -> dict[Any, list[QuarantineRecord]]:
    found: dict[Any, list[QuarantineRecord]] = {}
    for one in records:
        found.setdefault(by(one), []).append(one)
    return found
