"""The demonstration's own account finds what is missing, too much, or different; it takes nobody's word for it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from examples.account import Line, account
from examples.demo_broker import in_process_broker
from examples.marketplaces import MARKETPLACES, Marketplaces, Order
from examples.story import COMMERCE, seed
from tests.fix_postgres import Database

_FACTS = "customer_id, product_id, email, status, currency, total"
_PLACED = datetime(2026, 1, 1, tzinfo=UTC)


def _order(number: int) -> Order:
    return Order(f"aws-{number}", number, 1, 1_000, _PLACED)


@pytest.fixture
def accounted(database18: Database, tmp_path: Path) -> Any:
    """Asks for the account after statements on a warehouse that holds everything; the records are those in quarantine."""
    seed(database18.dsn, customers=20, orders=10)
    warehouse = tmp_path / "warehouse.duckdb"
    with in_process_broker() as address:
        marketplaces = Marketplaces(address)
        marketplaces.orders["aws"] = {order.order_id: order for order in map(_order, range(1, 6))}
        marketplaces.held["aws"] = {"aws-6"}
        marketplaces.unreadable["aws"] = 1

        def ask(*changes: str, keys: tuple[str | None, ...] = ("aws-6", None)) -> dict[str, Line]:
            warehouse.unlink(missing_ok=True)
            with duckdb.connect(str(warehouse)) as connection:
                connection.execute(
                    "CREATE TABLE orders (channel text, order_id text, customer_id int, product_id int, email text, status text,"
                    " currency text, total decimal(12,2))"
                )
                placed: list[tuple[object, ...]] = database18.rows(f"SELECT 'portal', 'portal-' || order_id, {_FACTS} FROM orders")
                placed += [("aws", number, *order.row) for number, order in marketplaces.orders["aws"].items()]
                connection.executemany("INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?, ?, ?)", placed)
                for change in changes:
                    connection.execute(change)
            records = [{"dataset": "orders", "source": "aws", "key": {"order_id": key}} for key in keys]
            return {line.channel: line for line in account(database18.dsn, marketplaces, warehouse, records)}

        yield ask


def test_everything_that_is_delivered_or_held_back_is_clean(accounted: Any) -> None:
    lines = accounted()
    assert lines["portal"] == Line("portal", 10, 10, 0, 0, 0, 0)
    assert lines["aws"] == Line("aws", 7, 5, 2, 0, 0, 0)
    assert all(line.is_clean for line in lines.values())


@pytest.mark.parametrize(
    "change, expected",
    [
        ("DELETE FROM orders WHERE order_id = 'aws-2'", (7, 4, 2, 1, 0, 0)),
        ("INSERT INTO orders (channel, order_id) VALUES ('aws', 'aws-77')", (7, 6, 2, 0, 1, 0)),
        ("UPDATE orders SET total = total + 0.01 WHERE order_id = 'aws-3'", (7, 5, 2, 0, 0, 1)),
        ("UPDATE orders SET email = NULL WHERE order_id = 'aws-3'", (7, 5, 2, 0, 0, 1)),
    ],
)
def test_what_nothing_accounts_for_is_told(accounted: Any, change: str, expected: tuple[int, ...]) -> None:
    line = accounted(change)["aws"]
    assert line == Line("aws", *expected)
    assert not line.is_clean


def test_an_order_of_the_portal_that_is_lost_is_told(accounted: Any) -> None:
    assert accounted("DELETE FROM orders WHERE order_id = 'portal-4'")["portal"].missing == 1
    assert accounted("UPDATE orders SET status = 'x' WHERE order_id = 'portal-4'")["portal"].different == 1


def test_a_bad_message_that_is_not_in_quarantine_is_missed(accounted: Any) -> None:
    assert accounted(keys=("aws-6",))["aws"].is_clean is False
    assert accounted(keys=(None,))["aws"].missing == 1


@pytest.mark.parametrize("marketplace", MARKETPLACES, ids=lambda one: one.name)
def test_every_bad_message_differs_from_the_good_one(marketplace: Any) -> None:
    event = marketplace.event(_order(1))
    messages = [spoil(event) for spoil in marketplace.bad.values()]
    assert len(set(messages)) == len(messages) == 4
    assert marketplace.keyless < marketplace.bad.keys()
    assert (COMMERCE / "maps" / f"{marketplace.name}_orders.sql").exists()
