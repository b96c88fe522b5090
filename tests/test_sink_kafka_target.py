"""Topics as they are found and made, routes into them, and what stops a Kafka sink: on a real broker."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from confluent_kafka.admin._acl import AclBinding, AclOperation, AclPermissionType
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType

from dataflows.build import needs_recall
from examples.kafka_listeners import STRANGER
from journal.batch import Op
from journal.schema import Column, TableSchema
from pipeline.errors import ConfigError, Refused, SinkShapeError, TransientError
from pipeline.load import load_pipeline
from sinks.kafka import KafkaSink
from sinks.kafka_config import KafkaConfig
from tests.fix_kafka import Registry
from tests.fix_pipeline import MakePipeline
from tests.fix_postgres import Database
from tests.kafka_place import Kafka
from tests.kafka_sink_place import KafkaPlace
from tests.sink_batches import EVENTS, ORDERS, delete, insert, many, marker, read, truncate, update
from tests.sink_place import JOURNAL, Hand, mirror
from tests.waiting import wait_for


@pytest.fixture
def place(kafka: Kafka) -> KafkaPlace:
    return KafkaPlace(kafka, partitions=3)


@pytest.fixture
def hand(place: KafkaPlace) -> Hand:
    return Hand(place)


def _config(place: KafkaPlace, topic: str, name: str) -> str:
    resource = ConfigResource(ResourceType.TOPIC, topic)
    return str(place.kafka.admin.describe_configs([resource])[resource].result(60)[name].value)


def test_a_topic_is_made_compacted_with_the_partitions_that_are_asked_for(place: KafkaPlace, hand: Hand) -> None:
    hand.write(mirror(ORDERS), insert(id="1"))
    topic = place.topic("orders")
    assert len(place.kafka.admin.list_topics(topic, timeout=30).topics[topic].partitions) == 3
    assert _config(place, topic, "cleanup.policy") == "compact"


def test_a_topic_that_is_there_is_used_as_it_is(place: KafkaPlace, hand: Hand) -> None:
    topic = place.kafka.make_topic(5, name=place.topic("orders"))
    assert not any(topic in statement for statement in hand.sink.plan([mirror(ORDERS)]))
    hand.write(mirror(ORDERS), *(insert(id=str(i)) for i in range(50)))
    assert {message.partition for message in place.kafka.consume(topic)} == {0, 1, 2, 3, 4}


def test_rows_without_a_key_are_told_once_and_their_changes_are_refused(place: KafkaPlace, hand: Hand) -> None:
    target = mirror(EVENTS)
    row = {"kind": "a", "note": None}
    refused = hand.write(target, insert(**row), delete(**row), update({"kind": "b", "note": None}, old=row), insert(**row), truncate())
    assert [one.row for one in refused] == [1, 2]
    assert all("no key" in one.message for one in refused)
    assert [message.key for message in place.kafka.consume(place.topic("events"))] == [None, None]
    assert _config(place, place.topic("events"), "cleanup.policy") == "delete"
    assert len(hand.live(target)) == 2
    assert not hand.write(mirror(EVENTS, on_delete="ignore"), delete(**row), update({"kind": "b", "note": None}, old=row))
    assert sorted(str(row["kind"]) for row in hand.live(target)) == ["a", "a", "b"]


def test_rows_without_a_key_do_not_go_into_a_compacted_topic(place: KafkaPlace, hand: Hand) -> None:
    place.kafka.make_topic(name=place.topic("events"), cleanup_policy="compact")
    hand.sink.begin()
    with pytest.raises(SinkShapeError, match="compacted") as met:
        hand.put(mirror(EVENTS), insert(kind="a"))
    hand.sink.rollback()
    assert "cleanup.policy=delete" in str(met.value.hint)


def test_a_message_that_the_topic_does_not_take_is_refused_and_its_neighbours_are_told(place: KafkaPlace, hand: Hand) -> None:
    place.kafka.make_topic(name=place.topic("orders"), cleanup_policy="compact", max_message_bytes=50_000)
    hand.sink.begin()
    with pytest.raises(TransientError, match="50000 bytes"):  # not even a batch of small ones
        hand.put(mirror(ORDERS), insert(id="1"))
    hand.sink.open(JOURNAL)
    hand.next = 1
    refused = hand.write(mirror(ORDERS), insert(id="1"), insert(id="2", doc="x" * 60_000), insert(id="3"))
    assert [(one.row, "max.message.bytes" in one.message) for one in refused] == [(1, True)]
    hand.sink.begin()
    docs = pa.array([f"{i:x}" * 20 for i in range(5000)])
    hand.give(mirror(ORDERS), many(ORDERS, [pa.array(np.arange(10, 5010)), docs, pa.nulls(5000), docs], Op.INSERT, first=10))
    hand.commit()
    assert len(hand.live(mirror(ORDERS))) == 5002


def test_names_of_columns_are_only_names(hand: Hand) -> None:
    for i, name in enumerate(('a "quoted" name', "it's", "naïve 漢字 🙂", "a\\b", "\t", " ")):
        schema = TableSchema(name, (Column(name, "text", 1), Column("v", "integer", 2)), (name,))
        hand.write(mirror(schema, f"t{i}"), insert(**{name: "k", "v": "1"}), insert(**{name: "l", "v": "2"}), delete(**{name: "l"}))
        assert hand.live(mirror(schema, f"t{i}")) == [{name: "k", "v": "1"}]


def test_a_dataset_whose_name_no_topic_can_have_needs_another(hand: Hand) -> None:
    hand.sink.begin()
    with pytest.raises(SinkShapeError, match="order lines") as met:
        hand.put(mirror(ORDERS, "order lines"), insert(id="1"))
    hand.sink.rollback()
    assert "`topic`" in str(met.value.hint)


def test_what_the_log_left_out_is_that_of_the_change_before_or_what_was_read_again(place: KafkaPlace, hand: Hand) -> None:
    target = mirror(ORDERS)
    refused = hand.write(
        target,
        insert(id="1", name="a", doc="of its time"),
        update({"id": "1", "name": "b"}, recalled={"doc": "newer"}),
        update({"id": "2", "name": "c"}, recalled={"doc": "read again"}),
        update({"id": "3", "name": "gone since"}, absent=["doc"]),
        update({"id": "4", "name": "b"}, old={"id": "1"}, absent=["doc"]),
    )
    assert [(one.row, one.column) for one in refused] == [(3, "doc")]
    values = [json.loads(message.value) for message in place.kafka.consume(place.topic("orders")) if message.value is not None]
    assert sorted((row["id"], row["name"], row["doc"]) for row in values) == [
        (1, "a", "of its time"), (1, "b", "of its time"), (2, "c", "read again"), (4, "b", "of its time"),
    ]  # fmt: skip


def test_a_truncate_is_a_tombstone_for_every_row_also_those_of_its_own_transaction(place: KafkaPlace, hand: Hand) -> None:
    target = mirror(ORDERS)
    hand.write(target, *(insert(id=str(i)) for i in range(100)), delete(id="5"))
    hand.write(target, insert(id="200"), truncate(), insert(id="1", name="after"))
    assert hand.names(target) == {"1": "after"}
    gone = [message for message in place.kafka.consume(place.topic("orders")) if message.value is None]
    assert len(gone) == 1 + 99 + 1
    assert len({message.key for message in gone}) == 101
    hand.write(mirror(ORDERS, on_truncate="ignore"), truncate())
    assert hand.names(target) == {"1": "after"}


def test_a_copy_that_is_made_again_takes_away_what_is_gone_but_not_what_it_brings_itself(place: KafkaPlace, hand: Hand) -> None:
    target = mirror(ORDERS)
    hand.sink.begin()
    ids = pa.array(np.arange(30_000))
    hand.give(target, many(ORDERS, [ids] * 4, Op.INSERT, first=hand.next))
    hand.next += 30_000
    hand.commit()
    begun = hand.next
    hand.mark(target, marker(ORDERS, "start", begun))
    hand.next += 1
    hand.sink.begin()
    hand.put(target, read(id="1", name="new"), read(id="40000", name="new"))
    hand.sink.mark(target, marker(ORDERS, "end", begun))
    hand.commit()
    assert hand.names(target) == {"1": "new", "40000": "new"}


def test_a_topic_that_is_deleted_while_the_sink_is_at_work_is_made_again_and_its_dataset_copied(place: KafkaPlace, hand: Hand) -> None:
    hand.cursor = replace(hand.cursor, routes={"orders": "as it is"})
    hand.write(mirror(ORDERS), insert(id="1"))
    place.drop_table("orders")

    def refused() -> bool:
        try:
            hand.write(mirror(ORDERS), insert(id="2"))
        except TransientError:
            return True
        return False

    wait_for(refused, message="the brokers to say that the topic is gone")
    hand.sink.rollback()
    held = hand.sink.open(JOURNAL)
    assert held is not None
    assert held.routes["orders"] != "as it is"


def test_wrong_credentials_and_certificates_are_refused_and_never_shown(kafka: Kafka) -> None:
    options = {**kafka.sasl, "sasl.password": "not-the-password"}
    servers = options.pop("bootstrap.servers")
    for given, hint in ((options, "sasl.password"), ({"security.protocol": "SSL"}, "ssl.ca.location")):
        sink = KafkaSink("out", KafkaConfig.model_validate({"bootstrap_servers": servers, "options": given}), "test")
        with pytest.raises(Refused) as met:
            sink.open(JOURNAL)
        assert hint in str(met.value.hint)
        assert "not-the-password" not in str(met.value)
        assert "not-the-password" not in repr(sink._config)


@pytest.mark.parametrize("way", ["tls", "sasl"])
def test_brokers_are_reached_by_tls_and_sasl(kafka: Kafka, way: str) -> None:
    options = dict(getattr(kafka, way))
    servers = options.pop("bootstrap.servers")
    hand = Hand(KafkaPlace(kafka, bootstrap_servers=servers, options=options))
    hand.write(mirror(ORDERS), insert(id="1", name="a"))
    assert hand.names(mirror(ORDERS)) == {"1": "a"}


_FILE = """
pipeline: shop
sources:
  portal: {{type: postgres, dsn: "host=db", tables: [public.orders, public.items]}}
sinks:
  warehouse: {{type: duckdb, path: w.duckdb{duckdb}}}
  events: {{type: kafka, bootstrap_servers: "kafka:9092"{kafka}}}
"""


def _load(tmp_path: Path, kafka: str = "", duckdb: str = ""):  # type: ignore[no-untyped-def]
    file = tmp_path / "pipeline.yaml"
    file.write_text(_FILE.format(kafka=kafka, duckdb=duckdb))
    return load_pipeline(file)


def test_topics_are_called_after_the_pipeline_and_the_dataset_or_as_the_route_says(tmp_path: Path) -> None:
    events = _load(tmp_path).sinks["events"]
    assert events.route("orders").table == "shop.orders"
    for key in ("topic", "table"):
        named = _load(tmp_path, kafka=f", datasets: {{orders: {{{key}: out.orders}}, items: }}").sinks["events"]
        assert [named.route(name).table for name in ("orders", "items")] == ["out.orders", "shop.items"]
    assert needs_recall(_load(tmp_path), "portal", "public.orders")
    assert not needs_recall(_load(tmp_path, kafka=", datasets: [items]"), "portal", "public.orders")


@pytest.mark.parametrize(
    "kafka, duckdb, said",
    [
        ("", ", datasets: {orders: {topic: out}}", "unknown key `topic`"),
        (", datasets: {orders: {topc: out}}", "", "did you mean topic"),
        (", datasets: {orders: {topic: 'order lines'}}", "", "the name of a topic"),
        (", datasets: {orders: {mode: history}}", "", "history"),
        (", datasets: {orders: {on_delete: soft}}", "", "`delete`"),
        (", datasets: {orders: {topic: a}, items: {topic: a}}", "", "would both write"),
        (", format: avro", "", "schema_registry"),
        (", format: csv", "", "expected 'json', 'cloudevents' or 'avro'"),
        (", mode: structured", "", "cloudevents"),
        (", options: {transactional.id: x}", "", "is set by Sluice itself"),
        (", options: {no.such: x}", "", "no option `no.such`"),
        (", partitions: 0", "", "partitions"),
    ],
)
def test_what_is_wrong_in_the_file_is_told_with_its_line(tmp_path: Path, kafka: str, duckdb: str, said: str) -> None:
    with pytest.raises(ConfigError) as met:
        _load(tmp_path, kafka, duckdb)
    assert said in str(met.value)
    assert "pipeline.yaml:" in str(met.value)


_PIPELINE = """
pipeline: {name}
state: .sluice
sources:
  portal: {{type: postgres, dsn: "{dsn}", tables: [public.orders]}}
sinks:
  events:
    type: kafka
    bootstrap_servers: "{servers}"
    partitions: 2
    {more}
"""


@pytest.mark.timeout(240)
def test_a_table_goes_into_a_topic_and_verify_finds_it_there(kafka: Kafka, database18: Database, make_pipeline: MakePipeline) -> None:
    database18.execute(
        "CREATE TABLE orders (id int PRIMARY KEY, region text, amount numeric(10,2), document text, placed timestamptz DEFAULT now())",
        "ALTER TABLE orders ALTER document SET STORAGE EXTERNAL",
        "INSERT INTO orders SELECT n, (ARRAY['EU','US'])[1 + n % 2], n * 1.5, repeat('long ', 2000) FROM generate_series(1, 300) n",
    )
    more = f"datasets: {{orders: {{topic: {kafka.prefix}.orders, where: \"region = 'EU'\"}}}}"
    pipeline = make_pipeline(_PIPELINE.format(name=kafka.prefix, dsn=database18.dsn, servers=kafka.bootstrap_servers, more=more))
    pipeline.sync()
    database18.execute(
        "UPDATE orders SET amount = 0 WHERE id <= 100",  # the document is left out of the log
        "UPDATE orders SET region = 'US' WHERE id BETWEEN 101 AND 120",
        "UPDATE orders SET region = 'EU' WHERE id BETWEEN 151 AND 160",
        "UPDATE orders SET id = id + 1000 WHERE id BETWEEN 201 AND 220",
        "DELETE FROM orders WHERE id > 290 AND id < 1000",
    )
    pipeline.sync()
    newest = {message.key: message.value for message in kafka.consume(f"{kafka.prefix}.orders")}
    rows = sorted((row["id"], str(row["amount"]), row["document"]) for value in newest.values() if value for row in [json.loads(value)])
    wanted = database18.rows("SELECT id, amount::float8, document FROM orders WHERE region = 'EU' ORDER BY id")
    assert [(number, float(amount), document) for number, amount, document in rows] == [tuple(row) for row in wanted]
    answer = pipeline.verify()
    found = answer["datasets"]["orders"]["events"]
    assert answer["conserved"]
    assert (found["missing"], found["extra"], found["different"]) == (0, 0, 0)
    assert found["sink_rows"] == len(wanted)


@pytest.mark.timeout(240)
def test_an_incompatible_change_ends_sync_with_a_no(
    kafka: Kafka, registry: Registry, database18: Database, make_pipeline: MakePipeline
) -> None:
    database18.execute("CREATE TABLE orders (id int PRIMARY KEY, v int)", "INSERT INTO orders VALUES (1, 1)")
    subject = f"{kafka.prefix}.orders-value"
    registry.register(subject, json.dumps({"type": "record", "name": "other", "fields": [{"name": "id", "type": "string"}]}))
    registry.set_compatibility(subject, "BACKWARD")
    more = f"format: avro\n    schema_registry: {{url: '{registry.url}'}}"
    pipeline = make_pipeline(_PIPELINE.format(name=kafka.prefix, dsn=database18.dsn, servers=kafka.bootstrap_servers, more=more))
    planned = pipeline.sluice("plan", str(pipeline.file))
    assert planned.code == 1
    for done in (planned, pipeline.sync(code=1)):
        assert subject in done.out + done.err
        assert "compatible" in done.out + done.err
    assert kafka.consume(f"{kafka.prefix}.orders") == []


def test_the_grants_of_the_page_are_enough(kafka: Kafka) -> None:
    given = AclPermissionType.ALLOW
    pipeline = f"{kafka.prefix}-test"
    wanted = [
        (ResourceType.TOPIC, f"{kafka.prefix}.", "READ WRITE CREATE DESCRIBE DESCRIBE_CONFIGS"),
        (ResourceType.TOPIC, f"_sluice_cursor.{pipeline}.", "READ WRITE CREATE DESCRIBE DESCRIBE_CONFIGS"),
        (ResourceType.TRANSACTIONAL_ID, f"sluice.{pipeline}.", "WRITE DESCRIBE"),
        (ResourceType.GROUP, f"sluice.{pipeline}.", "READ"),
    ]
    bindings = [
        AclBinding(kind, name, ResourcePatternType.PREFIXED, f"User:{STRANGER}", "*", AclOperation[word], given)
        for kind, name, words in wanted
        for word in words.split()
    ]
    for answer in kafka.admin.create_acls(bindings).values():
        answer.result(60)
    options = dict(kafka.listeners.stranger)
    servers = options.pop("bootstrap.servers")
    place = KafkaPlace(kafka, bootstrap_servers=servers, options=options)
    hand = Hand(place)
    hand.write(mirror(ORDERS), insert(id="1", name="a"), insert(id="2"))
    hand.write(mirror(ORDERS), truncate(), insert(id="3", name="c"))
    assert hand.names(mirror(ORDERS)) == {"3": "c"}
    assert place.sink().standing().newest == 4
    hand.sink.begin()
    with pytest.raises(Refused) as met:
        KafkaSink.prepare(hand.sink, mirror(ORDERS, f"elsewhere-{kafka.prefix}"))  # type: ignore[arg-type]
    hand.sink.rollback()
    assert "CREATE" in str(met.value.hint)
