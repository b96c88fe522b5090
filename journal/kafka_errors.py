"""What Kafka says went wrong, as one of our own errors. Codes decide, never words, but where TLS has only words."""

from __future__ import annotations

import logging

from confluent_kafka import KafkaError

from pipeline.errors import Refused, SluiceError, TransientError
from pipeline.kafka_refusals import refusal

FENCED = frozenset({KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH})
UNKNOWN_TOPIC = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_ID})
TOO_LARGE = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG_SIZE})

SILENT = logging.getLogger("sluice.librdkafka")
SILENT.disabled = True
"""For clients: what they log is what they say in errors too."""

_AWAY = "are the brokers running, and do `bootstrap_servers` and `security.protocol` name the right listener?"
_GRANTS = (
    "the user of `options` needs CREATE, DESCRIBE, DESCRIBE_CONFIGS, READ and WRITE on the topics, WRITE and DESCRIBE on the transactional"
    " id; docs/kafka-sink.md and docs/kafka-journal.md have the commands"
)
_REFUSED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: _GRANTS,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: _GRANTS,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: _GRANTS,
    KafkaError.POLICY_VIOLATION: "the brokers have a policy for new topics: make the topic by hand",
    KafkaError.INVALID_REPLICATION_FACTOR: "`default.replication.factor` is more than there are brokers: make the topic by hand",
    KafkaError.INVALID_PARTITIONS: "set `partitions` to at least 1",
    KafkaError.TOPIC_EXCEPTION: "give it another name with `topic`",
    KafkaError.INVALID_TRANSACTION_TIMEOUT: "lower `transaction.timeout.ms` in `options` to the brokers' `transaction.max.timeout.ms`",
    KafkaError._UNSUPPORTED_FEATURE: "the brokers are too old for transactions: 2.5 or newer is needed",
}


def from_kafka(error: KafkaError, what: str) -> SluiceError:
    """Refused for credentials, certificates and grants; TransientError for everything else. `what` says what was tried, and where."""
    code = error.code()
    message = f"{what}: {error.str()} ({error.name()})"
    hint = refusal(error, _REFUSED)
    if hint is not None:
        return Refused(message, hint=hint)
    if code in UNKNOWN_TOPIC:
        return TransientError(message, hint="was the topic deleted? When the process starts it is made again")
    if code in TOO_LARGE:
        return TransientError(message, hint="raise `max.message.bytes` of the topic, or lower `batch.size` in `options` to it")
    return TransientError(message, hint=_AWAY)
