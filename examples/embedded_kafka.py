"""A real Apache Kafka broker of one's own, for the demonstration, the tests and the benchmarks."""

from __future__ import annotations

import base64
import shutil
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion  # type: ignore[attr-defined]

from examples.file_lock import exclusive
from examples.java_server import JavaServer
from examples.kafka_artifacts import POMS, EmbeddedKafkaError, broker_artifacts
from examples.kafka_listeners import STRANGER, USER, Listeners, addresses, port_count, secured

__all__ = ["EmbeddedKafka", "EmbeddedKafkaError"]

# One broker, quick: nothing waits for others to come, and one that was killed is taken back after a second.
_SETTINGS: Mapping[str, str | int] = {
    "process.roles": "broker,controller",
    "node.id": 1,
    "auto.create.topics.enable": "false",
    "offsets.topic.replication.factor": 1,
    "offsets.topic.num.partitions": 1,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "transaction.state.log.num.partitions": 1,
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": 500,
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
    "share.coordinator.state.topic.num.partitions": 1,
    "group.initial.rebalance.delay.ms": 0,
    "group.consumer.min.heartbeat.interval.ms": 100,
    "group.consumer.heartbeat.interval.ms": 200,
    "group.consumer.assignment.interval.ms": 0,
    "broker.session.timeout.ms": 1000,
    "broker.heartbeat.interval.ms": 200,
    "controller.quorum.election.timeout.ms": 150,
    "controller.quorum.election.backoff.max.ms": 50,
    "log.cleaner.dedupe.buffer.size": 4 * 2**20,
    "num.network.threads": 2,
    "num.io.threads": 2,
}
_QUIET: dict[str, Any] = {"log_level": 0, "reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 100, "error_cb": lambda error: None}


class EmbeddedKafka(JavaServer):
    """One broker (KRaft, its own controller) on free ports of 127.0.0.1, as `JavaServer` says.

    With `password` there are listeners for TLS, mutual TLS and SASL too, two users have that password, and an authorizer
    is at work: see `Listeners`. `settings` are the broker's settings beyond the defaults.
    """

    title: ClassVar[str] = "Kafka"

    def __init__(
        self,
        *,
        directory: Path | None = None,
        password: str | None = None,
        settings: Mapping[str, str | int] | None = None,
        prefix: str = "sluice-kafka-",
        temporary: Path | None = None,
        java_options: Sequence[str] = (),
    ) -> None:
        """Finds Java and the jars, fetching the latter if need be; nothing runs yet.

        Raises EmbeddedKafkaError when Java is missing, or Maven where it is needed.
        """
        self.password = password
        self.settings: dict[str, str | int] = {**_SETTINGS, **(settings or {})}
        super().__init__(
            broker_artifacts(),
            directory=directory,
            temporary=temporary,
            prefix=prefix,
            java_options=["-Xmx256m", *java_options],
            port_count=port_count(password),
        )
        self.data = self.home / "data"

    @property
    def bootstrap_servers(self) -> str:
        """The address of the plain listener. Raises EmbeddedKafkaError before the first start."""
        return self.listeners.plain["bootstrap.servers"]

    @property
    def listeners(self) -> Listeners:
        """librdkafka's options for every way to connect. Raises EmbeddedKafkaError before the first start."""
        return Listeners.at(self.ports, self.home, self.password)

    @property
    def tls(self) -> dict[str, str]:
        """librdkafka's options for TLS, with the address; empty without `password`."""
        return self.listeners.tls

    @property
    def sasl(self) -> dict[str, str]:
        """librdkafka's options for SASL/SCRAM over TLS as a user who may do everything, with the address; empty without `password`."""
        return self.listeners.sasl

    def restart(self, *, settings: Mapping[str, str | int] | None = None) -> None:
        """Shuts down and starts again with the same ports and data, with `settings` in addition to the present ones."""
        self.settings.update(settings or {})
        super().restart()

    def _command(self, ports: Sequence[int]) -> list[str]:
        self._write_settings(tuple(ports))
        if not (self.data / "meta.properties").exists():
            self._format()
        return [*self._class_path(), "kafka.Kafka", "server.properties"]

    def _class_path(self) -> list[str]:
        # In a fixed order: an archive of classes is for one class path.
        jars = ":".join(str(jar) for jar in sorted(self._artifacts.glob("*.jar")))
        return [f"-Dlog4j2.configurationFile={POMS / 'log4j2.xml'}", "-cp", jars]

    def _write_settings(self, ports: tuple[int, ...]) -> None:
        settings: dict[str, str | int] = {"log.dirs": str(self.data), **addresses(ports, self.password)}
        if self.password is not None:
            settings.update(secured(self.home))
        settings.update(self.settings)
        (self.home / "server.properties").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))

    def _format(self) -> None:
        """Makes the data folder. What `format` writes is the same for all brokers but for two random ids, so it runs once for all."""
        formatted = self._artifacts / "formatted"
        with exclusive(self._artifacts / "formatted.lock"):
            if not formatted.exists():
                self._run_format()
                (self.data / "meta.properties").unlink()
                self.data.rename(formatted)
        shutil.rmtree(self.data, ignore_errors=True)
        shutil.copytree(formatted, self.data)
        ids = f"version=1\nnode.id={self.settings['node.id']}\ncluster.id={_kafka_id()}\ndirectory.id={_kafka_id()}\n"
        (self.data / "meta.properties").write_text(ids)

    def _run_format(self) -> None:
        shutil.rmtree(self.data, ignore_errors=True)
        tool = ["kafka.tools.StorageTool", "format", "-t", _kafka_id(), "-c", "server.properties"]
        command = [str(self._java.program), "-XX:TieredStopAtLevel=1", *self._class_path(), *tool]
        done = subprocess.run(command, cwd=self.home, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise EmbeddedKafkaError(f"Kafka could not format {self.data}:\n{(done.stdout + done.stderr)[-4000:]}")

    def _answers(self, ports: Sequence[int]) -> bool:
        client = AdminClient({"bootstrap.servers": f"127.0.0.1:{ports[0]}", **_QUIET})
        try:
            return bool(client.list_topics(timeout=1).brokers)
        except KafkaException:
            return False

    def _served(self, ports: Sequence[int]) -> None:
        if self.password is None:
            return
        # Through the server and not by `format --add-scram`: its command line would show the password to everybody.
        client = AdminClient({"bootstrap.servers": f"127.0.0.1:{ports[0]}", **_QUIET})
        kind = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        changes: list[Any] = [UserScramCredentialUpsertion(user, kind, self.password.encode()) for user in (USER, STRANGER)]
        for answer in client.alter_user_scram_credentials(changes).values():
            answer.result(timeout=30)


def _kafka_id() -> str:
    """A random id as Kafka writes them: 16 bytes in base64 for URLs, never with a dash in front."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text
