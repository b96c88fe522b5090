"""A stretch in which lookups and rows that are joined with them are mixed: each row meets the lookup as it was at its place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from journal.batch import ChangeBatch, Op
from tests.lookup_place import ENRICH, LookupPlace, copied, orders, products

_EVENT = st.tuples(st.booleans(), st.sampled_from("123"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LookupPlace]:
    made = LookupPlace(tmp_path_factory.mktemp("order"), "null")
    yield made
    made.close()


@pytest.fixture(scope="module")
def by_sql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LookupPlace]:
    """Here nothing but SQL tells which product is meant."""
    made = LookupPlace(tmp_path_factory.mktemp("order"), "null", ENRICH.replace("= input.product_id", "= abs(input.product_id)"))
    yield made
    made.close()


def at(batch: ChangeBatch, places: list[int]) -> ChangeBatch:
    """The rows at these places of one transaction."""
    return replace(batch, lsn=np.full(len(batch), 7, np.int64), nth=np.array(places, np.int64))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_EVENT, min_size=2, max_size=25), st.booleans())
def test_each_row_meets_the_lookup_of_its_place(place: LookupPlace, by_sql: LookupPlace, events: list[tuple[bool, str]], sql: bool) -> None:
    here = by_sql if sql else place
    first = len(here.delivered())
    here.send(*copied(*((key, "old", "1.00") for key in "123")))
    names = dict.fromkeys("123", "old")
    expected = []
    for number, (is_order, key) in enumerate(events):
        if is_order:
            expected.append((str(number), names[key]))
        else:
            names[key] = f"name {number}"
    made = [(number, key) for number, (is_order, key) in enumerate(events) if is_order]
    changed = [(number, key) for number, (is_order, key) in enumerate(events) if not is_order]
    batches = []
    if made:
        batches.append(at(orders(*((str(number), key, "1") for number, key in made)), [number for number, _ in made]))
    if changed:
        batch = products(*((key, f"name {number}", "1.00") for number, key in changed), op=Op.UPDATE)
        batches.append(at(batch, [number for number, _ in changed]))
    judged = here.waiting.in_order(batches)
    assert sum(len(entry) for entry in judged if isinstance(entry, ChangeBatch)) == len(events)
    here.send(*batches, spread=False)
    assert [(row[0], row[3]) for _, row in here.delivered()[first:]] == expected


def test_rows_that_refer_to_what_came_before_them_are_not_cut(tmp_path: Path) -> None:
    here = LookupPlace(tmp_path, "quarantine")
    try:
        numbers = range(500)
        news = at(products(*((str(n), f"product {n}", "1.00") for n in numbers)), [2 * n for n in numbers])
        own = at(orders(*((str(n), str(n), "1") for n in numbers)), [2 * n + 1 for n in numbers])
        assert [len(entry) for entry in here.waiting.in_order([own, news]) if isinstance(entry, ChangeBatch)] == [500, 500]
        here.send(own, news, spread=False)
        assert here.counts() == (500, 0, 0)
    finally:
        here.close()
