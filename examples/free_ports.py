"""Ports for servers that must know theirs before they start."""

from __future__ import annotations

import random
import socket

__all__ = ["free_port"]

# Below the range from which kernels take ports for outgoing connections, so a stopped server finds its own port free again.
_PORTS = range(20_000, 32_000)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody holds at this instant; a server that loses the race for it tries another."""
    while True:
        port = random.choice(_PORTS)  # noqa: S311 - spread, not secrecy
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
