"""Carries messages to their channels: each channel on a thread of its own, so that one that is away keeps nobody else waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

import structlog

from dataflows.backoff import Backoff
from dataflows.stopping import Stop
from journal.alerting import AlertBook, Message
from pipeline.errors import Refused, SluiceError, TransientError

log = structlog.get_logger("sluice.alerts")

Send = Callable[[Message], str | None]
"""Sends a message. Returns what was wrong all the same; raises AwayError, or Refused where this message will never be taken."""

GIVEN_UP = 3 * 86_400.0
"""Seconds after which a message that could not be sent is given up."""


class AwayError(TransientError):
    """A channel does not take messages now. `after`: seconds for which it asks to be left alone."""

    def __init__(self, message: str, *, hint: str | None = None, after: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.after = after


class Carrier:
    """One channel. Takes its messages from the book, oldest first, and tries again later, ever more seldom, what could not be sent."""

    def __init__(self, channel: str, send: Send, book: AlertBook, stop: Stop, backoff: Backoff | None = None) -> None:
        self._channel = channel
        self._send = send
        self._book = book
        self._stop = stop
        self._backoff = backoff or Backoff(first=5.0, most=900.0)
        self._failing = False
        self._guard = threading.Lock()
        self._asked = False
        self._working = False
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """There are messages. They are sent on a thread that ends with them; one that is being killed loses none of them."""
        with self._guard:
            self._asked = True
            if not self._working:
                self._working = True
                self._thread = threading.Thread(target=self._run, name=f"alerts {self._channel}", daemon=True)
                self._thread.start()

    def over(self, deadline: float) -> bool:
        """After `stop`: whether it ends by a time (time.monotonic()); what it was just sending is noted then, and not sent again."""
        with self._guard:
            thread = self._thread
        if thread is None:
            return True
        thread.join(max(0.0, deadline - time.monotonic()))
        return not thread.is_alive()

    def _more(self) -> bool:
        with self._guard:
            self._working = self._asked and not self._stop
            self._asked = False
            return self._working

    def _run(self) -> None:
        while self._more():
            pause = self._carry()
            while pause is not None and not self._stop.wait(pause):  # what is new meanwhile waits with the others
                pause = self._carry()

    def _carry(self) -> float | None:
        """Sends what there is. Returns after how many seconds to try again; None where all is done."""
        try:
            for message in self._book.unsent(self._channel):
                pause = None if self._stop else self._one(message)
                if pause is not None:
                    return pause
        except SluiceError as error:
            log.warning("messages cannot be read or noted in the state", channel=self._channel, error=error.message, hint=error.hint)
            return self._backoff.next()
        return None

    def _one(self, message: Message) -> float | None:
        """Sends a message. Returns after how many seconds to try it again."""
        try:
            note = self._send(message)
        except AwayError as error:
            if time.time() - message.created_at <= GIVEN_UP:
                return self._away(message, error)
            self._lost(message, error.message)
        except Refused as error:
            self._lost(message, error.message)
        except Exception as error:  # noqa: BLE001  (whatever is wrong with one message, the others are sent; its text may hold anything)
            self._lost(message, f"it cannot be sent: {type(error).__name__}")
        else:
            self._sent(message, note)
        return None

    def _lost(self, message: Message, why: str) -> None:
        log.error("alert is given up", channel=self._channel, message=message.id, error=why)
        self._book.given_up(message, why)

    def _away(self, message: Message, error: AwayError) -> float:
        if not self._failing:
            log.warning("alerts cannot be sent, trying again", channel=self._channel, error=error.message, hint=error.hint)
        self._failing = True
        self._book.failed(message, error.message)
        return max(self._backoff.next(), error.after or 0.0)

    def _sent(self, message: Message, note: str | None) -> None:
        if note is not None:
            log.warning("alert was sent, but not as it was meant", channel=self._channel, message=message.id, error=note)
        if self._failing:
            log.info("alerts are sent again", channel=self._channel)
        self._failing = False
        self._backoff.reset()
        self._book.sent(message, note)


class Carriers:
    """Those of all channels, until `stop`."""

    def __init__(self, sends: Mapping[str, Send], book: AlertBook, stop: Stop) -> None:
        self._book = book
        self._carriers = {name: Carrier(name, send, book, stop) for name, send in sends.items()}

    def wake(self) -> None:
        """Whatever is to be sent is sent; what was meant for a channel that the file does not have any more is given up."""
        for channel in self._book.awaited():
            if channel in self._carriers:
                self._carriers[channel].wake()
                continue
            for message in self._book.unsent(channel):
                self._book.given_up(message, f"the pipeline file has no channel {channel} any more")

    def over(self, deadline: float) -> bool:
        """After `stop`: whether nothing is being sent any more by a time (time.monotonic())."""
        return all(carrier.over(deadline) for carrier in self._carriers.values())
