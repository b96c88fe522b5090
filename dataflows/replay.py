"""Records of quarantine that go on: through the whole contract that is in force now, and into the journal with the place that they had.

What becomes of a piece of them is one transaction of the journal: its changes for the sinks, the counts, the records' ends and the audit
trail. So each is delivered once, whatever is killed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import structlog
from msgspec import structs

from dataflows.given import resume_from
from dataflows.in_turn import Turn, Turns
from dataflows.records import for_sink, meant_for
from dataflows.records_as_changes import RecordShapes, changes_of
from dataflows.stages import Stages
from dataflows.superseded import still_new
from journal import audit_trail, evidence, handling
from journal.audit_trail import Step
from journal.batch import ChangeBatch
from journal.handling import Standing
from journal.local import JournalWriter
from journal.quarantine import QuarantineRecord, Reason
from journal.schema import TableSchema
from journal.sealing import SealedValues
from pipeline.errors import ConfigError, SluiceError
from quality.judgement import undecodable

if TYPE_CHECKING:
    from quality.contract import Contract
    from quality.gate import Gate

log = structlog.get_logger("sluice.ingest")

REPLAY = "replay"
"""The rule that a record breaks which cannot be judged again: its table, or a map for it, is not as it was."""

UNREADABLE = "it is sealed with a key that is not known here"
NEWER = "a newer change of its key has passed since"

Place = tuple[str, str]


@dataclass(slots=True, eq=False)
class _Became:
    """What became of the records of one table and shape.

    sink     the one that they are meant for alone: such were counted nowhere
    number   of the request that they are replayed by, where the journal's records do not have it yet
    """

    dataset: str
    source: str
    records: Mapping[int, QuarantineRecord]  # by ordinal
    sink: str | None = None
    number: int | None = None
    passed: ChangeBatch | None = None
    news: ChangeBatch | None = None
    earlier: ChangeBatch | None = None
    failed: dict[int, QuarantineRecord] = field(default_factory=dict)
    superseded: set[int] = field(default_factory=set)
    dropped: dict[str, list[int]] = field(default_factory=dict)
    warned: Mapping[str, int] = field(default_factory=dict)

    @property
    def gone(self) -> dict[int, str]:
        """Ordinal -> the rule by which it was dropped."""
        return {ordinal: rule for rule, ordinals in self.dropped.items() for ordinal in ordinals}

    @property
    def delivered(self) -> list[int]:
        ended = self.failed.keys() | self.superseded | self.gone.keys()
        return [ordinal for ordinal in self.records if ordinal not in ended]

    def leave(self, waiting: Collection[int]) -> None:
        """Some have to wait for others: nothing becomes of them."""
        self.records = {ordinal: record for ordinal, record in self.records.items() if ordinal not in waiting}
        self.failed = {ordinal: record for ordinal, record in self.failed.items() if ordinal not in waiting}
        self.superseded -= set(waiting)
        self.dropped = {rule: [one for one in ordinals if one not in waiting] for rule, ordinals in self.dropped.items()}

    def fail(self, ordinal: int, reasons: Sequence[Reason], given: bool, contract: Contract | None) -> None:
        before = self.records[ordinal]
        failed = structs.replace(
            before,
            reasons=tuple(reasons),
            attempts=before.attempts + 1,
            given=int(given),
            contract=contract.id if contract else None,
            contract_version=contract.version if contract else None,
            rules_hash=contract.fingerprint if contract else None,
            patch=None,  # which the journal has: nothing of it is written
        )
        self.failed[ordinal] = failed if self.sink is None else for_sink(failed, self.sink)


class Replay:
    """Takes records through everything, piece by piece. Of the one process, and the thread, that writes the journal."""

    def __init__(
        self,
        journal: JournalWriter,
        contracts: Mapping[str, Contract],
        stages: Stages,
        blocked: Callable[[], Collection[Place]],
        ring: Callable[[], None],
    ) -> None:
        """Tables that are `blocked` (source, table) have to wait."""
        self._journal = journal
        self._contracts = {name: lenient(contract) for name, contract in contracts.items()}
        self._stages = stages
        self._blocked = blocked
        self.ring = ring
        self._turns = Turns(journal, contracts)
        self._gates: dict[str, Gate | None] = {}

    @property
    def due(self) -> bool:
        """Whether any record is to be replayed. Takes microseconds."""
        with self._journal.view() as db:
            return handling.replaying(db)

    def step(self, most: int) -> int:
        """Takes the next that are `replaying` through, at most so many, and commits. Returns how many; 0 where none can go on now."""
        with self._journal.view() as db:
            records = handling.to_replay(db, self._journal.seal, most, self._blocked())
        if records:
            self._take(records, self._turns.of(records))
            self._journal.commit_beside()
            self.ring()
        return len(records)

    def at_once(self, some: Sequence[Standing], number: int) -> None:
        """Takes approved records through for a request, in the open transaction; those that wait for their tables are `replaying`.

        Whoever has committed rings.
        """
        blocked = self._blocked()
        places: dict[bool, list[int]] = {True: [], False: []}
        for one in some:
            places[(one.source, one.table) in blocked].append(one.ordinal)
        with self._journal.changing() as db:
            handling.send(db, places[True], number)
            records = handling.to_replay_now(db, places[False], number, self._journal.seal)
        self._take(records, self._turns.of(records), number)

    def _take(self, records: Sequence[QuarantineRecord], turn: Turn, number: int | None = None) -> None:
        """Into the open transaction."""
        shapes = RecordShapes(self._stages.maps, lambda source: resume_from(self._journal.resume(source)).schemas)
        for place, some in _by_shape(records, shapes, together=not turn).items():
            going = [one for one in some if one.ordinal not in turn.waiting]
            for sink, mine in _by_sink(going).items():
                became = _Became(mine[0].dataset, mine[0].source, {one.ordinal: one for one in mine}, sink, number)
                self._become(became, shapes, turn, given=place[2])
                self._write(became)
        with self._journal.changing() as db:
            if number is not None:
                handling.send(db, sorted(turn.waiting), number)
            turn.send_back()

    def _become(self, became: _Became, shapes: RecordShapes, turn: Turn, *, given: bool) -> None:
        records = list(became.records.values())
        for one in records:
            if one.sensitive and isinstance(one.raw, SealedValues) and not one.raw.readable:
                became.fail(one.ordinal, [Reason(REPLAY, None, UNREADABLE, None)], given, None)
        turn.fail(became.failed)
        readable = [one for one in records if one.ordinal not in became.failed]
        try:
            if readable:
                self._judge(replace(changes_of(readable, shapes.of(records[0])), sink=became.sink), became, turn, given=given)
        except SluiceError as error:  # nothing can be judged that way: every record says so
            log.warning("records cannot be replayed", dataset=became.dataset, error=error.message)
            became.failed, became.superseded, became.dropped, became.passed = {}, set(), {}, None
            for ordinal in became.records:
                became.fail(ordinal, [Reason(REPLAY, None, error.message, None)], given, None)
            turn.fail(became.failed)

    def _judge(self, batch: ChangeBatch, became: _Became, turn: Turn, *, given: bool) -> None:
        """Raises ConfigError where the table does not fit its map, its contract or the lookups any more."""
        stages = self._stages
        if given and (mapped := stages.maps.apply(batch)) is not None:
            batch = mapped.passed
            if mapped.failed is not None:
                for ordinal, row in zip(mapped.failed.ordinal.tolist(), mapped.rows, strict=True):
                    became.fail(ordinal, row.reasons, given, None)
        batch, stale = still_new(batch, self._journal.sitting.newest_of)
        became.superseded |= stale
        gate = self._gate(batch.schema)
        contract = None if gate is None else gate.contract
        judgement = undecodable(batch) if gate is None else gate.judge(batch)
        if judgement.failure is not None:  # a rule that cannot be judged
            raise ConfigError(judgement.failure.message)
        for row in judgement.quarantined:
            became.fail(int(batch.ordinal[row.row]), row.reasons, given, contract)
        became.dropped = {rule: batch.ordinal[rows].tolist() for rule, rows in judgement.dropped.items()}
        became.warned = judgement.warnings
        passed = batch if judgement.passed.all() else batch.take(judgement.passed)
        bound = stages.enrichments.bound(passed.schema)
        if bound is not None:  # what would have to wait for a lookup can be replayed again once that is there
            made = bound.feed.apply(passed)
            passed = made.passed
            if made.failed is not None:
                for ordinal, row in zip(made.failed.ordinal.tolist(), made.rows, strict=True):
                    became.fail(ordinal, row.reasons, given, contract)
        if waiting := turn.fail(became.failed):
            became.leave(waiting)
            passed = passed.take(~np.isin(passed.ordinal, list(waiting)))
        stages.versions.check(passed.schema)
        stages.lookups.check(passed)
        sifted = stages.versions.sift(passed)
        if sifted.late:
            became.superseded |= set(sifted.gone.tolist())
        became.passed, became.news = sifted.passed, sifted.news
        stages.lookups.take(sifted.passed)
        if stages.earlier is not None:
            ended = np.array(sorted(became.failed.keys() | became.superseded | became.gone.keys() | set(turn.waiting)), np.int64)
            became.earlier = stages.earlier.take(batch.take(~np.isin(batch.ordinal, ended)))

    def _gate(self, schema: TableSchema) -> Gate | None:
        if schema.encoded not in self._gates:
            self._gates[schema.encoded] = self._stages.gate(self._contracts, schema)
        return self._gates[schema.encoded]

    def _write(self, became: _Became) -> None:
        """Into the open transaction."""
        journal, now = self._journal, time.time()
        if became.passed is not None and len(became.passed):
            journal.append(became.passed, again=True)
            self._stages.lookups.keep(became.passed, journal.lookups)
        if became.news is not None:
            self._stages.versions.keep(became.news, journal.lookups)
        if became.earlier is not None and self._stages.earlier is not None:
            self._stages.earlier.keep(became.earlier, journal.lookups)
        delivered, gone = became.delivered, became.gone
        dropped = {rule: len(rows) for rule, rows in became.dropped.items()}
        if became.sink is None:
            rows = len(delivered) + len(gone)
            journal.ledger.release(became.dataset, became.source, rows, {"dropped": dropped, "warned": became.warned})
        with journal.changing() as db:
            handling.settle(db, delivered, "resolved", "delivered", now, became.number)
            for rule, ordinals in became.dropped.items():
                handling.settle(db, ordinals, "resolved", f"dropped by the rule {rule}", now, became.number)
            handling.settle(db, sorted(became.superseded), "superseded", NEWER, now, became.number)
            over = evidence.each(db, sorted(became.failed))
            handling.fail(db, list(became.failed.values()))
            self._tell(became, "resolved", sorted(delivered), now, "delivered")
            for rule, ordinals in became.dropped.items():
                self._tell(became, "resolved", sorted(ordinals), now, f"dropped by the rule {rule}")
            self._tell(became, "superseded", sorted(became.superseded), now, NEWER)
            self._tell(became, "failed-again", sorted(became.failed), over=over)
        ended = [became.records[one] for one in sorted({*delivered, *gone, *became.superseded})]
        journal.sitting.remove(ended)
        if became.passed is not None and became.sink is None:
            journal.sitting.passed(became.passed, again=True)
        self._turns.let_go(ended)

    def _tell(
        self,
        became: _Became,
        action: str,
        ordinals: Sequence[int],
        ended: float | None = None,
        why: str | None = None,
        *,
        over: Mapping[int, bytes] | None = None,
    ) -> None:
        """In the trail, under the name of who asked for it; when and as what their end was, if it was that, or what they were before."""
        asked: dict[int | None, list[int]] = {}
        for ordinal in ordinals:
            asked.setdefault(became.records[ordinal].replay, []).append(ordinal)
        with self._journal.changing() as db:
            for number, some in asked.items():
                by, user, request = audit_trail.asked(db, number)
                detail: dict[str, object] = {"replay": number, "request": request} if number is not None else {"replay": None}
                if ended is not None:
                    detail |= {"ended": ended, "as": why}
                else:
                    detail["rules"] = sorted({reason.rule for ordinal in some for reason in became.failed[ordinal].reasons})
                step = Step(action, by, became.dataset, some, detail, user)
                if over is not None:
                    step = replace(step, digests=evidence.of(db, some), over=b"".join([over[ordinal] for ordinal in some]))
                audit_trail.add(db, step)


def _by_sink(records: Sequence[QuarantineRecord]) -> dict[str | None, list[QuarantineRecord]]:
    """By the sink that they are meant for; None: all."""
    found: dict[str | None, list[QuarantineRecord]] = {}
    for one in records:
        found.setdefault(meant_for(one), []).append(one)
    return found


def lenient(contract: Contract) -> Contract:
    """The contract for records that are judged again: none of them stops its table, nor counts as one more bad row of many."""
    from quality.rules import Action

    rules = [replace(rule, action=Action.QUARANTINE) if rule.action is Action.FAIL else rule for rule in contract.rules]
    return replace(contract, breaker=None, rules=rules)


def _by_shape(
    records: Sequence[QuarantineRecord], shapes: RecordShapes, *, together: bool
) -> dict[tuple[str, str, bool, int], list[QuarantineRecord]]:
    """By source, table, and whether they are as the source gave them; each in the order of the stream.

    Not `together`: only those that follow one another, so that the order of all of them is that of the stream.
    """
    found: dict[tuple[str, str, bool, int], list[QuarantineRecord]] = {}
    last: tuple[str, str, bool] | None = None
    run = 0
    for one in records:
        try:
            given = shapes.given(one)
        except ConfigError:  # told when its changes are made
            given = False
        place = (one.source, one.table, given)
        run += not together and place != last
        last = place
        found.setdefault((*place, run), []).append(one)
    return found
