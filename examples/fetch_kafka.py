"""Fetches and prepares, ahead of time, all that embedded brokers and registries need: `python -m examples.fetch_kafka`."""

from __future__ import annotations

import sys
from contextlib import ExitStack

from examples.embedded_kafka import EmbeddedKafka
from examples.embedded_registry import EmbeddedRegistry
from examples.kafka_artifacts import EmbeddedKafkaError

__all__ = ["main"]


def main() -> int:
    """Prepares everything and says where it is; the exit code."""
    try:
        for kind in (EmbeddedKafka, EmbeddedRegistry):
            with ExitStack() as stack:
                server = kind()
                stack.callback(server.remove)
                sys.stdout.write(f"{server.title}: {server.archive_classes().parent}\n")
    except EmbeddedKafkaError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
