"""The two marketplaces of the story: what they send through Kafka, each in its own way, good orders and bad ones."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from confluent_kafka import Producer

from examples.story import CUSTOMERS, PRODUCTS, Application

Event = dict[str, Any]
Headers = tuple[tuple[str, str | bytes | None], ...]
Spoil = Callable[[Event], str]

_NEWCOMERS = 1_000_000  # the first number of a customer who comes through a marketplace
_NOBODY = 9_000_000
_LATE = 1.0  # seconds after an order until the portal has its customer


@dataclass(frozen=True, slots=True)
class Order:
    """An order as its customer placed it; money in cents."""

    order_id: str
    customer: int
    product: int
    net: int
    placed: datetime
    status: str = "active"

    @property
    def tax(self) -> int:
        return round(self.net * 0.19)

    @property
    def currency(self) -> str:
        return "USD" if self.customer % 4 == 3 else "EUR"

    @property
    def email(self) -> str:
        return f"buyer{self.customer}@example.com"

    @property
    def row(self) -> tuple[str, ...]:
        """What a warehouse has of it: customer, product, e-mail, status, currency, total."""
        total = self.net + self.tax
        return (str(self.customer), str(self.product), self.email, self.status, self.currency, f"{total // 100}.{total % 100:02}")


@dataclass(frozen=True)
class Marketplace:
    """How one of them writes. `bad`: what is wrong -> the message of an order that is wrong in this way.

    `keyless`: those of `bad` from which nobody can read which order they are.
    """

    name: str
    event: Callable[[Order], Event]
    headers: Headers
    bad: Mapping[str, Spoil]
    keyless: frozenset[str]

    @property
    def topic(self) -> str:
        return f"marketplace.{self.name}.orders"


def _aws(order: Order) -> Event:
    charge = {"currency": order.currency, "net": order.net, "tax": order.tax, "total": order.net + order.tax}
    return {
        "orderId": order.order_id,
        "account": order.customer,
        "product": f"plan-{order.product}",
        "state": order.status.upper(),
        "buyer": {"email": order.email, "locale": "en"},
        "charge": charge,
        "start": _when(order.placed),
        "end": _when(order.placed + timedelta(days=365)),
        "placed": _when(order.placed),
    }


_AZURE_STATUS = {"active": "Subscribed", "paused": "Suspended", "renewed": "Renewed"}


def _azure(order: Order) -> Event:
    data = {
        "subscription": order.order_id,
        "customer": order.customer,
        "emailId": order.email,
        "plan": f"plan-{order.product}",
        "status": _AZURE_STATUS[order.status],
        "amount": {
            "currency": order.currency, "net": _money(order.net), "tax": _money(order.tax), "gross": _money(order.net + order.tax),
        },
        "term": {"from": _when(order.placed), "to": _when(order.placed + timedelta(days=365))},
        "created": _when(order.placed),
    }  # fmt: skip
    return {
        "specversion": "1.0",
        "id": f"{order.order_id}/{order.status}",
        "source": "/marketplaces/azure",
        "type": "com.example.subscription.changed",
        "time": _when(order.placed),
        "datacontenttype": "application/json",
        "data": data,
    }


def _when(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _money(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02}"


def _with(part: str | None, **values: Any) -> Spoil:
    """The event with other values at its top, or in a part of it."""

    def spoil(event: Event) -> str:
        changed = {**event, **values} if part is None else {**event, part: {**event[part], **values}}
        return json.dumps(changed)

    return spoil


def _without_id(event: Event) -> str:
    return json.dumps({name: value for name, value in event.items() if name != "id"})


AWS = Marketplace(
    "aws",
    _aws,
    (("content-type", b"application/json"),),
    {
        "half a message": lambda event: json.dumps(event)[:90],
        "a price in words": _with("charge", total="a hundred"),
        "unknown currency": _with("charge", currency="XXX"),
        "tax left out": _with("charge", tax=0),
    },
    frozenset({"half a message", "a price in words"}),
)
AZURE = Marketplace(
    "azure",
    _azure,
    (("content-type", b"application/cloudevents+json"),),
    {
        "an event without id": _without_id,
        "missing e-mail": _with("data", emailId=None),
        "unknown plan": _with("data", plan="plan-999"),
        "a customer nobody knows": _with("data", customer=_NOBODY),
    },
    frozenset({"an event without id"}),
)
MARKETPLACES = (AWS, AZURE)


@dataclass
class Marketplaces:
    """Sends what customers order at the marketplaces, from a thread of its own: orders, what becomes of them, some of them bad.

    Some are placed by customers whom the portal, `application`, has only a moment later. What is sent depends on `seed` alone.

    orders      marketplace -> order id -> the order as it was sent last; those that were withdrawn are gone
    held        marketplace -> ids of bad orders
    unreadable  marketplace -> how many messages tell nobody whose they are
    bad         (marketplace, what is wrong) -> how many
    """

    brokers: str
    application: Application | None = None
    rate: float = 60.0  # messages a second at each marketplace
    seed: int = 11
    customers: int = CUSTOMERS
    sent: int = 0
    late: int = 0
    orders: dict[str, dict[str, Order]] = field(default_factory=lambda: {one.name: {} for one in MARKETPLACES})
    held: dict[str, set[str]] = field(default_factory=lambda: {one.name: set() for one in MARKETPLACES})
    unreadable: dict[str, int] = field(default_factory=lambda: dict.fromkeys((one.name for one in MARKETPLACES), 0))
    bad: dict[tuple[str, str], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        options = {"enable.idempotence": "true", "linger.ms": 5, "partitioner": "murmur2_random", "log_level": 0}
        self._producer = Producer({"bootstrap.servers": self.brokers, **options})
        self._chance = random.Random(self.seed)  # noqa: S311
        self._number = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send, name="marketplaces", daemon=True)

    def already(self, orders: int) -> None:
        """Orders that each marketplace has sent before anybody listened, all of them good; returns when the broker has them."""
        now = datetime.now(UTC)
        for marketplace in MARKETPLACES:
            for _ in range(orders):
                self._place(marketplace, now - timedelta(minutes=self._chance.uniform(60, 60 * 24 * 90)))
        self._producer.flush()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when the broker has everything."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        self._producer.flush()

    def _send(self) -> None:
        while not self._over.wait(1 / self.rate):
            for marketplace in MARKETPLACES:
                self._turn(marketplace)
            self._producer.poll(0)

    def _turn(self, marketplace: Marketplace) -> None:
        kind, orders = self._chance.random(), self.orders[marketplace.name]
        if kind < 0.7 or not orders:
            self._place(marketplace, datetime.now(UTC), late=self._chance.random() < 0.02)
        elif kind < 0.75:
            self._spoilt(marketplace)
        else:
            order = orders[self._chance.choice(list(orders))]
            if kind < 0.96:
                self._say(marketplace, replace(order, status=self._chance.choice(["active", "paused", "renewed"])))
            else:
                del orders[order.order_id]
                self._produce(marketplace, order, None)

    def _new(self, marketplace: Marketplace, placed: datetime) -> Order:
        self._number += 1
        customer, product = self._chance.randint(1, self.customers), self._chance.randint(1, PRODUCTS)
        return Order(f"{marketplace.name}-{self._number}", customer, product, self._chance.randint(500, 20_000), placed)

    def _place(self, marketplace: Marketplace, placed: datetime, *, late: bool = False) -> None:
        order = self._new(marketplace, placed)
        if late and self.application is not None:
            order = replace(order, customer=_NEWCOMERS + 4 * self._number)
            self.late += 1
            self.application.hears_of(order.customer, _LATE)
        self._say(marketplace, order)

    def _say(self, marketplace: Marketplace, order: Order) -> None:
        self.orders[marketplace.name][order.order_id] = order
        self._produce(marketplace, order, json.dumps(marketplace.event(order)))

    def _spoilt(self, marketplace: Marketplace) -> None:
        cause = self._chance.choice(list(marketplace.bad))
        order = self._new(marketplace, datetime.now(UTC))
        self._produce(marketplace, order, marketplace.bad[cause](marketplace.event(order)))
        self.bad[marketplace.name, cause] = self.bad.get((marketplace.name, cause), 0) + 1
        if cause in marketplace.keyless:
            self.unreadable[marketplace.name] += 1
        else:
            self.held[marketplace.name].add(order.order_id)

    def _produce(self, marketplace: Marketplace, order: Order, value: str | None) -> None:
        self._producer.produce(marketplace.topic, value, key=order.order_id, headers=list(marketplace.headers))
        self.sent += 1
