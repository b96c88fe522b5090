"""Whether reading can go on where it stopped: the same topic, which still holds what comes next."""

from __future__ import annotations

from sources.kafka.broker import Broker, Topic
from sources.kafka.config import KafkaConfig
from sources.kafka.errors import UnknownTopic, deleted, expired, fewer_partitions, recreated, truncated
from sources.kafka.position import Watermark


def known_position(config: KafkaConfig, watermark: str | None) -> Watermark | None:
    """Where the journal stands; None where nothing has been read, or another topic: a source whose `topic` was changed is a new one."""
    if not watermark:
        return None
    known = Watermark.decode(watermark)
    return known if known.topic == config.topic else None


def survey(config: KafkaConfig, broker: Broker, known: Watermark | None) -> Topic:
    """The topic as it is. Raises PositionLostError where what comes next is gone, Refused and TransientError as `Broker` does."""
    if known is None:
        return broker.topic()
    try:
        found = broker.topic()
    except UnknownTopic:
        raise deleted(config.topic, config.bootstrap_servers) from None
    check_same(known, found)
    begins, ends = broker.begins(known.offsets), broker.ends(known.offsets, committed=False)
    for partition, offset in known.offsets.items():
        if offset > ends[partition]:
            raise truncated(config.topic, partition, offset, ends[partition])
        if offset < begins[partition]:
            raise expired(config.topic, partition, offset, begins[partition])
    return found


def check_same(known: Watermark, found: Topic) -> None:
    """Raises PositionLostError for a topic that has only its name in common with the one that was read."""
    if known.id and found.id and known.id != found.id:
        raise recreated(known.topic)
    gone = sorted(known.offsets.keys() - set(found.partitions))
    if gone:
        raise fewer_partitions(known.topic, gone)
