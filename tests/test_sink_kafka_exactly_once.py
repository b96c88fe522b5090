"""The Kafka sink writes exactly once, whoever is killed: the process, the broker, or both; and one process alone."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from journal.batch import Op
from pipeline.errors import AlreadyRunningError, TerminalError, TransientError
from sinks.base import Cursor
from tests.fix_kafka import LaunchKafka
from tests.kafka_place import Kafka
from tests.kafka_sink_place import KafkaPlace
from tests.kafka_sink_victim import ROWS
from tests.nursery import Born
from tests.sink_batches import ORDERS, insert, many, marker
from tests.sink_place import JOURNAL, Hand, mirror
from tests.waiting import wait_for

ROOT = Path(__file__).parent.parent


def _start(kafka: Kafka, transactions: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.kafka_sink_victim", kafka.bootstrap_servers, kafka.prefix, str(transactions)]
    return Born(command, cwd=ROOT, stdout=subprocess.PIPE)


def _positions(kafka: Kafka) -> list[int]:
    """What an independent reader finds of `sluice-position`, in order."""
    return sorted(int(dict(message.headers)["sluice-position"]) for message in kafka.consume(f"{kafka.prefix}.orders"))


def _expected(transactions: int) -> list[int]:
    """Every change of every transaction, once: a doubled one or one that is missing would show."""
    return list(range(2 * ROWS, 2 * (transactions + 1) * ROWS))


def test_a_process_that_is_killed_again_and_again_tells_every_change_once(kafka: Kafka) -> None:
    chance = random.Random(7)
    seen = 0
    for _ in range(4):
        victim = _start(kafka, 10_000)
        assert victim.stdout is not None
        until = seen + chance.randrange(2, 9)
        while seen < until:
            seen = int(victim.stdout.readline())
        threading.Event().wait(chance.random() / 50)  # anywhere in a transaction
        victim.kill()
        rest = victim.stdout.read().split()
        seen = int(rest[-1]) if rest else seen
        victim.wait()
    # the last one may have been killed after the brokers had its commit, and before it could say so
    last = _start(kafka, seen + 2)
    assert last.wait(60) == 0
    assert last.stdout is not None
    last.stdout.close()
    assert _positions(kafka) == _expected(seen + 2)


def test_what_a_killed_process_had_open_is_never_seen(kafka: Kafka) -> None:
    place = KafkaPlace(kafka)
    hand = Hand(place)
    target = mirror(ORDERS)
    hand.write(target, insert(id="1", name="a"))
    hand.sink.begin()
    hand.put(target, insert(id="2", name="never"))
    link = hand.sink._link  # type: ignore[attr-defined]
    link.flush()
    place.crash(hand.sink)  # type: ignore[arg-type]
    again = Hand(place)
    assert again.cursor.seq == 1
    again.write(target, insert(id="3", name="c"))
    assert again.names(target) == {"1": "a", "3": "c"}
    everything = kafka.consume(place.topic("orders"), isolation="read_uncommitted")
    assert len(everything) == 3  # it was there, for those who do not care


def test_the_older_of_two_processes_ends_and_the_newer_goes_on(kafka: Kafka) -> None:
    place = KafkaPlace(kafka)
    target = mirror(ORDERS)
    older = Hand(place)
    older.write(target, insert(id="1", name="a"))
    older.sink.begin()
    older.put(target, insert(id="2", name="open when the newer comes"))
    newer = Hand(place)
    newer.write(target, insert(id="3", name="c"))
    with pytest.raises(AlreadyRunningError, match="taken over"):
        older.commit()
    older.sink.rollback()
    with pytest.raises((AlreadyRunningError, TransientError)):
        older.write(target, insert(id="4", name="d"))
    newer.write(target, insert(id="5", name="e"))
    assert newer.names(target) == {"1": "a", "3": "c", "5": "e"}


def test_another_journal_takes_over_when_it_is_told_to_and_goes_on_above_what_was_told(kafka: Kafka) -> None:
    place = KafkaPlace(kafka)
    target = mirror(ORDERS)
    older = Hand(place)
    older.write(target, insert(id="1", name="a"), insert(id="2", name="b"))
    with pytest.raises(TerminalError, match="another journal"):
        place.sink().open("another")
    older.write(target, insert(id="3", name="c"))  # whoever was refused has fenced nobody off
    assert place.sink().standing().newest == 3
    place.sink().adopt(Cursor("another", 7, routes={"orders": "new"}))
    with pytest.raises(AlreadyRunningError):
        older.write(target, insert(id="4", name="d"))
    held = place.sink().open("another")
    assert held is not None
    assert (held.journal, held.seq, dict(held.routes)) == ("another", 7, {"orders": "new"})
    assert place.sink().standing().newest == 3
    begun = older.next
    sink = place.sink()
    sink.open("another")
    sink.begin()
    sink.mark(target, marker(ORDERS, "end", begun))
    sink.commit(replace(held, seq=8))
    assert place.sink().standing().newest == begun
    assert list(sink.read(target, None)) == []


def test_a_transaction_that_the_brokers_ended_for_its_age_is_no_twin(launch_kafka: LaunchKafka) -> None:
    kafka = launch_kafka(settings={"transaction.abort.timed.out.transaction.cleanup.interval.ms": 100})
    place = KafkaPlace(kafka, options={"transaction.timeout.ms": 4000, "message.timeout.ms": 4000})
    hand = Hand(place)
    target = mirror(ORDERS)
    hand.write(target, insert(id="1", name="a"))
    hand.sink.begin()
    hand.put(target, insert(id="2", name="lost"))
    hand.sink._link.flush()  # type: ignore[attr-defined]

    def ended() -> bool:
        """The brokers have put the end of the transaction behind its message."""
        ends = hand.sink._topics.settled(hand.sink._topics.find(place.topic("orders")))  # type: ignore[attr-defined]
        return bool(sum(ends.values()) >= 4)

    wait_for(ended, message="the end of the transaction")
    with pytest.raises(TransientError, match="took longer than the 4 s") as met:
        hand.commit()
    assert met.value.hint
    hand.sink.rollback()
    held = hand.sink.open(JOURNAL)
    assert held is not None
    assert held.seq == 1
    hand.write(target, insert(id="2", name="again"))
    assert hand.names(target) == {"1": "a", "2": "again"}


def test_a_broker_that_is_killed_and_started_again_in_the_middle_loses_and_doubles_nothing(launch_kafka: LaunchKafka) -> None:
    kafka = launch_kafka()
    place = KafkaPlace(kafka)
    target = mirror(ORDERS)
    hand = Hand(place)
    total = 8
    killed = threading.Event()

    def restart() -> None:
        kafka.server.kill()
        kafka.server.start()

    helper = threading.Thread(target=restart)
    n = 0
    while n < total:
        try:
            hand.sink.begin()
            ids = pa.array(np.arange(n * ROWS, (n + 1) * ROWS))
            hand.give(target, many(ORDERS, [ids] * 4, Op.INSERT, first=n * ROWS + 1))
            if n == 3 and not killed.is_set():
                killed.set()
                helper.start()
            hand.commit()
        except TransientError:
            hand.sink.rollback()
            hand.cursor = wait_for(lambda: _opened(hand), message="the broker")
        n = hand.cursor.seq
    helper.join()
    found = [int(dict(message.headers)["sluice-position"]) for message in kafka.consume(place.topic("orders"))]
    assert sorted(found) == list(range(1, total * ROWS + 1))


def _opened(hand: Hand):  # type: ignore[no-untyped-def]
    try:
        return hand.sink.open(JOURNAL)
    except TransientError:
        return None
