"""The thread that reads a replication session and keeps it alive.

Whatever happens to the changes, the server hears from this thread in time: nothing that decoding, a queue or a sink does can hold it
up. What it reports is the last position that was confirmed, never what was merely received.
See https://www.postgresql.org/docs/current/protocol-replication.html, "Standby status update"
"""

from __future__ import annotations

import select
import socket
import struct
import threading
import time

from pipeline.errors import SluiceError, TransientError
from sources.postgres.errors import malformed
from sources.postgres.inbox import Inbox
from sources.postgres.link import Link, fields_of

_STATUS = struct.Struct(">cQQQqc")
_EPOCH = 946_684_800.0  # seconds from 1970 to 2000
_DRAIN = 32 << 10  # a read of this many bytes: there may be more at once
_MASSES = 2_000_000  # bytes per second: more is on its way, and letting it gather makes both sides cheaper
_LINGER = 0.025  # seconds to let it gather in all
_POLLED = 0.001  # poll() knows no shorter time
_SPACING = 0.002  # seconds between two small pieces, so that a steady trickle of transactions is not decoded one by one
_SHORTEST_RHYTHM = 0.1  # seconds between two reports, unless the server asks
_LONGEST_RHYTHM = 10.0
_SILENCE = 60.0  # seconds without a word after which a server is taken for dead, where wal_sender_timeout is off


class Reader:
    """Reads from `link` into `inbox` until closed or broken; what breaks it is raised by inbox.take().

    server_lsn, bytes_read and last_received (time.monotonic()) may be read by any thread.
    """

    def __init__(self, link: Link, inbox: Inbox, confirmed: int, wal_sender_timeout: float) -> None:
        self.server_lsn = 0
        self.bytes_read = 0
        self.last_received = time.monotonic()
        self._link = link
        self._inbox = inbox
        self._confirmed = confirmed
        self._silence = wal_sender_timeout or _SILENCE
        self._rhythm = min(self._silence / 4, _LONGEST_RHYTHM)
        self._reported = 0
        self._last_report = float("-inf")
        self._owes_answer = False
        self._last_handed_on = 0.0
        self._closing = False
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._woken.setblocking(False)
        inbox.has_room = self.wake
        self._thread = threading.Thread(target=self._run, name="postgres-reader", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def confirmed(self) -> int:
        """The last position that was confirmed, or the start."""
        return self._confirmed

    def confirm(self, lsn: int) -> None:
        """Reports `lsn` soon. Never goes back. Any thread; never blocks."""
        if lsn > self._confirmed:
            self._confirmed = lsn
            self.wake()

    def wake(self) -> None:
        """Something changed that the thread should look at."""
        try:
            self._wake.send(b"\0")
        except OSError:
            return  # it has been woken and has not looked yet, or is gone

    def close(self) -> None:
        """Reports the last confirmed position, ends the session and waits for the thread."""
        self._closing = True
        self.wake()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            self._loop()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that takes
            self._inbox.fail(error)
        finally:
            self._link.close()
            self._wake.close()
            self._woken.close()

    def _loop(self) -> None:
        both, only_wake = select.poll(), select.poll()
        for poll in (both, only_wake):
            poll.register(self._woken, select.POLLIN)
        both.register(self._link.fileno(), select.POLLIN)
        # Where libpq has decrypted more than there was room for, the socket says nothing of it.
        more = False
        while True:
            now = time.monotonic()
            self._report_if_due(now)
            if self._closing:
                self._report(now, ask=False)
                return
            if self._inbox.is_full:
                self.last_received = now  # it is not the server that is silent
                events = only_wake.poll(self._until_due(now) * 1000)
            else:
                events = both.poll(0 if more else self._until_due(now) * 1000)
            ready = {descriptor for descriptor, _ in events}
            if self._woken.fileno() in ready:
                self._woken.recv(4096)
            if not self._inbox.is_full and (more or self._link.fileno() in ready):
                more = self._read(only_wake)
            elif now - self.last_received > self._silence:
                raise TransientError(
                    f"{self._link.label}: not a word for {self._silence:.0f} s, the replication connection is taken for broken",
                    hint="a network that drops idle connections? lower tcp_keepalives_idle, or wal_sender_timeout on the server",
                )

    def _read(self, interrupt: select.poll) -> bool:
        """Receives what is there, and while it comes in masses waits for more; whether the room ended before the bytes did."""
        began = time.monotonic()
        total = lately = 0
        try:
            while True:
                got, room = self._inbox.receive(self._link.receive)
                total += got
                lately += got
                if room == 0:
                    break
                if got >= _DRAIN or self._link.pending:
                    continue
                now = time.monotonic()
                if lately >= _MASSES * self._link.pause and now - began < _LINGER:
                    pause = self._link.pause
                else:
                    pause = self._last_handed_on + _SPACING - now
                if pause <= 0:
                    break
                if pause < _POLLED:
                    time.sleep(pause)
                elif interrupt.poll(pause * 1000):
                    break
                lately = 0
        except SluiceError:
            # The server's own last words, if they came, say more than that the connection has ended.
            self._publish()
            raise
        if total:
            self.bytes_read += total
            self.last_received = self._last_handed_on = time.monotonic()
        self._publish()
        return room == 0

    def _publish(self) -> None:
        news = self._inbox.publish()
        self.server_lsn = max(self.server_lsn, news.server_end)
        self._owes_answer = self._owes_answer or news.answer
        for message in news.foreign:
            kind, fields = message[:1], fields_of(message[5:])
            if kind == b"E":
                raise self._link.refused(fields)
            if kind == b"N":
                left_out = self._link.warned(fields)
                if left_out is not None:
                    raise left_out
            elif kind in b"cCZ":
                raise TransientError(f"{self._link.label}: the server ended the replication session", hint="is it shutting down?")
            elif kind not in b"SA":  # a changed setting, a notification
                raise malformed(f"a message of kind {kind!r}")

    def _until_due(self, now: float) -> float:
        """Seconds until the next thing that has to be done without being asked."""
        pause = _SHORTEST_RHYTHM if self._owes_answer or self._confirmed > self._reported else self._rhythm
        return max(0.0, min(self._last_report + pause, self.last_received + self._silence + 0.001) - now)

    def _report_if_due(self, now: float) -> None:
        """At once when asked or when more is confirmed, though not too often; otherwise a few times within wal_sender_timeout."""
        since = now - self._last_report
        wanted = self._owes_answer or self._confirmed > self._reported
        if since >= self._rhythm or (wanted and since >= _SHORTEST_RHYTHM):
            # Since the server hears from us, it has no reason of its own to speak: ask, so that its silence means something.
            self._report(now, ask=now - self.last_received >= self._rhythm)

    def _report(self, now: float, *, ask: bool) -> None:
        """write, flush and apply are all the confirmed position: nothing else is durable here."""
        confirmed = self._confirmed
        clock = int((time.time() - _EPOCH) * 1_000_000)
        if self._link.send(_STATUS.pack(b"r", confirmed, confirmed, confirmed, clock, b"\1" if ask else b"\0")):
            self._last_report = now
            self._reported = confirmed
            self._owes_answer = False
