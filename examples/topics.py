"""Topics made and filled from the command line, where no Kafka tools are at hand.

    python -m examples.topics BROKERS TOPIC FILE

sends every line of a file as a message, to a topic that is made if there is none: all to its first partition, where they stay in order.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from pipeline.errors import TerminalError

__all__ = ["main", "make_topic", "send"]

_PATIENCE = 30.0


class TopicError(TerminalError):
    """Messages could not be sent."""


def make_topic(brokers: str, topic: str, partitions: int) -> None:
    """Makes a topic; does nothing where it is there. Raises KafkaException where the brokers refuse."""
    client = AdminClient({"bootstrap.servers": brokers, "log_level": 0})
    # Brokers that make topics of themselves do it at this question.
    if client.list_topics(topic, timeout=_PATIENCE).topics[topic].error is None:
        return
    for answer in client.create_topics([NewTopic(topic, partitions, 1)]).values():
        try:
            answer.result(_PATIENCE)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise


def send(brokers: str, topic: str, lines: Iterable[str]) -> int:
    """Sends lines, in order, to the first partition, and returns how many, once the brokers have them.

    Raises TopicError where they do not take them.
    """
    failed: list[KafkaError] = []
    producer = Producer({"bootstrap.servers": brokers, "enable.idempotence": "true", "log_level": 0})
    sent = 0
    for line in lines:
        producer.produce(topic, line, partition=0, on_delivery=lambda error, _: failed.append(error) if error is not None else None)
        producer.poll(0)
        sent += 1
    left = producer.flush(_PATIENCE)
    if failed or left:
        raise TopicError(f"{topic} at {brokers} took not all of {sent} messages" + (f": {failed[0].str()}" if failed else ""))
    return sent


def main(arguments: list[str]) -> int:
    """The exit code."""
    if len(arguments) != 3:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    brokers, topic, file = arguments
    try:
        make_topic(brokers, topic, 1)
        count = send(brokers, topic, Path(file).read_text("utf-8").splitlines())
    except (TopicError, KafkaException, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{count} messages sent to {topic}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
