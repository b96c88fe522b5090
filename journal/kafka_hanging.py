"""Transactions that the brokers have forgotten to end.

A broker that is killed after it has answered a commit can lose the ends of the transaction in partitions that it does not know yet when it
is back (seen with Kafka 4.3, alone). What was left open would be committed with the next transaction of the same producer.
"""

from __future__ import annotations

from collections.abc import Sequence

from journal.kafka_link import Link
from journal.kafka_topics import Topic, Topics
from pipeline.errors import TransientError


def hanging(topics: Topics, topic: Topic) -> Sequence[int]:
    """Partitions with a transaction that is still open after a moment."""
    committed, written = topics.settled(topic), topics.written(topic)
    return [partition for partition, end in written.items() if committed[partition] < end]


def end_hanging(link: Link, topics: Topics, topic: Topic, who: str) -> Sequence[int]:
    """Aborts what is open in a topic; for a link that is connected, so that nobody can be at it. Returns where there was any."""
    found = hanging(topics, topic)
    if found:
        _abort(link, topic, found, who)
    return found


def abort_own(link: Link, topic: Topic, who: str) -> None:
    """Aborts what older producers of this link's identity have left open, wherever in a topic; nothing of anybody else's."""
    _abort(link, topic, topic.partitions, who)


def _abort(link: Link, topic: Topic, partitions: Sequence[int], who: str) -> None:
    link.begin()
    link.touch(topic.name, partitions)
    link.flush()
    if not link.abort():
        raise TransientError(f"{who} cannot end an old transaction in {topic.name}", hint="are the brokers running?")
