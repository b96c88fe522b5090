"""The way of a command to the one process that may do what it asks for: through the inbox, or, where none runs, by becoming it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from typing import Any

from dataflows.approving import APPROVE_CONTRACT, approve_contract
from dataflows.build import contracts
from dataflows.contracts_in_force import put_in_force
from dataflows.pace import ALONE
from dataflows.requests import answer_request, open_requests, refused
from dataflows.stages import load_stages
from journal import audit_trail
from journal.bell import Ringer
from journal.inbox import Inbox, Request
from journal.local import JournalWriter
from journal.locks import ProcessLock, is_held, is_wanted
from journal.opening import catch_up, has_journal, open_writer, tell
from journal.processes import INGEST, Processes
from journal.state import State
from pipeline.errors import AlreadyRunningError, ConfigError, TransientError
from pipeline.model import Pipeline

TIMEOUT = 300.0
"""Seconds for which an answer is waited for."""

_LOOK = 0.05
_HEARING = 4.0  # seconds after which an ingest on another machine, which may just have begun, would have been heard of
_BREATH = 0.3  # seconds in which an ingest that is about to start takes the journal


def ask(pipeline: Pipeline, content: Mapping[str, Any], timeout: float = TIMEOUT) -> dict[str, Any]:
    """Has something done with records, and returns the answer; `content` as the steps want it.

    Raises ConfigError where nothing has run yet, TransientError where no answer comes in time: the request stays.
    """
    if not has_journal(pipeline):
        raise ConfigError("nothing is in quarantine: nothing has run here yet")
    with closing(Inbox(pipeline.state)) as inbox:
        request = inbox.ask({**content, "system_user": audit_trail.system_user()})
        tell(pipeline)
        deadline = time.monotonic() + timeout
        alone = time.monotonic() + (0.0 if pipeline.journal.kafka is None else _HEARING)
        while (answer := inbox.answered(request)) is None:
            if time.monotonic() > deadline:
                raise TransientError(
                    f"{request.action} was not answered within {timeout:.0f} s",
                    hint="it is not lost: it is carried out as soon as ingest, or the next command, can do it",
                )
            if time.monotonic() >= alone and _free(pipeline):
                _do_it_here(pipeline, inbox, request, deadline)
            else:
                time.sleep(_LOOK)
                catch_up(pipeline)
        return answer


def _free(pipeline: Pipeline) -> bool:
    """Whether no ingest runs, here or elsewhere."""
    if is_held(pipeline.state, INGEST):
        return False
    if pipeline.journal.kafka is None:
        return True
    with closing(State.open(pipeline.state)) as state:
        return not Processes(pipeline, state).elsewhere(INGEST)


def _do_it_here(pipeline: Pipeline, inbox: Inbox, request: Request, deadline: float) -> None:
    """Carries out what is open in place of ingest, until it wants to begin."""
    with ExitStack() as held:
        try:
            held.enter_context(ProcessLock(pipeline.state, INGEST, f"a command of {pipeline.name}"))
        except AlreadyRunningError:  # somebody was faster, and does it
            return
        state = held.enter_context(closing(State.open(pipeline.state)))
        journal = held.enter_context(open_writer(pipeline))
        if request.action == APPROVE_CONTRACT:  # nothing may be judged before it is known by what
            answer_request(journal, inbox, request, _approved(journal, request))
            return
        pipeline = put_in_force(pipeline, journal)
        rules = contracts(pipeline)
        ringer = held.enter_context(closing(Ringer(pipeline.state, list(pipeline.sinks))))
        requests = open_requests(pipeline, rules, journal, state, load_stages(pipeline, rules, journal), ringer.ring, ALONE)
        held.callback(requests.close)
        requests.look()
        while time.monotonic() < deadline and not is_wanted(pipeline.state, INGEST):
            requests.work(1.0)
            if inbox.answered(request) is not None or requests.over or requests.stale is not None:
                return
            if not requests.busy:
                time.sleep(_LOOK)
    time.sleep(_BREATH)


def _approved(journal: JournalWriter, request: Request) -> Mapping[str, Any]:
    try:
        return approve_contract(journal, request)
    except ConfigError as error:
        return refused(error)
