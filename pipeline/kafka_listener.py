"""What a Kafka listener speaks, asked of the listener itself: a client that speaks otherwise is only ever hung up on.

librdkafka tells of most such mistakes no more than that all brokers are down, which is what a broker that is away looks like. So a
connection is made, of which nobody is told a secret: TLS or not shows in the handshake, and whether a login is wanted in the answer to
the first question of one (SaslHandshake, https://kafka.apache.org/protocol), which is answered before anybody has logged in.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

_TIMEOUT = 1.5
_PORT = 9092
_HANDSHAKE, _VERSION = 17, 1
_ASKED = b"?"  # no mechanism has this name
_UNSUPPORTED_MECHANISM, _NO_LOGIN = 33, 34
_LARGEST = 4096


@dataclass(frozen=True, slots=True)
class Listener:
    """`login` names the mechanisms of SASL, empty where nobody logs in, None where that is not known."""

    tls: bool
    login: tuple[str, ...] | None

    def fits(self, protocol: str) -> bool:
        """Whether a client with this `security.protocol` is understood, as far as is known."""
        return self.tls == protocol.endswith("SSL") and (self.login is None or bool(self.login) == protocol.startswith("SASL"))

    @property
    def protocol(self) -> str:
        """The `security.protocol` for it."""
        if self.login is None:
            return "SSL or SASL_SSL" if self.tls else "PLAINTEXT or SASL_PLAINTEXT"
        return ("SASL_" if self.login else "") + ("SSL" if self.tls else "PLAINTEXT")


def other_protocol(options: Mapping[str, str]) -> str | None:
    """What to say where the first server that answers speaks otherwise than `security.protocol` says; None where none is known to.

    `options` are librdkafka's, with `bootstrap.servers`. Takes some seconds at most for each server.
    """
    protocol = options.get("security.protocol", "plaintext").upper()
    for name, host, port in _addresses(options.get("bootstrap.servers", "")):
        found = _listener(host, port)
        if found is None:
            continue
        if found.fits(protocol):
            return None
        logins = f" with {', '.join(found.login)}" if found.login else ""
        return f"`security.protocol` is {protocol}, and {name} speaks {found.protocol}{logins}"
    return None


def _addresses(servers: str) -> Iterator[tuple[str, str, int]]:
    for one in servers.split(","):
        name = one.strip().rpartition("://")[2]
        host, colon, port = name.rpartition(":")
        if not colon or host.endswith(":") or (port and not port.isdigit()):  # `host`, or a bare IPv6 address
            host, port = name, ""
        if host:
            yield name, host.strip("[]"), int(port or _PORT)


def _listener(host: str, port: int) -> Listener | None:
    """What listens there; None for what is away, hangs, or is no broker."""
    try:
        with socket.create_connection((host, port), _TIMEOUT) as bare:
            tls = _secured(bare, host)
            if tls is not None:
                with tls, suppress(OSError):
                    return Listener(True, _login(tls))
                return Listener(True, None)  # it may ask for a certificate of ours
        with socket.create_connection((host, port), _TIMEOUT) as bare:
            login = _login(bare)
            return None if login is None else Listener(False, login)
    except (OSError, UnicodeError, OverflowError):
        return None


def _secured(bare: socket.socket, host: str) -> ssl.SSLSocket | None:
    """A TLS connection to whomever; None where the other side hangs up on the handshake or answers with something else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is told to it that others may not know
    try:
        return context.wrap_socket(bare, server_hostname=host)
    except TimeoutError:
        raise  # it hangs, which says nothing
    except (ssl.SSLError, ConnectionError, ValueError):
        return None


def _login(connection: socket.socket) -> tuple[str, ...] | None:
    """The mechanisms of SASL that are offered, none where nobody has to log in; None where the answer is no broker's."""
    body = struct.pack(">hhi", _HANDSHAKE, _VERSION, 1) + struct.pack(">h", -1) + struct.pack(">h", len(_ASKED)) + _ASKED
    connection.sendall(struct.pack(">i", len(body)) + body)
    size = _exactly(connection, 4)
    if size is None or not 10 <= (length := int.from_bytes(size, "big")) <= _LARGEST:
        return None
    answer = _exactly(connection, length)
    if answer is None:
        return None
    number, error, count = struct.unpack_from(">ihi", answer)
    if number != 1 or error not in (_UNSUPPORTED_MECHANISM, _NO_LOGIN):
        return None
    if error == _NO_LOGIN:
        return ()
    return _texts(answer[10:], count) or None


def _texts(encoded: bytes, count: int) -> tuple[str, ...]:
    found: list[str] = []
    for _ in range(min(count, _LARGEST)):
        size = int.from_bytes(encoded[:2], "big")
        text, encoded = encoded[2 : 2 + size], encoded[2 + size :]
        if not text or len(text) < size or not text.isascii():
            return ()
        found.append(text.decode())
    return tuple(found)


def _exactly(connection: socket.socket, size: int) -> bytes | None:
    found = b""
    while len(found) < size:
        more = connection.recv(size - len(found))
        if not more:
            return None
        found += more
    return found
