"""The subscription business that the demonstration and the tests tell of: seed data, and an application that goes on writing."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

COMMERCE = Path(__file__).parent / "commerce"
CUSTOMERS = 5_000
PRODUCTS = 200

BAD_ORDERS: dict[str, dict[str, str]] = {
    "missing e-mail": {"email": "NULL"},
    "negative amount": {"a": "-a", "t": "-t", "total": "-a - t"},
    "unknown currency": {"currency": "'XXX'"},
    "ends before it starts": {"ends_at": "now() - interval '1 day'"},
    "total that isn't the sum": {"total": "a + t + 1"},
}

_SEED = """
SELECT setseed(0.42);
INSERT INTO customers (customer_id, email, name, country, region)
SELECT n, 'customer' || n || '@example.com', 'Customer ' || n, (ARRAY['DE', 'FR', 'NL', 'US'])[1 + n %% 4],
       CASE WHEN n %% 4 = 3 THEN 'US' ELSE 'EU' END
FROM generate_series(1, %(customers)s) AS n;
INSERT INTO products (product_id, name, price, attributes)
SELECT n, 'Plan ' || n, round((5 + 95 * random())::numeric, 2), jsonb_build_object('tier', n %% 5, 'features', ARRAY['a', 'b'])
FROM generate_series(1, %(products)s) AS n;
INSERT INTO orders (order_id, customer_id, product_id, email, status, currency, subtotal, tax, total, starts_at, ends_at)
SELECT n, customer_id, 1 + n %% %(products)s, email, 'active', CASE region WHEN 'EU' THEN 'EUR' ELSE 'USD' END, amount, tax, amount + tax,
       starts_at, starts_at + interval '1 year'
FROM (SELECT n, 1 + n * 7919 %% %(customers)s AS customer, round((5 + 195 * random())::numeric, 2) AS amount,
             now() - random() * interval '300 days' AS starts_at FROM generate_series(1, %(orders)s) AS n) AS o
JOIN customers ON customer_id = customer CROSS JOIN LATERAL (SELECT round(amount * 0.19, 2) AS tax) AS t;
INSERT INTO order_items (order_id, line, product_id, quantity, price)
SELECT order_id, line, 1 + (order_id * 31 + line) %% %(products)s, 1 + line %% 3, round(subtotal / 2, 2)
FROM orders, generate_series(1, 2) AS line;
INSERT INTO payments (order_id, amount) SELECT order_id, total FROM orders WHERE order_id %% 3 = 0;
"""

_CUSTOMER = """
INSERT INTO customers (customer_id, email, name, country, region)
VALUES (%(id)s, 'customer' || %(id)s || '@example.com', 'Customer ' || %(id)s, 'DE', 'EU')
"""
_ORDER = """
INSERT INTO orders (order_id, customer_id, product_id, email, status, currency, subtotal, tax, total, starts_at, ends_at)
SELECT %(id)s, customer_id, %(product)s, {email}, 'active', {currency}, {a}, {t}, {total}, now(), {ends_at}
FROM customers, (SELECT %(amount)s::numeric(12, 2) AS a, round(%(amount)s::numeric * 0.19, 2) AS t) AS money
WHERE customer_id = %(customer)s
"""
_GOOD = {
    "email": "email", "currency": "CASE region WHEN 'EU' THEN 'EUR' ELSE 'USD' END", "a": "a", "t": "t", "total": "a + t",
    "ends_at": "now() + interval '1 year'",
}  # fmt: skip


def seed(dsn: str, customers: int = CUSTOMERS, orders: int = 40_000) -> None:
    """Makes the portal's tables and fills them. Customers with a number n such that n % 4 is 3 are in the US, others in the EU."""
    with psycopg.connect(dsn) as connection:
        connection.execute((COMMERCE / "portal.sql").read_bytes())
        for statement in _SEED.strip().removesuffix(";").split(";\n"):
            text = statement % {"customers": customers, "orders": orders, "products": PRODUCTS}
            connection.execute(text.encode())


@dataclass
class Application:
    """Writes to the portal as its users would, from a thread of its own: orders with their lines, changes, cancellations, some of them bad.

    Everything depends on `seed`: the same writes in the same order. `bad` counts the bad orders by their cause.
    """

    dsn: str
    rate: float = 200.0  # transactions a second
    seed: int = 7
    customers: int = CUSTOMERS
    first_order: int = 1_000_000
    written: int = 0
    bad: dict[str, int] = field(default_factory=lambda: dict.fromkeys(BAD_ORDERS, 0))

    def __post_init__(self) -> None:
        self._newcomers: deque[tuple[float, int]] = deque()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._write, name="application", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Lets the transaction that is open commit."""
        self._over.set()
        self._thread.join()

    def hears_of(self, customer: int, seconds: float) -> None:
        """A customer who ordered elsewhere, and whom the portal has in so many seconds, or when it stops."""
        self._newcomers.append((time.monotonic() + seconds, customer))

    def _write(self) -> None:
        chance = random.Random(self.seed)  # noqa: S311
        order = self.first_order
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            while not self._over.wait(1 / self.rate):
                self._register(connection, time.monotonic())
                order = self._transaction(connection, chance, order)
                self.written += 1
            self._register(connection, float("inf"))

    def _register(self, connection: psycopg.Connection, now: float) -> None:
        while self._newcomers and self._newcomers[0][0] <= now:
            _, customer = self._newcomers.popleft()
            connection.execute(_CUSTOMER, {"id": customer})
            self.written += 1

    def _transaction(self, connection: psycopg.Connection, chance: random.Random, order: int) -> int:
        kind = chance.random()
        some = chance.randint(self.first_order, max(order - 1, self.first_order))
        if kind < 0.6 or order == self.first_order:
            with connection.transaction():
                told = {"id": order, "amount": round(chance.uniform(5, 200), 2), "customer": chance.randint(1, self.customers),
                        "product": chance.randint(1, PRODUCTS)}  # fmt: skip
                cause = chance.choice(list(BAD_ORDERS)) if chance.random() < 0.05 else None
                connection.execute(_ORDER.format(**_GOOD | BAD_ORDERS.get(cause or "", {})).encode(), told)
                if cause is not None:
                    self.bad[cause] += 1
                connection.execute("INSERT INTO order_items VALUES (%s, 1, %s, 1, 10)", (order, told["product"]))
            return order + 1
        if kind < 0.85:
            connection.execute("UPDATE orders SET status = %s WHERE order_id = %s", (chance.choice(["active", "paused", "renewed"]), some))
        elif kind < 0.92:
            connection.execute("UPDATE customers SET name = name || '.' WHERE customer_id = %s", (chance.randint(1, self.customers),))
        elif kind < 0.96:
            connection.execute("INSERT INTO payments (order_id, amount) VALUES (%s, 10)", (some,))
        else:
            with connection.transaction():
                connection.execute("DELETE FROM order_items WHERE order_id = %s", (some,))
                connection.execute("DELETE FROM orders WHERE order_id = %s", (some,))
        return order
