"""What the process `watch` does for alerts again and again: looks, decides, puts down what is to be told, and has it sent."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing

import structlog

from dataflows.alerts.carrying import Carriers
from dataflows.alerts.channels import all_sending
from dataflows.alerts.observing import Observing
from dataflows.alerts.ownership import Ownership
from dataflows.stopping import Stop
from journal.alerting import AlertBook, Message
from journal.processes import WATCH, Processes
from journal.state import State
from pipeline.alerts import Alerts
from pipeline.model import Pipeline
from quality.alerts.deciding import Notice, Timing, decide
from quality.alerts.payload import payload
from quality.alerts.recipients import recipients

log = structlog.get_logger("sluice.alerts")


class Telling:
    """Tells what is wrong with a pipeline, each thing as `decide` says. One thread; what it tells is sent on others.

    What it knows is in the state: after `kill -9` it goes on as if nothing had been, and sends again, under its old id, at most what was
    just being sent.
    """

    def __init__(self, pipeline: Pipeline, alerts: Alerts, stop: Stop) -> None:
        self._pipeline = pipeline
        self._alerts = alerts
        self._timing = Timing(alerts.group_wait, alerts.cool_down, alerts.repeat)
        self._held = ExitStack()
        self._book = self._held.enter_context(closing(AlertBook.open(pipeline.state)))
        self._ownership = Ownership(pipeline)
        self._observing = self._held.enter_context(closing(Observing(pipeline, self._ownership)))
        state = self._held.enter_context(closing(State.open(pipeline.state)))
        self._processes = Processes(pipeline, state)
        self._carriers = Carriers(all_sending(alerts.channels), self._book, stop)

    def tick(self, now: float) -> float:
        """Looks once, and has sent what there is to say. Returns how many seconds that took, without the sending.

        Raises SluiceError where the state cannot be read or written.
        """
        began = time.monotonic()
        if not self._processes.foremost(WATCH):  # of several machines that watch this pipeline one tells
            return 0.0
        known = self._book.known()
        decision = decide(now, self._observing.look(now, known), known, self._timing)
        messages = [message for notice in decision.notices for message in self._messages(notice, now)]
        self._book.decided(decision.kept, decision.forgotten, messages)
        self._carriers.wake()
        return time.monotonic() - began

    def _messages(self, notice: Notice, now: float) -> list[Message]:
        whose = self._ownership.whose(notice.subject)
        said = payload(notice, whose, self._pipeline.name, now)
        to = recipients(whose, self._alerts.channels)
        log.info("alert", kind=said["kind"], title=said["title"], owner=said["owner"], channels=[one.channel for one in to])
        return [Message.new(one.channel, {"to": list(one.to), "room": one.room}, said, now) for one in to]

    def over(self, deadline: float) -> bool:
        """Whether what was being sent when `stop` was set has an answer, which is noted, by a time (time.monotonic())."""
        return self._carriers.over(deadline)

    def close(self) -> None:
        self._held.close()
