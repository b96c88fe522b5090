"""`options` of a Kafka block: librdkafka's own names, checked offline by librdkafka itself, with what is secret kept so."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo

from pipeline.names import nearest

Options = Mapping[str, str | SecretStr]
Written = dict[str, str | int | float | bool]
"""As a person writes them."""

_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")  # https://kafka.apache.org/documentation: what a broker takes


def _servers(value: object) -> object:
    return ",".join(map(str, value)) if isinstance(value, list) else value


def _without_login(servers: str) -> str:
    if "@" in servers:  # the address is told wherever something is wrong with it
        raise ValueError("an address is HOST:PORT: write a user and a password as `sasl.username` and `sasl.password` in `options`")
    return servers


def is_topic(name: str) -> bool:
    """Whether a broker takes this as the name of a topic."""
    return _TOPIC.fullmatch(name) is not None and name not in (".", "..")


def _topic(name: str) -> str:
    if not is_topic(name):
        raise ValueError("the name of a topic has 1 to 249 letters, digits, `.`, `_` and `-`")
    return name


def _prefix(text: str) -> str:
    if not is_topic(text) or len(text) > 100:
        raise ValueError("what topics begin with has 1 to 100 letters, digits, `.`, `_` and `-`")
    return text


Servers = Annotated[
    str, BeforeValidator(_servers, json_schema_input_type=str | list[str]), Field(min_length=1), AfterValidator(_without_login)
]
"""Some of the brokers, as HOST:PORT: a list of them, or text with commas."""
TopicName = Annotated[str, AfterValidator(_topic)]
TopicPrefix = Annotated[str, AfterValidator(_prefix)]

OURS = frozenset(
    {
        "acks", "allow.auto.create.topics", "auto.offset.reset", "bootstrap.servers", "delivery.report.only.error", "enable.auto.commit",
        "enable.idempotence", "enable.partition.eof", "group.id", "isolation.level", "metadata.broker.list", "request.required.acks",
        "transactional.id",
    }
)  # fmt: skip
"""What Sluice sets itself where it writes in transactions."""

_SECRET = re.compile(r"password|passphrase|secret|(^|[._])(key|pem|token)([._]|$)|oauthbearer\.(config|extensions)", re.IGNORECASE)
_FILES = re.compile(r"\.(location|file|keytab)$")
_NO_FILE = {"probe"}  # librdkafka's word for the system's own certificates
_FOREIGN = re.compile(r"_cb$|^(logger|on_commit|default\.topic\.config|plugin\.library\.paths|opaque|interceptors)$")
_LAST = "sluice.no.such.option"
_REFUSED = re.compile(r'No such configuration property: "(?P<name>[^"]*)"')
_NAMES = re.findall(r"\S+", """
    allow.auto.create.topics api.version.request api.version.request.timeout.ms broker.address.family check.crcs
    client.dns.lookup client.id client.rack connections.max.idle.ms debug enable.metrics.push
    enable.sasl.oauthbearer.unsecure.jwt enable.ssl.certificate.verification fetch.error.backoff.ms fetch.max.bytes
    fetch.message.max.bytes fetch.min.bytes fetch.queue.backoff.ms fetch.wait.max.ms https.ca.location https.ca.pem
    log.connection.close log_level max.in.flight.requests.per.connection max.partition.fetch.bytes message.max.bytes
    metadata.max.age.ms metadata.recovery.strategy queued.max.messages.kbytes queued.min.messages
    receive.message.max.bytes reconnect.backoff.max.ms reconnect.backoff.ms retry.backoff.max.ms retry.backoff.ms
    sasl.kerberos.keytab sasl.kerberos.kinit.cmd sasl.kerberos.min.time.before.relogin sasl.kerberos.principal
    sasl.kerberos.service.name sasl.mechanism sasl.mechanisms sasl.oauthbearer.assertion.algorithm
    sasl.oauthbearer.assertion.claim.aud sasl.oauthbearer.assertion.claim.exp.seconds
    sasl.oauthbearer.assertion.claim.iss sasl.oauthbearer.assertion.claim.jti.include
    sasl.oauthbearer.assertion.claim.nbf.seconds sasl.oauthbearer.assertion.claim.sub sasl.oauthbearer.assertion.file
    sasl.oauthbearer.assertion.jwt.template.file sasl.oauthbearer.assertion.private.key.file
    sasl.oauthbearer.assertion.private.key.passphrase sasl.oauthbearer.assertion.private.key.pem
    sasl.oauthbearer.client.credentials.client.id sasl.oauthbearer.client.credentials.client.secret
    sasl.oauthbearer.client.id sasl.oauthbearer.client.secret sasl.oauthbearer.config sasl.oauthbearer.extensions
    sasl.oauthbearer.grant.type sasl.oauthbearer.metadata.authentication.type sasl.oauthbearer.method
    sasl.oauthbearer.scope sasl.oauthbearer.sub.claim.name sasl.oauthbearer.token.endpoint.url sasl.password
    sasl.username security.protocol session.timeout.ms socket.connection.setup.timeout.ms socket.keepalive.enable
    socket.max.fails socket.nagle.disable socket.receive.buffer.bytes socket.send.buffer.bytes socket.timeout.ms
    ssl.ca.certificate.stores ssl.ca.location ssl.ca.pem ssl.certificate.location ssl.certificate.pem ssl.cipher.suites
    ssl.crl.location ssl.curves.list ssl.endpoint.identification.algorithm ssl.engine.id ssl.engine.location
    ssl.key.location ssl.key.password ssl.key.pem ssl.keystore.location ssl.keystore.password ssl.providers
    ssl.sigalgs.list statistics.interval.ms topic.metadata.refresh.interval.ms acks batch.num.messages batch.size
    compression.codec compression.level compression.type delivery.timeout.ms enable.idempotence linger.ms
    message.timeout.ms partitioner queue.buffering.max.kbytes queue.buffering.max.messages queue.buffering.max.ms
    request.timeout.ms retries sticky.partitioning.linger.ms transaction.timeout.ms
""")  # fmt: skip
"""What a misspelt name may have meant; librdkafka, not this list, says which names there are."""


def is_secret(name: str) -> bool:
    """Whether the value of an option is never shown."""
    return _SECRET.search(name) is not None and not name.endswith((".location", ".file"))


def checked(reserved: Collection[str]) -> Callable[[object, ValidationInfo], object]:
    """A validator of `options`: names and values that librdkafka takes, without those that Sluice sets itself.

    Paths count from the file's folder. Secrets come out as SecretStr, everything else as text. Raises ValueError for the first that is
    wrong, without its value where that is a secret. Connects to nothing.
    """

    def check(value: object, info: ValidationInfo) -> object:
        if not isinstance(value, dict):
            return value
        found: dict[str, str | SecretStr] = {}
        for name, written in value.items():
            if name in reserved:
                raise ValueError(f"`{name}` is set by Sluice itself")
            if not isinstance(written, str | int | float):
                raise ValueError(f"`{name}` is neither text nor a number nor true or false")
            text = str(written).lower() if isinstance(written, bool) else str(written)
            if _FILES.search(str(name)) and text not in _NO_FILE:
                text = str(Path((info.context or {}).get("folder", ""), Path(text).expanduser()))
            found[str(name)] = SecretStr(text) if is_secret(str(name)) else text
        _ask(found)
        return found

    return check


def revealed(options: Options) -> dict[str, str]:
    """The options for librdkafka alone: secrets are in the clear."""
    return {name: value.get_secret_value() if isinstance(value, SecretStr) else value for name, value in options.items()}


def _ask(options: Options) -> None:
    """librdkafka takes options in order and stops at the first that is wrong; the last here always is, so that no client is made."""
    from confluent_kafka import Consumer, KafkaException

    foreign = next((name for name in options if _FOREIGN.search(name)), None)
    if foreign is not None:
        raise ValueError(f"`{foreign}` cannot be given in a file")
    try:
        Consumer({"group.id": "check", **revealed(options), _LAST: ""})
    except KafkaException as error:
        said = error.args[0].str()
        unknown = _REFUSED.search(said)
        if unknown is None:
            raise ValueError(_without_secrets(said, options)) from None
        if unknown["name"] != _LAST:
            hint = nearest(unknown["name"], _NAMES)
            raise ValueError(f"librdkafka has no option `{unknown['name']}`" + (f": {hint}" if hint else "")) from None


def _without_secrets(said: str, options: Options) -> str:
    for value in options.values():
        if isinstance(value, SecretStr) and value.get_secret_value():
            said = said.replace(value.get_secret_value(), "***")
    return said
