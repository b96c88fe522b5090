"""What a Kafka client says went wrong, as one of our own errors. Codes decide, never words, but where TLS has only words."""

from __future__ import annotations

from confluent_kafka import KafkaError

from pipeline.errors import PositionLostError, Refused, SluiceError, TransientError
from pipeline.kafka_refusals import refusal

RESYNC = "`sluice resync` forgets the position and reads the topic again from its earliest message"

_AWAY = "is the broker running, and do `bootstrap_servers` and `security.protocol` name the right listener?"
_GRANTS = "the user of `options` needs DESCRIBE and READ on the topic"

_REFUSED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: _GRANTS,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: _GRANTS,
    KafkaError._UNSUPPORTED_FEATURE: "the broker is too old for this",
    KafkaError.TOPIC_EXCEPTION: "check `topic`",
}
UNKNOWN_TOPIC = {
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError.UNKNOWN_TOPIC_ID,
    KafkaError.INCONSISTENT_TOPIC_ID,
}


def from_kafka(error: KafkaError, server: str, topic: str) -> SluiceError:
    """Refused for credentials, certificates, grants and a topic that is not there; TransientError for everything else."""
    code = error.code()
    said = f"{server}: {error.str()} ({error.name()})"
    if code in UNKNOWN_TOPIC:
        return missing(topic, server)
    hint = refusal(error, _REFUSED)
    if hint is not None:
        return Refused(f"topic {topic} at {said}", hint=hint)
    return TransientError(f"topic {topic} at {said}", hint=_AWAY)


class UnknownTopic(Refused):
    """There is no such topic."""


def missing(topic: str, server: str) -> UnknownTopic:
    """Reading a topic makes none."""
    return UnknownTopic(f"there is no topic {topic} at {server}", hint="check its name, or make it: Sluice reads topics, and makes none")


def recreated(topic: str) -> PositionLostError:
    """It has another id, or its offsets went back."""
    return PositionLostError(f"the topic {topic} was deleted and made again: its offsets are not those that were read", hint=RESYNC)


def deleted(topic: str, server: str) -> PositionLostError:
    """It was there, and is not."""
    return PositionLostError(f"the topic {topic} was deleted at {server}", hint=f"when it has been made again, {RESYNC}")


def fewer_partitions(topic: str, gone: list[int]) -> PositionLostError:
    """Which no topic can come to have."""
    shown = ", ".join(map(str, gone))
    return PositionLostError(f"the topic {topic} lacks partitions that were read ({shown}): it was deleted and made again", hint=RESYNC)


def expired(topic: str, partition: int, position: int, earliest: int) -> PositionLostError:
    """Messages went before they were read: by retention, or by somebody who deleted records."""
    lost = f"messages went before they were read: the partition begins at {earliest} now"
    return PositionLostError(f"{_at(topic, partition, position)}; {lost}", hint=f"they cannot be read any more; {RESYNC}")


def truncated(topic: str, partition: int, position: int, end: int) -> PositionLostError:
    """Messages went that had been read, and others may come in their place."""
    return PositionLostError(f"{_at(topic, partition, position)}; the partition was truncated: it ends at {end} now", hint=RESYNC)


def _at(topic: str, partition: int, position: int) -> str:
    return f"topic {topic}, partition {partition}: the offset {position}, which comes next, is out of range"
