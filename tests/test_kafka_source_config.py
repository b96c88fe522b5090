"""What `check` says, without any broker, of a block that names a topic."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.load import load_pipeline
from sources.kafka.config import KafkaConfig

_FILE = """
pipeline: shop
sources:
  aws:
    type: kafka
    bootstrap_servers: [a:9092, b:9092]
    topic: orders
    format: json
    schema: {{id: bigint, name: text}}
{more}
sinks:
  out: {{type: duckdb, path: out.duckdb}}
"""


def _said(tmp_path: Path, more: str = "", *without: str) -> str:
    """Every problem of a file, or nothing."""
    lines = _FILE.splitlines(keepends=True)
    file = tmp_path / "pipeline.yaml"
    file.write_text("".join(line for line in lines if not any(line.strip().startswith(key) for key in without)).format(more=more))
    try:
        load_pipeline(file, {})
    except ConfigError as error:
        return str(error)
    return ""


def test_a_sound_block_has_no_problems(tmp_path: Path) -> None:
    options = "    options: {sasl.password: s3cret, ssl.ca.location: ca.pem, enable.ssl.certificate.verification: false}"
    assert _said(tmp_path, options) == ""


@pytest.mark.parametrize(
    "more, without, said",
    [
        ("    format: jsonn", ("format: json",), "pipeline.yaml:9: `sources.aws.format`"),
        ("", ("topic",), "pipeline.yaml:4: `sources.aws.topic` is missing"),
        ("    topc: x", (), "did you mean topic?"),
        ("    format: avro", ("format: json",), "needs a `schema_registry`"),
        ("    schema_registry: {url: 'me:hunter2@registry/x'}", (), "pipeline.yaml:10: `sources.aws.schema_registry.url`"),
        ("    schema_registry: {url: 'ftp://me:hunter2@registry/x'}", (), "https://HOST:PORT/PATH"),
        ("    schema_registry: {url: 'http://registry:hunter2/x'}", (), "https://HOST:PORT/PATH"),
        (
            "    options: {sasl.passwrd: hunter2}",
            (),
            "pipeline.yaml:10: `sources.aws.options`: librdkafka has no option `sasl.passwrd`: did you mean sasl.password?",
        ),
        ("    options: {security.protocol: TLS}", (), "security.protocol"),
        ("    options: {group.id: mine}", (), "`group.id` is set by Sluice itself"),
        ("    options: {error_cb: print}", (), "cannot be given in a file"),
        (
            "    bootstrap_servers: 'SASL_SSL://me:hunter2@a:9092'",
            ("bootstrap_servers",),
            "pipeline.yaml:9: `sources.aws.bootstrap_servers`",
        ),
        ("    paths: {nam: a.b}", (), "`nam` is in `paths` and not in the schema: did you mean name?"),
        ("    schema: {id: 'numeric(3,'}", ("schema",), "'numeric(3,' is not a Postgres type"),
        ("", ("schema",), "nothing says which fields"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, more: str, without: tuple[str, ...], said: str) -> None:
    found = _said(tmp_path, more, *without)
    assert said in found
    assert "hunter2" not in found


def test_secrets_show_nowhere_and_paths_count_from_the_file(tmp_path: Path) -> None:
    options = {
        "sasl.password": "hunter2",
        "ssl.key.pem": "hunter2",
        "sasl.oauthbearer.client.secret": "hunter2",
        "ssl.ca.location": "ca.pem",
    }
    block = {"bootstrap_servers": "a:9092", "topic": "t", "format": "json", "schema": {"id": "bigint"}, "options": options}
    config = KafkaConfig.model_validate(block, context={"folder": tmp_path})
    assert "hunter2" not in repr(config) + str(config) + config.model_dump_json()
    assert config.client["sasl.password"] == "hunter2"
    assert config.client["ssl.ca.location"] == str(tmp_path / "ca.pem")
