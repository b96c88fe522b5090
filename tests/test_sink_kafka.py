"""The Kafka sink against a real broker: all that every sink must survive, as far as a topic can."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pytest

from tests.fix_kafka import LaunchKafka
from tests.kafka_place import Kafka
from tests.kafka_sink_place import KafkaPlace
from tests.sink_conformance import SinkConformance
from tests.sink_place import Hand, Place


class TestKafkaSink(SinkConformance):
    lacks: ClassVar[Mapping[str, str]] = {
        "looks": "it tells changes and never looks at what it has told",
        "schema_change": "a message keeps the shape that it was written with",
        "history": "a topic has every change anyway",
        "soft_delete": "a message cannot mark a row that it does not have",
        "keyless": "without a key no message can say which row is gone",
        "own_tables": "a topic may be made by hand, and have other writers",
        "any_name": "brokers take letters, digits, dots, underscores and hyphens",
    }

    @pytest.fixture
    def place(self, kafka: Kafka) -> Place:
        return KafkaPlace(kafka)

    def test_a_target_that_was_away_is_as_it_was_when_it_is_back(  # type: ignore[override]
        self, launch_kafka: LaunchKafka
    ) -> None:
        place = KafkaPlace(launch_kafka())
        super().test_a_target_that_was_away_is_as_it_was_when_it_is_back(place, Hand(place))
