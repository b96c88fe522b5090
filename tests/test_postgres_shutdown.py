"""A source's server that is shut down waits until its walsenders have everything confirmed: what follows it must not keep it waiting."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from pipeline.errors import TransientError
from sources.postgres import recall, supervisor, taker
from tests.fix_follower import Follow
from tests.fix_postgres import Database, Launch

pytestmark = pytest.mark.timeout(120)

_TABLE = (
    "CREATE TABLE t (id int PRIMARY KEY, long text, n int)",
    "ALTER TABLE t ALTER long SET STORAGE EXTERNAL",
    "INSERT INTO t VALUES (1, repeat('x', 5000), 0)",
)


def test_a_server_can_shut_down_though_what_it_sent_is_not_taken(launch_postgres: Launch, follow: Follow) -> None:
    database = Database(launch_postgres(15), "postgres")
    database.execute(*_TABLE)
    follower = follow(database, "public.t")
    with follower.running():
        follower.caught_up()
        database.execute("INSERT INTO t SELECT n, 'not taken', n FROM generate_series(2, 1000) n")
        database.server.stop("fast", timeout=25)
        database.server.start()
        follower.same("public.t")


def test_a_server_can_shut_down_though_values_have_to_be_read_again(
    launch_postgres: Launch, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(launch_postgres(15), "postgres")
    database.execute(*_TABLE)
    monkeypatch.setattr(supervisor, "_LOOK_AT_SLOT", 600.0)
    down, tried = threading.Event(), threading.Event()
    down.set()
    read = recall.recalled

    def asked(*arguments: Any) -> Any:
        tried.set()
        if down.is_set():
            raise TransientError("the server is shutting down")
        return read(*arguments)

    follower = follow(database, "public.t", recall=True)
    with follower.running():
        follower.same("public.t")
        monkeypatch.setattr(taker, "recalled", asked)
        database.execute("UPDATE t SET n = 1")
        follower.until(tried.is_set, message="values to be asked for")
        stop = threading.Thread(target=database.server.stop, kwargs={"timeout": 25.0})
        stop.start()
        follower.until(lambda: not stop.is_alive(), message="the server to be down")
        assert database.server.pid is None
        down.clear()
        database.server.start()
        follower.same("public.t")
