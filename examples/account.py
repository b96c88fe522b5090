"""The demonstration's own account of the orders: what every channel says it has, against what the warehouse holds, order by order."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import psycopg

from examples.marketplaces import Marketplaces
from pipeline.errors import TransientError

__all__ = ["Line", "account", "ask_warehouse"]

_PORTAL = """
SELECT 'portal-' || order_id, customer_id::text, product_id::text, email, status, currency::text, total::text FROM orders
"""
_WAREHOUSE = "SELECT channel, order_id, customer_id::text, product_id::text, email, status, currency, total::text FROM orders"

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """One channel. `there` and `delivered` count orders; `missing`, `extra` and `different` are those that nothing accounts for."""

    channel: str
    there: int
    delivered: int
    held_back: int
    missing: int
    extra: int
    different: int

    @property
    def is_clean(self) -> bool:
        """Whether every order is in the warehouse as it was placed, or in quarantine."""
        return not (self.missing or self.extra or self.different) and self.there == self.delivered + self.held_back


def account(portal: str, marketplaces: Marketplaces, warehouse: Path, quarantine: Iterable[Mapping[str, Any]]) -> list[Line]:
    """A line for each channel, while nobody writes. `portal` is a DSN, `quarantine` what `sluice quarantine list --json` lists."""
    held: dict[str, set[str]] = {}
    unreadable: dict[str, int] = {}
    for record in quarantine:
        if record["dataset"] == "orders":
            number = record["key"]["order_id"]
            if number is None:
                unreadable[record["source"]] = unreadable.get(record["source"], 0) + 1
            else:
                held.setdefault(record["source"], set()).add(number)
    delivered: dict[str, dict[str, Row]] = {}
    for channel, number, *facts in ask_warehouse(warehouse, _WAREHOUSE):
        delivered.setdefault(channel, {})[number] = tuple(facts)
    with psycopg.connect(portal) as connection:
        placed: dict[str, dict[str, Row]] = {"portal": {number: tuple(facts) for number, *facts in connection.execute(_PORTAL)}}
    for channel, orders in marketplaces.orders.items():
        placed[channel] = {number: order.row for number, order in orders.items()} | dict.fromkeys(marketplaces.held[channel], ())
    return [
        _line(channel, orders, delivered.get(channel, {}), held.get(channel, set()), unreadable.get(channel, 0), marketplaces)
        for channel, orders in placed.items()
    ]


def _line(
    channel: str, placed: Mapping[str, Row], delivered: Mapping[str, Row], held: set[str], unreadable: int, marketplaces: Marketplaces
) -> Line:
    absent = placed.keys() - delivered.keys()
    return Line(
        channel=channel,
        there=len(placed) + marketplaces.unreadable.get(channel, 0),
        delivered=len(delivered),
        held_back=len(absent & held) + unreadable,
        missing=len(absent - held),
        extra=len(delivered.keys() - placed.keys()),
        different=sum(facts != placed.get(number, facts) and number not in held for number, facts in delivered.items()),
    )


def ask_warehouse(path: Path, query: str) -> list[Row]:
    """All rows of a query, as soon as the sink, which has the file to itself while it writes, lets a reader in."""
    deadline = time.monotonic() + 30
    while True:
        try:
            with duckdb.connect(str(path), read_only=True) as connection:
                return connection.execute(query).fetchall()
        except duckdb.IOException as error:
            if time.monotonic() > deadline:
                raise TransientError(f"{path} cannot be read: {error}", hint="who else has it open?") from None
            time.sleep(0.05)
