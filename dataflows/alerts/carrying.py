"""Carries messages to their channels: each channel on a thread of its own, so that one that is away keeps nobody else waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

import structlog

from dataflows.backoff import Backoff
from journal.alerting import AlertBook, Message
from pipeline.errors import Refused, SluiceError, TransientError

log = structlog.get_logger("sluice.alerts")

Send = Callable[[Message], str | None]
"""Sends a message. Returns what was wrong all the same; raises AwayError, or Refused where this message will never be taken."""

GIVEN_UP = 3 * 86_400.0
"""Seconds after which a message that could not be sent is given up."""
_GRACE = 2.0  # seconds for what is being sent when the process ends; what was not sent in them is sent after the next start


class AwayError(TransientError):
    """A channel does not take messages now. `after`: seconds for which it asks to be left alone."""

    def __init__(self, message: str, *, hint: str | None = None, after: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.after = after


class Carrier:
    """One channel. Takes its messages from the book, oldest first, and tries again later, ever more seldom, what could not be sent."""

    def __init__(self, channel: str, send: Send, book: AlertBook, backoff: Backoff | None = None) -> None:
        self._channel = channel
        self._send = send
        self._book = book
        self._backoff = backoff or Backoff(first=5.0, most=900.0)
        self._wake = threading.Event()
        self._over = threading.Event()
        self._failing = False
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """There are messages. The thread begins with the first of them."""
        self._wake.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"alerts {self._channel}", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while not self._over.is_set():
            self._wake.wait()
            self._wake.clear()
            pause = self._carry()
            while pause is not None and not self._over.wait(pause):  # what is new meanwhile waits with the others
                pause = self._carry()

    def _carry(self) -> float | None:
        """Sends what there is. Returns after how many seconds to try again; None where all is done."""
        try:
            return self._send_all()
        except SluiceError as error:
            log.warning("messages cannot be read or noted in the state", channel=self._channel, error=error.message, hint=error.hint)
            return self._backoff.next()

    def _send_all(self) -> float | None:
        for message in self._book.unsent():
            if message.channel != self._channel:
                continue
            if self._over.is_set():
                return None
            try:
                note = self._send(message)
            except Refused as error:
                log.error("alert is refused", channel=self._channel, message=message.id, error=error.message, hint=error.hint)
                self._book.given_up(message, error.message)
            except AwayError as error:
                if time.time() - message.created_at > GIVEN_UP:
                    log.error("alert is given up", channel=self._channel, message=message.id, error=error.message)
                    self._book.given_up(message, error.message)
                    continue
                return self._away(message, error)
            else:
                self._sent(message, note)
        return None

    def _away(self, message: Message, error: AwayError) -> float:
        if not self._failing:
            log.warning("alerts cannot be sent, trying again", channel=self._channel, error=error.message, hint=error.hint)
        self._failing = True
        self._book.failed(message, error.message)
        return max(self._backoff.next(), error.after or 0.0)

    def _sent(self, message: Message, note: str | None) -> None:
        if note is not None:
            log.warning("alert was sent, not to everybody", channel=self._channel, message=message.id, error=note)
        if self._failing:
            log.info("alerts are sent again", channel=self._channel)
        self._failing = False
        self._backoff.reset()
        self._book.sent(message, note)

    def close(self) -> None:
        """Ends; does not wait for a channel that hangs."""
        self._over.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(_GRACE)


class Carriers:
    """Those of all channels."""

    def __init__(self, sends: Mapping[str, Send], book: AlertBook) -> None:
        self._book = book
        self._carriers = {name: Carrier(name, send, book) for name, send in sends.items()}

    def wake(self) -> None:
        """Whatever is to be sent is sent; what was meant for a channel that the file does not have any more is given up."""
        for message in self._book.unsent():
            if message.channel in self._carriers:
                self._carriers[message.channel].wake()
            else:
                self._book.given_up(message, f"the pipeline file has no channel {message.channel} any more")

    def close(self) -> None:
        for carrier in self._carriers.values():
            carrier.close()
