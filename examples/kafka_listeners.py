"""How clients reach an embedded broker, and how the broker is told: plain, TLS, mutual TLS, SASL, OAuth."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from examples.certificates import Authority

__all__ = ["STRANGER", "USER", "Listeners", "addresses", "port_count", "secured"]

USER = "sluice"  # may do everything
STRANGER = "stranger"  # may log in, and nothing else
_CLIENT = "client"
_OAUTH = "org.apache.kafka.common.security.oauthbearer"
_NAMES = ("PLAIN", "TLS", "MTLS", "SASL")
_PROTOCOLS = {"PLAIN": "PLAINTEXT", "TLS": "SSL", "MTLS": "SSL", "SASL": "SASL_SSL"}


@dataclass(frozen=True)
class Listeners:
    """librdkafka's options for each way to connect, whole: `Producer(listeners.tls)` works. Empty are those the broker lacks.

    tls: encrypted, the client is nobody in particular. mutual_tls: the client shows a certificate. sasl: SCRAM-SHA-512 over
    TLS, as a user who may do everything. stranger: the same as a user who may log in and do nothing. oauth: OAUTHBEARER with a
    token that nobody signed, over TLS.
    """

    plain: dict[str, str]
    tls: dict[str, str]
    mutual_tls: dict[str, str]
    sasl: dict[str, str] = field(repr=False)
    stranger: dict[str, str] = field(repr=False)
    oauth: dict[str, str]

    @classmethod
    def at(cls, ports: tuple[int, ...], folder: Path, password: str | None) -> Listeners:
        """The options for a broker with these ports (plain, then those that `secured` sets up) and certificates in `folder`."""
        plain = {"bootstrap.servers": f"127.0.0.1:{ports[0]}"}
        if password is None:
            return cls(plain, {}, {}, {}, {}, {})
        trust = {"ssl.ca.location": str(folder / "ca.pem")}
        tls, mutual, sasl = ({"bootstrap.servers": f"127.0.0.1:{port}", **trust} for port in ports[1:4])
        identity = {"ssl.certificate.location": str(folder / "client.pem"), "ssl.key.location": str(folder / "client.key")}
        scram = {**sasl, "security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-512"}
        token = {"sasl.oauthbearer.config": f"principal={USER}", "enable.sasl.oauthbearer.unsecure.jwt": "true"}
        return cls(
            plain=plain,
            tls={**tls, "security.protocol": "SSL"},
            mutual_tls={**mutual, "security.protocol": "SSL", **identity},
            sasl={**scram, "sasl.username": USER, "sasl.password": password},
            stranger={**scram, "sasl.username": STRANGER, "sasl.password": password},
            oauth={**sasl, "security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER", **token},
        )


def secured(folder: Path) -> dict[str, str]:
    """The broker's settings for listeners beyond the plain one; makes the certificates in `folder` if they are not there yet."""
    if not (folder / "client.key").exists():
        _make_certificates(folder)
    return {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(folder / "server.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(folder / "ca.pem"),
        "listener.name.mtls.ssl.client.auth": "required",
        "listener.name.sasl.sasl.enabled.mechanisms": "SCRAM-SHA-512,OAUTHBEARER",
        "listener.name.sasl.scram-sha-512.sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
        "listener.name.sasl.oauthbearer.sasl.jaas.config": f"{_OAUTH}.OAuthBearerLoginModule required;",
        "listener.name.sasl.oauthbearer.sasl.server.callback.handler.class": (
            f"{_OAUTH}.internals.unsecured.OAuthBearerUnsecuredValidatorCallbackHandler"
        ),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": f"User:ANONYMOUS;User:{USER};User:CN={_CLIENT}",
    }


def addresses(ports: tuple[int, ...], password: str | None) -> dict[str, str]:
    """The broker's settings that say where it listens; the last port is for the controller."""
    names = _NAMES if password is not None else _NAMES[:1]
    served = ",".join(f"{name}://127.0.0.1:{port}" for name, port in zip(names, ports, strict=False))
    return {
        "listeners": f"{served},CONTROLLER://127.0.0.1:{ports[-1]}",
        "advertised.listeners": served,
        "listener.security.protocol.map": ",".join([*(f"{name}:{_PROTOCOLS[name]}" for name in names), "CONTROLLER:PLAINTEXT"]),
        "inter.broker.listener.name": "PLAIN",
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.voters": f"1@127.0.0.1:{ports[-1]}",
    }


def port_count(password: str | None) -> int:
    """How many ports a broker takes, the controller's among them."""
    return 2 if password is None else len(_NAMES) + 1


def _make_certificates(folder: Path) -> None:
    authority = Authority.make()
    server, client = authority.certify("server"), authority.certify(_CLIENT)
    _write(folder / "ca.pem", authority.pem)
    _write(folder / "server.pem", server.key + server.certificate)
    _write(folder / "client.pem", client.certificate)
    _write(folder / "client.key", client.key)


def _write(path: Path, content: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
