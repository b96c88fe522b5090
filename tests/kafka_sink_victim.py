"""A process that delivers into Kafka until it is killed: python -m tests.kafka_sink_victim SERVERS PREFIX TRANSACTIONS"""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa

from journal.batch import Op
from sinks.base import NO_ROWS, Cursor
from sinks.kafka import KafkaSink
from sinks.kafka_config import KafkaConfig
from tests.sink_batches import ORDERS, many
from tests.sink_place import JOURNAL, mirror

ROWS = 300  # of each transaction


def deliver(servers: str, prefix: str, transactions: int) -> None:
    """Transaction n (from 1): rows n * ROWS …, and a change of every row of the one before. Its number is printed when it is committed."""
    sink = KafkaSink("out", KafkaConfig(bootstrap_servers=servers), prefix)
    cursor = sink.open(JOURNAL) or Cursor(JOURNAL, 0)
    target = mirror(ORDERS, f"{prefix}.orders")
    for n in range(cursor.seq + 1, transactions + 1):
        sink.begin()
        ids, old = pa.array(np.arange(n * ROWS, (n + 1) * ROWS)), pa.array(np.arange((n - 1) * ROWS, n * ROWS))
        first = 2 * n * ROWS
        sink.write(target, many(ORDERS, [ids] * 4, Op.INSERT, first=first), NO_ROWS)
        sink.write(target, many(ORDERS, [old, pa.array([f"by {n}"] * ROWS), old, old], Op.UPDATE, first=first + ROWS), NO_ROWS)
        cursor = replace(cursor, seq=n)
        sink.commit(cursor)
        print(n, flush=True)
    sink.close()


if __name__ == "__main__":
    deliver(sys.argv[1], sys.argv[2], int(sys.argv[3]))
