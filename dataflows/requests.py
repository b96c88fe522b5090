"""Carries out what owners ask for, between two transactions of the sources: a little at a time, so that the stream goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from dataflows import steps
from dataflows.approving import APPROVE_CONTRACT, approve_contract
from dataflows.build import dataset_name
from dataflows.changed_rules import mark_changed
from dataflows.copy_names import CopyNames
from dataflows.erasing import forget
from dataflows.fixing import fix
from dataflows.pace import BESIDE, Pace
from dataflows.refused_steps import RefusedSteps
from dataflows.replay import Place, Replay, lenient
from dataflows.stages import Stages
from dataflows.steps import Answer, Desk, Doing
from journal import audit_trail, handling, store
from journal.inbox import Inbox, Request
from journal.local import JournalWriter
from journal.returns import Returns
from journal.state import EVERY_SINK, State
from pipeline.agreement import tables_of
from pipeline.errors import ConfigError, JournalError, SluiceError, TransientError
from pipeline.model import Pipeline
from pipeline.names import split_name

if TYPE_CHECKING:
    from quality.contract import Contract

log = structlog.get_logger("sluice.ingest")

LOOK_EVERY = 0.2  # seconds
_KEEP_HEAD_EVERY = 5.0


def _approve_contract(desk: Desk, request: Request) -> Doing:
    yield
    return approve_contract(desk.journal, request)


_STEPS = {
    APPROVE_CONTRACT: _approve_contract,
    "fix": fix,
    "import": fix,
    "approve": steps.approve,
    "discard": steps.discard,
    "replay": steps.replay,
    "forget": forget,
}


class Requests:
    """The open requests of a pipeline, and the records that are replayed. Of the thread that writes the journal."""

    def __init__(self, desk: Desk, inbox: Inbox, refused: RefusedSteps) -> None:
        self._desk = desk
        self._inbox = inbox
        self._replay = desk.replay
        self._refused = refused
        self._doing: dict[str, tuple[Request, Doing]] = {}
        self._watched: dict[str, tuple[Request, Answer]] = {}  # replays that have not come to their end
        self._look_at = 0.0
        self._keep_head_at = 0.0
        self._head = 0
        self._pace = Pace(desk.seconds)
        self._replaying = self._replay.due
        self._rest_until = 0.0
        self.stale: str | None = None  # the dataset of which another contract is in force than the one that judges here

    @property
    def busy(self) -> bool:
        """Whether there is more to do at once."""
        return bool(self._doing) or (self._replaying and time.monotonic() >= self._rest_until)

    @property
    def over(self) -> bool:
        """Whether nothing is left of what was asked for."""
        return not (self._doing or self._watched or self._replaying)

    @property
    def held_up(self) -> bool:
        """Whether records wait for something else than this."""
        return self._replaying and time.monotonic() < self._rest_until

    def look(self) -> None:
        """Takes new requests."""
        self._look_at = time.monotonic() + LOOK_EVERY
        if time.monotonic() >= self._keep_head_at:
            self._keep_head()
        for request in self._inbox.open():
            if request.id not in self._doing and request.id not in self._watched:
                self._begin(request)

    def _keep_head(self) -> None:
        """Notes now and then how far the audit trail is, as records come that nobody asks for: what is cut off of it is missed."""
        self._keep_head_at = time.monotonic() + _KEEP_HEAD_EVERY
        with self._desk.journal.view() as db:
            if not db.in_transaction and audit_trail.head(db)[0] != self._head:
                with suppress(SluiceError):
                    self._head, _ = self._inbox.keep_head(self._desk.journal.id, db)

    def _begin(self, request: Request) -> None:
        step = _STEPS.get(request.action)
        if step is None:
            self._answer(request, refused(ConfigError(f"nobody here knows how to {request.action}", hint="upgrade this installation")))
            return
        log.info("request", action=request.action, by=request.content.get("by"), request=request.id)
        try:
            self._doing[request.id] = request, self._step(request, step)
        except ConfigError as error:
            self._answer(request, refused(error))

    def _step(self, request: Request, step: Callable[[Desk, Request], Doing]) -> Doing:
        """Of rows that single sinks refused the state has the records."""
        own = self._refused.step(request)
        if own is None and request.action == "replay" and not {"ids", "group"} & request.content.keys():
            return self._refused.replay_approved(request, step(self._desk, request))
        return step(self._desk, request) if own is None else own

    def work(self, seconds: float) -> None:
        """Does pieces of what there is to do, for about so long."""
        until = time.monotonic() + seconds
        if time.monotonic() >= self._look_at:
            self.look()
        while self.busy and self.stale is None:
            if self._doing:
                self._advance(*next(iter(self._doing.values())))
            elif self._replaying:
                self._let_go()
            if time.monotonic() >= until:
                return

    def _advance(self, request: Request, doing: Doing) -> None:
        """The next piece of a request."""
        try:
            next(doing)
            if request.action == "replay":
                self._replay.ring()
        except StopIteration as ended:
            del self._doing[request.id]
            answer: Answer = ended.value
            if request.action == "replay" and answer["number"] is not None:
                self._watched[request.id] = request, answer
                self._replaying = self._replay.due
                self._rest_until = 0.0
                self._look_over()
            else:
                self._replaying = self._replaying or self._replay.due  # what waited for records that were given up
                self._answer(request, answer)
                if request.action == APPROVE_CONTRACT and answer["changed"]:
                    self.stale = str(answer["dataset"])
        except TransientError:
            raise
        except JournalError:
            raise
        except SluiceError as error:  # what is asked for cannot be; the stream goes on
            del self._doing[request.id]
            self._answer(request, refused(error))

    def _let_go(self) -> None:
        began = time.monotonic()
        done = self._replay.step(self._pace.size)
        self._pace.took(done, time.monotonic() - began)
        if not done:
            self._replaying = self._replay.due
            self._rest_until = time.monotonic() + 1.0  # what is left waits for its table
        self._look_over()

    def _look_over(self) -> None:
        """Answers replays of which every record has come to an end."""
        for request, answer in list(self._watched.values()):
            with self._desk.journal.view() as db:
                if handling.under_way(db, answer["number"]) and not self.held_up:
                    continue
                statuses, seq = handling.outcome(db, answer["number"]), store.last_seq(db)
            del self._watched[request.id]
            failed = statuses.get("failed-again", 0)
            answer["code"] = 1 if answer["code"] or ("ids" in request.content and failed) else 0
            self._answer(request, {**answer, "outcome": statuses, "seq": seq})

    def begin_again(self) -> None:
        """Raises TransientError once a contract has come into force that this process does not judge by: it is started again."""
        if self.stale is not None:
            raise TransientError(f"ingest begins again, with the contract of {self.stale} that was approved")

    def _answer(self, request: Request, answer: Mapping[str, Any]) -> None:
        answer_request(self._desk.journal, self._inbox, request, answer)

    def close(self) -> None:
        for _, doing in self._doing.values():
            doing.close()
        self._keep_head()
        self._refused.close()
        self._inbox.close()


def answer_request(journal: JournalWriter, inbox: Inbox, request: Request, answer: Mapping[str, Any]) -> None:
    """Answers a request, and notes how far the audit trail is."""
    with journal.view() as db:
        n, of = audit_trail.head(db)
        with suppress(SluiceError):  # for who checks the trail; the answer has it too
            inbox.keep_head(journal.id, db)
    inbox.answer(request, {**answer, "head": {"n": n, "hash": of}})


def refused(error: SluiceError) -> Answer:
    """The answer to what cannot be done."""
    return {"code": error.exit_code, "error": {"message": error.message, "hint": error.hint}}


def open_requests(
    pipeline: Pipeline,
    rules: Mapping[str, Contract],
    journal: JournalWriter,
    state: State,
    stages: Stages,
    ring: Callable[[], None],
    seconds: float = BESIDE,
) -> Requests:
    """What serves the owners of a pipeline, in the process that writes its journal; see Requests."""
    mark_changed(journal, rules)
    replay = Replay(journal, rules, stages, partial(_being_copied, pipeline, journal, state), ring)
    desk = Desk(journal, rules, stages.maps, partial(_home, pipeline), replay, seconds, pipeline.state)
    of_sinks = RefusedSteps(desk, Returns(pipeline.state), stages, {name: lenient(one) for name, one in rules.items()}, ring)
    return Requests(desk, Inbox(pipeline.state), of_sinks)


def _home(pipeline: Pipeline, source: str, table: str, dataset: str) -> str | None:
    """Why changes of a table cannot go on to a dataset any more, if they cannot."""
    block = pipeline.sources.get(source)
    if block is None:
        return f"the pipeline has no source {source} any more: put it back, or discard the record"
    tables = getattr(block.config, "tables", None)
    read = block.stream == table if block.stream is not None else tables is None or tables_of(tables).holds(split_name(table))
    if not read:
        return f"{table} of the source {source} is not in the pipeline any more: put it back, or discard the record"
    if (now := dataset_name(pipeline, source, table)) != dataset:
        return f"{table} of the source {source} is the dataset {now} now, and no longer {dataset}: discard the record"
    return None


def _being_copied(pipeline: Pipeline, journal: JournalWriter, state: State) -> set[Place]:
    """Tables that are copied, or are to be: a sink passes over what comes until it has the copy, or sweeps it away with what that lacks."""
    with journal.view() as db:
        tables = db.execute("select source, table_name, copy from tables").fetchall()
    wanted = {name for sink, names in state.copy_requests().items() if sink == EVERY_SINK or sink in pipeline.sinks for name in names}
    names = CopyNames(pipeline)
    return {(source, table) for source, table, copy in tables if copy == "begun" or (wanted and names.at(source, table) in wanted)}
