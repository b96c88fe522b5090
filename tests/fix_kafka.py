"""Real Kafka brokers and schema registries for tests: one of each for all test processes of a run, and some of a test's own."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from examples.embedded_kafka import EmbeddedKafka, EmbeddedKafkaError
from examples.embedded_registry import EmbeddedRegistry
from examples.kafka_artifacts import broker_artifacts, find_java, registry_artifacts
from examples.kafka_listeners import Listeners
from tests.fix_postgres import missing_server
from tests.kafka_place import Kafka, OwnKafka
from tests.shared_server import PASSWORD, shared

_names = itertools.count()

LaunchKafka = Callable[..., OwnKafka]
LaunchRegistry = Callable[[], EmbeddedRegistry]


@dataclass(frozen=True)
class Registry:
    """A running schema registry; `url` is the base of Confluent's REST API, `prefix` begins subjects that nobody else uses."""

    url: str
    prefix: str

    def register(self, subject: str, schema: str, kind: str = "AVRO") -> int:
        """Registers a schema (AVRO, JSON or PROTOBUF) and returns its id. Raises httpx.HTTPStatusError when it is refused."""
        answer = httpx.post(f"{self.url}/subjects/{subject}/versions", json={"schema": schema, "schemaType": kind}, timeout=30)
        answer.raise_for_status()
        return int(answer.json()["id"])

    def set_compatibility(self, subject: str, level: str) -> None:
        """Sets how schemas of a subject may change, as BACKWARD or NONE."""
        httpx.put(f"{self.url}/config/{subject}", json={"compatibility": level}, timeout=30).raise_for_status()


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of one test run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def kafka_listeners(run_folder: Path) -> Iterator[Listeners]:
    """How to connect to the broker that all tests share."""
    _need(find_java, broker_artifacts)
    with shared("kafka", run_folder) as about:
        yield Listeners(**{name: about[name] for name in Listeners.__dataclass_fields__})


@pytest.fixture(scope="session")
def registry_url(run_folder: Path) -> Iterator[str]:
    """Where the schema registry is that all tests share."""
    _need(find_java, registry_artifacts)
    with shared("registry", run_folder) as about:
        yield about["url"]


@pytest.fixture
def kafka(kafka_listeners: Listeners) -> Iterator[Kafka]:
    """The shared broker, with a prefix of the test's own; the topics below it are deleted after the test."""
    place = Kafka(kafka_listeners, _prefix())
    yield place
    place.clean_up()


@pytest.fixture
def registry(registry_url: str) -> Registry:
    """The shared schema registry, with a prefix of the test's own."""
    return Registry(registry_url, _prefix())


@pytest.fixture
def launch_kafka() -> Iterator[LaunchKafka]:
    """Starts brokers of a test's own: `launch_kafka(secure=False, **options)`, the options being EmbeddedKafka's.

    With `secure` there are TLS and SASL listeners too, with the tests' password.
    """
    _need(find_java, broker_artifacts)
    with contextlib.ExitStack() as stack:

        def start(*, secure: bool = False, **options: Any) -> OwnKafka:
            server = stack.enter_context(EmbeddedKafka(password=PASSWORD if secure else None, **options))
            return OwnKafka(server.listeners, _prefix(), server=server)

        yield start


@pytest.fixture
def launch_registry() -> Iterator[LaunchRegistry]:
    """Starts schema registries of a test's own, to be stopped, killed and paused: `launch_registry()`."""
    _need(find_java, registry_artifacts)
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(EmbeddedRegistry())


def _prefix() -> str:
    return f"test-{os.getpid()}-{next(_names)}"


def _need(*things: Callable[[], object]) -> None:
    """Skips the test, or fails it where nothing may be skipped, if Java is missing, or what Maven fetches and Maven too."""
    try:
        for thing in things:
            thing()
    except EmbeddedKafkaError as error:
        missing_server(str(error))
