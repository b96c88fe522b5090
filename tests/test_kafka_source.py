"""What a Kafka source gives: every committed message once, from the earliest on, each with its place and as it was received."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import structlog
from confluent_kafka import Producer, TopicPartition

from journal.batch import Presence
from pipeline.errors import PositionLostError, PreflightError, Refused, TerminalError
from sources.base import KEY_PREFIX, CopyState, Resume
from sources.kafka.position import Watermark
from tests.fake_registry import fake_registry
from tests.fix_kafka import LaunchKafka
from tests.kafka_following import Followed, following, make_source
from tests.kafka_place import Kafka, Message
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(autouse=True)
def _watchful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at topics more often, so that nobody has to wait ten seconds."""
    monkeypatch.setattr("sources.kafka.supervisor._WATCH_EVERY", 0.5)


def _orders(first: int, last: int) -> list[Message]:
    return [Message(json.dumps({"id": n, "name": f"order {n}"}), key=str(n)) for n in range(first, last)]


def test_messages_become_rows_with_their_place_and_as_they_were_received(kafka: Kafka, tmp_path: Path) -> None:
    topic = kafka.make_topic(1)
    written = [
        Message('{"id": 1, "name": "café"}', key="1", headers=[("trace", b"\x00abc")], timestamp=1_700_000_000_123),
        Message('{"id": 2, "name"', key="2"),
        Message("", key="3"),
        Message(None, key="1"),
        Message(None, key="many"),
        Message(None),
        Message('{"id": 9007199254740993, "name": null}'),
    ]
    kafka.produce(topic, written)
    with following(kafka.plain, topic, tmp_path) as read:
        rows = read.catch_up().rows
    assert [row["at"] for row in rows] == [(0, n) for n in range(7)]
    assert [row["op"] for row in rows] == ["insert", "insert", "insert", "delete", "delete", "delete", "insert"]
    assert [row["id"] for row in rows] == ["1", None, None, "1", None, None, "9007199254740993"]
    assert rows[0]["name"] == "café"
    assert [bool(row["defect"]) for row in rows] == [False, True, True, False, True, True, False]
    batch = read.batches[0]
    assert int(batch.time[0]) == 1_700_000_000_123_000
    assert batch.payloads is not None
    assert batch.payloads.row(0) == (b"1", '{"id": 1, "name": "café"}'.encode(), [("trace", b"\x00abc")])
    assert batch.payloads.row(2)[1] == b""
    assert batch.payloads.row(3)[1] is None
    assert json.loads(read.source.place(topic, 0, 4, {})) == {"topic": topic, "partition": 0, "offset": 4}
    status = read.source.status()
    assert (status.state, status.confirmed, status.lag_messages) == ("streaming", "0:7", 0)


def test_reading_goes_on_where_the_journal_stands_and_gives_nothing_twice(kafka: Kafka, tmp_path: Path) -> None:
    topic = kafka.make_topic(4)
    kafka.produce(topic, _orders(0, 300))
    with following(kafka.plain, topic, tmp_path) as read:
        read.until(100)
        watermark, before = read.watermark, read.rows
    kafka.produce(topic, _orders(300, 400))
    with following(kafka.plain, topic, tmp_path, watermark=watermark) as read:
        after = read.catch_up().rows
    assert sorted(int(row["id"]) for row in before + after) == list(range(400))


def test_only_what_is_committed_is_read_and_markers_of_transactions_are_no_lag(kafka: Kafka, tmp_path: Path) -> None:
    topic = kafka.make_topic(1)
    producer = Producer({**kafka.plain, "transactional.id": topic})
    producer.init_transactions(20)
    for commit, ids in ((True, (1, 2)), (False, (3, 4)), (True, (5,)), (False, (6,))):
        producer.begin_transaction()
        for n in ids:
            producer.produce(topic, json.dumps({"id": n, "name": "x"}))
        producer.flush()
        (producer.commit_transaction if commit else producer.abort_transaction)(20)
    with following(kafka.plain, topic, tmp_path) as read:
        assert [row["id"] for row in read.catch_up().rows] == ["1", "2", "5"]
        assert read.source.status().lag_messages == 0
        producer.begin_transaction()
        producer.produce(topic, '{"id": 7, "name": "open"}')
        producer.flush()
        head = read.source.head()
        assert read.source.reached(read.watermark, head), "what is not committed is not waited for"
        producer.commit_transaction(20)
        assert read.until(4).rows[-1]["id"] == "7"


def test_an_empty_topic_and_one_whose_messages_have_gone_are_read_to_their_end(kafka: Kafka, tmp_path: Path) -> None:
    empty, gone = kafka.make_topic(2), kafka.make_topic(1)
    kafka.produce(gone, _orders(0, 5))
    for answer in kafka.admin.delete_records([TopicPartition(gone, 0, 5)]).values():
        answer.result(60)
    for topic in (empty, gone):
        with following(kafka.plain, topic, tmp_path) as read:
            assert read.catch_up().rows == []


def test_partitions_that_are_added_are_found_and_read_from_their_beginning(kafka: Kafka, tmp_path: Path) -> None:
    topic = kafka.make_topic(1)
    kafka.produce(topic, [Message('{"id": 1}', partition=0)])
    with following(kafka.plain, topic, tmp_path) as read:
        read.catch_up()
        kafka.add_partitions(topic, 3)
        kafka.produce(topic, [Message('{"id": 2}', partition=2), Message('{"id": 3}', partition=1)])
        assert sorted(row["id"] for row in read.until(3).rows) == ["1", "2", "3"]


def test_a_topic_that_was_made_again_is_refused_while_it_is_read_and_at_the_start(kafka: Kafka, tmp_path: Path) -> None:
    topic = kafka.make_topic(1)
    kafka.produce(topic, _orders(0, 3))
    with following(kafka.plain, topic, tmp_path) as read:
        watermark = read.catch_up().watermark
        kafka.delete_topic(topic)
        kafka.make_topic(1, name=topic)
        kafka.produce(topic, _orders(100, 110))
        with pytest.raises(PositionLostError, match=f"{topic} was deleted") as found:
            _to_the_end(read)
        assert "resync" in (found.value.hint or "")
    problem = make_source(kafka.plain, topic, tmp_path).preflight(Resume(watermark, CopyState(), {})).problems[0]
    assert topic in problem.message
    assert "made again" in problem.message
    assert "resync" in (problem.hint or "")
    with following(kafka.plain, topic, tmp_path, watermark=watermark) as read, pytest.raises(PositionLostError, match="made again"):
        read.catch_up()


@pytest.mark.parametrize("offset, said", [(2, "went before they were read"), (99, "truncated")])
def test_a_position_that_is_out_of_range_is_refused(kafka: Kafka, tmp_path: Path, offset: int, said: str) -> None:
    topic = kafka.make_topic(1)
    kafka.produce(topic, _orders(0, 10))
    for answer in kafka.admin.delete_records([TopicPartition(topic, 0, 5)]).values():
        answer.result(60)
    source = make_source(kafka.plain, topic, tmp_path)
    known = Watermark(topic, Watermark.decode(source.head()).id, {0: offset}).encode()
    refusal = source.preflight(Resume(known, CopyState(), {})).refusal()
    assert isinstance(refusal, PreflightError)
    assert topic in str(refusal)
    assert said in str(refusal)
    assert "resync" in str(refusal)


def test_messages_that_go_while_reading_is_behind_are_a_loss_that_is_told(kafka: Kafka, tmp_path: Path) -> None:
    topic = kafka.make_topic(1)
    kafka.produce(topic, _orders(0, 2000), **{"batch.num.messages": 100})
    options = {**kafka.plain, "queued.min.messages": "1", "fetch.max.bytes": "9000", "fetch.message.max.bytes": "9000"}
    with following({**options, "message.max.bytes": "8000"}, topic, tmp_path) as read:
        read.until(1)
        for answer in kafka.admin.delete_records([TopicPartition(topic, 0, 1900)]).values():
            answer.result(60)
        with pytest.raises(PositionLostError, match=f"{topic}, partition 0.*out of range"):
            read.until(1900)


def test_a_message_of_ten_megabytes_is_read(kafka: Kafka, tmp_path: Path) -> None:
    topic = kafka.make_topic(1, max_message_bytes=12_000_000)
    name = "n" * 10_000_000
    kafka.produce(topic, [*_orders(1, 3), json.dumps({"id": 3, "name": name}), *_orders(4, 6)], **{"message.max.bytes": 12_000_000})
    with following(kafka.plain, topic, tmp_path) as read:
        rows = read.catch_up().rows
    assert [row["id"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert rows[2]["name"] == name


def test_unknown_fields_are_kept_where_asked_and_each_is_told_once(kafka: Kafka, tmp_path: Path) -> None:
    topic = kafka.make_topic(1)
    kafka.produce(topic, ['{"id": 1, "colour": "red"}', '{"id": 2}', '{"id": 3, "colour": {"r": 1}, "size": 4}'])
    with structlog.testing.capture_logs() as logs, following(kafka.plain, topic, tmp_path, extra="keep") as read:
        rows = read.catch_up().rows
        assert read.source.status().unknown_fields == {"colour": 2, "size": 1}
    assert [row["_extra"] and json.loads(row["_extra"]) for row in rows] == [{"colour": "red"}, None, {"colour": {"r": 1}, "size": 4}]
    told = [line["field"] for line in logs if "schema lacks" in line["event"]]
    assert sorted(told) == ["colour", "size"]


def test_a_schema_registry_that_is_away_is_waited_for(kafka: Kafka, tmp_path: Path) -> None:
    topic = kafka.make_topic(1)
    schema = {"type": "record", "name": "Order", "fields": [{"name": "id", "type": "long"}, {"name": "name", "type": "string"}]}
    with fake_registry() as registry:
        registry.add(7, schema)
        kafka.produce(topic, [registry.message(7, {"id": n, "name": f"order {n}"}) for n in range(3)])
        registry.away = True
        url = {"url": registry.options.url}
        with following(kafka.plain, topic, tmp_path, format="avro", schema_registry=url) as read:
            wait_for(lambda: not read.step(0.05) and read.source.status().state == "retrying", message="the registry to be missed")
            assert registry.options.url in (read.source.status().error or "")
            registry.away = False
            assert [row["name"] for row in read.until(3).rows] == ["order 0", "order 1", "order 2"]
            assert read.source.status().state == "streaming"


def test_for_a_map_the_key_of_a_delete_is_handed_on_in_columns_of_its_own(kafka: Kafka, tmp_path: Path) -> None:
    topic = kafka.make_topic(1)
    kafka.produce(topic, [Message('{"orderNo": "A-1"}', key="17"), Message(None, key="17"), Message(None, key="x")])
    with following(kafka.plain, topic, tmp_path, mapped={"order_id": "bigint"}, schema={"orderNo": "text"}) as read:
        rows = read.catch_up().rows
    column = KEY_PREFIX + "order_id"
    assert [(row["op"], row["orderNo"], row[column]) for row in rows] == [
        ("insert", "A-1", None),
        ("delete", None, "17"),
        ("delete", None, None),
    ]
    assert [bool(row["defect"]) for row in rows] == [False, False, True]
    batch = read.batches[0]
    assert batch.presence[0].tolist() == [Presence.PRESENT, Presence.ABSENT, Presence.ABSENT]


def test_a_sink_that_comes_later_gets_the_topic_read_again(kafka: Kafka, tmp_path: Path) -> None:
    topic = kafka.make_topic(2)
    kafka.produce(topic, _orders(0, 50))
    with following(kafka.plain, topic, tmp_path) as read:
        read.catch_up()
        read.batches.clear()
        for _ in range(3):
            read.source.copy_again(topic, "late")
        wait_for(lambda: read.step() and [marker.phase for marker in read.markers] == ["start", "end"], message="the copy")
        kafka.produce(topic, _orders(50, 60))
        read.catch_up()
        read.source.copy_again(topic, None)
    copied = [row for batch in read.batches if batch.sink == "late" for row in batch.column("id").to_pylist()]
    assert sorted(map(int, copied)) == list(range(50))
    assert sorted(int(row["id"]) for row in read.rows) == sorted([*range(50), *range(50, 60)])
    assert [(marker.phase, marker.sink, marker.first) for marker in read.markers] == [("start", "late", False), ("end", "late", False)]


def test_every_listener_can_be_read_from(kafka: Kafka, tmp_path: Path) -> None:
    topic = kafka.make_topic(1)
    kafka.produce(topic, _orders(0, 3))
    at = kafka.listeners
    for options in (at.tls, at.mutual_tls, at.sasl, at.oauth):
        with following(options, topic, tmp_path) as read:
            assert len(read.catch_up().rows) == 3


def test_who_is_not_let_in_is_told_so_and_no_secret_is_repeated(kafka: Kafka, tmp_path: Path) -> None:
    topic = kafka.make_topic(1)
    at = kafka.listeners
    untrusted = {name: value for name, value in at.tls.items() if name != "ssl.ca.location"}
    cases = {
        "invalid credentials": {**at.sasl, "sasl.password": "wr0ng-hunter2"},
        "certificate verify failed": untrusted,
        "certificate": {**at.tls, "bootstrap.servers": at.mutual_tls["bootstrap.servers"]},
        "authorization failed": at.stranger,
        "ssl.ca.location": {**at.tls, "ssl.ca.location": str(tmp_path / "nobody.pem")},
    }
    for said, options in cases.items():
        with pytest.raises(Refused) as found, following(options, topic, tmp_path) as read:
            _to_the_end(read)
        assert said in str(found.value), said
        assert "hunter2" not in str(found.value) + repr(make_source(options, topic, tmp_path).config)
        assert topic in str(found.value)


def _to_the_end(read: Followed) -> None:
    wait_for(lambda: read.step() and False, message="the error that ends it")


def test_a_topic_that_is_not_there_is_refused(kafka: Kafka, tmp_path: Path) -> None:
    source = make_source(kafka.plain, f"{kafka.prefix}.nowhere", tmp_path)
    with pytest.raises(Refused, match=r"there is no topic .*nowhere"):
        source.preflight(Resume(None, CopyState(), {}))


def test_brokers_that_stop_or_hang_are_waited_for(launch_kafka: LaunchKafka, tmp_path: Path) -> None:
    kafka = launch_kafka()
    topic = kafka.make_topic(1)
    kafka.produce(topic, _orders(0, 10))
    with following(kafka.plain, topic, tmp_path) as read:
        read.catch_up()
        kafka.server.stop()
        wait_for(lambda: read.source.status().state == "retrying", message=lambda: str(read.source.status()))
        assert read.source.status().error
        assert read.source.take(0.0) is None
        kafka.server.start()
        wait_for(lambda: read.source.status().state == "streaming", message=lambda: str(read.source.status()))
        kafka.produce(topic, _orders(10, 20))
        assert len(read.until(20).rows) == 20
        kafka.server.pause()
        wait_for(lambda: read.source.status().state == "retrying", message=lambda: str(read.source.status()))
        kafka.server.resume()
        kafka.produce(topic, _orders(20, 30))
        rows = read.until(30).catch_up().rows
        wait_for(lambda: read.source.status().state == "streaming", message=lambda: str(read.source.status()))
    assert [int(row["id"]) for row in rows] == list(range(30))


def test_an_error_of_the_source_comes_behind_what_was_read_before_it(kafka: Kafka, tmp_path: Path) -> None:
    topic = kafka.make_topic(1)
    kafka.produce(topic, _orders(0, 5))
    with following(kafka.plain, topic, tmp_path) as read:
        wait_for(lambda: read.source.status().bytes_read > 0, message="the messages")
        kafka.delete_topic(topic)
        with pytest.raises(TerminalError):
            _to_the_end(read)
        assert len(read.rows) == 5
