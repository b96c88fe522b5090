"""Messages wait for channels that are away, under their ids, and for no other channel; what will never be taken is given up."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from pathlib import Path

from dataflows.alerts.carrying import AwayError, Carrier, Carriers
from dataflows.backoff import Backoff
from dataflows.stopping import Stop
from journal.alerting import AlertBook, Message
from pipeline.errors import Refused
from tests.alert_place import NOW
from tests.waiting import wait_for


def test_a_channel_that_is_away_keeps_nobody_else_waiting_and_gets_its_messages_later_under_their_ids(tmp_path: Path) -> None:
    stop = Stop()
    with closing(AlertBook.open(tmp_path)) as book:
        both = [Message.new(name, {}, {"version": 1, "title": name}, NOW) for name in ("away", "here")]
        book.decided([], [], both)
        answers: list[Exception | None] = [AwayError("gone"), AwayError("gone"), None]
        sent: list[str] = []

        def away(message: Message) -> str | None:
            sent.append(message.id)
            answer = answers.pop(0)
            if answer is not None:
                raise answer
            return None

        def here(message: Message) -> str | None:
            return "half of it"

        Carrier("away", away, book, stop, Backoff(first=0.2, most=0.2)).wake()
        Carrier("here", here, book, stop).wake()
        wait_for(lambda: book.awaited() == ["away"], message="the channel that is there")
        wait_for(lambda: not book.awaited(), message="the channel that was away")
        assert sent == [both[0].id] * 3
        told = {message.channel: message for message in book.messages()}
        assert (told["away"].sent, told["away"].attempts) == (True, 3)
        assert (told["here"].sent, told["here"].error) == (True, "half of it")


def test_what_was_being_sent_at_the_end_is_noted_and_nothing_else_is_begun(tmp_path: Path) -> None:
    stop, inside, answered = Stop(), threading.Event(), threading.Event()
    with closing(AlertBook.open(tmp_path)) as book:
        book.decided([], [], [Message.new("it", {}, {"version": 1, "title": title}, NOW + n) for n, title in enumerate(("one", "two"))])

        def send(message: Message) -> str | None:
            inside.set()
            answered.wait(60)
            return None

        carriers = Carriers({"it": send, "other": send}, book, stop)
        carriers.wake()
        assert inside.wait(60)
        stop.set()
        assert not carriers.over(time.monotonic())
        answered.set()
        assert carriers.over(time.monotonic() + 60)
        assert [(message.payload["title"], message.sent) for message in book.messages()] == [("one", True), ("two", None)]


def test_a_message_that_is_refused_too_old_or_broken_is_given_up_and_the_next_is_sent(tmp_path: Path) -> None:
    with closing(AlertBook.open(tmp_path)) as book:
        texts = ["refused", "old", "broken", "good"]
        book.decided([], [], [Message.new("it", {}, {"version": 1, "title": text}, NOW - 5 * 86_400 + n) for n, text in enumerate(texts)])

        def send(message: Message) -> str | None:
            errors = {"refused": Refused("no"), "old": AwayError("gone"), "broken": ValueError("secret")}
            if message.payload["title"] in errors:
                raise errors[message.payload["title"]]
            return None

        Carrier("it", send, book, Stop()).wake()
        wait_for(lambda: not book.awaited(), message="all of them")
        ended = [(message.payload["title"], message.sent, message.error) for message in book.messages()]
        assert ended == [
            ("refused", False, "no"),
            ("old", False, "gone"),
            ("broken", False, "it cannot be sent: ValueError"),
            ("good", True, None),
        ]
