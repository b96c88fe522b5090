"""Which trace the messages of a Kafka sink belong to, whoever is killed."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from journal.trace_context import Traces, parent_of
from tests.kafka_place import Kafka, Received
from tests.kafka_sink_place import KafkaPlace
from tests.kafka_sink_victim import ROWS
from tests.nursery import Born
from tests.sink_batches import ORDERS, changes, delete, insert, marker, update
from tests.sink_place import JOURNAL, Hand, mirror

ROOT = Path(__file__).parent.parent
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CONTEXT = f"00-{TRACE}-00f067aa0ba902b7-01 congo=t61rcWkgMzE"


def _told(kafka: Kafka, topic: str, isolation: str = "read_committed") -> list[dict[str, str]]:
    """The headers of every message, by position and key."""
    found = kafka.consume(topic, isolation=isolation)
    return [{name: value.decode() for name, value in one.headers} for one in sorted(found, key=_order)]


def _order(message: Received) -> tuple[int, bool]:
    return int(dict(message.headers)["sluice-position"]), message.value is not None


@pytest.mark.parametrize("config", [{}, {"format": "cloudevents"}, {"format": "cloudevents", "mode": "structured"}])
def test_a_change_that_came_with_a_context_passes_it_on_and_others_have_one_of_their_own(kafka: Kafka, config: dict[str, str]) -> None:
    place = KafkaPlace(kafka, **config)
    hand = Hand(place)
    target = mirror(ORDERS)
    hand.sink.begin()
    rows = [insert(id="1", name="a"), insert(id="2", name="b"), update({"id": "9", "name": "b"}, old={"id": "2"})]
    batch = changes(ORDERS, *rows, first=1)
    hand.give(target, replace(batch, traces=pa.array([CONTEXT, None, CONTEXT])))
    hand.commit()
    first, second, left, moved = _told(kafka, place.topic("orders"))
    for one in (first, left, moved):
        assert one["traceparent"][3:35] == TRACE
        assert one["traceparent"][-2:] == "01"
        assert one["tracestate"] == "congo=t61rcWkgMzE"
    assert second["traceparent"][3:35] == Traces(JOURNAL).id(int(second["sluice-position"]))
    assert "tracestate" not in second
    spans = {one["traceparent"][36:52] for one in (first, second, left, moved)}
    assert len(spans) == 4, "each message is a span of its own"
    assert all(parent_of(one["traceparent"].encode()) == one["traceparent"] for one in (first, second, left, moved))


def test_a_message_that_is_told_again_after_a_failure_is_the_same(kafka: Kafka) -> None:
    place = KafkaPlace(kafka)
    hand = Hand(place)
    target = mirror(ORDERS)
    hand.sink.begin()
    batch = replace(changes(ORDERS, insert(id="1", name="a"), delete(id="2"), first=1), traces=pa.array([None, CONTEXT]))
    hand.give(target, batch)
    hand.sink._link.flush()  # type: ignore[attr-defined]
    place.crash(hand.sink)  # type: ignore[arg-type]
    again = Hand(place)
    again.sink.begin()
    again.give(target, batch)
    again.commit()
    everything = _told(kafka, place.topic("orders"), "read_uncommitted")
    committed = _told(kafka, place.topic("orders"))
    assert len(everything) == 2 * len(committed) == 4
    assert {tuple(one.items()) for one in everything} == {tuple(one.items()) for one in committed}


def test_tombstones_of_a_swept_copy_are_spans_of_one_trace(kafka: Kafka) -> None:
    place = KafkaPlace(kafka)
    hand = Hand(place)
    target = mirror(ORDERS)
    hand.write(target, insert(id="1", name="a"), insert(id="2", name="b"))
    at = hand.next
    hand.mark(target, marker(ORDERS, "end", at))
    gone = [one["traceparent"] for one in _told(kafka, place.topic("orders")) if int(one["sluice-position"]) == at]
    assert [one[3:35] for one in gone] == [Traces(JOURNAL).id(at)] * 2
    assert len({one[36:52] for one in gone}) == 2


def test_a_process_that_is_killed_tells_each_change_under_one_trace_whether_or_not_it_was_committed(kafka: Kafka) -> None:
    topic = f"{kafka.prefix}.orders"
    seen = 0
    for wanted in (3, 6):
        victim = Born(
            [sys.executable, "-m", "tests.kafka_sink_victim", kafka.bootstrap_servers, kafka.prefix, "10000"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        assert victim.stdout is not None
        while seen < wanted:
            seen = int(victim.stdout.readline())
        threading.Event().wait(0.01)  # into the next transaction
        victim.kill()
        victim.wait()
        victim.stdout.close()
    traces = Traces(JOURNAL)
    by_position: dict[int, set[str]] = {}
    for one in _told(kafka, topic, "read_uncommitted"):
        by_position.setdefault(int(one["sluice-position"]), set()).add(one["traceparent"])
    assert len(by_position) >= 6 * ROWS
    assert {len(parents) for parents in by_position.values()} == {1}
    assert all(next(iter(parents))[3:35] == traces.id(position) for position, parents in by_position.items())
