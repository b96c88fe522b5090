"""A real schema registry of one's own, speaking Confluent's REST API, for the tests."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from examples.java_server import JavaServer
from examples.kafka_artifacts import EmbeddedKafkaError, registry_artifacts

__all__ = ["EmbeddedRegistry"]


class EmbeddedRegistry(JavaServer):
    """One schema registry (Apicurio's) on a free port of 127.0.0.1, as `JavaServer` says.

    It keeps schemas in memory and forgets them when it ends.
    """

    title: ClassVar[str] = "the schema registry"

    def __init__(self, *, directory: Path | None = None, temporary: Path | None = None, prefix: str = "sluice-registry-") -> None:
        """Finds Java and the artifacts; nothing runs yet. Raises EmbeddedKafkaError when one of them is missing."""
        super().__init__(registry_artifacts(), directory=directory, temporary=temporary, prefix=prefix, java_options=["-Xmx384m"])

    @property
    def url(self) -> str:
        """The base of Confluent's REST API. Raises EmbeddedKafkaError before the first start."""
        return _url(self.ports)

    def _command(self, ports: Sequence[int]) -> list[str]:
        jars = sorted(self._artifacts.glob("*-runner.jar"))
        if not jars:
            raise EmbeddedKafkaError(f"{self._artifacts} holds no registry", hint="delete that folder; it is fetched again")
        settings = {"quarkus.http.host": "127.0.0.1", "quarkus.http.port": ports[0], "quarkus.http.access-log.enabled": "false"}
        return [*(f"-D{name}={value}" for name, value in settings.items()), "-jar", str(jars[-1])]

    def _answers(self, ports: Sequence[int]) -> bool:
        try:
            with urllib.request.urlopen(f"{_url(ports)}/subjects", timeout=1) as answer:  # noqa: S310 - of this machine
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


def _url(ports: Sequence[int]) -> str:
    return f"http://127.0.0.1:{ports[0]}/apis/ccompat/v7"
