"""Two tables at the source, with a key and without, and what tests of the whole source ask about them."""

from __future__ import annotations

from tests.follower import Follower
from tests.waiting import wait_for

TABLES = (
    "CREATE TABLE orders (id int PRIMARY KEY, region text, n int DEFAULT 0)",
    "INSERT INTO orders SELECT n, 'r' || n % 3 FROM generate_series(1, 3000) n",
    # without a key every change that comes twice or never shows
    "CREATE TABLE events (what text, n int)",
    "ALTER TABLE events REPLICA IDENTITY FULL",
    "INSERT INTO events SELECT 'copied', n % 5 FROM generate_series(1, 50) n",
)


def both_same(follower: Follower) -> None:
    """The follower holds both as they are."""
    follower.same("public.orders")
    follower.same("public.events")


def slot_made_by_hand(follower: Follower) -> str:
    """The statement that makes the follower's slot."""
    return f"SELECT pg_create_logical_replication_slot('{follower.slot}', 'pgoutput')"


def slot_rests(follower: Follower) -> None:
    """Nobody reads the follower's slot any more: the server may notice later than who has left."""
    query = f"SELECT 1 FROM pg_replication_slots WHERE slot_name = '{follower.slot}' AND NOT active"
    wait_for(lambda: follower.database.rows(query), message="the slot to rest")
