"""The Postgres sink writes exactly once, whoever is killed, and whatever answer is lost."""

from __future__ import annotations

import select
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from journal.batch import Op
from journal.schema import Column
from pipeline.errors import AlreadyRunningError, TransientError
from tests.fix_postgres import Database
from tests.postgres_place import PostgresPlace
from tests.sink_batches import EVENTS, ORDERS, delete, insert, many
from tests.sink_place import Hand, mirror
from tests.waiting import wait_for


@pytest.fixture
def place(database15: Database) -> PostgresPlace:
    return PostgresPlace(database15, "sales")


@pytest.fixture
def hand(place: PostgresPlace) -> Hand:
    return Hand(place)


def test_two_processes_that_both_deliver_do_not_take_turns(place: PostgresPlace, hand: Hand) -> None:
    hand.write(mirror(ORDERS), insert(id="1", name="a"))
    newer = Hand(place)
    newer.write(mirror(ORDERS), insert(id="2", name="b"))
    hand.sink.begin()
    hand.put(mirror(ORDERS), insert(id="3", name="c"))
    with pytest.raises(AlreadyRunningError):
        hand.commit()
    newer.write(mirror(ORDERS), insert(id="4", name="d"))
    assert newer.names(mirror(ORDERS)) == {"1": "a", "2": "b", "4": "d"}


def test_sinks_of_one_pipeline_share_a_schema(place: PostgresPlace) -> None:
    one, other = Hand(place, "one"), Hand(place, "other")
    one.write(mirror(ORDERS, "first"), insert(id="1", name="a"))
    other.write(mirror(ORDERS, "second"), insert(id="2", name="b"))
    one.write(mirror(ORDERS, "first"), insert(id="3", name="c"))
    assert one.names(mirror(ORDERS, "first")) == {"1": "a", "3": "c"}
    assert other.names(mirror(ORDERS, "second")) == {"2": "b"}


class _Cut:
    """A proxy before a server that loses the answer to the next COMMIT once it is told to."""

    def __init__(self, port: int) -> None:
        self.losing = False
        self._server = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        client, _ = self._listening.accept()
        server = socket.create_connection(("127.0.0.1", self._server))
        with client, server:
            while True:
                ready, _, _ = select.select([client, server], [], [])
                data = ready[0].recv(1 << 16)
                (server if ready[0] is client else client).sendall(data)
                if self.losing and b"COMMIT" in data:
                    server.recv(1 << 16)  # the server has done it
                    return

    def close(self) -> None:
        self._listening.close()
        self._thread.join(60)


def test_a_commit_whose_answer_is_lost_is_neither_lost_nor_done_twice(place: PostgresPlace) -> None:
    Hand(place).write(mirror(EVENTS), insert(kind="a", note=None))
    cut = _Cut(place.database.server.port)
    place.dsn = f"{place.database.dsn} port={cut.port} sslmode=disable gssencmode=disable"
    hand = Hand(place)
    hand.sink.begin()
    hand.put(mirror(EVENTS), insert(kind="b", note=None), delete(kind="a", note=None))
    cut.losing = True
    with pytest.raises(TransientError):
        hand.commit()
    hand.sink.rollback()
    cut.close()
    place.dsn = place.database.dsn
    again = Hand(place)
    assert again.cursor.seq == 2
    assert [row["kind"] for row in again.live(mirror(EVENTS))] == ["b"]


def test_temporary_tables_survive_what_is_rolled_back(hand: Hand) -> None:
    ids = pa.array(range(300))
    wider = mirror(replace(ORDERS, columns=(*ORDERS.columns, Column("more", "text", 9))))
    for target, kept in (
        (mirror(ORDERS), False),
        (mirror(ORDERS), True),
        (wider, False),
        (mirror(ORDERS), True),
        (wider, True),
        (wider, True),
    ):
        hand.sink.begin()
        for _ in range(2):
            hand.give(target, many(target.schema, [ids] * len(target.schema.names), Op.UPDATE, first=hand.next))
            hand.next += 300
        if kept:
            hand.commit()
        else:
            hand.sink.rollback()
    assert len(hand.live(wider)) == 300
    assert hand.names(wider, "more")["7"] == "7"


_VICTIM = """
import sys
from sinks.base import Cursor
from sinks.base import NO_ROWS, Cursor
from sinks.postgres import PostgresConfig, PostgresSink
from tests.sink_batches import ORDERS, insert, update
from tests.sink_place import JOURNAL, Hand, mirror

class Elsewhere:
    def sink(self, name="out", pipeline="test"):
        return PostgresSink(name, PostgresConfig.model_validate({"dsn": sys.argv[1], "schema": "sales"}), pipeline)

hand = Hand(Elsewhere())
target = mirror(ORDERS)
while True:
    n = hand.cursor.seq
    hand.next = n * 1000 + 1
    size = (1, 40, 300)[n % 3]
    rows = [insert(id=str(n * 1000 + i), name=str(n)) for i in range(size)]
    hand.write(target, *rows, update({"id": "-1", "name": str(n)}))
"""


def test_a_process_that_is_killed_again_and_again_loses_nothing_and_doubles_nothing(place: PostgresPlace) -> None:
    Hand(place).write(mirror(ORDERS), insert(id="-1", name="0"))
    command = [sys.executable, "-c", _VICTIM, place.dsn]
    reached = 1
    for kill in range(4):
        process = subprocess.Popen(command, cwd=Path(__file__).parent.parent)
        goal = reached + 3 + kill  # each time at another kind of transaction
        try:
            wait_for(partial(_has_committed, place, goal), message="commits of the process")
        finally:
            process.kill()
            process.wait()
        reached = _committed(place)
        last = Hand(place)  # fences off what the server still does for the dead one
        seq = last.cursor.seq
        last.sink.close()
        expected = {n * 1000 + i: str(n) for n in range(1, seq) for i in range((1, 40, 300)[n % 3])}
        rows = {int(str(row["id"])): row["name"] for row in place.table("orders")}
        assert rows == {**expected, -1: str(seq - 1)}


def _has_committed(place: PostgresPlace, goal: int) -> bool:
    return _committed(place) >= goal


def _committed(place: PostgresPlace) -> int:
    text = place.database.rows("SELECT coalesce((cursor::json ->> 'seq')::int, 0) FROM sales._sluice_cursor")
    return int(text[0][0])
