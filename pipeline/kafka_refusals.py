"""Which errors of a Kafka client trying again does not mend, and what to do about them. The same for who reads and who writes."""

from __future__ import annotations

import re
from collections.abc import Mapping

from confluent_kafka import KafkaError

_CREDENTIALS = "check `sasl.mechanism`, `sasl.username`, `sasl.password` and `security.protocol` in `options`"
_CERTIFICATES = "check `ssl.ca.location`, the client's certificate and `security.protocol` in `options`"
_REFUSED = {
    KafkaError._AUTHENTICATION: _CREDENTIALS,
    KafkaError.SASL_AUTHENTICATION_FAILED: _CREDENTIALS,
    KafkaError.UNSUPPORTED_SASL_MECHANISM: _CREDENTIALS,
    KafkaError.ILLEGAL_SASL_STATE: _CREDENTIALS,
    KafkaError._SSL: _CERTIFICATES,
    KafkaError._INVALID_ARG: "check `options`",
}
# The broker does not like our certificate, or we not its: librdkafka tells that by one code or another.
_ALERT = re.compile(r"tls alert|alert number|certificate verify failed", re.IGNORECASE)
# A broker that ends in the middle of a handshake gives the code of a refusal too.
_BROKEN_OFF = re.compile(r"disconnect|connection reset|broken pipe|timed? ?out|unexpected eof", re.IGNORECASE)


def refusal(error: KafkaError, own: Mapping[int, str]) -> str | None:
    """The hint for an error that is for good; None where it may pass. `own`: code -> hint, of what only the asking side meets."""
    code, said = error.code(), error.str()
    hint = _REFUSED.get(code) or own.get(code)
    if hint is not None and not (code == KafkaError._SSL and _BROKEN_OFF.search(said)):
        return hint
    return _CERTIFICATES if _ALERT.search(said) else None
